"""Reads what each layer of a model consists of, where layers differ."""

from fastsim.catalog import attention
from fastsim.catalog.experts import routed
from fastsim.catalog.fields import Fields
from fastsim.catalog.layer_mixers import ALONE, beside, blocks, mixers, windows
from fastsim.catalog.model import Heads, Layer

COUNT = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
MOST_LAYERS = 4096
MOST_TIMES = 1000  # that an MLP is wider than the model


def count(fields: Fields) -> int:
    """The number of layers; some hybrids only list them. Raises CatalogError."""
    listed = blocks(fields)
    number = len(listed) if fields.get(*COUNT) is None and listed else fields.required(*COUNT)
    if number > MOST_LAYERS:
        raise fields.fault(fields.spelling(*COUNT), f"is more than {MOST_LAYERS} layers (e.g. 32)", number)
    return number


def layers(fields: Fields, number: int, heads: Heads, hidden: int, has_experts: bool) -> tuple[Layer, ...]:
    """Return one Layer for each of ``number`` layers; empty where all are alike but for their window and experts.

    Raises CatalogError for kinds of layers that are not known.
    """
    if fields.get("block_configs") is not None:
        return _chosen_by_search(fields, number, hidden)
    kinds, looked = mixers(fields, number), windows(fields, number)
    alone = blocks(fields) or []
    if not ALONE.keys() & set(alone):
        alone = []
    both, only_states = beside(fields), all(kind == "linear" for kind in kinds)
    chosen = routed(fields, number) if has_experts else set()
    widths = fields.of_each_layer("intermediate_size") or []
    found = []
    for i in range(number):
        mlp = "experts" if i in chosen else "dense"
        if alone:
            mlp = ALONE.get(alone[i], "none")
        elif only_states:
            mlp = "none"
        attends = kinds[i] == "attention"
        window = looked[i] if attends else None
        own = attention.own_heads(fields, heads, i, window is not None) if attends else None
        width = widths[i] if mlp == "dense" and i < len(widths) else 0
        reads = attends and i >= number - fields.whole("num_kv_shared_layers")
        chooses = attends and attention.indexed(fields, i)
        found.append(Layer(kinds[i], window, mlp, own, width, both and attends, reads, chooses))  # type: ignore[arg-type]
    return tuple(found)


def _chosen_by_search(fields: Fields, number: int, hidden: int) -> tuple[Layer, ...]:
    """Layers of a model found by architecture search (Nemotron-NAS): some have no attention, MLPs differ in width."""
    described = attention.blocks(fields)
    if len(described) < number:
        raise fields.fault("block_configs", f"has {len(described)} entries, and the model has {number} layers")
    found = []
    for block in described[:number]:
        mixing, ffn = block["attention"], block["ffn"]
        for part in (mixing, ffn):
            if part.get("replace_with_linear"):
                raise fields.fault("block_configs", "replace_with_linear is not known", part)
        width = ffn.get("intermediate_size")
        times = ffn.get("ffn_mult")
        if width is None and isinstance(times, int | float) and 0 < times < MOST_TIMES:
            width = -(-int(2 * times * hidden / 3) // 256) * 256
        if not ffn.get("no_op") and (not isinstance(width, int) or not 0 < width < 2**31):
            raise fields.fault("block_configs", "states no width of an MLP (e.g. ffn_mult 5.25)", ffn)
        window = mixing.get("window_length")
        found.append(
            Layer(
                "none" if mixing.get("no_op") else "attention",
                window if isinstance(window, int) and window > 0 else None,
                "none" if ffn.get("no_op") else "dense",
                intermediate_size=0 if ffn.get("no_op") else int(width or 0),
            )
        )
    return tuple(found)
