"""The deployment that a measured run is replayed on: as the user describes it, or as a file beside the run does."""

from collections.abc import Sequence
from pathlib import Path

from fastsim.deployment.commands import imported
from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError
from fastsim.files.documents import read

NAMES = ("deployment.yaml", "deployment.yml")
RESULT = "config.json"  # of a result of fastsim


def described(run: Path, source: str | None, overrides: Sequence[str]) -> tuple[Deployment, str, list[str]]:
    """The deployment, what messages call its source, and notes on what of a command is not simulated.

    ``run`` is the file or folder of the measured run, and ``source`` a deployment file, a result's config.json, or a
    command of vLLM or SGLang; None: the file beside the run. Raises ConfigError where there is none.
    """
    if source is not None and any(map(str.isspace, source.strip())) and not _exists(source):
        taken = imported.load(source, None, overrides)
        return taken.deployment, "the command", taken.notes
    place = source or _beside(run)
    return Deployment.load(place, overrides), place, []


def _beside(run: Path) -> str:
    folder = run if run.is_dir() else run.parent
    for name in NAMES:
        if (folder / name).is_file():
            return str(folder / name)
    config = folder / RESULT
    if config.is_file() and isinstance(read(config).values.get("deployment"), dict):
        return str(config)
    raise ConfigError(
        f"--deployment: is not given, and {folder} has no {NAMES[0]}; name what served the requests, a deployment file "
        "or a command in quotes (e.g. --deployment 'vllm serve MODEL -tp 2')"
    )


def _exists(source: str) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):
        return False
