"""The modules of a whole model: in which precision each is, in which layers, and the bytes of its weights."""

from dataclasses import dataclass

from fastsim.catalog.model import Model
from fastsim.catalog.precisions import FORMATS
from fastsim.catalog.quantization import uniform
from fastsim.deployment.operators.decoder import operators
from fastsim.deployment.operators.kinds import BYTES

NORMS, POSITIONS = "norms and other vectors", "position embeddings"
OF_LAYERS = "embeddings of each layer"
TOWERS = "encoders of images and sound, an estimate"


@dataclass(frozen=True, slots=True)
class Module:
    """A module in one precision: all layers that have it so, counted from 0 (none for what is outside the layers)."""

    name: str
    precision: str
    weight_bits: float  # with scales
    input_bits: int
    layers: tuple[int, ...]
    parameters: int
    bytes: float


def modules(model: Model) -> list[Module]:
    """The modules of a model as it is published, the layers' first, each with the sums over its layers."""
    weights = model.quantization or uniform("bf16")
    found: dict[tuple[str, str, float], tuple[list[int], int, float]] = {}

    def add(name: str, precision: str, bits: float | None, layer: int | None, parameters: int, size: float) -> None:
        bits = FORMATS[precision].bits if bits is None else bits
        layers, number, total = found.get((name, precision, bits), ([], 0, 0.0))
        found[name, precision, bits] = (
            layers if layer is None else [*layers, layer],
            number + parameters,
            total + size,
        )

    for layer in range(model.num_layers):
        ops = operators(model, 1, precision=weights, layers=(layer,))
        for gemm in ops.gemms:
            weights_of, size = gemm.n * (gemm.k + gemm.bias), gemm.weight_bytes()
            add(gemm.name, gemm.precision, gemm.bits, layer, gemm.count * weights_of, gemm.count * size)
        for experts in ops.all_experts:
            add(experts.name, experts.precision, experts.bits, layer, experts.weights(), experts.weight_bytes())
        vectors = sum(kernel.weights for kernel in ops.elementwise)
        add(NORMS, "bf16", None, layer, vectors, BYTES * vectors)
    norm, embedding, head = ops.final_norm.weights, ops.embedding.weights, ops.lm_head
    add(NORMS, "bf16", None, None, norm, BYTES * norm)
    add("embedding", "bf16", None, None, embedding, BYTES * embedding)
    positions = model.position_embeddings * model.hidden_size
    others = ((POSITIONS, positions), (OF_LAYERS, model.layer_embeddings), (TOWERS, model.tower_parameters))
    for name, number in others:
        if number:
            add(name, "bf16", None, None, number, BYTES * number)
    if not model.tie_word_embeddings:
        add(head.name, head.precision, head.bits, None, head.n * head.k, head.weight_bytes())
    names = list(dict.fromkeys(name for name, _, _ in found))
    rows = sorted(found.items(), key=lambda row: names.index(row[0][0]))
    return [
        Module(name, precision, bits, FORMATS[precision].input_bits, tuple(layers), number, total)
        for (name, precision, bits), (layers, number, total) in rows
    ]
