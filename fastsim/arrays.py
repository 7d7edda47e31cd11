"""Types of arrays that many files name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


Columns = Mapping[str, NDArray[Any]]
