"""Tables of operator times: built from forests, and loaded."""

import os
import tempfile
from pathlib import Path
from unittest.mock import patch

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.predictors.build import build_cost
from fastsim.predictors.tables import cache


class Tables:
    """By how many requests may run at once, and how long they may be."""

    params = ([4, 64, 1024], [4_096, 131_072])
    param_names = ("max_num_seqs", "max_model_len")

    def setup(self, max_num_seqs: int, max_model_len: int) -> None:
        settings = [
            "scheduler.policy=sarathi",
            f"scheduler.max_num_seqs={max_num_seqs}",
            f"max_model_len={max_model_len}",
        ]
        self.resolved = resolve(Deployment.load(None, ["model=meta-llama/Llama-3.1-8B", *settings]))
        build_cost(self.resolved)
        cache.finish_writing()

    def time_load(self, max_num_seqs: int, max_model_len: int) -> None:
        build_cost(self.resolved)

    def time_build(self, max_num_seqs: int, max_model_len: int) -> None:
        with tempfile.TemporaryDirectory() as folder, patch.object(cache, "folder", lambda: Path(folder, "tables")):
            build_cost(self.resolved)
            cache.finish_writing()

    def track_bytes(self, max_num_seqs: int, max_model_len: int) -> float:
        """Of the file in the cache."""
        with tempfile.TemporaryDirectory() as folder, patch.object(cache, "folder", lambda: Path(folder, "tables")):
            build_cost(self.resolved)
            cache.finish_writing()
            return float(sum(entry.stat().st_size for entry in os.scandir(Path(folder, "tables"))))

    track_bytes.unit = "bytes"  # type: ignore[attr-defined]
