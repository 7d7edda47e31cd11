"""Memory that one simulation after the other uses for its arrays."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Arena:
    """Memory for one simulation at a time: the next simulation reuses the arrays of the last one."""

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}
        self._given: dict[str, NDArray[Any]] = {}  # the arrays given out last, whose words kernels find again

    def take(self, name: str, shape: int | tuple[int, ...], dtype: Any = np.float64, value: float = 0) -> NDArray[Any]:
        """Return a contiguous array filled with ``value``; it is valid until the same name is taken again."""
        array, is_new = self._array(name, shape, dtype, value)
        if not is_new:
            array.fill(value)
        return array

    def room(self, name: str, shape: int | tuple[int, ...], dtype: Any = np.float64) -> NDArray[Any]:
        """Return a contiguous array that holds anything; it is valid until the same name is taken again."""
        return self._array(name, shape, dtype, 0)[0]

    def _array(self, name: str, shape: int | tuple[int, ...], dtype: Any, value: float) -> tuple[NDArray[Any], bool]:
        """The array of a name, the same object as last time if its shape is; and whether ``value`` fills it already."""
        given = self._given.get(name)
        if given is not None and given.shape == (shape if isinstance(shape, tuple) else (shape,)):
            return given, False
        size = math.prod(shape) if isinstance(shape, tuple) else shape
        held = self._held.get(name)
        is_new = held is None or held.size < size
        if held is None or held.size < size:
            # Zeroed pages of the operating system cost nothing until they are touched.
            self._held[name] = held = np.zeros(size, dtype) if value == 0 else np.full(size, value, dtype)
        given = self._given[name] = held[:size].reshape(shape)
        return given, is_new
