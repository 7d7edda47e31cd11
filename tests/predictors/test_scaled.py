"""Times that were not measured: GPUs without operator data, and precisions that a GPU was not measured in."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fastsim.catalog.hardware import Device
from fastsim.catalog.load import load_device, names
from fastsim.catalog.precisions import FORMATS
from fastsim.deployment.description import Deployment
from fastsim.deployment.operators.kinds import Attention, Experts, Gemm
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.build import build_cost
from fastsim.predictors.explain import explain
from fastsim.predictors.families import FAMILIES
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.forests.forest import Forest
from fastsim.predictors.tables import cache
from fastsim.predictors.times.device_forests import Sources
from fastsim.predictors.times.iteration import Iteration
from fastsim.predictors.times.origin import origin_of
from fastsim.predictors.times.scaled import Scaled, constants, width, work_of
from fastsim.predictors.times.shapes import decode_rows, gemm_rows, prefill_rows

DECODE, PREFILL = Iteration((), ((16, 1000),)), Iteration(((2048, 0),), ())
TOKENS = np.array([1.0, 16, 256, 4096])


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path / "kernels" / "x")


def resolved(*settings: str, model: str = "meta-llama/Meta-Llama-3-8B") -> Resolved:
    described = {"model": model, "device": "h100", "max_model_len": 4096, "scheduler": {"policy": "vllm"}}
    return resolve(Deployment.load(described, settings))


def milliseconds(iteration: Iteration, *settings: str, model: str = "meta-llama/Meta-Llama-3-8B") -> float:
    total = explain(resolved(*settings, model=model), iteration)["total_ms"]
    assert isinstance(total, float)
    return total


def sources(device: Device) -> Sources:
    return Sources(device.predictor or device.name, device, resolved().operators, origin_of(device))


@pytest.mark.parametrize(
    ("device", "system", "kinship"),
    [
        ("a100_40gb", "a100_sxm", "architecture"),
        ("a40", "a100_sxm", "other"),  # 8.6 after 8.0: ampere as well
        ("rtx_3090", "a100_sxm", "other"),
        ("v100", "a100_sxm", "other"),
        ("l4", "l40s", "other"),  # a third of its figures
        ("rtx_6000_ada", "l40s", "architecture"),
        ("t4", "l40s", "other"),
        ("h800", "h100_sxm", "architecture"),
        ("h20", "h100_sxm", "other"),  # a seventh of its FLOP/s
        ("gh200_144gb", "h200_sxm", "architecture"),
        ("b300", "b200_sxm", "architecture"),
        ("rtx_5090", "rtx_pro_6000_server", "other"),
        ("mi300x", "h200_sxm", "other"),
        ("h100", "h100_sxm", "own"),
    ],
)
def test_the_nearest_measured_gpu(device: str, system: str, kinship: str) -> None:
    origin = origin_of(load_device(device))
    assert (origin.system, origin.kinship) == (system, kinship)


def test_measured_times_are_not_touched() -> None:
    for device in map(load_device, names("devices")):
        for family in FAMILIES:
            for precision in shipped.precisions(device.predictor or "none", family):
                choice = sources(device).choice(family, precision)
                assert choice.measured and (choice.precision, choice.system) == (precision, device.predictor)
    assert type(sources(load_device("h100")).gemm(Gemm("x", 4096, 4096, 1, "fp8"))) is Forest
    assert not {"notes", "scaled_from"} & set(build_cost(resolved("quantization=fp8")).provenance)


def test_no_scaled_or_derived_time_is_faster_than_the_gpu() -> None:
    """Every GPU of the catalog in every precision: FLOP/s of the type that it multiplies, and DRAM bandwidth."""
    for device in map(load_device, names("devices")):
        asked = sources(device)
        for precision in FORMATS:
            if asked.choice("gemm", precision).measured:
                continue
            work = work_of(precision, device)
            rate = work.speed * device.tflops["bf16"]
            gemm = Gemm("x", 14336, 4096, 1, precision)
            flops, moved = (np.array([of(int(n)) for n in TOKENS]) for of in (gemm.flops, gemm.bytes_moved))
            ms = asked.gemm(gemm).ms(gemm_rows(gemm, TOKENS))
            assert (ms >= 0.999 * flops / (rate * 1e9)).all()
            assert (ms >= 0.999 * moved / (device.bandwidth_gb_s * 1e6)).all()
        experts = Experts(4096, 1536, 128, 8, 1, 1, 1, "int4_wo")
        ms = asked.experts_ms(experts, TOKENS)
        if not asked.choice("moe", "int4_wo").measured:
            least = np.array([experts.bytes_read(n) + experts.bytes_written(n) for n in TOKENS])
            assert (ms >= 0.999 * least / (device.bandwidth_gb_s * 1e6)).all()
        attention = Attention(32, 8, 128, 1, None, "fp8")
        forest = asked.attention(attention, "decode")
        if isinstance(forest, Scaled):
            ms = forest.ms(decode_rows(attention, TOKENS, np.full(TOKENS.size, 2000.0)))
            assert (ms >= TOKENS * 2000 * attention.kv_bytes_per_token() / (device.bandwidth_gb_s * 1e6)).all()


@pytest.mark.parametrize(
    ("settings", "model"),
    [
        (("device=l4", "quantization=fp8"), "meta-llama/Meta-Llama-3-8B"),
        (("device=rtx_3090", "quantization=int4_wo", "kv_cache_dtype=fp8"), "meta-llama/Meta-Llama-3-8B"),
        (("device=mi300x", "quantization=fp8", "tensor_parallel_size=8"), "Qwen/Qwen3-30B-A3B"),
        (("device=h20", "tensor_parallel_size=2", "quantization=int4_wo"), "Qwen/Qwen3-30B-A3B"),
    ],
)
def test_no_operator_of_an_iteration_is_faster_than_the_gpu(settings: tuple[str, ...], model: str) -> None:
    one = resolved(*settings, model=model)
    peak = max(one.device.tflops.values())
    for iteration in (DECODE, PREFILL, Iteration(((1, 1000),), ())):
        for row in explain(one, iteration)["operators"]:
            each = row["ms"] / row["count"]
            assert row["low_ms"] <= row["ms"] <= row["high_ms"]
            if row["name"] not in ("all_reduce", "send_recv"):
                assert row["mb"] / each <= 1.001 * one.device.bandwidth_gb_s, row
            assert row["gflop"] / each <= 1.001 * peak, row


def test_a_gpu_without_times_says_whose_they_are() -> None:
    told = explain(resolved("device=a100_40gb"), DECODE)
    assert told["shares"]["measured"] == 0 and told["shares"]["outside"] > 0.8
    (note,) = (warning for warning in told["warnings"] if warning.startswith("device:"))
    assert "'a100_40gb' has no measured operator times; they are scaled from those of 'a100'" in note
    assert told["provenance"]["scaled_from"] == "a100" and told["provenance"]["measured"] == []
    # Three quarters of the bandwidth, and the same SMs: decodes take up to a third longer, prefills about as long.
    slower = [milliseconds(one, "device=a100_40gb") / milliseconds(one, "device=a100") for one in (DECODE, PREFILL)]
    assert 1.15 < slower[0] < 2039 / 1555 + 0.02 and 0.98 < slower[1] < 1.15


def test_a_gpu_measured_in_part_keeps_what_was_measured() -> None:
    """The A40: GEMMs, small kernels and sends of its own (Vidur's), attention from the A100."""
    one = resolved("device=a40", "pipeline_parallel_size=2")
    told = explain(one, DECODE)
    how = {row["name"]: row["how"] for row in told["operators"]}
    assert (how["mlp_up_proj"], how["attn_decode"], how["send_recv"]) == ("measured", "outside", "measured")
    assert any("'a40' has no measured prefill attention and decode attention times" in w for w in told["warnings"])
    assert {"gemm", "elementwise", "send_recv"} <= set(told["provenance"]["measured"])
    assert sources(load_device("a40")).choice("gemm", "int4_wo").system == "a100_sxm"


def test_a_users_own_gpu_is_simulated(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("{name: mine, memory_gib: 22.5, bandwidth_gb_s: 300, tflops: {bf16: 121, fp8: 242}, num_sms: 58}")
    ms = milliseconds(DECODE, f"device={path}", "node=pcie_gen4")
    assert 50 < ms < 90  # 15 GB of weights and 2 GB of KV at 300 GB/s


@pytest.mark.parametrize(("bandwidth", "kinship"), [(3350, "own"), (2500, "architecture"), (1000, "other")])
def test_shared_forests_are_a_gpus_own_only_with_its_figures(tmp_path: Path, bandwidth: int, kinship: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"{{name: mine, memory_gib: 80, bandwidth_gb_s: {bandwidth}, tflops: {{bf16: 989.4}}, num_sms: 132, "
        "predictor: h100_sxm}"
    )
    asked = sources(load_device(str(path)))
    assert asked.origin.kinship == kinship and asked.choice("gemm", "bf16").kinship == kinship
    told = explain(resolved(f"device={path}", "node=pcie_gen5"), DECODE)
    assert (told["shares"]["measured"] > 0.5) == (kinship == "own")


def test_weights_alone_read_fewer_bytes_at_the_rate_of_16_bits() -> None:
    plain, narrow = ([milliseconds(one, f"quantization={q}") for one in (DECODE, PREFILL)] for q in ("none", "int4_wo"))
    assert 1.5 < plain[0] / narrow[0] < 3.5 and 0.95 < narrow[1] / plain[1] < 1.1
    told = explain(resolved("quantization=int4_wo"), DECODE)
    assert told["shares"]["outside"] > 0.3 and {row["how"] for row in told["operators"] if "mlp" in row["name"]} == {
        "outside",
        "modelled",
    }
    (note,) = (warning for warning in told["warnings"] if warning.startswith("quantization:"))
    assert "'int4_wo' has no measured GEMM times on 'h100'; they are derived from those of 16 bits" in note


def test_a_gpu_widens_what_it_cannot_multiply() -> None:
    told = explain(resolved("quantization=fp8", "device=a100"), DECODE)
    assert not [row for row in told["operators"] if "quant" in row["name"]]  # inputs stay in 16 bits
    assert any("widens the weights" in warning for warning in told["warnings"])
    alike = milliseconds(DECODE, "quantization=int8_wo", "device=a100")
    assert told["total_ms"] == pytest.approx(alike, rel=0.03)
    hopper = milliseconds(PREFILL, "quantization=nvfp4") / milliseconds(PREFILL, "quantization=none")
    assert 0.95 < hopper < 1.1
    assert milliseconds(PREFILL, "quantization=int8") == pytest.approx(
        milliseconds(PREFILL, "quantization=fp8"), rel=0.1
    )


def test_nothing_is_derived_from_kernels_of_few_models() -> None:
    for name in ("h100", "h200"):
        asked = sources(load_device(name))
        assert {asked.choice("gemm", precision).precision for precision in ("int8_wo", "int4_wo")} == {"bf16"}
        assert asked.choice("moe", "nvfp4_wo").precision == "int4_wo"  # which is Marlin's
    assert sources(load_device("b200")).choice("moe", "nvfp4_wo").precision == "bf16"  # not mxfp4, of gpt-oss's sizes


def test_an_fp8_cache_without_times_reads_half_the_bytes() -> None:
    plain, narrow = (
        milliseconds(Iteration((), ((64, 2000),)), "device=a100", f"kv_cache_dtype={kv}") for kv in ("auto", "fp8")
    )
    assert 0.6 < narrow / plain < 0.97


def test_intervals_hold_the_times_of_the_gpus_whose_times_are_known() -> None:
    """Each GPU from the nearest other: nine of ten of its own forest's times lie within."""
    gemm, attention = Gemm("x", 8192, 4096), Attention(32, 8, 128)
    tokens, lengths = np.logspace(0, 12, 13, base=2), np.logspace(6, 13, 8, base=2)
    inside: dict[str, list[float]] = {}
    for device in map(load_device, names("devices")):
        own = sources(device)
        if device.predictor is None or own.origin.kinship != "own":
            continue
        other = replace(own, system="none", origin=origin_of(device, [device.predictor]))
        rows = {
            "gemm": gemm_rows(gemm, tokens),
            "decode": decode_rows(attention, tokens[:9], np.full(9, 2048.0)),
            "prefill": prefill_rows(attention, lengths),
        }
        for name, shape in rows.items():
            far, near = (of.gemm(gemm) if name == "gemm" else of.attention(attention, name) for of in (other, own))
            assert isinstance(far, Scaled) and isinstance(near, Forest) and far.outside(shape).all()
            low, high = far.interval(shape)
            inside.setdefault(name, []).append(float(np.mean((low <= near.ms(shape)) & (near.ms(shape) <= high))))
    assert all(np.mean(shares) > 0.8 for shares in inside.values()), inside


def test_constants_cover_every_family() -> None:
    known = constants()
    for family in FAMILIES:
        assert 1 < width(family, "architecture") < width(family, "other")
        assert width(family, "other", "bf16") > width(family, "other") and width(family, "own", "bf16") > 1
    assert known["level"] == 0.9 and known["source"]["by"] == "bench/scaling.py"


def test_constants_are_those_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "bench"))
    scaling = import_module("scaling")
    unfit = {
        system: {
            shipped.stem(family, precision)
            for family in scaling.TYPICAL
            for precision in FORMATS
            if scaling.slow(system, family, precision) or scaling.narrow(system, family, precision)
        }
        for system in scaling.MEASURED
    }
    assert {system: set(found) for system, found in constants()["not_derived_from"].items()} == {
        system: found for system, found in unfit.items() if found
    }
    one, two = (
        scaling.Pair("", "", "", "", "", np.ones((n, 1)), np.ones(n), np.full(n, predicted))
        for n, predicted in ((10, 1.1), (1000, 0.5))
    )
    assert scaling.quantile([one]) == pytest.approx(1.1) and scaling.quantile([one, two], 0.49) == pytest.approx(1.1)
    assert scaling.quantile([one, two]) == pytest.approx(2)  # however many rows a pair has


def test_all_reduce_of_a_gpu_without_curves_goes_with_its_link() -> None:
    for device in ("l4", "h800"):
        one = resolved(f"device={device}", "tensor_parallel_size=4")
        (row,) = (row for row in explain(one, PREFILL)["operators"] if row["name"] == "all_reduce")
        assert row["how"] == "outside" and row["low_ms"] < row["ms"] < row["high_ms"]
        moved = 2 * row["shape"]["elements"]  # of 16 bits; a link carries as many at the least
        assert row["ms"] / row["count"] > moved / (one.node.link_gb_s * 1e6)
