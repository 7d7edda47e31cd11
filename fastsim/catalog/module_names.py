"""The names that checkpoints give to the modules of a decoder, and how lists of modules in their files are matched."""

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import cache
from typing import Generic, TypeVar

# What stands before a layer's number in the published names, and what a pattern has that is meant for such names: a
# pattern without any of it is written for all of them, and one tells as much as another.
BEFORE = {
    "model.layers": ("",),
    "model.language_model.layers": ("language_model",),
    "language_model.model.layers": ("language_model",),
    "transformer.h": ("transformer", ".h."),
    "backbone.layers": ("backbone",),
    "model.decoder.layers": ("decoder",),
    "gpt_neox.layers": ("gpt_neox",),
}
ATTENTION = ("self_attn", "attn", "attention", "self_attention", "mixer")
LINEAR = ("linear_attn", "mamba", "mixer", "conv")
MLP = ("mlp", "feed_forward", "ffn", "mixer")
EXPERTS = ("mlp", "block_sparse_moe", "feed_forward", "ffn", "moe", "mixer")
UP = ("gate_proj", "up_proj", "gate_up_proj", "w1", "w3")
UP_OF_MLP = (*UP, "c_fc", "fc1", "fc_in", "dense_h_to_4h", "linear_in")
DOWN = ("down_proj", "w2")
DOWN_OF_MLP = (*DOWN, "c_proj", "fc2", "fc_out", "dense_4h_to_h", "linear_out")
PRE = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack", "wqkv", "qkv")
POST = ("o_proj", "out_proj", "c_proj", "dense", "wo", "wo_b")
GATES = ("f_a_proj", "f_b_proj", "g_a_proj", "g_b_proj")  # of delta attention
SHARED = ("shared_expert", "shared_experts", "shared_mlp")


def _joined(parents: Iterable[str], leaves: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{parent}.{leaf}" for parent in parents for leaf in leaves)


_SHARED = _joined(EXPERTS, SHARED)
_ROUTED = _joined(EXPERTS, ("experts",))
# The published names of each module, as they follow the layer's number. All those of one module are matrices that
# engines multiply by as one, which then has one precision.
PUBLISHED: dict[str, tuple[str, ...]] = {
    "attn_pre_proj": _joined(ATTENTION, PRE),
    "attn_post_proj": _joined(ATTENTION, POST),
    "attn_down_proj": _joined(
        ATTENTION, ("q_a_proj", "kv_a_proj_with_mqa", "fused_qkv_a_proj", "fused_qkv_a_proj_with_mqa", "wq_a", "wkv")
    ),
    "attn_q_proj": _joined(ATTENTION, ("q_b_proj", "q_proj", "wq_b")),
    "attn_kv_up_proj": _joined(ATTENTION, ("kv_b_proj",)),  # its two halves, which engines keep in 16 bits
    "attn_kv_b_proj": _joined(ATTENTION, ("kv_b_proj",)),  # as it is published
    "attn_out_down_proj": _joined(ATTENTION, ("wo_a",)),
    "attn_gate_proj": _joined(ATTENTION, ("g_proj",)),
    "attn_index_q_proj": _joined(ATTENTION, ("indexer.wq_b",)),
    "attn_index_k_proj": _joined(ATTENTION, ("indexer.wk",)),
    "linear_in_proj": _joined(LINEAR, ("in_proj", "in_proj_qkvz", "in_proj_qkv", "in_proj_z")),
    "linear_inner_proj": _joined(LINEAR, ("x_proj", "dt_proj", *GATES)),
    "linear_out_proj": _joined(LINEAR, ("out_proj",)),
    "moe_latent_down_proj": _joined(EXPERTS, ("fc1_latent_proj",)),
    "moe_latent_up_proj": _joined(EXPERTS, ("fc2_latent_proj",)),
    "mlp_up_proj": (*_joined(MLP, UP_OF_MLP), "fc1"),
    "mlp_down_proj": (*_joined(MLP, DOWN_OF_MLP), "fc2"),
    "shared_up_proj": _joined(_SHARED, UP),
    "shared_down_proj": _joined(_SHARED, DOWN),
    "moe_router": _joined(EXPERTS, ("gate", "router")),
    "moe_experts": (
        *_joined(_ROUTED, _joined(("0",), UP + DOWN)),
        *_joined(_ROUTED, ("gate_up_proj", "down_proj")),
        *_joined(EXPERTS, ("input_linear", "output_linear")),
    ),
}
# Names of families that call other modules by the names above.
OF_FAMILY: dict[str, dict[str, tuple[str, ...]]] = {
    "kimi_linear": {
        "linear_in_proj": _joined(("self_attn",), PRE),
        "linear_inner_proj": _joined(("self_attn",), GATES),
        "linear_out_proj": ("self_attn.o_proj",),
    },
    "gemma4": {  # its dense MLP, beside which the experts run, is read as one that all tokens share
        "shared_up_proj": _joined(("mlp",), UP),
        "shared_down_proj": _joined(("mlp",), DOWN),
        "moe_router": ("router", "router.proj"),
        "moe_experts": _joined(("experts",), ("0.gate_proj", "0.up_proj", "0.down_proj", "gate_up_proj")),
    },
}
# Modules outside the layers, by their whole names.
OUTSIDE: dict[str, tuple[str, ...]] = {
    "lm_head": ("lm_head", "output", "embed_out", "head", "model.lm_head", "language_model.lm_head"),
    "embedding": ("model.embed_tokens", "transformer.wte", "model.language_model.embed_tokens", "gpt_neox.embed_in"),
}
MODULES = (*PUBLISHED, *OUTSIDE)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)(?:\.|$)")
# Parts that may stand before the layers of a decoder; those of a vision or audio tower have others.
_DECODERS = {"", "model", "language_model", "text_model", "transformer", "backbone", "decoder", "encoder", "gpt_neox"}
_DECODERS |= {"llm", "thinker"}
T = TypeVar("T")


class Names(Generic[T]):
    """A list of modules in a checkpoint's file, each with a value, matched as engines match them.

    An entry is a regular expression after ``re:``, matched from the start; a name with wildcards; or a name, which
    stands for the module and everything inside it, and may lack its first parts. ``family``: a model_type.
    """

    def __init__(self, entries: Iterable[tuple[str, T]], family: str = "") -> None:
        self._by_layer: dict[int, dict[str, T]] = {}
        self._globs: dict[int, list[tuple[str, T]]] = {}
        self._parts: list[tuple[str, T]] = []
        self._patterns: list[tuple[str, T]] = []
        self._known: dict[tuple[str, str, int], bool] = {}
        own = next((names for start, names in OF_FAMILY.items() if family.startswith(start)), {})
        self._published = PUBLISHED | own
        self._beginnings = {module: _beginnings(names) for module, names in self._published.items()}
        self._pieces = {module: _pieces(self._published.get(module, ()), module) for module in MODULES}
        for entry, value in ((entry.removesuffix(".weight"), value) for entry, value in entries):
            layer = None if entry.startswith("re:") else _LAYER.search(entry)
            if layer and _DECODERS.issuperset(entry[: layer.start()].split(".")):
                number, inside = int(layer[1]), entry[layer.end() :].strip(".")
                if _is_glob(inside):
                    self._globs.setdefault(number, []).append((inside, value))
                else:
                    self._by_layer.setdefault(number, {})[inside] = value
            elif entry.startswith("re:") or _is_glob(entry):
                self._patterns.append((entry, value))
            elif not layer:
                self._parts.append((entry.strip("."), value))

    def of(self, module: str, layer: int) -> list[T]:
        """The values of the entries that name a module in a layer; empty when none does."""
        inside = self._by_layer.get(layer, {})
        found = [inside[name] for name in self._beginnings.get(module, ()) if name in inside]
        names = self._published.get(module, ())
        found += [value for glob, value in self._globs.get(layer, ()) if any(map(_glob(glob).match, names))]
        found += [value for part, value in self._parts if part in self._pieces[module]]
        return found + [value for pattern, value in self._patterns if self._matches(pattern, module, layer)]

    def _matches(self, pattern: str, module: str, layer: int) -> bool:
        """Whether a pattern fits any name of a module; without a number in it, it fits in all layers or none."""
        at = layer if _NUMBERED.search(pattern) else 0
        key = (pattern, module, at)
        if key not in self._known:
            fits = re.compile(pattern[3:]).match if pattern.startswith("re:") else _glob(pattern).match
            self._known[key] = any(map(fits, self._whole(pattern, module, at)))
        return self._known[key]

    def _whole(self, pattern: str, module: str, layer: int) -> list[str]:
        """The published names of a module in a layer that ``pattern`` may be meant for."""
        if module in OUTSIDE:
            return list(OUTSIDE[module])
        starts = [before for before, parts in BEFORE.items() if any(part in pattern for part in parts)]
        return [f"{before}.{layer}.{name}" for before in starts for name in self._published[module]]


_NUMBERED = re.compile(r"\d|\\d|\?")


def _is_glob(entry: str) -> bool:
    return any(sign in entry for sign in "*?[")


@cache
def _glob(entry: str) -> re.Pattern[str]:
    return re.compile(f"{translate(entry)}|{translate(entry + '.*')}")


@cache
def _beginnings(names: tuple[str, ...]) -> frozenset[str]:
    """What stands for a module behind the number of its layer: its names, and those of the modules around it."""
    parts = [name.split(".") for name in names]
    return frozenset(".".join(one[:end]) for one in parts for end in range(len(one) + 1))


@cache
def _pieces(names: tuple[str, ...], module: str) -> frozenset[str]:
    """What stands for a module without a layer: any parts of its names that follow each other."""
    whole = OUTSIDE.get(module) or tuple(f"{before}.{name}" for before in BEFORE for name in names)
    parts = [name.split(".") for name in whole]
    return frozenset(
        ".".join(one[start:end]) for one in parts for start in range(len(one)) for end in range(start + 1, len(one) + 1)
    )
