"""The commands that start a deployment with pools: one for each pool, and one that hands requests from pool to pool.

Roles as in the documentation of vLLM's NIXL connector (docs/features/nixl_connector_usage.md) and of SGLang
(docs/advanced_features/pd_disaggregation.md).
"""

import json
import shlex
from dataclasses import dataclass, replace
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.deployment.launch.launch import Flag, Launch, known, launched
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import PoolOf, Resolved

PORTS = {"vllm": 8000, "sglang": 30000}
SIDE_CHANNEL = 5600  # vLLM's base port of the handshakes of NIXL; a rank adds its number
TOY_PROXY = "tests/v1/kv_connector/nixl_integration/toy_proxy_server.py"  # of vLLM's repository


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands that start a deployment: one for each pool, or one where all replicas are alike.

    ``proxy`` hands requests from the replicas that prefill to those that decode; empty where there are none.
    ``notes`` are about all of them, ``proxy_notes`` about how replicas find each other.
    """

    launches: tuple[Launch, ...]
    proxy: tuple[str, ...]
    notes: tuple[str, ...]
    proxy_notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The commands for a shell, with one flag per line."""
        if self.launches[0].pool is None:
            return self.launches[0].text
        parts = [f"# {each.title}\n{each.text}" for each in self.launches]
        if self.proxy:
            parts.append(f"# the proxy, which clients talk to\n{shlex.join(self.proxy)}")
        return "\n\n".join(parts)

    @property
    def own_notes(self) -> list[str]:
        """The notes of each command, with the name of its pool, and those of all."""
        if self.launches[0].pool is None:
            return list(self.launches[0].notes)
        named = [f"pool {each.pool.name}: {note}" for each in self.launches if each.pool for note in each.notes]
        return [*named, *self.notes]

    @property
    def all_notes(self) -> list[str]:
        """The same, and how replicas find each other."""
        return [*self.own_notes, *self.proxy_notes]

    def as_dict(self) -> dict[str, Any]:
        """The commands as JSON has them."""
        if self.launches[0].pool is None:
            return self.launches[0].as_dict()
        pools = [
            {"name": each.pool.name, "role": each.pool.role, **each.as_dict()} for each in self.launches if each.pool
        ]
        return {"pools": pools, "proxy": list(self.proxy), "notes": [*self.notes, *self.proxy_notes]}


def commands(deployment: Deployment, engine: str = "vllm") -> Commands:
    """The commands that start ``deployment`` in ``engine`` (vllm or sglang). Raises what ``launch`` raises."""
    known(engine)
    resolved = resolve(deployment)
    if not resolved.pools:
        return Commands((launched(resolved, engine),), (), ())
    made = tuple(_of_pool(each, place, engine) for place, each in enumerate(resolved.pools))
    if not resolved.is_apart:
        rule = f"router.pools {resolved.deployment.router.pools} and router.policy {resolved.router}"
        return Commands(made, (), (), (f"start a router before the pools; simulated was {rule}",))
    return Commands(made, _proxy(resolved, engine), _notes(resolved, engine), _proxy_notes(resolved, engine))


def _of_pool(each: PoolOf, place: int, engine: str) -> Launch:
    """The command of a pool, with the flags of its role."""
    is_apart = each.pool.role != "mixed"
    plain = launched(each.resolved, engine, is_apart)
    if not is_apart:
        return replace(plain, pool=each.pool)
    environment = dict(plain.environment)
    if engine == "vllm":
        environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(SIDE_CHANNEL + 100 * place)
        flags = [transfer("kv_producer" if each.pool.role == "prefill" else "kv_consumer")]
    else:
        flags = [("--disaggregation-mode", each.pool.role), ("--disaggregation-transfer-backend", "nixl")]
    return replace(plain, pool=each.pool, flags=(*plain.flags, *flags), environment=environment)


def transfer(role: str) -> Flag:
    """vLLM's flag for KV that goes over NIXL; ``role``: kv_producer, kv_consumer or kv_both."""
    return "--kv-transfer-config", json.dumps({"kv_connector": "NixlConnector", "kv_role": role})


def _proxy(resolved: Resolved, engine: str) -> tuple[str, ...]:
    """The command of the proxy; the hosts are called as their pools, with a number."""
    port = str(PORTS[engine])
    hosts: dict[str, list[str]] = {"prefill": [], "decode": []}
    for each in resolved.pools:
        hosts[each.pool.role] += [f"{each.pool.name}-{number}" for number in range(each.pool.num_replicas)]
    if engine == "vllm":
        words = ["python3", TOY_PROXY, "--port", "8192"]
        for role, called in (("prefill", "prefiller"), ("decode", "decoder")):
            words += [f"--{called}-hosts", *hosts[role], f"--{called}-ports", *[port] * len(hosts[role])]
        return tuple(words)
    words = ["python3", "-m", "sglang_router.launch_router", "--pd-disaggregation"]
    for role in ("prefill", "decode"):
        words += [word for host in hosts[role] for word in (f"--{role}", f"http://{host}:{port}")]
    return (*words, "--host", "0.0.0.0", "--port", "8000")


def _notes(resolved: Resolved, engine: str) -> tuple[str, ...]:
    """What the engine does not do as it was simulated."""
    link = resolved.deployment.kv_transfer
    notes = []
    if engine == "sglang":
        notes.append("simulated were vLLM's scheduler and its NIXL connector; SGLang's differ")
    if link is not None and link.layerwise:
        notes.append("kv_transfer.layerwise: the NIXL connector reads KV once all of the prompt is computed")
    if link is not None and link.min_prompt_tokens:
        notes.append(f"kv_transfer.min_prompt_tokens {link.min_prompt_tokens}: no flag keeps short prompts")
    return tuple(notes)


def _proxy_notes(resolved: Resolved, engine: str) -> tuple[str, ...]:
    """How replicas find each other."""
    notes = [f"the proxy decides which replicas a request goes to; simulated was {resolved.router}"]
    if engine == "vllm":
        notes += [
            f"{TOY_PROXY} is an example in vLLM's repository; its hosts are your machines",
            "VLLM_NIXL_SIDE_CHANNEL_HOST is to be the address of each machine, and engines of one machine need ports "
            "of their own",
        ]
    return tuple(notes)
