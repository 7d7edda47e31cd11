"""Affine terms from recorded steps: the time of a step by its tokens, sequences, context and pairs of attention."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration.bounded import Floats, solve
from fastsim.calibration.estimate import interval
from fastsim.calibration.fit import DRAWS, Column, fit, weights_of
from fastsim.calibration.steps import Steps
from fastsim.calibration.sums import STRETCHES, products_of, stretches_of

TERMS = (
    "constant_ns",
    "per_token_ns",
    "per_sequence_ns",
    "per_context_token_ns",
    "per_prefill_token_ns",
    "per_attention_pair_ns",
)
# Numbers of tokens between which the time of a batch may bend: sizes of tiles, and graphs of batches.
BENDS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)
BY_TOKENS = "how times bend with the number of tokens"
FEWEST = 20  # steps on either side of a bend
SHORTEST = 1000.0  # ns, a batch
LEVELS = 0.5, 2.0  # of means over the robust fit


@dataclass(frozen=True, eq=False)
class AffineFit:
    """Affine terms that were fitted on steps.

    Attributes
    ----------
    terms : by name, ns.
    by_tokens : pairs of a number of tokens and ns.
    intervals : ends of the 90 % interval of each term, ns.
    by_tokens_intervals : the same of each pair.
    left : by name of a term that is left out, why.
    """

    terms: dict[str, float]
    by_tokens: tuple[tuple[int, float], ...]
    intervals: dict[str, tuple[float, float]]
    by_tokens_intervals: tuple[tuple[float, float], ...]
    left: dict[str, str]


def fitted(steps: Steps, draws: int = DRAWS) -> AffineFit:
    """Fit affine terms on steps, with intervals from so many draws.

    Times of single steps are fitted robustly, so that the pauses of a machine, which are long and rare, do not hide
    what a step costs. Two factors then bring means to what was measured, pauses included: one for what a batch takes
    whatever its prompts, and one for its prompts.
    """
    bends = bends_of(steps.num_tokens)
    columns = columns_of(steps, bends)
    ns = steps.seconds * 1e9
    found = fit(columns, ns, weights_of(columns, ns), draws)
    names = [column.name for column in columns]
    bends = [bend for bend in bends if found.values[names.index(f"bend at {bend}")]]
    level = _Level(names, columns, steps)
    drawn = [
        _terms(names, bends, values, level.of(values, stretches))
        for values, stretches in zip(found.draws, found.stretches, strict=True)
    ]
    terms, by_tokens = _terms(names, bends, found.values, level.of(found.values, np.arange(STRETCHES)))
    return AffineFit(
        terms,
        tuple(zip(_numbers(bends), by_tokens, strict=True)) if any(by_tokens) else (),
        {name: ends for name in terms if (ends := interval(np.array([one[name] for one, _ in drawn])))},
        tuple(ends for at in range(len(by_tokens)) if (ends := interval(np.array([more[at] for _, more in drawn])))),
        {name: why for name, why in found.left.items() if name in TERMS},
    )


def columns_of(steps: Steps, bends: list[int]) -> list[Column]:
    """What each term is multiplied by, and how many of its tokens a batch has up to each bend."""
    tokens, counts = steps.num_tokens, counts_of(steps)
    columns = [Column(name, counts[name], is_kept=name == TERMS[0]) for name in TERMS if counts[name].any()]
    return columns + [Column(f"bend at {bend}", np.minimum(tokens, bend), -np.inf, words=BY_TOKENS) for bend in bends]


def counts_of(steps: Steps) -> dict[str, Floats]:
    """What each affine term is multiplied by, float64[steps] each."""
    return {
        "constant_ns": np.ones(len(steps)),
        "per_token_ns": steps.num_tokens,
        "per_sequence_ns": steps.num_seqs,
        "per_context_token_ns": steps.prefill_context_tokens + steps.num_prefill_tokens + steps.decode_context_tokens,
        "per_prefill_token_ns": steps.num_prefill_tokens,
        "per_decode_ns": steps.num_decode_seqs,
        "per_attention_pair_ns": steps.prefill_attention_pairs,
    }


def bends_of(tokens: Floats) -> list[int]:
    """The numbers of tokens with enough steps on either side."""
    found: list[int] = []
    for bend in BENDS:
        last = found[-1] if found else 0
        if ((tokens > last) & (tokens <= bend)).sum() >= FEWEST and (tokens > bend).sum() >= FEWEST:
            found.append(bend)
    return found


class _Level:
    """Means of times over a robust fit, of what a batch takes and of what its prompts take besides."""

    def __init__(self, names: list[str], columns: list[Column], steps: Steps) -> None:
        self.values = np.column_stack([column.values for column in columns])
        self.seconds, self.stretch = steps.seconds * 1e9, stretches_of(len(steps))
        self.prompts = self.values * [name in ("per_prefill_token_ns", "per_attention_pair_ns") for name in names]
        self.prompts[:, names.index("per_token_ns")] = steps.num_prefill_tokens

    def of(self, values: Floats, stretches: NDArray[np.int64]) -> Floats:
        """Both factors, with the values of the columns, over stretches of time."""
        whole, prompts = self.values @ values, self.prompts @ values
        both = np.column_stack([whole - prompts, prompts])
        times = np.bincount(stretches, minlength=STRETCHES)[self.stretch]
        weights = times / np.maximum(whole, 0.05 * np.median(whole))
        low, high = np.full(2, LEVELS[0] - 1), np.full(2, LEVELS[1] - 1)
        return 1 + solve(*products_of(both, self.seconds - whole, weights), low, high)


def _terms(names: list[str], bends: list[int], values: Floats, level: Floats) -> tuple[dict[str, float], list[float]]:
    """The terms, ns, and what is added at 1 token and at each bend."""
    found = dict(zip(names, values.tolist(), strict=True))
    batch, prompts = level.tolist()
    rises = {bend: batch * found[f"bend at {bend}"] for bend in bends}
    # Beyond the last bend, and so without anything that is added, times go on as a line.
    line = batch * found["constant_ns"] + sum(rise * bend for bend, rise in rises.items())
    constant = max(0.0, line)
    more = [
        line - constant + sum(rise * (min(number, bend) - bend) for bend, rise in rises.items())
        for number in _numbers(bends)
    ]
    token = found["per_token_ns"]
    each = min(batch, prompts) * token
    # Every batch takes some time, whatever it holds.
    more = [max(one, SHORTEST - constant - each * number) for one, number in zip(more, _numbers(bends), strict=True)]
    terms = {
        "constant_ns": constant,
        "per_token_ns": each,
        "per_sequence_ns": batch * found["per_sequence_ns"],
        "per_context_token_ns": batch * found.get("per_context_token_ns", 0.0),
        "per_prefill_token_ns": prompts * (token + found.get("per_prefill_token_ns", 0.0)) - each,
        "per_decode_ns": batch * token - each,
        "per_attention_pair_ns": prompts * found.get("per_attention_pair_ns", 0.0),
    }
    return {name: max(0.0, value) for name, value in terms.items()}, more


def _numbers(bends: list[int]) -> list[int]:
    return sorted({1, *bends})
