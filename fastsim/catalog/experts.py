"""Reads the routed and shared experts of a mixture of experts, and the layers that have them."""

from dataclasses import dataclass
from typing import Any

from fastsim.catalog.fields import Fields, is_whole

COUNT = (
    *("num_experts", "num_local_experts", "n_routed_experts", "num_routed_experts", "moe_num_experts"),
    *("n_experts",),
)
CHOSEN = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "moe_top_k"),
    *("top_k_experts", "num_selected_experts", "num_activated_experts"),
)
WIDTH = (
    *("moe_intermediate_size", "expert_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    *("ffn_hidden_size", "intermediate_size"),
)
SHARED_COUNT = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
SHARED_WIDTH = ("shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim")
DENSE_WIDTH = ("intermediate_size_mlp", "dense_intermediate_size")
FIRST = (
    "first_k_dense_replace",
    "num_dense_layers",
    "n_dense_layers",
    "moe_layer_start_index",
    "moe_layer_num_skipped",
)
WHY = "experts need it"


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of one layer; widths are in elements. ``number`` is 0 for a dense model."""

    number: int = 0
    per_token: int = 0
    width: int = 0
    hidden: int = 0  # that tokens are projected to before the experts; 0: there is no projection
    shared: int = 0  # width of all shared experts together


def experts(fields: Fields, hidden: int) -> Experts:
    """Read the experts of a configuration. Raises CatalogError for fields that are missing or no positive integers."""
    fields = fields.inner("ffn_config") if isinstance(fields.get("ffn_config"), dict) else fields
    number = _alike(fields, COUNT)
    if number is None or number < 2:
        return Experts()
    width = _needed(fields, WIDTH)
    narrow = fields.whole("moe_latent_size", "routed_expert_hidden_size")
    return Experts(number, _needed(fields, CHOSEN), width, narrow, _shared(fields, width, hidden))


def _shared(fields: Fields, width: int, hidden: int) -> int:
    """The width of all shared experts together, with an MLP that runs beside the experts."""
    if fields.get("enable_moe_block"):  # as in Gemma-4
        return fields.required("intermediate_size")
    if fields.get("use_residual") and fields.kind == "arctic":
        return hidden
    if fields.kind == "llama4_text":
        return width
    total = fields.get(*SHARED_WIDTH)
    if total is not None:
        return fields.whole(*SHARED_WIDTH)
    count = _alike(fields, SHARED_COUNT) or 0
    return count * (fields.optional("moe_shared_expert_intermediate_size") or width)


def routed(fields: Fields, number: int) -> set[int]:
    """The layers of ``number``, counted from 0, that route their tokens to experts."""
    listed = _listed(fields, number)
    if listed is not None:
        return listed
    first, last = fields.whole(*FIRST), fields.get("moe_layer_end_index")
    last = last if is_whole(last) and last >= 0 else number
    dense = set(fields.whole_numbers("mlp_only_layers") or ())
    period, offset = _period(fields)
    return {i for i in range(first, number) if i <= last and i not in dense and i % period == offset % period}


def _listed(fields: Fields, number: int) -> set[int] | None:
    """The layers with experts where a list says which; None where there is no list."""
    types = fields.get("mlp_layer_types")
    if isinstance(types, list):
        return {i for i, kind in enumerate(types[:number]) if kind != "dense"}
    flags = fields.of_each_layer("moe_layer_freq")
    if flags is not None:
        return {i for i, flag in enumerate(flags[:number]) if flag}
    chosen = fields.whole_numbers("moe_layers")
    if chosen is not None:
        return {i for i in chosen if i < number}
    enumerated = fields.get("moe_layers_enum")
    if isinstance(enumerated, str):
        numbers = enumerated.replace(" ", "").split(",")
        if not all(one.isdecimal() and len(one) < 10 for one in numbers):
            raise fields.fault("moe_layers_enum", "is not a list of layers (e.g. '3,4,5')")
        return {int(one) for one in numbers if int(one) < number}
    return None


def _period(fields: Fields) -> tuple[int, int]:
    """One layer in ``period`` has experts: those whose number, modulo the period, is ``offset``."""
    if period := _step(fields, "expert_layer_period"):
        return period, fields.whole("expert_layer_offset")
    if period := _step(fields, "moe_layer_freq"):  # counted from layer 0, as DeepSeek does
        return period, 0
    for name in ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval", "moe_layer_frequency"):
        if period := _step(fields, name):
            return period, period - 1
    return 1, 0


def _step(fields: Fields, name: str) -> int | None:
    value = fields.get(name)
    if value is not None and (not is_whole(value) or not 0 < value < 2**31):
        raise fields.fault(name, f"is not a positive integer (e.g. 1), and {WHY}")
    return value  # type: ignore[no-any-return]


def _alike(fields: Fields, names: tuple[str, ...]) -> int | None:
    """A whole number, which some configurations repeat for each layer; None where it is not stated."""
    value: Any = fields.get(*names)
    if isinstance(value, list) and len(set(map(repr, value))) == 1:
        value = value[0]
    if value is None:
        return None
    if not is_whole(value) or not 0 <= value < 2**31:
        raise fields.fault(fields.spelling(*names), "is not a positive integer (e.g. 8)")
    return int(value)


def _needed(fields: Fields, names: tuple[str, ...]) -> int:
    value = _alike(fields, names)
    if not value:
        name = fields.spelling(*names)
        raise fields.fault(name, f"is not a positive integer (e.g. 8), and {WHY}")
    return value
