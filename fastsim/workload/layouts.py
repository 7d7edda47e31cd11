"""The layouts of files of requests that others publish, and that benchmarks write: one line of a table each.

A name with dots is a value within other values, as in JSON: ``info.input_tokens``. Where a layout has several names for
a column, versions of it differ, and the first that a file has is read.
"""

from collections.abc import Callable
from dataclasses import dataclass

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of each in a second

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of a kind of file.

    Parameters
    ----------
    name : str
        What messages call it.
    arrived_at, num_prompt_tokens, num_output_tokens : tuple of str
        The names of each column.
    unit : str
        Of the times, where they are numbers: one of UNITS, or "" where it is not known and must be given. Dates need
        none, and count from the first.
    marks : tuple of str
        The columns that it is recognised by, where these are others than the three above.
    clock : bool
        Whether times come from a clock, so that only their differences have a meaning.
    measured : bool
        Whether a benchmark wrote it: requests may then be out of order, and failed ones may lack values.
    error : str
        The column that says why a request failed, if there is one.
    hashes : str
        The column of the hashes of blocks, if there is one.
    block_size : int
        Tokens of a block.
    chained : bool
        Whether equal hashes mean that all blocks before are equal too.
    """

    name: str
    arrived_at: Names
    num_prompt_tokens: Names
    num_output_tokens: Names
    unit: str = "s"
    marks: Names = ()
    clock: bool = False
    measured: bool = False
    error: str = ""
    hashes: str = ""
    block_size: int = 16
    chained: bool = True

    @property
    def names(self) -> Names:
        """All columns that are read, as far as a file has them."""
        more = tuple(name for name in (self.error, self.hashes) if name)
        return (*self.arrived_at, *self.num_prompt_tokens, *self.num_output_tokens, *more)

    def column(self, column: str) -> Names:
        """The names of arrived_at, num_prompt_tokens or num_output_tokens."""
        names: Names = getattr(self, column)
        return names


OWN = Layout("fastsim's own", ("arrived_at",), ("num_prompt_tokens",), ("num_output_tokens",), hashes="block_hashes")
VIDUR = Layout(
    "Vidur's",
    ("arrived_at",),
    ("num_prompt_tokens", "num_prefill_tokens"),
    ("num_output_tokens", "num_decode_tokens"),
    hashes="block_hashes",
)
VLLM = Layout(
    "a result of vllm bench serve",
    ("start_times",),
    ("input_lens",),
    ("output_lens",),
    marks=("input_lens", "output_lens"),
    clock=True,
    measured=True,
    error="errors",
)
GUIDELLM = Layout(
    "a report of GuideLLM",
    ("request_start_time", "start_time", "info.timings.request_start"),
    ("prompt_tokens", "input_metrics.total_tokens", "input_metrics.text_tokens"),
    ("output_tokens", "output_metrics.total_tokens", "output_metrics.text_tokens"),
    marks=("request_id",),
    clock=True,
    measured=True,
)
SHAREGPT = Layout("ShareGPT conversations", (), ("prompt",), ("answer",), measured=True)  # text, not tokens

# Read beside the columns of a layout, where a file has them.
MORE = ("replica_id", "session_id", "think_time", "priority", "tenant", "max_tokens", "ends_by_stop")

# Of two that match, the first is taken.
LAYOUTS = (
    OWN,
    VIDUR,
    Layout("the Azure LLM inference trace", ("TIMESTAMP",), ("ContextTokens",), ("GeneratedTokens",), unit=""),
    Layout("BurstGPT", ("Timestamp",), ("Request tokens",), ("Response tokens",)),
    Layout("Splitwise-sim", ("arrival_timestamp",), ("prompt_size",), ("token_size",)),
    Layout(
        "the Qwen-Bailian trace",
        ("timestamp",),
        ("input_length",),
        ("output_length",),
        marks=("chat_id", "timestamp", "input_length", "output_length"),
        hashes="hash_ids",
        chained=False,
    ),
    Layout(
        "Mooncake",
        ("timestamp",),
        ("input_length",),
        ("output_length",),
        unit="ms",
        marks=("timestamp", "input_length", "output_length", "hash_ids"),
        hashes="hash_ids",
        block_size=512,
    ),
    VLLM,
    Layout(
        "the records of AIPerf",
        ("metadata.request_start_ns",),
        ("metrics.input_sequence_length.value",),
        ("metrics.output_sequence_length.value", "metrics.output_token_count.value"),
        unit="ns",
        marks=("metadata.request_start_ns",),
        clock=True,
        measured=True,
        error="error",
    ),
    Layout(
        "the report of inference-perf by request",
        ("start_time",),
        ("info.input_tokens", "info.request_metrics.text.input_tokens"),
        ("info.output_tokens", "info.response_metrics.output_tokens"),
        marks=("start_time", "end_time", "info", "error"),
        clock=True,
        measured=True,
        error="error",
    ),
    Layout("LLMServingSim", ("arrival_time_ns",), ("input_toks",), ("output_toks",), unit="ns"),
    Layout(
        "a log with times of unknown unit",
        ("timestamp", "arrival_time", "arrival_timestamp", "start_time", "TIMESTAMP", "Timestamp"),
        ("input_length", "prompt_tokens", "input_tokens", "prompt_len", *VIDUR.num_prompt_tokens),
        ("output_length", "completion_tokens", "output_tokens", "output_len", *VIDUR.num_output_tokens),
        unit="",
    ),
)


def recognise(has: Callable[[str], bool]) -> Layout | None:
    """Return the layout of a file, of which ``has`` says whether it has a column; None if it is not known.

    Files without times are recognised by their lengths, if nothing else matches.
    """
    for layout in LAYOUTS:
        if all(map(has, layout.marks)) if layout.marks else _has(layout, has, "arrived_at"):
            return layout
    return next((layout for layout in LAYOUTS if not layout.marks and _has(layout, has)), None)


def _has(layout: Layout, has: Callable[[str], bool], *more: str) -> bool:
    """Whether a file has both lengths, and the columns in ``more``."""
    wanted = (*more, "num_prompt_tokens", "num_output_tokens")
    return all(any(map(has, layout.column(column))) for column in wanted)
