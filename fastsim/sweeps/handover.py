"""Values with large arrays in files: the processes of a machine map them into memory and share it."""

import mmap
import pickle
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastsim.files.writing import atomic_file
from fastsim.kernels._jit import CACHE_FOLDER

HEAD, ALIGN = 8, 64  # bytes
WEEK = 7 * 24 * 3600  # s
OPEN = 16  # values that a process keeps open


def folder() -> Path:
    """Beside the machine code of the kernels."""
    return CACHE_FOLDER.parents[1] / "shared"


def put(value: Any) -> str:
    """Keep a value for the processes of this machine; returns its name. What somebody left a week ago goes."""
    name = uuid4().hex
    store(name, _pack(value))
    for path in folder().iterdir():
        if time.time() - path.stat().st_mtime > WEEK:
            path.unlink(missing_ok=True)
    return name


@lru_cache(OPEN)
def get(name: str) -> Any:
    """The value; its arrays are memory of the file. Raises FileNotFoundError where it was never stored."""
    with (folder() / name).open("rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    start = HEAD + int.from_bytes(memory[:HEAD], "little")
    parts = []
    for size in pickle.loads(memory[HEAD:start]):
        parts.append(memory[start : start + size])
        start += size + -size % ALIGN
    return pickle.loads(parts[0], buffers=parts[1:])


def packed(name: str) -> bytes:
    """A value as other machines store it."""
    return (folder() / name).read_bytes()


def store(name: str, data: bytes) -> None:
    """Keep a packed value; others see it whole or not at all."""
    with atomic_file(folder() / name, durable=False) as part:
        part.write_bytes(data)


def discard(names: Iterable[str]) -> None:
    """Remove values; those who have them open keep them."""
    for name in names:
        (folder() / name).unlink(missing_ok=True)


def _pack(value: Any) -> bytes:
    """Sizes of the parts, then the parts: the value pickled without its arrays, and the arrays."""
    buffers: list[pickle.PickleBuffer] = []
    parts = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
    parts += [buffer.raw() for buffer in buffers]
    sizes = pickle.dumps([part.nbytes for part in parts])
    sizes += bytes(-(HEAD + len(sizes)) % ALIGN)  # pickle stops reading at its own end
    padded = (piece for part in parts for piece in (part, bytes(-part.nbytes % ALIGN)))
    return b"".join((len(sizes).to_bytes(HEAD, "little"), sizes, *padded))
