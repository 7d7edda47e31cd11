"""The order of the house: a file imports only its own folder and the folders below it, and never in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# From the top down. Folders on one line may import each other's files as long as no circle comes of it.
ORDER = [
    {"", "__main__"},  # the face, whose names are imported when they are used
    {"cli"},
    {"explore"},
    {"report"},
    {"calibration"},
    {"planning", "measured"},
    {"sweeps"},
    {"simulation"},
    {"profiling"},
    {"result"},
    {"predictors"},
    {"deployment"},
    {"workload", "catalog"},
    {"files"},
    {"kernels"},
    {"errors", "version", "arrays"},
]
FLOOR = {folder: len(ORDER) - i for i, folders in enumerate(ORDER) for folder in folders}


def sources() -> dict[str, Path]:
    """Every module of fastsim by its dotted name."""
    found = {}
    for top, prefix in (("fastsim", ()), ("kernels", ("fastsim",)), ("profiling", ("fastsim",))):
        for path in (ROOT / top).rglob("*.py"):
            parts = (*prefix, *path.relative_to(ROOT).with_suffix("").parts)
            if parts[:2] in (("fastsim", "kernels"), ("fastsim", "profiling")) and not prefix:
                continue  # reached through the links
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of fastsim that a file names, those imported inside functions and for types included."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            found |= {f"{module}.{one.name}" if f"{module}.{one.name}" in modules else module for one in node.names}
    return (found & modules.keys()) - {name}


def floor(name: str) -> int:
    return FLOOR[[*name.split("."), ""][1]]


def test_no_import_runs_up() -> None:
    modules = sources()
    assert len(modules) > 150
    up = {
        f"{name} imports {other}"
        for name, path in modules.items()
        for other in imports(name, path, modules)
        if name != "fastsim" and (other == "fastsim" or floor(other) > floor(name))
    }
    assert not up


def test_no_file_imports_in_a_circle() -> None:
    modules = sources()
    graph = {name: imports(name, path, modules) for name, path in modules.items() if name != "fastsim"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_ground_floor_holds_only_the_face() -> None:
    assert {path.name for path in (ROOT / "fastsim").glob("*.py")} == {
        "__init__.py",
        "__main__.py",
        "arrays.py",
        "errors.py",
        "version.py",
    }
