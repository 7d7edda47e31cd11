"""Models, devices and nodes: the shipped catalog (data/catalog), and any Hugging Face config.json."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from fastsim.errors import CatalogError, did_you_mean
from fastsim.files import DATA
from fastsim.files.documents import short

Kind = Literal["models", "devices", "nodes"]
T = TypeVar("T", "Model", "Device", "Node")


@dataclass(frozen=True, slots=True)
class Model:
    """The shapes of a decoder. Names as in Hugging Face configurations; widths in elements."""

    name: str
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int  # of one of the gate and up projections
    gated_mlp: bool  # gate, up and down projections; else up and down
    vocab_size: int
    max_position_embeddings: int  # tokens
    tie_word_embeddings: bool  # the LM head is the embedding
    qk_norm: bool
    attention_bias: bool  # on the QKV projection
    post_attention_norm: bool  # False: attention and MLP run in parallel behind one norm, as in Phi-2
    sliding_window: int | None  # tokens
    source: str
    num_full_attention_layers: int = 0  # of a model with a sliding window: layers that do without it
    sandwich_norm: bool = False  # norms behind attention and MLP too, as in Gemma-2
    quantization: str | None = None  # precision of the published weights; None: 16 bits
    num_experts: int = 0  # routed experts of a layer; 0: dense
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0  # of one expert
    shared_expert_intermediate_size: int = 0  # of all shared experts together
    first_dense_layers: int = 0  # before the first layer with experts
    moe_layer_step: int = 1  # from there on, the last of every so many layers has experts
    kv_lora_rank: int = 0  # multi-head latent attention: width of the compressed KV; 0: there is none
    q_lora_rank: int = 0  # 0: queries are not compressed
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0

    def has_experts(self, layer: int) -> bool:
        """Whether a layer, from 0, routes its tokens to experts."""
        return self.num_experts > 0 and layer >= self.first_dense_layers and (layer + 1) % self.moe_layer_step == 0


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU."""

    name: str
    memory_gib: float
    bandwidth_gb_s: float  # 10^9 bytes per second
    tflops: Mapping[str, float]  # dense, 10^12 per second, by type: bf16, fp8, fp4, int8
    price_per_hour: float  # $
    power_w: float
    num_sms: int
    skew: float  # decode attention sees mean + skew * (max - mean) KV tokens
    predictor: str | None  # the aiconfigurator system with operator times of this device
    source: str


@dataclass(frozen=True, slots=True)
class Node:
    """One server, and the links between its GPUs and to the next server."""

    name: str
    device: str | None  # what it is made of; None: any
    num_devices: int
    link_gb_s: float  # GPU to GPU, one direction, 10^9 bytes per second
    link_latency_us: float
    network_gb_s: float  # between nodes, per GPU, one direction, 10^9 bytes per second
    pairwise: bool  # the link joins GPUs in pairs, not all to all
    source: str


def load_model(name: str | Path) -> Model:
    """A catalog model by name or alias in any case, or that of a Hugging Face config.json or its folder.

    Raises CatalogError when the name is unknown, or the file does not describe a decoder that we know.
    """
    entry = _find("models", str(name))
    if entry is not None:
        return _model(*entry)
    path = Path(name)
    if path.suffix == ".json" or _exists(path):
        from fastsim.huggingface import read_config

        return read_config(path)
    hint = did_you_mean(str(name), _spellings("models", "/" in str(name)))
    raise CatalogError(f"model: {short(str(name))} is neither in the catalog nor a config.json; {hint}")


def load_device(name: str) -> Device:
    """A catalog device by name or alias in any case, or that of a YAML file (device_file.DeviceFile lists its keys).

    Raises CatalogError when the name is unknown, and ConfigError for a file that does not describe a device.
    """
    entry = _find("devices", name)
    if entry is None:
        if Path(name).suffix in (".yaml", ".yml"):
            from fastsim.device_file import load

            return load(Path(name).expanduser())
        raise CatalogError(f"device: {short(name)} is unknown; {did_you_mean(name, names('devices'))}")
    canonical, values = entry
    source = f"{values['source']}; price: {values['price_source']}"
    tflops = {name: float(value) for name, value in values["tflops"].items()}
    return _build(Device, canonical, values | {"tflops": tflops, "source": source})


def load_node(name: str) -> Node:
    """A catalog node by name or alias in any case. Raises CatalogError when it is unknown."""
    entry = _find("nodes", name)
    if entry is None:
        raise CatalogError(f"node: {short(name)} is unknown; {did_you_mean(name, names('nodes'))}")
    return _node(*entry)


def default_node(device: Device) -> Node:
    """The first node of the catalog that is made of this device."""
    for name, values in _entries("nodes").items():
        if values["device"] == device.name:
            return _node(name, values)
    raise CatalogError(f"node: the catalog has none with {device.name}; name one (e.g. pcie_gen4)")


def names(kind: Kind) -> list[str]:
    """The names of the catalog, in its order; aliases left out."""
    return list(_entries(kind))


def _model(name: str, values: Mapping[str, Any]) -> Model:
    shape = {
        "head_dim": values["hidden_size"] // values["num_attention_heads"],
        "gated_mlp": True,
        "tie_word_embeddings": False,
        "qk_norm": False,
        "attention_bias": False,
        "post_attention_norm": True,
        "sliding_window": None,
    }
    return _build(Model, name, shape | dict(values))


def _node(name: str, values: Mapping[str, Any]) -> Node:
    return _build(Node, name, {"link_latency_us": 10, "pairwise": False} | dict(values))


def _build(kind: type[T], name: str, values: Mapping[str, Any]) -> T:
    """The dataclass from those values that are its fields; whole numbers become float where it says so."""
    types = {field.name: field.type for field in fields(kind)}
    given: dict[str, Any] = {key: value for key, value in values.items() if key in types}
    given |= {key: float(value) for key, value in given.items() if types[key] is float}
    return kind(name=name, **given)


@cache
def _entries(kind: Kind) -> dict[str, dict[str, Any]]:
    from fastsim.files.documents import parse_yaml

    path = DATA / "catalog" / f"{kind}.yaml"
    return parse_yaml(path.read_text(encoding="utf-8"), path.name).values


@cache
def _index(kind: Kind) -> dict[str, str]:
    index = {}
    for name, values in _entries(kind).items():
        for spelling in (name, *values.get("aliases", ())):
            index[_plain(spelling)] = name
            index.setdefault(_plain(spelling.rpartition("/")[2]), name)
    return index


def _find(kind: Kind, name: str) -> tuple[str, dict[str, Any]] | None:
    canonical = _index(kind).get(_plain(name))
    return None if canonical is None else (canonical, _entries(kind)[canonical])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file
        return False


def _spellings(kind: Kind, whole: bool) -> list[str]:
    """What a typing error is compared with: the names, whole or without their organisation."""
    return [name if whole else name.rpartition("/")[2] for name in names(kind)]


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
