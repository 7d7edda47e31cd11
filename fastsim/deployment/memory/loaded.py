"""What an engine adds to the weights of a checkpoint when it loads them."""

from collections.abc import Sequence
from dataclasses import dataclass

from fastsim.catalog.model import Model
from fastsim.catalog.quantization import Quantization
from fastsim.deployment.operators.decoder import Operators
from fastsim.deployment.operators.kinds import Experts


@dataclass(frozen=True, slots=True)
class Padding:
    """The multiples to which vLLM's kernels pad experts in mxfp4: the hidden size, and an expert's width on a GPU."""

    hidden: int
    width: int
    scales: bool = True  # whether the scales are padded too


# Triton's kernels on Hopper (to which two logs of gpt-oss were fitted), FlashInfer's on Blackwell's data-centre GPUs,
# Marlin's elsewhere.
TRITON, FLASHINFER, MARLIN = Padding(256, 64, scales=False), Padding(256, 256), Padding(256, 128)


def padding_of(compute_capability: str | None) -> Padding:
    """The padding of experts in mxfp4 on a GPU of this compute capability."""
    major = (compute_capability or "").partition(".")[0]
    return {"9": TRITON, "10": FLASHINFER}.get(major, MARLIN)


def added_bytes(model: Model, ops: Operators, weights: Quantization, layers: Sequence[int], padding: Padding) -> int:
    """Bytes on one GPU that a stage's ``layers``, whose operators are ``ops``, take beyond their own weights.

    Experts in mxfp4 are padded. Of latent attention engines hold kv_b_proj as it is published for prefills, beside
    its two halves in 16 bits for decodes, which are ``attn_kv_up_proj``.
    """
    total = sum(experts.count * _padding_bytes(experts, padding) for experts in ops.all_experts)
    halves = next((gemm for gemm in ops.gemms if gemm.name == "attn_kv_up_proj"), None)
    if halves is not None:
        attending = [layer for layer in layers if model.mixer(layer) == "attention"]
        published = weights.counted(("attn_kv_b_proj",), attending)
        total += sum(halves.n * halves.k * precision.bits / 8 * count for (precision,), count in published)
    return int(total)


def _padding_bytes(experts: Experts, padding: Padding) -> float:
    """Bytes that padding adds to a layer's experts: of the values of 4 bits, and of their scales."""
    if experts.precision != "mxfp4":
        return 0.0
    hidden, width = experts.hidden, experts.width()
    more = _padded(hidden, padding.hidden) * _padded(width, padding.width) - hidden * width
    bits = 4.25 if padding.scales else 4
    return experts.projections * more * bits / 8 * -(-experts.num_copies // experts.ep)


def _padded(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
