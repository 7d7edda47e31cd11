"""The hit curve of a workload's prompts against an LRU cache in plain Python, and published figures of Mooncake."""

from collections import OrderedDict
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim.workload import BlockHashes
from fastsim.workload.loading import load
from fastsim.workload.reuse import hit_curve

BLOCK = 4
TRACES = Path(__file__).parents[3] / "shared/traces"
# Each request: the request that it continues, how many of its blocks, new blocks with and without hash, tokens of
# the last block that is not full, and how many blocks of them are outputs.
requests = st.lists(st.tuples(*(st.integers(0, high) for high in (9, 6, 3, 2, BLOCK - 1, 3))), min_size=1, max_size=12)


def lru(lists: list[list[int]], prompts: list[int], outputs: list[int], capacity: float) -> int:
    """The blocks that a cache of ``capacity`` blocks hits, one request after the other; the last used is at the end."""
    cache: OrderedDict[object, None] = OrderedDict()
    hits = 0
    block: object
    for request, (hashes, prompt, output) in enumerate(zip(lists, prompts, outputs, strict=True)):
        for block in hashes[: prompt // BLOCK]:
            if block not in cache:
                break
            hits += 1
        private: list[object] = [(request, place) for place in range(len(hashes), (prompt + output) // BLOCK)]
        for block in reversed([*hashes, *private]):
            cache[block] = None
            cache.move_to_end(block)
        while len(cache) > capacity:
            cache.popitem(last=False)
    return hits


def drawn(plans: list[tuple[int, ...]]) -> tuple[list[list[int]], list[int], list[int]]:
    lists: list[list[int]] = []
    prompts, outputs, number = [], [], 0
    for parent, kept, new, private, rest, answered in plans:
        old = lists[parent % len(lists)][:kept] if lists else []
        lists.append([*old, *range(number, number + new)])
        number += new
        total = BLOCK * (len(lists[-1]) + private) + rest + 2
        outputs.append(min(BLOCK * answered + 1, total - 1))
        prompts.append(total - outputs[-1])
    return lists, prompts, outputs


@given(plans=requests)
def test_equals_a_cache_of_each_size(plans: list[tuple[int, ...]]) -> None:
    lists, prompts, outputs = drawn(plans)
    curve = hit_curve(BlockHashes.of(lists, BLOCK), np.array(prompts), np.array(outputs))
    for blocks in [*range(len(curve.hits) + 3), inf]:
        hits = lru(lists, prompts, outputs, blocks)
        assert curve.share(blocks * BLOCK) == pytest.approx(hits * BLOCK / sum(prompts), abs=1e-12)
    assert [point["share"] for point in curve.as_dict()["by_cache_size"]] == [*map(curve.share, curve.sizes)]


def test_without_anything_in_common() -> None:
    curve = hit_curve(BlockHashes.of([[1, 2], [3]], BLOCK), np.array([8, 4]), np.array([1, 1]))
    assert curve.share() == 0.0
    assert curve.as_dict() == {"unbounded": 0.0, "by_cache_size": [{"cache_tokens": 1000, "share": 0.0}]}


@pytest.mark.skipif(not TRACES.exists(), reason="needs the traces beside the project")
@pytest.mark.parametrize(
    ("trace", "unbounded", "of_3_million"), [("conversation", 0.40, 0.41), ("synthetic", 0.66, 0.46)]
)
def test_hits_of_the_traces_of_mooncake(trace: str, unbounded: float, of_3_million: float) -> None:
    """Against the cache ratios in table 2 of the paper at FAST'25, and the shares of them at 3M tokens in figure 9."""
    workload = load(TRACES / f"mooncake_{trace}_trace.parquet")
    assert workload.block_hashes is not None
    curve = hit_curve(workload.block_hashes, workload.num_prompt_tokens, workload.num_output_tokens)
    assert curve.share() == pytest.approx(unbounded, abs=0.03)
    assert curve.share(3e6) / curve.share() == pytest.approx(of_3_million, abs=0.04)
