"""Tables on disk, named by the digest of everything that went into them."""

import json
import math
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError
from fastsim.files.writing import atomic_file, locked
from fastsim.kernels._folder import CACHE_FOLDER
from fastsim.kernels._limit import limit, make_room, use
from fastsim.kernels.tables import FastsimTables, Floats, VidurTables

from .by_operator import ARRAYS, SLOPES, ByOperator
from .compose import NO_FASTSIM

Tables = VidurTables | FastsimTables
Place = tuple[str, str, tuple[int, ...], int]  # of an array: its name, type and shape, and where its bytes begin
KEPT = 8
ALIGNED = 64  # bytes, at multiples of which arrays begin
HEAD = 64  # bytes in which the check sum of all that follows and the length of the JSON object stand
About = dict[str, Any]  # what else is known of tables, as JSON has it
Stored = tuple[Tables, ByOperator, About]
State = tuple[int, int, int]  # of a file: when it was changed, ns, its bytes, and its inode

_kept: OrderedDict[Path, tuple[State | None, Stored]] = OrderedDict()  # None: while it is written
_kept_lock = Lock()
_writing: Thread | None = None  # what writes the last file
_writing_lock = Lock()
_waits = True  # for another process that builds the same tables


def folder() -> Path:
    """The folder of tables, next to the compiled kernels."""
    return CACHE_FOLDER.parents[1] / "tables"


def most() -> int:
    """How large the caches of this user may become, bytes. Raises ConfigError where the environment says nonsense."""
    try:
        return limit()
    except ValueError as problem:
        raise ConfigError(str(problem)) from None


def path_of(key: str) -> Path:
    """The file of the tables of a key."""
    return folder() / f"{key}.tables"


def holds(key: str) -> bool:
    """Whether the tables of a key are in their file, or are being written to it."""
    path = path_of(key)
    with _kept_lock:
        return path.is_file() or (path in _kept and _kept[path][0] is None)


def _read(path: Path, kind: type[VidurTables] | type[FastsimTables]) -> Stored:
    """What ``_write`` wrote. Raises ValueError for content that is not whole."""
    content = np.fromfile(path, np.uint8)
    crc32, size = (int(number) for number in content[:HEAD].tobytes().split())
    if zlib.crc32(content[HEAD:].data) != crc32:
        raise ValueError("its bytes are not those that were written")
    about: About = json.loads(content[HEAD : HEAD + size].tobytes())
    joined = content[_aligned(HEAD + size) :]
    arrays = _apart(joined, about.pop("arrays"))
    use(path)
    values: dict[str, Any] = {name: arrays[name] for name in kind._fields}
    tables = kind(**{name: array if array.ndim else array.item() for name, array in values.items()})
    operators = _unpacked(tables, about.pop("operators"), arrays) if isinstance(tables, FastsimTables) else {}
    return tables, operators, about


def _aligned(size: int) -> int:
    return size + -size % ALIGNED


def _apart(joined: NDArray[np.uint8], places: list[Place]) -> dict[str, NDArray[Any]]:
    """The arrays that are in ``joined`` at ``places``."""
    found = {}
    for name, dtype, shape, start in places:
        size = np.dtype(dtype).itemsize * math.prod(shape)
        found[name] = joined[start : start + size].view(dtype).reshape(shape)
    return found


def _packed(whole: FastsimTables, operators: ByOperator) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Tables by operator as JSON and arrays.

    Each field becomes one stack of the operators that have an array of their own; arrays shared with ``whole`` are
    only named.
    """
    about: dict[str, Any] = {"slopes": {}, "shared": {}, "own": {}}
    for name, tables in operators.items():
        about["slopes"][name] = {field: getattr(tables, field) for field in SLOPES.values()}
        about["shared"][name] = [field for field in ARRAYS if getattr(tables, field) is getattr(whole, field)]
    stacks = {}
    for field in ARRAYS:
        own = [name for name, tables in operators.items() if getattr(tables, field).size]
        own = [name for name in own if field not in about["shared"][name]]
        if own:
            about["own"][field] = own
            stacks[f"operators.{field}"] = np.stack([getattr(operators[name], field) for name in own])
    return about, stacks


def _unpacked(whole: FastsimTables, about: dict[str, Any], stored: Mapping[str, Floats]) -> ByOperator:
    """Tables by operator from what ``_packed`` made of them."""
    fields: dict[str, dict[str, Any]] = {name: dict(slopes) for name, slopes in about["slopes"].items()}
    for name, shared in about["shared"].items():
        fields[name] |= {field: getattr(whole, field) for field in shared}
    for field, own in about["own"].items():
        for name, array in zip(own, stored[f"operators.{field}"], strict=True):
            fields[name][field] = array
    empty = {field: getattr(NO_FASTSIM, field) for field in ARRAYS}
    return {name: whole._replace(**{**empty, **given}) for name, given in fields.items()}


def _write(path: Path, tables: Tables, operators: ByOperator, about: About) -> None:
    """Write tables: a check sum and a length, a JSON object of that length, and the bytes of its arrays."""
    stacks: dict[str, Floats] = {}
    if isinstance(tables, FastsimTables):
        packed, stacks = _packed(tables, operators)
        about = {**about, "operators": packed}
    places: list[Place] = []
    parts: list[bytes | memoryview] = []
    end = 0
    for name, value in {**tables._asdict(), **stacks}.items():
        array = np.ascontiguousarray(value)
        places.append((name, array.dtype.str, np.shape(value), end))
        parts += [array.ravel().view(np.uint8).data, bytes(-array.nbytes % ALIGNED)]
        end += _aligned(array.nbytes)
    text = json.dumps({**about, "arrays": places}).encode()
    parts.insert(0, text.ljust(_aligned(HEAD + len(text)) - HEAD))
    crc32 = 0
    for each in parts:
        crc32 = zlib.crc32(each, crc32)
    # A power failure may leave a file that is not whole: that is noticed, and it is built anew.
    with suppress(OSError), atomic_file(path, durable=False) as part, part.open("wb") as stream:
        stream.write(f"{crc32} {len(text)}".encode().ljust(HEAD))
        stream.writelines(parts)
    make_room(path.parent)


def load_or_build(key: str, kind: type[VidurTables] | type[FastsimTables], build: Callable[[], Stored]) -> Stored:
    """The tables stored under ``key``; if there are none, what ``build`` returns, stored for the next time.

    The last KEPT tables stay in memory, and are shared: do not change them. A damaged file is rebuilt, with a
    warning. Arrays are plain and writable, because Numba would compile the kernels
    a second time for read-only ones. Several processes may ask at once: a file appears whole or not at all, and one
    process builds while the others wait. The file is written by a thread, while the tables are used already. Tables
    that were used longest ago are removed where there are more than the limit. Raises ConfigError for a limit that is
    none.
    """
    most()
    path = path_of(key)
    with _kept_lock:
        known = _kept.get(path)
        if known is not None and known[0] in (None, _state(path)):
            _kept.move_to_end(path)
            return known[1]
    if (found := _stored(path, kind)) is None:
        damaged = path.exists()
        with ExitStack() as turn:
            is_ours = turn.enter_context(_turn(path.with_suffix(".lock")))
            if damaged or (found := _stored(path, kind)) is None:
                found = build()
                _keep(path, None, found)
                if is_ours:
                    _write_later(path, found, turn.pop_all())
                return found
    _keep(path, _state(path), found)
    return found


def _keep(path: Path, state: State | None, found: Stored) -> None:
    with _kept_lock:
        _kept[path] = state, found
        _kept.move_to_end(path)
        while len(_kept) > KEPT:
            _kept.popitem(last=False)


def _write_later(path: Path, found: Stored, turn: ExitStack) -> None:
    """Write a file in a thread, which ends the ``turn``; one at a time, so that few tables wait in memory."""
    global _writing

    def write() -> None:
        with turn:
            _write(path, *found)
            with _kept_lock:
                if (kept := _kept.get(path)) is not None and kept[1] is found:
                    _kept[path] = _state(path), found

    with _writing_lock:
        if _writing is not None:
            _writing.join()
        _writing = Thread(target=write)
        _writing.start()


def finish_writing() -> None:
    """Wait until the last tables that were built are in their file."""
    with _writing_lock:
        if _writing is not None:
            _writing.join()


def never_wait() -> None:
    """Build tables that another process is building too, rather than wait for it: it may have stood back."""
    global _waits
    _waits = False


def _state(path: Path) -> State | None:
    """What changes when a file is written; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _stored(path: Path, kind: type[VidurTables] | type[FastsimTables]) -> Stored | None:
    try:
        return _read(path, kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        warnings.warn(f"{path}: damaged ({problem}); its tables are built anew", stacklevel=2)
        return None


@contextmanager
def _turn(path: Path) -> Iterator[bool]:
    """Hold a lock where there can be one; False where another process holds it, and this one does not wait."""
    is_ours = True
    with ExitStack() as held:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            is_ours = held.enter_context(locked(path, wait=_waits))
        yield is_ours
        if is_ours:
            with suppress(OSError):
                path.unlink()
