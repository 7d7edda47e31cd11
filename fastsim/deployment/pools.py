"""The pools of a deployment: each is a deployment of its own, and some things must be the same in all of them."""

from collections.abc import Callable, Sequence
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.deployment.pool import OWN, Pool
from fastsim.deployment.resolved import PoolOf, Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.errors import ConfigError, InputError

COMPARING = ("least_outstanding", "least_waiting")  # routers that compare the loads of replicas
INSTEAD = [name for name in Pool.model_fields if name not in (*OWN, "scheduler")]


def deployment_of(given: Deployment, pool: Pool) -> Deployment:
    """The deployment that the replicas of one pool are."""
    instead = {name: value for name in INSTEAD if (value := getattr(pool, name)) is not None}
    if pool.device is not None and pool.node is None:
        instead["node"] = None
    settings = {name: value for name, value in pool.scheduler if value is not None}
    scheduler = given.scheduler.model_copy(update=settings)
    own = {"pools": (), "kv_transfer": None, "num_replicas": pool.num_replicas, "scheduler": scheduler}
    router = given.router.model_copy(update={"pools": "load"})
    return given.model_copy(update={**instead, **own, "router": router})


def resolved_pools(given: Deployment, resolve: Callable[[Deployment], Resolved]) -> tuple[PoolOf, ...]:
    """Every pool with its defaults filled. Raises what ``resolve`` raises, with the pool that it is about."""
    pools: list[PoolOf] = []
    for place, pool in enumerate(given.pools):
        try:
            resolved = resolve(deployment_of(given, pool))
        except InputError as error:
            raise type(error)(f"pools[{place}]: {error}") from None
        pools.append(PoolOf(pool, resolved, sum(other.num_replicas for other in given.pools[:place])))
    return tuple(pools)


def filled(pools: Sequence[PoolOf]) -> tuple[Pool, ...]:
    """The pools as the deployment describes them, with what they had left to it."""
    written = []
    for each in pools:
        deployment = each.resolved.deployment
        values: dict[str, Any] = {name: getattr(deployment, name) for name in (*INSTEAD, "scheduler")}
        written.append(each.pool.model_copy(update=values))
    return tuple(written)


def check_given(given: Deployment) -> None:
    """Raise ConfigError for pools that contradict each other or the deployment, whatever they are of."""
    if given.num_replicas != 1:
        raise ConfigError(
            f"num_replicas: {given.num_replicas} is given besides pools, which have replicas of their own; leave it out"
        )
    if given.data_parallel_size > 1:
        raise ConfigError(f"data_parallel_size: {given.data_parallel_size} ranks in pools are not simulated (valid: 1)")
    names = [pool.name for pool in given.pools]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ConfigError(f"pools[{place}].name: {name!r} is the name of another pool (e.g. {name}-{place})")
    if is_function(given.router.policy) or is_function(given.scheduler.policy or ""):
        raise ConfigError("pools: functions of your own see replicas of one kind only (valid: a policy of fastsim's)")
    _check_roles(given)
    if given.router.pools == "prompt_length":
        _check_lengths(given)
    if given.router.pools == "cost" and given.router.policy not in COMPARING:
        raise ConfigError(
            f"router.policy: {given.router.policy} does not count the requests of replicas, by which router.pools cost "
            "sees that a pool has no room (valid: least_outstanding, least_waiting)"
        )


def _check_roles(given: Deployment) -> None:
    """Refuse roles that lack a partner or a link, and routers that cannot serve them."""
    roles = [pool.role for pool in given.pools]
    if set(roles) == {"mixed"}:
        if given.kv_transfer is not None:
            raise ConfigError("kv_transfer: no pool has role prefill or decode, between which KV goes (leave it out)")
        return
    if "mixed" in roles:
        place = roles.index("mixed")
        raise ConfigError(f"pools[{place}].role: mixed stands beside prefill and decode (valid: prefill, decode)")
    for role, partner in (("prefill", "decode"), ("decode", "prefill")):
        if role not in roles:
            raise ConfigError(f"pools[0].role: {partner} has no partner; add a pool of role {role}, or use mixed")
    if roles != sorted(roles, reverse=True):
        raise ConfigError("pools: those of role prefill come first, and then those of role decode; put them in order")
    if given.kv_transfer is None:
        raise ConfigError(
            "kv_transfer: missing; KV goes from prefill to decode over a link (e.g. {link_gb_s: 50, latency_us: 20})"
        )
    if given.router.policy not in (*COMPARING, "round_robin") or given.router.pools != "load":
        field, value = (
            ("pools", given.router.pools) if given.router.pools != "load" else ("policy", given.router.policy)
        )
        valid = "load" if field == "pools" else "round_robin, least_outstanding, least_waiting"
        raise ConfigError(f"router.{field}: {value} is not simulated with prefill and decode apart (valid: {valid})")


def _check_apart(place: int, resolved: Resolved, first: Resolved) -> None:
    """Refuse what is not simulated with prefill and decode apart."""
    scheduler = resolved.scheduler
    for field, value, valid in (
        ("scheduler.policy", scheduler.policy.name, "vllm_v1"),
        ("scheduler.scheduling_policy", scheduler.scheduling_policy, "fcfs"),
        ("scheduler.enable_chunked_prefill", scheduler.enable_chunked_prefill, True),
        ("pipeline_parallel_size", resolved.pipeline_parallel_size, 1),
    ):
        if value != valid:
            raise ConfigError(
                f"pools[{place}].{field}: {str(value).lower()} is not simulated with prefill and decode apart "
                f"(valid: {str(valid).lower()})"
            )
    if resolved.kv_precision != first.kv_precision:
        raise ConfigError(
            f"pools[{place}].kv_cache_dtype: {resolved.kv_cache_dtype} is not that of pool 0, from which its KV comes"
        )


def _check_lengths(given: Deployment) -> None:
    """Refuse bounds of prompts that leave some prompt without a pool, or a pool without a prompt."""
    bounds = [pool.max_prompt_tokens for pool in given.pools]
    for place, bound in enumerate(bounds):
        field, is_last = f"pools[{place}].max_prompt_tokens", place == len(bounds) - 1
        if is_last and bound is not None:
            raise ConfigError(f"{field}: {bound} leaves longer prompts without a pool (valid: null in the last pool)")
        if not is_last and bound is None:
            raise ConfigError(f"{field}: missing; router.pools prompt_length reads it (e.g. 4096)")
        before = bounds[place - 1] if place else None
        if bound is not None and before is not None and bound <= before:
            raise ConfigError(f"{field}: {bound} leaves the pool no prompts (valid: more than {before})")


def check_alike(pools: Sequence[PoolOf], given: Deployment) -> None:
    """Raise ConfigError where pools differ in what all replicas of a simulation share."""
    first = pools[0].resolved
    size = "block_size" if first.scheduler.sglang is None else "page_size"
    for place, each in enumerate(pools):
        resolved = each.resolved
        for field, own, other in (
            ("scheduler.policy", resolved.scheduler.policy.name, first.scheduler.policy.name),
            (f"scheduler.{size}", resolved.scheduler.block_size, first.scheduler.block_size),
            ("pipeline_parallel_size", resolved.pipeline_parallel_size, first.pipeline_parallel_size),
            ("predictor.compose", resolved.predictor.compose, first.predictor.compose),
        ):
            if own != other:
                raise ConfigError(
                    f"pools[{place}].{field}: {own} differs from {other} of pool {pools[0].pool.name}, and pools have "
                    f"the same (valid: {other})"
                )
        if each.pool.role != "mixed":
            _check_apart(place, resolved, first)
        if given.router.pools == "cost" and resolved.price is None:
            raise ConfigError(
                f"router.pools: cost compares prices, and none of {resolved.device.name} is known; give one "
                f"(e.g. prices: {{gpus: {{{resolved.device.name}: 2.0}}}})"
            )


def pool_notes(given: Deployment) -> list[str]:
    """A sentence for each setting of a pool that its router does not read."""
    said = []
    for place, pool in enumerate(given.pools):
        for field, needs in (("max_prompt_tokens", "prompt_length"), ("max_outstanding", "cost")):
            if getattr(pool, field) is not None and given.router.pools != needs:
                said.append(f"pools[{place}].{field}: changes nothing, as router.pools is {given.router.pools}")
        if pool.weight != 1 and given.router.policy not in COMPARING:
            said.append(f"pools[{place}].weight: changes nothing, as router.policy is {given.router.policy}")
    if not given.pools and given.router.pools != "load":
        said.append(f"router.pools: {given.router.pools} changes nothing without pools")
    return said
