"""The result of a simulation: tables of requests and iterations, a summary, and the configuration they follow from."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from fastsim.errors import ConfigError
from fastsim.files.writing import replacing
from fastsim.result import shown, wording
from fastsim.result.metrics.definitions import definitions
from fastsim.result.metrics.goodput import judge
from fastsim.result.metrics.objectives import Objective, missed
from fastsim.result.metrics.verdict import rejudge
from fastsim.result.store import CSV, FILES, as_json, digest_of, read_folder, write_parquet


@dataclass(frozen=True, repr=False)
class Result:
    """What a simulation gives: tables of requests and iterations, figures, and all that they follow from.

    Attributes
    ----------
    requests : pyarrow.Table
        A row per request. Each column has its unit and meaning in the metadata of its field.
    iterations : pyarrow.Table or None
        A row per batch and pipeline stage, by start time; None unless they were asked for.
    summary : dict
        Figures such as ``summary["latency"]["ttft"]["p99"]``; ``summary["definitions"]`` says what each means, and its
        unit.
    config : dict
        The resolved deployment, the workload, the model, the device, and the versions: what the result follows from.

    Examples
    --------
    >>> result = fastsim.simulate(None, fastsim.load_workload("chat", num_requests=50), iterations=True)
    >>> result.requests.num_rows, result.iterations.column_names[:2]
    (50, ['replica_id', 'stage_id'])
    >>> result.save("run")
    >>> fastsim.Result.load("run").requests.equals(result.requests)
    True
    """

    requests: pa.Table
    iterations: pa.Table | None
    summary: dict[str, Any]
    config: dict[str, Any]

    def __repr__(self) -> str:
        return f"<Result: {shown.line(self.summary, self.config)}>"

    def _repr_html_(self) -> str:
        """The headline figures as a table, as notebooks show it."""
        return shown.html(self.summary, self.config)

    def to_pandas(self) -> Any:
        """Return ``requests`` as a data frame of pandas, which the extra ``fastsim[pandas]`` installs.

        Returns
        -------
        pandas.DataFrame
            A row per request, and a column per column of ``requests``.

        Raises
        ------
        errors.ConfigError
            When pandas is not installed.
        """
        if find_spec("pandas") is None:
            raise ConfigError("pandas is not installed; `pip install 'fastsim[pandas]'` brings it")
        return self.requests.to_pandas()

    @property
    def plot(self) -> Any:
        """Figures of this result: ``latency()``, ``breakdown()`` and ``timeline()``.

        Each is a ``fastsim.report.plots.Plot``: notebooks show it, ``save("figure.svg")`` writes it as SVG, PNG or HTML
        without a browser, and ``figure`` is it in Bokeh.
        """
        # By name, as the report is built upon results.
        return import_module("fastsim.report.plots").Plots(self)

    def column(self, name: str) -> NDArray[Any]:
        """Return a column of ``requests`` as an array.

        Parameters
        ----------
        name : str
            The name of the column, such as ``"ttft"``.

        Returns
        -------
        ndarray
            One value per request, in the order of their ids.
        """
        values: NDArray[Any] = self.requests[name].to_numpy()
        return values

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all columns of ``requests`` as arrays, by name."""
        return {name: self.column(name) for name in self.requests.column_names}

    def tables(self) -> list[tuple[str, pa.Table]]:
        """Return the tables of this result, each with its name."""
        tables = {"requests": self.requests, "iterations": self.iterations}
        return [(name, table) for name, table in tables.items() if table is not None]

    def save(self, folder: str | Path, csv: bool = False) -> None:
        """Write requests.parquet, iterations.parquet, config.json and summary.json: all of them, or none.

        Parameters
        ----------
        folder : str or Path
            Where to write. The folder is created if need be, and the files of an earlier result in it are replaced.
        csv : bool
            Whether to write the tables as CSV as well. By default False.

        Raises
        ------
        errors.OutputError
            When the files cannot be written.
        """
        began = time.perf_counter()
        timing = self.summary["timing"]
        digest = digest_of(self.requests, self.iterations, self.summary, self.config)
        with replacing(Path(folder), FILES, whole=True) as written:
            for name, table in self.tables():
                write_parquet(table, written / f"{name}.parquet", digest)
            if csv:
                self._write_csv(written)
            (written / "config.json").write_text(as_json({**self.config, "digest": digest}))
            timing["total_s"] -= timing["write_s"]
            timing["write_s"] = time.perf_counter() - began
            timing["total_s"] += timing["write_s"]
            (written / "summary.json").write_text(as_json({**self.summary, "digest": digest}))

    def save_csv(self, folder: str | Path) -> None:
        """Write the tables as CSV: both of them, or none.

        Parameters
        ----------
        folder : str or Path
            Where to write requests.csv and iterations.csv.

        Raises
        ------
        errors.OutputError
            When the files cannot be written.
        """
        with replacing(Path(folder), CSV) as written:
            self._write_csv(written)

    def _write_csv(self, folder: Path) -> None:
        """Write each table into ``folder`` as CSV."""
        from pyarrow import csv

        for name, table in self.tables():
            csv.write_csv(table, folder / f"{name}.csv")

    def judge(self, objectives: Sequence[Objective]) -> None:
        """Judge the result by objectives: put them, the goodput and the verdict under them into the summary.

        Parameters
        ----------
        objectives : sequence of Objective
            What the latencies must keep to; ``fastsim.result.metrics.objectives.parse`` makes one from text.
        """
        self.summary.update(judge(objectives, self.columns(), self.summary))
        if previous := self.summary.get("verdict"):
            self.summary["verdict"] = rejudge(previous, missed(objectives, self.summary), wording.of(self.config).slots)
        self.summary["definitions"] = definitions(self.summary) | self.summary["definitions"]

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read a result from the folder that ``save`` wrote.

        Parameters
        ----------
        folder : str or Path
            The folder.

        Returns
        -------
        Result
            The result as it was saved.

        Raises
        ------
        errors.InputError
            When the folder holds no result, only a part of one, one of another format, or one that was changed.
        """
        return cls(*read_folder(Path(folder)))
