"""Tables drawn from the intervals of the operators: how sure a simulation is of its figures."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from fastsim.predictors.times.times import OperatorTimes

from .by_operator import Row, kind_of, parts_of

Z = 1.6449  # standard deviations that hold nine of ten draws


def spreads(rows: list[Row]) -> dict[str, float]:
    """Standard deviation of the logarithm of each operator's time, from its interval."""
    return {row.name: math.log(row.about.high / row.about.low) / (2 * Z) for row in rows}


def draws(times: OperatorTimes, spread: Mapping[str, float], number: int, seed: int) -> Iterator[OperatorTimes]:
    """Operator times, each operator multiplied by one log-normal factor of its own, the same at all shapes.

    An operator is off by about as much wherever it is asked: its error is that of a kernel, not of a point. The
    first draws of more of them are the same, and those of an operator do not depend on what others there are.
    """
    for replicate in range(number):

        def factor(name: str, replicate: int = replicate) -> float:
            rng = np.random.default_rng([seed, replicate, *name.encode()])
            return math.exp(spread.get(name, 0.0) * rng.standard_normal())

        parts = {name: part * factor(name) for name, part in parts_of(times).items()}
        decode, prefill, last = (
            np.sum([part for name, part in parts.items() if kind_of(name) == kind], axis=0)
            for kind in ("decode", "prefill", "last")
        )
        yield replace(
            times,
            tokens={name: row * factor(name) for name, row in times.tokens.items()},
            parts=parts,
            first=times.first * factor("embedding"),
            host=times.host * factor("host"),
            decode=decode,
            prefill=prefill,
            last=last,
        )
