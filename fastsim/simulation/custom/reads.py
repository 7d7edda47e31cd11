"""What a scheduling function looks at, read off its source: whether its choice stays the same for many iterations.

While the same requests decode, nothing changes from one iteration to the next but the clock, the tokens that they have
processed, and the blocks that they hold. A function that looks at none of these, and keeps no notes, makes the same
choice again. What is not understood counts as something that changes.
"""

import ast
from collections import Counter
from dataclasses import dataclass

from fastsim.kernels.custom.view import ReplicaView

QUEUES = {"waiting", "running"}
FACTS = {"arrived_at", "num_prompt_tokens", "num_output_tokens", "prefill"}  # of requests that wait or decode
NUMBERS = {"num_joined", "num_allocated", "num_blocks", "block_size", "watermark_blocks", "max_num_seqs", "max_batch",
           "max_num_batched_tokens", "chunk_size"}  # fmt: skip
CHANGING = set(ReplicaView._fields) - QUEUES - FACTS - NUMBERS - {"free_blocks"}
FUNCTIONS = {"abs", "bool", "divmod", "enumerate", "float", "int", "len", "max", "min", "pow", "range", "round", "zip"}
MODULES = ("import math ", "import numpy ", "from math ", "from numpy ")
STRANGE = (ast.FunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Global,
           ast.Nonlocal, ast.Yield, ast.YieldFrom, ast.Await, ast.With, ast.Try, ast.NamedExpr)  # fmt: skip
VIEW, LIST, REQUEST = "the view", "chosen or tokens", "a request that waits or runs"


class Unclear(Exception):
    """A function does something that is not understood."""


@dataclass(frozen=True)
class Reads:
    """What a scheduling function looks at.

    Attributes
    ----------
    steady : nothing that changes while the same requests decode, other than ``free_blocks``.
    free_blocks : the number of free blocks.
    num_joined : how many have joined, other than to decide whether to sort into ``order``.
    sorts : whether it sorts the queue otherwise than into ``order``.
    order : the field by which it sorts the queue before it looks at it, whenever requests have joined; "" for none.
    sort : the statement that does so.
    """

    steady: bool = False
    free_blocks: bool = False
    num_joined: bool = False
    sorts: bool = False
    order: str = ""
    sort: ast.Expr | None = None


def reads_of(name: str, functions: dict[str, str], lines: dict[str, str]) -> Reads:
    """What the function ``name`` looks at.

    ``functions``: its source and that of all functions of the user that it calls, by name. ``lines``: what other words
    stand for, as imports and assignments.
    """
    trees = {word: _definition(source) for word, source in functions.items()}
    view, *lists = (argument.arg for argument in trees[name].args.args)
    reading = _Reading(trees, lines)
    try:
        reading.follow(name, {view: VIEW, **dict.fromkeys(lists, LIST)})
    except Unclear:
        return Reads()
    order, sort, tests = ("", None, 0) if reading.num_sorts != 1 else _order(trees[name], view)
    num_joined, sorts = reading.named.get("num_joined", 0) > tests, reading.num_sorts > 0 and not order
    steady = reading.steady and not reading.named.keys() & CHANGING
    return Reads(steady, "free_blocks" in reading.named, num_joined, sorts, order, sort)


def _definition(source: str) -> ast.FunctionDef:
    return next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))


def _order(tree: ast.FunctionDef, view: str) -> tuple[str, ast.Expr | None, int]:
    """The field by which a function sorts the queue, the statement, and in how many tests of num_joined it stands.

    It stands before all that looks at the queue or returns, either alone or after a test whether requests have joined.
    """
    joined = f"{view}.num_joined"
    asks = joined, f"{joined} > 0", f"{joined} >= 1", f"{joined} != 0"
    for statement in tree.body:
        tests, sort = 0, statement
        if isinstance(statement, ast.If) and ast.unparse(statement.test) in asks and not statement.orelse:
            tests, sort = 1, statement.body[0] if len(statement.body) == 1 else statement
        if isinstance(sort, ast.Expr) and isinstance(sort.value, ast.Call) and _is_sort(sort.value):
            key = sort.value.args[1]
            if ast.unparse(key) in {f"{view}.{field}" for field in FACTS}:
                return ast.unparse(key).rpartition(".")[2], sort, tests
        for node in ast.walk(statement):
            given = isinstance(node, ast.Call) and any(ast.unparse(argument) == view for argument in node.args)
            if given or isinstance(node, ast.Return) or (isinstance(node, ast.Attribute) and node.attr == "waiting"):
                return "", None, 0
    return "", None, 0


def _is_sort(call: ast.Call) -> bool:
    return ast.unparse(call.func).rpartition(".")[2] == "sort_by"


def _queue_item(node: ast.AST) -> bool:
    """Whether it is ``view.waiting[i]`` or ``view.running[i]``, given that other arrays have no such names."""
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr in QUEUES


class _Reading:
    """Follows what functions do with their parameters. Raises Unclear at a use that is not understood."""

    def __init__(self, trees: dict[str, ast.FunctionDef], lines: dict[str, str]) -> None:
        self.trees, self.lines = trees, lines
        self.named: dict[str, int] = {}  # how often each field is named
        self.num_sorts = 0
        self.steady = True
        self.seen: list[tuple[str, dict[str, str]]] = []

    def follow(self, function: str, given: dict[str, str]) -> None:
        """Read a function, some of whose parameters are the view, lists to write to, or requests."""
        if (function, given) in self.seen:
            return
        self.seen.append((function, given))
        tree = self.trees[function]
        roles = {word: role for word, role in given.items() if role != REQUEST}
        roles |= {word: REQUEST for word in _requests(tree, given) if word not in roles}
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, STRANGE) and node is not tree:
                raise Unclear
            if isinstance(node, ast.Name) and node.id in roles:
                self._use(node, roles, parents)
            elif isinstance(node, ast.Call):
                self._call(node, roles)
            elif isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
                self._write(node, roles)

    def _write(self, target: ast.Subscript | ast.Attribute, roles: dict[str, str]) -> None:
        base = target.value
        if isinstance(target, ast.Attribute):
            raise Unclear
        if isinstance(base, ast.Attribute) and base.attr in ("memo", "notes"):
            return
        if not (isinstance(base, ast.Name) and roles.get(base.id) == LIST):
            raise Unclear

    def _use(self, name: ast.Name, roles: dict[str, str], parents: dict[ast.AST, ast.AST]) -> None:
        role, parent = roles[name.id], parents[name]
        if role == REQUEST:
            return
        if not isinstance(name.ctx, ast.Load):
            raise Unclear
        if isinstance(parent, ast.Call) and name in parent.args:
            return  # _call follows it
        if role == VIEW and isinstance(parent, ast.Attribute) and parent.attr in ReplicaView._fields:
            self._field(parent, roles, parents)
        elif role == VIEW or not (
            (isinstance(parent, ast.Subscript) and isinstance(parent.ctx, ast.Store) and parent.value is name)
            or (isinstance(parent, ast.Attribute) and parent.attr == "size")
        ):
            raise Unclear
        elif isinstance(parents[parent], ast.AugAssign):
            self.steady = False

    def _field(self, field: ast.Attribute, roles: dict[str, str], parents: dict[ast.AST, ast.AST]) -> None:
        """A field of the view is named."""
        self.named[field.attr] = self.named.get(field.attr, 0) + 1
        parent = parents[field]
        item = isinstance(parent, ast.Subscript) and parent.value is field
        called = isinstance(parent, ast.Call) and ast.unparse(parent.func).rpartition(".")[2]
        if field.attr in QUEUES:
            loop = isinstance(parent, ast.For) and parent.iter is field
            size = isinstance(parent, ast.Attribute) and parent.attr == "size"
            one = item and isinstance(parent, ast.Subscript) and not isinstance(parent.slice, ast.Slice | ast.Tuple)
            if not (loop or one or size or called in ("len", "enumerate") or (called == "sort_by")):
                raise Unclear
            if called == "sort_by" and field.attr == "running":
                raise Unclear
        elif field.attr in FACTS and called != "sort_by":
            index = parent.slice if isinstance(parent, ast.Subscript) else field
            named = isinstance(index, ast.Name) and roles.get(index.id) == REQUEST
            self.steady = self.steady and item and (named or _queue_item(index))

    def _call(self, call: ast.Call, roles: dict[str, str]) -> None:
        """A function is called: one of the user's, a function of numbers, or sort_by."""
        if call.keywords or any(isinstance(argument, ast.Starred) for argument in call.args):
            raise Unclear
        given = [roles.get(argument.id, "") if isinstance(argument, ast.Name) else "" for argument in call.args]
        given = [REQUEST if _queue_item(node) else role for node, role in zip(call.args, given, strict=True)]
        word = ast.unparse(call.func)
        if word in self.trees:
            names = [argument.arg for argument in self.trees[word].args.args]
            self.follow(word, {name: role for name, role in zip(names, given, strict=False) if role})
            return
        if _is_sort(call):
            self.num_sorts += 1
            if len(call.args) == 2 and isinstance(call.args[0], ast.Attribute) and call.args[0].attr == "waiting":
                return
            raise Unclear
        module, _, _ = word.rpartition(".")
        line = self.lines.get(module or word, "")
        known = line.startswith(MODULES) if line else (not module and word in FUNCTIONS)
        if not known or VIEW in given or (LIST in given and word != "len"):
            raise Unclear


def _requests(tree: ast.FunctionDef, roles: dict[str, str]) -> set[str]:
    """The names in a function that stand for requests that wait or run wherever they are assigned."""
    queued = Counter[str]()
    for node in ast.walk(tree):
        target: ast.AST | None = None
        if isinstance(node, ast.For) and isinstance(node.iter, ast.Attribute) and node.iter.attr in QUEUES:
            target = node.target
        elif isinstance(node, ast.Assign) and _queue_item(node.value):
            target = node.targets[0]
        if isinstance(target, ast.Name):
            queued[target.id] += 1
    stored = Counter(
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    return {word for word, number in queued.items() if number == stored[word]} | {
        word for word, role in roles.items() if role == REQUEST and not stored[word]
    }
