"""One iteration described by hand: the prompt chunks and decodes that it holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastsim.deployment.choices import Role
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.predictors.times.reach import MAX_CHUNK


@dataclass(frozen=True, slots=True)
class Iteration:
    """The batch of one iteration.

    ``chunks``: tokens of each prompt chunk, and tokens processed before it. ``decodes``: numbers of decoding
    requests, and the tokens that each of them has processed. Every chunk completes its prompt, so that it produces a
    token.
    """

    chunks: tuple[tuple[int, int], ...] = ()
    decodes: tuple[tuple[int, int], ...] = ()

    @property
    def num_decodes(self) -> int:
        """Requests that decode."""
        return sum(number for number, _ in self.decodes)

    @property
    def num_seqs(self) -> int:
        """Requests in the batch."""
        return self.num_decodes + len(self.chunks)

    @property
    def num_tokens(self) -> int:
        """Tokens in the batch."""
        return self.num_decodes + sum(tokens for tokens, _ in self.chunks)

    def decode_kv(self, skew: float) -> float:
        """KV tokens at which decode attention is looked up: mean + skew * (longest - mean); 0 without decodes."""
        if not self.num_decodes:
            return 0.0
        mean = sum(number * kv for number, kv in self.decodes) / self.num_decodes
        return mean + skew * (max(kv for _, kv in self.decodes) - mean)


def read(prefill: Sequence[str], decode: Sequence[str]) -> Iteration:
    """Read an iteration from ``512@0,512@4096`` (tokens@processed) and ``64@1500`` (requests@processed).

    Raises ConfigError for anything else, and for an empty iteration.
    """
    chunks, decodes = _pairs("--prefill", prefill, "512@0"), _pairs("--decode", decode, "64@1500")
    if not chunks and not decodes:
        raise ConfigError("--prefill, --decode: the iteration is empty; give one or both (e.g. --decode 64@1500)")
    return Iteration(chunks, decodes)


def typical(resolved: Resolved) -> Iteration:
    """The iteration by which a deployment's tables are judged before anything ran.

    Half of max_num_seqs requests decode (at most 128), each halfway through its length (at most 2,048 tokens), beside
    one prompt chunk of 512 tokens, or as many as a batch may hold.
    """
    length, scheduler = resolved.max_model_len, resolved.scheduler
    number = min(128, max(1, scheduler.max_num_seqs // 2))
    chunks = ((min(512, length, scheduler.token_budget or length), 0),) if number < scheduler.max_num_seqs else ()
    return Iteration(chunks, ((number, min(2048, length // 2)),))


def of_role(iteration: Iteration, role: Role) -> Iteration:
    """What a replica runs of an iteration: its prompts, its decodes, or both, by the role of its pool."""
    return Iteration(
        () if role == "decode" else iteration.chunks,
        () if role == "prefill" else iteration.decodes,
    )


def check(resolved: Resolved, iteration: Iteration) -> None:
    """Raise ConfigError for an iteration that the deployment cannot run, or that its tables do not reach."""
    scheduler, most, length = resolved.scheduler, resolved.scheduler.max_num_seqs, resolved.max_model_len
    if iteration.num_seqs > most:
        raise ConfigError(f"--decode: {iteration.num_seqs} requests are more than scheduler.max_num_seqs ({most})")
    longest = max([sum(chunk) for chunk in iteration.chunks] + [kv + 1 for _, kv in iteration.decodes])
    if longest > length:
        raise ConfigError(
            f"--prefill, --decode: {longest} tokens of one request are more than max_model_len ({length})"
        )
    tokens = sum(chunk for chunk, _ in iteration.chunks)
    if (budget := scheduler.token_budget) is not None and tokens > budget:
        raise ConfigError(
            f"--prefill: {tokens} tokens in one iteration are more than scheduler.{scheduler.policy.token_budget} "
            f"({budget})"
        )
    if (chunk := max((chunk for chunk, _ in iteration.chunks), default=0)) > MAX_CHUNK:
        raise ConfigError(f"--prefill: a chunk of {chunk} tokens is more than tables reach ({MAX_CHUNK})")


def _pairs(option: str, given: Sequence[str], example: str) -> tuple[tuple[int, int], ...]:
    pairs = []
    for text in ",".join(given).split(","):
        if not text.strip():
            continue
        number, _, after = text.strip().partition("@")
        if not (number.isascii() and number.isdigit() and after.isascii() and after.isdigit() and int(number)):
            raise ConfigError(f"{option}: {text.strip()!r} is not two numbers joined by @ (e.g. {example})")
        pairs.append((int(number), int(after)))
    return tuple(pairs)
