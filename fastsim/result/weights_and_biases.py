"""A result logged to Weights & Biases: configuration, figures and series, and the files as an artifact."""

from pathlib import Path

from fastsim.errors import InputError, OutputError
from fastsim.result.metrics.definitions import flatten
from fastsim.result.result import Result
from fastsim.result.store import FILES


def log(result: Result, folder: Path, project: str) -> str:
    """Log a result to Weights & Biases.

    wandb's own settings (WANDB_MODE, `wandb login`) decide the account, and whether the run goes online.

    Parameters
    ----------
    result : Result
        The result to log.
    folder : Path
        The folder with its files; the run takes its name from it.
    project : str
        The project that the run belongs to.

    Returns
    -------
    str
        The address of the run, or its folder if the run is offline.

    Raises
    ------
    InputError
        The package wandb is not installed.
    OutputError
        wandb cannot log the run.
    """
    try:
        import wandb
    except ImportError:
        raise InputError("wandb: the package is not installed; pip install 'fastsim[wandb]'") from None
    try:
        settings = wandb.Settings(silent=True, disable_git=True)
        with wandb.init(project=project, name=folder.resolve().name, config=result.config, settings=settings) as run:
            sections = result.summary.get("series", {})
            series = {name: values for name, values in sections.items() if isinstance(values, list)}
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
