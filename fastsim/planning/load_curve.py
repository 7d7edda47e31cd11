"""A curve of latency against load, and its points."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """A deployment under one load.

    Attributes
    ----------
    load : float
        Requests/s that arrive, or users who wait for their answers.
    rate : float
        Requests/s that arrive; with users, those that finish.
    met : bool
        Whether all objectives are met and the queue does not grow.
    missed : tuple of str
        The objectives that are not, and ``"a queue that grows"``.
    drift : float
        By how much longer a request waits for each second that it arrives later, s/s: the overload; 0 if it is steady.
    goodput : float
        Share of the requests that meet every objective.
    dollars_per_million_requests : float or None
        Price of the GPUs for a million requests; None if no price of the GPU is known.
    num_requests : int
        Requests of the simulation.
    span : float
        From the first arrival to the last, s.
    figures : dict of str to float or None
        Figures of the summary by dotted key, such as ``latency.ttft.p99`` (s).
    """

    load: float
    rate: float
    met: bool
    missed: tuple[str, ...]
    drift: float
    goodput: float
    dollars_per_million_requests: float | None
    num_requests: int
    span: float
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """Latency against load of one deployment.

    Attributes
    ----------
    name : str
        What figures and tables call the deployment.
    users : bool
        Whether loads are numbers of users, not requests/s.
    objectives : tuple of str
        The objectives.
    points : tuple of Point
        By load, ascending; among them the capacity.
    knee : float
        The load at which throughput over latency, the requests/s over the mean end-to-end time, is highest
        (Kleinrock's power): with less load GPUs idle, with more requests mostly wait for each other.
    capacity : float
        The highest load that meets all objectives, as ``fastsim.capacity`` finds it; 0 if none does.
    limited_by : tuple of str
        The objectives that break first above it.
    ceiling : float
        Requests/s that finish while the queue is never empty.
    gpus : int
        GPUs of all replicas.
    dollars_per_hour : float or None
        Price of all GPUs; None if no price of the GPU is known.
    deployment : dict
        The fields of the deployment, as its file has them.
    notes : tuple of str
        What the simulations cannot show, one sentence each.
    seconds : float
        Time that the curve took, s.
    """

    name: str
    users: bool
    objectives: tuple[str, ...]
    points: tuple[Point, ...]
    knee: float
    capacity: float
    limited_by: tuple[str, ...]
    ceiling: float
    gpus: int
    dollars_per_hour: float | None
    deployment: dict[str, Any]
    notes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return asdict(self)
