"""What a search has found out so far, on disk: a line per finding, so that nothing is computed twice."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from fastsim.errors import InputError, OutputError
from fastsim.files.writing import refuse_file

FILE = "findings.jsonl"


class Journal:
    """Findings by key. The first line says what is searched; a line cut off in the middle does not count."""

    def __init__(self, folder: Path | None, about: dict[str, Any]) -> None:
        """``about``: what findings depend on. Raises InputError for the folder of another search, and OutputError."""
        self.known: dict[str, Any] = {}
        self._file: TextIO | None = None
        if folder is None:
            return
        refuse_file(folder)
        path = folder / FILE
        about = json.loads(json.dumps(about))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lines = list(_read(path)) if path.exists() else []
            if lines:
                _compare(folder, lines[0], about)
                self.known = {line["key"]: line["found"] for line in lines[1:]}
            self._file = path.open("a", encoding="utf-8")
            if not lines:
                self._file.truncate(0)
                self._write(about)
        except OSError as problem:
            raise OutputError(f"{folder}: cannot be written ({problem.strerror}); name a folder that can") from None

    def add(self, key: str, found: Any) -> None:
        self.known[key] = found
        if self._file is not None:
            self._write({"key": key, "found": found})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _read(path: Path) -> Iterable[dict[str, Any]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):  # what a kill cut off
        text = text[: text.rfind("\n") + 1]
        path.write_text(text, encoding="utf-8")
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            raise InputError(f"{path}: is damaged; remove the folder, or name another with --out") from None


def _compare(folder: Path, there: dict[str, Any], about: dict[str, Any]) -> None:
    for name, value in about.items():
        if there.get(name) != value:
            raise InputError(f"{folder}: holds another search ({name} differ); name another folder with --out")
