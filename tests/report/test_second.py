"""The timeline of a second shows the batches that run in it."""

import numpy as np
import pytest

import fastsim
from fastsim.report.charts.second import busiest, second
from fastsim.report.page.picture import Blocks, Picture


@pytest.fixture(scope="module")
def result() -> fastsim.Result:
    return fastsim.simulate(None, "chat", rate=20.0, num_requests=300, iterations=True, num_replicas=2)


def test_a_second_has_the_batches_that_run_in_it(result: fastsim.Result) -> None:
    assert result.iterations is not None
    start, end = (result.iterations[name].to_numpy() for name in ("start", "end"))
    figure = second(result, 4.0)
    assert isinstance(figure.figure, Picture)
    layers = [layer for layer in figure.figure.layers if isinstance(layer, Blocks)]
    left = np.sort(np.concatenate([np.asarray(layer.left) for layer in layers]))
    assert np.array_equal(left, np.sort(start[(end > 4.0) & (start < 5.0)]))
    assert set(layers[0].row) | set(layers[1].row) == {"replica 0", "replica 1"}
    assert all(text != "0" for text in (layers[0].tips or {})["prompt tokens"])
    assert set((layers[1].tips or {})["prompt tokens"]) == {"0"}
    assert figure.figure.draw().renderers


def test_a_second_without_batches_is_empty(result: fastsim.Result) -> None:
    assert second(result, 1e6).caption.startswith("0 batches")


def test_the_busiest_second_has_most_requests_waiting(result: fastsim.Result) -> None:
    arrived, scheduled = result.column("arrived_at"), result.column("scheduled_at")

    def waiting(begin: float) -> int:
        return int(((arrived <= begin + 1) & (scheduled >= begin)).sum())

    assert waiting(busiest(result)) == max(waiting(float(begin)) for begin in range(int(scheduled.max()) + 1))
