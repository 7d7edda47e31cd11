"""The fields of a Hugging Face config.json that fastsim reads, with their types; any of them may be missing or null."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from fastsim.catalog.quantization_fields import Quantization
from fastsim.errors import CatalogError, ConfigError
from fastsim.files.documents import Document, parse_json, read_text
from fastsim.files.schema import validate

Whole = Annotated[int, Field(ge=0, lt=2**31, description="a whole number from 0 to below 2^31", examples=[2])] | None
Integer = Annotated[int, Field(gt=-(2**31), lt=2**31, description="an integer of 32 bits", examples=[4096])] | None
Text = Annotated[str, Field(description="text", examples=["llama"])] | None
Switch = Annotated[bool, Field(description="true or false", examples=[True])] | None


def _field(valid: str, example: Any) -> Any:
    return Field(None, description=valid, examples=[example])


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class ConfigFile(_Fields):
    """config.json. Sizes of layers, which have several spellings, are checked where they are read."""

    model_type: Text = None
    hidden_act: Text = None
    hidden_activation: Text = None
    layer_types: list[str] | None = _field("a list of texts", ["full_attention"])
    sliding_window: Integer = None
    use_sliding_window: Switch = None
    tie_word_embeddings: Switch = None
    multi_query: Switch = None
    qk_layernorm: Switch = None
    use_qk_norm: Switch = None
    attention_bias: Switch = None
    qkv_bias: Switch = None
    quantization_config: Quantization | None = _field("an object with a quant_method", {"quant_method": "fp8"})
    compression_config: Quantization | None = _field("an object with a quant_method", {"quant_method": "fp8"})


def read(file: Path, schema: type[BaseModel]) -> dict[str, Any]:
    """Read a JSON file whose fields have the types of ``schema``.

    Raises CatalogError for a field of another type, and ConfigError when the file cannot be read.
    """
    document = parse_json(read_text(file), str(file))
    check(document, schema)
    return document.values


def check(document: Document, schema: type[BaseModel]) -> None:
    """Raise CatalogError for a field whose type is not that of ``schema``."""
    try:
        validate(schema, document)
    except ConfigError as problem:
        raise CatalogError(str(problem)) from None
