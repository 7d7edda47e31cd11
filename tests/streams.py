"""Vocabulary of the tests of workloads: small streams, a description, and where recorded streams are."""

from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
HEADER = "arrived_at,num_prompt_tokens,num_output_tokens\n"
ROWS = "0.0,512,128\n0.30000000000000004,7,1\n1.5,4096,300\n"
POISSON = {"kind": "poisson", "rate": 2.0}
FIXED = {"kind": "fixed", "num_prompt_tokens": 512, "num_output_tokens": 128}

needs_shared = pytest.mark.skipif(not (SHARED / "traces").is_dir(), reason="the recorded streams are not here")


def file(folder: Path, content: str | bytes, name: str = "requests.csv") -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def lengths(**changes: Any) -> dict[str, Any]:
    return {"lengths": FIXED | changes, "gaps": POISSON}
