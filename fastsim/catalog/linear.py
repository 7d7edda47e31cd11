"""Linear mixers: recurrences that keep a state of constant size for each sequence in place of a KV cache."""

from dataclasses import dataclass

from fastsim.catalog.fields import Fields, is_whole


@dataclass(frozen=True, slots=True)
class Linear:
    """The shapes of a linear mixer: projections of the hidden state, a short convolution, a recurrence, a projection.

    ``inner`` are the projections (n, k) between them, such as Mamba's of the time step. Widths are in elements.
    """

    kind: str  # such as Mamba-2
    heads: int  # which tensor parallelism divides; channels where there are no heads
    input_width: int  # columns of the projections of the hidden state
    output_width: int  # rows of the projection back to it
    conv_channels: int
    conv_width: int  # tokens of the convolution
    state: int  # elements of the recurrence's state of one sequence
    state_bytes: int  # of one element
    inner: tuple[tuple[int, int], ...] = ()
    other_weights: int = 0  # of no projection, such as Mamba's decays


def linear(fields: Fields, hidden: int) -> Linear:
    """Read the linear mixer of a configuration by the fields that it states. Raises CatalogError where none does."""
    if fields.get("linear_attn_config"):
        return _delta_attention(fields.inner("linear_attn_config"), hidden)
    if fields.get("linear_num_value_heads"):
        return _gated_delta_net(fields)
    if fields.kind == "mamba2" or fields.get("mamba_num_heads", "mamba_n_heads", "n_mamba_heads"):
        return _mamba2(fields, hidden)
    if fields.get("mamba_d_state", "ssm_state_size", "state_size"):
        return _mamba(fields, hidden)
    if fields.get("conv_L_cache"):
        width = fields.required("conv_L_cache")
        return Linear("short convolution", hidden, 3 * hidden, hidden, hidden, width, 0, 2)
    if fields.get("attn_type_list", "layer_group_size") or "minimax" in fields.kind:
        return _lightning(fields)
    raise fields.fault(
        fields.spelling("layer_types", "layers_block_type"),
        "has layers whose shapes no field states (e.g. mamba_n_heads, linear_num_value_heads)",
    )


def _mamba2(fields: Fields, hidden: int) -> Linear:
    """Mamba-2: one projection to gate, input, B, C and the time steps of the heads (transformers, mamba2)."""
    heads = fields.required("mamba_num_heads", "mamba_n_heads", "n_mamba_heads", "num_heads")
    dim = fields.get("mamba_head_dim", "mamba_d_head", "mamba_headdim", "head_dim" if fields.kind == "mamba2" else "")
    inner = heads * dim if is_whole(dim) else hidden * (fields.size("mamba_expand", "expand") or 2)
    state = fields.required("ssm_state_size", "mamba_d_state", "mamba_state_size", "state_size")
    groups = fields.size("n_groups", "mamba_n_groups", "mamba_ngroups") or 1
    conv = inner + 2 * groups * state
    width = fields.size("conv_kernel", "mamba_d_conv") or 4
    columns = inner + conv + heads
    return Linear("Mamba-2", heads, columns, inner, conv, width, inner * state, _bytes(fields, "mamba_ssm_cache_dtype"))


def _mamba(fields: Fields, hidden: int) -> Linear:
    """Mamba: the time step, B and C of each channel come from projections of their own (transformers, mamba)."""
    inner = fields.size("intermediate_size") if fields.kind in ("mamba", "falcon_mamba") else None
    inner = inner or hidden * (fields.size("mamba_expand", "expand") or 2)
    state = fields.required("mamba_d_state", "ssm_state_size", "state_size")
    rank = fields.get("mamba_dt_rank", "time_step_rank")
    rank = rank if isinstance(rank, int) and rank > 0 else -(-hidden // 16)
    small = ((rank + 2 * state, inner), (inner, rank))
    width = fields.size("mamba_d_conv", "conv_kernel") or 4
    return Linear("Mamba", inner, 2 * inner, inner, inner, width, inner * state, 4, small, inner * state)


def _gated_delta_net(fields: Fields) -> Linear:
    """A gated delta net: projections to queries, keys, values, gate, and two scalars of each value head."""
    heads = fields.required("linear_num_value_heads")
    keys = fields.required("linear_num_key_heads") * fields.required("linear_key_head_dim")
    values = heads * fields.required("linear_value_head_dim")
    width = fields.size("linear_conv_kernel_dim") or 4
    state = values * fields.required("linear_key_head_dim")
    columns = 2 * keys + 2 * values + 2 * heads
    size = _bytes(fields, "mamba_ssm_dtype")
    return Linear("gated delta net", heads, columns, values, 2 * keys + values, width, state, size)


def _delta_attention(fields: Fields, hidden: int) -> Linear:
    """Kimi delta attention: queries, keys and values, and low-rank projections to the decays and to the gate."""
    heads, dim = fields.required("num_heads"), fields.required("head_dim")
    wide, width = heads * dim, fields.size("short_conv_kernel_size") or 4
    full = bool(fields.get("use_full_rank_gate"))
    columns = 3 * wide + dim + heads + (wide if full else dim)
    inner = ((wide, dim),) * (1 if full else 2)
    return Linear("Kimi delta attention", heads, columns, wide, 3 * wide, width, wide * dim, 4, inner)


def _lightning(fields: Fields) -> Linear:
    """Lightning attention: queries, keys, values and an output gate; the state is a matrix of each head."""
    heads, dim = fields.required("num_attention_heads"), fields.required("head_dim")
    return Linear("lightning attention", heads, 4 * heads * dim, heads * dim, 0, 0, heads * dim * dim, 4)


def _bytes(fields: Fields, name: str) -> int:
    return 4 if fields.get(name) in ("float32", "torch.float32") else 2
