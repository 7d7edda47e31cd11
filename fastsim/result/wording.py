"""What engines call the same thing: a request that loses its KV blocks is preempted in vLLM, retracted in SGLang."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Wording(NamedTuple):
    """The words of the engine of a run, or of the engines of several runs."""

    lost: str  # what becomes of a request that loses its KV blocks
    loss: str  # that it does; also the part of a request's time that this takes
    losses: str
    cache: str  # where prompts find tokens that are computed already
    slots: str  # the setting that limits the requests that run at once


OF_VLLM = Wording("preempted", "preemption", "preemptions", "prefix cache", "max_num_seqs")
OF_SGLANG = Wording("retracted", "retraction", "retractions", "radix cache", "max_running_requests")


def is_sglang(config: Mapping[str, Any]) -> bool:
    """Whether a run, by its config.json, has policy sglang."""
    scheduler = config.get("deployment", {}).get("scheduler") or {}
    return bool(scheduler.get("policy") == "sglang")


def of(*configs: Mapping[str, Any]) -> Wording:
    """The words for runs with these contents of config.json; both words where their engines differ."""
    own = {OF_SGLANG if is_sglang(config) else OF_VLLM for config in configs}
    if len(own) == 1:
        return own.pop()
    return Wording(*(f"{first} or {second}" for first, second in zip(OF_VLLM, OF_SGLANG, strict=True)))


def section(name: str, words: Wording) -> str:
    """The name of a section, or of a part of a request's time, in the words of the engine. Results have vLLM's."""
    return dict(zip(OF_VLLM, words, strict=True)).get(name, name)
