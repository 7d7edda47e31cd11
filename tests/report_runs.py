"""Saved results for the tests of reports: made once, seen by all."""

from pathlib import Path

import fastsim


def save(folder: Path, rate: float, *overrides: str, requests: int = 120, replicates: int = 0) -> Path:
    """Simulate some chat and save it."""
    deployment = fastsim.Deployment.load(None, list(overrides))
    workload = fastsim.load_workload("chat", rate=rate, num_requests=requests)
    fastsim.simulate(deployment, workload, iterations=not replicates, replicates=replicates).save(folder)
    return folder


def save_all(root: Path) -> dict[str, list[Path]]:
    """One result, three, as many as a table is needed for, and one with prefill and decode apart."""
    one = save(root / "one", 12.0)
    three = [one, save(root / "sure", 12.0, replicates=3), save(root / "two", 12.0, "num_replicas=2")]
    pools = "[{name: prompts, role: prefill}, {name: tokens, role: decode, num_replicas: 2}]"
    apart = save(root / "apart", 12.0, f"pools={pools}", "kv_transfer={link_gb_s: 20}")
    many = [save(root / f"rate-{rate}", float(rate), requests=40) for rate in range(4, 14)]
    return {"one": [one], "three": three, "many": many, "apart": [apart]}
