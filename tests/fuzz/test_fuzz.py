"""A thousand odd inputs: each command succeeds, or refuses its input in a sentence (`bench/fuzzing.py` runs more)."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .attempt import attempt
from .subjects import SUBJECTS

INPUTS = 1000 // len(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_input_ends_in_a_traceback(subject: Callable[[Random, Path], list[str]]) -> None:
    codes = set()

    @settings(
        max_examples=INPUTS, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.randoms(use_true_random=False))
    def run(random: Random) -> None:
        code, arguments, wrong = attempt(subject, random)
        assert not wrong, (arguments, wrong)
        codes.add(code)

    run()
    assert 2 in codes  # some inputs are refused; whether others are not is chance, as each is damaged


def test_a_fault_of_fastsim_is_one_sentence_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastsim.cli import catalog, run

    def break_down(*_: object, **__: object) -> None:
        raise KeyError("a\x1bb")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(catalog.catalog, "callback", break_down)
    assert run(["catalog", "models"]) == 1
    (report,) = tmp_path.iterdir()
    said = capsys.readouterr().err
    assert said.startswith("fastsim: this is a fault of fastsim, not of your input (KeyError: 'a\\x1bb')")
    assert said.endswith(f"with the file {report}\n")
    assert "Traceback" in report.read_text()
    assert "numpy: " in report.read_text()
