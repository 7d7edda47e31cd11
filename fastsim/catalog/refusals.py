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
ENCODERS = ("bert", "clip", "siglip", "electra", "mpnet", "nomic_bert")


def refuse_unreadable(fields: Fields) -> None:
    """Raise CatalogError for what is no decoder of tokens: encoders, encoder-decoders, and recurrences without
    shapes that are known.
    """
    if fields.get("is_encoder_decoder") is True:
        raise fields.fault("is_encoder_decoder", "describes an encoder-decoder, which cannot be simulated")
    if any(name in fields.kind for name in ENCODERS):
        raise fields.fault("model_type", "describes an encoder, which generates no tokens and cannot be simulated")
    named = fields.get("architectures")
    for name in named if isinstance(named, list) else ():
        if isinstance(name, str) and name.endswith(("ForMaskedLM", "ForTokenClassification")):
            raise fields.fault(
                "architectures", "describes an encoder, which generates no tokens and cannot be simulated", name
            )
    if fields.kind.startswith("rwkv"):
        raise fields.fault("model_type", "describes a recurrent network (RWKV), which cannot be simulated")
    if fields.kind in ("recurrent_gemma", "longcat_flash"):
        raise fields.fault("model_type", "describes layers whose shapes are not known, which cannot be simulated")


def untimed(fields: Fields, attends: bool) -> str:
    """Why the times of a model are not known, as the end of a sentence that begins with its name; empty: they are.

    ``attends``: whether any layer has attention.
    """
    for name, what in UNTIMED:
        value = fields.get(name)
        if value and value != -1:
            stated = f"{fields.prefix}{name} {value}" if isinstance(value, int) else f"{fields.prefix}{name}"
            return f"{what} ({stated})"
    return "" if attends else "is a state-space model without attention"
