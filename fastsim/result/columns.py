"""The columns of a result's tables, each declared once: name, type, unit and meaning."""

from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table. Unit and meaning are also written into the Parquet files."""

    name: str
    dtype: str  # a NumPy type, such as float64
    unit: str  # empty for numbers without a unit
    meaning: str


REQUESTS = (
    Column("request_id", "int64", "", "position in the workload, from 0"),
    Column("replica_id", "int32", "", "replica that served it, from 0"),
    Column("arrived_at", "float64", "s", "when its client sends it"),
    Column("scheduled_at", "float64", "s", "first put into a batch"),
    Column("first_token_at", "float64", "s", "end of the prefill, with the first output token"),
    Column("finished_at", "float64", "s", "last output token"),
    Column("num_prompt_tokens", "int32", "tokens", "length of the prompt"),
    Column("num_output_tokens", "int32", "tokens", "tokens generated"),
    Column("scheduling_delay", "float64", "s", "scheduled_at - arrived_at, without the front end"),
    Column("ttft", "float64", "s", "time to first token: first_token_at - arrived_at"),
    Column("tpot", "float64", "s", "time per output token after the first; NaN when there is only one"),
    Column("e2e", "float64", "s", "end to end: finished_at - arrived_at"),
    Column("execution_time", "float64", "s", "time in iterations, summed over pipeline stages"),
    Column("preempted_time", "float64", "s", "time between its first start and its end in which it is in no iteration"),
    Column("num_restarts", "int32", "", "times it was preempted, or retracted, and had to compute its tokens again"),
)

# Requests and iterations have this besides, after the replica, where a replica has several ranks.
RANK = Column("rank", "int32", "", "data-parallel rank within the replica, from 0")

# Requests and iterations have these besides where the policy is vllm_v1 or sglang.
ENGINE_REQUESTS = (
    Column("num_cached_tokens", "int32", "tokens", "tokens found in the prefix or radix cache at its first admission"),
)

# Of deployments with pools.
POOLS = (Column("pool", "str", "", "pool of the replica that served it"),)

# Where prefill and decode are apart. The last two are parts of e2e, between those of the prefill and of the decodes.
TRANSFERS = (
    Column("prefill_replica_id", "int32", "", "replica that computed its prompt; -1: that which decoded it"),
    Column("prefilled_at", "float64", "s", "when its prompt was computed there; null where it was decoded"),
    Column("transfer_at", "float64", "s", "when its KV began to be on its way; null where it never was"),
    Column(
        "transfer_wait",
        "float64",
        "s",
        "between its prefill and its decodes, without the transfer: front end, waiting for KV blocks, and for a batch",
    ),
    Column("transfer", "float64", "s", "time in which its KV is on its way"),
)

# Of workloads that have these columns; they are as in the workload.
WORKLOAD = (
    Column("session_id", "int64", "", "session that it is a turn of"),
    Column("tenant", "str", "", "name of the tenant that sends it"),
    Column("priority", "int32", "", "priority, of which lower ones go first"),
    Column("max_tokens", "int64", "tokens", "limit of its output that the engine knows"),
    Column("ends_by_stop", "bool", "", "whether only a stop token tells the engine that it has ended"),
)

# The parts of e2e, in the order of a request's life; they add up to it. Host time and the time lost to preemption are
# parts of their own, which the other parts do not include.
BREAKDOWN = (
    Column("front_end", "float64", "s", "from its client to the scheduler: HTTP server and tokenisation"),
    Column("routing_wait", "float64", "s", "time at the router: 0, as routers choose at once"),
    Column("queue_wait", "float64", "s", "arrival at the scheduler until it is first put into a batch"),
    Column(
        "launch_wait",
        "float64",
        "s",
        "vllm_v1, sglang: from when it is first put into a batch until that starts, as others still run; otherwise 0",
    ),
    Column("prefill_compute", "float64", "s", "iterations that process its chunks of the prompt"),
    Column("chunk_wait", "float64", "s", "time between its chunks in which it is in no iteration"),
    Column("decode_compute", "float64", "s", "its decode iterations, counted as if their batches held decodes only"),
    Column(
        "decode_wait",
        "float64",
        "s",
        "time that prompts in its batches add to these, and iterations in between without it",
    ),
    Column("preemption", "float64", "s", "from each restart until the tokens it had are computed again"),
    Column(
        "pipeline_bubble", "float64", "s", "with several stages: time after its first batch in which it is on no stage"
    ),
    Column("host_overhead", "float64", "s", "host time of the iterations that it is part of"),
)

# The same with the parts of a transfer, where there are any.
PARTS = (*BREAKDOWN[:6], *TRANSFERS[3:], *BREAKDOWN[6:])

ITERATIONS = (
    Column("replica_id", "int32", "", "replica, from 0"),
    Column("stage_id", "int32", "", "pipeline stage, from 0"),
    Column("start", "float64", "s", "start of the batch on the stage"),
    Column("end", "float64", "s", "end of the batch on the stage"),
    Column("num_seqs", "int32", "requests", "requests in the batch"),
    Column("num_tokens", "int32", "tokens", "tokens processed"),
    Column("num_prefill_tokens", "int32", "tokens", "prompt tokens among them"),
    Column(
        "kv_blocks_used",
        "int32",
        "blocks",
        "KV blocks held on the replica when the stage starts; vllm_v1 and sglang: when the batch is formed",
    ),
)

ENGINE_ITERATIONS = (
    Column(
        "num_preempted",
        "int32",
        "requests",
        "requests preempted, or retracted, since the batch before it was formed",
    ),
    Column("num_cached_tokens", "int32", "tokens", "tokens that requests admitted to it found in that cache"),
)
