"""The radix tree of one engine: which prefixes its KV slots hold, which of them are in use, and which go first."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

Page = Hashable  # the tokens of one page


class Node:
    """A run of pages that follow those of its parent. Its locks count the requests that use it or a node below it."""

    def __init__(self, pages: Sequence[Page], parent: Node | None, stamp: int) -> None:
        self.pages = pages
        self.parent = parent
        self.stamp = stamp  # of the last use
        self.num_locks = 0
        self.children: dict[Page, Node] = {}  # by the first page


class Tree:
    """Prefixes are runs of whole pages. A lookup is a use: it stamps the nodes it passes, and splits the last one."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.root = Node((), None, 0)
        self.num_evictable = 0  # tokens in nodes without a lock
        self.num_uses = 0

    def match(self, pages: Sequence[Page]) -> tuple[int, Node]:
        """The number of leading tokens that the tree holds, and the node in which they end."""
        stamp = self.next_stamp()
        node, place = self.root, 0
        while place < len(pages) and pages[place] in node.children:
            node = node.children[pages[place]]
            node.stamp = stamp
            common = common_length(node.pages, pages[place : place + len(node.pages)])
            place += common
            if common < len(node.pages):
                node = self.split(node, common)
                break
        return place * self.page_size, node

    def num_held(self, pages: Sequence[Page]) -> int:
        """The number of leading tokens that the tree holds, as a router sees it, whose look is no use."""
        node, place = self.root, 0
        while place < len(pages) and pages[place] in node.children:
            node = node.children[pages[place]]
            common = common_length(node.pages, pages[place : place + len(node.pages)])
            place += common
            if common < len(node.pages):
                break
        return place * self.page_size

    def insert(self, pages: Sequence[Page]) -> tuple[int, Node]:
        """Add a prefix. The number of its tokens that the tree held before, and the node in which it ends."""
        num_tokens, node = self.match(pages)
        new = pages[num_tokens // self.page_size :]
        if new:
            leaf = Node(new, node, self.next_stamp())
            node.children[new[0]] = leaf
            self.num_evictable += self.num_tokens(leaf)
            node = leaf
        return num_tokens, node

    def split(self, lower: Node, num_pages: int) -> Node:
        """Give the first pages of a node to a new node above it, which is in use as the old one is."""
        assert lower.parent is not None
        upper = Node(lower.pages[:num_pages], lower.parent, self.next_stamp())
        upper.num_locks = lower.num_locks
        upper.parent.children[upper.pages[0]] = upper  # type: ignore[union-attr]
        lower.pages, lower.parent = lower.pages[num_pages:], upper
        upper.children[lower.pages[0]] = lower
        return upper

    def lock(self, node: Node) -> None:
        for each in self.path(node):
            if each.num_locks == 0:
                self.num_evictable -= self.num_tokens(each)
            each.num_locks += 1

    def unlock(self, node: Node) -> None:
        for each in self.path(node):
            each.num_locks -= 1
            if each.num_locks == 0:
                self.num_evictable += self.num_tokens(each)

    def evict(self, num_tokens: int) -> int:
        """Drop whole nodes, least recently used leaves first, until at least so many tokens are gone; how many are."""
        leaves = [node for node in self.nodes() if not node.children and node.num_locks == 0]
        num_evicted = 0
        while num_evicted < num_tokens and leaves:
            leaf = min(leaves, key=lambda node: node.stamp)
            leaves.remove(leaf)
            num_evicted += self.num_tokens(leaf)
            parent = leaf.parent
            assert parent is not None
            del parent.children[leaf.pages[0]]
            if parent is not self.root and not parent.children and parent.num_locks == 0:
                leaves.append(parent)
        self.num_evictable -= num_evicted
        return num_evicted

    def num_tokens(self, node: Node) -> int:
        return len(node.pages) * self.page_size

    def next_stamp(self) -> int:
        self.num_uses += 1
        return self.num_uses

    def path(self, node: Node) -> Iterator[Node]:
        """The node and those above it, save for the root, which has no tokens."""
        while node.parent is not None:
            yield node
            node = node.parent

    def nodes(self) -> Iterator[Node]:
        """All nodes save for the root."""
        left = list(self.root.children.values())
        while left:
            node = left.pop()
            left.extend(node.children.values())
            yield node


def common_length(left: Sequence[Page], right: Sequence[Page]) -> int:
    """The number of leading pages that are equal."""
    if left == right:
        return len(left)
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
