"""The settings of routers, and what routers are refused for."""

import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError


def resolved(*overrides: str) -> Resolved:
    return resolve(Deployment.load({"model": "llama-2-7b", "device": "a100"}, ["scheduler.policy=vllm_v1", *overrides]))


def test_settings_of_a_router_are_those_of_the_public_one() -> None:
    router = resolved("router.policy=prefix_aware", "router.cache_threshold=0.5").deployment.router
    assert (router.cache_threshold, router.kv_aware_threshold) == (0.5, None)
    assert (router.balance_abs_threshold, router.balance_rel_threshold) == (64, 1.5)
    assert router.queue_weight is None
    router = resolved("router.policy=weighted", "router.queue_weight=0").deployment.router
    assert (router.prefix_cache_weight, router.kv_cache_utilization_weight, router.queue_weight) == (2, 1, 0)


def test_a_setting_that_the_router_ignores_is_said() -> None:
    said = resolved("router.policy=least_kv", "router.queue_weight=2").warnings
    assert "router.queue_weight: 2.0 changes nothing, as router.policy least_kv has no such setting" in said


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["router.policy=prefix_aware", "scheduler.policy=sarathi"],
            "router.policy: prefix_aware needs a prefix cache, and scheduler.policy sarathi has none "
            "(valid: least_outstanding, or scheduler.policy vllm_v1 or sglang)",
        ),
        (
            ["router.policy=prefix_aware", "scheduler.enable_prefix_caching=false"],
            "router.policy: prefix_aware needs a prefix cache, and scheduler.enable_prefix_caching is false "
            "(valid: least_outstanding, or scheduler.enable_prefix_caching true)",
        ),
        (
            ["router.policy=weighted", "scheduler.enable_prefix_caching=false"],
            "router.prefix_cache_weight: 2 needs a prefix cache, and scheduler.enable_prefix_caching is false "
            "(valid: 0, or scheduler.enable_prefix_caching true)",
        ),
        (
            ["router.policy=prefix_aware", "scheduler.policy=sglang", "scheduler.disable_radix_cache=true"],
            "router.policy: prefix_aware needs a prefix cache, and scheduler.disable_radix_cache is true "
            "(valid: least_outstanding, or scheduler.disable_radix_cache false)",
        ),
        (["router.balance_abs_threshold=-1"], "router.balance_abs_threshold: -1 is not an integer from 0"),
        (["router.cache_threshold=1.5"], "router.cache_threshold: 1.5 is not a fraction from 0 to 1"),
        (["router.queue_weight=-2"], "router.queue_weight: -2 is not a number from 0"),
    ],
)
def test_what_a_router_cannot_do_is_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(*overrides)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_weights_without_a_prefix_need_no_cache() -> None:
    assert resolved("router.policy=weighted", "router.prefix_cache_weight=0", "scheduler.policy=sarathi").router
