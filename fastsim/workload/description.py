"""The schema of a synthetic workload: a distribution of lengths, and a distribution of gaps between arrivals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.documents import Document, short
from fastsim.files.schema import validate
from fastsim.workload.checks import MAX_TOKENS
from fastsim.workload.workload import MAX_REQUESTS

# ``description`` and ``examples`` complete the message "... is not DESCRIPTION (e.g. EXAMPLE)".
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS, description="a whole number from 1 to 10 million", examples=[512])]
Rate = Annotated[float, Field(ge=1e-9, le=1e9, description="requests per second from 1e-9 to 1e9", examples=[2.0])]
Seconds = Annotated[float, Field(ge=0, le=1e9, description="a time in seconds from 0 to 1e9", examples=[5.0])]
File = Annotated[str, Field(min_length=1, max_length=4096, description="the name of a file", examples=["requests.csv"])]


def _ascending(values: Any) -> Any:
    """Check a whole list at once, so that a message shows the list and not only one of its values."""
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) < 2 or sorted(values) != values or not values[0] > 0:
        raise ValueError
    return values


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Range(_Settings):
    """Whole numbers of tokens from ``min`` to ``max``, both included."""

    min: Tokens
    max: Tokens

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError
        return self


class Quantiles(_Settings):
    """A distribution by its quantiles (knots).

    Between two knots the log of the length is linear in the normal score of the probability, so that two knots make a
    lognormal distribution. Below the first and above the last knot the length stays the same.
    """

    probability: Annotated[list[float], BeforeValidator(_ascending)] = Field(
        description="ascending probabilities above 0 and below 1", examples=[[0.1, 0.5, 0.9]]
    )
    tokens: Annotated[list[int], BeforeValidator(_ascending)] = Field(
        description="ascending whole numbers of tokens, at least two", examples=[[50, 400, 1600]]
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        distinct = len(set(self.probability)) == len(self.probability) == len(self.tokens)
        if not distinct or self.probability[-1] >= 1 or self.tokens[-1] > MAX_TOKENS:
            raise ValueError
        return self


Span = Annotated[Range, Field(description="a range whose min is at most its max", examples=[{"min": 64, "max": 1024}])]
Knots = Annotated[
    Quantiles,
    Field(
        description="quantiles: as many tokens as different probabilities below 1",
        examples=[{"probability": [0.1, 0.5, 0.9], "tokens": [50, 400, 1600]}],
    ),
]


class FixedLengths(_Settings):
    """All requests have the same lengths."""

    kind: Literal["fixed"]
    num_prompt_tokens: Tokens
    num_output_tokens: Tokens


class UniformLengths(_Settings):
    """Every length of a range is equally probable; prompt and output are independent."""

    kind: Literal["uniform"]
    num_prompt_tokens: Span
    num_output_tokens: Span


class ZipfLengths(_Settings):
    """The k-th shortest length of a range has weight k**-exponent; prompt and output are independent."""

    kind: Literal["zipf"]
    num_prompt_tokens: Span
    num_output_tokens: Span
    exponent: float = Field(1.0, ge=0, le=100, description="a number from 0 to 100", examples=[1.0])


class QuantileLengths(_Settings):
    """Prompt and output have the given quantiles; a Gaussian copula with this correlation joins them."""

    kind: Literal["quantiles"]
    num_prompt_tokens: Knots
    num_output_tokens: Knots
    correlation: float = Field(0.0, ge=-1, le=1, description="a number from -1 to 1", examples=[0.2])


class TraceLengths(_Settings):
    """The lengths of a file, which needs no arrival times.

    Its rows are drawn at random with replacement, or repeated in the order of the file.
    """

    kind: Literal["trace"]
    file: File
    order: Literal["random", "file"] = Field("random", description="an order", examples=["random"])


class StaticGaps(_Settings):
    """All gaps are 1/rate; without a rate, all requests arrive at time 0."""

    kind: Literal["static"]
    rate: Rate | None = None


class PoissonGaps(_Settings):
    """Gaps are independent and exponential, with mean 1/rate. They have no limit, whereas Vidur cuts them at 3/rate."""

    kind: Literal["poisson"]
    rate: Rate


class GammaGaps(_Settings):
    """Gaps are independent and gamma distributed, with mean 1/rate and standard deviation cv/rate.

    With cv above 1 arrivals are burstier than Poisson.
    """

    kind: Literal["gamma"]
    rate: Rate
    cv: float = Field(ge=0.01, le=100, description="a number from 0.01 to 100", examples=[2.0])


class TraceGaps(_Settings):
    """The gaps of a file, repeated; with a rate, they are stretched to this mean rate."""

    kind: Literal["trace"]
    file: File
    rate: Rate | None = None
    unit: Literal["s", "ms", "us", "ns"] | None = Field(
        None, description="a unit of time: s, ms, us or ns", examples=["ms"]
    )  # of the file's times; by default that of its layout


class Exponential(_Settings):
    """Times are independent and exponential."""

    kind: Literal["exponential"]
    mean: Seconds


class ClosedLoop(_Settings):
    """As many users as ``concurrency``, who each wait for their answer, think, and send the next request of the stream.

    The first requests arrive evenly over ``ramp_up``.
    """

    kind: Literal["closed_loop"]
    concurrency: int = Field(ge=1, lt=2**31, description="a whole number of users from 1", examples=[64])
    think_time: Seconds | Exponential = Field(
        0.0, description="a time in seconds, or a distribution", examples=[{"kind": "exponential", "mean": 5.0}]
    )
    ramp_up: Seconds = Field(0.0, examples=[10.0])


Lengths = FixedLengths | UniformLengths | ZipfLengths | QuantileLengths | TraceLengths
Gaps = StaticGaps | PoissonGaps | GammaGaps | TraceGaps | ClosedLoop
L = TypeVar("L", bound=Lengths)
G = TypeVar("G", bound=Gaps)


class Description(_Settings, Generic[L, G]):
    """A synthetic workload: distributions of lengths and gaps, the number of requests, and a seed."""

    lengths: L = Field(description="a group of settings", examples=[{"kind": "fixed"}])
    gaps: G = Field(description="a group of settings", examples=[{"kind": "poisson", "rate": 2.0}])
    num_requests: int = Field(1000, ge=1, le=MAX_REQUESTS, description="a whole number from 1 to 1e9", examples=[1000])
    max_tokens: int | None = Field(
        None, ge=2, le=2 * MAX_TOKENS, description="a whole number from 2 to 20 million", examples=[4096]
    )  # of prompt and output together; longer requests shrink to it in proportion
    max_concurrency: int | None = Field(
        None, ge=1, lt=2**31, description="a whole number of requests from 1", examples=[64]
    )  # that the clients have in flight at most
    seed: int = Field(0, ge=0, lt=2**63, description="an integer from 0", examples=[0])
    about: str | None = Field(None, description="text", examples=["chat, short answers"])


def parse(
    document: Document, rate: float | None = None, asked: Mapping[str, Any] | None = None
) -> "Description[Any, Any]":
    """Parse the description in a document; ``rate`` and the settings in ``asked`` replace those of the document.

    File names in it are relative to the document. Raises ConfigError when the description is not valid.
    """
    values = document.values | dict(asked or {})
    if "gaps" not in values and "concurrency" in values:
        values["gaps"] = {"kind": "closed_loop", "concurrency": values.pop("concurrency")}
    values.setdefault("gaps", {"kind": "poisson"})
    if rate is not None and isinstance(values["gaps"], dict):
        if values["gaps"].get("kind") == "closed_loop":
            where = document.where(("gaps",))
            raise ConfigError(
                f"{where}: rate: {rate:g} cannot be given to a closed loop, whose requests arrive when others have "
                "finished; change its concurrency"
            )
        values["gaps"] = values["gaps"] | {"rate": rate}
    document = replace(document, values=values)
    kinds = [_kind(document, section, group) for section, group in (("lengths", Lengths), ("gaps", Gaps))]
    described = validate(Description[kinds[0], kinds[1]], document)  # type: ignore[valid-type]
    folder = Path(document.source).parent
    moved = {
        name: part.model_copy(update={"file": str(folder / part.file)})
        for name in ("lengths", "gaps")
        if (part := getattr(described, name)) and isinstance(part, TraceLengths | TraceGaps)
    }
    return described.model_copy(update=moved)


def _kind(document: Document, section: str, group: Any) -> type[_Settings]:
    """Return the class for the ``kind`` that a section of the document names. Raises ConfigError."""
    kinds: dict[str, type[_Settings]] = {
        get_args(one.model_fields["kind"].annotation)[0]: one for one in get_args(group)
    }
    settings = document.values.get(section)
    if not isinstance(settings, dict):
        found = "missing" if section not in document.values else f"{short(settings)} is not a group of settings"
        raise ConfigError(f"{document.where((section,))}: {found} (e.g. kind: {next(iter(kinds))})")
    if "kind" not in settings:
        raise ConfigError(f"{document.where((section,))}: kind is missing; valid: {', '.join(kinds)}")
    kind = settings["kind"]
    if kind not in list(kinds):
        where = document.where((section, "kind"))
        raise ConfigError(f"{where}: {short(kind)} is unknown; {did_you_mean(short(kind), kinds)}")
    return kinds[kind]
