"""Where an operator's time comes from: the forest of its family and precision, or a formula where none was measured."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.catalog.hardware import Device
from fastsim.deployment.operators.decoder import Operators
from fastsim.deployment.operators.kinds import WEIGHT_BYTES, Attention, Elementwise, Experts, Gemm
from fastsim.errors import CatalogError
from fastsim.predictors.chip import Chip, Floats
from fastsim.predictors.families import FAMILIES
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.forests.forest import Forest

# Shares of the chip's peak that formulas assume.
COMPUTE_SHARE, MEMORY_SHARE = 0.6, 0.7
SMALL = {"efficiency": 0.8, "launch_ms": 0.002}  # of small kernels on devices that were not measured
LAUNCHES_MS = {"moe": 0.03, "attention": 0.01}
# Points at which formulas are evaluated; they are interpolated in between, like measured shapes.
MEASURED_LATENT = (576, 192, 128)  # the one shape of latent attention with times: DeepSeek-V2 and V3, Kimi-K2
PHASES = ("prefill", "decode")
MODELLED = ("elementwise", "embedding", "send_recv", "host", "prefill after a prefix")
BATCHES = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
LENGTHS = np.array([1.0, 16, 64, 256, 1024, 4096, 16384, 65536])


@dataclass(frozen=True, slots=True)
class Sources:
    """The forests of one device for the operators of one model.

    ``root``: a folder of a user's own forests, which take precedence over those that come with fastsim.
    """

    system: str
    device: Device
    operators: Operators
    root: Path | None = None

    @property
    def chip(self) -> Chip:
        """The figures of the device that forests use."""
        return chip_of(self.device)

    def gemm(self, gemm: Gemm) -> Forest:
        """The forest for a GEMM's precision. Raises CatalogError when the device has none."""
        return self._load(*self._family("gemm", gemm.precision))

    def experts(self, experts: Experts) -> Forest | None:
        """The forest for the experts' precision, None where a formula is used instead."""
        return self._forest("moe", experts.precision)

    def attention(self, attn: Attention, phase: str) -> Forest | None:
        """The forest for a ``phase`` (prefill or decode) of attention, None where a formula is used instead."""
        if attn.latent_dim and (attn.latent_dim, attn.head_dim, attn.value_dim) != MEASURED_LATENT:
            return None
        return self._forest(_attention_family(attn, phase), attn.precision)

    def _forest(self, family: str, precision: str) -> Forest | None:
        return self._load(*self._family(family, precision)) if self._precisions(family) else None

    def _load(self, family: str, precision: str) -> Forest:
        return _load(self.system, family, precision, self.chip, self._root(family, precision))

    def _root(self, family: str, precision: str) -> Path | None:
        """The folder of a forest: the user's own if it has one, else None for fastsim's."""
        own = self.root is not None and precision in shipped.precisions(self.system, family, self.root)
        return self.root if own else None

    def _precisions(self, family: str) -> list[str]:
        own = shipped.precisions(self.system, family, self.root) if self.root else []
        return list(dict.fromkeys([*own, *shipped.precisions(self.system, family)]))

    def card(self, family: str, precision: str = "bf16") -> dict[str, Any] | None:
        """The model card of a forest, or the figures of a family without forests; None where there are none."""
        if precision not in self._precisions(family):
            return None
        return shipped.card(self.system, family, precision, self._root(family, precision))

    def _family(self, family: str, precision: str) -> tuple[str, str]:
        """The family and precision, if the device has a forest for them. Raises CatalogError otherwise."""
        have, field = self._precisions(family), FAMILIES[family].precision_field
        if precision in have:
            return family, precision
        if not have:
            raise CatalogError(f"predictor: {self.system!r} has no {family} forest")
        bytes_wanted = WEIGHT_BYTES[precision]
        nearest = min(have, key=lambda name: abs(WEIGHT_BYTES[name] - bytes_wanted))
        raise CatalogError(
            f"{field}: {precision!r} has no {family} times on {self.device.name}; the nearest that has is "
            f"{_said(nearest, field)!r} (all: {', '.join(_said(name, field) for name in have)})"
        )

    def _asked(self) -> list[tuple[str, str]]:
        """Family and precision of all forests that the operators need."""
        ops = self.operators
        asked = [("gemm", gemm.precision) for gemm in (*ops.gemms, ops.lm_head)]
        asked += [("moe", experts.precision) for experts in ops.all_experts]
        for attn in ops.attentions:
            asked += [(_attention_family(attn, phase), attn.precision) for phase in PHASES]
        return list(dict.fromkeys(asked))

    def files(self) -> list[tuple[str, str]]:
        """Family and precision of all forests that exist among those the operators need; none is loaded."""
        needed = [attention for attention in self._asked() if attention[0] == "gemm" or self._precisions(attention[0])]
        return [self._family(*attention) for attention in needed]

    def modelled(self) -> list[str]:
        """The operators and families whose times are modelled by formulas on this device."""
        formulas = [family for family, _ in self._asked() if not self._precisions(family)]
        return [*MODELLED, *dict.fromkeys(formulas)]

    def small_ms(self, kernel: Elementwise, tokens: Floats | NDArray[np.int64]) -> Floats:
        """Times of small kernels by number of tokens, ms: their bytes at a share of the DRAM bandwidth, and their
        launches.
        """
        figures = self.card("elementwise") or SMALL
        speed = figures["efficiency"] * self.device.bandwidth_gb_s * 1e6
        return np.asarray(kernel.bytes_per_token * tokens / speed + kernel.num_kernels * figures["launch_ms"])

    def experts_ms(self, experts: Experts, tokens: Floats) -> Floats:
        """Times of a layer's experts on the busiest GPU, ms, by tokens of the batch."""
        if forest := self.experts(experts):
            return forest.ms(expert_rows(experts, tokens))
        flops, moved = (np.array([work(n) for n in tokens]) for work in (experts.flops, experts.bytes_read))
        moved = moved + np.array([experts.bytes_written(n) for n in tokens])
        return self._formula(flops, moved, experts.precision) + LAUNCHES_MS["moe"]

    def decode_knots(self, attn: Attention) -> tuple[Floats, Floats, Floats]:
        """Batch sizes, KV lengths, and the times of decode attention at them, ms, between which it is interpolated."""
        forest = self.attention(attn, "decode")
        batches, lengths = (forest.knots("batch"), forest.knots("kv_length")) if forest else (BATCHES, LENGTHS)
        b, kv = (grid.ravel() for grid in np.meshgrid(batches, lengths, indexing="ij"))
        if forest:
            ms = forest.ms(decode_rows(attn, b, kv))
        else:
            flops = 2 * b * kv * attn.heads * (2 * attn.latent_dim if attn.latent_dim else 2 * attn.head_dim)
            ms = self._formula(flops, b * kv * attn.kv_bytes_per_token(), "bf16") + LAUNCHES_MS["attention"]
        return batches, lengths, ms.reshape(batches.size, lengths.size)

    def prefill_knots(self, attn: Attention) -> tuple[Floats, Floats]:
        """Prompt lengths, and the times of one whole prompt at them, ms, between which prefill attention is
        interpolated.
        """
        forest = self.attention(attn, "prefill")
        lengths = forest.knots("length") if forest else LENGTHS
        if forest:
            return lengths, forest.ms(prefill_rows(attn, lengths))
        flops = np.array([attn.flops(0, int(length)) for length in lengths], dtype=np.float64)
        moved = lengths * 2 * attn.heads * (2 * attn.head_dim + 2 * (attn.value_dim or attn.head_dim))
        return lengths, self._formula(flops, moved, "bf16") + LAUNCHES_MS["attention"]

    def _formula(self, flops: Floats, moved: Floats, precision: str) -> Floats:
        peaks = self.device.tflops
        tflops = {"fp8": peaks.get("fp8"), "fp8_block": peaks.get("fp8"), "nvfp4": peaks.get("fp4")}.get(precision)
        compute = flops / (COMPUTE_SHARE * (tflops or peaks["bf16"]) * 1e9)
        return np.asarray(np.maximum(compute, moved / (MEMORY_SHARE * self.device.bandwidth_gb_s * 1e6)))


def _attention_family(attn: Attention, phase: str) -> str:
    return f"mla_{phase}" if attn.latent_dim else f"{phase}_attention"


def chip_of(device: Device) -> Chip:
    """The figures of a device that forests use."""
    return Chip(device.tflops["bf16"], device.bandwidth_gb_s, device.num_sms)


def gemm_rows(gemm: Gemm, tokens: Floats) -> Floats:
    """Shapes of a GEMM, one row for each number of tokens, with the columns of its family."""
    return _rows(tokens, gemm.n, gemm.k)


def expert_rows(experts: Experts, tokens: Floats) -> Floats:
    """Shapes of the experts; the busiest GPU takes as long as if every GPU had as many tokens."""
    tokens = tokens * (experts.imbalance if experts.ep > 1 else 1.0)
    sizes = (experts.hidden, experts.intermediate, experts.num_experts, experts.top_k, experts.tp, experts.ep)
    return _rows(tokens, *sizes)


def decode_rows(attn: Attention, batch: Floats, kv: Floats) -> Floats:
    """Shapes of decode attention, one row for each batch size and KV length."""
    return (
        _rows(batch, kv, attn.heads) if attn.latent_dim else _rows(batch, kv, attn.heads, attn.kv_heads, attn.head_dim)
    )


def prefill_rows(attn: Attention, lengths: Floats) -> Floats:
    """Shapes of prefill attention, one prompt per row."""
    if attn.latent_dim:
        return _rows(np.ones(lengths.size), lengths, attn.heads)
    return _rows(np.ones(lengths.size), lengths, attn.heads, attn.kv_heads, attn.head_dim)


def _rows(*columns: Floats | float) -> Floats:
    return np.column_stack(
        [np.broadcast_to(np.asarray(column, dtype=np.float64), np.shape(columns[0])) for column in columns]
    )


def _said(precision: str, field: str) -> str:
    """A precision in the words of a deployment file."""
    if precision != "bf16":
        return precision
    return "auto" if field == "kv_cache_dtype" else "none"


@cache
def _load(system: str, family: str, precision: str, chip: Chip, root: Path | None) -> Forest:
    return shipped.load(system, family, precision, chip, root)
