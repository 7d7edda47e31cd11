"""Loads models, devices and nodes from the catalog (data/catalog), and models from any Hugging Face config.json."""

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from fastsim.errors import CatalogError, did_you_mean
from fastsim.files import DATA
from fastsim.files.documents import short

from .device_names import plain_device, same_gpu
from .hardware import Device, Node
from .model import Layer, Model
from .names import suggestion
from .prices import listed
from .quantization import uniform
from .sampling import asks_top_k_top_p

Kind = Literal["models", "devices", "nodes"]
# The fields of config.json that `sizes` in model_configs.yaml lists.
SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "max_position_embeddings"),
)
# Words that say how a model was trained or is stored; its shapes are the same without them.
TRAINED = {"instruct", "it", "chat", "base", "hf"}
T = TypeVar("T", "Model", "Device", "Node")


def load_model(name: str | Path) -> Model:
    """Load a model: a name or alias of the catalog, in any case, or the path of a config.json or its folder.

    Names are those of models and of quantised checkpoints of them.

    Raises CatalogError when the name is unknown, or when the file does not describe a decoder that can be simulated.
    """
    entry = _find("models", str(name))
    if entry is not None:
        return _model(*entry)
    if (hub_name := _checkpoint_names().get(_key("models", str(name)))) is not None:
        return _checkpoint(hub_name)
    path = Path(name)
    if path.suffix == ".json" or _exists(path):
        from fastsim.catalog.huggingface import read_config

        return read_config(path)
    hint = suggestion(str(name), spellings("models") | {hub: hub for hub in checkpoints()})
    raise CatalogError(f"model: {short(str(name))} is neither in the catalog nor a config.json; {hint}")


def load_device(name: str) -> Device:
    """Load a device: a name or alias of the catalog, in any case, or a YAML file with the keys of DeviceFile.

    Raises CatalogError when the name is unknown, and ConfigError when the file does not describe a device.
    """
    entry = _find("devices", name)
    if entry is None:
        if Path(name).suffix in (".yaml", ".yml"):
            from fastsim.catalog.device_file import load

            return load(Path(name).expanduser())
        raise CatalogError(f"device: {short(name)} is unknown; {same_gpu(name, names('devices'))}")
    canonical, values = entry
    offers = listed().get(canonical, ())
    source = f"{values['source']}; price: {offers[0].source if offers else 'none known'}"
    price = offers[0].dollars if offers else None
    tflops = {name: float(value) for name, value in values["tflops"].items()}
    return _build(Device, canonical, values | {"tflops": tflops, "price_per_hour": price, "source": source})


def load_node(name: str) -> Node:
    """Load a node: a name or alias of the catalog, in any case. Raises CatalogError when it is unknown."""
    entry = _find("nodes", name)
    if entry is None:
        raise CatalogError(f"node: {short(name)} is unknown; {did_you_mean(name, names('nodes'))}")
    return _node(*entry)


def default_node(device: Device, num_gpus: int = 1) -> Node:
    """Return the first node of the catalog that holds this device.

    Where there is none, a replica of one GPU gets a node without a device, as its links are not used; for more GPUs
    CatalogError is raised.
    """
    for name, values in _entries("nodes").items():
        if values["device"] == device.name:
            return _node(name, values)
    if num_gpus == 1:
        return load_node("pcie_gen4")
    raise CatalogError(
        f"node: the catalog has none with {device.name}, whose links are needed; name one (e.g. pcie_gen4)"
    )


def names(kind: Kind) -> list[str]:
    """Return the names in the catalog, in its order, without aliases."""
    return list(_entries(kind))


def spellings(kind: Kind) -> dict[str, str]:
    """Return the name in the catalog of each name and alias, in its order."""
    entries = _entries(kind).items()
    return {spelling: name for name, values in entries for spelling in (name, *values.get("aliases", ()))}


def checkpoints() -> list[str]:
    """Return the names of the quantised checkpoints in the catalog, in its order."""
    return list(_checkpoints())


def is_model(name: str) -> bool:
    """Whether this is how the catalog writes the name of a model or of a quantised checkpoint."""
    return name in _entries("models") or name in _checkpoints()


def _model(name: str, values: Mapping[str, Any]) -> Model:
    if "config" in values:
        return _read(name)
    shape = {
        "head_dim": values["hidden_size"] // values["num_attention_heads"],
        "gated_mlp": True,
        "tie_word_embeddings": False,
        "qk_norm": False,
        "attention_bias": False,
        "post_attention_norm": True,
        "sliding_window": None,
    }
    if dense := values.get("first_dense_layers"):
        shape["layers"] = (Layer(),) * dense + (Layer(mlp="experts"),) * (values["num_layers"] - dense)
    values = shape | dict(values)
    if published := values.get("quantization"):
        values["quantization"] = uniform(published, bool(values.get("num_experts")))
    values["asks_top_k_top_p"] = asks_top_k_top_p(name)
    return _build(Model, name, values)


@cache
def _read(name: str) -> Model:
    """A model of model_configs.yaml, read as its config.json is."""
    from fastsim.catalog.huggingface import read_fields

    values = _entries("models")[name]
    config = values["config"] | dict(zip(SIZES, values.get("sizes", ()), strict=False))
    file = DATA / "catalog" / "model_configs.yaml"
    model = read_fields(config, file, name, f"huggingface.co/{name} config.json")
    return replace(model, asks_top_k_top_p=asks_top_k_top_p(name))


@cache
def _checkpoint(name: str) -> Model:
    """A quantised checkpoint: the shapes of a model of the catalog, with the precisions of checkpoints.yaml."""
    from fastsim.catalog.checkpoint import checkpoint

    of, values = _checkpoints()[name]
    model, file = load_model(of), DATA / "catalog" / "checkpoints.yaml"
    quantization, kv_cache_dtype = checkpoint(file, values, model.num_layers, model.num_experts > 0)
    return replace(
        model,
        name=name,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        max_position_embeddings=values.get("max_position_embeddings", model.max_position_embeddings),
        source=f"huggingface.co/{name} config.json",
    )


def _node(name: str, values: Mapping[str, Any]) -> Node:
    return _build(Node, name, {"link_latency_us": 10, "pairwise": False, "between_sockets": False} | dict(values))


def _build(kind: type[T], name: str, values: Mapping[str, Any]) -> T:
    """Build the dataclass from those values that are its fields; integers become floats where a field is one."""
    types = {field.name: field.type for field in fields(kind)}
    given: dict[str, Any] = {key: value for key, value in values.items() if key in types}
    given |= {key: float(value) for key, value in given.items() if types[key] is float}
    return kind(name=name, **given)


@cache
def _entries(kind: Kind) -> dict[str, dict[str, Any]]:
    from fastsim.files.documents import shipped

    files = ("models", "model_configs") if kind == "models" else (kind,)
    found: dict[str, dict[str, Any]] = {}
    for path in (DATA / "catalog" / f"{file}.yaml" for file in files):
        found |= shipped(path)
    return found


@cache
def _checkpoints() -> dict[str, tuple[str, dict[str, Any]]]:
    """For each quantised checkpoint the model that has its shapes, and how it is quantised."""
    from fastsim.files.documents import shipped

    schemes = shipped(DATA / "catalog" / "checkpoints.yaml").values()
    return {name: (of, values) for values in schemes for name, of in values["checkpoints"].items()}


@cache
def _checkpoint_names() -> dict[str, str]:
    names = checkpoints()
    without_organisation = {_key("models", name.rpartition("/")[2]): name for name in reversed(names)}
    return without_organisation | {_key("models", name): name for name in names}


@cache
def _index(kind: Kind) -> dict[str, str]:
    index = {}
    for name, values in _entries(kind).items():
        for spelling in (name, *values.get("aliases", ())):
            index[_key(kind, spelling)] = name
            index.setdefault(_key(kind, spelling.rpartition("/")[2]), name)
    if kind == "models":
        for spelling, name in list(index.items()):
            index.setdefault(_untrained(spelling), name)
    return index


def _untrained(key: str) -> str:
    """The key of a model's name without the words that say how it was trained."""
    return "_".join(word for word in key.split("_") if word not in TRAINED)


def _find(kind: Kind, name: str) -> tuple[str, dict[str, Any]] | None:
    index, key = _index(kind), _key(kind, name)
    canonical = index.get(key)
    if canonical is None and kind == "models":
        canonical = index.get(_untrained(key))
    return None if canonical is None else (canonical, _entries(kind)[canonical])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file
        return False


def _key(kind: Kind, name: str) -> str:
    return plain_device(name) if kind == "devices" else _plain(name)


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")
