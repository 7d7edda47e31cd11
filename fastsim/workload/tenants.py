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
from fastsim.workload.users import numbers

MAX_TENANTS = 1000
INHERITED = ("lengths", "gaps", "prefix", "sessions", "max_tokens")


class Tenant(Settings):
    """Whose requests these are, and how many of all.

    A tenant further has the settings of a description; those that it lacks are the ones beside ``tenants``. Where its
    gaps are a closed loop, it has users of its own, who each wait for their answers; the users of a closed loop beside
    ``tenants`` are shared among the tenants without gaps. Each user then has a session_id, and sends requests of their
    own.

    Parameters
    ----------
    name : str
        The value of the column tenant.
    share : float, optional
        Of all requests, in proportion to the shares of the others. The rate is that of the gaps beside ``tenants``,
        which the tenants without users make up together. By default, where all tenants have users, their number.
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
    """Several tenants, and what they have in common.

    ``rates``: of each tenant, requests/s, 0 for one with users. ``weights``: of all requests, in proportion.
    """

    tenants: tuple[Tenant, ...]
    parts: tuple[Description, ...]  # of each tenant
    rates: tuple[float, ...]
    weights: tuple[float, ...]
    common: Description


def parse(
    document: Document, rate: float | None = None, asked: Mapping[str, Any] | None = None
) -> Description | Mixture:
    """Parse the description in a document, as ``description.parse`` does, whether it has tenants or not."""
    if "tenants" not in document.values:
        return description.parse(document, rate, asked)
    document = replace(document, values=_with_loops(document.values | dict(asked or {})))
    parts, tenants = _tenants(document)
    closed = [_waits(part.values.get("gaps")) for part in parts]
    shares = _shares(document, tenants, closed)
    if any(closed):
        parts = _with_users(document, parts, shares)
        rates = _beside_users(document, parts, shares, closed, rate)
    elif shares is not None:
        rates = _by_share(document, shares, rate)
    else:
        rates = _by_rate(document, parts, tenants, rate)
    described = [
        description.parse(part, None if waits else each or 1.0)
        for part, each, waits in zip(parts, rates, closed, strict=True)
    ]
    users = [part.gaps.concurrency if isinstance(part.gaps, ClosedLoop) else 0 for part in described]
    own = {key: value for key, value in document.values.items() if key not in ("tenants", *INHERITED)}
    first = {"lengths": described[0].lengths, "gaps": described[0].gaps}
    common = validate(Description, replace(document, values=own | first))
    return Mixture(
        tenants=tuple(tenants),
        parts=tuple(described),
        rates=tuple(rates),
        weights=tuple(shares or map(float, users)),
        common=common,
    )


def _waits(gaps: Any) -> bool:
    """Whether gaps, as a description has them, are those of users who wait for their answers."""
    return isinstance(gaps, dict) and gaps.get("kind") == "closed_loop"


def _with_loops(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a document in which ``concurrency`` alone stands for a closed loop, also in tenants."""

    def spelled(group: Any) -> Any:
        if not isinstance(group, dict) or "concurrency" not in group or "gaps" in group:
            return group
        rest = {key: value for key, value in group.items() if key != "concurrency"}
        return rest | {"gaps": {"kind": "closed_loop", "concurrency": group["concurrency"]}}

    listed, whole = values["tenants"], {**spelled(values)}
    return whole | {"tenants": [*map(spelled, listed)] if isinstance(listed, list) else listed}


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


def _shares(document: Document, tenants: list[Tenant], closed: list[bool]) -> list[float] | None:
    """The shares of all requests; None where no tenant has one, and none needs one. Raises ConfigError.

    ``closed``: the tenants with users who wait for their answers. All need a share unless each has users of its own.
    """
    own = all(closed) and all("gaps" in values for values in document.values["tenants"])
    if (own or not any(closed)) and all(tenant.share is None for tenant in tenants):
        for index, tenant in enumerate(tenants):
            if closed[index] and tenant.rate is not None:
                where = document.where(("tenants", index, "rate"))
                raise ConfigError(f"{where}: {tenant.rate:g} cannot be given to users who wait; change concurrency")
        return None
    why = "beside users who wait for their answers" if any(closed) else "where one tenant has a share"
    for index, tenant in enumerate(tenants):
        if tenant.share is None or tenant.rate is not None:
            where = document.where(("tenants", index))
            raise ConfigError(f"{where}: {why}, all tenants need a share, and no rate (e.g. share: 0.5)")
    shares = [tenant.share or 0.0 for tenant in tenants]
    if not sum(shares) > 0:
        raise ConfigError(f"{document.where(('tenants',))}: the shares sum to 0; give one of them above 0 (e.g. 1)")
    return shares


def _by_share(document: Document, shares: list[float], rate: float | None) -> list[float]:
    """The rates of tenants with these shares, requests/s. Raises ConfigError."""
    if rate is None:
        values = {"gaps": {"kind": "poisson"}} | document.values
        rate = mean_rate(chosen(replace(document, values=values), ("gaps",), Gaps))  # type: ignore[arg-type]
    if rate is None:
        raise ConfigError(f"{document.where(('gaps',))}: tenants with shares need the rate of all (e.g. rate: 2.0)")
    return [rate * share / max(sum(shares), 1e-300) for share in shares]


def _beside_users(
    document: Document, parts: list[Document], shares: list[float] | None, closed: list[bool], rate: float | None
) -> list[float]:
    """The rates of tenants of which some have users, who have none, requests/s. Raises ConfigError."""
    if shares is None or all(closed):
        if rate is not None:
            raise ConfigError(
                f"{document.where(('tenants',))}: rate: {rate:g} cannot be given to users who wait for their answers; "
                "change their concurrency"
            )
        return [0.0] * len(parts)
    of_open = [0.0 if waits else share for share, waits in zip(shares, closed, strict=True)]
    if not _waits(document.values.get("gaps")):
        return _by_share(document, of_open, rate)
    rates = []
    for index, (part, waits) in enumerate(zip(parts, closed, strict=True)):
        own = 0.0 if waits else mean_rate(chosen(part, ("gaps",), Gaps))  # type: ignore[arg-type]
        if own is None:
            where = document.where(("tenants", index, "gaps"))
            raise ConfigError(f"{where}: a tenant beside the users of a closed loop needs a rate (e.g. rate: 2.0)")
        rates.append(own)
    return [own * (1 if rate is None else rate / sum(rates)) for own in rates]


def _with_users(document: Document, parts: list[Document], shares: list[float] | None) -> list[Document]:
    """The descriptions of tenants, where the users of a closed loop beside them are shared out. Raises ConfigError."""
    gaps = document.values.get("gaps", {})
    if not _waits(gaps) or shares is None:
        return parts
    listed = document.values["tenants"]
    those = [index for index, share in enumerate(shares) if share and "gaps" not in listed[index]]
    loop = chosen(document, ("gaps",), Gaps)
    assert isinstance(loop, ClosedLoop)
    if loop.concurrency < len(those):
        where = document.where(("gaps", "concurrency"))
        raise ConfigError(f"{where}: {loop.concurrency} users are too few for {len(those)} tenants (e.g. {len(those)})")
    more = numbers([shares[index] for index in those], loop.concurrency - len(those)) if those else []
    made = list(parts)
    for index, users in zip(those, more, strict=True):
        values = parts[index].values | {"gaps": gaps | {"concurrency": 1 + users}}
        made[index] = replace(parts[index], values=values)
    return made


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
