"""Draws a workload from its description.

Lengths and gaps have a random stream each, which is read in order of the requests. So another rate stretches the same
gaps and keeps the lengths, and a longer workload begins with the shorter one.
"""

import numpy as np

from fastsim.files.memory import check_memory
from fastsim.workload.arrivals import draw_arrivals, draw_loop
from fastsim.workload.description import Description
from fastsim.workload.gaps import ClosedLoop
from fastsim.workload.prefixes import most_texts
from fastsim.workload.tokens import draw_lengths, shrink
from fastsim.workload.turns import draw_sharing
from fastsim.workload.workload import Workload

BYTES = 48  # of memory for a request while it is drawn and checked
SHARING_BYTES = 300  # of one with a prefix, without its hashes
TEXT_BYTES = 100  # of each text in a prefix


def draw(described: Description, name: str, seed: np.random.SeedSequence | None = None) -> Workload:
    """Draw the workload of a description; ``seed`` is by default its own.

    Raises WorkloadError for a file that the description names, and TooLargeError for more requests than fit in memory.
    """
    number = described.num_requests
    check_memory(number, f"num_requests: {number:,} requests", BYTES)
    seeds = (seed or np.random.SeedSequence(described.seed)).spawn(6)
    if described.prefix or described.sessions:
        texts = sum(most_texts(prefix) for prefix in described.prefixes)
        check_memory(number, f"num_requests: {number:,} requests", SHARING_BYTES + TEXT_BYTES * texts)
        return draw_sharing(described, seeds, name)
    for_lengths, for_gaps = map(np.random.default_rng, seeds[:2])
    prompts, outputs, origin = draw_lengths(described.lengths, number, for_lengths)
    if described.max_tokens is not None:
        shrink(prompts, outputs, described.max_tokens)
    think, most = None, described.max_concurrency
    if isinstance(described.gaps, ClosedLoop):
        arrived_at, think = draw_loop(described.gaps, number, for_gaps)
        most = described.gaps.concurrency
    else:
        arrived_at = draw_arrivals(described.gaps, number, for_gaps)
    return Workload(arrived_at, prompts, outputs, name=name, origin=origin, think_time=think, max_concurrency=most)
