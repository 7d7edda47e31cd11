"""What a run says of times that were not measured."""

from fastsim.catalog.precisions import FORMATS
from fastsim.predictors.families import FAMILIES

from .device_forests import Sources
from .scaled import work_of

NAMES = {
    "gemm": "GEMM",
    "moe": "expert",
    "prefill_attention": "prefill attention",
    "decode_attention": "decode attention",
    "mla_prefill": "prefill attention",
    "mla_decode": "decode attention",
}


def notes_of(sources: Sources) -> list[str]:
    """A sentence for a GPU without measured times, one for each precision whose times are derived, and one for experts
    whose rows are padded.
    """
    origin, device, notes = sources.origin, sources.device.name, []
    chosen = sources.chosen()
    lacking = dict.fromkeys(NAMES[choice.family] for choice in chosen.values() if choice.kinship != "own")
    if lacking:
        kin = "a GPU of its architecture" if origin.kinship == "architecture" else "the nearest GPU that was measured"
        whole = all(choice.kinship != "own" for choice in chosen.values())
        what = "operator" if whole else " and ".join(lacking)
        notes.append(
            f"device: {device!r} has no measured {what} times; they are scaled from those of {origin.device!r}, "
            f"{kin}, by bandwidth, FLOP/s and links (fastsim explain shows how sure they are)"
        )
    derived: dict[tuple[str, str, str], list[str]] = {}
    for (family, precision), choice in chosen.items():
        if choice.derived:
            named = derived.setdefault((FAMILIES[family].precision_field, precision, choice.precision), [])
            named += [NAMES[family]] if NAMES[family] not in named else []
    for (field, precision, source), families in derived.items():
        said = "16 bits" if source == "bf16" else repr(source)
        if (
            field == "quantization"
            and FORMATS[precision].input_bits < 16 <= 8 * work_of(precision, sources.device).activation
        ):
            said += ", since this GPU does not multiply it and widens the weights"
        notes.append(
            f"{field}: {precision!r} has no measured {' and '.join(families)} times on {device!r}; "
            f"they are derived from those of {said}, by bytes and FLOP/s"
        )
    if any(map(sources.pads_experts, sources.operators.all_experts)):
        release = ".".join(map(str, sources.kernels[1]))
        notes.append(
            f"engine: 'vllm-{release}' computes experts in fp8_block with DeepGEMM, which pads the rows of each to "
            "128, so that small batches take as long as larger ones; VLLM_MOE_USE_DEEP_GEMM=0 avoids that, as engine: "
            "vllm-0.16 shows"
        )
    return notes
