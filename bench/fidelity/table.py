"""The leaderboard as text: a line per set of rows, the share of it that was never fitted, and what peers publish."""

from collections import Counter
from collections.abc import Iterator, Sequence

from .peers import PEERS, Peer
from .replay import Replayed
from .runs import THROUGHPUT
from .scores import score

COLUMNS = {
    "ttft_mean": "TTFT mean",
    "ttft_p99": "TTFT p99",
    "tpot_mean": "TPOT",
    "e2e_mean": "E2E",
    THROUGHPUT: "throughput",
}
WIDTH, NAME_WIDTH = 18, 58
EXPLAINED = """\
Errors are predicted / measured - 1 in percent: signed mean / mean absolute / median absolute over the rows of a set (of
a set of one row its signed error). A row counts as fitted if a coefficient that fastsim has today was fitted on it.
Numbers in brackets: errors that others publish, with the notes below the table.
"""


class Table:
    """Prints sets one after the other, and what peers publish beside the first set that it is about."""

    def __init__(self) -> None:
        self._noted: list[Peer] = []

    def head(self) -> Iterator[str]:
        yield EXPLAINED
        yield f"{'':{NAME_WIDTH}} rows" + "".join(f"{title:>{WIDTH}}" for title in COLUMNS.values())

    def lines(self, title: str, rows: Sequence[Replayed], left_out: Sequence[str]) -> Iterator[str]:
        """All rows of a set, those never fitted where others were, and why rows were left out."""
        yield line(title, rows) if rows else title
        never = [one for one in rows if not one.row.fitted]
        if 0 < len(never) < len(rows):
            yield line("    those never fitted", never)
        elif rows and not never:
            yield "    All rows were fitted on."
        for reason, number in Counter(left_out).most_common():
            yield f"    {number} {'rows' if number > 1 else 'row'} left out: {reason}"
        for peer in PEERS:
            if title.startswith(peer.about) and peer not in self._noted:
                self._noted.append(peer)
                cells = [peer.errors.get(metric, "-") for metric in COLUMNS]
                yield f"{f'    [{len(self._noted)}] {peer.name}':{NAME_WIDTH + 5}}" + _aligned(cells)

    def notes(self) -> Iterator[str]:
        """The caveat and the source of each published error."""
        for number, peer in enumerate(self._noted, 1):
            yield f"[{number}] {peer.name}, {peer.about}: {peer.caveat}. Source: {peer.source}."


def line(name: str, rows: Sequence[Replayed]) -> str:
    """The errors of some rows."""
    cells = [score(rows, metric) for metric in COLUMNS]
    return f"{name:{NAME_WIDTH}} {len(rows):4}" + _aligned([str(cell) if cell else "-" for cell in cells])


def _aligned(cells: Sequence[str]) -> str:
    return "".join(f" {cell:>{WIDTH - 1}}" for cell in cells)
