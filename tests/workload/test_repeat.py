"""A recording that is played again has the same requests, later, and shares nothing with the time before."""

import numpy as np

from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.loading import load
from fastsim.workload.repeat import repeated


def test_requests_come_again_in_the_same_rhythm() -> None:
    one = load("chat", rate=4.0, num_requests=300)
    thrice = repeated(one, 3)
    assert thrice.num_requests == 900
    assert np.array_equal(thrice.num_prompt_tokens, np.tile(one.num_prompt_tokens, 3))
    assert np.allclose(np.diff(thrice.arrived_at[300:600]), np.diff(one.arrived_at))
    assert thrice.rate is not None and one.rate is not None
    assert abs(thrice.rate - one.rate) < 1e-9
    assert repeated(one, 1) is one


def test_sessions_and_blocks_are_others() -> None:
    hashes = BlockHashes.of([[5, 6], [5, 7], [5, 6, 9]])
    one = Workload(
        arrived_at=np.array([0.0, 1.0, np.nan]),
        num_prompt_tokens=np.array([40, 40, 60]),
        num_output_tokens=np.array([8, 8, 8]),
        session_id=np.array([4, 9, 4]),
        think_time=np.array([np.nan, np.nan, 2.0]),
        block_hashes=hashes,
    )
    twice = repeated(one, 2)
    assert twice.session_id is not None and twice.block_hashes is not None
    assert twice.session_id.tolist() == [4, 9, 4, 10, 15, 10]
    assert not set(twice.block_hashes.values[:7]) & set(twice.block_hashes.values[7:])
    again = [twice.block_hashes[request].tolist() for request in (3, 4, 5)]
    assert again[0] == again[2][:2] and again[0][0] == again[1][0] != again[0][1] != again[1][1]
    assert np.isnan(twice.arrived_at[[2, 5]]).all()


def test_users_go_on() -> None:
    loop = load("chat", num_requests=100).with_users(8)
    twice = repeated(loop, 2)
    assert twice.max_concurrency == 8 and twice.is_loop
    assert np.isfinite(twice.arrived_at).sum() == 8
    assert twice.following is not None and len(twice.following.loop) == 192
