"""Kinds of values that descriptions of workloads hold, with what messages say of them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from fastsim.workload.checks import MAX_TOKENS

# ``description`` and ``examples`` complete the message "... is not DESCRIPTION (e.g. EXAMPLE)".
Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS, description="a whole number from 1 to 10 million", examples=[512])]
Rate = Annotated[float, Field(ge=1e-9, le=1e9, description="requests per second from 1e-9 to 1e9", examples=[2.0])]
Level = Annotated[float, Field(ge=0, le=1e9, description="requests per second from 0 to 1e9", examples=[2.0])]
Seconds = Annotated[float, Field(ge=0, le=1e9, description="a time in seconds from 0 to 1e9", examples=[5.0])]
Duration = Annotated[float, Field(ge=1e-3, le=1e9, description="seconds from 0.001 to 1e9", examples=[600.0])]
File = Annotated[str, Field(min_length=1, max_length=4096, description="the name of a file", examples=["requests.csv"])]


class Settings(BaseModel):
    """A group of settings of a description."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Range(Settings):
    """Whole numbers of tokens from ``min`` to ``max``, both included."""

    min: Tokens
    max: Tokens

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError
        return self


def _as_range(value: Any) -> Any:
    return {"min": value, "max": value} if isinstance(value, int | float) else value


Span = Annotated[Range, Field(description="a range whose min is at most its max", examples=[{"min": 64, "max": 1024}])]
SpanOrNumber = Annotated[Span, BeforeValidator(_as_range)]


class FixedTime(Settings):
    """All times are equal."""

    kind: Literal["fixed"]
    seconds: Seconds


class Exponential(Settings):
    """Times are independent and exponential."""

    kind: Literal["exponential"]
    mean: Seconds


class LognormalTime(Settings):
    """Times are independent and lognormal; ``sigma`` is the standard deviation of their natural log."""

    kind: Literal["lognormal"]
    median: Seconds
    sigma: float = Field(gt=0, le=10, description="a number above 0 and up to 10", examples=[0.8])


def _as_fixed(value: Any) -> Any:
    return {"kind": "fixed", "seconds": value} if isinstance(value, int | float) else value


Times = Annotated[
    FixedTime | Exponential | LognormalTime,
    Field(
        discriminator="kind",
        description="a time in seconds, or a distribution",
        examples=[{"kind": "exponential", "mean": 5.0}],
    ),
    BeforeValidator(_as_fixed),
]


def ascending(values: Any) -> Any:
    """Check a whole list at once, so that a message shows the list and not only one of its values."""
    numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
    if not numbers or len(values) < 2 or sorted(values) != values or not values[0] > 0:
        raise ValueError
    return values


Ascending = BeforeValidator(ascending)
