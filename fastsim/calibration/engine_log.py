"""What vLLM's own log says of its KV cache, and of the requests that run and wait."""

import re
from dataclasses import dataclass
from pathlib import Path

from fastsim.errors import WorkloadError
from fastsim.files.documents import unreadable

NUMBER = r"([0-9][0-9,]*)"
TOKENS = re.compile(rf"[GC]PU KV cache size: {NUMBER} tokens")
BLOCKS = re.compile(rf"# (?:GPU|cuda) blocks: {NUMBER}|num_gpu_blocks(?: is|=|:) ?{NUMBER}")
STATS = re.compile(
    r"Avg prompt throughput: ([\d.]+) tokens/s, Avg generation throughput: ([\d.]+) tokens/s, "
    r"Running: (\d+) reqs, (?:Swapped: \d+ reqs, )?(?:Waiting|Pending): (\d+) reqs"
)
MOST = 2**28  # characters


@dataclass(frozen=True)
class EngineLog:
    """What an engine's log says.

    Attributes
    ----------
    place : what messages call the file.
    kv_tokens, num_gpu_blocks : of the KV cache, the null block included; None where no line says it.
    running, waiting : means over the lines of statistics, requests; those of idle times are left out. None without any.
    lines : the lines of statistics with requests.
    """

    place: str
    kv_tokens: int | None
    num_gpu_blocks: int | None
    running: float | None
    waiting: float | None
    lines: int

    def num_blocks(self, block_size: int) -> int | None:
        """Usable KV blocks: those of the log less the null block."""
        whole = self.num_gpu_blocks
        if whole is None and self.kv_tokens is not None:
            whole = self.kv_tokens // block_size
        return None if whole is None or whole < 2 else whole - 1


def read(path: Path) -> EngineLog:
    """Read a log of vLLM. Raises WorkloadError where it has neither the size of a KV cache nor statistics."""
    try:
        if path.exists() and (why := unreadable(path)):
            raise WorkloadError(f"{path}: {why}")
        if path.stat().st_size > MOST:
            raise WorkloadError(f"{path}: more than {MOST:,} bytes; keep the lines of the start and of the run")
        text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError) as problem:
        raise WorkloadError(f"{str(path)!r}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    tokens = [_whole(found) for found in TOKENS.findall(text)]
    blocks = [_whole(one or other) for one, other in BLOCKS.findall(text)]
    counts = [(int(running), int(waiting)) for *_, running, waiting in STATS.findall(text)]
    busy = [(running, waiting) for running, waiting in counts if running or waiting]
    if not tokens and not blocks and not counts:
        raise WorkloadError(
            f"{path}: no line of vLLM says its KV cache or statistics (e.g. GPU KV cache size: 415,800 tokens)"
        )
    means = [sum(column) / len(busy) for column in zip(*busy, strict=True)] if busy else [None, None]
    return EngineLog(str(path), min(tokens, default=None), min(blocks, default=None), means[0], means[1], len(busy))


def _whole(text: str) -> int:
    return int(text.replace(",", ""))
