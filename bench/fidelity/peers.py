"""What other simulators publish of their errors on measurements of this kind, %, and what limits the comparison."""

from collections.abc import Mapping
from typing import NamedTuple


class Peer(NamedTuple):
    """A published error: ``errors`` by figure, as text; ``about``: where the titles of its sets begin."""

    about: str
    name: str
    errors: Mapping[str, str]
    caveat: str
    source: str


BLIS = "inference-sim (BLIS), its published experiments of vLLM 0.15"
SILICON = "aiconfigurator 0.12 and AISimulate 0.12 as published, on the silicon samples of aiconfigurator"
SERVING_SIM = "LLMServingSim, its published validation on RTX PRO 6000"

PEERS = (
    Peer(
        "vLLM 0.15",
        "BLIS, trained physics",
        {"ttft_mean": "med 18.4", "ttft_p99": "med 29", "tpot_mean": "med 6.5", "e2e_mean": "med 6.8"},
        "medians over the rows of its set 'full', fitted on rows of 'trainval'; TPOT against a re-tokenised gap",
        BLIS,
    ),
    Peer(
        "vLLM 0.15",
        "AIConfigurator",
        {"ttft_mean": "med 662", "tpot_mean": "med 13.2", "e2e_mean": "med 21.5"},
        "run by the BLIS authors on the same set; it has no prefix hits, which these rows consist of",
        BLIS,
    ),
    Peer(
        "vLLM 0.15, H100, dense",
        "BLIS, evolved",
        {"ttft_mean": "14.2/12.4", "ttft_p99": "29.3/23.3", "tpot_mean": "16.0/16.5", "e2e_mean": "17.2/18.0"},
        "mean/median over the 15 dense rows of 'trainval', on which it was fitted",
        BLIS,
    ),
    Peer(
        "vLLM 0.15, H100, dense",
        "Vidur",
        {"ttft_mean": "18.9/15.3", "ttft_p99": "16.4/19.4", "tpot_mean": "15.5/16.0", "e2e_mean": "15.1/14.4"},
        "mean/median over three rows only of 'trainval'",
        BLIS,
    ),
    Peer(
        "vLLM 0.19, RTXPRO6000, Llama-3.1-8B",
        "LLMServingSim",
        {"ttft_mean": "-4.0", "ttft_p99": "-2.0", "tpot_mean": "-1.0", "e2e_mean": "-1.8"},
        "signed; its operators were profiled on that very GPU at the model's shapes",
        SERVING_SIM,
    ),
    Peer(
        "vLLM 0.19, RTXPRO6000, Qwen3-30B-A3B",
        "LLMServingSim",
        {"ttft_mean": "-13.6", "ttft_p99": "-1.0", "tpot_mean": "-1.7", "e2e_mean": "-2.2"},
        "signed; its operators were profiled on that very GPU at the model's shapes",
        SERVING_SIM,
    ),
    Peer(
        "closed loop",
        "AIConfigurator 0.12",
        {"ttft_mean": "49 to 63", "tpot_mean": "17 to 19"},
        "mean absolute over its own rows of this kind, not set by set; a static estimate, not a replay",
        SILICON,
    ),
    Peer(
        "closed loop",
        "AISimulate 0.12",
        {"ttft_mean": "76", "tpot_mean": "30"},
        "mean absolute over its own 759 points, most of which are not among these rows",
        SILICON,
    ),
    Peer(
        "vLLM on a CPU",
        "the same run three times",
        {"ttft_mean": "2.3", "ttft_p99": "2.0", "tpot_mean": "3.1", "e2e_mean": "2.6"},
        "no simulator: the largest distance from the mean of three recordings with the same arrivals in one process",
        "our own recordings",
    ),
)


def peers_of(title: str) -> list[Peer]:
    """The published errors that belong beside a set."""
    return [peer for peer in PEERS if title.startswith(peer.about)]
