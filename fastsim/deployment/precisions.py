"""The precisions of a deployment: as its checkpoint is published, or as the deployment says."""

from fastsim.catalog.model import Model
from fastsim.catalog.quantization import Quantization, uniform
from fastsim.deployment.choices import KvCacheDtype
from fastsim.deployment.description import Deployment


def as_published(given: Deployment, model: Model) -> Deployment:
    """The deployment with the precisions that it leaves open, which are those of the checkpoint."""
    published = model.quantization.name if model.quantization else "none"
    chosen = given.quantization or published
    if (chosen, published) == ("fp8", "fp8_block"):
        chosen = "fp8_block"  # engines call both fp8, and take the blocks from the checkpoint
    update = {"quantization": chosen}
    if given.kv_cache_dtype == "auto" and model.kv_cache_dtype == "fp8" and chosen == published:
        update["kv_cache_dtype"] = "fp8"
    return given.model_copy(update=update)


def weights_of(model: Model, quantization: str) -> Quantization:
    """The precision of each module: as published, or one for all of them where a deployment asks for another."""
    if model.quantization is not None and quantization == model.quantization.name:
        return model.quantization
    return uniform("bf16" if quantization == "none" else quantization, model.num_experts > 0)


def kv_precision_of(kv_cache_dtype: KvCacheDtype) -> str:
    return "fp8" if kv_cache_dtype == "fp8" else "bf16"
