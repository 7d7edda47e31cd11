"""The fields that fastsim reads of quantization_config, and of the file that ModelOpt writes beside config.json."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Whole = Annotated[int, Field(ge=0, lt=2**31, description="a whole number from 0 to below 2^31", examples=[2])] | None
Group = Annotated[int, Field(ge=-1, lt=2**31, description="a number of weights, or -1", examples=[128])] | None
Text = Annotated[str, Field(description="text", examples=["fp8"])] | None
Switch = Annotated[bool, Field(description="true or false", examples=[True])] | None
Names = Annotated[list[str], Field(description="a list of names of modules", examples=[["lm_head"]])] | None
Table = Annotated[dict[str, Any], Field(description="an object", examples=[{}])] | None


def _field(valid: str, example: Any) -> Any:
    return Field(None, description=valid, examples=[example])


class _Fields(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Tensor(_Fields):
    """How compressed-tensors stores weights, inputs or the KV cache."""

    num_bits: Whole = None
    type: Text = None
    strategy: Text = None
    group_size: Group = None
    block_structure: Any = None


class Modules(_Fields):
    """A group of modules that compressed-tensors quantizes alike."""

    targets: Names = None
    weights: Tensor | None = _field("an object", {"num_bits": 8})
    input_activations: Tensor | None = _field("an object or null", None)


class Quantization(_Fields):
    """How the modules of a checkpoint are quantized; every method has fields of its own."""

    quant_method: Text = None
    quant_algo: Text = None
    bits: Whole = None
    w_bit: Whole = None
    group_size: Group = None
    q_group_size: Group = None
    weight_block_size: list[Annotated[int, Field(ge=1, lt=2**31, description="a positive integer", examples=[128])]] | (
        None
    ) = _field("a list of two integers or null", [128, 128])
    modules_to_not_convert: Names = None
    ignored_layers: Names = None
    ignore: Names = None
    exclude_modules: Names = None
    exclude: Names = None
    exclude_layers: Names = None
    data_type: Text = None
    llm_int8_skip_modules: Names = None
    skip_modules: Names = None
    quant_config: Table = None
    config_groups: dict[str, Modules] | None = _field("an object", {"group_0": {"weights": {"num_bits": 8}}})
    kv_cache_quant_algo: Text = None
    quantized_layers: dict[str, dict[str, Any]] | None = _field("an object", {"lm_head": {"quant_algo": "FP8"}})
    quantization: Table = None
    lm_head: Switch = None
    dynamic: Table = None
    modules_in_block_to_quantize: list[Any] | None = _field("a list or null", [["self_attn.q_proj"]])
    extra_config: Table = None
    load_in_8bit: Switch = None
    load_in_4bit: Switch = None
    global_quant_config: Table = None
    layer_quant_config: Table = None
    forward_dtype: Text = None


class ModelOptFile(_Fields):
    """hf_quant_config.json, which ModelOpt writes beside config.json."""

    quantization: Quantization = Field(description="an object", examples=[{"quant_algo": "FP8"}])
