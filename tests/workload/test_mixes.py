"""Mixes of presets have the shares that they name."""

import numpy as np
import pytest

from fastsim.errors import ConfigError
from fastsim.sweeps.space import Space
from fastsim.workload.loading import is_description, is_workload, load


def test_requests_come_in_the_shares_that_a_mix_names() -> None:
    drawn = load("chat=70,code=30", rate=5.0, num_requests=4000)
    assert drawn.tenant is not None
    names, counts = np.unique(drawn.tenant, return_counts=True)
    assert names.tolist() == ["chat", "code"]
    assert abs(counts[0] / 4000 - 0.7) < 0.03
    assert abs(drawn.rate / 5.0 - 1) < 0.1  # type: ignore[operator]
    assert is_workload("chat=70,code=30") and is_description("chat=70,code=30")


def test_a_mix_of_one_has_the_lengths_of_its_preset() -> None:
    mixed, alone = load("summarisation=1", num_requests=2000), load("summarisation", num_requests=2000)
    for column in ("num_prompt_tokens", "num_output_tokens"):
        one, other = (np.quantile(getattr(each, column), [0.25, 0.5, 0.75]) for each in (mixed, alone))
        assert np.all(np.abs(one / other - 1) < 0.15)


def test_a_space_takes_a_mix() -> None:
    axes = {"scheduler.max_num_seqs": [64, 128]}
    space = Space.load({"axes": axes, "workload": {"source": "chat=70,code=30", "rate": 3, "num_requests": 50}})
    assert [each.workload.num_requests for each in space.configurations()] == [50, 50]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("chat=70,cod=30", "no preset 'cod'; did you mean 'code'?"),
        ("chat=70,chat=30", "chat is given twice"),
        ("chat=many", "the share 'many' of chat is not a number"),
        ("chat=", "the share '' of chat is not a number"),
        ("chat=0,code=0", "all shares are 0"),
    ],
)
def test_what_is_no_mix_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(name)
    assert sentence in str(refused.value)
