"""The layers of each pipeline stage: cut as vLLM cuts them, or as the deployment says."""

from collections.abc import Sequence

from fastsim.errors import ConfigError


def cut(num_layers: int, num_stages: int) -> tuple[int, ...]:
    """Layers of each stage, as vLLM's ``get_pp_indices`` cuts them (vllm/distributed/utils.py).

    Layers that are left over go one each to the stages before the last, from the back: the last stage holds the LM
    head, and the first, which holds the embedding, gets one only when all stages between them have one.
    """
    each, left = divmod(num_layers, num_stages)
    return tuple(each + (num_stages - 1 - left <= stage < num_stages - 1) for stage in range(num_stages))


def ranges(layers: Sequence[int]) -> list[range]:
    """The layers of each stage, counted from 0."""
    ends = [sum(layers[: stage + 1]) for stage in range(len(layers))]
    return [range(end - number, end) for end, number in zip(ends, layers, strict=True)]


def check(name: str, num_layers: int, num_stages: int, given: Sequence[int] | None) -> None:
    """Raise ConfigError for stages that a model of ``num_layers`` layers cannot have. ``name``: the model's."""
    if given is not None:
        listed, valid = list(given), list(cut(num_layers, min(len(given), num_layers)))
        if sum(given) != num_layers:
            raise ConfigError(
                f"pipeline_layers: {listed} are {sum(given)} layers, and {name} has {num_layers} (e.g. {valid})"
            )
        if num_stages not in (1, len(given)):
            raise ConfigError(
                f"pipeline_parallel_size: {num_stages} is not the number of stages in pipeline_layers {listed} "
                f"(valid: {len(given)})"
            )
    elif num_stages > num_layers:
        raise ConfigError(
            f"pipeline_parallel_size: {num_stages} is more than the {num_layers} layers of {name} "
            f"(valid: 1 to {num_layers})"
        )
