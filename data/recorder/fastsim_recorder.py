"""Records the steps of a vLLM engine (V1) for `fastsim calibrate`: one row for each call of its scheduler.

    python fastsim_recorder.py serve MODEL --max-num-seqs 64 ...

starts `vllm` with these arguments and this file as a plugin, which writes steps.csv in the working folder, or the file
that FASTSIM_STEPS names. A row costs the engine about 0.05 ms. The last rows may be lost when the engine is killed.
"""

import atexit
import os
import sys
import time
from pathlib import Path

COLUMNS = (
    "step", "start", "end", "num_prefill_seqs", "num_prefill_tokens", "num_decode_seqs", "prefill_context_tokens",
    "prefill_attention_pairs", "decode_context_tokens", "num_running", "num_waiting", "num_free_blocks",
    "num_gpu_blocks",
)  # fmt: skip
FLUSH = 64  # rows
state = {"step": 0, "file": None, "rows": []}


def register():
    """What vLLM calls in each of its processes; only the one with the scheduler writes."""
    from vllm.v1.core.sched.scheduler import Scheduler

    schedule, update = Scheduler.schedule, Scheduler.update_from_output
    if hasattr(schedule, "of_fastsim"):
        return

    def recorded_schedule(self, *args, **kwargs):
        start = time.monotonic()
        output = schedule(self, *args, **kwargs)
        output.fastsim = (state["step"], start, *counts(self, output))
        state["step"] += 1
        return output

    def recorded_update(self, output, *args, **kwargs):
        result = update(self, output, *args, **kwargs)
        if (row := getattr(output, "fastsim", None)) and output.num_scheduled_tokens:
            write((*row[:2], time.monotonic(), *row[2:]))
        return result

    recorded_schedule.of_fastsim = True
    Scheduler.schedule, Scheduler.update_from_output = recorded_schedule, recorded_update
    atexit.register(flush)


def counts(scheduler, output):
    """The columns of a step after its times."""
    cached = output.scheduled_cached_reqs
    before = {one.req_id: one.num_computed_tokens for one in output.scheduled_new_reqs}
    if isinstance(cached, list):  # of releases before 0.10
        before.update((one.req_id, one.num_computed_tokens) for one in cached)
    else:
        before.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    prompts = prompt_tokens = prompt_context = pairs = decodes = decode_context = 0
    for name, tokens in output.num_scheduled_tokens.items():
        done = before.get(name, 0)
        if tokens == 1 and done >= scheduler.requests[name].num_prompt_tokens:
            decodes += 1
            decode_context += done + 1
        else:
            prompts += 1
            prompt_tokens += tokens
            prompt_context += done
            pairs += tokens * done + tokens * (tokens + 1) // 2
    pool = scheduler.kv_cache_manager.block_pool
    queues = len(scheduler.running), len(scheduler.waiting)
    blocks = pool.get_num_free_blocks(), pool.num_gpu_blocks
    return (prompts, prompt_tokens, decodes, prompt_context, pairs, decode_context, *queues, *blocks)


def write(row):
    state["rows"].append(",".join(f"{value:.7f}" if isinstance(value, float) else str(value) for value in row))
    if len(state["rows"]) >= FLUSH:
        flush()


def flush():
    if not state["rows"]:
        return
    if state["file"] is None:
        path = Path(os.environ.get("FASTSIM_STEPS", "steps.csv"))
        if path.exists():  # of another engine, or an earlier one
            path = path.with_stem(f"{path.stem}-{os.getpid()}")
        state["file"] = path.open("w", encoding="utf-8")
        state["file"].write(",".join(COLUMNS) + "\n")
    state["file"].write("\n".join(state["rows"]) + "\n")
    state["file"].flush()
    state["rows"].clear()


if __name__ == "__main__":
    here = Path(__file__).resolve()
    about = here.parent / f"{here.stem}-1.dist-info"  # by which vLLM finds its plugins
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {here.stem}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[vllm.general_plugins]\nsteps = {here.stem}:register\n")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(here.parent), os.environ.get("PYTHONPATH")]))
    os.environ["FASTSIM_STEPS"] = str(Path(os.environ.get("FASTSIM_STEPS", "steps.csv")).absolute())
    os.execvp("vllm", ["vllm", *sys.argv[1:]])
