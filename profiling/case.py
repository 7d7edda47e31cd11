"""A case to measure (operator, shape, precision, backend), and its outcome."""

from typing import NamedTuple

from fastsim.predictors.families import FAMILIES

# The columns of the shape of each family, per GPU. Forests learn the first families; only profiles hold the others.
SHAPES: dict[str, tuple[str, ...]] = {
    **{name: family.columns for name, family in FAMILIES.items()},
    # Chunks of ``length`` tokens, each after ``prefix`` cached ones.
    "chunk_attention": ("batch", "length", "prefix", "heads", "kv_heads", "head_dim"),
    # The mean length is kv_length: one sequence has kv_max tokens, and the others have equal shares of the rest.
    "decode_skewed": ("batch", "kv_length", "kv_max", "heads", "kv_heads", "head_dim"),
    "rms_norm": ("tokens", "hidden"),
    "add_rms_norm": ("tokens", "hidden"),  # adds to the residual and normalises the sum, as serving engines do
    "add": ("tokens", "hidden"),  # the residual connection
    "activation": ("tokens", "width"),  # silu(gate) * up; each has width elements
    "quantise": ("tokens", "hidden"),  # bf16 to fp8, one scale per token
    "rope": ("tokens", "heads", "kv_heads", "head_dim"),
    "kv_write": ("tokens", "kv_heads", "head_dim"),
    "embedding": ("tokens", "vocab", "hidden"),
    "lm_head": ("tokens", "vocab", "hidden"),  # picks the last token of each sequence, then multiplies
    "moe_top_k": ("tokens", "num_experts", "topk"),  # of the router's scores
    "greedy": ("sequences", "vocab"),
    "sampling": ("sequences", "vocab"),  # temperature, softmax, one random token
    "sampling_top_p": ("sequences", "vocab"),  # the same among the most probable tokens, which a sort finds
    "all_reduce": ("elements", "ranks"),  # bf16
    "all_gather": ("elements", "ranks"),  # elements of the result
    "reduce_scatter": ("elements", "ranks"),  # elements of the input
    "all_to_all": ("elements", "ranks"),  # elements that each rank holds
    "send_recv": ("elements", "ranks"),  # from the first rank to the last
    "host_step": ("sequences", "context"),  # a decode step without a model: schedule, prepare inputs, read back
    "host_launch": ("kernels",),  # launches of so many empty kernels, one after another
}
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv")


class Case(NamedTuple):
    """An operator to measure. ``shape`` has the columns of ``SHAPES``; ``precision`` of attention is the KV cache's."""

    family: str
    precision: str
    shape: tuple[int, ...]
    backend: str  # one of profiling.backends.backends


class Measured(NamedTuple):
    """Time of one call, ms: median, P10 and P90 over the repeats.

    ``graph``: whether a replayed CUDA graph was timed. Clock (MHz) and temperature (Celsius) are nan if unknown.
    ``flags``, joined by commas: throttled, power (the power limit lowered the clock), noisy, outliers.
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
    """A case without a time; ``reason`` says why in one sentence."""

    reason: str


def impossible(case: Case) -> str:
    """Return why no operator can have this shape; empty if one can."""
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
