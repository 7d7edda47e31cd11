"""Memory that one simulation after the other uses for its arrays."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Arena:
    """Memory for one simulation at a time: the next simulation reuses the arrays of the last one."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}

    def take(self, name: str, shape: int | tuple[int, ...], dtype: Any = np.float64, value: float = 0) -> NDArray[Any]:
        """Return a contiguous array filled with ``value``; it is valid until the same name is taken again."""
        size = math.prod(shape) if isinstance(shape, tuple) else shape
        held = self._held.get(name)
        if held is None or held.size < size:
            # Zeroed pages of the operating system cost nothing until they are touched.
            self._held[name] = held = np.zeros(size, dtype) if value == 0 else np.full(size, value, dtype)
            return held.reshape(shape)
        view = held[:size].reshape(shape)
        view.fill(value)
        return view

    def room(self, name: str, shape: int | tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
        """Return a contiguous array that holds anything; it is valid until the same name is taken again."""
        size = math.prod(shape) if isinstance(shape, tuple) else shape
        held = self._held.get(name)
        if held is None or held.size < size:
            self._held[name] = held = np.zeros(size, dtype)
        return held[:size].reshape(shape)
