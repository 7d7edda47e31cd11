"""The schema of what requests share: texts in front of their prompts, and the history of a session."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fastsim.workload.fields import FixedTime, Settings, SpanOrNumber, Times

MAX_TEXTS = 10_000_000

Number = Annotated[int, Field(ge=1, le=1_000_000, description="a whole number from 1 to 1 million", examples=[100])]
Exponent = Annotated[float, Field(ge=0, le=100, description="a number from 0 to 100", examples=[1.0])]


class SystemPrompt(Settings):
    """A system prompt in front of each prompt: one of ``number``, of which the k-th has weight k**-exponent."""

    kind: Literal["system_prompt"]
    number: Number = 1
    exponent: Exponent = 1.0
    num_tokens: SpanOrNumber


class Documents(Settings):
    """Retrieved documents in front of the question: ``per_request`` different ones of ``number``.

    They are drawn one after the other, the k-th with weight k**-exponent, and stand in this order.
    """

    kind: Literal["documents"]
    number: Number
    exponent: Exponent = 1.0
    num_tokens: SpanOrNumber
    per_request: int = Field(1, ge=1, le=64, description="a whole number from 1 to 64", examples=[5])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.per_request > self.number:
            raise ValueError(f"per_request: {self.per_request} documents are more than the {self.number} in all")
        return self


class Examples(Settings):
    """Examples of a task in front of the question (few-shot), always in the same order.

    Each request has one of ``number`` tasks, the k-th with weight k**-exponent, and the first ``shots`` of its
    examples.
    """

    kind: Literal["examples"]
    number: Number = 1
    exponent: Exponent = 1.0
    num_tokens: SpanOrNumber  # of one example
    shots: Annotated[SpanOrNumber, Field(description="a whole number or a range, of at most 1000", examples=[5])]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shots.max > 1000 or self.shots.max * self.number > MAX_TEXTS:
            raise ValueError(
                f"shots: {self.shots.max:,} examples of {self.number:,} tasks are too many; at most 1000 per task and "
                "10 million in all are possible"
            )
        return self


Prefix = SystemPrompt | Documents | Examples


class FixedTurns(Settings):
    """All sessions have as many turns."""

    kind: Literal["fixed"]
    number: int = Field(ge=1, le=10_000, description="a whole number of turns from 1 to 10,000", examples=[5])

    @property
    def mean(self) -> float:
        """The mean number of turns."""
        return self.number


class GeometricTurns(Settings):
    """After each turn a session ends with the same probability, so that it has ``mean`` turns on average."""

    kind: Literal["geometric"]
    mean: float = Field(ge=1, le=10_000, description="turns from 1 to 10,000", examples=[5.0])


def _as_turns(value: Any) -> Any:
    return {"kind": "fixed", "number": value} if isinstance(value, int | float) else value


class Sessions(Settings):
    """Sessions, whose turns follow each other: a chat, or an agent that calls tools.

    ``lengths`` are those of a turn's new message and of its answer. Its prompt is the shared prefix, all messages and
    answers of the session so far, and the new message. It arrives ``think_time`` after the answer before it is
    complete. A session whose next turn would have more than ``max_tokens`` forgets its messages and answers, and goes
    on.

    The rate of the gaps counts all turns; gaps of a trace without a rate are those between the beginnings of sessions.

    With a ``fan_out`` above 1, so many sessions begin at the same time, and have the prefix and the ``context`` in
    common: they are the parallel branches of one task. A branch is a session of its own, as a request can follow only
    one other.

    Parameters
    ----------
    turns : int or distribution
        The number of turns.
    think_time : number or distribution
        Seconds from the end of an answer to the next turn. For an agent, how long its tools take.
    context : int or range, optional
        Tokens after the prefix that all turns, and all branches, of a task have in common. By default none.
    fan_out : int
        The branches of a task. By default 1.
    """

    turns: Annotated[
        FixedTurns | GeometricTurns,
        Field(
            discriminator="kind",
            description="a whole number of turns from 1, or a distribution",
            examples=[{"kind": "geometric", "mean": 5.0}],
        ),
        BeforeValidator(_as_turns),
    ]
    think_time: Times = FixedTime(kind="fixed", seconds=0.0)
    context: SpanOrNumber | None = None
    fan_out: int = Field(1, ge=1, le=10_000, description="a whole number from 1 to 10,000", examples=[4])

    @property
    def requests(self) -> float:
        """The mean number of requests of a task: of all turns of all its branches."""
        return self.turns.mean * self.fan_out


NO_SESSIONS = Sessions(turns=FixedTurns(kind="fixed", number=1), fan_out=1)
