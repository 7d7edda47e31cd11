"""Vocabulary for hypothesis: routers of the kernels, each with the same router of the twins."""

import math
from typing import NamedTuple

from hypothesis import strategies as st
from reference import routers as twins

from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.routers import NO_ROUTING, Routing


class Chosen(NamedTuple):
    """A router of the kernel with its settings, and the same router of the twin."""

    router: int
    routing: Routing
    twin: twins.Router


def plain(router: int, twin: twins.Router) -> st.SearchStrategy[Chosen]:
    return st.just(Chosen(router, NO_ROUTING, twin))


@st.composite
def prefix_aware(draw: st.DrawFn) -> Chosen:
    thresholds = (
        draw(st.sampled_from([0.0, 0.0, 0.3, 0.8])),
        draw(st.sampled_from([0, 1, 2, 64])),
        draw(st.sampled_from([1.0, 1.5])),
        draw(st.sampled_from([math.inf, math.inf, 20, 60])),
    )
    return Chosen(
        routers.PREFIX_AWARE,
        Routing(*thresholds, 0.0, 0.0, 0.0, routers.BY_LOAD),
        twins.PrefixAware(*thresholds),
    )


@st.composite
def weighted(draw: st.DrawFn) -> Chosen:
    prefix, kv, queue = draw(st.tuples(*[st.sampled_from([0.0, 0.5, 1.0, 2.0])] * 3))
    routing = NO_ROUTING._replace(prefix_weight=prefix, kv_weight=kv, queue_weight=queue)
    return Chosen(routers.WEIGHTED, routing, twins.Weighted(prefix, kv, queue))


ROUTERS: dict[str, st.SearchStrategy[Chosen]] = {
    "round_robin": st.builds(lambda: Chosen(routers.ROUND_ROBIN, NO_ROUTING, twins.RoundRobin())),
    "least_outstanding": plain(routers.LEAST_OUTSTANDING, twins.least_outstanding),
    "least_waiting": plain(routers.LEAST_WAITING, twins.least_waiting),
    "least_kv": plain(routers.LEAST_KV, twins.least_kv),
    "prefix_aware": prefix_aware(),
    "weighted": weighted(),
    "custom": plain(routers.CUSTOM, twins.PrefixAware(-1.0, math.inf, math.inf, math.inf)),
}
