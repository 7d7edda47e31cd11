"""Runs a profile: the coarse grid, then the candidates that forests predict least surely, until the time is over."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.errors import ConfigError, FastsimError

from .case import Case, Measured
from .describe import describe
from .plan import Plan, limits, plan
from .store import Row, Store, held

if TYPE_CHECKING:
    from fastsim.catalog.model import Model
    from fastsim.deployment.operators.decoder import Operators

PIECE = 30.0  # s of measurements that are lost at most when the process is killed
SHORTEST, LONGEST = 0.02, 0.3  # s that one case is repeated
COARSE_SHARE = 0.4  # of the time, to spend on the coarse grid
ROUND = 32  # candidates measured between two fits
ENOUGH = 24  # rows that a forest needs
TREES = 20
SIZES = (1, 2, 4, 8)  # tensor parallel sizes, unless some are given

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of ``fastsim profile``. ``model``: None for shapes of any model; ``system``: the device in rows."""

    device: str
    minutes: float
    out: Path
    model: str | None = None
    precisions: tuple[str, ...] = ("bf16",)
    tensor_parallel_sizes: tuple[int, ...] = ()
    system: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """What a run has done. ``rows``: of all runs; ``new``: rows of this run; ``left``: cases that are not measured yet.

    ``device``: the value for ``fastsim train --device``, which is a system of the catalog or the file that describes
    the device; None before a GEMM is measured.
    """

    plan: Plan
    rows: list[Row]
    new: int
    left: int
    device: str | None


def profile(asked: Asked, progress: Progress = lambda share: None) -> Done:
    """Measure for ``asked.minutes``, and resume where an earlier run into the same folder stopped.

    Raises InputError for options that are not valid. On KeyboardInterrupt all measured rows are kept.
    """
    began = time.monotonic()
    check_torch(asked.device)
    from .machine import machine

    facts = machine(asked.device)
    system = asked.system or known(str(facts["name"])) or plain(str(facts["name"]))
    model, splits = _splits(asked)
    planned = plan(splits, model.vocab_size if model else 0, asked.precisions, asked.device, limits(facts), asked.seed)
    if not planned.coarse:
        raise ConfigError(
            f"--precision {' '.join(asked.precisions)}: no operator can be measured in it on {asked.device} "
            f"({next(iter(planned.unavailable.values()), 'the shapes are too large for it')})"
        )
    about = {
        "system": system,
        "model": model.name if model else None,
        "tensor_parallel_sizes": list(asked.tensor_parallel_sizes),
        "precisions": list(asked.precisions),
        "seed": asked.seed,
        **{key: facts[key] for key in ("name", "torch")},
        "machine": facts,
        "unavailable": planned.unavailable,
    }
    with held(asked.out):
        store = Store(asked.out, about)
        before = len(store.rows)
        run = _Run(asked, store, facts, began, progress)
        try:
            run.coarse(planned)
            run.refine(planned)
        finally:
            run.keep()
            path = None if listed(system) else describe(asked.out, system, store.rows, facts)
    device = system if listed(system) else str(path) if path else None
    return Done(planned, store.rows, len(store.rows) - before, run.left(planned), device)


class _Run:
    """Measures case after case, and writes the rows in pieces of ``PIECE`` seconds."""

    def __init__(
        self, asked: Asked, store: Store, facts: dict[str, str | float], began: float, progress: Progress
    ) -> None:
        self.asked, self.store, self.facts, self.progress, self.began = asked, store, facts, progress, began
        self.budget = 60 * asked.minutes
        self.seen = {row.case for row in store.rows if not row.throttled}  # throttled ones are measured again
        self.piece: list[Row] = []
        self.piece_began = time.monotonic()
        self.took: list[float] = []
        self.seconds = LONGEST

    def over(self) -> bool:
        """Whether the time would run out during a case as long as the longest of the last 200."""
        return time.monotonic() - self.began + max(self.took[-200:], default=0.0) > self.budget

    def measure(self, case: Case) -> None:
        """Measure one case, and write the piece once it has taken ``PIECE`` seconds."""
        from .measure import measure

        start = time.monotonic()
        try:
            outcome = measure(
                case,
                self.asked.device,
                graph=self.asked.device.startswith("cuda"),
                seed=self.asked.seed,
                seconds=self.seconds,
            )
        except RuntimeError as problem:
            raise FastsimError(
                f"{self.asked.device}: lost while measuring {case.family} {case.shape} "
                f"({str(problem).splitlines()[0]}); the same command goes on"
            ) from None
        self.piece.append(Row(case, outcome))
        self.seen.add(case)
        now = time.monotonic()
        self.took.append(now - start)
        self.progress(min(1.0, (now - self.began) / self.budget))
        if now - self.piece_began > PIECE:
            self.keep()

    def keep(self) -> None:
        """Write the rows that are not written yet."""
        piece, self.piece, self.piece_began = self.piece, [], time.monotonic()
        if piece:
            self.store.write(piece, self.facts)

    def coarse(self, planned: Plan) -> None:
        """Measure the coarse grid in its order."""
        left = [case for case in planned.coarse if case not in self.seen]
        if left:
            self.seconds = float(np.clip(COARSE_SHARE * self.budget / len(left), SHORTEST, LONGEST))
        for case in left:
            if self.over():
                return
            self.measure(case)

    def refine(self, planned: Plan) -> None:
        """Measure, a round at a time, the candidates on which the trees of the forests disagree most."""
        self.seconds = LONGEST
        while not self.over():
            left = [case for case in planned.candidates if case not in self.seen]
            if not left:
                return
            for case in least_certain(left, [*self.store.rows, *self.piece], ROUND):
                if self.over():
                    return
                self.measure(case)

    def left(self, planned: Plan) -> int:
        """Return how many cases of the plan are not measured."""
        return sum(case not in self.seen for case in (*planned.coarse, *planned.candidates))


def least_certain(cases: Sequence[Case], rows: Sequence[Row], count: int) -> list[Case]:
    """Choose ``count`` of ``cases``: those on which the trees of a forest fitted to ``rows`` disagree most.

    Of cases that differ only in the first column of their shape, one at most is chosen, because neighbours teach a
    forest the same. Families with fewer than ``ENOUGH`` rows come first, in their order.
    """
    from fastsim.predictors.chip import Chip
    from fastsim.predictors.families import Size, features
    from fastsim.predictors.forests.features import stacked
    from fastsim.predictors.forests.fit import fit

    chip = Chip(100.0, 1000.0, 100)  # any figures: the fitted weights make up for them
    spread = np.full(len(cases), np.inf)
    for family, precision in dict.fromkeys(case[:2] for case in cases):
        mine = [row for row in rows if row.learnt and row.case[:2] == (family, precision)]
        if len(mine) < ENOUGH:
            continue
        shape = np.array([row.case.shape for row in mine], dtype=np.float64)
        ms = np.array([row.outcome.ms for row in mine if isinstance(row.outcome, Measured)])
        columns, terms = features(family, shape, chip, precision)
        fitted = fit(stacked(columns), terms, ms, Size(TREES, None))
        at = [i for i, case in enumerate(cases) if case[:2] == (family, precision)]
        asked, _ = features(family, np.array([cases[i].shape for i in at], dtype=np.float64), chip, precision)
        spread[at] = fitted.by_tree(stacked(asked)).std(axis=1)
    chosen: dict[Any, Case] = {}
    for i in np.argsort(-spread, kind="stable"):
        case = cases[i]
        chosen.setdefault((case.family, case.precision, case.shape[1:]), case)
        if len(chosen) == count:
            break
    return list(chosen.values())


def check_torch(device: str) -> None:
    """Raise ConfigError if PyTorch or the device is missing; the message says what there is."""
    try:
        import torch
    except ImportError:
        raise ConfigError("fastsim profile measures with PyTorch; pip install 'fastsim[profile]'") from None
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()) or (kind == "cpu" and index):
        raise ConfigError(f"--device: {device!r} is not a device; give cpu or cuda:0")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ConfigError(f"--device: {device!r} does not exist: PyTorch {torch.__version__} sees no GPU; give cpu")
        if int(index or 0) >= count:
            raise ConfigError(f"--device: {device!r} does not exist; give cuda:0 to cuda:{count - 1}")


def known(name: str) -> str | None:
    """Return the catalog's name of what PyTorch calls ``name`` (e.g. NVIDIA H100 80GB HBM3); None if unknown."""
    from fastsim.catalog.load import load_device
    from fastsim.errors import CatalogError

    try:
        device = load_device(name)
    except CatalogError:
        return None
    return device.predictor or device.name


def listed(system: str) -> bool:
    """Whether ``system`` names a device of the catalog, or the operator times of one."""
    from fastsim.catalog.load import load_device, names

    return any(system in (name, load_device(name).predictor) for name in names("devices"))


def plain(name: str) -> str:
    """Return the name in lower-case letters, digits and underscores."""
    return "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _splits(asked: Asked) -> "tuple[Model | None, list[Operators]]":
    """Return the model, and its operators under each tensor parallel size."""
    if asked.model is None:
        return None, []
    from fastsim.catalog.load import load_model
    from fastsim.deployment.operators.decoder import operators
    from fastsim.deployment.parallelism import shared_widths

    model = load_model(asked.model)
    widths = shared_widths(model, False)
    sizes = asked.tensor_parallel_sizes or tuple(
        size for size in SIZES if all(width % size == 0 for width in widths.values())
    )
    for size in sizes:
        uneven = next((what for what, width in widths.items() if width % size), None)
        if uneven:
            raise ConfigError(f"--tp: {size} does not divide the {widths[uneven]} {uneven} of {model.name} (e.g. 1)")
    return model, [operators(model, size) for size in sizes]
