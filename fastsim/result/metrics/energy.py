"""The energy of the GPUs by a model: a share of the rated power when idle, and more the fuller the batches are.

IDLE: a GPU that holds a CUDA context draws 26 to 66 W more than a GPU without one (arXiv:2605.23918), in all about a
fifth of its rated power. SINGLE and FULL: an H100 SXM with a rated power of 700 W draws 300 W on batches of one token
and 600 W on batches of 128 tokens (ML.ENERGY Benchmark v3.0, as used by the fleet simulator of the vLLM Semantic
Router). Between them, power is linear in the logarithm of the number of tokens.
"""

from math import log2
from typing import Any

from fastsim.catalog.hardware import Device
from fastsim.deployment.prices import Prices, in_dollars

IDLE, SINGLE, FULL = 0.2, 300 / 700, 600 / 700  # shares of the rated power
FULL_TOKENS = 128


def energy(
    device: Device, num_gpus: int, span: float, busy: float, batch_tokens: float, num_output_tokens: int
) -> dict[str, Any]:
    """Return the section ``energy`` of a summary: kWh, mean watts of a GPU, and joules per output token.

    All are None for a GPU whose rated power is not known.

    Parameters
    ----------
    device : Device
        The GPU, whose rated power the model scales.
    num_gpus : int
        GPUs of all replicas.
    span : float
        Length of the run, s.
    busy : float
        Share of the span in which a GPU works on a batch.
    batch_tokens : float
        Mean number of tokens in a batch.
    num_output_tokens : int
        Output tokens of the run; without any, ``joules_per_output_token`` is None.
    """
    if not device.power_w:
        return {"kwh": None, "watts": None, "joules_per_output_token": None}
    fullness = min(1.0, log2(max(1.0, batch_tokens)) / log2(FULL_TOKENS))
    working = SINGLE + (FULL - SINGLE) * fullness
    watts = device.power_w * (IDLE * (1 - busy) + working * busy)
    joules = watts * num_gpus * span
    return {
        "kwh": joules / 3.6e6,
        "watts": watts,
        "joules_per_output_token": joules / num_output_tokens if num_output_tokens else None,
    }


def energy_costs(prices: Prices | None, kwh: float | None) -> dict[str, float | None]:
    """Return what energy costs in dollars, and the kg of CO2 that it emits, as far as prices and intensity are given.

    Parameters
    ----------
    prices : Prices or None
        Those of the deployment.
    kwh : float or None
        Energy of the GPUs; None where their power is not known.
    """
    given = prices.energy if prices else None
    if prices is None or given is None:
        return {}
    costs: dict[str, float | None] = {}
    if given.per_kwh is not None:
        costs["dollars"] = None if kwh is None else kwh * in_dollars(prices, given.per_kwh)
    if given.grams_co2_per_kwh is not None:
        costs["kg_co2"] = None if kwh is None else kwh * given.grams_co2_per_kwh / 1000
    return costs
