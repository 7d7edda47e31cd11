"""The schema of the gaps between arrivals; ``fastsim.workload.arrivals`` draws them.

``rate`` is the mean number of requests per second. Where rates change over time, it is the mean over one period of the
schedule: a given ``rate`` scales all rates of the schedule to this mean, and leaves its times as they are.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from fastsim.workload.fields import Duration, File, FixedTime, Level, Rate, Seconds, Settings, Times


class StaticGaps(Settings):
    """All gaps are 1/rate; without a rate, all requests arrive at time 0."""

    kind: Literal["static"]
    rate: Rate | None = None


class PoissonGaps(Settings):
    """Gaps are independent and exponential, with mean 1/rate. They have no limit, whereas Vidur cuts them at 3/rate."""

    kind: Literal["poisson"]
    rate: Rate


class GammaGaps(Settings):
    """Gaps are independent and gamma distributed, with mean 1/rate and standard deviation cv/rate.

    With cv above 1 arrivals are burstier than Poisson.
    """

    kind: Literal["gamma"]
    rate: Rate
    cv: float = Field(ge=0.01, le=100, description="a number from 0.01 to 100", examples=[2.0])


class WeibullGaps(Settings):
    """Gaps are independent and Weibull distributed, with mean 1/rate.

    With a shape below 1 arrivals are burstier than Poisson, which has shape 1.
    """

    kind: Literal["weibull"]
    rate: Rate
    shape: float = Field(ge=0.1, le=100, description="a number from 0.1 to 100", examples=[0.7])


class VllmBenchGaps(Settings):
    """Arrivals as ``vllm bench serve --request-rate`` draws them.

    Gaps are gamma distributed with shape ``burstiness``, and all are then stretched by one factor, so that the last of
    n requests arrives at n/rate exactly: another number of requests has other gaps. An infinite burstiness is kind
    static.
    """

    kind: Literal["vllm_bench"]
    rate: Rate
    burstiness: float = Field(1.0, ge=0.01, le=1e6, description="a number from 0.01 to 1e6", examples=[1.0])


class Step(Settings):
    """A part of a schedule, with a constant rate."""

    duration: Duration
    rate: Level


class PiecewiseGaps(Settings):
    """A Poisson process whose rate is constant within each step.

    The steps begin again after the last one; without ``repeat``, the last rate stays. The mean rate is that over all
    steps.
    """

    kind: Literal["piecewise"]
    steps: list[Step] = Field(
        min_length=1,
        max_length=100_000,
        description="a list of steps",
        examples=[[{"duration": 600, "rate": 1.0}, {"duration": 60, "rate": 5.0}]],
    )
    repeat: bool = Field(True, description="true or false", examples=[True])
    rate: Rate | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(step.rate for step in self.steps):
            raise ValueError("steps: every rate is 0, so no request would arrive; give a rate above 0 (e.g. 2.0)")
        if not self.repeat and not self.steps[-1].rate:
            raise ValueError("steps: the last rate is 0, and would stay so; end with another (e.g. 2.0), or repeat")
        return self

    @property
    def mean(self) -> float:
        """The mean rate, requests/s."""
        total = sum(step.duration for step in self.steps)
        return sum(step.rate * step.duration for step in self.steps) / total


class DiurnalGaps(Settings):
    """A Poisson process whose rate is a cosine between ``trough`` and ``peak``, once a period.

    It is at its trough at time 0, or ``start`` seconds earlier. The mean rate is halfway between trough and peak.
    """

    kind: Literal["diurnal"]
    trough: Level
    peak: Rate
    period: Duration = Field(86_400.0, examples=[86400])
    start: Seconds = Field(0.0, examples=[21600])
    rate: Rate | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.trough > self.peak:
            raise ValueError(f"trough: {self.trough:g} is above the peak of {self.peak:g}; swap them")
        return self

    @property
    def mean(self) -> float:
        """The mean rate, requests/s."""
        return (self.trough + self.peak) / 2


class RampGaps(Settings):
    """A Poisson process whose rate changes evenly from ``start_rate`` to ``end_rate``, where it stays.

    The mean rate is that over the ``duration`` of the ramp.
    """

    kind: Literal["ramp"]
    start_rate: Level
    end_rate: Rate
    duration: Duration
    rate: Rate | None = None

    @property
    def mean(self) -> float:
        """The mean rate, requests/s."""
        return (self.start_rate + self.end_rate) / 2


class State(Settings):
    """A state of a process whose rate changes at random."""

    rate: Level
    mean_dwell: Duration


class MmppGaps(Settings):
    """A Markov-modulated Poisson process, for bursts: each state has a rate, and lasts an exponential time.

    The states follow each other in their order, and then begin again. The first one is drawn by the share of time that
    each takes, so that the process is stationary. The mean rate is that over all states, by these shares.
    """

    kind: Literal["mmpp"]
    states: list[State] = Field(
        min_length=1,
        max_length=1000,
        description="a list of states",
        examples=[[{"rate": 1.0, "mean_dwell": 60}, {"rate": 10.0, "mean_dwell": 5}]],
    )
    rate: Rate | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(state.rate for state in self.states):
            raise ValueError("states: every rate is 0, so no request would arrive; give a rate above 0 (e.g. 2.0)")
        changes = len(self.states) / sum(state.mean_dwell for state in self.states) / (self.rate or self.mean)
        if changes > 10:
            raise ValueError(
                f"states: they change {changes:,.0f} times per request on average, and at most 10 times are possible; "
                "lengthen mean_dwell"
            )
        return self

    @property
    def mean(self) -> float:
        """The mean rate, requests/s."""
        total = sum(state.mean_dwell for state in self.states)
        return sum(state.rate * state.mean_dwell for state in self.states) / total


class TraceGaps(Settings):
    """The gaps of a file, repeated; with a rate, they are stretched to this mean rate, else by the factor ``scale``."""

    kind: Literal["trace"]
    file: File
    rate: Rate | None = None
    scale: float = Field(1.0, ge=1e-6, le=1e6, description="a factor from 1e-6 to 1e6", examples=[0.5])
    unit: Literal["s", "ms", "us", "ns"] | None = Field(
        None, description="a unit of time: s, ms, us or ns", examples=["ms"]
    )  # of the file's times; by default that of its layout

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rate is not None and self.scale != 1:
            raise ValueError(f"scale: {self.scale:g} and rate: {self.rate:g} exclude each other; leave out one of them")
        return self


class ClosedLoop(Settings):
    """As many users as ``concurrency``, who each wait for their answer, think, and send the next request of the stream.

    The first requests arrive evenly over ``ramp_up``.
    """

    kind: Literal["closed_loop"]
    concurrency: int = Field(ge=1, lt=2**31, description="a whole number of users from 1", examples=[64])
    think_time: Times = FixedTime(kind="fixed", seconds=0.0)
    ramp_up: Seconds = Field(0.0, examples=[10.0])


Scheduled = PiecewiseGaps | DiurnalGaps | RampGaps | MmppGaps
OpenGaps = StaticGaps | PoissonGaps | GammaGaps | WeibullGaps | VllmBenchGaps | Scheduled | TraceGaps
Gaps = OpenGaps | ClosedLoop


def mean_rate(gaps: Gaps) -> float | None:
    """The mean rate of arrivals, requests/s; None where only a file tells it, or where there is none."""
    if not isinstance(gaps, ClosedLoop) and gaps.rate is not None:
        return gaps.rate
    return gaps.mean if isinstance(gaps, Scheduled) else None
