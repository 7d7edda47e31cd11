"""Operator times with the factors of a calibration, by family of operators."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved
    from fastsim.kernels.tables import FastsimTables
    from fastsim.predictors.tables.by_operator import ByOperator

TRANSFERS = ("all_reduce", "moe_all_to_all", "moe_a2a", "moe_gather_scatter", "send_recv")
HOST = "host"


def family_of(resolved: "Resolved", operator: str) -> str:
    """The family of an operator, in the words of a calibration; that of the host is its own."""
    ops = resolved.operators
    if operator == HOST:
        return HOST
    if operator in {gemm.name for gemm in (*ops.gemms, ops.lm_head)}:
        return "gemm"
    if operator in {experts.name for experts in ops.all_experts}:
        return "experts"
    if operator in TRANSFERS:
        return "communication"
    kind = operator.rpartition("_")[2]
    return f"{kind}_attention" if kind in ("prefill", "decode") else "elementwise"


def calibrated(
    resolved: "Resolved", tables: "FastsimTables", operators: "ByOperator"
) -> "tuple[FastsimTables, ByOperator]":
    """The tables of a deployment with the factors of its calibration; the same where it has none."""
    found = resolved.calibration
    by = {} if found is None else found.factors.model_dump()
    if all(factor == 1.0 for factor in by.values()):
        return tables, operators
    return scaled(resolved, tables, operators, by)


def scaled(
    resolved: "Resolved", tables: "FastsimTables", operators: "ByOperator", by: Mapping[str, float]
) -> "tuple[FastsimTables, ByOperator]":
    """Tables, and those of each operator that they are sums of, with factors by family."""
    from fastsim.predictors.tables.draws import drawn_operators, drawn_tables

    factor = {name: by.get(family_of(resolved, name), 1.0) for name in operators}.__getitem__
    return drawn_tables(tables, operators, factor), drawn_operators(operators, factor)
