"""The precision of each module of a checkpoint, in each layer."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastsim.catalog.precisions import BF16, Precision, precision

# Modules that engines keep in 16 bits unless a checkpoint names them: latent attention multiplies by kv_b_proj in two
# halves around the attention kernel, for which it is widened.
WIDE = ("embedding", "lm_head", "moe_router", "attn_kv_up_proj")
EXPERTS_ALONE = ("mxfp4",)  # precisions in which mixtures of experts are published with nothing else quantised

Run = tuple[int, Precision]  # the first of the layers that have a precision


@dataclass(frozen=True, slots=True)
class Quantization:
    """The precision of each module, by its name among the GEMMs of an iteration, or moe_experts or embedding.

    ``default`` is that of every module which ``modules`` does not list and which is not among WIDE. ``modules`` gives
    for a module the layers, counted from 0, from which on it has a precision.
    """

    name: str  # the precision of most weights, by which the checkpoint goes
    default: Precision
    modules: tuple[tuple[str, tuple[Run, ...]], ...] = ()

    def of(self, module: str, layer: int = 0) -> Precision:
        """The precision of a module in a layer."""
        runs = self._runs(module)
        return runs[bisect_right(runs, layer, key=lambda run: run[0]) - 1][1]

    def counted(self, modules: Sequence[str], layers: Sequence[int]) -> list[tuple[tuple[Precision, ...], int]]:
        """The precisions that some modules have together, and in how many of ``layers``, the most frequent first."""
        runs = [self._runs(module) for module in modules]
        if all(len(one) == 1 for one in runs):
            return [(tuple(one[0][1] for one in runs), len(layers))] if layers else []
        return Counter(tuple(self.of(module, layer) for module in modules) for layer in layers).most_common()

    def _runs(self, module: str) -> tuple[Run, ...]:
        for name, runs in self.modules:
            if name == module:
                return runs
        return ((0, BF16 if module in WIDE else self.default),)


def uniform(name: str, has_experts: bool = False) -> Quantization:
    """Every module in one precision, as engines and publishers apply it.

    ``has_experts``: a precision in which experts alone are published leaves everything else in 16 bits.
    """
    found = precision(name)
    if has_experts and name in EXPERTS_ALONE:
        return Quantization(name, BF16, (("moe_experts", ((0, found),)),))
    return Quantization(name, found)


def tabulated(
    modules: Sequence[str], num_layers: int, of: Callable[[str, int], Precision], main: str
) -> Quantization | None:
    """Ask ``of`` for the precision of every module in every layer; None when all of them have 16 bits.

    ``main``: the module that most weights belong to, whose most frequent precision names the whole, if it is quantised.
    """
    table = {module: [of(module, layer) for layer in range(num_layers)] for module in modules}
    every = Counter(kind for kinds in table.values() for kind in kinds)
    quantised = [kind for kind, _ in every.most_common() if kind != BF16]
    if not quantised:
        return None
    first = Counter(table[main]).most_common(1)[0][0]
    default = first if first != BF16 else quantised[0]
    usual = {module: ((0, BF16 if module in WIDE else default),) for module in modules}
    runs = {module: _runs(kinds) for module, kinds in table.items()}
    listed = tuple((module, found) for module, found in runs.items() if found != usual[module])
    return Quantization(default.name, default, listed)


def _runs(values: Sequence[Precision]) -> tuple[Run, ...]:
    return tuple((at, value) for at, value in enumerate(values) if at == 0 or value != values[at - 1])
