"""The KV slots of SGLang: free ones, those that requests own, and those that the radix tree owns, in whole pages."""

from .._jit import inlined
from ..engine.state import EVICTED
from ..exits import Ending
from ..memory.blocks import blocks_for
from ..memory.radix import evict, insert, lock, match, unlock
from ..memory.radix_tree import EVICTABLE, ROOT
from ..state import FREE, OUTCOME, PEAK
from .serving import Serving
from .state import FREE_PAGES


@inlined
def available(at: Serving) -> int:
    """KV slots that are free, or would be after evictions."""
    return int((at.own[FREE_PAGES] + at.tree.counts[EVICTABLE]) * at.page)


@inlined
def count_free(at: Serving, num_blocks: int) -> None:
    """Let the counts of the replica, which log and series read, say what is available."""
    at.counts[FREE] = at.own[FREE_PAGES] + at.tree.counts[EVICTABLE]
    at.counts[PEAK] = max(at.counts[PEAK], num_blocks - at.counts[FREE])


@inlined
def make_room(at: Serving, slots: int) -> None:
    """Evict from the tree if fewer slots are free."""
    missing = slots - int(at.own[FREE_PAGES]) * at.page
    if missing > 0 and at.rules.radix_cache:
        wanted = slots if at.rules.evicts_whole_need else missing
        gone = evict(at.tree, blocks_for(wanted, at.page))
        at.own[FREE_PAGES] += gone
        at.engine[EVICTED] += gone


@inlined
def take(at: Serving, pages: int) -> bool:
    """Take free pages; where there are too few the engine crashes, and the result is False."""
    if pages > at.own[FREE_PAGES]:
        at.counts[OUTCOME] = Ending.CRASHED
        return False
    at.own[FREE_PAGES] -= pages
    return True


@inlined
def look_up(at: Serving, request: int, tokens: int) -> tuple[int, int]:
    """How many pages of a request's first tokens the tree has, and the node in which they end."""
    if not at.rules.radix_cache:
        return 0, ROOT
    return match(at.tree, at.sequences, request, tokens // at.page)


@inlined
def _insert(at: Serving, request: int, tokens: int) -> tuple[int, int]:
    """Add the pages of a request's first tokens to the tree: how many it had before, and the node in which they end."""
    prompt = int(at.prompt[request])
    had, node = insert(at.tree, at.sequences, request, tokens // at.page)
    if at.rules.ends_node_at_prompt and tokens > prompt:
        insert(at.tree, at.sequences, request, prompt // at.page)
    return had, node


@inlined
def store(at: Serving, request: int) -> None:
    """Let other requests find the tokens of one that goes on. Pages that the tree already had are free again."""
    if not at.rules.radix_cache:
        return
    had, node = _insert(at, request, int(at.filled[request]))
    at.own[FREE_PAGES] += had - at.in_tree[request]
    at.in_tree[request] = at.filled[request] // at.page
    lock(at.tree, node)
    unlock(at.tree, int(at.node[request]))
    at.node[request] = node


@inlined
def give_back(at: Serving, request: int, keep: bool) -> None:
    """Take all slots from a request; ``keep``: leave those of whole pages to the tree."""
    slots, page = int(at.processed[request]), at.page
    if at.rules.radix_cache:
        tokens = min(int(at.known[request]), slots)
        had = tokens // page
        if keep:
            had = _insert(at, request, tokens)[0]
        at.own[FREE_PAGES] += had - at.in_tree[request] + (tokens % page > 0)
        unlock(at.tree, int(at.node[request]))
        at.node[request] = ROOT
    else:
        at.own[FREE_PAGES] += blocks_for(slots, page)
    at.processed[request] = 0
    at.filled[request] = at.in_tree[request] = 0
