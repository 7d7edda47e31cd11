"""Methods that quantise the weights of all linear modules alike, but for lists of exceptions."""

from typing import Any

from fastsim.catalog.precisions import BF16, Precision, precision
from fastsim.catalog.scheme import Given, Scheme, UnknownSchemeError, first_given, flat, grouped, table

EXPERTS_IN_FP4 = (("experts", precision("mxfp4")),)


def fp8(given: Given) -> Scheme:
    block = given.get("weight_block_size")
    if not block:
        return Scheme(precision("fp8"))
    size = 1
    for length in block:
        size *= length
    return Scheme(grouped("fp8_block", size))


def _integers(bits: Any, group: Any) -> Precision:
    """Integer weights with 16-bit inputs; AWQ and GPTQ keep a scale of 16 bits and a zero point for each group."""
    if bits not in (4, 8):
        raise UnknownSchemeError(f"{bits} bits")
    return grouped(f"int{bits}_wo", group, 16 + bits)


def awq(given: Given) -> Scheme:
    bits = first_given(given, "bits", "w_bit", default=4)
    return Scheme(_integers(bits, first_given(given, "group_size", "q_group_size", default=128)))


def gptq(given: Given) -> Scheme:
    bits, group = first_given(given, "bits", default=4), first_given(given, "group_size", default=128)
    usual = _integers(bits, group)
    named: list[tuple[str, Precision]] = [("lm_head", usual)] if given.get("lm_head") else []
    excluded = []
    for pattern, changed in (given.get("dynamic") or {}).items():
        if pattern.startswith("-:"):
            excluded.append(f"re:{pattern[2:]}")
        elif isinstance(changed, dict):
            kind = _integers(changed.get("bits", bits), changed.get("group_size", group))
            named.append((f"re:{pattern.removeprefix('+:')}", kind))
    only = [name for part in given.get("modules_in_block_to_quantize") or () for name in flat(part)]
    named += [(name, usual) for name in only]
    return Scheme(BF16 if only else usual, tuple(named), tuple(excluded))


def hqq(given: Given) -> Scheme:
    """Half-quadratic quantization, with a scale and a zero point of 16 bits for each group."""
    about = table(table(given.get("quant_config")).get("weight_quant_params"))
    bits = about.get("nbits", 4)
    if bits not in (4, 8):
        raise UnknownSchemeError(f"hqq {bits} bits")
    return Scheme(grouped(f"int{bits}_wo", about.get("group_size", 64), 32))


def auto_round(given: Given) -> Scheme:
    bits, group = first_given(given, "bits", default=4), first_given(given, "group_size", default=128)
    kind = str(given.get("data_type") or "int")
    if kind.startswith(("mx", "nv")):
        return Scheme(precision("nvfp4" if kind.startswith("nv") else "mxfp4" if bits == 4 else "mxfp8"))
    named, excluded = [], []
    for name, changed in (given.get("extra_config") or {}).items():
        entry = f"re:{name}" if ".*" in name else name
        own = table(changed)
        if own.get("bits") in (16, 32):
            excluded.append(entry)
        else:
            named.append((entry, _integers(own.get("bits", bits), own.get("group_size", group))))
    return Scheme(_integers(bits, group), tuple(named), tuple(excluded))


def mxfp4(given: Given) -> Scheme:
    """OpenAI's and vLLM's method, which quantizes the experts alone."""
    return Scheme(BF16, EXPERTS_IN_FP4)


def bitsandbytes(given: Given) -> Scheme:
    if given.get("load_in_8bit"):
        return Scheme(precision("int8"))
    return Scheme(precision("nf4"))  # engines widen the scales of double quantization to 32 bits when they load them


TORCHAO = {"int8weightonly": "int8_wo", "int4weightonly": "int4_wo", "float8weightonly": "fp8_wo"}
TORCHAO |= {"int8dynamicactivationint8weight": "int8", "float8dynamicactivationfloat8weight": "fp8"}
TORCHAO |= {"float8dynamicactivationint4weight": "int4_fp8", "int8dynamicactivationint4weight": "int4_fp8"}
TORCHAO |= {"nvfp4weightonly": "nvfp4_wo", "nvfp4inference": "nvfp4", "nvfp4dynamicactivationnvfp4weight": "nvfp4"}
TORCHAO |= {"mxfpinference": "mxfp8", "mxdynamicactivationmxweight": "mxfp8"}
# Those whose weights have the type that they say, and the bits of their inputs.
OF_ANY_TYPE = {"intxweightonly": 16, "int8dynamicactivationintxweight": 8}


def torchao(given: Given) -> Scheme:
    kind = given.get("quant_type")
    if isinstance(kind, dict):
        kind = kind.get("default", kind)
        data = table(table(kind).get("_data"))
        by_name = data.get("module_fqn_to_config", data.get("fqn_to_config"))
        if isinstance(by_name, dict):
            others = [name for name in by_name if name != "_default" and "embed" not in name]
            named = [(name, _torchao_kind(by_name[name])) for name in others]
            return Scheme(_torchao_kind(by_name.get("_default")), tuple(named))
        return Scheme(_torchao_kind(kind))
    return Scheme(_torchao_kind({"_type": kind, "_data": given.get("quant_type_kwargs")}))


def _torchao_kind(given: Any) -> Precision:
    if given is None:
        return BF16
    kind = str(table(given).get("_type"))
    plain = kind.lower().replace("_", "").removesuffix("config")
    data = table(table(given).get("_data"))
    name = TORCHAO.get(plain)
    if plain in OF_ANY_TYPE:
        stored = str(table(data.get("weight_dtype")).get("_data", data.get("weight_dtype"))).rpartition(".")[2]
        wide = OF_ANY_TYPE[plain] == 16
        name = {"int8": "int8_wo" if wide else "int8", "int4": "int4_wo" if wide else "int4_fp8"}.get(stored)
    if name is None:
        raise UnknownSchemeError(f"torchao {kind}")
    group = data.get("group_size")
    if name.startswith(("nv", "mx")):
        return precision(name)
    if name.startswith("int4"):  # a scale and a zero point of 16 bits each
        return grouped(name, group, 32)
    return grouped(name, group if isinstance(group, int) else -1)


def fp_quant(given: Given) -> Scheme:
    name = given.get("forward_dtype") or "mxfp4"
    if name not in ("mxfp4", "nvfp4"):
        raise UnknownSchemeError(f"fp_quant {name}")
    return Scheme(precision(name))
