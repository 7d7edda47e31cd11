"""Tables on disk, named by the digest of everything that went into them."""

import json
import math
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.files.writing import atomic_file, locked
from fastsim.kernels._folder import CACHE_FOLDER
from fastsim.kernels.tables import FastsimTables, Floats, VidurTables

from .by_operator import ARRAYS, ByOperator
from .compose import NO_FASTSIM

Tables = VidurTables | FastsimTables
Place = tuple[str, str, tuple[int, ...], int]  # of an array: its name, type and shape, and where its bytes begin
KEPT = 8
ALIGNED = 64  # bytes, at multiples of which arrays begin
SLOPES = ("token_slope", "first_slope", "send_slope")
About = dict[str, Any]  # what else is known of tables, as JSON has it
Stored = tuple[Tables, ByOperator, About]
State = tuple[int, int, int]  # of a file: when it was changed, ns, its bytes, and its inode

_kept: OrderedDict[Path, tuple[State, Stored]] = OrderedDict()
_kept_lock = Lock()


def folder() -> Path:
    """The folder of tables, next to the compiled kernels."""
    return CACHE_FOLDER.parents[1] / "tables"


def _read(path: Path, kind: type[VidurTables] | type[FastsimTables]) -> Stored:
    with np.load(path, allow_pickle=False) as stored:
        about: About = json.loads(stored["about"].tobytes())
        arrays = _apart(stored["arrays"], about.pop("arrays"))
    values: dict[str, Any] = {name: arrays[name] for name in kind._fields}
    tables = kind(**{name: array if array.ndim else array.item() for name, array in values.items()})
    operators = _unpacked(tables, about.pop("operators"), arrays) if isinstance(tables, FastsimTables) else {}
    return tables, operators, about


def _joined(arrays: Mapping[str, Any]) -> tuple[NDArray[np.uint8], list[Place]]:
    """Arrays as the bytes of one, which is read in a tenth of the time, and where each of them is."""
    places, parts, end = [], [], 0
    for name, value in arrays.items():
        array = np.ascontiguousarray(value)
        places.append((name, array.dtype.str, np.shape(value), end))
        parts += [array.tobytes(), bytes(-array.nbytes % ALIGNED)]
        end += array.nbytes + -array.nbytes % ALIGNED
    return np.frombuffer(b"".join(parts), np.uint8), places


def _apart(joined: NDArray[np.uint8], places: list[Place]) -> dict[str, NDArray[Any]]:
    """The arrays that ``_joined`` joined."""
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
        about["slopes"][name] = {field: getattr(tables, field) for field in SLOPES}
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
    stacks: dict[str, Floats] = {}
    if isinstance(tables, FastsimTables):
        packed, stacks = _packed(tables, operators)
        about = {**about, "operators": packed}
    arrays, places = _joined({**tables._asdict(), **stacks})
    text = np.frombuffer(json.dumps({**about, "arrays": places}).encode(), np.uint8)
    with suppress(OSError), atomic_file(path) as part, part.open("wb") as stream:  # without a cache it is only slower
        np.savez(stream, arrays=arrays, about=text)


def load_or_build(key: str, kind: type[VidurTables] | type[FastsimTables], build: Callable[[], Stored]) -> Stored:
    """The tables stored under ``key``; if there are none, what ``build`` returns, stored for the next time.

    The last KEPT tables stay in memory, and are shared: do not change them. A damaged file is rebuilt, with a
    warning. Arrays are plain and writable, because Numba would compile the kernels
    a second time for read-only ones. Several processes may ask at once: a file appears whole or not at all, and one
    process builds while the others wait.
    """
    path = folder() / f"{key}.npz"
    with _kept_lock:
        known = _kept.get(path)
        if known is not None and known[0] == _state(path):
            _kept.move_to_end(path)
            return known[1]
    found = _found(path, kind, build)
    with _kept_lock:
        if (state := _state(path)) is not None:
            _kept[path] = state, found
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return found


def _state(path: Path) -> State | None:
    """What changes when a file is written; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size, about.st_ino


def _found(path: Path, kind: type[VidurTables] | type[FastsimTables], build: Callable[[], Stored]) -> Stored:
    """The tables in a file, or those that are built."""
    if (stored := _stored(path, kind)) is not None:
        return stored
    damaged = path.exists()
    with _turn(path.with_suffix(".lock")):
        if not damaged and (stored := _stored(path, kind)) is not None:
            return stored
        built = build()
        _write(path, *built)
        return built


def _stored(path: Path, kind: type[VidurTables] | type[FastsimTables]) -> Stored | None:
    try:
        return _read(path, kind)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as problem:
        warnings.warn(f"{path}: damaged ({problem}); its tables are built anew", stacklevel=2)
        return None


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold a lock where there can be one."""
    with ExitStack() as held:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(path, wait=True))
        yield
        with suppress(OSError):
            path.unlink()
