"""How a model's generation_config.json has tokens drawn (data/catalog/sampling.yaml, or a file beside config.json)."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastsim.files import DATA
from fastsim.files.documents import read, shipped

BESIDE = "generation_config.json"


def asks_top_k_top_p(name: str) -> bool:
    """Whether a model of the catalog asks for top-k or top-p; a model that was not looked up does not."""
    return is_top_k_top_p(_listed().get(name, {}))


def beside(config: Path) -> bool:
    """The same of the file beside a config.json; False where there is none. Raises ConfigError if it cannot be read."""
    file = config.with_name(BESIDE)
    return file.is_file() and is_top_k_top_p(read(file).values)


def is_top_k_top_p(values: Mapping[str, Any]) -> bool:
    """Whether the fields of a generation_config.json ask for top-k or top-p, in any temperature but 0."""
    top_p, top_k, temperature = (values.get(field) for field in ("top_p", "top_k", "temperature"))
    return temperature != 0 and (_is_between(top_p, 0, 1) or _is_between(top_k, 0, float("inf")))


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and low < value < high


@cache
def _listed() -> dict[str, dict[str, Any]]:
    return shipped(DATA / "catalog" / "sampling.yaml")
