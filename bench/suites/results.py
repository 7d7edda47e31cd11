"""Writing, reading and comparing results with all their details."""

import tempfile

import fastsim
from fastsim.result.compare import compare
from fastsim.result.result import Result

from .kernels import prepare


class Results:
    """A million requests are written in half a second."""

    params = (1_000, 1_000_000)
    param_names = ("requests",)
    timeout = 120

    def setup(self, requests: int) -> None:
        self.result = fastsim.simulate(*prepare("sarathi", requests, "light", "num_replicas=16"))
        self.folder = tempfile.TemporaryDirectory()
        self.result.save(self.folder.name)

    def teardown(self, requests: int) -> None:
        self.folder.cleanup()

    def time_save(self, requests: int) -> None:
        self.result.save(self.folder.name)

    def peakmem_save(self, requests: int) -> None:
        self.result.save(self.folder.name)

    def time_load(self, requests: int) -> None:
        Result.load(self.folder.name)

    def time_compare(self, requests: int) -> None:
        compare(self.result, self.result)
