"""What differs between the two releases of SGLang whose scheduler the twin follows, as data.

Rules that no run can show are left out. In 0.5.23, a request also needs a row of the request table, which is free
whenever there is a place among the running requests; a lookup stamps its nodes in another order, but nodes on one path
are never compared. In both releases the last running request is given up if it does not fit alone, which it does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Release:
    """One release: each field is a rule that the other release does not have."""

    name: str
    idle_pass_resets_ratio: bool  # also while requests wait; otherwise only a pass with nothing left to serve does
    filters_before_prefill: bool  # finished requests leave the running batch before a prefill is tried
    counts_places_first: bool  # no request is looked up while as many as may run are running
    matches_leave_a_token: bool  # lpm compares matched tokens less the last one, which is always computed
    refreshes_waiting: bool  # fcfs looks waiting requests up now and then, to keep their prefixes in the tree
    ignore_eos_reserves_all: bool  # with ignore_eos, running requests reserve all tokens that are left to them
    stops_without_budget: bool  # no further request is looked up once the tokens of a batch are used up
    tests_memory_once: bool  # with the prefix locked, and for one more page; otherwise before and after the lock
    chunks_lift_input_limit: bool  # max_prefill_tokens refuses a request only where prompts are not cut
    evicts_whole_need: bool  # the tree gives up all tokens that are wanted, not only those that are missing
    mixes_unchecked: bool  # decodes join a prefill without a look at memory, and the engine may crash
    leaves_out_last_tokens: bool  # with overlap, a request whose last token is in flight is not decoded once more
    ends_node_at_prompt: bool  # the tree has a node border where a prompt ends


V0_5_10 = Release(
    name="0.5.10",
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
)

V0_5_23 = replace(
    V0_5_10,
    name="0.5.23",
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
)

RELEASES = {release.name: release for release in (V0_5_10, V0_5_23)}
