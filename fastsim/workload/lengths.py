"""The schema of the lengths of prompts and outputs; ``fastsim.workload.tokens`` draws them."""

from math import erf, log
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fastsim.workload.checks import MAX_TOKENS
from fastsim.workload.fields import Ascending, File, Settings, Span, Tokens

LEAST = 1e-6  # of a distribution, that lies within its limits


class Quantiles(Settings):
    """A distribution by its quantiles (knots).

    Between two knots the log of the length is linear in the normal score of the probability, so that two knots make a
    lognormal distribution. Below the first and above the last knot the length stays the same.
    """

    probability: Annotated[list[float], Ascending] = Field(
        description="ascending probabilities above 0 and below 1", examples=[[0.1, 0.5, 0.9]]
    )
    tokens: Annotated[list[int], Ascending] = Field(
        description="ascending whole numbers of tokens, at least two", examples=[[50, 400, 1600]]
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        distinct = len(set(self.probability)) == len(self.probability) == len(self.tokens)
        if not distinct or self.probability[-1] >= 1 or self.tokens[-1] > MAX_TOKENS:
            raise ValueError
        return self


class Normal(Settings):
    """A normal distribution, truncated to whole numbers from ``min`` to ``max``: what lies outside is left out.

    ``mean`` and ``std`` are those before.
    """

    mean: float = Field(ge=1, le=MAX_TOKENS, description="tokens from 1 to 10 million", examples=[512])
    std: float = Field(gt=0, le=MAX_TOKENS, description="tokens above 0 and up to 10 million", examples=[128])
    min: Tokens = 1
    max: Tokens = MAX_TOKENS

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_limits(self.mean, self.std, self.min - 0.5, self.max + 0.5, f"{self.min} to {self.max}")
        return self


class Lognormal(Settings):
    """A lognormal distribution, truncated to whole numbers from ``min`` to ``max``: what lies outside is left out.

    ``sigma`` is the standard deviation of the natural log. Either the median or the mean, both before, is given.
    """

    median: float | None = Field(None, ge=1, le=MAX_TOKENS, description="tokens from 1 to 10 million", examples=[512])
    mean: float | None = Field(None, ge=1, le=MAX_TOKENS, description="tokens from 1 to 10 million", examples=[512])
    sigma: float = Field(gt=0, le=10, description="a number above 0 and up to 10", examples=[0.8])
    min: Tokens = 1
    max: Tokens = MAX_TOKENS

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.median is None) == (self.mean is None):
            raise ValueError("give either median or mean (e.g. median: 512)")
        limits = f"{self.min} to {self.max}"
        _check_limits(self.mu, self.sigma, log(self.min - 0.5), log(self.max + 0.5), limits)
        return self

    @property
    def mu(self) -> float:
        """The mean of the natural log."""
        return log(self.median) if self.median is not None else log(self.mean or 1) - self.sigma**2 / 2


class Observed(Settings):
    """A histogram, or the lengths that the same column of a file has.

    The i-th bin holds the whole numbers from ``edges[i]`` to ``edges[i + 1] - 1``, all equally probable; its
    probability is in proportion to ``weights[i]``.
    """

    edges: Annotated[list[int], Ascending] | None = Field(
        None, description="ascending whole numbers of tokens, at least two", examples=[[1, 129, 513]]
    )
    weights: list[float] | None = Field(None, description="a list of numbers from 0", examples=[[3, 1]])
    file: File | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.edges is None) == (self.file is None) or (self.edges is None) != (self.weights is None):
            raise ValueError("give either edges and weights (e.g. edges: [1, 129, 513], weights: [3, 1]), or a file")
        if self.edges is None or self.weights is None:
            return self
        if len(set(self.edges)) < len(self.edges) or self.edges[-1] > MAX_TOKENS + 1:
            raise ValueError("edges: give different whole numbers of tokens from 1 to 10 million (e.g. [1, 129, 513])")
        if len(self.weights) != len(self.edges) - 1:
            valid = f"{len(self.edges)} edges need {len(self.edges) - 1}"
            raise ValueError(f"weights: {len(self.weights)} weights are given, and {valid}")
        if min(self.weights) < 0 or not 0 < sum(self.weights) < 1e300:
            raise ValueError("weights: give numbers from 0, not all of them 0 (e.g. [3, 1])")
        return self


def _check_limits(mean: float, std: float, low: float, high: float, limits: str) -> None:
    """Raise ValueError if so little of a normal distribution is within its limits that it cannot be drawn from."""
    within = (erf((high - mean) / std / 2**0.5) - erf((low - mean) / std / 2**0.5)) / 2
    if within < LEAST:
        raise ValueError(f"less than a millionth of the distribution is within {limits} tokens; widen min and max")


Knots = Annotated[
    Quantiles,
    Field(
        description="quantiles: as many tokens as different probabilities below 1",
        examples=[{"probability": [0.1, 0.5, 0.9], "tokens": [50, 400, 1600]}],
    ),
]
Correlation = Annotated[float, Field(ge=-1, le=1, description="a number from -1 to 1", examples=[0.2])]


class FixedLengths(Settings):
    """All requests have the same lengths."""

    kind: Literal["fixed"]
    num_prompt_tokens: Tokens
    num_output_tokens: Tokens


class UniformLengths(Settings):
    """Every length of a range is equally probable; prompt and output are independent."""

    kind: Literal["uniform"]
    num_prompt_tokens: Span
    num_output_tokens: Span


class ZipfLengths(Settings):
    """The k-th shortest length of a range has weight k**-exponent; prompt and output are independent."""

    kind: Literal["zipf"]
    num_prompt_tokens: Span
    num_output_tokens: Span
    exponent: float = Field(1.0, ge=0, le=100, description="a number from 0 to 100", examples=[1.0])


class QuantileLengths(Settings):
    """Prompt and output have the given quantiles; a Gaussian copula with this correlation joins them."""

    kind: Literal["quantiles"]
    num_prompt_tokens: Knots
    num_output_tokens: Knots
    correlation: Correlation = 0.0


class NormalLengths(Settings):
    """Prompt and output are truncated normal; a Gaussian copula with this correlation joins them."""

    kind: Literal["normal"]
    num_prompt_tokens: Normal
    num_output_tokens: Normal
    correlation: Correlation = 0.0


class LognormalLengths(Settings):
    """Prompt and output are truncated lognormal; a Gaussian copula with this correlation joins them."""

    kind: Literal["lognormal"]
    num_prompt_tokens: Lognormal
    num_output_tokens: Lognormal
    correlation: Correlation = 0.0


class EmpiricalLengths(Settings):
    """Prompt and output are distributed as observed; a Gaussian copula with this correlation joins them."""

    kind: Literal["empirical"]
    num_prompt_tokens: Observed
    num_output_tokens: Observed
    correlation: Correlation = 0.0


class CopulaLengths(Settings):
    """Prompt and output are each distributed as in a file, and have the rank correlation that they have there.

    No row of the file is copied: each length lies between two neighbours of its column in order of size, and the pairs
    are drawn anew from a Gaussian copula.
    """

    kind: Literal["copula"]
    file: File


class TraceLengths(Settings):
    """The lengths of a file, which needs no arrival times.

    Its rows are drawn at random with replacement, or repeated in the order of the file.
    """

    kind: Literal["trace"]
    file: File
    order: Literal["random", "file"] = Field("random", description="an order", examples=["random"])


Scored = QuantileLengths | NormalLengths | LognormalLengths | EmpiricalLengths | CopulaLengths
Lengths = FixedLengths | UniformLengths | ZipfLengths | Scored | TraceLengths
