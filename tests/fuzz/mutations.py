"""Changes of valid inputs that make odd ones: of values, of text, and of bytes. All take a seeded generator."""

import copy
import json
import math
from random import Random
from typing import Any

import yaml

LONG = "x" * 5000
TEXTS = (
    "",
    " ",
    "x",
    "1",
    "null",
    "nan",
    "-",
    ".",
    "..",
    "/",
    "/dev/zero",
    "/dev/full",
    "a\nb: c",
    "a\r\0b",
    "\x1b]0;title\a\x1b[2J",
    "[bold red]x[/] :smile:",
    "<script>alert(1)</script>",
    "=1+1",
    "{task.total}",
    "%s%n",
    "\u2028\u202e\u200b",
    "\N{SNOWMAN}" * 70,
    "default",
    "gone.py:f",
    "tables:",
    "profile:gone",
    "http://x/y",
    LONG,
)
NUMBERS = (0, 1, -1, 2, 3, 7, 16, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63), 10**400, 16**4000)
FLOATS = (0.0, -0.0, 0.5, 1.5, 1e-9, 1e-308, 1e300, 1e308, -1e308, math.inf, -math.inf, math.nan)
OTHERS: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [1, 2],
    ["a", None],
    [[]],
    {"a": 1},
    {"kind": "fixed"},
    {"file": 3},
    {1: 2},
    {1.5: []},
)


# Of policies, models, devices, precisions, kinds and other choices.
NAMES = (
    *("vllm", "sarathi", "orca", "lightllm", "faster_transformer", "round_robin", "random", "least_outstanding"),
    *("least_waiting", "llama-3-70b", "qwen3-30b-a3b", "deepseek-v3", "h100", "l40s", "b200", "h100_dgx", "pcie_gen4"),
    *("bfloat16", "float16", "fp8", "fp8_block", "int4_wo", "nvfp4", "vidur", "fastsim", "default", "h100_sxm"),
    *(
        "fixed",
        "uniform",
        "zipf",
        "quantiles",
        "trace",
        "static",
        "poisson",
        "gamma",
        "deepseek_v3",
        "llama",
        "mixtral",
    ),
    *("sliding_attention", "gptq", "awq", "modelopt", "linear", "geometric", "workload.rate", "chat", "/dev/null"),
)


def odd_value(random: Random) -> Any:
    """Return a value that a setting is unlikely to have."""
    group = random.choice((TEXTS, NUMBERS, FLOATS, OTHERS))
    value = random.choice(group)
    return copy.deepcopy(value)


def near_value(random: Random, value: Any) -> Any:
    """Return a value of the same type, which is likely to be valid, or almost."""
    match value:
        case bool():
            return not value
        case int():
            return random.choice((0, 1, 2, 3, value - 1, value + 1, value * 2, value * 1000, 100_000, 0.5))
        case float():
            return random.choice((0.0, 1.0, value / 2, value * 1000, -value, value + 1e-12, 0))
        case str():
            return random.choice(NAMES)
        case list() if value:
            return random.choice((value * 2, value[:1], [], value[::-1], value * 500))
    return odd_value(random)


def changed(random: Random, document: Any, most: int = 3) -> Any:
    """Return ``document``, mappings and lists in each other, with 1 to ``most`` values or keys changed."""
    document = copy.deepcopy(document)
    for _ in range(random.choice((1, 1, 1, most))):
        holder, key = random.choice(list(_places(document)))
        match random.randrange(10):
            case 0 | 1 | 2:
                holder[key] = odd_value(random)
            case 7 | 8 | 9:
                holder[key] = near_value(random, holder[key])
            case 4:
                del holder[key]
            case 5:
                holder[key] = _nested(holder[key], random.choice((1, 3, 80)))
            case 6 if isinstance(holder, dict):
                holder[random.choice((*TEXTS, *map(str, holder)))] = holder.pop(key)
            case _:
                other, name = random.choice(list(_places(document)))
                holder[key] = copy.deepcopy(other[name])
        if not list(_places(document)):
            break
    return document


def _places(value: Any) -> Any:
    """Yield every mapping or list within ``value`` with each key in it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def as_yaml(value: Any) -> bytes:
    """Return ``value`` as YAML."""
    try:
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()
    except ValueError:  # a number of too many digits to write
        return b"seed: 0x" + b"f" * 4000


def as_json(value: Any) -> bytes:
    """Return ``value`` as JSON, with NaN and Infinity where it has them."""
    try:
        return json.dumps(value, skipkeys=True).encode()
    except ValueError:
        return b'{"seed": ' + b"9" * 5000 + b"}"


def damaged(random: Random, content: bytes) -> bytes:
    """Return ``content`` with a few bytes changed, removed, repeated or added."""
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(content) + 1)
        end = min(len(content), start + random.choice((0, 1, 1, 2, 8, 100)))
        piece = content[start:end]
        new = random.choice(
            (
                b"",
                piece * 2,
                bytes([random.randrange(256)]),
                random.choice(TEXTS).encode(),
                random.choice(
                    (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"null", b"[" * 200, b"&a *a", b"<<: *a", b"---", b"0x10")
                ),
                b",",
                b"\n",
                b"\n\n{}\n",
            )
        )
        content = content[:start] + new + content[end:]
    return content[: random.randrange(len(content) + 1)] if random.random() < 0.1 else content
