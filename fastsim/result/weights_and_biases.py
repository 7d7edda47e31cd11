"""A result as a run of Weights & Biases: its settings, every figure, its series, and its files as an artifact."""

from pathlib import Path

from fastsim.errors import InputError, OutputError
from fastsim.result.metrics.definitions import flatten
from fastsim.result.result import Result
from fastsim.result.store import FILES


def log(result: Result, folder: Path, project: str) -> str:
    """Log ``result``, whose files are in ``folder``; returns where it is now.

    Online or not, and under which account, is what wandb's own settings say (WANDB_MODE, `wandb login`). Raises
    InputError without the package, OutputError when wandb cannot log.
    """
    try:
        import wandb
    except ImportError:
        raise InputError("wandb: the package is not installed; pip install 'fastsim[wandb]'") from None
    try:
        settings = wandb.Settings(silent=True, disable_git=True)
        with wandb.init(project=project, name=folder.resolve().name, config=result.config, settings=settings) as run:
            series = {name: part for name, part in result.summary.get("series", {}).items() if isinstance(part, list)}
            for row in zip(*series.values(), strict=True):
                run.log({f"series.{name}": value for name, value in zip(series, row, strict=True)})
            run.summary.update({name: value for name, value in flatten(result.summary).items() if value is not None})
            files = wandb.Artifact(f"result-{run.id}", type="result")
            for name in FILES:
                if (folder / name).is_file():
                    files.add_file(str(folder / name))
            run.log_artifact(files)
            return str(run.dir if run.offline else run.url)
    except wandb.Error as problem:
        reason = str(problem).splitlines()[0]
        raise OutputError(f"wandb: {reason}; log in with `wandb login`, or set WANDB_MODE=offline") from None
