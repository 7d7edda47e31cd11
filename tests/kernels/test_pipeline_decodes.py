"""The decodes of a pipeline's batch: nobody is touched while they stay together."""

import numpy as np
import pytest
from kernel_runs import assert_equals_twin, kernel_of, lay_out
from reference.state import Request, Settings
from strategies import Case, empty_vidur, fastsim_tables

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.tables import COMPOSE_FASTSIM, Cost

STAGES, BATCH = 3, 4


def steady(policy: str) -> Case:
    """As many requests as the pipeline holds, all at once, that decode for long, one a little shorter."""
    number = STAGES * BATCH
    requests = [Request(0.0, 5, 100 - (i == 1)) for i in range(number)]
    settings = Settings(
        policy=policy,
        num_stages=STAGES,
        num_blocks=1000,
        max_num_seqs=number,
        micro_batch_size=BATCH,
        max_batch_size=BATCH,
        blocks_per_sequence=10,
        chunk_size=32,
    )
    tables = fastsim_tables(np.random.default_rng(3), number)
    return Case(requests, settings, Cost(COMPOSE_FASTSIM, STAGES, empty_vidur(), tables, np.ones(STAGES)))


@pytest.mark.parametrize("policy", ["vllm", "sarathi", "orca", "faster_transformer"])
def test_members_are_left_alone_while_they_stay(policy: str) -> None:
    case = steady(policy)
    lane, limits = lay_out(case, 0)
    kernel, requests, held = kernel_of(case.settings), lane.requests, lane.replicas.counts[0]
    seen = []
    for batches in (20 * STAGES, 50 * STAGES):
        lane.cursor[state.LEFT] = batches
        assert kernel(lane, (case.cost,), (limits,)) == Exit.BUDGET
        names = (requests.processed, requests.blocks, requests.execution_time, requests.last_token_at)
        seen.append([column.copy() for column in names])
        seen[-1].append(np.array(held[state.FREE]))
    for before, after in zip(*(one[:4] for one in seen), strict=True):
        np.testing.assert_array_equal(before, after)
    assert (lane.batches.features[0, :, state.STEP].max()) > 60
    if policy in ("vllm", "sarathi"):
        assert seen[1][4] < seen[0][4]  # blocks are taken all the same
    assert_equals_twin(case)
