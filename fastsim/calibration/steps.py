"""Steps of an engine that were recorded one by one: what each computed, and how long it took."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.measured import files
from fastsim.measured.own_columns import numbers
from fastsim.workload.tables import listed

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
NAMES = ("steps.parquet", "steps.csv")
COUNTS = (
    "num_prefill_seqs",
    "num_prefill_tokens",
    "num_decode_seqs",
    "prefill_context_tokens",
    "prefill_attention_pairs",
    "decode_context_tokens",
)
START, END, STEP, BLOCKS = "start", "end", "step", "num_gpu_blocks"
FEWEST = 100  # steps that can be fitted on


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps whose times are known, in their order.

    Attributes
    ----------
    place : what messages call the file.
    start : float64[n], s, when each began, on a clock of the engine.
    seconds : float64[n], s, how long each took.
    num_prefill_seqs, num_prefill_tokens, num_decode_seqs : float64[n], of its batch.
    prefill_context_tokens : float64[n], tokens computed before those of its prompts.
    prefill_attention_pairs : float64[n], pairs of a token of a prompt and one that it attends to.
    decode_context_tokens : float64[n], tokens that its decodes attend to.
    num_gpu_blocks : KV blocks of the engine, the null block included, where the file says it.
    notes : what is left out, one sentence each.
    """

    place: str
    start: Floats
    seconds: Floats
    num_prefill_seqs: Floats
    num_prefill_tokens: Floats
    num_decode_seqs: Floats
    prefill_context_tokens: Floats
    prefill_attention_pairs: Floats
    decode_context_tokens: Floats
    num_gpu_blocks: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_tokens(self) -> Floats:
        """Tokens that each step computed."""
        return self.num_prefill_tokens + self.num_decode_seqs

    @property
    def num_seqs(self) -> Floats:
        """Sequences in each step."""
        return self.num_prefill_seqs + self.num_decode_seqs

    def of(self, chosen: NDArray[np.bool_]) -> "Steps":
        """The steps that are chosen, bool[n]."""
        names = (START, "seconds", *COUNTS)
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def __len__(self) -> int:
        return len(self.seconds)


def beside(run: Path) -> Path | None:
    """The steps in the folder of a run; None where there are none."""
    folder = run if run.is_dir() else run.parent
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read(path: Path) -> Steps:
    """Read steps from CSV or Parquet.

    A step lasts until the next begins, so that it holds the host's work, unless the engine was idle in between, which
    ``step``, a number that also counts calls that scheduled nothing, tells. Where steps overlap, as with asynchronous
    scheduling, each lasts from the end of the one before it to its own ``end``. Raises WorkloadError.
    """
    if files.suffix_of(path) not in (".csv", ".parquet"):
        raise WorkloadError(f"{path}: the name does not end in .csv or .parquet")
    table, place = files.table(path), str(path)
    if missing := [name for name in (START, *COUNTS) if name not in table.column_names]:
        raise WorkloadError(
            f"{place}: no column {missing[0]}, but {listed(table.column_names)}; `fastsim calibrate --recorder` prints "
            "what records steps"
        )
    if STEP not in table.column_names and END not in table.column_names:
        raise WorkloadError(f"{place}: neither a column {STEP} nor {END}, so that times of steps are not known")
    start = numbers(table, START, place)
    counts = {name: numbers(table, name, place) for name in COUNTS}
    for name, values in counts.items():
        if (wrong := ~(values >= 0)).any():
            at = int(np.argmax(wrong))
            raise WorkloadError(f"{place}: row {at + 1}: {name}: {values[at]:g} is not a number from 0 up")
    if (backwards := ~(np.diff(start) >= 0)).any():
        at = int(np.argmax(backwards)) + 1
        raise WorkloadError(f"{place}: row {at + 1}: {START}: {start[at]:g} is not after that of the row before it")
    seconds, known = _seconds(table, start, place)
    known &= counts["num_prefill_tokens"] + counts["num_decode_seqs"] > 0
    if known.sum() < FEWEST:
        raise WorkloadError(f"{place}: {int(known.sum()):,} steps with a time, and {FEWEST} are needed at least")
    left_out = len(known) - int(known.sum())
    notes = (f"{left_out:,} of {len(known):,} steps are left out, whose times hold waits of the engine",)
    return Steps(
        place,
        start[known],
        seconds[known],
        **{name: values[known] for name, values in counts.items()},
        num_gpu_blocks=_blocks(table, place),
        notes=notes if left_out else (),
    )


def _seconds(table: "pa.Table", start: Floats, place: str) -> tuple[Floats, NDArray[np.bool_]]:
    """How long each step took, float64[n], s, and where that is known, bool[n]."""
    number = len(start)
    ended = numbers(table, END, place) if END in table.column_names else None
    until_next = np.append(np.diff(start), np.nan)
    if ended is not None:
        overlaps = np.append(False, start[1:] < ended[:-1])
        if overlaps.mean() > 0.5:
            seconds = np.append(np.nan, np.diff(ended))
            return seconds, overlaps & (seconds > 0)
    if STEP in table.column_names:
        steps = numbers(table, STEP, place)
        follows = np.append(np.diff(steps) == 1, False)
        return until_next, follows & (until_next > 0)
    assert ended is not None
    seconds = ended - start
    return seconds, (seconds > 0) & np.ones(number, bool)


def _blocks(table: "pa.Table", place: str) -> int | None:
    if BLOCKS not in table.column_names:
        return None
    known = numbers(table, BLOCKS, place)
    known = known[~np.isnan(known)]
    return int(known[-1]) if len(known) and known[-1] > 1 else None
