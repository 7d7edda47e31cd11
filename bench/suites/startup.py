"""What a user waits for before anything happens."""

import subprocess
import sys


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


class Startup:
    """Processes with everything compiled; bench/speed.py times the first run ever."""

    def setup(self) -> None:
        python("-m", "fastsim", "simulate")

    def time_import(self) -> None:
        python("-c", "import fastsim")

    def time_help(self) -> None:
        python("-m", "fastsim", "--help")

    def time_simulate_nothing_given(self) -> None:
        python("-m", "fastsim", "simulate")


class Loading:
    """A kernel's machine code, by policy."""

    params = ("vllm_v1", "vllm", "sarathi", "orca", "lightllm", "faster_transformer")
    param_names = ("policy",)

    def setup(self, policy: str) -> None:
        self.code = f"from fastsim.simulation.warm import compile_kernel; compile_kernel({policy!r})"
        python("-c", self.code)

    def time_load_kernel(self, policy: str) -> None:
        python("-c", self.code)
