"""Host time and factors beside operator times that are known: steps are timed as the kernel does, and found again."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calibration_runs import batches

from fastsim.calibration import steps
from fastsim.calibration.calibrate import calibrate
from fastsim.calibration.gather import gathered
from fastsim.calibration.operators import Operators
from fastsim.deployment.calibration import Calibration
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError
from fastsim.predictors.build import build_cost
from fastsim.predictors.explain import explain
from fastsim.predictors.times.iteration import Iteration

FIELDS = {"model": "meta-llama/Meta-Llama-3-8B", "device": "h100", "engine": "vllm-0.15"}
SERVED = Deployment.load(FIELDS | {"scheduler": {"async_scheduling": False, "max_num_seqs": 64}})
TRUE = {"host_ms_per_step": 2.4, "host_ms_per_sequence": 0.07, "gemm": 1.08}


@pytest.fixture(scope="module")
def operators() -> Operators:
    """A deployment without a calibration."""
    return Operators(resolve(SERVED), None)


@pytest.fixture(scope="module")
def made(operators: Operators, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """What is found on steps that take TRUE, with noise and pauses."""
    of = batches(3000)
    counts: dict[str, Any] = {name: one.astype(np.float64) for name, one in of.items()}
    whole = steps.Steps("", np.ones(3000), np.ones(3000), **counts)
    values = operators.prior.copy()
    for name, value in TRUE.items():
        values[operators.names.index(name)] = value
    rng = np.random.default_rng(4)
    took = operators.seconds(values, whole) * rng.lognormal(0.0, 0.02, 3000) + (rng.random(3000) < 0.01) * 0.03
    start = np.concatenate([[0.0], np.cumsum(took)[:-1]])
    file = tmp_path_factory.mktemp("steps") / "steps.parquet"
    pq.write_table(
        pa.table({"step": np.arange(3000), "start": start, **of, "num_gpu_blocks": np.full(3000, 5001)}), file
    )
    return calibrate(gathered(file, None, None, None, None), SERVED).calibration


@pytest.mark.parametrize(("prompt", "before", "decodes", "kv"), [(0, 0, 7, 900), (300, 0, 0, 0), (256, 512, 20, 333)])
def test_steps_take_what_the_kernel_charges(
    operators: Operators, prompt: int, before: int, decodes: int, kv: int
) -> None:
    one = Iteration(((prompt, before),) if prompt else (), ((decodes, kv),) if decodes else ())
    numbers = (int(prompt > 0), prompt, decodes, before, 0, decodes * kv)
    counts: dict[str, Any] = {name: np.array([float(one)]) for name, one in zip(steps.COUNTS, numbers, strict=True)}
    step = steps.Steps("", np.zeros(1), np.ones(1), **counts)
    charged = explain(resolve(SERVED), one)["total_ms"]
    assert 1e3 * operators.seconds(operators.prior, step)[0] == pytest.approx(charged, rel=1e-9)


def test_host_time_and_factors_are_found(made: Calibration) -> None:
    found = {one.name: one for one in made.coefficients}
    for name, value in TRUE.items():
        low, high = found[name].low, found[name].high
        assert low is not None and high is not None and low <= value <= high, name
    assert made.num_blocks == 5000
    assert all(0.8 <= factor <= 1.2 for factor in made.factors.model_dump().values())
    assert all(one.left or one.low is not None for one in made.coefficients)


def test_a_deployment_takes_host_time_and_factors(made: Calibration, operators: Operators) -> None:
    assert made.host is not None
    plain, named = (build_cost(resolve(one)) for one in (SERVED, SERVED.model_copy(update={"calibration": made})))
    assert named.provenance["calibration"] == {"sha256": made.digest}
    host = named.cost.fastsim.host_ms
    assert host[5] == pytest.approx(made.host.host_ms_per_step + 5 * made.host.host_ms_per_sequence)
    gemm = plain.operators["mlp_up_proj"].token_ms
    assert named.operators["mlp_up_proj"].token_ms == pytest.approx(gemm * made.factors.gemm)
    whole = sum(one.token_ms for one in named.operators.values() if one.token_ms.size)
    assert named.cost.fastsim.token_ms == pytest.approx(whole)


def test_vidurs_composition_has_none(made: Calibration) -> None:
    with pytest.raises(ConfigError, match="'vidur' has no calibration"):
        resolve(
            Deployment.load(
                FIELDS | {"scheduler": {"policy": "vllm"}, "predictor": {"compose": "vidur"}, "calibration": made}
            )
        )
