"""The schema of a workload that several tenants send, each with lengths and gaps of its own."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field

from fastsim.errors import ConfigError
from fastsim.files.documents import Document, short
from fastsim.files.schema import ONE_LINE, validate
from fastsim.workload import description
from fastsim.workload.checks import MAX_NAME
from fastsim.workload.description import Description, chosen
from fastsim.workload.fields import Rate, Settings
from fastsim.workload.gaps import ClosedLoop, Gaps, mean_rate

MAX_TENANTS = 1000
INHERITED = ("lengths", "gaps", "prefix", "sessions", "max_tokens")


class Tenant(Settings):
    """Whose requests these are, and how many of all.

    A tenant further has the settings of a description; those that it lacks are the ones beside ``tenants``.

    Parameters
    ----------
    name : str
        The value of the column tenant.
    share : float, optional
        Of all requests, in proportion to the shares of the others. The rate is that of the gaps beside ``tenants``.
    rate : float, optional
        Requests/s of this tenant. By default the rate of its own gaps.
    priority : int
        The value of the column priority, of which lower ones go first. By default 0.
    """

    name: str = Field(
        min_length=1, max_length=MAX_NAME, pattern=ONE_LINE, description="a name of one line", examples=["interactive"]
    )
    share: float | None = Field(None, ge=0, le=1e9, description="a number from 0 to 1e9", examples=[0.5])
    rate: Rate | None = None
    priority: int | None = Field(None, ge=-(2**31), lt=2**31, description="a whole number", examples=[0])


class Mixture(Settings):
    """Several tenants, the rate of each (requests/s), and what they have in common."""

    tenants: tuple[Tenant, ...]
    parts: tuple[Description, ...]  # of each tenant
    rates: tuple[float, ...]
    common: Description


def parse(
    document: Document, rate: float | None = None, asked: Mapping[str, Any] | None = None
) -> Description | Mixture:
    """Parse the description in a document, as ``description.parse`` does, whether it has tenants or not."""
    if "tenants" not in document.values:
        return description.parse(document, rate, asked)
    values = document.values | dict(asked or {})
    document = replace(document, values=values)
    parts, tenants = _tenants(document)
    with_shares = any(tenant.share is not None for tenant in tenants)
    rates = _by_share(document, tenants, rate) if with_shares else _by_rate(document, parts, tenants, rate)
    described = [description.parse(part, each or 1.0) for part, each in zip(parts, rates, strict=True)]
    for index, part in enumerate(described):
        if isinstance(part.gaps, ClosedLoop):
            raise ConfigError(f"{document.where(('tenants', index))}: the users of a closed loop have no tenants yet")
    own = {key: value for key, value in values.items() if key not in ("tenants", *INHERITED)}
    first = {"lengths": described[0].lengths, "gaps": described[0].gaps}
    common = validate(Description, replace(document, values=own | first))
    return Mixture(tenants=tuple(tenants), parts=tuple(described), rates=tuple(rates), common=common)


def _tenants(document: Document) -> tuple[list[Document], list[Tenant]]:
    """The description of each tenant, with what it inherits, and its own settings. Raises ConfigError."""
    listed = document.values["tenants"]
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_TENANTS:
        valid = f"a list of 1 to {MAX_TENANTS:,} tenants (e.g. name: interactive, share: 1)"
        raise ConfigError(f"{document.where(('tenants',))}: {short(listed)} is not {valid}")
    inherited = {key: document.values[key] for key in INHERITED if key in document.values}
    common = set(Description.model_fields) - set(INHERITED)
    parts, tenants = [], []
    for index, values in enumerate(listed):
        place = ("tenants", index)
        if not isinstance(values, dict):
            raise ConfigError(f"{document.where(place)}: {short(values)} is not a group of settings (e.g. share: 1)")
        part = document.part(*place)
        if misplaced := sorted(common & set(values)):
            raise ConfigError(f"{document.where((*place, misplaced[0]))}: belongs beside tenants, not in one of them")
        own = {key: value for key, value in values.items() if key in Tenant.model_fields}
        tenants.append(validate(Tenant, replace(part, values=own)))
        rest = {key: value for key, value in values.items() if key not in Tenant.model_fields}
        size = {key: document.values[key] for key in ("block_size",) if key in document.values}
        parts.append(replace(part, values=inherited | rest | size))
    names = [tenant.name for tenant in tenants]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigError(f"{document.where(('tenants', index, 'name'))}: {short(name)} is there twice; rename one")
    return parts, tenants


def _by_share(document: Document, tenants: list[Tenant], rate: float | None) -> list[float]:
    """The rates of tenants that have shares, requests/s. Raises ConfigError."""
    for index, tenant in enumerate(tenants):
        if tenant.share is None or tenant.rate is not None:
            where = document.where(("tenants", index))
            raise ConfigError(f"{where}: where one tenant has a share, all need one, and no rate (e.g. share: 0.5)")
    shares = [tenant.share or 0.0 for tenant in tenants]
    if not sum(shares) > 0:
        raise ConfigError(f"{document.where(('tenants',))}: the shares sum to 0; give one of them above 0 (e.g. 1)")
    if rate is None:
        values = {"gaps": {"kind": "poisson"}} | document.values
        rate = mean_rate(chosen(replace(document, values=values), ("gaps",), Gaps))  # type: ignore[arg-type]
    if rate is None:
        raise ConfigError(f"{document.where(('gaps',))}: tenants with shares need the rate of all (e.g. rate: 2.0)")
    return [rate * share / sum(shares) for share in shares]


def _by_rate(document: Document, parts: list[Document], tenants: list[Tenant], rate: float | None) -> list[float]:
    """The rates of tenants that have none of a whole, scaled to the sum ``rate``, requests/s. Raises ConfigError."""
    rates = []
    for index, (part, tenant) in enumerate(zip(parts, tenants, strict=True)):
        own: Any = tenant.rate
        if own is None and "gaps" in document.values["tenants"][index]:
            own = mean_rate(chosen(part, ("gaps",), Gaps))  # type: ignore[arg-type]
        if own is None:
            where = document.where(("tenants", index))
            raise ConfigError(f"{where}: how many of the requests it sends is missing (e.g. share: 0.5, or rate: 2.0)")
        rates.append(own)
    return [own * (1 if rate is None else rate / sum(rates)) for own in rates]
