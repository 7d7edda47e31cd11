"""The wall: kernels import numpy, numba, math and each other; nothing heavy is imported before its time."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastsim.kernels._folder import KEEPING

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {"numpy", "numba", "math", "enum", "typing", "collections"}
COMPILING = ("_jit.py", "_compiler.py", "_known.py", "_library.py", "_lowering.py", "_pointed.py")
# What makes and keeps machine code.
HOST = {"gc", "hashlib", "os", "tempfile", "pathlib", "atexit", "fcntl", "pickle", "shutil", "stat", "sys", "warnings"}
HOST |= {
    "contextlib",
    "ctypes",
    "functools",
    "importlib",
    "itertools",
    "llvmlite",
    "logging",
    "operator",
    "struct",
    "threading",
    "time",
    "weakref",
}


@pytest.mark.parametrize(
    "source", sorted((ROOT / "kernels").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_kernels_import_nothing_of_the_shell(source: Path) -> None:
    allowed = ALLOWED | HOST if source.name in (*COMPILING, *KEEPING) else ALLOWED
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            assert {name.name.partition(".")[0] for name in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            inside = 1 <= node.level <= len(source.relative_to(ROOT).parts) - 1
            assert inside or (node.level == 0 and (node.module or "").partition(".")[0] in allowed)


def loaded_after(code: str) -> set[str]:
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"numba", "numpy", "pyarrow", "pydantic", "sklearn", "onnxruntime", "rich", "yaml", "dask", "distributed"}
    assert not loaded_after("import fastsim") & heavy
    assert not loaded_after("import fastsim.cli") & heavy


def test_simulating_does_not_load_what_only_training_needs() -> None:
    code = "import fastsim; fastsim.simulate(None, fastsim.load_workload('chat', num_requests=3))"
    assert not loaded_after(code) & {"sklearn", "skl2onnx", "onnx"}


def test_simulating_again_does_without_numba() -> None:
    code = "import fastsim; fastsim.simulate(None, fastsim.load_workload('chat', num_requests=3))"
    loaded_after(code)  # which compiles what is not kept
    assert not loaded_after(code) & {"numba", "scipy", "pandas"}


def test_reading_numbers_does_without_the_functions_of_pyarrow(tmp_path: Path) -> None:
    (tmp_path / "requests.csv").write_text("arrived_at,num_prompt_tokens,num_output_tokens\n0.0,374,44\n4.3,396,109\n")
    code = "import sys; from fastsim.workload.read import requests; requests('requests.csv')"
    code += "; assert 'pyarrow.compute' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_stray_import_of_the_kernels_is_refused() -> None:
    done = subprocess.run([sys.executable, "-c", "import kernels.state"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "import fastsim.kernels, not kernels" in done.stderr


def test_public_names_are_imported_when_first_used() -> None:
    import fastsim

    for name in fastsim.__all__:
        assert getattr(fastsim, name) is not None
    with pytest.raises(AttributeError, match="simulat"):
        fastsim.simulat  # noqa: B018


def test_kernels_defined_by_threads_at_once_leave_nothing_in_the_working_directory(tmp_path: Path) -> None:
    code = """
import sys
sys.setswitchinterval(1e-6)
from concurrent.futures import ThreadPoolExecutor
import numba
from fastsim.kernels._folder import CACHE_FOLDER
from fastsim.kernels._jit import kernel
from fastsim.simulation.lanes import get_ready
before = numba.config.CACHE_DIR
with ThreadPoolExecutor(8) as pool:
    made = list(pool.map(lambda _: [kernel(get_ready) for _ in range(200)], range(8)))
assert numba.config.CACHE_DIR == before
assert {one._cache.cache_path.startswith(str(CACHE_FOLDER)) for some in made for one in some} == {True}
"""
    env = {**os.environ, "FASTSIM_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    folder = tmp_path / "here"
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
