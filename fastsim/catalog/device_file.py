"""The file that describes a GPU which the catalog does not have; ``device: my_gpu.yaml`` names it."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fastsim.catalog.hardware import Device
from fastsim.errors import ConfigError
from fastsim.files.documents import read
from fastsim.files.schema import ONE_LINE, validate

MAX = 1e9  # of every figure, in its unit
HELD_GIB = 0.6  # of the memory that the driver reports, what it keeps for itself; of small GPUs 3 % at most


def _number(meaning: str, example: float, **limits: Any) -> Any:
    valid = f"a number {'above' if 'gt' in limits else 'from'} 0 up to 1e9"
    return Field(description=meaning, examples=[example], json_schema_extra={"valid": valid}, le=MAX, **limits)


def _name(meaning: str, example: str, **default: Any) -> Any:
    return Field(
        description=meaning,
        examples=[example],
        json_schema_extra={"valid": "a name"},
        pattern=ONE_LINE,
        max_length=4096,
        **default,
    )


def _version(given: object) -> object:
    """A version without quotes is a number in YAML."""
    return str(given) if isinstance(given, float) else given


class DeviceFile(BaseModel):
    """The keys of the file. They are those of the catalog's devices.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = _name("the name of the device in the rows of a profile", "my_gpu", min_length=1)
    architecture: str | None = _name("as the catalog's GPUs have it", "hopper", default=None)
    compute_capability: Annotated[str | None, BeforeValidator(_version)] = Field(
        description="of NVIDIA's CUDA",
        examples=["9.0"],
        json_schema_extra={"valid": "a version such as 9.0"},
        pattern=r"\A[0-9]{1,2}\.[0-9]\z",
        default=None,
    )
    memory_gib: float = _number("as the driver reports it", 80, gt=0)
    torch_memory_gib: float | None = _number(
        "as torch sees it; memory_gib less 0.6 if left out", 79.1, gt=0, default=None
    )
    bandwidth_gb_s: float = _number("10^9 bytes per second", 3350, gt=0)
    tflops: dict[str, Annotated[float, Field(gt=0, le=MAX)]] = Field(
        description="dense, by type",
        examples=[{"bf16": 989.4}],
        json_schema_extra={"valid": "a mapping of types to numbers above 0 up to 1e9, with bf16"},
    )
    num_sms: int = Field(
        description="streaming multiprocessors",
        examples=[132],
        json_schema_extra={"valid": "a positive integer up to 1e9"},
        ge=1,
        le=int(MAX),
    )
    price_per_hour: float | None = _number("$; without it, costs are left out", 2.5, ge=0, default=None)
    power_w: float = _number("rated", 700, ge=0, default=0.0)
    mixed_decode: float = _number(
        "time of decode attention in a batch with prompts over that without", 1, ge=1, default=1.0
    )
    skew: float = _number("decode attention sees mean + skew * (max - mean) KV tokens", 0, ge=0, default=0.0)
    predictor: str | None = _name("the system whose forests it shares", "h100_sxm", default=None)
    source: str = _name("where the figures are from", "its data sheet", default="its own file")


def load(path: Path) -> Device:
    """Read a device from a file. Raises ConfigError with the file, the key, its value and a valid value."""
    document = read(path)
    given = validate(DeviceFile, document)
    if "bf16" not in given.tflops:
        raise ConfigError(f"{document.where(('tflops',))}: {given.tflops} has no bf16 (e.g. {{bf16: 989.4}})")
    seen = given.torch_memory_gib or given.memory_gib - min(HELD_GIB, 0.03 * given.memory_gib)
    return Device(**given.model_dump() | {"torch_memory_gib": seen})
