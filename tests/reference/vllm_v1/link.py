"""The link over which KV goes from the replicas that prefill to those that decode."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Flow:
    """The KV of a request on its way; its size is what is left of it at ``since``."""

    request: int
    source: int  # replica
    target: int
    size: float  # bytes
    since: float
    rate: float = 0.0  # bytes for a unit of time
    end: float = math.inf


@dataclass
class Link:
    """Each replica has a link of this bandwidth, which the transfers that it takes part in share evenly.

    A transfer is as fast as the slower of its two shares allows.
    """

    bandwidth: float  # bytes for a unit of time
    flows: list[Flow] = field(default_factory=list)  # in order of their starts

    @property
    def next_end(self) -> float:
        return min((flow.end for flow in self.flows), default=math.inf)

    def start(self, now: float, request: int, source: int, target: int, size: float) -> None:
        self.flows.append(Flow(request, source, target, size, now))
        self.share(now, source, target)

    def finish(self) -> Flow:
        """Take out the transfer that ends first, of equals the one that started first."""
        first = min(self.flows, key=lambda flow: flow.end)
        self.flows.remove(first)
        self.share(first.end, first.source, first.target)
        return first

    def share(self, now: float, source: int, target: int) -> None:
        """Give those transfers their rates that share a replica with one that has just started or ended."""
        for flow in self.flows:
            if flow.source == source or flow.target == target:
                flow.size -= flow.rate * (now - flow.since)
                flow.size = max(flow.size, 0.0)
                flow.since = now
                out = sum(other.source == flow.source for other in self.flows)
                into = sum(other.target == flow.target for other in self.flows)
                flow.rate = self.bandwidth / max(out, into)
                flow.end = now + flow.size / flow.rate
