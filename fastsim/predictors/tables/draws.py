"""Tables drawn from the intervals of the operators: how sure a simulation is of its figures."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from fastsim.kernels.tables import FastsimTables
from fastsim.predictors.times.evidence import Evidence
from fastsim.predictors.times.times import OperatorTimes

from .by_operator import ARRAYS, SLOPES, ByOperator, kind_of, parts_of
from .compose import end_slope

Z = 1.6449  # standard deviations from the mean within which 90 % of draws lie
# Standard deviation of the logarithm of all times together, beside that of each operator: clocks under load, versions
# of kernels. It is the root mean square error of TPOT over the measured runs that coefficients were fitted on.
TOGETHER = 0.035
# The same of the front end, which took 3 to 9 ms where it was measured (data/engines).
FRONT_END = 0.4
Factor = Callable[[str], float]


def spreads(known: Mapping[str, Evidence]) -> dict[str, float]:
    """Standard deviation of the logarithm of each operator's time, from its interval."""
    return {name: math.log(about.high / about.low) / (2 * Z) for name, about in known.items()}


def factors(spread: Mapping[str, float], number: int, seed: int) -> Iterator[Factor]:
    """For each of ``number`` draws: a log-normal factor by operator, the same at all shapes.

    An operator is off by about as much wherever it is asked: its error is that of a kernel, not of a point. The first
    draws are the same whatever their number, and those of an operator do not depend on what other operators there are.
    """
    for replicate in range(number):
        together = TOGETHER * _normal(seed, replicate, "together") if spread else 0.0

        def factor(name: str, replicate: int = replicate, together: float = together) -> float:
            return math.exp(spread.get(name, 0.0) * _normal(seed, replicate, name) + together)

        yield factor


def front_end_factor(seed: int, replicate: int) -> float:
    """By how much the front end of a draw is longer than is predicted."""
    return math.exp(FRONT_END * _normal(seed, replicate, "front_end"))


def _normal(seed: int, replicate: int, name: str) -> float:
    return float(np.random.default_rng([seed, replicate, *name.encode()]).standard_normal())


def drawn_tables(whole: FastsimTables, operators: ByOperator, factor: Factor) -> FastsimTables:
    """The tables of a deployment with each operator's times multiplied by its factor."""
    drawn = {name: np.zeros_like(getattr(whole, name)) for name in ARRAYS}
    for name, tables in operators.items():
        by = factor(name)
        for field, total in drawn.items():
            if (part := getattr(tables, field)).size:
                total += by * part
    tables = whole._replace(**drawn)
    return tables._replace(
        token_slope=end_slope(tables.token_ms),
        first_slope=end_slope(tables.first_ms),
        send_slope=end_slope(tables.send_ms),
    )


def drawn_operators(operators: ByOperator, factor: Factor) -> ByOperator:
    """The tables of each operator, multiplied by its factor."""
    drawn = {}
    for name, one in operators.items():
        changed = {field: getattr(one, field) * factor(name) for field in (*ARRAYS, *SLOPES.values())}
        drawn[name] = one._replace(**changed)
    return drawn


def drawn_times(times: OperatorTimes, factor: Factor) -> OperatorTimes:
    """Operator times with each operator's multiplied by its factor."""
    parts = {name: part * factor(name) for name, part in parts_of(times).items()}
    decode, prefill, last = (
        np.sum([part for name, part in parts.items() if kind_of(name) == kind], axis=0)
        for kind in ("decode", "prefill", "last")
    )
    return replace(
        times,
        tokens={name: row * factor(name) for name, row in times.tokens.items()},
        parts=parts,
        first=times.first * factor("embedding"),
        host=times.host * factor("host"),
        least=times.least * factor("host"),
        decode=decode,
        prefill=prefill,
        last=last,
    )
