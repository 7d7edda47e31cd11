"""Where splitting prefill from decode pays: `python bench/apart.py [--requests 1200] [--speed]`.

The highest rate at which 8 H100 with Llama-3-8B meet their objectives, all mixed or split in the best of five ratios,
by the length of prompts. Published: splitting pays under strict TPOT and relaxed TTFT, and it does not under tight TTFT
and relaxed TPOT (TaiChi, arXiv:2508.01989); it pays most where prompts dominate (arXiv:2506.05508).

``--speed`` times a million requests on two pools of 8 replicas, and on 16 mixed ones.
"""

import argparse
import time

import numpy as np

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolved import Resolved
from fastsim.kernels.tables import Cost
from fastsim.predictors.build import build_cost
from fastsim.result.metrics.objectives import Objective, parse
from fastsim.simulation.probe import Prober
from fastsim.workload import Workload

REPLICAS, OUTPUT, MOST = 8, 200, 3200.0
PROMPTS = {256: "80ms", 1024: "120ms", 3000: "250ms", 8000: "600ms"}  # with a tight TTFT for each
OBJECTIVES = {
    "strict TPOT, relaxed TTFT": ("tpot:p90<8ms", "ttft:p90<5s"),
    "balanced": ("tpot:p90<15ms", "ttft:p90<1s"),
    "tight TTFT, relaxed TPOT": ("tpot:p90<100ms", "ttft:p90<{}"),
}


def described(prefill: int, decode: int) -> Deployment:
    base = {"model": "llama-3-8b", "device": "h100", "router": {"policy": "least_outstanding"}, "max_model_len": 16384}
    if not prefill:
        return Deployment.load({**base, "num_replicas": decode})
    pools = [
        {"name": "prefill", "role": "prefill", "num_replicas": prefill},
        {"name": "decode", "role": "decode", "num_replicas": decode},
    ]
    return Deployment.load({**base, "pools": pools, "kv_transfer": {"link_gb_s": 50}})


def drawn(prompt: int, number: int) -> Workload:
    """Requests at 1 request/s, whose lengths spread by a fifth."""
    rng = np.random.default_rng(1)
    arrived = np.cumsum(rng.exponential(1.0, number))
    prompts, outputs = (np.maximum(8, rng.normal(mean, mean / 5, number)).astype(np.int64) for mean in (prompt, OUTPUT))
    return Workload(arrived, prompts, outputs, name="drawn")


def highest_rate(resolved: Resolved, costs: tuple[Cost, ...], unit: Workload, objectives: list[Objective]) -> float:
    prober, low, high = Prober(resolved, costs, unit), 0.0, MOST
    for _ in range(12):
        rate = (low + high) / 2 if low else high / 4
        low, high = (rate, high) if prober.at(rate, objectives).met else (low, rate)
    return low


def compare(number: int) -> None:
    splits = [fastsim.resolve(described(prefill, REPLICAS - prefill)) for prefill in range(6)]
    mixed_costs, split_costs = build_cost(splits[0]).costs, build_cost(splits[1]).costs
    for name, given in OBJECTIVES.items():
        for prompt, tight in PROMPTS.items():
            objectives = [parse(each.format(tight)) for each in given]
            unit = drawn(prompt, number * max(1, 2048 // prompt))  # so that a high rate lasts
            mixed = highest_rate(splits[0], mixed_costs, unit, objectives)
            rates = [highest_rate(each, split_costs, unit, objectives) for each in splits[1:]]
            best = int(np.argmax(rates))
            ratio = f"{rates[best] / mixed:.2f} times" if mixed else "none mixed"
            split = f"{1 + best} + {7 - best} {rates[best]:6.1f}/s"
            print(f"{name:26} {prompt:5} tokens: mixed {mixed:6.1f}/s, {split}, {ratio}")


def speed() -> None:
    chat = fastsim.load_workload("chat", rate=160.0, num_requests=1_000_000)
    for name, deployment in (("16 mixed", described(0, 16)), ("8 + 8", described(8, 8))):
        for _ in range(2):  # the first one compiles
            began = time.process_time()
            result = fastsim.simulate(deployment, chat, detail=False)
            spent = time.process_time() - began
        print(f"{name}: kernel {result.summary['timing']['kernel_s']:.2f} s, CPU {spent:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1200)
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    if arguments.speed:
        speed()
    else:
        compare(arguments.requests)
