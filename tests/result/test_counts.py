"""The counts of a simulation, from the arrays that its replicas fill."""

import numpy as np

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.kernels.accounts import series as columns
from fastsim.kernels.state import ITERATIONS, SHIFT
from fastsim.result.metrics.counts import measures_of
from fastsim.simulation.arena import Arena
from fastsim.simulation.lanes import lay_out_whole
from fastsim.simulation.limits import limits_of
from fastsim.simulation.stream import share

CHAT = fastsim.load_workload("chat", num_requests=20)


def test_bins_of_all_replicas_are_as_wide_as_the_widest() -> None:
    resolved = resolve(Deployment.load(None, ["num_replicas=13"]))
    stream = share(CHAT.arrived_at, CHAT.num_prompt_tokens, CHAT.num_output_tokens)
    lane = lay_out_whole(resolved, limits_of(resolved), CHAT, stream, Arena(), detail=True)
    replicas, rng = lane.replicas, np.random.default_rng(0)
    replicas.counts[:-1, SHIFT] = range(12)  # the last replica has had no batch
    replicas.counts[:-1, ITERATIONS] = 1
    replicas.series[:-1] = rng.integers(2**40, size=replicas.series[:-1].shape)
    measures = measures_of([lane])
    assert measures is not None
    assert measures.bin_s == 2 ** (columns.FIRST_SHIFT + 11) / columns.TICKS
    wanted = np.zeros(replicas.series.shape)
    for r in range(12):
        for i in range(columns.BINS):
            wanted[r, i >> (11 - r)] += replicas.series[r, i]
    wanted[:, :, [columns.BUSY, columns.RUNNING_SERIES, columns.KV]] /= columns.TICKS
    np.testing.assert_array_equal(measures.series, wanted)


def test_replicas_without_requests_cost_little() -> None:
    """Each of 100,000 replicas has 256 bins of time, which would be gigabytes to go through."""
    many, few = (
        fastsim.simulate(Deployment.load(None, ["scheduler.policy=sarathi", f"num_replicas={n}"]), CHAT)
        for n in (100_000, 20)
    )
    np.testing.assert_array_equal(many.column("e2e"), few.column("e2e"))
    assert many.summary["replicas"][:20] == few.summary["replicas"]
    assert not any(replica["iterations"] for replica in many.summary["replicas"][20:])
