"""A gate that simulations of other processes wait at until the test opens it, so that work cannot end too early."""

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Parts are written at once, not after a second: what the test waits for happens while the gate is shut.
CODE = """
import itertools, os, time
from fastsim.simulation import many
from fastsim.sweeps import store

def run(job, tables, arena, keep, detail, stop, original=many._run, count=itertools.count(1)):
    if next(count) > {free}:
        while not os.path.exists({file!r}) and not stop.is_set():
            time.sleep(0.01)
    return original(job, tables, arena, keep, detail, stop)

many._run = run
store.EVERY_S = 0.0
"""


@dataclass(frozen=True)
class Gate:
    """Each process with this ``environment`` simulates ``free`` configurations; all others wait for ``open``."""

    folder: Path
    free: int = 100  # two batches of a sweep, of which one thread finishes at least one

    @property
    def environment(self) -> dict[str, str]:
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(CODE.format(free=self.free, file=str(self.folder / "open")))
        return {**os.environ, "PYTHONPATH": f"{site}:{ROOT}"}

    def open(self) -> None:
        (self.folder / "open").touch()
