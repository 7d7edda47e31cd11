"""The KV blocks of one engine: a queue of free ones, the blocks of each request, and which prefix a block holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from reference.vllm_v1.releases import Release
from reference.vllm_v1.state import Hash, Request, Settings


class Blocks:
    """Blocks are numbered from 0. A block that no request refers to is free, and keeps its hash until it is reused."""

    def __init__(self, settings: Settings, release: Release) -> None:
        self.settings = settings
        self.release = release
        self.free_queue = OrderedDict[int, None].fromkeys(range(settings.num_blocks))
        self.num_references = [0] * settings.num_blocks
        self.hash_of: dict[int, Hash] = {}
        self.blocks_with: dict[Hash, list[int]] = {}  # in order of registration
        self.table: dict[int, list[int]] = {}  # by request id
        self.num_evicted = 0
        self.num_registered: dict[int, int] = {}  # by request id: leading blocks with a hash

    @property
    def num_free(self) -> int:
        return len(self.free_queue)

    def hits(self, request: Request) -> list[int]:
        """Blocks that hold the request's first tokens; its last known token is always computed anew."""
        if not self.settings.enable_prefix_caching:
            return []
        found = list[int]()
        for place in range((request.num_tokens - 1) // self.settings.block_size):
            blocks = self.blocks_with.get(request.block_hash(place))
            if blocks is None:
                break
            found.append(blocks[0])
        return found

    def num_needed(self, request: Request, hits: Sequence[int], num_tokens: int) -> int:
        """Free blocks that it takes to hold the request's first tokens: new ones, and hits that are free now."""
        num_blocks = -(-min(num_tokens, self.settings.max_model_len) // self.settings.block_size)
        num_new = max(0, num_blocks - len(self.table.get(request.id, ())) - len(hits))
        return num_new + sum(self.num_references[block] == 0 for block in hits)

    def allocate(self, request: Request, hits: Sequence[int], num_tokens: int) -> None:
        """Give the request its hits, and new blocks up to this number of tokens."""
        for block in hits:
            if self.num_references[block] == 0:
                del self.free_queue[block]
            self.num_references[block] += 1
        table = self.table.setdefault(request.id, [])
        table.extend(hits)
        self.num_registered.setdefault(request.id, len(hits))
        num_blocks = -(-min(num_tokens, self.settings.max_model_len) // self.settings.block_size)
        while len(table) < num_blocks:
            block, _ = self.free_queue.popitem(last=False)
            self.evict(block)
            self.num_references[block] = 1
            table.append(block)
        self.register(request, min(num_tokens, request.num_tokens))

    def register(self, request: Request, num_tokens: int) -> None:
        """Let later requests find the full blocks among the request's first tokens, computed or just scheduled."""
        if not self.settings.enable_prefix_caching:
            return
        num_full = num_tokens // self.settings.block_size
        for place in range(self.num_registered[request.id], num_full):
            block, block_hash = self.table[request.id][place], request.block_hash(place)
            self.hash_of[block] = block_hash
            self.blocks_with.setdefault(block_hash, []).append(block)
            self.num_registered[request.id] = place + 1

    def evict(self, block: int) -> None:
        """Forget which prefix a block holds."""
        block_hash = self.hash_of.pop(block, None)
        if block_hash is not None:
            self.num_evicted += 1
            self.blocks_with[block_hash].remove(block)
            if not self.blocks_with[block_hash]:
                del self.blocks_with[block_hash]

    def free(self, request: Request) -> None:
        """Drop the request's references, last block first, so that the beginning of its prefix is evicted last."""
        self.num_registered.pop(request.id)
        for block in reversed(self.table.pop(request.id)):
            self.num_references[block] -= 1
            if self.num_references[block] == 0:
                self.free_queue[block] = None
                if self.release.unhashed_blocks_first and block not in self.hash_of:
                    self.free_queue.move_to_end(block, last=False)
