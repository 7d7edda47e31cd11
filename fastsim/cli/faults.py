"""Faults of fastsim itself: one sentence on the terminal, and a report with the traceback in a file."""

import platform
import shlex
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from secrets import token_hex

from fastsim.errors import OutputError, printable
from fastsim.files.writing import write_text

PACKAGES = ("fastsim", "numpy", "numba", "llvmlite", "pyarrow", "onnxruntime", "pydantic", "dask", "click", "rich")


def explain(fault: BaseException) -> str:
    """Write a report about an unexpected exception; return the sentence that says so and names its file."""
    what = traceback.format_exception_only(fault)[-1].strip().partition("\n")[0]
    sentence = f"this is a fault of fastsim, not of your input ({what}); please report it with"
    file = Path(tempfile.gettempdir()) / f"fastsim-fault-{token_hex(4)}.txt"
    try:
        write_text(file, _report(fault))
    except OutputError:
        traceback.print_exception(fault)
        return f"{sentence} the lines above"
    return f"{sentence} the file {file}"


def _report(fault: BaseException) -> str:
    lines = [f"command: {shlex.join(sys.argv)}", f"python: {platform.python_version()} on {platform.platform()}"]
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            lines.append(f"{package}: {version(package)}")
    return printable("\n".join(lines) + "\n\n" + "".join(traceback.format_exception(fault)))
