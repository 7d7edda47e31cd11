"""What replicas of several ranks keep beside the state of a simulation, and the settings that they go by."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

# RankLimits.balancer: which rank of a replica a request goes to. INTERNAL: that with the least sum of four times the
# requests that wait and those that run, as far as is known; ROUND_ROBIN: the next in turn; GIVEN: the shell has said.
INTERNAL, ROUND_ROBIN, GIVEN = range(3)

# Columns of Ranks.counts, first those of replicas, then those of ranks.
(
    FIRST_RANK,  # row of the replica's first rank
    LEARNED,  # moments so far at which the balancer has learned what ranks have
    SENT,  # requests sent to ranks so far
    IN_WAVE,  # steps since ranks last asked each other whether any has requests
    WAITING_KNOWN,  # requests that wait at the rank, as far as the balancer knows
    RUNNING_KNOWN,
    STEADY_UNTIL,  # call of the scheduler up to which, not including it, it gives the group a token each and no more
    STEADY_FROM,  # step of the group from which that is so
    OWED,  # blocks that the group has been given since, and that are still in the list of free ones
    FORMED,  # in the row of the n-th rank, the row of the n-th rank whose batch was formed member by member
    NUM_RANK_COUNTS,
) = range(11)


class RankLimits(NamedTuple):
    """The ranks of a replica, and how its requests come to them."""

    num_ranks: int
    balancer: int
    refresh_s: float  # s, after which the internal balancer learns anew how many requests each rank has
    wave: int  # steps after which ranks ask each other whether any has requests; until then all step on


NO_RANKS = RankLimits(1, INTERNAL, 0.0, 1)


class Ranks(NamedTuple):
    """What replicas of several ranks keep; without ranks, arrays are empty."""

    counts: Longs  # [rows of Replicas, NUM_RANK_COUNTS]
    given: Ints  # [N] rank of each request, from 0; [0] but for GIVEN
