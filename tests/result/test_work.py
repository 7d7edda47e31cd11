"""FLOPs and bytes of a run, compared with sums by hand."""

import numpy as np
import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.result.metrics import work


def done(chunks: list[tuple[int, int]], sampled: int) -> work.Work:
    """Return the work of one replica that processed ``chunks``, each of n tokens after p others."""
    n, p = (np.array(values) for values in zip(*chunks, strict=True))
    sums = (n.sum(), (n * p).sum(), (n * n).sum(), sampled)
    return work.Work(*(np.array([value]) for value in sums))


def test_flops_of_a_dense_model_are_those_of_its_shapes() -> None:
    """Llama-2-7B: matrices of 4 d^2 and 3 d f a layer, causal attention, a head of d times the vocabulary."""
    resolved = resolve(Deployment.load({"model": "meta-llama/Llama-2-7b-hf", "device": "a100"}))
    d, f, layers, vocabulary = 4096, 11008, 32, 32000
    chunks = [(300, 0), (200, 300), (1, 500), (1, 501)]
    flops = 0
    for n, p in chunks:
        flops += layers * 2 * n * (4 * d * d + 3 * d * f)
        flops += layers * sum(2 * 2 * d * (p + i) for i in range(1, n + 1))
    flops += 3 * 2 * d * vocabulary
    (seconds,) = work.compute_seconds(resolved, done(chunks, sampled=3))
    assert seconds.sum() == pytest.approx(flops / 312e12, rel=1e-3)  # half a token's attention to itself


@pytest.mark.parametrize(
    "fields", [{}, {"quantization": "fp8"}, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}]
)
def test_precision_and_parallelism_divide_the_time(fields: dict[str, object]) -> None:
    base = {"model": "meta-llama/Meta-Llama-3-70B", "device": "h200", "tensor_parallel_size": 4}
    alone = work.compute_seconds(resolve(Deployment.load(base)), done([(1000, 0)], 1))
    split = work.compute_seconds(resolve(Deployment.load(base | fields)), done([(1000, 0)], 1))
    if "quantization" in fields:
        assert 0.5 < split.sum() / alone.sum() < 0.6  # all but attention and the head at twice the peak
    elif fields:
        assert split.shape == (1, 2)
        assert split[0, 0] == pytest.approx(alone.sum() * 2 / 2, rel=0.02)
        assert split[0, 1] > split[0, 0]  # the head
    else:
        assert (split == alone).all()


def test_weights_are_read_once_per_batch_and_experts_when_they_get_a_token() -> None:
    dense = resolve(Deployment.load({"model": "meta-llama/Meta-Llama-3-8B", "device": "h100"}))
    sizes = np.arange(5)
    per_batch = work.weight_bytes(dense, sizes, np.array([0, 1, 0, 0, 0]))
    assert per_batch == pytest.approx(2 * 7.5e9, rel=0.01)  # all but the embedding
    assert work.weight_bytes(dense, sizes, np.array([0, 0, 3, 0, 0])) == pytest.approx(3 * per_batch)
    routed = resolve(
        Deployment.load({"model": "mistralai/Mixtral-8x7B-v0.1", "device": "h100", "tensor_parallel_size": 4})
    )
    by_size = [work.weight_bytes(routed, sizes, np.eye(5, dtype=int)[n]) for n in (1, 4)]
    experts = 32 * 3 * 4096 * 14336 * 8 * 2 / 4
    assert by_size[1] - by_size[0] == pytest.approx(experts * ((1 - 0.75**4) - 0.25))


def test_tokens_that_attention_reads_from_the_cache() -> None:
    """A prompt of 600 tokens in chunks of 200 reads 0 + 200 + 400 tokens; its decodes read 600 + 601 + ... tokens."""
    columns = {"num_prompt_tokens": np.array([600]), "num_output_tokens": np.array([50])}
    chunks = [(200, 0), (200, 200), (200, 400), *((1, 600 + i) for i in range(49))]
    read = work.context_read(columns, done(chunks, 50), num_chunks=3, num_prefill_tokens=600)
    assert read == pytest.approx(sum(p for _, p in chunks))
