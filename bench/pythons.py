"""Install fastsim on every Python of this machine and compare its results: `python bench/pythons.py [--git]`.

The wheel and the source archive are installed into fresh environments of each Python from 3.11 on, and run. All
summaries must be equal to the bit. With ``--git`` pip also installs a clone of the last commit.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = ("simulate", "--requests", "300", "--iterations", "--set", "num_replicas=2", "--slo", "ttft:p90<2s")


def pythons() -> dict[str, Path]:
    """Return the Pythons from 3.11 on that are on the path, or that pyenv has installed, by version."""
    named = (shutil.which(f"python3.{minor}") for minor in range(11, 20))
    installed = sorted((Path.home() / ".pyenv" / "versions").glob("*/bin/python3"))
    found: dict[str, Path] = {}
    for python in (Path(sys.executable), *(Path(name) for name in named if name), *installed):
        said = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2], sep='.')"], capture_output=True, text=True
        )
        version = said.stdout.strip()
        if said.returncode == 0 and version.startswith("3.") and int(version[2:]) >= 11:
            found.setdefault(version, python)
    return found


def install(python: Path, source: str, folder: Path) -> Path:
    """Install ``source``, a package or an address, into a fresh environment; return its Python."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    own = folder / "bin" / "python"
    subprocess.run([own, "-m", "pip", "install", "-q", source], check=True, capture_output=True)
    return own


def summary_digest(python: Path, folder: Path, **environment: str) -> str:
    """Run fastsim in ``folder``, and return the SHA-256, as hex, of its summary without times of its own."""
    out = folder / "result"
    done = subprocess.run(
        [python, "-m", "fastsim", *RUN, "--out", out],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    summary = json.loads((out / "summary.json").read_text())
    return sha256(json.dumps({**summary, "timing": None, "digest": None}).encode()).hexdigest()


def packages(folder: Path) -> Iterator[Path]:
    """Build the wheel and the source archive."""
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True)
    yield from sorted(folder.iterdir())


def main() -> None:
    """Print a line for each Python and package; exit with 1 if the summaries differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--git", action="store_true")
    digests = set()
    with tempfile.TemporaryDirectory() as name:
        sources = [str(path) for path in packages(Path(name) / "dist")]
        if parser.parse_args().git:
            sources.append(f"git+file://{ROOT}")
        for version, python in pythons().items():
            for number, source in enumerate(sources):
                folder = Path(name) / f"{version}-{number}"
                own = install(python, source, folder)
                digests.add(digest := summary_digest(own, folder))
                print(version, source.rpartition("/")[2], digest[:16], flush=True)
                shutil.rmtree(folder)
    sys.exit(len(digests) != 1)


if __name__ == "__main__":
    main()
