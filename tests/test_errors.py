"""Which spelling a message suggests."""

import pytest

from fastsim.errors import did_you_mean

POLICIES = ("vllm", "sarathi", "orca", "vllm_v1", "sglang")
PRESETS = ("agent", "chat", "code", "reasoning")
DEVICES = ("a100", "a10", "h100", "h100_pcie")


@pytest.mark.parametrize(
    ("typed", "valid", "said"),
    [
        ("cht", PRESETS, "did you mean 'chat'?"),
        ("Code", PRESETS, "did you mean 'code'?"),
        ("resoning", PRESETS, "did you mean 'reasoning'?"),
        ("tensor_parallel", ("tensor_parallel_size", "data_parallel_size"), "did you mean 'tensor_parallel_size'?"),
        ("data_paralel_size", ("tensor_parallel_size", "data_parallel_size"), "did you mean 'data_parallel_size'?"),
        ("vlm", POLICIES, "did you mean 'vllm'?"),
        ("vllm-v1", POLICIES, "did you mean 'vllm_v1'?"),
        # A word with a digit is the name of a version or of a product: another digit is another one.
        ("vllm_v0", POLICIES, f"valid: {', '.join(POLICIES)}"),
        ("vllm_v2", POLICIES, f"valid: {', '.join(POLICIES)}"),
        ("a10g", DEVICES, f"valid: {', '.join(DEVICES)}"),
        ("h100-pcie", DEVICES, "did you mean 'h100_pcie'?"),
        ("h200", DEVICES, f"valid: {', '.join(DEVICES)}"),
        ("xyz", PRESETS, f"valid: {', '.join(PRESETS)}"),
    ],
)
def test_only_what_a_name_may_mean_is_suggested(typed: str, valid: tuple[str, ...], said: str) -> None:
    assert did_you_mean(typed, valid) == said
