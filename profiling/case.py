"""One thing to measure, and what came of it."""

from typing import NamedTuple

from fastsim.predictors.families import FAMILIES

# Columns of every family's shape, per GPU: the families that forests learn, and those that only profiles hold.
SHAPES: dict[str, tuple[str, ...]] = {
    **{name: family.columns for name, family in FAMILIES.items()},
    # Chunks of ``length`` tokens, each after ``prefix`` cached ones.
    "chunk_attention": ("batch", "length", "prefix", "heads", "kv_heads", "head_dim"),
    # The mean length is kv_length; one sequence has kv_max and the others share the rest evenly.
    "decode_skewed": ("batch", "kv_length", "kv_max", "heads", "kv_heads", "head_dim"),
    "rms_norm": ("tokens", "hidden"),
    "add_rms_norm": ("tokens", "hidden"),  # adds to the residual, then norms it, as serving engines do
    "add": ("tokens", "hidden"),  # a residual
    "activation": ("tokens", "width"),  # silu(gate) * up, of width elements each
    "quantise": ("tokens", "hidden"),  # bf16 to fp8, one scale per token
    "rope": ("tokens", "heads", "kv_heads", "head_dim"),
    "kv_write": ("tokens", "kv_heads", "head_dim"),
    "embedding": ("tokens", "vocab", "hidden"),
    "lm_head": ("tokens", "vocab", "hidden"),  # the last token of each sequence picked, then the GEMM
    "moe_top_k": ("tokens", "num_experts", "topk"),  # of the router's scores
    "greedy": ("sequences", "vocab"),
    "sampling": ("sequences", "vocab"),  # temperature, softmax and a draw
    "sampling_top_p": ("sequences", "vocab"),  # the same among the likeliest tokens, by a sort
    "all_reduce": ("elements", "ranks"),  # bf16
    "all_gather": ("elements", "ranks"),  # elements of the result
    "reduce_scatter": ("elements", "ranks"),  # elements of the input
    "all_to_all": ("elements", "ranks"),  # elements that each rank holds
    "send_recv": ("elements", "ranks"),  # from the first rank to the last
    "host_step": ("sequences", "context"),  # scheduling, input preparation and reading back of one decode step
    "host_launch": ("kernels",),  # empty kernels one after the other
}
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")


class Case(NamedTuple):
    """``shape`` as ``SHAPES`` says; ``precision`` as roofline.PRECISIONS, of attention the KV cache's."""

    family: str
    precision: str
    shape: tuple[int, ...]
    backend: str  # one of profiling.backends.backends


class Measured(NamedTuple):
    """Milliseconds of one call: median, P10 and P90 over the repeats.

    ``graph``: timed as a replayed CUDA graph. Clock in MHz and temperature in Celsius are nan where unknown.
    ``flags``: joined by commas: throttled, power (the power limit slowed it), noisy, outliers.
    """

    ms: float
    low_ms: float
    high_ms: float
    repeats: int
    graph: bool
    clock_mhz: float
    temperature_c: float
    flags: str


class Skipped(NamedTuple):
    """Why there is no time: one sentence."""

    reason: str


def impossible(case: Case) -> str:
    """Why no operator can have this shape, or nothing."""
    names = SHAPES[case.family]
    size = dict(zip(names, case.shape, strict=False))
    if len(case.shape) != len(names) or any(value < (name != "prefix") for name, value in size.items()):
        return f"{case.family} takes positive {', '.join(names)}, not {case.shape}"
    if "kv_heads" in size and "heads" in size and size["heads"] % size["kv_heads"]:
        return f"{size['heads']} heads do not share {size['kv_heads']} KV heads evenly"
    if "topk" in size and size["topk"] > size["num_experts"]:
        return f"{size['topk']} experts per token are more than all {size['num_experts']}"
    if size.get("kv_max", 0) and not _skewed(size["batch"], size["kv_length"], size["kv_max"]):
        return (
            f"{size['batch']} sequences of {size['kv_length']} tokens in the mean cannot hold one of {size['kv_max']}"
        )
    return ""


def _skewed(batch: int, mean: int, longest: int) -> bool:
    rest = batch * mean - longest
    return longest >= mean and (rest >= batch - 1 if batch > 1 else rest == 0)
