"""fastsim predicts how a deployment of a large language model behaves, without a GPU.

>>> import fastsim
>>> result = fastsim.simulate("deployment.yaml", "requests.csv")  # doctest: +SKIP

Names are imported when first used: ``import fastsim`` alone loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastsim.deployment import Deployment, resolve
    from fastsim.result import Result
    from fastsim.simulation import simulate
    from fastsim.workload import Workload

__version__ = "0.1.0"
__all__ = ["Deployment", "Result", "Workload", "__version__", "resolve", "simulate"]

_HOME = {
    "Deployment": "fastsim.deployment",
    "Result": "fastsim.result",
    "Workload": "fastsim.workload",
    "resolve": "fastsim.deployment",
    "simulate": "fastsim.simulation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastsim' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOME[name]), name)
    return value
