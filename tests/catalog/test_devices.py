"""The GPUs of the catalog: their names, and what is answered of each without any operator times."""

from pathlib import Path

import pytest

from fastsim.catalog.load import default_node, load_device, names
from fastsim.cli.terminal.catalog import rows
from fastsim.cli.terminal.result import summary
from fastsim.deployment.description import Deployment
from fastsim.deployment.launch.launch import launch
from fastsim.deployment.resolve import resolve
from fastsim.errors import CatalogError, ConfigError
from fastsim.planning.search import search
from fastsim.simulation.run import simulate
from fastsim.workload.loading import synthesise

# Names as torch, nvidia-smi, rocm-smi and Kubernetes labels give them, and as people write them.
SPELLINGS = [
    ("NVIDIA A100-SXM4-80GB", "a100"),
    ("NVIDIA A100-SXM4-40GB", "a100_40gb"),
    ("a100-40gb", "a100_40gb"),
    ("NVIDIA A100 80GB PCIe", "a100_pcie"),
    ("NVIDIA A100-PCIE-40GB", "a100_40gb_pcie"),
    ("NVIDIA-A100-SXM4-80GB", "a100"),
    ("NVIDIA A10G", "a10g"),
    ("a10g", "a10g"),
    ("NVIDIA A10", "a10"),
    ("NVIDIA A40", "a40"),
    ("NVIDIA L4", "l4"),
    ("Tesla T4", "t4"),
    ("Tesla V100-SXM2-32GB", "v100_32gb"),
    ("NVIDIA GeForce RTX 3090", "rtx_3090"),
    ("rtx 4090", "rtx_4090"),
    ("4090", "rtx_4090"),
    ("RTX4090", "rtx_4090"),
    ("NVIDIA GeForce RTX 5090", "rtx_5090"),
    ("NVIDIA RTX A6000", "rtx_a6000"),
    ("NVIDIA RTX 6000 Ada Generation", "rtx_6000_ada"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000"),
    ("NVIDIA H100 80GB HBM3", "h100"),
    ("NVIDIA H100 PCIe", "h100_pcie"),
    ("h100-pcie", "h100_pcie"),
    ("h100_nvl", "h100_nvl"),
    ("NVIDIA H20", "h20"),
    ("NVIDIA GH200 480GB", "gh200"),
    ("NVIDIA GB200", "gb200"),
    ("NVIDIA B300 SXM6 AC", "b300"),
    ("AMD Instinct MI300X", "mi300x"),
]


@pytest.mark.parametrize(("spelling", "name"), SPELLINGS)
def test_spellings(spelling: str, name: str) -> None:
    assert load_device(spelling).name == name


# A name that is not in the catalog, and what the message offers instead: variants of the same GPU, or all names.
@pytest.mark.parametrize(
    ("unknown", "offered"),
    [
        ("h100_64gb", "of this GPU it has: h100, h100_pcie, h100_nvl"),
        ("A100-SXM4-20GB", "of this GPU it has: a100, a100_40gb, a100_pcie, a100_40gb_pcie"),
        ("a10x", "valid: a100, "),
        ("h10", "valid: a100, "),
        ("v1000", "valid: a100, "),
        ("rtx_4080", "valid: a100, "),
        ("rtx_3090_ti", "valid: a100, "),
        ("rtx_6000", "valid: a100, "),
        ("NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "valid: a100, "),
        ("tpu_v5e", "valid: a100, "),
    ],
)
def test_an_unknown_gpu_is_never_taken_for_another(unknown: str, offered: str) -> None:
    with pytest.raises(CatalogError) as told:
        load_device(unknown)
    assert f"is unknown; {offered}" in str(told.value)
    assert "did you mean" not in str(told.value)


@pytest.mark.parametrize("name", names("devices"))
def test_memory_and_launch_need_no_operator_times(name: str) -> None:
    resolved = resolve(Deployment.load({"model": "phi-2", "device": name, "max_model_len": 2048, "num_replicas": 2}))
    free = resolved.device.memory_gib * 0.92 - resolved.memory.weights_gib  # the share that vLLM 0.33 takes
    assert resolved.memory.kv_gib < free < resolved.memory.kv_gib + 4
    assert resolved.node == default_node(resolved.device)
    assert "microsoft/phi-2" in launch(resolved.deployment).command


def test_the_listing_says_prices_and_times() -> None:
    listed = {row["name"]: row["price_per_hour"] for row in rows("devices")}
    assert listed["h20"] is None and listed["a10g"] == 1.006
    times = {row["name"]: row["times"] for row in rows("devices")}
    assert times["h100"] == "measured" and times["a40"] == "gemm measured, others scaled from a100"
    assert times["a100_40gb"] == "scaled from a100" and times["rtx_5090"] == "scaled from rtx_pro_6000"
    source = load_device("l4").source
    assert "price: RunPod" in source and "March 2026" in source


def test_a_search_needs_a_price(tmp_path: Path) -> None:
    space = {
        "deployment": {"model": "llama-3-8b", "device": "h20"},
        "workload": {"source": "chat", "num_requests": 5},
        "axes": {"scheduler.max_num_seqs": [64]},
    }
    with pytest.raises(ConfigError, match="h20 has no price_per_hour, by which a search compares"):
        search(space)


def test_a_gpu_of_ones_own_needs_a_node_only_for_its_links(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("name: own\nmemory_gib: 22.5\nbandwidth_gb_s: 300\nnum_sms: 58\ntflops: {bf16: 121}\n")
    resolved = resolve(Deployment.load({"model": "phi-2", "device": str(own)}))
    assert (resolved.node.name, resolved.device.price_per_hour) == ("pcie_gen4", None)
    assert resolved.device.torch_memory_gib == pytest.approx(21.9)
    with pytest.raises(CatalogError, match=r"none with own, whose links are needed; name one \(e.g. pcie_gen4\)"):
        resolve(Deployment.load({"model": "phi-2", "device": str(own), "tensor_parallel_size": 2}))


def test_what_is_not_known_of_a_gpu_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.yaml"
    figures = (
        "name: own\nmemory_gib: 79\nbandwidth_gb_s: 3000\nnum_sms: 132\ntflops: {bf16: 900}\npredictor: h100_sxm\n"
    )
    own.write_text(figures)
    result = simulate(Deployment.load({"model": "phi-2", "device": str(own)}), synthesise("chat", num_requests=5))
    cost, energy = result.summary["cost"], result.summary["energy"]
    assert cost["gpu_hours"] > 0 and cost["dollars"] is cost["dollars_per_million_output_tokens"] is None
    assert set(energy.values()) == {None}
    assert result.summary["definitions"]["cost.dollars"] == "not given: no list price of own is known"
    summary(result, json=False)
    text = capsys.readouterr().out
    assert "GPU-hours, no price of this GPU is known" in text and "Energy" not in text


@pytest.mark.parametrize(("written", "read"), [("9.0", "9.0"), ("'12.0'", "12.0"), ("null", None)])
def test_versions_of_cuda(tmp_path: Path, written: str, read: str | None) -> None:
    own = tmp_path / "own.yaml"
    figures = "name: own\nmemory_gib: 79\nbandwidth_gb_s: 3000\nnum_sms: 132\ntflops: {bf16: 900}\n"
    own.write_text(f"{figures}compute_capability: {written}\n")
    assert load_device(str(own)).compute_capability == read
    own.write_text(f"{figures}compute_capability: sm_90\n")
    with pytest.raises(ConfigError, match=r"compute_capability: 'sm_90' is not a version such as 9\.0"):
        load_device(str(own))
