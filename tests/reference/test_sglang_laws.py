"""The twin of SGLang on generated requests: slots are neither lost nor made, and every request ends."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, reject, settings
from reference.sglang.loop import Loop
from reference.sglang.memory import Memory
from reference.sglang.state import Batch, Request
from sglang_strategies import Case, cases

MOST_BATCHES = 3000


def audit(memory: Memory, requests: list[Request]) -> None:
    """Each slot is free, or owned by one request, or owned by the tree, which knows the tokens that are in use."""
    holders = [request for request in requests if request.num_slots > 0]
    paged = memory.settings.paged
    private = sum(paged(request.num_slots) - request.num_in_tree for request in holders)
    in_tree = 0
    if memory.tree is not None:
        tree, nodes = memory.tree, list(memory.tree.nodes())
        in_tree = sum(map(tree.num_tokens, nodes))
        assert tree.num_evictable == sum(tree.num_tokens(node) for node in nodes if node.num_locks == 0)
        locks = Counter(node for request in holders if request.node for node in tree.path(request.node))
        assert all(node.num_locks == locks[node] for node in nodes)
        assert all(node.children[child.pages[0]] is child for node in nodes for child in node.children.values())
    assert memory.num_free + private + in_tree == memory.settings.max_total_num_tokens


def serve(case: Case) -> tuple[Loop, str]:
    loop = Loop(case.requests, case.settings, case.release, case.clock)
    launch = loop.launch

    def audited(batch: Batch) -> None:
        if len(loop.batches) > MOST_BATCHES:
            reject()
        audit(loop.scheduler.memory, loop.requests)
        launch(batch)

    loop.launch = audited  # type: ignore[method-assign]
    return loop, loop.run()


def obeys(case: Case) -> str:
    loop, ending = serve(case)
    if ending == "done":
        audit(loop.scheduler.memory, loop.requests)
        assert loop.scheduler.memory.num_available == case.settings.max_total_num_tokens
        assert all(len(r.token_times) == r.num_outputs == r.num_output_tokens for r in loop.requests)
    else:
        assert any(request.finished_at is None for request in loop.requests)
    return ending


@settings(deadline=None, max_examples=150)
@given(cases())
def test_no_slot_is_lost(case: Case) -> None:
    obeys(case)


@settings(deadline=None, max_examples=100)
@given(cases(follow=True))
def test_no_slot_is_lost_with_sessions(case: Case) -> None:
    obeys(case)
