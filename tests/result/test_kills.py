"""A result that is overwritten is the old one or the new one, whenever its process is killed."""

from pathlib import Path

import kills


def test_a_killed_overwrite_leaves_the_old_result_or_the_new_one(tmp_path: Path) -> None:
    results, folder = kills.two_results(), tmp_path / "run"
    outcomes = kills.kill(results, folder, 30)
    assert outcomes.total() == 30
    kills.clean_up(results, folder)
