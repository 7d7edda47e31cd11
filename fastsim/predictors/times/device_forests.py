"""Where an operator's time comes from: the forest of its family and precision, or a formula where none was measured."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.catalog.hardware import Device
from fastsim.deployment.operators.decoder import Operators
from fastsim.deployment.operators.kinds import BYTES, Attention, Elementwise, Experts, Gemm
from fastsim.errors import CatalogError
from fastsim.predictors.chip import PRECISIONS, Chip, Floats, Precision
from fastsim.predictors.families import FAMILIES
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.forests.forest import Forest

from . import deep_gemm
from .origin import Kinship, Origin
from .scaled import Scaled, chip_of, constants, nearest_precision, rate_of, width, work_of
from .shapes import decode_rows, expert_rows, prefill_rows
from .times import monotone

# Shares of the chip's peak that formulas assume.
COMPUTE_SHARE, MEMORY_SHARE = 0.6, 0.7
SMALL = {"efficiency": 0.8, "launch_ms": 0.002}  # of small kernels on devices that were not measured
LAUNCHES_MS = {"moe": 0.03, "attention": 0.01}
# Points at which formulas are evaluated; they are interpolated in between, like measured shapes.
MEASURED_LATENT = (576, 192, 128)  # the one shape of latent attention with times: DeepSeek-V2 and V3, Kimi-K2
PHASES = ("prefill", "decode")
MANY_KV_HEADS = "sglang"  # whose rows have more KV heads than vLLM's, of the same kernels (FlashAttention-3 on Hopper)
MODELLED = ("elementwise", "embedding", "send_recv", "host", "prefill after a prefix")
BATCHES = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
LENGTHS = np.array([1.0, 16, 64, 256, 1024, 4096, 16384, 65536])


@dataclass(frozen=True, slots=True)
class Choice:
    """The forest that a family and precision are predicted with.

    ``precision`` is that of the forest; ``derived`` says that it is not the one asked for. ``root``: the folder of a
    user's own forests; None for those that come with fastsim. ``kinship``: that of its GPU to the device.
    """

    system: str
    root: Path | None
    family: str
    precision: str
    kinship: Kinship
    derived: bool

    @property
    def measured(self) -> bool:
        """Whether the device itself was measured in the precision asked for."""
        return self.kinship == "own" and not self.derived


@dataclass(frozen=True, slots=True)
class Sources:
    """The forests for the operators of one model on one device.

    ``system`` names the device's own forests: in ``root``, a folder of a user's, or else among those that come with
    fastsim. ``origin``: the measured system from which the others come. ``kernels``: whose kernels of attention and
    all-reduce run, and the release; () where it is not known.
    """

    system: str
    device: Device
    operators: Operators
    origin: Origin
    root: Path | None = None
    kernels: tuple[str, tuple[int, ...]] = ("vllm", ())

    @property
    def chip(self) -> Chip:
        """The figures of the device that forests use."""
        return chip_of(self.device)

    def gemm(self, gemm: Gemm) -> Forest | Scaled:
        """The forest for a GEMM's precision."""
        return self._load("gemm", gemm.precision)

    def experts(self, experts: Experts) -> Forest | Scaled | None:
        """The forest for the experts' precision, None where a formula is used instead."""
        return None if self.pads_experts(experts) else self._forest("moe", experts.precision)

    def pads_experts(self, experts: Experts) -> bool:
        """Whether the engine computes these experts in DeepGEMM, which pads the rows of each."""
        return deep_gemm.runs(self.kernels, self.device, experts) and not self.operators.num_all_to_alls

    def attention(self, attn: Attention, phase: str) -> Forest | Scaled | None:
        """The forest for a ``phase`` (prefill or decode) of attention, None where a formula is used instead."""
        if attn.latent_dim and (attn.latent_dim, attn.head_dim, attn.value_dim) != MEASURED_LATENT:
            return None
        return self._forest(_attention_family(attn, phase), attn.precision, attn.kv_heads)

    def _forest(self, family: str, precision: str, kv_heads: int = 0) -> Forest | Scaled | None:
        return self._load(family, precision, kv_heads) if self._precisions(family) else None

    def _load(self, family: str, precision: str, kv_heads: int = 0) -> Forest | Scaled:
        chosen = self.choice(family, precision, kv_heads)
        forest = _load(chosen.system, family, chosen.precision, self.chip, chosen.root)
        if chosen.measured:
            return forest
        work = least = self._work(family, precision)
        if not chosen.derived:
            work = replace(PRECISIONS[precision], speed=least.speed)
        source = chosen.precision if chosen.derived else None
        launch_ms = constants()["launch_ms"].get(family, 0.0) if source == "bf16" else 0.0
        return Scaled(replace(forest, work=work), least, launch_ms, width(family, chosen.kinship, source))

    def _work(self, family: str, precision: str) -> Precision:
        if FAMILIES[family].precision_field == "kv_cache_dtype":
            return PRECISIONS[precision]
        return work_of(precision, self.device)

    def choice(self, family: str, precision: str, kv_heads: int = 0) -> Choice:
        """Choose the forest of a family and precision: as it was measured, or the nearest that it is derived from.

        ``kv_heads``: those of attention on a GPU. Raises CatalogError where the family has no forest.
        """
        places = self._places(family, kv_heads)
        work = self._work(family, precision)
        for system, root, kinship, have in places:
            if precision in have and (kinship == "own" or PRECISIONS[precision].activation == work.activation):
                return Choice(system, root, family, precision, kinship, False)
        if not places:
            raise CatalogError(f"predictor: {self.origin.system!r} has no {family} forest")
        system, root, kinship, have = places[0]
        unfit = constants()["not_derived_from"].get(system, []) if root is None else []
        sound = [name for name in have if shipped.stem(family, name) not in unfit]
        return Choice(system, root, family, nearest_precision(work, sound), kinship, True)

    def _places(self, family: str, kv_heads: int = 0) -> list[tuple[str, Path | None, Kinship, list[str]]]:
        """Where forests of a family are: system, folder, kinship and precisions, the nearest first.

        Those of another framework than vLLM are in a folder of its name within that of the system.
        """
        places: list[tuple[str, Path | None, Kinship]] = [(self.system, self.root, "own")] if self.root else []
        if self.origin.system != self.system:
            places.append((self.system, None, "own"))  # a device that was measured in part
        places.append((self.origin.system, None, self.origin.kinship))
        found: list[tuple[str, Path | None, Kinship]] = []
        for system, root, kinship in places:
            framework = self._framework(system, root, family, kv_heads)
            if framework != "vllm":
                found.append((framework, (root or shipped.FOLDER) / system, kinship))
            found.append((system, root, kinship))
        have = [(*place, shipped.precisions(place[0], family, place[1])) for place in found]
        return [one for one in have if one[3]]

    def _framework(self, system: str, root: Path | None, family: str, kv_heads: int) -> str:
        """Whose forest of a family is asked first: that of the kernels that run.

        vLLM's, where they have rows of so many KV heads; multi-head attention has more than eight.
        """
        framework = self.kernels[0]
        if framework != "vllm" or not kv_heads or "bf16" not in shipped.precisions(system, family, root):
            return framework
        measured = shipped.card(system, family, "bf16", root)["shapes"].get("kv_heads", [kv_heads])
        return MANY_KV_HEADS if kv_heads > max(measured) else framework

    def owns(self, family: str) -> bool:
        """Whether the device itself was measured in a family, in any precision."""
        return any(kinship == "own" for _, _, kinship, _ in self._places(family))

    def _precisions(self, family: str) -> list[str]:
        return [precision for *_, have in self._places(family) for precision in have]

    def card(self, family: str, precision: str = "bf16") -> dict[str, Any] | None:
        """The model card of a forest, or the figures of a family without forests; None where there are none."""
        for system, root, _, have in self._places(family):
            if precision in have:
                return shipped.card(system, family, precision, root)
        return None

    def chosen(self) -> dict[tuple[str, str], Choice]:
        """By family and precision, the forests of those that the operators need; none is loaded."""
        ops = self.operators
        asked = [("gemm", gemm.precision, 0) for gemm in (*ops.gemms, ops.lm_head)]
        asked += [("moe", experts.precision, 0) for experts in ops.all_experts if not self.pads_experts(experts)]
        for attn in ops.attentions:
            asked += [(_attention_family(attn, phase), attn.precision, attn.kv_heads) for phase in PHASES]
        return {one[:2]: self.choice(*one) for one in dict.fromkeys(asked) if self._precisions(one[0])}

    def modelled(self) -> list[str]:
        """The operators and families whose times are modelled by formulas on this device."""
        ops = self.operators
        families = ["moe"] if ops.experts else []
        families += [_attention_family(attn, phase) for attn in ops.attentions for phase in PHASES]
        formulas = {family: None for family in families if not self._precisions(family)}
        formulas |= dict.fromkeys("moe" for experts in ops.all_experts if self.pads_experts(experts))
        return [*MODELLED, *formulas]

    def small_ms(self, kernel: Elementwise, tokens: Floats | NDArray[np.int64]) -> Floats:
        """Times of small kernels by number of tokens, ms: their bytes at a share of the DRAM bandwidth, and their
        launches.

        Inputs of GEMMs are not converted on a device that multiplies none of their precisions.
        """
        if kernel.name.rpartition("_")[2].startswith("quant") and not self._converts():
            return np.zeros(np.shape(tokens))
        figures = self.card("elementwise") or SMALL
        speed = figures["efficiency"] * self.device.bandwidth_gb_s * 1e6
        return np.asarray(kernel.bytes_per_token * tokens / speed + kernel.num_kernels * figures["launch_ms"])

    def _converts(self) -> bool:
        precisions = {gemm.precision for gemm in self.operators.gemms}
        precisions |= {experts.precision for experts in self.operators.all_experts}
        return any(work_of(precision, self.device).activation < BYTES for precision in precisions)

    def gemm_least_ms(self, gemm: Gemm, tokens: Floats) -> Floats:
        """What a GEMM takes at the least, ms, by tokens of the batch (float64[n]).

        Small matrices were measured again and again, from a cache that holds them; an engine reads them from DRAM.
        """
        flops, moved = (np.array([work(int(n)) for n in tokens]) for work in (gemm.flops, gemm.bytes_moved))
        return self._roofline(flops, moved, gemm.precision)

    def prefill_least_ms(self, attn: Attention, pairs: Floats, tokens: Floats) -> Floats:
        """What attention of a chunk takes at the least, ms.

        ``pairs``: twice the pairs of a query and a key; ``tokens``: those whose keys and values are read.
        """
        flops = attn.heads * (attn.head_dim + (attn.value_dim or attn.head_dim)) * pairs
        return self._roofline(flops, tokens * attn.kv_bytes_per_token(), "bf16")

    def decode_least_ms(self, attn: Attention, tokens: Floats) -> Floats:
        """What decode attention takes at the least, ms, by the ``tokens`` of KV cache that all sequences read."""
        flops = 2.0 * attn.heads * (attn.head_dim + (attn.value_dim or attn.head_dim)) * tokens
        return self._roofline(flops, tokens * attn.kv_bytes_per_token(), attn.precision)

    def experts_ms(self, experts: Experts, tokens: Floats) -> Floats:
        """Times of a layer's experts on the busiest GPU, ms, by tokens of the batch; at the least those of their work.

        ``tokens`` (float64[n]) ascend.
        """
        experts, tokens = replace(experts, ranks=1), experts.ranks * tokens
        if self.pads_experts(experts):
            return deep_gemm.experts_ms(experts, tokens, self.device)
        forest = self.experts(experts)
        flops, moved = (np.array([work(n) for n in tokens]) for work in (experts.flops, experts.bytes_read))
        moved = moved + np.array([experts.bytes_written(n) for n in tokens])
        if forest is None:
            return self._formula(flops, moved, experts.precision) + LAUNCHES_MS["moe"]
        return np.maximum(routed_ms(forest, experts, tokens), self._roofline(flops, moved, experts.precision))

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
        return self._roofline(flops / COMPUTE_SHARE, moved / MEMORY_SHARE, precision)

    def _roofline(self, flops: Floats, moved: Floats, precision: str) -> Floats:
        """The least time that FLOPs and bytes take at the peaks of the device, ms."""
        peaks = self.device.tflops
        compute = flops / (peaks.get(rate_of(precision), peaks["bf16"]) * 1e9)
        return np.asarray(np.maximum(compute, moved / (self.device.bandwidth_gb_s * 1e6)))


def routed_ms(forest: Forest | Scaled, experts: Experts, tokens: Floats) -> Floats:
    """Times of experts whose tokens are routed at random, ms, from those of evenly spread tokens (float64[n]).

    Evenly spread, as they were measured, a few tokens reach as many experts as there can be: ``num_experts / top_k`` of
    them all. At random they reach fewer (Experts.reached), and only these are read. So what it takes to reach the
    others is left out: the difference between two even batches, one of which reaches as many as there can be, the
    other as many as are expected.
    """
    all_of_them = experts.num_copies / experts.top_k
    few = np.unique(np.append(np.arange(1.0, all_of_them), all_of_them))
    even = monotone(forest.ms(expert_rows(experts, few)))
    reached = np.array([experts.reached(n) for n in tokens]) * all_of_them
    spared = np.interp(tokens, few, even) - np.interp(reached, few, even)
    return monotone(forest.ms(expert_rows(experts, tokens))) - np.maximum(0.0, spared)


def _attention_family(attn: Attention, phase: str) -> str:
    return f"mla_{phase}" if attn.latent_dim else f"{phase}_attention"


@cache
def _load(system: str, family: str, precision: str, chip: Chip, root: Path | None) -> Forest:
    return shipped.load(system, family, precision, chip, root)
