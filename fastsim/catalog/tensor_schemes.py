"""Methods that describe the format of weights and inputs, of groups of modules or of each module."""

from fastsim.catalog.precisions import BF16, FORMATS, Precision, precision
from fastsim.catalog.scheme import Given, Scheme, UnknownSchemeError, grouped, last_table


def compressed_tensors(given: Given) -> Scheme:
    default, named = BF16, []
    for group in (given.get("config_groups") or {}).values():
        kind = _compressed(group.get("weights") or {}, group.get("input_activations"))
        for target in group.get("targets") or ("Linear",):
            # The name of a class, such as Linear, stands for all of its modules.
            if target[:1].isupper() and "." not in target:
                if "Expert" in target or "MoE" in target:
                    named.append(("experts", kind))
                else:
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
    name = {(8, True): "int8_wo", (8, False): "int8", (4, True): "int4_wo", (4, False): "int4_fp8"}.get((bits, wide))
    if name is None or floats:
        raise UnknownSchemeError(f"compressed-tensors {bits} bits")
    return grouped(name, group if weights.get("strategy") in (None, "group") else -1)


ALGORITHMS = {"FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8", "FP8_PB_WO": "fp8_block", "FP8_PB_REAL": "fp8_block"}
ALGORITHMS |= {"NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4_wo", "MXFP8": "mxfp8", "MXFP4": "mxfp4"}
ALGORITHMS |= {"W4A8_MXFP4_FP8": "mxfp4", "W4A16_MXFP4": "mxfp4", "W4A16_AWQ": "int4_wo", "W4A8_AWQ": "int4_fp8"}
ALGORITHMS |= {"W4A16": "int4_wo", "W8A16": "int8_wo", "INT8_SQ": "int8", "W8A8_SQ_PER_CHANNEL": "int8"}


def modelopt(given: Given) -> Scheme:
    layers, mixed = given.get("quantized_layers"), str(given.get("quant_algo")).upper() == "MIXED_PRECISION"
    if layers:
        return Scheme(BF16, tuple((name, _algorithm(about)) for name, about in layers.items()))
    return compressed_tensors(given) if mixed and given.get("config_groups") else Scheme(_algorithm(given))


def _algorithm(given: Given) -> Precision:
    algorithm = given.get("quant_algo")
    if algorithm is None or str(algorithm).upper() in ("NONE", "NO_QUANT"):
        return BF16
    name = ALGORITHMS.get(str(algorithm).upper())
    if name is None:
        raise UnknownSchemeError(f"modelopt {algorithm}")
    group = given.get("group_size")
    return grouped(name, group if FORMATS[name].group and name != "fp8_block" else None)


def quark(given: Given) -> Scheme:
    named, excluded = [], []
    for name, about in (given.get("layer_quant_config") or {}).items():
        if isinstance(about, dict) and about.get("weight"):
            named.append((name, _quark_kind(about)))
        else:
            excluded.append(name)
    return Scheme(_quark_kind(given.get("global_quant_config") or {}), tuple(named), tuple(excluded))


def _quark_kind(given: Given) -> Precision:
    # Of weights that are quantised in two steps, the last is what is stored.
    weights, wide = last_table(given.get("weight")), not given.get("input_tensors")
    kind = str(weights.get("dtype", "")).lower().partition("_")[0]
    if not kind:
        return BF16
    grouping = kind == "fp4" or weights.get("qscheme", "per_group") == "per_group"
    group = weights.get("group_size") if grouping else -1
    four = "int4_wo" if wide else "int4_fp8"
    name = {"fp8": "fp8_wo" if wide else "fp8", "int8": "int8_wo" if wide else "int8"}.get(kind)
    name = name or {"int4": four, "uint4": four, "fp4": "mxfp4"}.get(kind)
    if name is None:
        raise UnknownSchemeError(f"quark {kind}")
    return grouped(name, group)
