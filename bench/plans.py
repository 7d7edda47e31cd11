"""Do plans hold? Fleets and capacities of random cases, simulated ten times longer with new draws.

    python bench/plans.py [--number 20] [--seed 0] [--times 10] [--first 0]

Each case draws a model, a GPU, an engine, a workload and a load. Even cases ask for a fleet that serves a rate, odd
ones for the capacity of a deployment of one to four replicas. The plan is then simulated with ``--times`` as many
requests of other seeds: it should meet its objectives, and its queue should not grow. So is the fleet with one replica
less, and the deployment at 3 % more than its capacity: they should not, or the table says why the plan is not tight.
"""

import argparse
import time
from math import ceil
from typing import Any

import numpy as np

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import InputError
from fastsim.planning.capacity import capacity
from fastsim.planning.fleet import fleets
from fastsim.planning.stream import Source
from fastsim.planning.trials import Trials
from fastsim.result.metrics.objectives import DEFAULTS, parse_all

MODELS = (
    ("meta-llama/Meta-Llama-3-8B", 1),
    ("Qwen/Qwen2.5-7B", 1),
    ("Qwen/Qwen3-32B", 2),
    ("meta-llama/Llama-3.1-70B", 4),
    ("Qwen/Qwen3-30B-A3B", 2),
)
GPUS = ("a100", "h100", "h200", "l40s", "b200")
ENGINES = ("vllm-0.33", "vllm-0.19", "sglang-0.5.23", "sarathi", "vllm")
WORKLOADS = ("chat", "code", "summarisation", "translation", "retrieval", "agent")
OBJECTIVES: tuple[tuple[str, ...], ...] = (
    (),
    ("ttft:p90<1s", "tbt:p99<100ms"),
    ("ttft:p99<3s", "tpot:p90<60ms"),
    ("tbt:p99<80ms",),
    ("e2e:p90<30s",),
)
MORE = 1.03  # times a capacity, which should not hold
NEW = 500_000  # the first of the draws that no plan has seen


def case(number: int, seed: int) -> dict[str, Any]:
    """The case of this number: the deployment's fields, the workload, the objectives and the load."""
    rng = np.random.default_rng((seed, number))
    model, size = MODELS[rng.integers(len(MODELS))]
    engine = ENGINES[rng.integers(len(ENGINES))]
    named = {"engine": engine} if "-" in engine else {"engine": None, "scheduler": {"policy": engine}}
    fields = {"model": model, "device": GPUS[rng.integers(len(GPUS))], "max_model_len": 16384, **named}
    return {
        "fields": fields,
        "engine": engine,
        "size": size,
        "workload": WORKLOADS[rng.integers(len(WORKLOADS))],
        "objectives": OBJECTIVES[rng.integers(len(OBJECTIVES))],
        "rate": float(np.round(np.exp(rng.uniform(np.log(5), np.log(200))), 1)),
        "replicas": int(rng.integers(1, 5)),
    }


def held(deployment: Deployment, source: Source, rate: float, number: int, objectives: tuple[str, ...]) -> str:
    """Whether a run of other draws meets the objectives: "holds", or what it misses."""
    trials = Trials(resolve(deployment), source, parse_all(objectives) or DEFAULTS)
    probed = trials.at(rate, number, draw=NEW)
    return "holds" if probed.met else ", ".join(probed.broken)


def plan(number: int, seed: int, times: int) -> str:
    """A line of the table."""
    began, one = time.perf_counter(), case(number, seed)
    slo, fields = one["objectives"], one["fields"]
    who = f"{fields['model'].rpartition('/')[2]:18} {fields['device']:5} {one['engine']:13} {one['workload']:13}"
    who += f" {','.join(slo) or 'default':28}"
    tensor = {"tensor_parallel_size": one["size"], "num_replicas": one["replicas"]}
    try:
        if number % 2:
            deployment = Deployment.load({**fields, **tensor})
            found = capacity(deployment, one["workload"], slo, too_long="drop")
            source = Source(one["workload"], deployment.seed, too_long="drop")
            requests = times * found.num_requests
            if not found.rate:
                return f"{who} no rate meets the objectives"
            kept = held(deployment, source, found.rate, requests, slo)
            more = held(deployment, source, MORE * found.rate, requests, slo)
            said = f"{found.rate:8.2f}/s x{one['replicas']:<3} {'':6} {kept:28} {MORE - 1:.0%} more: {more}"
        else:
            made, result = fleets(
                one["rate"], Deployment.load(fields), one["workload"], slo,
                devices=[fields["device"]], replicates=0, too_long="drop",
            )  # fmt: skip
            if not made:
                return f"{who} no fleet: {result.rows[0]['error'] or result.rows[0]['limited_by']}"
            fleet = made[0]
            deployment = Deployment.load(fleet.deployment)
            source = Source(one["workload"], deployment.seed, too_long="drop")
            requests = ceil(times * fleet.num_requests)
            kept = held(deployment, source, one["rate"], requests, slo)
            more = "there is none less"
            if fleet.num_replicas > 1:
                fewer = deployment.model_copy(update={"num_replicas": fleet.num_replicas - 1})
                more = held(fewer, source, one["rate"], requests, slo)
                more = f"one less: {more}" + (f" ({fleet.tight})" if more == "holds" else "")
            said = f"{one['rate']:8.2f}/s x{fleet.num_replicas:<3} {fleet.margin:5.0%}  {kept:28} {more}"
    except InputError as problem:
        return f"{who} {problem}"
    return f"{who} {said}  [{requests:,} requests, {time.perf_counter() - began:.0f} s]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=int, default=10, help="How many times longer the plans are simulated.")
    given = parser.parse_args()
    for number in range(given.first, given.first + given.number):
        print(f"{number:3} {plan(number, given.seed, given.times)}", flush=True)


if __name__ == "__main__":
    main()
