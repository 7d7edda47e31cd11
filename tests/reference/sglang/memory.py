"""The KV slots of one engine: free ones, those that requests own, and those that the radix tree owns."""

from __future__ import annotations

from reference.sglang.releases import Release
from reference.sglang.state import CrashError, Request, Settings
from reference.sglang.tree import Node, Tree


class Memory:
    """Slots are counted, not numbered; requests take and return them in whole pages."""

    def __init__(self, settings: Settings, release: Release) -> None:
        self.settings = settings
        self.release = release
        self.num_free = settings.max_total_num_tokens
        self.tree = None if settings.disable_radix_cache else Tree(settings.page_size)

    @property
    def num_evictable(self) -> int:
        return 0 if self.tree is None else self.tree.num_evictable

    @property
    def num_available(self) -> int:
        return self.num_free + self.num_evictable

    def make_room(self, num_slots: int) -> None:
        """Evict from the tree if fewer slots are free."""
        missing = num_slots - self.num_free
        if missing > 0 and self.tree is not None:
            self.num_free += self.tree.evict(num_slots if self.release.evicts_whole_need else missing)

    def take(self, num_slots: int) -> None:
        if num_slots > self.num_free:
            raise CrashError(f"Out of memory: {num_slots} slots are needed, {self.num_free} are free.")
        self.num_free -= num_slots

    # Requests and the tree.

    def match(self, request: Request, num_tokens: int) -> tuple[int, Node | None]:
        """How many of the request's first tokens the tree holds, and where they end."""
        if self.tree is None:
            return 0, None
        return self.tree.match(request.pages(num_tokens, self.settings.page_size))

    def store(self, request: Request) -> None:
        """Let other requests find the tokens of one that goes on. Slots that the tree already had are free again."""
        request.num_computed = request.num_filled
        if self.tree is None:
            return
        held, node = self.insert(request, request.num_filled)
        self.num_free += held - request.num_in_tree
        request.num_in_tree = self.settings.whole_pages(request.num_filled)
        self.tree.lock(node)
        self.unlock(request.node)
        request.node = node

    def insert(self, request: Request, num_tokens: int) -> tuple[int, Node]:
        assert self.tree is not None
        page_size = self.settings.page_size
        result = self.tree.insert(request.pages(num_tokens, page_size))
        if self.release.ends_node_at_prompt and num_tokens > request.num_prompt_tokens:
            self.tree.insert(request.pages(request.num_prompt_tokens, page_size))
        return result

    def lock(self, node: Node | None) -> None:
        if self.tree is not None and node is not None:
            self.tree.lock(node)

    def unlock(self, node: Node | None) -> None:
        if self.tree is not None and node is not None:
            self.tree.unlock(node)

    def give_back(self, request: Request, keep: bool) -> None:
        """Take all slots from a request, or leave those of whole pages to the tree."""
        if self.tree is None:
            self.num_free += self.settings.paged(request.num_slots)
        else:
            num_tokens = min(request.num_tokens, request.num_slots)
            in_pages = self.settings.whole_pages(num_tokens)
            held = self.insert(request, num_tokens)[0] if keep else in_pages
            self.num_free += held - request.num_in_tree
            if num_tokens > in_pages:
                self.num_free += self.settings.page_size
            self.unlock(request.node)
            request.node = None
        request.num_slots = request.num_computed = request.num_filled = request.num_in_tree = 0
