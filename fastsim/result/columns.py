"""Every column of every table, declared once: name, type, unit and meaning."""

from typing import NamedTuple


class Column(NamedTuple):
    name: str
    dtype: str  # NumPy's word for it
    unit: str
    meaning: str


REQUESTS = (
    Column("request_id", "int64", "", "position in the workload, from 0"),
    Column("replica_id", "int32", "", "replica that served it, from 0"),
    Column("arrived_at", "float64", "s", "arrival at the router"),
    Column("scheduled_at", "float64", "s", "first put into a batch"),
    Column("first_token_at", "float64", "s", "prefill first complete"),
    Column("finished_at", "float64", "s", "last output token"),
    Column("num_prompt_tokens", "int32", "tokens", "length of the prompt"),
    Column("num_output_tokens", "int32", "tokens", "tokens generated"),
    Column("scheduling_delay", "float64", "s", "scheduled_at - arrived_at"),
    Column("ttft", "float64", "s", "time to first token: first_token_at - arrived_at"),
    Column("tpot", "float64", "s", "time per output token after the first; NaN when there is only one"),
    Column("e2e", "float64", "s", "end to end: finished_at - arrived_at"),
    Column("execution_time", "float64", "s", "in iterations, summed over pipeline stages"),
    Column("preempted_time", "float64", "s", "between its first start and its end, but in no iteration"),
    Column("num_restarts", "int32", "", "times it was preempted and had to compute its tokens again"),
)

# Parts of e2e, in the order of a request's life; they add up to it. Host time, and what comes of preemption, are parts
# of their own and in no other.
BREAKDOWN = (
    Column("routing_wait", "float64", "s", "at the router: 0, as routers place at once"),
    Column("queue_wait", "float64", "s", "arrival to first batch"),
    Column("prefill_compute", "float64", "s", "iterations that process its chunks"),
    Column("chunk_wait", "float64", "s", "between its chunks, in iterations without it"),
    Column("decode_compute", "float64", "s", "its decode iterations, as long as the decodes in them take alone"),
    Column("decode_wait", "float64", "s", "what prompts beside make these longer, and iterations without it meanwhile"),
    Column("preemption", "float64", "s", "from each restart until all tokens that it had are computed again"),
    Column("pipeline_bubble", "float64", "s", "with several stages: after its first batch, but on none of them"),
    Column("host_overhead", "float64", "s", "host time of the iterations it takes part in"),
)

ITERATIONS = (
    Column("replica_id", "int32", "", "replica, from 0"),
    Column("stage_id", "int32", "", "pipeline stage, from 0"),
    Column("start", "float64", "s", "start of the batch on the stage"),
    Column("end", "float64", "s", "end of the batch on the stage"),
    Column("num_seqs", "int32", "requests", "size of the batch"),
    Column("num_tokens", "int32", "tokens", "tokens processed"),
    Column("num_prefill_tokens", "int32", "tokens", "of these, prompt tokens"),
    Column("kv_blocks_used", "int32", "blocks", "KV blocks held on the replica when the stage starts"),
)
