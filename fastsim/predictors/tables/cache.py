"""Built tables on disk, named by the digest of all that went into them."""

import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fastsim.files.writing import atomic_file, locked
from fastsim.kernels._jit import CACHE_FOLDER
from fastsim.kernels.cost import FastsimTables, VidurTables

Tables = VidurTables | FastsimTables
About = dict[str, Any]  # what else is known of tables, as JSON has it


def folder() -> Path:
    """Next to the machine code of the kernels, under the same rule for where that is."""
    return CACHE_FOLDER.parents[1] / "tables"


def _read(path: Path, kind: type[VidurTables] | type[FastsimTables]) -> tuple[Tables, About]:
    with np.load(path, allow_pickle=False) as stored:
        values = {name: stored[name] for name in kind._fields}
        about: About = json.loads(stored["about"].item())
    return kind(**{name: array if array.ndim else array.item() for name, array in values.items()}), about


def _write(path: Path, tables: Tables, about: About) -> None:
    with suppress(OSError), atomic_file(path) as part, part.open("wb") as stream:  # without a cache it is only slower
        np.savez(stream, about=np.array(json.dumps(about)), **tables._asdict())


def load_or_build(
    key: str, kind: type[VidurTables] | type[FastsimTables], build: Callable[[], tuple[Tables, About]]
) -> tuple[Tables, About]:
    """The tables stored under ``key``, else what ``build`` gives, stored for the next time.

    A damaged file is built anew, with a warning. Arrays are plain and writable: Numba would compile the
    kernels a second time for read-only ones. Safe among processes: a file appears whole or not at all, and one builds
    while others wait.
    """
    path = folder() / f"{key}.npz"
    if (found := _found(path, kind)) is not None:
        return found
    damaged = path.exists()
    with _turn(path.with_suffix(".lock")):
        if not damaged and (found := _found(path, kind)) is not None:
            return found
        tables, about = build()
        _write(path, tables, about)
        return tables, about


def _found(path: Path, kind: type[VidurTables] | type[FastsimTables]) -> tuple[Tables, About] | None:
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
