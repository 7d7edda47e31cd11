"""Every metric, declared once: the catalog, the manual, summary.json and the report are made of it."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

# The figures of a distribution: None where it is no quantile.
STATISTICS: dict[str, float | None] = {
    "mean": None,
    "min": None,
    "max": None,
    "p50": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
}
QUANTILES = {name: share for name, share in STATISTICS.items() if share is not None}

DISTRIBUTION, SCALAR, SHARE = "distribution", "scalar", "share"
REPLICAS, TENANTS, SERIES, GROUP = "by replica", "by tenant", "series", "group"


class Metric(NamedTuple):
    """``name``: the dotted key in summary.json.

    ``kind``: distribution (the figures of STATISTICS), scalar, share (0 to 1), by replica or by tenant (a list), series
    (a value per interval of time) or group (figures by the name of what they are of).
    """

    name: str
    unit: str
    meaning: str
    kind: str = SCALAR

    @property
    def key(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]


LATENCIES = (
    Metric("latency.ttft", "s", "time to first token: from when it is sent to the end of the prefill", DISTRIBUTION),
    Metric("latency.tbt", "s", "time between two output tokens of a request (quantiles within 0.8 %)", DISTRIBUTION),
    Metric("latency.tpot", "s", "time per output token after the first, by request", DISTRIBUTION),
    Metric("latency.e2e", "s", "end to end: from when it is sent to the last token", DISTRIBUTION),
    Metric(
        "latency.scheduling_delay", "s", "arrival at the scheduler until it is first put into a batch", DISTRIBUTION
    ),
)

REQUEST = (
    Metric("request.e2e_per_token", "s/token", "e2e / output tokens", DISTRIBUTION),
    Metric("request.execution", "s", "in batches, summed over pipeline stages", DISTRIBUTION),
    Metric("request.execution_per_token", "s/token", "execution / output tokens", DISTRIBUTION),
    Metric("request.model_execution", "s", "execution without the time of the host", DISTRIBUTION),
    Metric("request.preempted", "s", "between its first batch and its end, but in none", DISTRIBUTION),
    Metric("request.service", "s", "execution and preempted: start on the first stage to last token", DISTRIBUTION),
    Metric("request.service_per_token", "s/token", "service / output tokens", DISTRIBUTION),
    Metric("request.prefill", "s", "first batch to the end of the prefill", DISTRIBUTION),
    Metric("request.prefill_per_token", "s/token", "prefill / prompt tokens", DISTRIBUTION),
    Metric(
        "request.decode_per_token", "s/token", "(e2e - ttft) / output tokens (Vidur's; tpot: one fewer)", DISTRIBUTION
    ),
    Metric("request.inter_arrival", "s", "since the arrival before", DISTRIBUTION),
    Metric("request.prompt_tokens", "tokens", "length of the prompt", DISTRIBUTION),
    Metric("request.output_tokens", "tokens", "tokens generated", DISTRIBUTION),
    Metric("request.tokens", "tokens", "prompt and output", DISTRIBUTION),
    Metric("request.prompt_to_output", "", "prompt tokens / output tokens", DISTRIBUTION),
    Metric("request.restarts", "", "times it was preempted (sglang: retracted) and computed again", DISTRIBUTION),
)

BATCH = (
    Metric("batch.size", "requests", "requests in a batch", DISTRIBUTION),
    Metric("batch.tokens", "tokens", "tokens processed in a batch", DISTRIBUTION),
    Metric("batch.prefill_tokens", "tokens", "of these, of prompts", DISTRIBUTION),
    Metric("batch.decode_tokens", "tokens", "of these, of decodes", DISTRIBUTION),
    Metric("batch.seconds", "s", "time of a batch on a pipeline stage (quantiles within 0.8 %)", DISTRIBUTION),
)

SCALARS = (
    Metric("throughput.requests_per_s", "requests/s", "requests finished / span"),
    Metric("throughput.output_tokens_per_s", "tokens/s", "output tokens / span"),
    Metric("throughput.total_tokens_per_s", "tokens/s", "prompt and output tokens / span"),
    Metric("goodput.share", "", "requests that meet every objective (tbt: by their own mean), of all", SHARE),
    Metric("goodput.requests_per_s", "requests/s", "requests that meet every objective / span"),
    Metric("objectives", "", "by objective: its value, its limit and whether it is met", GROUP),
    Metric("totals.requests", "requests", "requests that arrived"),
    Metric("totals.finished", "requests", "requests with all their tokens"),
    Metric("totals.prompt_tokens", "tokens", "of requests that finished"),
    Metric("totals.output_tokens", "tokens", "of requests that finished"),
    Metric("totals.iterations", "batches", "batches formed"),
    Metric("totals.restarts", "", "preemptions (sglang: retractions) that computed a request's tokens again"),
    Metric("totals.span_s", "s", "first arrival to last token; rates and cost refer to it"),
    Metric("excluded.warm_up_s", "s", "latencies leave out requests that arrive before this has passed"),
    Metric("excluded.cool_down_s", "s", "and those that arrive in this time before the last arrival"),
    Metric("excluded.requests", "requests", "left out; throughput and goodput are then of the time in between"),
    Metric("utilisation.busy", "", "share of the span in which a stage works, mean over stages and replicas", SHARE),
    Metric("utilisation.peak_kv", "", "most KV blocks held at once, as a share of a replica's", SHARE),
    Metric("utilisation.mean_kv", "", "KV blocks held, mean over span and replicas", SHARE),
    Metric("utilisation.mfu", "", "FLOPs of the model / peak FLOPs of the GPUs in the span", SHARE),
    Metric("utilisation.mfu_busy", "", "the same in the time that stages are busy", SHARE),
    Metric("utilisation.mbu", "", "bytes of weights and KV cache moved / what the bandwidth allows in the span", SHARE),
    Metric("utilisation.mbu_busy", "", "the same in the time that stages are busy", SHARE),
    Metric("utilisation.bubbles", "", "share of the time a replica has requests in which a stage idles", SHARE),
    Metric("utilisation.mean_running", "requests", "begun and not finished, mean over the span, all replicas"),
    Metric("utilisation.peak_running", "requests", "begun and not finished, at most"),
    Metric("utilisation.mean_queue", "requests", "waiting to be scheduled, mean over the span, all replicas"),
    Metric("utilisation.peak_queue", "requests", "waiting to be scheduled, at most"),
    Metric(
        "cache.token_hit_rate",
        "",
        "tokens found in the prefix cache at first admission (sglang: in the radix cache), of those looked up",
        SHARE,
    ),
    Metric(
        "cache.request_hit_rate", "", "requests that found tokens in it at first admission, of those admitted", SHARE
    ),
    Metric("cache.queried_tokens", "tokens", "of prompts, looked up in the prefix cache at first admission"),
    Metric("cache.hit_tokens", "tokens", "of these, found"),
    Metric("cache.queried_tokens_again", "tokens", "looked up when preempted requests were admitted again"),
    Metric("cache.hit_tokens_again", "tokens", "of these, found"),
    Metric(
        "cache.evicted_blocks",
        "blocks",
        "cached KV blocks (sglang: pages) that were given to other tokens",
    ),
    Metric(
        "preemptions.for_decodes", "", "preemptions of vllm_v1 that made room for a decode, and retractions of sglang"
    ),
    Metric("preemptions.for_prefills", "", "that made room for a chunk of a prompt, or of tokens computed again"),
    Metric("preemptions.of_lower_priority", "", "of both, those of a request with a lower priority"),
    Metric("cost.gpus", "GPUs", "of all replicas"),
    Metric("cost.gpu_hours", "h", "GPUs * span"),
    Metric("cost.dollars", "$", "GPU-hours at the list price of the device"),
    Metric("cost.dollars_per_million_output_tokens", "$", "dollars / output tokens"),
    Metric("cost.dollars_per_million_tokens", "$", "dollars / prompt and output tokens"),
    Metric(
        "cost.interruptions",
        "",
        "expected in the run, at the rate of its spot price; work that they lose is not counted",
    ),
    Metric("energy.kwh", "kWh", "of the GPUs alone, by a power model (fastsim/energy.py), not measured"),
    Metric("energy.watts", "W", "mean power of a GPU"),
    Metric("energy.joules_per_output_token", "J", "energy / output tokens"),
    Metric("energy.dollars", "$", "energy at the price that is given; not part of cost.dollars"),
    Metric("energy.kg_co2", "kg", "energy at the carbon intensity that is given"),
    Metric(
        "operator_times",
        "",
        "shares of the run's time (without details: of a typical iteration's) that are measured, modelled, or outside",
        GROUP,
    ),
    Metric("breakdown.mean", "s", "parts of e2e that add up to it, mean over requests", GROUP),
    Metric("breakdown.slowest", "s", "the same over the slowest 1 % by e2e", GROUP),
    Metric("breakdown.slowest_requests", "requests", "how many these are"),
    Metric("verdict", "", "what the deployment is short of, and the margin to saturation", GROUP),
    Metric("operators", "s", "GPU time by operator over the run, all stages; attention is what remains", GROUP),
    Metric("pools", "", "by pool: replicas, GPUs, requests, batches, restarts, use, KV, cost and energy", REPLICAS),
    Metric("replicas", "", "by replica: requests, batches, restarts, KV, and by stage busy and MFU", REPLICAS),
    Metric(
        "tenants",
        "",
        "by tenant, the 100 with most requests: requests, finished, prompt and output tokens, latency",
        TENANTS,
    ),
    Metric("series.time", "s", "start of each interval; they are as long as series.interval_s says", SERIES),
    Metric("series.interval_s", "s", "length of an interval; the last may be shorter"),
    Metric("series.arrivals", "requests/s", "requests that arrive", SERIES),
    Metric("series.first_tokens", "requests/s", "prefills completed", SERIES),
    Metric("series.completions", "requests/s", "requests that finish", SERIES),
    Metric("series.prefill_tokens", "tokens/s", "prompt tokens processed", SERIES),
    Metric("series.decode_tokens", "tokens/s", "tokens processed by decodes", SERIES),
    Metric("series.busy", "", "as utilisation.busy", SERIES),
    Metric("series.kv", "", "as utilisation.mean_kv", SERIES),
    Metric("series.running", "requests", "arrived, not waiting and not finished, all replicas", SERIES),
    Metric("series.queue", "requests", "waiting to be scheduled, all replicas", SERIES),
)

METRICS = (*LATENCIES, *REQUEST, *BATCH, *SCALARS)

BY_NAME = {metric.name: metric for metric in METRICS}


def metric_of(name: str) -> Metric | None:
    """Return the metric that a figure belongs to, ``latency.ttft`` for ``latency.ttft.p99``, or None.

    Parameters
    ----------
    name : str
        A dotted key of summary.json.
    """
    while name and name not in BY_NAME:
        name = name.rpartition(".")[0]
    return BY_NAME.get(name)


class Headline(NamedTuple):
    """A figure that tables and cards show, or a setting that a table shows beside figures.

    ``name`` is its dotted key in summary.json, or its column in the table of a search. ``better`` tells which of two
    values is preferable, and is None where neither is.
    """

    name: str
    label: str
    better: Literal["lower", "higher"] | None = None

    @property
    def unit(self) -> str:
        """The unit of the figure in summary.json; empty for a column of a search, whose label states it."""
        metric = metric_of(self.name)
        return "" if metric is None else metric.unit

    @property
    def heading(self) -> str:
        """The label with the unit, for tables and axes that show bare numbers."""
        return f"{self.label}, {self.unit}" if self.unit and self.unit != self.label else self.label


HEADLINES = {
    headline.name: headline
    for headline in (
        Headline("latency.ttft.p50", "TTFT P50", "lower"),
        Headline("latency.ttft.p90", "TTFT P90", "lower"),
        Headline("latency.ttft.p99", "TTFT P99", "lower"),
        Headline("latency.tbt.p99", "TBT P99", "lower"),
        Headline("latency.e2e.mean", "E2E mean", "lower"),
        Headline("latency.e2e.p50", "E2E P50", "lower"),
        Headline("latency.e2e.p99", "E2E P99", "lower"),
        Headline("latency.scheduling_delay.p99", "Scheduling delay P99", "lower"),
        Headline("throughput.requests_per_s", "Throughput", "higher"),
        Headline("throughput.output_tokens_per_s", "Output throughput", "higher"),
        Headline("goodput.share", "Goodput", "higher"),
        Headline("utilisation.busy", "Busy"),
        Headline("utilisation.peak_kv", "Peak KV"),
        Headline("cache.token_hit_rate", "Cached tokens", "higher"),
        Headline("cache.request_hit_rate", "Requests with cached tokens", "higher"),
        Headline("totals.restarts", "Restarts", "lower"),
        Headline("cost.gpus", "GPUs"),
        Headline("cost.gpu_hours", "GPU time"),
        Headline("cost.dollars_per_million_output_tokens", "Cost per million output tokens", "lower"),
        Headline("energy.joules_per_output_token", "Energy per output token", "lower"),
        Headline("device", "GPU"),
        Headline("tensor_parallel_size", "TP"),
        Headline("pipeline_parallel_size", "PP"),
        Headline("data_parallel_size", "DP"),
        Headline("enable_expert_parallel", "EP"),
        Headline("num_replicas", "replicas"),
        Headline("gpus", "GPUs"),
        Headline("scheduler.policy", "policy"),
        Headline("scheduler.max_num_seqs", "max seqs"),
        Headline("scheduler.chunk_size", "chunk"),
        Headline("scheduler.max_num_batched_tokens", "batch tokens"),
        Headline("users", "users"),
        Headline("workload.rate", "rate, requests/s"),
        Headline("workload.users", "users"),
        Headline("capacity", "requests/s"),
        Headline("qps_per_dollar", "requests/s per $/h"),
        Headline("dollars_per_hour_at_rate", "$/h at rate"),
    )
}


def headline(name: str) -> Headline:
    """Return the declaration of a figure.

    Parameters
    ----------
    name : str
        A dotted key of summary.json, or a column of a search. It is its own label if it is not declared.
    """
    if name.startswith("pools.") and name.endswith(".num_replicas"):
        return Headline(name, name.split(".")[1])
    return HEADLINES.get(name) or Headline(name, name)


# Parts of summary.json that are no figures of the deployment, or not one each.
APART = ("definitions", "warnings", "replicates", "replicas", "pools", "tenants", "series", "timing")


def flatten(summary: Mapping[str, Any]) -> dict[str, float | int | None]:
    """The figures of a summary by dotted key (``latency.ttft.p99``); None where nothing was measured."""
    parts = ((section, part) for section, part in summary.items() if section not in APART)
    return {name: value for section, part in parts for name, value in _leaves(section, part)}


def definitions(summary: Mapping[str, Any]) -> dict[str, str]:
    """Unit and meaning of every metric that a summary has, by its name."""
    return {metric.name: _text(metric) for metric in METRICS if _has(summary, metric.name)}


def _text(metric: Metric) -> str:
    return f"{metric.unit}: {metric.meaning}" if metric.unit else metric.meaning


def _has(summary: Mapping[str, Any], name: str) -> bool:
    section, _, key = name.partition(".")
    return section in summary and (not key or key in summary[section])


def _leaves(name: str, value: Any) -> Iterator[tuple[str, float | int | None]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}", part)
    elif value is None or isinstance(value, bool | int | float):
        yield name, int(value) if isinstance(value, bool) else value
