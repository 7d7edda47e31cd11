"""The terminal kit: figures as text, and notes that stay apart from results."""

import pytest

from fastsim.cli.terminal import console


def test_numbers_never_turn_to_exponents() -> None:
    values = (None, 0, 2.0, 0.12345, 12.345, 9999.7, 12345.6, 1234567)
    assert [console.number(value) for value in values] == [
        "-",
        "0",
        "2",
        "0.1235",
        "12.35",
        "10,000",
        "12,346",
        "1,234,567",
    ]
    assert [console.number(value, 3) for value in (6.172, 53.27, 1633.4)] == ["6.17", "53.3", "1,633"]


def test_times_take_the_unit_that_suits() -> None:
    values = (None, 0.0, 0.00125, 0.9999, 59.94, -0.25, 999.4, 1200.0, 86400.0)
    assert [console.seconds(value) for value in values] == [
        "-",
        "0 ms",
        "1.25 ms",
        "1 s",
        "59.9 s",
        "-250 ms",
        "999 s",
        "20 min",
        "1,440 min",
    ]


def test_shares_money_and_bytes() -> None:
    assert [console.share(None), console.share(0.5), console.share(0.1234, 1)] == ["-", "50%", "12.3%"]
    assert [console.dollars(None), console.dollars(1234.5)] == ["-", "$1,234.50"]
    assert [console.size(number) for number in (900, 123_456, 14_900_000)] == ["0.9 kB", "0.1 MB", "14.9 MB"]


def test_notes_go_to_standard_error_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    text = "scheduler.chunk_size: [512] :smile:" + " of many words" * 30
    console.note(text)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"note: {text}\n")


def test_a_table_cuts_nothing_off_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table = console.table(("", "figure"))
    table.add_row("name " * 20, "7" * 100)
    console.stdout().print(table)
    (_, row) = capsys.readouterr().out.splitlines()
    assert row.split() == ["name"] * 20 + ["7" * 100]
