"""Peak memory of a whole process, by requests and by replicas."""

import fastsim
from fastsim.workload import Workload

from .kernels import prepare


class Memory:
    """Requests over 100 replicas; 10 million take 1.4 GiB."""

    params = (100, 1_000, 10_000, 100_000, 1_000_000)
    param_names = ("requests",)
    timeout = 120

    def setup(self, requests: int) -> None:
        self.job = prepare("sarathi", requests, "light", "num_replicas=100")

    def peakmem_simulate(self, requests: int) -> None:
        fastsim.simulate(*self.job, detail=False)

    def track_bytes_per_request(self, requests: int) -> float:
        """Of the arrays that a result keeps."""
        deployment, workload = self.job
        assert isinstance(workload, Workload)
        return float(fastsim.simulate(deployment, workload, detail=False).requests.nbytes / requests)

    track_bytes_per_request.unit = "bytes"  # type: ignore[attr-defined]


class Clusters:
    """1,000 requests over 1 to 10,000 replicas."""

    params = (1, 100, 10_000)
    param_names = ("replicas",)

    def setup(self, replicas: int) -> None:
        self.job = prepare("sarathi", 1_000, "light", f"num_replicas={replicas}")

    def peakmem_simulate(self, replicas: int) -> None:
        fastsim.simulate(*self.job, detail=False)
