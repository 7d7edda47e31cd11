"""What a deployment says of prices: a file of its own, offers to choose from, and what energy costs."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from fastsim.catalog import prices as catalog
from fastsim.catalog.device_names import same_gpu
from fastsim.catalog.hardware import Device
from fastsim.catalog.load import load_device, names
from fastsim.deployment.fields import Group, setting
from fastsim.errors import CatalogError, ConfigError, InputError
from fastsim.files.documents import read
from fastsim.files.schema import validate

EXAMPLE = "prices.yaml"
Text = Annotated[str, Field(max_length=4096)]
T = TypeVar("T")
MOST = 1e6  # dollars per GPU and hour


def text(meaning: str, example: str) -> Any:
    return setting(meaning, "text", example, default=None)


def dated(value: Any) -> Any:
    """A date or a year, which YAML reads as such, as text."""
    return str(value) if value is not None and not isinstance(value, bool | dict | list) else value


class Offer(Group):
    """What one GPU costs by the hour, from whom, and on which terms."""

    per_hour: float = setting("of one GPU, in the currency", "a number above 0 up to 1e6", 2.5, gt=0, le=1e6)
    kind: catalog.Kind = setting("on_demand, reserved or spot", "a kind", "spot", default="on_demand")
    cloud: Text | None = text("whose offer it is", "runpod")
    date: Annotated[Text | None, BeforeValidator(dated)] = text("of the price", "2026-11")
    source: Text | None = text("where it was read", "our contract")
    interruptions_per_hour: float | None = setting(
        "how often a replica is taken away, on spot", "a number from 0 up to 60", 0.05, default=None, ge=0, le=60
    )


class Energy(Group):
    """What the energy of GPUs costs, and what it emits."""

    per_kwh: float | None = setting(
        "price, in the currency", "a number from 0 up to 1e3", 0.12, default=None, ge=0, le=1e3
    )
    grams_co2_per_kwh: float | None = setting(
        "carbon intensity", "a number from 0 up to 1e5", 380.0, default=None, ge=0, le=1e5
    )
    date: Annotated[Text | None, BeforeValidator(dated)] = text("of these figures", "2026")
    source: Text | None = text("where they were read", "our bill")


def offers(value: Any) -> Any:
    """A number or one offer for a GPU as a list of one."""
    if not isinstance(value, dict):
        return value
    made: dict[Any, Any] = {}
    for gpu, given in value.items():
        several = given if isinstance(given, list | tuple) else [given]
        made[gpu] = tuple({"per_hour": one} if isinstance(one, int | float) else one for one in several)
    return made


def amounts(value: Any) -> Any:
    """``h100=2.10,a100=1.5`` as a mapping. Raises ValueError for what is no number of dollars above 0."""
    made: Any = value
    if isinstance(value, str):
        parts = [part.partition("=") for part in value.split(",")]
        made = {gpu.strip(): amount.strip() for gpu, _, amount in parts}
    if not isinstance(made, dict):
        return value
    dollars = {}
    for gpu, amount in made.items():
        try:
            dollars[gpu] = float(amount)
        except (TypeError, ValueError):
            dollars[gpu] = 0.0
        if not 0 < dollars[gpu] <= MOST:
            raise ValueError(f"{str(amount)[:60]!r} for {str(gpu)[:60]!r} is no number of dollars (e.g. h100=2.10)")
    return dollars


class Prices(Group):
    """The keys of a file of prices, and of ``prices`` in a deployment."""

    file: Text | None = text("a file with these keys, of which those beside it take the place", EXAMPLE)
    currency: str = setting(
        "of all amounts but dollars_per_hour", "three capital letters", "EUR", default="USD", pattern=r"\A[A-Z]{3}\z"
    )
    dollars: float | None = setting(
        "dollars for one unit of the currency", "a number above 0", 1.08, default=None, gt=0, le=1e9
    )
    gpus: Annotated[dict[str, tuple[Offer, ...]], BeforeValidator(offers)] = setting(
        "offers by GPU", "a mapping of GPUs to amounts or offers", {"h100": 2.1}, default={}
    )
    dollars_per_hour: Annotated[dict[str, float], BeforeValidator(amounts)] = setting(
        "prices by GPU, which come before all others", "a mapping of GPUs to dollars", {"h100": 2.1}, default={}
    )
    cloud: Text | None = text("whose offers to take", "runpod")
    kind: catalog.Kind | None = setting("which kind of offer to take", "a kind", "spot", default=None)
    energy: Energy | None = setting("of the GPUs", "a group of settings", {"per_kwh": 0.12}, default=None)

    def __hash__(self) -> int:  # mappings have none
        return hash(self.model_dump_json())


def written_out(value: Any) -> Any:
    """The prices that a deployment holds; a file, named alone or as ``file`` beside other keys, is read."""
    if isinstance(value, str):
        value = {"file": value}
    if not isinstance(value, dict):
        return value
    if (file := value.get("file")) is None:
        return value
    try:
        return load(str(file)).model_dump(exclude_unset=True) | {**value, "file": None}
    except InputError as problem:
        raise ValueError(str(problem)) from None


def load(path: str | Path) -> Prices:
    """Read a file of prices. Raises ConfigError."""
    return validate(Prices, read(Path(path).expanduser()))


def price_of(device: Device, prices: Prices | None) -> catalog.Price | None:
    """What a GPU costs: as a deployment says, else as the catalog or the file of the GPU does; None: it is not known.

    Raises ConfigError for a GPU that does not exist, for a currency without its value in dollars, and where no offer
    is of the cloud and the kind that are asked for.
    """
    known = catalog.listed().get(device.name, ())
    if not known and device.price_per_hour is not None:
        known = (catalog.Price(device.price_per_hour, device.price_per_hour, source=device.source),)
    if prices is None:
        return known[0] if known else None
    amount = _own(prices.dollars_per_hour, device, "prices.dollars_per_hour")
    if amount is not None:
        return catalog.Price(amount, amount, source="given")
    known = (*_converted(_own(prices.gpus, device, "prices.gpus") or (), prices), *known)
    fits = [
        one
        for one in known
        if (prices.cloud is None or one.cloud == prices.cloud) and (prices.kind is None or one.kind == prices.kind)
    ]
    if known and not fits:
        have = ", ".join(dict.fromkeys(" of ".join(filter(None, (one.kind, one.cloud))) for one in known))
        asked = " and ".join(filter(None, (prices.kind, prices.cloud and f"of {prices.cloud}")))
        raise ConfigError(f"prices: no price of {device.name} is {asked} (valid: {have})")
    return fits[0] if fits else None


def in_dollars(prices: Prices, amount: float) -> float:
    """An amount in the currency of the prices, in dollars. Raises ConfigError where its value is not given."""
    if prices.currency == "USD":
        return amount
    if prices.dollars is None:
        raise ConfigError(
            f"prices.dollars: missing; say what one {prices.currency} is worth in dollars (e.g. dollars: 1.08)"
        )
    return amount * prices.dollars


def _converted(given: tuple[Offer, ...], prices: Prices) -> list[catalog.Price]:
    return [
        catalog.Price(dollars=in_dollars(prices, one.per_hour), currency=prices.currency, **one.model_dump())
        for one in given
    ]


def _own(given: dict[str, T], device: Device, where: str) -> T | None:
    """What is given for a GPU, under its name or an alias of it."""
    found = None
    for gpu, value in given.items():
        try:
            named = gpu if gpu == device.name else load_device(gpu).name
        except CatalogError:
            raise ConfigError(f"{where}: {gpu[:60]!r} is unknown; {same_gpu(gpu, names('devices'))}") from None
        if named == device.name:
            found = value
    return found
