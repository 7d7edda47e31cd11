"""Handing values with large arrays to the processes of a machine, which map the same file into memory.

An array stays read-only or writable as it was, and a plain ``numpy.ndarray``: kernels are compiled for exactly these
types. ``joblib.load(mmap_mode=...)`` makes all arrays of a file read-only, or all writable, and ``numpy.memmap``.
"""

import mmap
import pickle
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastsim.errors import OutputError
from fastsim.files.writing import atomic_file, reason
from fastsim.kernels._folder import CACHE_FOLDER

HEAD, ALIGN = 8, 64  # bytes
WEEK = 7 * 24 * 3600  # s
MAX_OPEN = 16  # values that a process keeps open


def folder() -> Path:
    """The folder of the files, beside the machine code of the kernels."""
    return CACHE_FOLDER.parents[1] / "shared"


def put(value: Any) -> str:
    """Keep a value for the processes of this machine, and return its name. Also deletes values older than a week.

    Raises OutputError where it cannot be written.
    """
    name = uuid4().hex
    try:
        store(name, _pack(value))
    except OSError as problem:
        raise OutputError(f"{folder()}: cannot be written ({reason(problem)}); set FASTSIM_CACHE_DIR") from None
    for path in folder().iterdir():
        if time.time() - path.stat().st_mtime > WEEK:
            path.unlink(missing_ok=True)
    return name


@lru_cache(MAX_OPEN)
def get(name: str) -> Any:
    """The value of a name, whose arrays are the mapped file. Raises FileNotFoundError if this machine lacks it."""
    with (folder() / name).open("rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    start = HEAD + int.from_bytes(memory[:HEAD], "little")
    parts = []
    for size in pickle.loads(memory[HEAD:start]):
        parts.append(memory[start : start + size])
        start += size + -size % ALIGN
    return pickle.loads(parts[0], buffers=parts[1:])


def packed(name: str) -> bytes:
    """The bytes of a value, for ``store`` on another machine."""
    return (folder() / name).read_bytes()


def store(name: str, data: bytes) -> None:
    """Keep the bytes of a value under its name. Other processes never see a part of them."""
    with atomic_file(folder() / name, durable=False) as part:
        part.write_bytes(data)


def discard(names: Iterable[str]) -> None:
    """Delete values. A process that has one open keeps it."""
    for name in names:
        (folder() / name).unlink(missing_ok=True)


def _pack(value: Any) -> bytes:
    """The sizes of the parts in bytes, then the parts: the value pickled without its arrays, and its arrays."""
    buffers: list[pickle.PickleBuffer] = []
    parts = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
    parts += [buffer.raw() for buffer in buffers]
    sizes = pickle.dumps([part.nbytes for part in parts])
    sizes += bytes(-(HEAD + len(sizes)) % ALIGN)  # pickle stops reading at its own end
    padded = (piece for part in parts for piece in (part, bytes(-part.nbytes % ALIGN)))
    return b"".join((len(sizes).to_bytes(HEAD, "little"), sizes, *padded))
