"""Families of operators: kinds of kernels that are measured and learned together, each described once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fastsim.predictors.chip import PRECISIONS, Chip, Columns, Floats, Precision
from fastsim.predictors.forests import features as work
from fastsim.predictors.forests.splits import LARGE, Split, large, pairs, values


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a forest: what fits the package and stays within a percentage point of larger forests."""

    trees: int
    leaves: int | None
    min_leaf: int = 3


@dataclass(frozen=True, slots=True)
class Family:
    """A family of operators.

    Attributes
    ----------
    name : as it stands in files of measurements and in model cards.
    columns : the columns of a shape, per GPU.
    work : turns shapes (float64[rows, columns]), a chip and a precision into features and terms (forests.features).
    precision_field : the field of a deployment that decides the precision.
    size : the size of its forest.
    splits : by name, the ways in which rows are kept from training to judge a forest on what it has not seen.
    """

    name: str
    columns: tuple[str, ...]
    work: Callable[[Floats, Chip, Precision], tuple[Columns, Columns]]
    precision_field: Literal["quantization", "kv_cache_dtype"]
    size: Size
    splits: Mapping[str, Split] = field(default_factory=dict)


def _unseen(columns: tuple[str, ...], first: int, second: int) -> dict[str, Split]:
    """Hold out new combinations of the values of two columns, and new values of both."""
    names, at = (columns[first], columns[second]), (first, second)
    return {f"unseen ({names[0]}, {names[1]}) pairs": pairs(at), f"unseen {names[0]} and {names[1]}": values(at)}


GEMM = ("m", "n", "k")
PREFILL = ("batch", "length", "heads", "kv_heads", "head_dim")
DECODE = ("batch", "kv_length", "heads", "kv_heads", "head_dim")
# A whole expert layer (gate, up, activation, down) of one GPU; tokens: those of all GPUs of the expert-parallel group;
# intermediate: the model's own width before it is split.
MOE = ("tokens", "hidden", "intermediate", "num_experts", "topk", "tp", "ep")
MLA_PREFILL = ("batch", "length", "heads")
MLA_DECODE = ("batch", "kv_length", "heads")

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family(
            "gemm",
            GEMM,
            work.gemm,
            "quantization",
            Size(20, 600),
            {**_unseen(GEMM, 1, 2), f"n or k > {LARGE}": large},
        ),
        Family("prefill_attention", PREFILL, work.prefill, "kv_cache_dtype", Size(16, 700), _unseen(PREFILL, 0, 1)),
        Family("decode_attention", DECODE, work.decode, "kv_cache_dtype", Size(16, 600), _unseen(DECODE, 0, 1)),
        Family(
            "moe",
            MOE,
            work.moe,
            "quantization",
            Size(16, 700),
            # (hidden, intermediate, num_experts, topk) are a model, (tp, ep) how it is spread.
            {"unseen parallelism of a model": pairs((1, 2, 3, 4, 5, 6)), "unseen models": pairs((1, 2, 3, 4))},
        ),
        Family(
            "mla_prefill", MLA_PREFILL, work.mla_prefill, "kv_cache_dtype", Size(12, 250), _unseen(MLA_PREFILL, 0, 1)
        ),
        Family("mla_decode", MLA_DECODE, work.mla_decode, "kv_cache_dtype", Size(12, 250), _unseen(MLA_DECODE, 0, 1)),
    )
}


def features(
    family: str, shape: Floats, chip: Chip, precision: str = "bf16", work: Precision | None = None
) -> tuple[dict[str, Floats], Columns]:
    """Feature columns by name (mostly logarithms) and terms by name, ms; each is float64[rows].

    ``shape``: float64[rows, columns], per GPU, with the family's columns. ``precision``: of the weights; for
    attention, of the KV cache. ``work``: other bytes and another rate than that precision's.
    """
    described = FAMILIES[family]
    seen, terms = described.work(shape, chip, work or PRECISIONS[precision])
    return dict(zip(described.columns, np.log(shape.T), strict=True)) | seen, terms
