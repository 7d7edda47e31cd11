"""What a checkpoint's quantization_config says of its modules, by the method that wrote it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastsim.catalog.module_names import EXPERTS
from fastsim.catalog.precisions import BF16, FORMATS, Precision, precision

Given = Mapping[str, Any]
EXCLUDED = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude", "llm_int8_skip_modules")


EXPERTS_IN_FP4 = tuple((f"{parent}.experts", precision("mxfp4")) for parent in EXPERTS)


class UnknownSchemeError(Exception):
    """A scheme that is not known; the text is what names it."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The precision of a checkpoint's linear modules: of those that it names, of those it leaves out, of all others."""

    default: Precision
    named: tuple[tuple[str, Precision], ...] = ()
    excluded: tuple[str, ...] = ()


def scheme(given: Given, expert_dtype: str = "") -> Scheme:
    """What a quantization_config says, whose fields have been validated. Raises UnknownSchemeError.

    ``expert_dtype``: that of the routed experts, where config.json says it beside a quantization_config of fp8.
    """
    inner = given.get("quantization")
    given = {**inner, **given} if isinstance(inner, dict) else given
    method = (given.get("quant_method") or "").lower().replace("_", "-")
    if (not method and "quant_algo" in given) or method.startswith("modelopt"):
        method = "modelopt"
    read = METHODS.get(method)
    if read is None:
        raise UnknownSchemeError(method or "a quantization without quant_method")
    found = read(given)
    if method == "fp8" and (given.get("quantized_layers") or expert_dtype == "fp4"):
        # Experts alone are in fewer bits; the lists say what else was left as it was, which is fp8.
        return Scheme(found.default, _modelopt(given).named or EXPERTS_IN_FP4)
    lists = [given.get(name) or () for name in EXCLUDED]
    return Scheme(found.default, found.named, (*found.excluded, *(entry for one in lists for entry in one)))


def kv_precision(given: Given) -> str | None:
    """The precision of the KV cache that a checkpoint was calibrated for; None: that of the activations.

    Engines take it where they are told nothing else (vLLM's kv_cache_dtype auto, from release 0.14 on).
    """
    inner = given.get("quantization")
    given = {**inner, **given} if isinstance(inner, dict) else given
    if (given.get("kv_cache_quant_algo") or "").upper() in ("FP8", "FP8_E4M3"):
        return "fp8"
    cache = given.get("kv_cache_scheme")
    floats = isinstance(cache, dict) and cache.get("num_bits") == 8 and cache.get("type", "float") == "float"
    return "fp8" if floats else None


def _grouped(name: str, group: int | None, bits_per_group: float | None = None) -> Precision:
    """A precision whose scales, of ``bits_per_group`` with their zero points, are shared by ``group`` weights.

    None takes what the precision usually has; a group of -1 or 0 is a whole channel, whose scale hardly counts.
    """
    kind = FORMATS[name]
    size = kind.group if group is None else group
    if not size or size < 0:
        return Precision(name, kind.weight_bits)
    return Precision(name, kind.weight_bits + (kind.scale_bits if bits_per_group is None else bits_per_group) / size)


def _fp8(given: Given) -> Scheme:
    block = given.get("weight_block_size")
    if not block:
        return Scheme(precision("fp8"))
    size = 1
    for length in block:
        size *= length
    return Scheme(_grouped("fp8_block", size))


def _integers(bits: Any, group: int | None) -> Precision:
    """Integer weights with 16-bit inputs; AWQ and GPTQ keep a scale of 16 bits and a zero point for each group."""
    name = {4: "int4_wo", 8: "int8_wo"}.get(bits)
    if name is None:
        raise UnknownSchemeError(f"{bits} bits")
    return _grouped(name, group, 16 + bits)


def _awq(given: Given) -> Scheme:
    bits = _given(given, "bits", "w_bit", default=4)
    return Scheme(_integers(bits, _given(given, "group_size", "q_group_size", default=128)))


def _gptq(given: Given) -> Scheme:
    bits, group = _given(given, "bits", default=4), _given(given, "group_size", default=128)
    usual = _integers(bits, group)
    named: list[tuple[str, Precision]] = [("lm_head", usual)] if given.get("lm_head") else []
    excluded = []
    for pattern, changed in (given.get("dynamic") or {}).items():
        if pattern.startswith("-:"):
            excluded.append(f"re:{pattern[2:]}")
        elif isinstance(changed, dict):
            kind = _integers(changed.get("bits", bits), changed.get("group_size", group))
            named.append((f"re:{pattern.removeprefix('+:')}", kind))
    only = [name for part in given.get("modules_in_block_to_quantize") or () for name in _flat(part)]
    named += [(name, usual) for name in only]
    return Scheme(BF16 if only else usual, tuple(named), tuple(excluded))


def _auto_round(given: Given) -> Scheme:
    bits, group = _given(given, "bits", default=4), _given(given, "group_size", default=128)
    named, excluded = [], []
    for name, changed in (given.get("extra_config") or {}).items():
        entry = f"re:{name}" if ".*" in name else name
        if isinstance(changed, dict) and changed.get("bits", bits) >= 16:
            excluded.append(entry)
        elif isinstance(changed, dict):
            named.append((entry, _integers(changed.get("bits", bits), changed.get("group_size", group))))
    return Scheme(_integers(bits, group), tuple(named), tuple(excluded))


def _compressed_tensors(given: Given) -> Scheme:
    default, named = BF16, []
    for group in (given.get("config_groups") or {}).values():
        kind = _compressed(group.get("weights") or {}, group.get("input_activations"))
        for target in group.get("targets") or ("Linear",):
            # The name of a class, such as Linear, stands for all of its modules.
            if target[:1].isupper() and "." not in target:
                default = kind
            else:
                named.append((target, kind))
    return Scheme(default, tuple(named))


def _compressed(weights: Given, inputs: Given | None) -> Precision:
    bits, floats, group = weights.get("num_bits"), weights.get("type") == "float", weights.get("group_size")
    if not bits:
        return BF16
    if bits == 8 and floats:
        if weights.get("strategy") == "block":
            return precision("fp8_block")
        if group == 32:
            return precision("mxfp8")
        return precision("fp8" if inputs else "fp8_wo")
    if bits == 4 and floats:
        return precision("mxfp4" if group == 32 else "nvfp4" if inputs else "nvfp4_wo")
    wide = not inputs
    name = {(8, True): "int8_wo", (8, False): "int8", (4, True): "int4_wo"}.get((bits, wide))
    if bits == 4 and inputs and inputs.get("type") == "float":
        name = "int4_fp8"
    if name is None or floats:
        raise UnknownSchemeError(f"compressed-tensors {bits} bits")
    return _grouped(name, group if weights.get("strategy") in (None, "group") else -1)


ALGORITHMS = {"FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8", "FP8_PB_WO": "fp8_block", "FP8_PB_REAL": "fp8_block"}
ALGORITHMS |= {"NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4_wo", "MXFP8": "mxfp8", "MXFP4": "mxfp4"}
ALGORITHMS |= {"W4A8_MXFP4_FP8": "mxfp4", "W4A16_MXFP4": "mxfp4", "W4A16_AWQ": "int4_wo", "W4A8_AWQ": "int4_fp8"}
ALGORITHMS |= {"W4A16": "int4_wo", "W8A16": "int8_wo", "INT8_SQ": "int8", "W8A8_SQ_PER_CHANNEL": "int8"}


def _modelopt(given: Given) -> Scheme:
    layers, mixed = given.get("quantized_layers"), str(given.get("quant_algo")).upper() == "MIXED_PRECISION"
    if layers:
        return Scheme(BF16, tuple((name, _algorithm(about)) for name, about in layers.items()))
    return _compressed_tensors(given) if mixed and given.get("config_groups") else Scheme(_algorithm(given))


def _algorithm(given: Given) -> Precision:
    algorithm = given.get("quant_algo")
    if algorithm is None or str(algorithm).upper() in ("NONE", "NO_QUANT"):
        return BF16
    name = ALGORITHMS.get(str(algorithm).upper())
    if name is None:
        raise UnknownSchemeError(f"modelopt {algorithm}")
    group = given.get("group_size")
    return _grouped(name, group if FORMATS[name].group and name != "fp8_block" else None)


def _mxfp4(given: Given) -> Scheme:
    """OpenAI's and vLLM's method, which quantizes the experts alone."""
    return Scheme(BF16, EXPERTS_IN_FP4)


def _bitsandbytes(given: Given) -> Scheme:
    if given.get("load_in_8bit"):
        return Scheme(precision("int8"))
    return Scheme(precision("nf4"))  # engines widen the scales of double quantization to 32 bits when they load them


TORCHAO = {"int8weightonly": "int8_wo", "int4weightonly": "int4_wo", "float8weightonly": "fp8_wo"}
TORCHAO |= {"int8dynamicactivationint8weight": "int8", "float8dynamicactivationfloat8weight": "fp8"}
TORCHAO |= {"float8dynamicactivationint4weight": "int4_fp8"}


def _torchao(given: Given) -> Scheme:
    kind = given.get("quant_type")
    if isinstance(kind, dict):
        kind = kind.get("default", kind)
        table = _dict(_dict(kind).get("_data"))
        by_name = table.get("module_fqn_to_config", table.get("fqn_to_config"))
        if isinstance(by_name, dict):
            others = [name for name in by_name if name != "_default" and "embed" not in name]
            named = [(name, _torchao_kind(by_name[name])) for name in others]
            return Scheme(_torchao_kind(by_name.get("_default")), tuple(named))
        return Scheme(_torchao_kind(kind))
    return Scheme(_torchao_kind({"_type": kind, "_data": given.get("quant_type_kwargs")}))


def _torchao_kind(given: Any) -> Precision:
    if given is None:
        return BF16
    kind = str(_dict(given).get("_type"))
    name = TORCHAO.get(kind.lower().replace("_", "").removesuffix("config"))
    if name is None:
        raise UnknownSchemeError(f"torchao {kind}")
    group = _dict(_dict(given).get("_data")).get("group_size")
    if name.startswith("int4"):  # a scale and a zero point of 16 bits each
        return _grouped(name, group if isinstance(group, int) else 128, 32)
    return _grouped(name, group if isinstance(group, int) else -1)


def _quark(given: Given) -> Scheme:
    named, excluded = [], []
    for name, about in (given.get("layer_quant_config") or {}).items():
        if isinstance(about, dict) and about.get("weight"):
            named.append((name, _quark_kind(about)))
        else:
            excluded.append(name)
    return Scheme(_quark_kind(given.get("global_quant_config") or {}), tuple(named), tuple(excluded))


def _quark_kind(given: Given) -> Precision:
    weights, wide = _first(given.get("weight")), not given.get("input_tensors")
    kind = str(weights.get("dtype", "")).lower().partition("_")[0]
    if not kind:
        return BF16
    group = weights.get("group_size") if weights.get("qscheme") == "per_group" else -1
    name = {"fp8": "fp8_wo" if wide else "fp8", "int8": "int8_wo" if wide else "int8"}.get(kind)
    name = name or {"int4": "int4_wo", "uint4": "int4_wo", "fp4": "mxfp4"}.get(kind)
    if name is None:
        raise UnknownSchemeError(f"quark {kind}")
    return _grouped(name, group if isinstance(group, int) else None)


def _fp_quant(given: Given) -> Scheme:
    name = given.get("forward_dtype") or "mxfp4"
    if name not in ("mxfp4", "nvfp4"):
        raise UnknownSchemeError(f"fp_quant {name}")
    return Scheme(precision(name))


METHODS: Mapping[str, Callable[[Given], Scheme]] = {
    "fp8": _fp8,
    "fbgemm-fp8": lambda given: Scheme(precision("fp8")),
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "awq": _awq,
    "awq-marlin": _awq,
    "gptq": _gptq,
    "gptq-marlin": _gptq,
    "auto-round": _auto_round,
    "intel/auto-round": _auto_round,
    "bitsandbytes": _bitsandbytes,
    "torchao": _torchao,
    "quark": _quark,
    "fp-quant": _fp_quant,
}
KNOWN = "fp8, fbgemm_fp8, compressed-tensors, modelopt, mxfp4, awq, gptq, auto-round, bitsandbytes, torchao, quark"
KNOWN += ", fp_quant"


def _given(given: Given, *names: str, default: Any) -> Any:
    return next((given[name] for name in names if given.get(name) is not None), default)


def _dict(value: Any) -> Given:
    return value if isinstance(value, dict) else {}


def _first(value: Any) -> Given:
    """An object, or the first of a list of them."""
    return _dict(value[0] if isinstance(value, list) and value else value)


def _flat(value: Any) -> Iterable[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else [str(value)]
