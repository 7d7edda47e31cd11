"""What a server of SGLang takes where its settings are open, by GPU: as ``ServerArgs`` of both releases fills them."""

from fastsim.catalog.hardware import Device
from fastsim.catalog.model import Model
from fastsim.deployment.sglang.releases import Release

MAX_PREFILL_TOKENS = 16384
MIB = 1024  # of a GiB
LEAST_CHUNK = 2048  # tokens, for which activations are reserved in any case
LARGE_MIB, LARGE_RESERVE_MIB = 60 * MIB, 10 * MIB
BLACKWELL = 10  # compute capability, whose attention kernels take pages of 64 tokens
FEWEST_RUNNING, MOST_RUNNING = 2048, 4096


def chunked_prefill_size(release: Release, device: Device) -> int:
    """Tokens of a prefill batch."""
    gib = device.memory_gib
    if gib < 20:
        return 2048
    if gib < 35:
        return release.chunk_of_small
    if gib < 60:
        return 4096
    return 8192 if gib < 160 else 16384


def largest_graph(release: Release, device: Device, tensor_parallel_size: int, limit: int | None) -> int:
    """The most requests of a decode batch with a CUDA graph. ``limit``: max_running_requests, where it is given."""
    gib, wide = device.memory_gib, tensor_parallel_size >= 4
    if gib < 20:
        most = 8
    elif gib < 35:
        most = release.graphs_of_small[wide]
    elif gib < 60:
        most = 160 if wide else 32
    else:
        most = 512 if wide or gib >= 160 else 256
    return min(most, limit) if limit is not None and release.graphs_within_limit else most


def decode_graphs(most: int) -> tuple[int, ...]:
    """The sizes of decode batches with a CUDA graph, up to the largest."""
    sizes = [1, 2, 4, 8, 12, *range(16, 257, 8), *range(272, 512, 16), *range(512, most + 1, 32)]
    return tuple(sorted({size for size in sizes if size <= most} | {most}))


def prefill_graphs(most: int) -> tuple[int, ...]:
    """The tokens of prefill batches with CUDA graphs, up to ``most``."""
    sizes = [*range(4, 33, 4), *range(48, 257, 16), *range(288, 513, 32), *range(576, 1025, 64)]
    sizes += [*range(1280, 4097, 256), *range(4608, most + 1, 512)]
    return tuple(size for size in sizes if size <= most)


def page_size(device: Device) -> int:
    """Tokens of a page."""
    major = (device.compute_capability or "0").partition(".")[0]
    return 64 if int(major) >= BLACKWELL else 1


def mem_fraction_static(
    release: Release, model: Model, device: Device, tensor_parallel_size: int, chunk: int | None, limit: int | None
) -> float:
    """The share of the GPU memory for weights and KV cache: what activations and CUDA graphs are taken to leave.

    ``chunk``: chunked_prefill_size, None where prompts are not cut. ``limit``: max_running_requests, if it is given.
    """
    memory = device.memory_gib * MIB
    reserved = 512 + 1.5 * max(chunk or MAX_PREFILL_TOKENS, LEAST_CHUNK) + tensor_parallel_size / 8 * MIB
    reserved += 2 * largest_graph(release, device, tensor_parallel_size, limit)
    if model.kv_lora_rank:
        reserved += 1.5 * MIB
    elif not model.tower_parameters and not device.is_amd:
        reserved += 8 * len(prefill_graphs(chunk or 0))
    if memory > LARGE_MIB:
        reserved = max(reserved, LARGE_RESERVE_MIB)
    return round((memory - reserved) / memory, 3)


def max_running_requests(release: Release, num_tokens: int, length: int, limit: int | None) -> int:
    """Requests that run at once, where the KV cache has ``num_tokens``. ``length``: max_model_len."""
    estimate = max(min(int(num_tokens / length * 512), MOST_RUNNING), FEWEST_RUNNING)
    if limit is None:
        return min(estimate, num_tokens // 2)
    return min(limit, estimate if release.limit_is_estimated else num_tokens // 2)
