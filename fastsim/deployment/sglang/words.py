"""What a release of SGLang does otherwise than another, in words."""

from collections.abc import Mapping

from fastsim.deployment.sglang.releases import RELEASES, Release

# By field of a release, and by whether it holds.
WORDS: Mapping[str, Mapping[bool, str]] = {
    "idle_pass_resets_ratio": {
        True: "a pass that does nothing resets new_token_ratio, also while requests wait",
        False: "a pass that does nothing resets new_token_ratio only if no request is left",
    },
    "filters_before_prefill": {
        True: "finished requests give up their places before a prefill is tried",
        False: "finished requests keep their places until the next decode",
    },
    "counts_places_first": {
        True: "no request is looked up while max_running_requests run",
        False: "requests are looked up while max_running_requests run",
    },
    "matches_leave_a_token": {
        True: "lpm does not count the last token as matched",
        False: "lpm counts the last token as matched",
    },
    "refreshes_waiting": {
        True: "fcfs keeps the prefixes of waiting requests in the tree",
        False: "fcfs leaves the prefixes of waiting requests to eviction",
    },
    "ignore_eos_reserves_all": {
        True: "with ignore_eos running requests reserve all their outputs",
        False: "with ignore_eos running requests reserve new_token_ratio of their outputs",
    },
    "stops_without_budget": {
        True: "no request is looked up once the tokens of a batch are used up",
        False: "one more request is looked up once the tokens of a batch are used up",
    },
    "tests_memory_once": {
        True: "a request is admitted if it and one more page have room beside its locked prefix",
        False: "a request is admitted if it has room before and after its prefix is locked",
    },
    "chunks_lift_input_limit": {
        True: "max_prefill_tokens does not hold with chunked prefill",
        False: "max_prefill_tokens holds with chunked prefill too",
    },
    "evicts_whole_need": {
        True: "an eviction frees all slots that are needed",
        False: "an eviction frees the slots that are missing",
    },
    "mixes_unchecked": {
        True: "decodes join a prefill whether or not they have room, and the engine may crash",
        False: "decodes join a prefill only if they have room",
    },
    "leaves_out_last_tokens": {
        True: "with overlap no token is computed after the last one that max_tokens allows",
        False: "with overlap a token is computed after the last one",
    },
    "ends_node_at_prompt": {
        True: "a node of the tree ends where a prompt does",
        False: "nodes of the tree end where sequences part",
    },
    "graphs_within_limit": {
        True: "no CUDA graph is larger than max_running_requests",
        False: "CUDA graphs do not depend on max_running_requests",
    },
    "limit_is_estimated": {
        True: "cuts max_running_requests to its own estimate, 2048 to 4096",
        False: "cuts max_running_requests to half the tokens of the KV cache",
    },
}


def differences(release: Release) -> list[str]:
    """What a release does otherwise than the one before it, or the first one otherwise than the second, in words."""
    releases = list(RELEASES.values())
    other = releases[max(releases.index(release) - 1, 0)] if release is not releases[0] else releases[1]
    said = [
        words[getattr(release, name)] for name, words in WORDS.items() if getattr(release, name) != getattr(other, name)
    ]
    if release.chunk_of_small != other.chunk_of_small:
        said.append(f"chunks of {release.chunk_of_small} tokens on GPUs of 20 to 35 GiB")
    return said
