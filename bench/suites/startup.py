"""What a user waits for before anything happens."""

import subprocess
import sys


class Startup:
    def time_import(self) -> None:
        subprocess.run([sys.executable, "-c", "import fastsim"], check=True)

    def time_help(self) -> None:
        subprocess.run([sys.executable, "-m", "fastsim", "--help"], check=True, capture_output=True)

    def time_simulate_nothing_given(self) -> None:
        subprocess.run([sys.executable, "-m", "fastsim", "simulate"], check=True, capture_output=True)
