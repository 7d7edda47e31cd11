"""How the requests of a measured run are sent again: at their times, at a rate, or by users who wait."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError, WorkloadError
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.checks import check_rate
from fastsim.workload.loading import load

SEED = 0  # of arrivals that are drawn


@dataclass(frozen=True)
class Sending:
    """What a file, or the user, says of how requests were sent; None: it does not say.

    ``rate`` is in requests/s, and infinite where all were sent at once; ``burstiness`` is the shape of the gamma
    distribution of the gaps; ``users`` were in flight at most.
    """

    rate: float | None = None
    users: int | None = None
    burstiness: float = 1.0


def asked(rate: float | None, users: int | None) -> Sending | None:
    """What the user says instead of the file; None where that is nothing. Raises ConfigError and WorkloadError."""
    if rate is not None:
        check_rate(rate, "--rate")
    if users is not None and not 1 <= users < 2**31:
        raise ConfigError(f"--users: {users} is not a whole number from 1 (e.g. 64)")
    if rate is not None and users is not None:
        raise ConfigError(f"--rate {rate:g} and --users {users} exclude each other, as users wait for their answers")
    return None if rate is None and users is None else Sending(rate, users)


@dataclass(frozen=True)
class Lengths:
    """The requests in the order in which they were sent: tokens, int64[n], and hashes of blocks that they share."""

    place: str
    num_prompt_tokens: NDArray[np.int64]
    num_output_tokens: NDArray[np.int64]
    block_hashes: BlockHashes | None = None

    def at(self, arrived_at: NDArray[np.float64]) -> Workload:
        """The requests at given times, s."""
        columns = arrived_at, self.num_prompt_tokens, self.num_output_tokens
        return Workload(*columns, name=self.place, block_hashes=self.block_hashes)


def sent(
    lengths: Lengths, arrived_at: NDArray[np.float64] | None, said: Sending, forced: Sending | None
) -> tuple[Workload, list[str]]:
    """The requests as they are sent again, and a note for what the file does not say.

    ``arrived_at``: float64[n], s, ascending, when they were sent; None where the file does not say. ``said`` is what it
    says besides, and ``forced`` what the user says instead. Raises WorkloadError where nothing says how they were sent.
    """
    said, number = forced or said, len(lengths.num_prompt_tokens)
    drawn = said.rate is not None and bool(np.isfinite(said.rate))
    if said.users is not None and not drawn:
        users = min(said.users, number)
        who = (
            f"{users:,} users send the requests, and each waits for an"
            if users > 1
            else "one user sends the requests, and waits for each"
        )
        return lengths.at(np.zeros(number)).with_users(users), [f"{who} answer before the next request"]
    if arrived_at is not None and forced is None:
        workload, notes = lengths.at(arrived_at), []
    elif said.rate is None:
        raise WorkloadError(
            f"{lengths.place}: has no arrival times, and does not say at what rate or by how many users the requests "
            "were sent; say --rate or --users (e.g. --users 64)"
        )
    else:
        why = "" if forced else "the file has no arrival times, so that "
        shape = "" if said.burstiness == 1 or not drawn else f" and a burstiness of {said.burstiness:g}"
        how = f"times are drawn for a rate of {said.rate:g} requests/s{shape}" if drawn else "all are sent at once"
        workload = lengths.at(_drawn(number, said.rate, said.burstiness) if drawn else np.zeros(number))
        notes = [why + how]
    if said.users is not None:
        notes.append(f"clients hold requests back that are sent while {said.users:,} are in flight")
        workload = replace(workload, max_concurrency=said.users)
    return workload, notes


def _drawn(number: int, rate: float, burstiness: float) -> NDArray[np.float64]:
    """Arrivals as `vllm bench serve` draws them, float64[number], s."""
    lengths = {"kind": "fixed", "num_prompt_tokens": 1, "num_output_tokens": 1}
    gaps = {"kind": "vllm_bench", "rate": rate, "burstiness": burstiness}
    return load({"lengths": lengths, "gaps": gaps}, num_requests=number, seed=SEED).arrived_at
