"""Fills the settings of a router, and refuses routers that look for what replicas do not have."""

from fastsim.deployment.schedulers import Settings
from fastsim.deployment.sections import Router
from fastsim.errors import ConfigError

# What each router reads, with its default: SGLang's launcher's for prefix_aware, llm-d's sample for precise prefix
# caching's for weighted. A kv_aware_threshold of None is no limit.
OWN: dict[str, dict[str, float | None]] = {
    "prefix_aware": {
        "cache_threshold": 0.3,
        "balance_abs_threshold": 64,
        "balance_rel_threshold": 1.5,
        "kv_aware_threshold": None,
    },
    "weighted": {"prefix_cache_weight": 2.0, "kv_cache_utilization_weight": 1.0, "queue_weight": 1.0},
}


def filled(router: Router) -> dict[str, float | None]:
    """The settings that a router reads, with defaults for those that are None."""
    own = OWN.get(router.policy, {})
    return {name: default if getattr(router, name) is None else getattr(router, name) for name, default in own.items()}


def check_router(router: Router, settings: Settings) -> None:
    """Raise ConfigError if a router looks for cached prefixes on replicas that cache none."""
    if settings.enable_prefix_caching:
        return
    field, valid = f"router.policy: {router.policy}", "least_outstanding"
    if router.policy == "weighted":
        weight = filled(router)["prefix_cache_weight"]
        if not weight:
            return
        field, valid = f"router.prefix_cache_weight: {weight:g}", "0"
    elif router.policy != "prefix_aware":
        return
    if settings.sglang is not None:
        why = f"scheduler.disable_radix_cache is true (valid: {valid}, or scheduler.disable_radix_cache false)"
    elif settings.release is None:
        why = (
            f"scheduler.policy {settings.policy.name} has none (valid: {valid}, or scheduler.policy vllm_v1 or sglang)"
        )
    else:
        why = f"scheduler.enable_prefix_caching is false (valid: {valid}, or scheduler.enable_prefix_caching true)"
    raise ConfigError(f"{field} needs a prefix cache, and {why}")


def router_notes(router: Router) -> list[str]:
    """A sentence for each setting that is given and that the router does not read."""
    own = OWN.get(router.policy, {})
    given = {name: value for name in Router.model_fields if (value := getattr(router, name)) is not None}
    return [
        f"router.{name}: {value} changes nothing, as router.policy {router.policy} has no such setting"
        for name, value in given.items()
        if name not in ("policy", "pools") and name not in own
    ]
