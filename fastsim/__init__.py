"""fastsim predicts how a deployment of a large language model behaves, without a GPU.

>>> import fastsim
>>> result = fastsim.simulate(model="meta-llama/Llama-3.1-8B", device="h100", rate=2.0)  # doctest: +SKIP
>>> result = fastsim.simulate("deployment.yaml", "requests.csv")  # doctest: +SKIP

Names are imported when first used: ``import fastsim`` alone loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastsim.version import __version__

if TYPE_CHECKING:
    from fastsim.deployment.description import Deployment
    from fastsim.deployment.resolve import resolve
    from fastsim.kernels.custom.view import sort_by
    from fastsim.planning.capacity import capacity
    from fastsim.planning.curve import curve
    from fastsim.planning.search import search
    from fastsim.result.result import Result
    from fastsim.simulation.custom.policy import policy
    from fastsim.simulation.many import simulate_many
    from fastsim.simulation.run import simulate
    from fastsim.sweeps.sweep import sweep
    from fastsim.workload import Workload
    from fastsim.workload.closeness import closeness
    from fastsim.workload.like import synthesise_like
    from fastsim.workload.loading import load as load_workload

__all__ = [
    "Deployment",
    "Result",
    "Workload",
    "__version__",
    "capacity",
    "closeness",
    "curve",
    "load_workload",
    "policy",
    "resolve",
    "search",
    "simulate",
    "simulate_many",
    "sort_by",
    "sweep",
    "synthesise_like",
]

_HOME = {
    "Deployment": ("fastsim.deployment.description", "Deployment"),
    "Result": ("fastsim.result.result", "Result"),
    "Workload": ("fastsim.workload", "Workload"),
    "capacity": ("fastsim.planning.capacity", "capacity"),
    "closeness": ("fastsim.workload.closeness", "closeness"),
    "curve": ("fastsim.planning.curve", "curve"),
    "load_workload": ("fastsim.workload", "load"),
    "policy": ("fastsim.simulation.custom.policy", "policy"),
    "resolve": ("fastsim.deployment.resolve", "resolve"),
    "search": ("fastsim.planning.search", "search"),
    "simulate": ("fastsim.simulation.run", "simulate"),
    "simulate_many": ("fastsim.simulation.many", "simulate_many"),
    "sort_by": ("fastsim.kernels.custom.view", "sort_by"),
    "sweep": ("fastsim.sweeps.sweep", "sweep"),
    "synthesise_like": ("fastsim.workload.like", "synthesise_like"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastsim' has no attribute {name!r}")
    module, attribute = _HOME[name]
    globals()[name] = value = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
