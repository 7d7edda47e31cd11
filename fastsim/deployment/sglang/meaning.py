"""SGLang's flags: each is taken, changes nothing, or is refused in a sentence."""

from typing import Any

from fastsim.deployment.commands.meaning import Meaning
from fastsim.deployment.sglang import flags, values
from fastsim.deployment.vllm import values as shared
from fastsim.errors import ConfigError
from fastsim.files.documents import short


def meaning(name: str, value: Any, model: Any) -> Meaning | None:
    """What flag ``name`` of ``flags`` means with ``value`` for a model; None if SGLang has no such flag.

    Raises ConfigError, which begins with the value, for a value that cannot be simulated.
    """
    if name in flags.TAKEN:
        return Meaning(dict.fromkeys(flags.TAKEN[name], _value(name, value, model)))
    if name in flags.ATTENTION_RANKS:
        if value is None or value is False or (name == "attn_dp_size" and value == 1):
            return Meaning()
        raise ConfigError(
            f"{short(value)}: attention with data parallelism, whose ranks share the other layers, is not simulated; "
            "num_replicas sets replicas that share nothing (e.g. --set num_replicas=1)"
        )
    if name in flags.LOST:
        off, sentence = flags.LOST[name]
        return Meaning() if value is None or value in off else Meaning(lost=sentence)
    if name == "is_embedding" or (name == "model_type" and value == "diffusion"):
        if value in (None, False):
            return Meaning()
        raise ConfigError(f"{short(value)}: models that generate no text are not simulated")
    return Meaning(unchanged=True) if flags.is_unchanged(name) else None


def _value(name: str, value: Any, model: Any) -> Any:
    """The value of a setting, from that of its flag; None leaves it open."""
    match name:
        case "model" | "schedule_policy":
            return value
        case "dtype":
            return shared.dtype(value)
        case "kv_cache_dtype":
            return values.KV_CACHE_DTYPES.get(value, value) if isinstance(value, str) else value
        case "quantization":
            return values.quantization(value, model)
        case "torchao_config":
            return values.torchao(value)
        case "load_balance_method":
            return values.balanced(value)
        case "router_policy":
            return values.ROUTERS.get(value, value) if isinstance(value, str) else value
    return values.whole(value)
