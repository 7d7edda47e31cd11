"""Whom an operator is asked of: the forest of its family and precision, or a formula where nothing is measured."""

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

# Of the chip's peak, where no forest knows better.
COMPUTE_SHARE, MEMORY_SHARE = 0.6, 0.7
SMALL = {"efficiency": 0.8, "launch_ms": 0.002}  # of small kernels, where a device has no figures of its own
LAUNCHES_MS = {"moe": 0.03, "attention": 0.01}
# Points between which a formula is drawn as a line, as measured shapes are.
MEASURED_LATENT = (576, 192, 128)  # the one shape of latent attention with times: DeepSeek-V2 and V3, Kimi-K2
PHASES = ("prefill", "decode")
MODELLED = ("elementwise", "embedding", "send_recv", "host", "prefill after a prefix")
BATCHES = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
LENGTHS = np.array([1.0, 16, 64, 256, 1024, 4096, 16384, 65536])


@dataclass(frozen=True, slots=True)
class Sources:
    """The forests of one device. ``operators``: on whose behalf they are asked.

    ``root``: a folder of a user's own forests, which go before those that come with fastsim.
    """

    system: str
    device: Device
    operators: Operators
    root: Path | None = None

    @property
    def chip(self) -> Chip:
        """The device as forests know it."""
        return chip_of(self.device)

    def gemm(self, gemm: Gemm) -> Forest:
        """Forest of a GEMM's precision. Raises CatalogError when the device has none."""
        return self._load(*self._family("gemm", gemm.precision))

    def experts(self, experts: Experts) -> Forest | None:
        """Forest of the experts' precision, None where a formula has to do."""
        return self._forest("moe", experts.precision)

    def attention(self, one: Attention, phase: str) -> Forest | None:
        """Forest of the ``phase`` (prefill or decode), None where a formula has to do."""
        if one.latent_dim and (one.latent_dim, one.head_dim, one.value_dim) != MEASURED_LATENT:
            return None
        return self._forest(_attention_family(one, phase), one.precision)

    def _forest(self, family: str, precision: str) -> Forest | None:
        return self._load(*self._family(family, precision)) if self._precisions(family) else None

    def _load(self, family: str, precision: str) -> Forest:
        return _load(self.system, family, precision, self.chip, self._root(family, precision))

    def _root(self, family: str, precision: str) -> Path | None:
        """Where the forest is: the user's own before fastsim's."""
        own = self.root is not None and precision in shipped.precisions(self.system, family, self.root)
        return self.root if own else None

    def _precisions(self, family: str) -> list[str]:
        own = shipped.precisions(self.system, family, self.root) if self.root else []
        return list(dict.fromkeys([*own, *shipped.precisions(self.system, family)]))

    def card(self, family: str, precision: str = "bf16") -> dict[str, Any] | None:
        """A model card, or the figures of a family that has no forest; None where there are none."""
        if precision not in self._precisions(family):
            return None
        return shipped.card(self.system, family, precision, self._root(family, precision))

    def _family(self, family: str, precision: str) -> tuple[str, str]:
        """The family and precision, if the device has them. Raises CatalogError otherwise."""
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
        if ops.experts:
            asked.append(("moe", ops.experts.precision))
        for one in ops.attentions:
            asked += [(_attention_family(one, phase), one.precision) for phase in PHASES]
        return list(dict.fromkeys(asked))

    def files(self) -> list[tuple[str, str]]:
        """Families and precisions of all forests that are asked, without loading them."""
        needed = [one for one in self._asked() if one[0] == "gemm" or self._precisions(one[0])]
        return [self._family(*one) for one in needed]

    def modelled(self) -> list[str]:
        """What no forest of this device knows."""
        formulas = [family for family, _ in self._asked() if not self._precisions(family)]
        return [*MODELLED, *dict.fromkeys(formulas)]

    def small_ms(self, kernel: Elementwise, tokens: Floats | NDArray[np.int64]) -> Floats:
        """ms of small kernels, by tokens: bytes at a share of DRAM bandwidth and a launch each, as fitted per GPU."""
        figures = self.card("elementwise") or SMALL
        speed = figures["efficiency"] * self.device.bandwidth_gb_s * 1e6
        return np.asarray(kernel.bytes_per_token * tokens / speed + kernel.num_kernels * figures["launch_ms"])

    def experts_ms(self, experts: Experts, tokens: Floats) -> Floats:
        """ms of a layer's experts on the busiest GPU, by tokens of the batch."""
        if forest := self.experts(experts):
            return forest.ms(expert_rows(experts, tokens))
        flops, moved = (np.array([work(n) for n in tokens]) for work in (experts.flops, experts.bytes_read))
        moved = moved + np.array([experts.bytes_written(n) for n in tokens])
        return self._formula(flops, moved, experts.precision) + LAUNCHES_MS["moe"]

    def decode_knots(self, one: Attention) -> tuple[Floats, Floats, Floats]:
        """Batches, KV lengths, and ms between which decode attention is drawn as lines."""
        forest = self.attention(one, "decode")
        batches, lengths = (forest.knots("batch"), forest.knots("kv_length")) if forest else (BATCHES, LENGTHS)
        b, kv = (grid.ravel() for grid in np.meshgrid(batches, lengths, indexing="ij"))
        if forest:
            ms = forest.ms(decode_rows(one, b, kv))
        else:
            flops = 2 * b * kv * one.heads * (2 * one.latent_dim if one.latent_dim else 2 * one.head_dim)
            ms = self._formula(flops, b * kv * one.kv_bytes_per_token(), "bf16") + LAUNCHES_MS["attention"]
        return batches, lengths, ms.reshape(batches.size, lengths.size)

    def prefill_knots(self, one: Attention) -> tuple[Floats, Floats]:
        """Lengths, and ms of one whole prompt between which prefill attention is drawn."""
        forest = self.attention(one, "prefill")
        lengths = forest.knots("length") if forest else LENGTHS
        if forest:
            return lengths, forest.ms(prefill_rows(one, lengths))
        flops = np.array([one.flops(0, int(length)) for length in lengths], dtype=np.float64)
        moved = lengths * 2 * one.heads * (2 * one.head_dim + 2 * (one.value_dim or one.head_dim))
        return lengths, self._formula(flops, moved, "bf16") + LAUNCHES_MS["attention"]

    def _formula(self, flops: Floats, moved: Floats, precision: str) -> Floats:
        peaks = self.device.tflops
        tflops = {"fp8": peaks.get("fp8"), "fp8_block": peaks.get("fp8"), "nvfp4": peaks.get("fp4")}.get(precision)
        compute = flops / (COMPUTE_SHARE * (tflops or peaks["bf16"]) * 1e9)
        return np.asarray(np.maximum(compute, moved / (MEMORY_SHARE * self.device.bandwidth_gb_s * 1e6)))


def _attention_family(one: Attention, phase: str) -> str:
    return f"mla_{phase}" if one.latent_dim else f"{phase}_attention"


def chip_of(device: Device) -> Chip:
    """A device as forests know it."""
    return Chip(device.tflops["bf16"], device.bandwidth_gb_s, device.num_sms)


def gemm_rows(gemm: Gemm, tokens: Floats) -> Floats:
    """Columns of families.FAMILIES."""
    return _rows(tokens, gemm.n, gemm.k)


def expert_rows(experts: Experts, tokens: Floats) -> Floats:
    """Columns of families.FAMILIES: the busiest of several GPUs works as if all had its tokens."""
    tokens = tokens * (experts.imbalance if experts.ep > 1 else 1.0)
    sizes = (experts.hidden, experts.intermediate, experts.num_experts, experts.top_k, experts.tp, experts.ep)
    return _rows(tokens, *sizes)


def decode_rows(one: Attention, batch: Floats, kv: Floats) -> Floats:
    """Columns of families.FAMILIES."""
    return _rows(batch, kv, one.heads) if one.latent_dim else _rows(batch, kv, one.heads, one.kv_heads, one.head_dim)


def prefill_rows(one: Attention, lengths: Floats) -> Floats:
    """Columns of families.FAMILIES, of one prompt at a time."""
    if one.latent_dim:
        return _rows(np.ones(lengths.size), lengths, one.heads)
    return _rows(np.ones(lengths.size), lengths, one.heads, one.kv_heads, one.head_dim)


def _rows(*columns: Floats | float) -> Floats:
    return np.column_stack(
        [np.broadcast_to(np.asarray(column, dtype=np.float64), np.shape(columns[0])) for column in columns]
    )


def _said(precision: str, field: str) -> str:
    """As a deployment says it."""
    if precision != "bf16":
        return precision
    return "auto" if field == "kv_cache_dtype" else "none"


@cache
def _load(system: str, family: str, precision: str, chip: Chip, root: Path | None) -> Forest:
    return shipped.load(system, family, precision, chip, root)
