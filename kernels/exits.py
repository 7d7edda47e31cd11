"""Why a kernel came back, what happens next on a replica, and how a replica ended."""

from enum import IntEnum


class Exit(IntEnum):
    """What a replica does next, or why a kernel came back to its caller."""

    FORM = 0
    """A batch is to be formed on the replica at cursor. A kernel never comes back with it."""

    ENDED = 1
    """The batch at cursor has ended. A kernel never comes back with it."""

    BUDGET = 2
    """The budget of iterations is used up, or the log is full: call the kernel again."""

    UNTIL = 3
    """The replica has nothing more to do before the horizon. A kernel never comes back with it."""

    DONE = 4
    """Every replica has served all it can: the simulation is over."""

    FAULT = 5
    """The tables give the batch at cursor no time, or a user's function chose what cannot be."""


class Ending(IntEnum):
    """How a replica ended, in column OUTCOME of Replicas.counts."""

    GOING = 0
    """It has not stopped: it still runs, or it has served all its requests."""

    STUCK = 1
    """It is empty, and the request at the head of its queue does not fit even so."""

    OUT_OF_MEMORY = 2
    """Its running requests need more KV blocks than are free, and the policy (lightllm) cannot preempt."""

    ENDLESS = 3
    """Its requests preempt each other again and again (vllm_v1), and none is given a token."""

    CRASHED = 4
    """It formed a batch that the engine (sglang) cannot run, and at which it ends."""
