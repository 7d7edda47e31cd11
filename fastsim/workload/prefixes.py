"""Draws the texts that requests share in front of their prompts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.conversations import Documents, Examples, Prefix, SystemPrompt
from fastsim.workload.fields import Range
from fastsim.workload.tokens import zipf

NONE = -1

Integers = NDArray[np.int64]


class Texts(NamedTuple):
    """The texts in front of n prompts, in their order, at most m for each."""

    text: Integers  # int64[n, m], the number of the text, or NONE
    tokens: Integers  # int64[n, m], its tokens, or 0

    @property
    def total(self) -> Integers:
        """The tokens in front of each prompt, int64[n]."""
        total: Integers = self.tokens.sum(axis=1)
        return total


def most_texts(prefix: Prefix) -> int:
    """The most texts that the prefix of a request has."""
    match prefix:
        case SystemPrompt():
            return 1
        case Documents():
            return prefix.per_request
        case Examples():
            return prefix.shots.max


def draw_texts(prefixes: tuple[Prefix, ...], number: int, seed: np.random.SeedSequence) -> Texts:
    """Draw the texts in front of ``number`` prompts, those of one prefix after those of the other."""
    texts = [np.zeros((number, 0), np.int64)]
    tokens = [np.zeros((number, 0), np.int64)]
    known = 0
    for prefix, child in zip(prefixes, seed.spawn(len(prefixes)), strict=True):
        for_tokens, for_choice, for_shots = map(np.random.default_rng, child.spawn(3))
        cumulative = zipf(prefix.number, prefix.exponent)
        match prefix:
            case SystemPrompt():
                found = choose(cumulative, for_choice.random((number, 1)))
                texts_of_prefix = prefix.number
            case Documents():
                found = choose(cumulative, for_choice.random((number, prefix.per_request)))
                texts_of_prefix = prefix.number
            case Examples():
                most = prefix.shots.max
                found = choose(cumulative, for_choice.random((number, 1))) * most + np.arange(most)
                found[np.arange(most) >= whole(prefix.shots, number, for_shots)[:, None]] = NONE
                texts_of_prefix = prefix.number * most
        sizes = whole(prefix.num_tokens, texts_of_prefix, for_tokens)
        tokens.append(np.where(found == NONE, 0, sizes[found]))
        texts.append(np.where(found == NONE, NONE, found + known))
        known += texts_of_prefix
    return Texts(np.concatenate(texts, axis=1), np.concatenate(tokens, axis=1))


def whole(span: Range, number: int, rng: np.random.Generator) -> Integers:
    """Draw whole numbers of a range, int64[number], all equally probable."""
    return rng.integers(span.min, span.max, size=number, endpoint=True)


def choose(cumulative: NDArray[np.float64], shares: NDArray[np.float64]) -> Integers:
    """Return as many different ranks as each row of ``shares``, float64[n, m], has numbers in [0, 1), int64[n, m].

    A rank has the probability by which ``cumulative`` grows there, out of what those before it in the row have left.
    """
    before = np.concatenate([[0.0], cumulative])
    chosen = np.empty(shares.shape, np.int64)
    for place in range(shares.shape[1]):
        earlier = np.sort(chosen[:, :place], axis=1)
        taken = before[earlier + 1] - before[earlier]
        at = shares[:, place] * (1 - taken.sum(axis=1))
        for column in range(place):  # the share in what is left becomes one in the whole
            at += np.where(at >= before[earlier[:, column]], taken[:, column], 0.0)
        found = np.minimum(np.searchsorted(cumulative, at, side="right"), len(cumulative) - 1)
        for row in np.flatnonzero((earlier == found[:, None]).any(axis=1)):  # by rounding, at the edge of a rank
            found[row] = np.setdiff1d(np.arange(place + 1), earlier[row])[0]
        chosen[:, place] = found
    return chosen
