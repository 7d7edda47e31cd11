"""The digest of a workload: requests that are equal have equal digests, whatever the machine."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.blocks import BlockHashes


def digest(
    columns: Mapping[str, NDArray[Any] | None], max_concurrency: int | None, block_hashes: BlockHashes | None
) -> str:
    """Return the SHA-256 of a Workload's columns by name, those that are None left out, as hex digits."""
    hashed = sha256()
    for column, values in columns.items():
        if values is not None:
            if column == "tenant":  # as wide as its longest name
                values = values.astype(f"U{max(1, int(np.strings.str_len(values).max()))}")
            little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
            hashed.update(f"{column}:{len(values)}:".encode())
            hashed.update(np.ascontiguousarray(little_endian).data)
    if max_concurrency is not None:
        hashed.update(f"max_concurrency:{max_concurrency}:".encode())
    if block_hashes is not None:
        hashed.update(f"block_hashes:{block_hashes.block_size}:".encode())
        for values in (block_hashes.offsets, block_hashes.values):
            hashed.update(np.ascontiguousarray(values.astype("<i8", copy=False)).data)
    return hashed.hexdigest()
