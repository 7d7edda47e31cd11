"""What fastsim cannot read, or can read but not time; each is said in one sentence."""

from fastsim.catalog.fields import Fields

# Fields whose presence means that the times of a model are not known, though its weights are.
UNTIMED = (
    ("compress_ratios", "has compressed sparse attention"),
    ("index_topk", "has sparse attention"),
    ("sparse_attention_config", "has sparse attention"),
    ("sparse_attention", "has sparse attention"),
    ("blocksparse_block_size", "has block-sparse attention"),
    ("nsa_config", "has sparse attention"),
    ("cross_attention_layers", "has layers of cross-attention to images"),
    ("altup_num_inputs", "has alternating updates (AltUp)"),
    ("num_mem_blocks", "has blocks that several layers share"),
)
ENCODERS = ("bert", "electra", "mpnet")
PAIRS = ("clip", "siglip", "align")  # of an encoder of text with one of images


def refuse_unreadable(fields: Fields) -> None:
    """Raise CatalogError for what has no layers of a decoder: encoder-decoders, pairs of encoders, and recurrences
    whose shapes are not known.
    """
    if fields.get("is_encoder_decoder") is True:
        raise fields.fault("is_encoder_decoder", "describes an encoder-decoder, which cannot be simulated")
    if fields.kind.startswith(PAIRS):
        raise fields.fault("model_type", "describes encoders of text and images, which generate no tokens")
    if fields.kind.startswith("rwkv"):
        raise fields.fault("model_type", "describes a recurrent network (RWKV), which cannot be simulated")
    if fields.kind in ("recurrent_gemma", "longcat_flash"):
        raise fields.fault("model_type", "describes layers whose shapes are not known, which cannot be simulated")


def generates(fields: Fields) -> bool:
    """Whether a model generates tokens: an encoder does not."""
    named = fields.get("architectures")
    listed = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    encodes = any(name.endswith(("ForMaskedLM", "ForTokenClassification")) for name in listed)
    return not encodes and not any(name in fields.kind for name in ENCODERS)


def untimed(fields: Fields, attends: bool) -> str:
    """Why the times of a model are not known, as the end of a sentence that begins with its name; empty: they are.

    ``attends``: whether any layer has attention.
    """
    if not generates(fields):
        return "is an encoder, which generates no tokens"
    for name, what in UNTIMED:
        value = fields.get(name)
        if value and value != -1:
            stated = f"{fields.prefix}{name} {value}" if isinstance(value, int) else f"{fields.prefix}{name}"
            return f"{what} ({stated})"
    return "" if attends else "is a state-space model without attention"
