"""Releases of SGLang: how the scheduler differs between them, and what each takes where a setting is open.

Both are certified: their unmodified schedulers were recorded, and every step is the same (tests/data/sglang).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.documents import short

RELEASE = re.compile(r"(sglang-\d+\.\d+\.\d+)(?:\.post\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of SGLang: the rules of its scheduler, and its defaults.

    Attributes
    ----------
    name : such as sglang-0.5.10.
    recorded : the version whose scheduler was recorded.
    idle_pass_resets_ratio : whether an idle pass resets new_token_ratio while requests wait.
    filters_before_prefill : whether finished requests leave the running batch before a prefill is tried.
    counts_places_first : whether no request is looked up while max_running_requests are running.
    matches_leave_a_token : whether lpm compares matched tokens less the last one, which is always computed.
    refreshes_waiting : whether fcfs looks waiting requests up now and then, to keep their prefixes in the tree.
    ignore_eos_reserves_all : whether with ignore_eos running requests reserve all tokens that are left to them.
    stops_without_budget : whether no further request is looked up once the tokens of a batch are used up.
    tests_memory_once : whether a request is tested for memory once, with its prefix locked and for one more page;
        otherwise before and after the lock.
    chunks_lift_input_limit : whether max_prefill_tokens refuses a request only where prompts are not cut.
    evicts_whole_need : whether the tree gives up all tokens that are wanted, not only those that are missing.
    mixes_unchecked : whether decodes join a prefill without a look at memory, so that the engine may crash.
    leaves_out_last_tokens : whether with overlap a request whose last token is in flight is not decoded once more.
    ends_node_at_prompt : whether the tree has a node border where a prompt ends.
    chunk_of_small : chunked_prefill_size by default on GPUs of 20 to 35 GiB.
    graphs_of_small : the largest batch with a CUDA graph on these, with fewer than four GPUs a layer and with more.
    graphs_within_limit : whether no CUDA graph is larger than a max_running_requests that is given.
    limit_is_estimated : whether a max_running_requests that is given is cut to what would be taken without it, from
        2048 to 4096.
    """

    name: str
    recorded: str
    idle_pass_resets_ratio: bool
    filters_before_prefill: bool
    counts_places_first: bool
    matches_leave_a_token: bool
    refreshes_waiting: bool
    ignore_eos_reserves_all: bool
    stops_without_budget: bool
    tests_memory_once: bool
    chunks_lift_input_limit: bool
    evicts_whole_need: bool
    mixes_unchecked: bool
    leaves_out_last_tokens: bool
    ends_node_at_prompt: bool
    chunk_of_small: int
    graphs_of_small: tuple[int, int]
    graphs_within_limit: bool
    limit_is_estimated: bool


_V0_5_10 = Release(
    name="sglang-0.5.10",
    recorded="0.5.10.post1",
    idle_pass_resets_ratio=True,
    filters_before_prefill=False,
    counts_places_first=False,
    matches_leave_a_token=False,
    refreshes_waiting=False,
    ignore_eos_reserves_all=False,
    stops_without_budget=False,
    tests_memory_once=False,
    chunks_lift_input_limit=False,
    evicts_whole_need=True,
    mixes_unchecked=True,
    leaves_out_last_tokens=False,
    ends_node_at_prompt=False,
    chunk_of_small=2048,
    graphs_of_small=(24, 80),
    graphs_within_limit=False,
    limit_is_estimated=True,
)
_V0_5_23 = replace(
    _V0_5_10,
    name="sglang-0.5.23",
    recorded="0.5.23",
    idle_pass_resets_ratio=False,
    filters_before_prefill=True,
    counts_places_first=True,
    matches_leave_a_token=True,
    refreshes_waiting=True,
    ignore_eos_reserves_all=True,
    stops_without_budget=True,
    tests_memory_once=True,
    chunks_lift_input_limit=True,
    evicts_whole_need=False,
    mixes_unchecked=False,
    leaves_out_last_tokens=True,
    ends_node_at_prompt=True,
    chunk_of_small=4096,
    graphs_of_small=(48, 160),
    graphs_within_limit=True,
    limit_is_estimated=False,
)

RELEASES: Mapping[str, Release] = {release.name: release for release in (_V0_5_10, _V0_5_23)}
ASSUMED = _V0_5_23  # whose rules policy sglang has where no engine is named


def is_sglang(engine: str) -> bool:
    """Whether the name of an engine is meant as a release of SGLang."""
    return engine.lower().startswith("sglang")


def of(engine: str) -> Release:
    """The release that an engine's name means, such as sglang-0.5.10.post1. Raises ConfigError for any other."""
    found = RELEASE.fullmatch(engine)
    if found is None or found[1] not in RELEASES:
        meant = did_you_mean(engine, RELEASES)
        raise ConfigError(f"{short(engine)} is unknown; {meant}")
    return RELEASES[found[1]]
