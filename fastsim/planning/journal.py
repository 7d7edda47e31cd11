"""The journal of a search: an SQLite database of the outcomes so far, so that a search resumes where it ended."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastsim.errors import InputError, OutputError
from fastsim.files.writing import reason, refuse_file

FILE = "findings.sqlite"
OLD_FILE = "findings.jsonl"  # of fastsim before the journal was a database
FORMAT = 1  # raised when the tables change
PATIENCE_S = 1.0  # how long to wait for another process that is just opening the journal
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
UNWRITABLE = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE findings (key TEXT PRIMARY KEY, outcome TEXT NOT NULL) WITHOUT ROWID;
"""


class Journal:
    """Outcomes by key, as JSON has them; each survives a kill of the process once ``add`` has returned.

    One process at a time holds the journal of a folder, and the operating system releases it when that process ends.
    Without a folder, outcomes are kept in memory only.
    """

    def __init__(self, folder: Path | None, about: dict[str, Any]) -> None:
        """Open the journal in ``folder``, or make it; ``about``: the settings that outcomes depend on, by name.

        Raises InputError if the folder holds another search or a damaged journal, and OutputError if it cannot be
        written or another process is writing into it.
        """
        self.known: dict[str, Any] = {}
        self._database: sqlite3.Connection | None = None
        if folder is None:
            return
        refuse_file(folder)
        self._path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise OutputError(f"{folder}: cannot be written ({reason(problem)}); name a folder that can") from None
        if (folder / OLD_FILE).exists() and not self._path.exists():
            raise InputError(
                f"{folder}: holds {OLD_FILE} of an earlier version of fastsim, which cannot be resumed; "
                "remove that file to search again, or name another folder with --out"
            )
        with self._explained():
            self._database = sqlite3.connect(self._path, timeout=PATIENCE_S, isolation_level=None)
        try:
            with self._explained():
                self._resume(self._database, json.loads(json.dumps(about)))
        except BaseException:
            self.close()
            raise

    def add(self, key: str, outcome: Any) -> None:
        """Keep an outcome. Raises OutputError if it cannot be written."""
        self.known[key] = outcome
        if self._database is not None:
            with self._explained():
                self._database.execute("INSERT OR REPLACE INTO findings VALUES (?, ?)", (key, json.dumps(outcome)))

    def close(self) -> None:
        """Release the journal."""
        if self._database is not None:
            self._database.close()

    def _resume(self, database: sqlite3.Connection, about: dict[str, Any]) -> None:
        # A write-ahead log needs no flush per outcome, and is replayed after a kill. Once taken, the exclusive lock
        # lasts until the connection closes.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("BEGIN EXCLUSIVE")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if not version and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in TABLES.strip().splitlines():
                database.execute(statement)
            rows = [(name, json.dumps(value)) for name, value in about.items()]
            database.executemany("INSERT INTO about VALUES (?, ?)", rows)
            database.execute(f"PRAGMA user_version = {FORMAT}")
        elif version != FORMAT or database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError
        # All rows at once: a connection whose cursor has rows left keeps its lock when it is closed.
        settings = database.execute("SELECT name, value FROM about").fetchall()
        there = {name: json.loads(value) for name, value in settings}
        for name, value in about.items():
            if there.get(name) != value:
                raise InputError(
                    f"{self._path.parent}: holds another search ({name} differ); name another folder with --out"
                )
        findings = database.execute("SELECT key, outcome FROM findings").fetchall()
        self.known = {key: json.loads(outcome) for key, outcome in findings}
        database.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of SQLite into one sentence."""
        folder = self._path.parent
        try:
            yield
        except sqlite3.OperationalError as problem:
            code = getattr(problem, "sqlite_errorcode", 0) & 0xFF  # without the extension of the code
            if code in BUSY:
                raise OutputError(
                    f"{folder}: another search is writing into it; wait for it, or name another folder with --out"
                ) from None
            if code in UNWRITABLE:
                raise OutputError(f"{folder}: cannot be written ({problem}); name a folder that can") from None
            raise self._damaged() from None
        except (sqlite3.DatabaseError, ValueError):
            raise self._damaged() from None

    def _damaged(self) -> InputError:
        return InputError(f"{self._path}: is damaged; remove it to search again, or name another folder with --out")
