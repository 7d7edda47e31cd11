"""Calibrations: coefficients that were fitted on a measured run, in a file that deployments name."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fastsim.deployment.fields import Group, count, name, setting
from fastsim.deployment.sections import Affine
from fastsim.errors import ConfigError
from fastsim.files.documents import Document, read
from fastsim.files.schema import validate
from fastsim.version import __version__

FORMAT = 1
EXAMPLE = "calibration.yaml"
LOW, HIGH = 0.8, 1.2  # of the factors on families of operators
Number = Annotated[float, Field(ge=-1e18, le=1e18)]
Text = Annotated[str, Field(max_length=4096)]


def listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def factor(operators: str) -> Any:
    valid = f"a number from {LOW} to {HIGH}"
    return setting(f"on the times of {operators}", valid, 1.05, default=1.0, ge=LOW, le=HIGH)


class Fitted(Group):
    """A coefficient as it was fitted, or left where it was.

    ``low`` and ``high`` are the ends of its 90 % interval, ``least`` and ``most`` the physical bounds that it was
    fitted within, and ``prior`` what it is where nothing is fitted. ``left`` says why it is the prior; "" if it is not.
    """

    name: str = name("of the coefficient", "constant_ns")
    value: Number = setting("of the coefficient", "a number", 1.0)
    low: Number | None = setting("end of the 90 % interval", "a number", 0.9, default=None)
    high: Number | None = setting("end of the 90 % interval", "a number", 1.1, default=None)
    prior: Number = setting("without a calibration", "a number", 0.0, default=0.0)
    least: Number = setting("physical bound", "a number", 0.0, default=0.0)
    most: Number = setting("physical bound", "a number", 1e9, default=1e18)
    left: Text = setting("why it is the prior", "text", "", default="")


class MeasuredOn(Group):
    """A file that coefficients were fitted on."""

    file: Text = setting("name of the file", "a name", "steps.parquet")
    sha256: Text = setting("of its content", "64 hexadecimal digits", "00" * 32)
    holds: Text = setting("what it holds", "text", "4,080 steps")


class HeldOut(Group):
    """How far predictions are from the part of the run that coefficients were not fitted on, in turn all of it."""

    name: str = name("of the figure", "TPOT mean")
    error: Number = setting("predicted over measured, less 1", "a number", 0.02)


class Factors(Group):
    """Factors on the operator times of each family, which stay close to 1: what is left when all else is fitted."""

    gemm: float = factor("matrix products")
    prefill_attention: float = factor("attention of prompts")
    decode_attention: float = factor("attention of decodes")
    experts: float = factor("experts")
    communication: float = factor("transfers between GPUs")
    elementwise: float = factor("all other operators")


class Host(Group):
    """Host time of a step that its GPUs wait for, in place of that of the engine's release."""

    host_ms_per_step: float = setting("once for a step", "a number from 0 up to 1000", 0.5, ge=0, le=1000)
    host_ms_per_sequence: float = setting("for each request", "a number from 0 up to 100", 0.02, ge=0, le=100)


class Calibration(Group):
    """What ``fastsim calibrate`` found, with what it was fitted on.

    Attributes
    ----------
    engine, model, device, source : of the deployment that it was fitted with; ``source`` of operator times.
    affine : terms of source affine.
    host : host time of a step, with other sources.
    factors : on operator times, with other sources.
    front_end_ms : from when a client sends a request until the scheduler sees it, ms.
    num_blocks : usable KV blocks of a replica, as the engine's log has them.
    coefficients : every one with its interval and bounds.
    fitted_on : the files, with their digests.
    held_out : errors on what was held out in turn.
    notes : what the data could not tell apart, one sentence each.
    """

    format: Literal[1] = setting("of this file", "1", FORMAT, default=1)
    fastsim: Text = setting("version that wrote it", "a version", __version__, default=__version__)
    engine: Text | None = setting("release of the engine", "a release", "vllm-0.19", default=None)
    model: Text = setting("of the deployment", "a model", "meta-llama/Meta-Llama-3-8B")
    device: Text = setting("of the deployment", "a device", "h100")
    source: Text = setting("of operator times", "a source", "affine")
    affine: Affine | None = setting("terms", "a group of settings", {"constant_ns": 2_000_000}, default=None)
    host: Host | None = setting("host time", "a group of settings", {"host_ms_per_step": 1.0}, default=None)
    factors: Factors = setting("on operator times", "a group of settings", {"gemm": 1.05}, default=Factors())
    front_end_ms: float | None = setting(
        "from a client to the scheduler, ms", "a number from 0 up to 60000", 6.0, default=None, ge=0, le=60_000
    )
    num_blocks: int | None = count("usable KV blocks of a replica", 8192, None, 2**31 - 1)
    coefficients: Annotated[tuple[Fitted, ...], BeforeValidator(listed)] = setting(
        "every coefficient", "a list", [], default=()
    )
    fitted_on: Annotated[tuple[MeasuredOn, ...], BeforeValidator(listed)] = setting(
        "files that were measured", "a list", [], default=()
    )
    held_out: Annotated[tuple[HeldOut, ...], BeforeValidator(listed)] = setting(
        "errors on what was held out", "a list", [], default=()
    )
    notes: Annotated[tuple[Text, ...], BeforeValidator(listed)] = setting("sentences", "a list", [], default=())

    @property
    def digest(self) -> str:
        """SHA-256 of its content, in hex."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        return f"calibration {self.digest[:12]}"


def load(path: str | Path) -> Calibration:
    """Read a calibration. Raises ConfigError."""
    document = read(Path(path).expanduser())
    if "format" not in document.values or "source" not in document.values:
        raise ConfigError(f"{path}: is no calibration, which has format and source (`fastsim calibrate` writes one)")
    if document.values["format"] != FORMAT:
        raise ConfigError(f"{path}: format: {document.values['format']!r} is not known here (valid: {FORMAT})")
    return validate(Calibration, document)


def written_out(value: Any) -> Any:
    """A calibration that a deployment holds, as that of a result does; the name of a file as it is."""
    if isinstance(value, dict):
        try:
            return validate(Calibration, Document(value))
        except ConfigError as problem:
            raise ValueError(str(problem)) from None
    if value is None or isinstance(value, Calibration) or (isinstance(value, str) and 0 < len(value) <= 4096):
        return value
    raise ValueError(f"{str(value)[:60]!r} is not the name of a calibration (e.g. {EXAMPLE})")
