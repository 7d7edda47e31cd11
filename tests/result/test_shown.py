"""What Python prompts and notebooks show of a result, and the keywords of the usual questions."""

from importlib.util import find_spec

import pytest

import fastsim
from fastsim.errors import ConfigError
from fastsim.result import shown


def test_a_result_is_shown_in_a_line_and_as_a_table() -> None:
    result = fastsim.simulate(device="h200", tensor_parallel_size=2, rate=4.0, num_requests=50)
    assert repr(result).startswith("<Result: 50 requests to meta-llama/Meta-Llama-3-8B on 2 x h200: mean TTFT ")
    assert len(repr(result)) < 200
    config = {**result.config, "deployment": {**result.config["deployment"], "model": "<b>"}}
    table = shown.html(result.summary, config)
    assert table.count("<tr>") == 5 and "&lt;b&gt;" in table and "<b>" not in table


def test_keywords_change_the_deployment_and_the_workload() -> None:
    one = fastsim.simulate(model="meta-llama/Llama-2-7b-hf", num_requests=20, users=2, max_num_seqs=8)
    assert one.config["deployment"]["model"] == "meta-llama/Llama-2-7b-hf"
    assert one.config["deployment"]["scheduler"]["max_num_seqs"] == 8
    assert one.config["workload"]["num_requests"] == 20
    with pytest.raises(ConfigError, match=r"^modle: unknown setting; did you mean 'model'\?"):
        fastsim.simulate(modle="meta-llama/Llama-2-7b-hf")
    with pytest.raises(ConfigError, match="exclude each other"):
        fastsim.simulate(rate=1.0, users=3)


def test_a_data_frame_needs_pandas() -> None:
    result = fastsim.simulate(num_requests=20)
    if find_spec("pandas"):
        assert result.to_pandas().shape == (20, result.requests.num_columns)
    else:
        with pytest.raises(ConfigError, match=r"pip install 'fastsim\[pandas\]'"):
            result.to_pandas()
