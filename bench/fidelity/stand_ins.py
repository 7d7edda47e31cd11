"""SGLang's measured closed loops by its own scheduler, beside others: `python bench/fidelity/stand_ins.py GROUNDTRUTH`.

Users, requests, GPUs and operator times are those of the leaderboard, and nothing is fitted. Each way to schedule has a
line of errors in percent: signed mean / mean absolute / median absolute. ``--by`` divides the sets, e.g. by the tokens
of an output, and ``--as`` chooses the ways:

    sarathi, vllm-v0    what stood in for SGLang before: decodes first, or prompts first, with 8,192 tokens a batch
    sglang              SGLang 0.5.10 with its own defaults
    sglang-mixed        with enable_mixed_chunk, which the generator of aiconfigurator, the source of the rows, sets
    sglang-0.8          with mem_fraction_static 0.8 instead of what SGLang takes by default
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where this folder is a package

from fidelity.loop_runs import loop_runs
from fidelity.replay import replayed
from fidelity.runs import Run
from fidelity.table import Table, line

BUDGET = 8192  # tokens of a batch
# By column of --by, what a run has there.
COLUMNS: Mapping[str, Callable[[Run], int]] = {
    "users": lambda run: int(run.fields["scheduler"]["max_running_requests"]),
    "gpus": lambda run: int(run.fields["tensor_parallel_size"]),
    "prompt": lambda run: int(run.workloads[0].num_prompt_tokens[0]),
    "output": lambda run: int(run.workloads[0].num_output_tokens[0]),
}


def other_policy(run: Run, **scheduler: Any) -> Mapping[str, Any]:
    """The fields of a run with a policy that is no engine's."""
    fields = {name: value for name, value in run.fields.items() if name != "engine"}
    return {**fields, "scheduler": {"max_num_seqs": COLUMNS["users"](run), **scheduler}}


def mixed(run: Run) -> Mapping[str, Any]:
    """The fields of a run whose decodes join prefill batches."""
    return {**run.fields, "scheduler": {**run.fields["scheduler"], "enable_mixed_chunk": True}}


WAYS: Mapping[str, Callable[[Run], Mapping[str, Any]]] = {
    "sarathi": lambda run: other_policy(run, policy="sarathi", chunk_size=BUDGET),
    "vllm-v0": lambda run: other_policy(run, policy="vllm", max_num_batched_tokens=BUDGET),
    "sglang": lambda run: run.fields,
    "sglang-mixed": mixed,
    "sglang-0.8": lambda run: {**run.fields, "gpu_memory_utilization": 0.8},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the errors of each way for each set."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("groundtruth", type=Path)
    options.add_argument("--as", dest="ways", nargs="+", choices=WAYS, default=list(WAYS))
    options.add_argument("--by", choices=COLUMNS)
    given = options.parse_args(arguments)
    print(*Table().head(), sep="\n")
    for one in loop_runs(given.groundtruth, 1):
        if "SGLang" not in one.title:
            continue
        divided: dict[int | None, list[Run]] = defaultdict(list)
        for run in one.runs:
            divided[COLUMNS[given.by](run) if given.by else None].append(run)
        print(one.title)
        for value in sorted(divided, key=lambda value: value or 0):
            for way in given.ways:
                rows, refused = replayed([replace(run, fields=WAYS[way](run)) for run in divided[value]])
                print(line(f"    {f'{given.by} {value:,}, ' if value else ''}as {way}", rows))
                print(*refused, sep="\n", end="\n" if refused else "")


if __name__ == "__main__":
    main()
