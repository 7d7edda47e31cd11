"""The Python file that makes vLLM record its steps."""

from fastsim.files import DATA

FILE = DATA / "recorder" / "fastsim_recorder.py"


def text() -> str:
    """The content of the file, which users save beside their engine."""
    return FILE.read_text(encoding="utf-8")
