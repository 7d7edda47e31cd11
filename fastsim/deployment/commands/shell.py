"""The command that starts vLLM or SGLang, in the text of a shell or the words of a container; nothing is executed."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fastsim.errors import ConfigError

MAX_TEXT = 100_000  # characters of a command
MAX_WORDS = 2000
MAX_SHELLS = 4  # commands within commands, as in sh -c '...'
OPERATORS = ";&|<>()\n"
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^{}$]*))?\}|\((\w+)\)|(\w+))")
SHELLS = {"sh", "bash", "zsh", "dash", "ash"}
PYTHONS = {"python", "python3"}
RUNNERS = {"docker", "podman", "nerdctl"}
# Options of `docker run` without a value; any other option takes the next word unless it holds "=".
BARE = {"-d", "-i", "-t", "-it", "-ti", "-dit", "-itd", "--rm", "--privileged", "--init", "--detach", "--interactive"}
BARE |= {"--tty", "--read-only", "--no-healthcheck", "--oom-kill-disable", "--publish-all", "-P", "--quiet", "-q"}
OTHERS = {
    "trtllm-serve": "TensorRT-LLM",
    "text-generation-launcher": "Text Generation Inference",
    "llama-server": "llama.cpp",
    "ollama": "Ollama",
    "lmdeploy": "LMDeploy",
}
EXAMPLE = "e.g. vllm serve meta-llama/Llama-3.1-8B --tensor-parallel-size 2"
# Commands that start no server: the words after the program, and after `python -m`.
OF_VLLM = ("bench", "chat", "complete", "run-batch", "collect-env")
OF_SGLANG = ("generate", "version")
TAG = re.compile(r":v?(\d+)\.(\d+)(?:\.(\d+))?")

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """The words after the program that starts a server of an engine, with the variables that the text sets."""

    words: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    image: str = ""  # of the container, or ""
    engine: str = "vllm"  # or sglang

    @property
    def release(self) -> Version | None:
        """The release that the tag of the image names, such as (0, 11, 0); None if it names none."""
        found = TAG.search(self.image)
        return tuple(int(part or 0) for part in found.groups()) if found else None


def read(text: str, variables: Mapping[str, str] | None = None, image: str = "", depth: int = 0) -> Command | None:
    """The command of an engine in a text as a shell reads it, or None if there is none.

    Raises ConfigError for a text that is no command, and for the command of another engine.
    """
    if len(text) > MAX_TEXT:
        raise ConfigError(f"the command has {len(text):,} characters, and at most {MAX_TEXT:,} are read")
    known = dict(variables or {})
    for words in _segments(text):
        while words and (words[0] in ("export", "env", "sudo") or ASSIGNMENT.fullmatch(words[0])):
            if assigned := ASSIGNMENT.fullmatch(words.pop(0)):
                known[assigned[1]] = assigned[2]
        if command := of_words(words, known, image, depth):
            return command
    return None


def words_of(text: str) -> list[str]:
    """The words of the first command in a text. Raises ConfigError."""
    return next(iter(_segments(text)), [])


def _segments(text: str) -> list[list[str]]:
    """The words of each command in a text, split where a shell splits them; a line that begins with - goes on."""
    text = re.sub(r"(?m)^[ \t]*#.*$", "", text)
    text = re.sub(r"[\\^`][ \t]*\r?\n", " ", text)
    text = re.sub(r"(?m)^[ \t]*(?:[$>][ \t]+|ExecStart=|command[ \t]*=)", "", text)  # a prompt, or a service's file
    text = re.sub(r"(?<!\S)\d(?=[<>])", "", text)  # the number of a stream that is redirected
    lexer = shlex.shlex(re.sub(r"\$\((\w+)\)", r"${\1}", text), posix=True, punctuation_chars=OPERATORS)
    lexer.whitespace_split, lexer.commenters, lexer.whitespace = True, "", " \t\r"
    try:
        tokens = list(lexer)
    except ValueError as problem:
        raise ConfigError(f"the command cannot be split into words: {str(problem).lower()}") from None
    segments: list[list[str]] = [[]]
    skip = False  # the file name after a redirection
    for index, token in enumerate(tokens):
        if token.strip(OPERATORS):
            if not skip:
                segments[-1].append(token)
            skip = False
        elif "<" in token or ">" in token:
            skip = True
        elif token.strip("\n") or not tokens[index + 1 : index + 2] or not tokens[index + 1].startswith("-"):
            segments.append([])
    return [segment for segment in segments if segment]


def of_words(words: Sequence[str], variables: Mapping[str, str], image: str = "", depth: int = 0) -> Command | None:
    """The command of an engine in a list of words, or None. Raises ConfigError for that of an engine not read here."""
    if depth > MAX_SHELLS:
        raise ConfigError(f"more than {MAX_SHELLS} shells or containers within each other")
    if len(words) > MAX_WORDS:
        raise ConfigError(f"the command has {len(words):,} words, and at most {MAX_WORDS:,} are read")
    for index, word in enumerate(words):
        name, after = word.rpartition("/")[2], words[index + 1 :]
        following = after[0] if after else ""
        if server := _server(name, word, after):
            return Command(tuple(server[1]), variables, image, server[0])
        if name in OTHERS or (word == "-m" and following.partition(".")[0] in OTHERS):
            raise _other(name if name in OTHERS else following.partition(".")[0])
        if name in SHELLS and (script := _script(after)) is not None:
            return read(script, variables, image, depth + 1)
        if name in RUNNERS and "run" in after:
            return _container(after[after.index("run") + 1 :], variables, depth + 1)
    return None


def _server(name: str, word: str, after: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """The engine whose server a word starts, and the words after it. Raises ConfigError for what starts no server."""
    following = after[0] if after else ""
    if name == "vllm" and following == "serve":
        return "vllm", after[1:]
    if word == "-m" and following.startswith("vllm.entrypoints"):
        return "vllm", after[2:] if after[1:2] == ["serve"] else after[1:]
    if word.endswith("vllm/entrypoints/openai/api_server.py"):
        return "vllm", after
    if name == "sglang" and following == "serve":
        return "sglang", after[1:]
    if word == "-m" and following == "sglang.launch_server":
        return "sglang", after[1:]
    if word == "-m" and following == "sglang_router.launch_server":  # the servers, and a router before them
        given = any(other.startswith("--router-policy") for other in after)
        return "sglang", after[1:] if given else [*after[1:], "--router-policy", "cache_aware"]
    if word.endswith("sglang/launch_server.py"):
        return "sglang", after
    if (name == "vllm" and following in OF_VLLM) or (name == "sglang" and following in OF_SGLANG):
        raise ConfigError(f"`{name} {following}` starts no server ({EXAMPLE})")
    if word == "-m" and following.startswith("sglang.bench"):
        raise ConfigError(f"`python -m {following}` starts no server ({EXAMPLE})")
    return None


def _other(name: str) -> ConfigError:
    return ConfigError(f"this starts {OTHERS[name]}, and only commands of vLLM and SGLang are read ({EXAMPLE})")


def _script(words: Sequence[str]) -> str | None:
    """The text that a shell runs: the word after -c, -lc and the like."""
    for index, word in enumerate(words):
        if not word.startswith("-"):
            return None
        if re.fullmatch(r"-[a-z]*c", word):
            return words[index + 1] if index + 1 < len(words) else None
    return None


def _container(words: Sequence[str], variables: Mapping[str, str], depth: int) -> Command | None:
    """The command of `docker run` with these options, image and arguments."""
    known, index, entrypoint = dict(variables), 0, ""
    while index < len(words) and words[index].startswith("-"):
        option, equals, value = words[index].partition("=")
        if not equals and option not in BARE:
            index += 1
            value = words[index] if index < len(words) else ""
        if option in ("-e", "--env") and (assigned := ASSIGNMENT.fullmatch(value)):
            known[assigned[1]] = assigned[2]
        if option == "--entrypoint":
            entrypoint = value
        index += 1
    if index >= len(words):
        return None
    image, arguments = words[index], [*shlex.split(entrypoint), *words[index + 1 :]]
    return of_image(image, arguments, known, depth)


def of_image(image: str, words: Sequence[str], variables: Mapping[str, str], depth: int = 0) -> Command | None:
    """The command of a container: ``words`` are its command, or the arguments of the server that the image starts."""
    if command := of_words(words, variables, image, depth):
        return command
    for name in OTHERS:
        if name in image:
            raise _other(name)
    engine = engine_of(image)
    if not engine or not words or words[0].rpartition("/")[2] in SHELLS | PYTHONS:
        return None
    return Command(tuple(words[1:] if words[0] == "serve" else words), variables, image, engine)


def engine_of(image: str) -> str:
    """The engine that an image holds, or ""."""
    return next((name for name in ("vllm", "sglang") if name in image), "")


def expanded(word: str, variables: Mapping[str, str]) -> str:
    """A word with the variables that are known replaced by their values; ``${NAME:-x}`` is x where NAME is not."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[3] or match[4]
        default = match[2] if match[2] is not None else match[0]
        return variables.get(name, default)

    return VARIABLE.sub(value, word)
