"""Loads workloads from files, presets and descriptions."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError, InputError, did_you_mean
from fastsim.workload.checks import check_rate, check_unit
from fastsim.workload.mixes import is_mix, mix
from fastsim.workload.presets import preset_file, presets
from fastsim.workload.workload import MAX_REQUESTS, Workload

if TYPE_CHECKING:
    from fastsim.files.documents import Document


DESCRIBED = (".yaml", ".yml", ".toml", ".json")
RECORDED = (".csv", ".parquet", ".jsonl")
DESCRIPTIONS = frozenset(("lengths", "gaps", "tenants", "sessions", "prefix"))  # keys that no deployment has
HEAD = 65_536  # bytes of a JSON document that tell whether it is a description


def load(
    spec: str | Path | Workload | Mapping[str, Any],
    *,
    rate: float | None = None,
    num_requests: int | None = None,
    seed: int = 0,
    unit: str | None = None,
    users: int | None = None,
    max_concurrency: int | None = None,
) -> Workload:
    """Load a workload from a file or a preset, or draw it from a description.

    Parameters
    ----------
    spec : str, Path, Workload or mapping
        One of: a CSV, Parquet, JSONL or JSON file of requests in a layout of ``fastsim.workload.layouts`` (``"-"`` is
        CSV on standard input); the name of a preset: agent, chat, code, reasoning, retrieval, summarisation or
        translation; a description of a synthetic workload, as a mapping or as a YAML, TOML or JSON file; a Workload.
    rate : float, optional
        Mean arrival rate, requests/s. It replaces the rate of a description, and stretches the gaps of a recorded
        workload. By default the rate stays as it is.
    num_requests : int, optional
        How many requests to draw from a description, or to take from the beginning of a recorded workload. By default
        what the description says (1000 where it says nothing), or all.
    seed : int
        Seed of a description that has none. By default 0.
    unit : str, optional
        The unit of the arrival times in a file: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``. By default that of its layout.
    users : int, optional
        Users who send the requests, and wait for each answer before they send the next; see ``Workload.with_users``. By
        default requests arrive as the workload says.
    max_concurrency : int, optional
        Requests that clients have in flight at most; see ``Workload``. By default as the workload says.

    Returns
    -------
    Workload
        The requests. A description gives the same lengths at every rate. Requests of a file that have no output are
        left out, and ``notes`` says how many.

    Raises
    ------
    errors.WorkloadError
        When a file cannot be read, or holds a value that is not valid; the message names the row and the column.
    errors.ConfigError
        When a description, or an argument, is not valid.

    Examples
    --------
    >>> chat = fastsim.load_workload("chat", rate=2.0, num_requests=100)
    >>> chat.num_requests, chat.num_prompt_tokens[:3].tolist()
    (100, [1904, 1103, 1207])
    >>> lengths = {"kind": "fixed", "num_prompt_tokens": 512, "num_output_tokens": 64}
    >>> fixed = fastsim.load_workload({"lengths": lengths, "gaps": {"kind": "static", "rate": 4.0}}, num_requests=3)
    >>> fixed.arrived_at.tolist()  # s
    [0.25, 0.5, 0.75]
    """
    _check(rate, num_requests, seed)
    check_unit(unit)
    document = None if isinstance(spec, Workload) else _description(spec)
    if unit is not None and (document is not None or isinstance(spec, Workload)):
        raise ConfigError(f"unit: {unit} is for a file of requests; in a description it is a key of gaps of kind trace")
    if users is not None and rate is not None:
        raise ConfigError(f"rate: {rate:g} and users: {users} exclude each other, as users wait for their answers")
    if document is not None:
        drawn = _draw(document, spec, rate, num_requests, document.values.get("seed", seed))
        return _held_back(drawn, users, max_concurrency)
    if isinstance(spec, Workload):
        workload = spec
    else:
        from fastsim.workload import read

        workload = read.requests(str(spec), unit)
    if num_requests is not None:
        workload = workload.head(num_requests)
    return _held_back(workload if rate is None else workload.at_rate(rate), users, max_concurrency)


def _held_back(workload: Workload, users: int | None, max_concurrency: int | None) -> Workload:
    """The same requests, sent by users who wait for their answers, or by clients that hold them back."""
    if max_concurrency is not None:
        workload = replace(workload, max_concurrency=max_concurrency)
    return workload if users is None else workload.with_users(users)


def synthesise(
    spec: str | Path | Mapping[str, Any],
    *,
    rate: float | None = None,
    num_requests: int | None = None,
    seed: int | None = None,
) -> Workload:
    """Draw a workload from a preset or a description, as ``load`` does; ``seed`` replaces the description's own.

    Raises ConfigError when ``spec`` is neither a preset nor a description, and the errors of ``load``.
    """
    _check(rate, num_requests, seed)
    document = _description(spec)
    if document is None:
        raise ConfigError(f"{spec}: neither a preset nor a description; {did_you_mean(str(spec), presets())}")
    return _draw(document, spec, rate, num_requests, document.values.get("seed", 0) if seed is None else seed)


def is_description(spec: "str | Path | Workload | Mapping[str, Any]") -> bool:
    """Whether ``spec`` is a preset or a description, from which requests are drawn, and not a recorded workload."""
    if isinstance(spec, Mapping) or (isinstance(spec, str) and (spec in presets() or is_mix(spec))):
        return True
    return not isinstance(spec, Workload) and Path(spec).suffix.lower() in DESCRIBED and not _holds_requests(Path(spec))


def is_loop(spec: "str | Path | Workload | Mapping[str, Any]") -> bool:
    """Whether ``spec`` is a closed loop, or the description of one: users who wait for their answers.

    A description of several tenants is none, as a number of users is not that of each tenant.
    """
    if isinstance(spec, Workload):
        return spec.is_loop
    document = _description(spec)
    values = document.values if document is not None else {}
    gaps = values.get("gaps", {"kind": "closed_loop"} if "concurrency" in values else None)
    return "tenants" not in values and isinstance(gaps, Mapping) and gaps.get("kind") == "closed_loop"


def refuse_users_of_tenants(spec: "str | Path | Workload | Mapping[str, Any]") -> None:
    """Raise ConfigError for a description of tenants with users who wait, whose requests have no rate."""
    document = None if isinstance(spec, Workload) else _description(spec)
    values = document.values if document is not None else {}
    listed = values.get("tenants")
    for group in [values, *listed] if isinstance(listed, list) else []:
        gaps = group.get("gaps") if isinstance(group, Mapping) else None
        if gaps is None and isinstance(group, Mapping) and "concurrency" in group:
            gaps = {"kind": "closed_loop"}
        if document is not None and isinstance(gaps, Mapping) and gaps.get("kind") == "closed_loop":
            raise ConfigError(
                f"{document.where(('tenants',))}: users who wait for their answers are among the tenants, so there is "
                "no rate of all requests to look for; simulate them, or leave their concurrency out"
            )


def is_workload(name: str) -> bool:
    """Whether a name can only be that of a workload: a preset, a file of requests or a description, no deployment."""
    path = Path(name)
    return (
        name in presets()
        or is_mix(name)
        or path.suffix.lower() in RECORDED
        or _holds_requests(path)
        or _describes_requests(path)
    )


def _describes_requests(path: Path) -> bool:
    """Whether a file describes a workload, and no deployment."""
    if path.suffix.lower() not in DESCRIBED or not path.is_file():
        return False
    try:
        document = _description(path)
    except InputError:  # reading it as a deployment says what is wrong
        return False
    return document is not None and "model" not in document.values and not DESCRIPTIONS.isdisjoint(document.values)


def _holds_requests(path: Path) -> bool:
    """Whether a JSON file holds requests, as those that benchmarks write, and no description."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    from fastsim.workload.json_files import holds_requests

    with path.open("rb") as file:
        return holds_requests(file.read(HEAD).decode(errors="replace"))


def _check(rate: float | None, num_requests: int | None, seed: int | None) -> None:
    """Check the arguments apart from the description, so that no message blames the description for them."""
    if rate is not None:
        check_rate(rate, "rate")
    if num_requests is not None and not 1 <= num_requests <= MAX_REQUESTS:
        raise ConfigError(f"num_requests: {num_requests} is not a whole number from 1 to {MAX_REQUESTS:,} (e.g. 1000)")
    if seed is not None and not 0 <= seed < 2**63:
        raise ConfigError(f"seed: {seed} is not an integer from 0 to below 2^63 (e.g. 0)")


def _draw(document: "Document", spec: Any, rate: float | None, num_requests: int | None, seed: int) -> Workload:
    from fastsim.workload import mixture, synthetic
    from fastsim.workload.tenants import Mixture, parse

    asked = {"num_requests": num_requests, "seed": seed}
    described = parse(document, rate, {key: value for key, value in asked.items() if value is not None})
    name = "synthetic" if isinstance(spec, Mapping) else str(spec)
    return mixture.draw_mixed(described, name) if isinstance(described, Mixture) else synthetic.draw(described, name)


def _description(spec: str | Path | Mapping[str, Any]) -> "Document | None":
    """Return the description that ``spec`` is, or that it names; None if it names something else."""
    from fastsim.files.documents import Document, read

    if isinstance(spec, Mapping):
        return Document(dict(spec))
    if isinstance(spec, str) and spec in presets():
        return read(preset_file(spec))
    if isinstance(spec, str) and is_mix(spec):
        return Document(mix(spec), spec)
    return read(spec) if is_description(spec) else None
