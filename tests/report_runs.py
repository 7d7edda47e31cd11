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
    """One result, three, and as many as a table is needed for."""
    one = save(root / "one", 12.0)
    three = [one, save(root / "sure", 12.0, replicates=3), save(root / "two", 12.0, "num_replicas=2")]
    many = [save(root / f"rate-{rate}", float(rate), requests=40) for rate in range(4, 14)]
    return {"one": [one], "three": three, "many": many}
