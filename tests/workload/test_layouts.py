"""Files of requests as others publish them, and as benchmarks write them: each layout as it is, and damaged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from streams import HEADER, POISSON, SHARED, file, needs_shared

from fastsim.errors import ConfigError, WorkloadError
from fastsim.workload import BlockHashes, Workload
from fastsim.workload.loading import is_description, is_workload, load
from fastsim.workload.write import save

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE_2023 = (
    AZURE + "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:51.2224670,879,55\n"
)
AZURE_2024 = (
    AZURE + "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00.017335+00:00,2399,6\n"
    "2024-05-10 00:00:00.216800+00:00,76,15\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,230,1317,Conversation log\n118,GPT-4,417,0,417,Conversation log\n"
    "185,ChatGPT,1360,203,1563,API log\n"
)
BURSTGPT_2 = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "0,a,1.5,GPT-4,100,10,110,Conversation log\n10,,2,GPT-4,200,0,200,API log\n"
    "30,a,2,GPT-4,300,30,330,Conversation log\n"
)
SPLITWISE = (
    "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
    "0,2,0,0.0,1,374,44\n1,2,0,4.314579,1,396,109\n"
)
SERVING_SIM = "input_toks,output_toks,arrival_time_ns\n374,44,0\n396,109,4314579000\n"
MOONCAKE = [
    {"timestamp": 0, "input_length": 1030, "output_length": 500, "hash_ids": [0, 1, 2]},
    {"timestamp": 27482, "input_length": 1536, "output_length": 52, "hash_ids": [0, 1, 3]},
    {"timestamp": 30535, "input_length": 100, "output_length": 0, "hash_ids": [4]},
    {"timestamp": 30535, "input_length": 600, "output_length": 7, "hash_ids": [0, 5]},
]
BAILIAN = [
    {"chat_id": 1, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 40, "output_length": 132, "type": "text"}
    | {"turn": 1, "hash_ids": [8, 9, 10]},
    {"chat_id": 2, "parent_chat_id": -1, "timestamp": 61.25, "input_length": 33, "output_length": 2, "type": "text"}
    | {"turn": 1, "hash_ids": [7, 9, 11]},
    {"chat_id": 3, "parent_chat_id": 1, "timestamp": 62, "input_length": 33, "output_length": 2, "type": "text"}
    | {"turn": 2, "hash_ids": [8, 9, 12]},
]
VLLM = {
    "date": "20251101-120000",
    "backend": "vllm",
    "num_prompts": 4,
    "request_rate": "inf",
    "completed": 3,
    "total_input_tokens": 1649,
    "input_lens": [374, 396, 879, 12],
    "output_lens": [44, 109, 55, 0],
    "start_times": [5000.5, 5004.75, 5004.5, 5006.0],
    "ttfts": [0.02, 0.03, 0.03, 0.0],
    "itls": [[0.01] * 43, [0.01] * 108, [0.01] * 54, []],
    "generated_texts": ["a", "b", "c", ""],
    "errors": ["", "", "", "Traceback"],
}


def guidellm(start: str) -> dict[str, Any]:
    request = {"request_id": "x", "output": "text", "prompt_tokens": 374, "output_tokens": 44, start: 1.7e9}
    later = request | {start: 1.7e9 + 4.5, "output_tokens": 109}
    requests = {"successful": [later, request], "incomplete": [], "errored": [{"request_id": "y", "output": None}]}
    return {
        "metadata": {"version": 1},
        "args": {},
        "benchmarks": [{"type_": "generative_benchmark", "requests": requests}],
    }


def inference_perf(nested: bool) -> list[dict[str, Any]]:
    def info(prompt: int, output: int) -> dict[str, Any]:
        if nested:
            return {
                "request_metrics": {"text": {"input_tokens": prompt}},
                "response_metrics": {"output_tokens": output, "output_token_times": [1.5, 2.5]},
            }
        return {"input_tokens": prompt, "output_tokens": output, "output_token_times": [1.5, 2.5]}

    common = {"end_time": 999.0, "request": "{}", "response": "text"}
    failed = {"error_type": "TimeoutError", "error_msg": "late"}
    return [
        common | {"start_time": 100.5, "info": info(374, 44), "error": None},
        common | {"start_time": 103.0, "info": info(50, 7), "error": failed},
        common | {"start_time": 105.0, "info": info(396, 109), "error": None},
    ]


def aiperf(start: int, metrics: dict[str, int], error: Any = None) -> dict[str, Any]:
    values = {name: {"value": value, "unit": "tokens"} for name, value in metrics.items()}
    return {"metadata": {"session_num": 1, "request_start_ns": start}, "metrics": values, "error": error}


AIPERF = [
    aiperf(1759813207532900000, {"error_isl": 550}, {"code": 499, "type": "RequestCancellationError"}),
    aiperf(1759813207532900363, {"input_sequence_length": 374, "output_sequence_length": 44}),
    aiperf(1759813211847479363, {"input_sequence_length": 396, "output_token_count": 1, "output_sequence_length": 109}),
]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# Name and content of the file, its layout, arrival times, prompts, outputs, and the requests that were left out.
READ: list[tuple[str, Any, str, list[float], list[int], list[int], int]] = [
    ("a.csv", AZURE_2023, "Azure", [0, 4.314579, 4.541877], [374, 396, 879], [44, 109, 55], 0),
    ("b.csv", AZURE_2024, "Azure", [0, 0.007405, 0.20687], [2162, 2399, 76], [5, 6, 15], 0),
    ("c.csv", AZURE_2023.replace(" 18", "T18"), "Azure", [0, 4.314579, 4.541877], [374, 396, 879], [44, 109, 55], 0),
    ("d.csv", BURSTGPT, "BurstGPT", [5, 45, 185], [472, 1087, 1360], [18, 230, 203], 1),
    ("e.csv", BURSTGPT_2, "BurstGPT", [0, 30], [100, 300], [10, 30], 1),
    ("f.csv", SPLITWISE, "Splitwise", [0, 4.314579], [374, 396], [44, 109], 0),
    ("g.csv", SERVING_SIM, "LLMServingSim", [0, 4.314579], [374, 396], [44, 109], 0),
    ("h.csv", HEADER + "5,472,18\n45,1087,230\n118,417,0\n", "fastsim", [5, 45], [472, 1087], [18, 230], 1),
    ("i.csv", HEADER + "2024-05-10,5,6\n2024-05-11,7,8\n", "fastsim", [0, 86400], [5, 7], [6, 8], 0),
    (
        "j.csv",
        "timestamp,prompt_tokens,completion_tokens\n2024-05-10T00:00:00Z,5,6\n",
        "unknown unit",
        [0],
        [5],
        [6],
        0,
    ),
    ("k.jsonl", lines(MOONCAKE), "Mooncake", [0, 27.482, 30.535], [1030, 1536, 600], [500, 52, 7], 1),
    ("l.jsonl", lines(BAILIAN), "Bailian", [61.114, 61.25, 62], [40, 33, 33], [132, 2, 2], 0),
    ("m.jsonl", lines(AIPERF), "AIPerf", [0, 4.314579], [374, 396], [44, 109], 1),
    ("n.json", VLLM, "vllm bench serve", [0, 4, 4.25], [374, 879, 396], [44, 55, 109], 1),
    ("o.jsonl", json.dumps(VLLM), "vllm bench serve", [0, 4, 4.25], [374, 879, 396], [44, 55, 109], 1),
    ("p.json", guidellm("request_start_time"), "GuideLLM", [0, 4.5], [374, 374], [44, 109], 1),
    ("q.json", guidellm("start_time"), "GuideLLM", [0, 4.5], [374, 374], [44, 109], 1),
    ("r.json", inference_perf(False), "inference-perf", [0, 4.5], [374, 396], [44, 109], 1),
    ("s.json", inference_perf(True), "inference-perf", [0, 4.5], [374, 396], [44, 109], 1),
]


@pytest.mark.parametrize(("name", "content", "layout", "times", "prompts", "outputs", "left_out"), READ)
def test_published_layouts(
    tmp_path: Path,
    name: str,
    content: Any,
    layout: str,
    times: list[float],
    prompts: list[int],
    outputs: list[int],
    left_out: int,
) -> None:
    path = file(tmp_path, content if isinstance(content, str) else json.dumps(content), name)
    stream = load(path)
    assert stream.arrived_at == pytest.approx(times, abs=1e-12)
    assert stream.num_prompt_tokens.tolist() == prompts
    assert stream.num_output_tokens.tolist() == outputs
    assert stream.origin is not None
    assert layout in stream.origin.layout
    assert stream.origin.without_output == left_out
    assert any("without output" in note for note in stream.notes) == (left_out > 0)
    assert not is_description(path)
    lengths = {"lengths": {"kind": "trace", "file": path, "order": "file"}, "gaps": POISSON}
    drawn = load(lengths, num_requests=len(prompts))
    assert sorted(drawn.num_prompt_tokens) == sorted(prompts)
    assert drawn.origin is not None
    assert drawn.origin.without_output == left_out
    gaps = {"lengths": {"kind": "trace", "file": path, "order": "file"}, "gaps": {"kind": "trace", "file": path}}
    assert load(gaps, num_requests=1).arrived_at.tolist() == [0]


def test_requests_without_prompt_are_left_out_of_published_layouts(tmp_path: Path) -> None:
    stream = load(file(tmp_path, BURSTGPT.replace("1087,230", "0,230")))
    assert stream.num_prompt_tokens.tolist() == [472, 1360]
    assert stream.notes == ("1 request without output is left out", "1 request without prompt is left out")
    with pytest.raises(WorkloadError, match="Response tokens: none of the 4 requests has an output"):
        load(file(tmp_path, BURSTGPT.replace(",18,", ",0,").replace("1087,", "0,").replace("1360,", "0,")))


def test_parquet_of_published_layouts(tmp_path: Path) -> None:
    columns = {
        "TIMESTAMP": pa.array([0, 4_314_579_000], pa.timestamp("ns", "UTC")),
        "ContextTokens": pa.array([374, 396]),
        "GeneratedTokens": pa.array([44, 109]),
    }
    parquet.write_table(pa.table(columns), tmp_path / "azure.parquet")
    assert load(tmp_path / "azure.parquet").arrived_at.tolist() == [0, 4.314579]


def test_requests_out_of_order_are_sorted_in_published_layouts(tmp_path: Path) -> None:
    stream = load(file(tmp_path, BURSTGPT.replace("185,", "7,")))
    assert stream.num_prompt_tokens.tolist() == [472, 1360, 1087]
    assert any("sorted" in note for note in stream.notes)
    bad = BURSTGPT.replace("185,ChatGPT,1360", "7,ChatGPT,-1")
    with pytest.raises(WorkloadError, match="data row 4: Request tokens: -1 is not"):
        load(file(tmp_path, bad))


def test_blocks_of_published_layouts(tmp_path: Path) -> None:
    """Only full blocks have a hash; and equal hashes mean that all blocks before are equal too."""
    mooncake = load(file(tmp_path, lines(MOONCAKE), "m.jsonl")).block_hashes
    assert mooncake is not None
    assert mooncake.block_size == 512
    assert [mooncake[request].tolist() for request in range(3)] == [[0, 1], [0, 1, 3], [0]]
    bailian = load(file(tmp_path, lines(BAILIAN), "b.jsonl")).block_hashes
    assert bailian is not None
    assert bailian.block_size == 16
    first, second, third = (bailian[request].tolist() for request in range(3))
    assert first == third
    assert not set(first) & set(second)


HASHED = Workload(
    np.array([0.0, 1.0, 1.0]),
    np.array([64, 20, 32]),
    np.array([1, 1, 32]),
    block_hashes=BlockHashes.of([[1, 2], [], [1, -(2**63), 5]]),
)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("block_size", [16, 5])
def test_blocks_read_back(tmp_path: Path, suffix: str, block_size: int) -> None:
    assert HASHED.block_hashes is not None
    hashes = BlockHashes(HASHED.block_hashes.values, HASHED.block_hashes.offsets, block_size)
    stream = Workload(HASHED.arrived_at, HASHED.num_prompt_tokens, HASHED.num_output_tokens, block_hashes=hashes)
    path = tmp_path / f"requests{suffix}"
    save(stream, path)
    assert load(path).digest == stream.digest
    assert stream.digest != load(path, num_requests=2).digest
    kept = load(path, num_requests=2, rate=4.0).block_hashes
    assert kept is not None
    assert (len(kept), kept[0].tolist(), kept.block_size) == (2, [1, 2], block_size)


def test_hashes_that_number_blocks_are_written_as_differences(tmp_path: Path) -> None:
    one = np.array([10**6])
    for first, most in ((0, 50_000), (-(2**62), 2 * 10**6)):
        values = np.arange(60_000) + first * (np.arange(60_000) % 2)
        hashes = BlockHashes(values, np.array([0, 60_000]), 16)
        save(Workload(np.zeros(1), one, one, block_hashes=hashes), tmp_path / "requests.parquet")
        read = load(tmp_path / "requests.parquet").block_hashes
        assert read is not None and (read.values == values).all()
        assert (tmp_path / "requests.parquet").stat().st_size < most  # bytes


REFUSED: list[tuple[str, Any, str]] = [
    ("a.csv", AZURE_2023 + "2023-11-16 18:15:52,1,-1\n", "data row 4: GeneratedTokens: -1 is not"),
    ("a.csv", AZURE_2023 + "yesterday,1,1\n", "data row 4: TIMESTAMP: 'yesterday' is not a date and time without"),
    (
        "a.csv",
        AZURE_2024 + "2024-05-10 00:00:01,1,1\n",
        "data row 4: TIMESTAMP: '2024-05-10 00:00:01' is not a date",
    ),
    ("a.csv", AZURE + "11/16/2023,1,1\n", "'11/16/2023' is not a number (e.g. 0.25) or a date and time (e.g. 2023-"),
    ("a.csv", AZURE_2023 + ",1,1\n", "data row 4: TIMESTAMP: an empty cell"),
    ("a.csv", AZURE_2023 + "2023-11-16 18:15:52,0x10,1\n", "data row 4: ContextTokens: '0x10' is not a number"),
    ("a.csv", AZURE_2023 + "2023-11-16 18:15:52,1\n", "data row 4: 2 cells, where the header has 3"),
    ("a.csv", AZURE + "12,5,6\n", "TIMESTAMP: 12.0 may be in any unit; say --unit s, ms, us or ns"),
    ("a.csv", AZURE.replace("C", "TIMESTAMP,C") + "1,1,1,1\n", "column TIMESTAMP is there 2 times"),
    ("b.csv", BURSTGPT.replace("18,490", ",490"), "data row 1: Response tokens: an empty cell"),
    (
        "b.csv",
        BURSTGPT.replace("230", "0").replace("203", "0").replace("18,490", "0,490"),
        "none of the 4 request",
    ),
    ("t.csv", "timestamp,input_length,output_length\n1,5,6\n", "timestamp: 1.0 may be in any unit"),
    ("c.csv", "when,in,out\n1,5,6\n", "; lengths alone can be drawn from"),
    ("m.jsonl", lines([MOONCAKE[0] | {"hash_ids": [1.5]}]), "hash_ids: [1.5] is not a list of whole numbers"),
    ("m.jsonl", lines([MOONCAKE[0] | {"hash_ids": 7}]), "hash_ids: 7 is not a list of whole numbers"),
    ("m.jsonl", lines([MOONCAKE[0] | {"hash_ids": [2**64]}]), "hash_ids: [18446744073709551616] is not a list"),
    ("m.jsonl", lines([MOONCAKE[0] | {"timestamp": "soon"}]), "data row 1: timestamp: 'soon' is not a number"),
    ("m.jsonl", lines([MOONCAKE[0], MOONCAKE[1] | {"timestamp": "2024-05-10"}]), "is not of the same kind as 0 before"),
    ("m.jsonl", lines([MOONCAKE[0] | {"input_length": None}]), ":1: input_length: None is not a number"),
    ("m.jsonl", lines([{**MOONCAKE[0], "timestamp": n // 500} for n in range(1500)]), "say --unit s if these are sec"),
    (
        "o.jsonl",
        '{"arrived_at":0,"num_prompt_tokens":20,"num_output_tokens":1,"block_hashes":[1,2]}',
        "in 21 tokens (at most 1)",
    ),
    (
        "o.jsonl",
        '{"arrived_at":0,"num_prompt_tokens":20,"num_output_tokens":1,"block_size":"x"}',
        "block_size: 'x'",
    ),
    ("p.jsonl", lines([AIPERF[0]]), "column metrics.input_sequence_length.value is missing"),
    ("p.jsonl", lines([AIPERF[1] | {"metrics": 3}]), "column metrics.input_sequence_length.value is missing"),
    ("v.json", VLLM | {"start_times": [1.0]}, "has 4 values and start_times 1; every list"),
    ("v.json", {key: VLLM[key] for key in VLLM if key != "start_times"}, "column start_times is missing"),
    ("v.json", {"backend": "vllm", "request_throughput": 9}, "--save-result --save-detailed"),
    ("v.json", {"load_summary": {"count": 3}}, "holds totals of a benchmark but no requests"),
    ("v.json", VLLM | {"input_lens": ["a", 1, 1, 1]}, "request 1: input_lens: 'a' is not a number"),
    ("v.json", VLLM | {"start_times": [float("nan"), 1, 2, 3]}, "data row 1: start_times: nan is not a time"),
    ("v.json", VLLM | {"input_lens": 3, "output_lens": None}, "column input_lens is missing"),
    ("v.json", json.dumps(VLLM) + "\n" + json.dumps(VLLM), "more than one document"),
    ("v.json", json.dumps(VLLM)[:-5], "not valid JSON"),
    ("v.json", "[" * 100_000, "not valid JSON: nested too deeply"),
    ("v.jsonl", json.dumps(VLLM) + "\n" + json.dumps(VLLM), ":2: a second result of a benchmark"),
    ("g.json", {"benchmarks": guidellm("start_time")["benchmarks"] * 2}, "benchmarks: 2 benchmarks; keep the one"),
    ("g.json", {"benchmarks": 3}, "no list of benchmarks"),
    ("g.json", {"benchmarks": [{"requests": 3}]}, "benchmarks[0].requests: 3 is no group"),
    ("g.json", {"benchmarks": [{"requests": {"successful": 3}}]}, "successful: 3 is no list"),
    ("g.json", {"benchmarks": [{"requests": {"errored": [{}]}}]}, "all 1 requests failed"),
    ("i.json", [1, 2], "request 1: 1 is not an object"),
    ("i.json", [], "no requests"),
    ("i.json", [{"a": {"b": {"c": 1}}}], "column arrived_at is missing from 'a'"),
    ("s.json", [{"id": 1, "conversations": [{"value": "a"}, {"value": "b"}]}], "column arrived_at is missing"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED)
def test_refused(tmp_path: Path, name: str, content: Any, said: str) -> None:
    path = file(tmp_path, content if isinstance(content, str) else json.dumps(content), name)
    with pytest.raises(WorkloadError) as refused:
        load(path)
    assert str(refused.value).startswith(f"{path}:")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sharegpt_lengths_are_estimates(tmp_path: Path) -> None:
    turns = [
        [{"from": "human", "value": "a" * 41}, {"from": "gpt", "value": "ä" * 20}, {"value": "c"}],
        [{"value": "a"}],
    ]
    path = file(tmp_path, json.dumps([{"id": "x", "conversations": each} for each in turns]), "sharegpt.json")
    stream = load({"lengths": {"kind": "trace", "file": path}, "gaps": POISSON}, num_requests=2)
    assert stream.num_prompt_tokens.tolist() == [11, 11]
    assert stream.num_output_tokens.tolist() == [10, 10]
    assert [note.split()[0] for note in stream.notes] == ["1", "tokens"]


@pytest.mark.parametrize(
    ("unit", "last"), [(None, 4314), ("s", 4314), ("ms", 4.314), ("us", 4.314e-3), ("ns", 4.314e-6)]
)
def test_units(tmp_path: Path, unit: str | None, last: float) -> None:
    path = file(tmp_path, HEADER + "0,5,6\n2000,5,6\n4314,5,6\n")
    stream = load(path, unit=unit)
    assert stream.arrived_at[-1] == last
    assert any("--unit ms" in note for note in stream.notes) == (unit is None)
    drawn = {"lengths": {"kind": "trace", "file": path}, "gaps": {"kind": "trace", "file": path, "unit": unit or "s"}}
    assert load(drawn, num_requests=3).arrived_at[-1] == last


def test_units_that_are_none(tmp_path: Path) -> None:
    path = file(tmp_path, AZURE_2023)
    for source, unit, said in (
        (path, "h", "unit: 'h' is unknown; valid: s, ms, us, ns"),
        ("chat", "ms", "unit: ms is for a file of requests"),
        (HASHED, "ms", "unit: ms is for a file of requests"),
    ):
        with pytest.raises(ConfigError, match=said):
            load(source, unit=unit)
    with pytest.raises(WorkloadError, match="TIMESTAMP holds dates, so unit ms does not apply"):
        load(path, unit="ms")


def test_descriptions_in_json_are_still_read(tmp_path: Path) -> None:
    fixed = {"kind": "fixed", "num_prompt_tokens": 5, "num_output_tokens": 6}
    path = file(tmp_path, json.dumps({"lengths": fixed, "gaps": {"kind": "static"}, "num_requests": 3}), "w.json")
    assert is_description(path)
    assert load(path).num_requests == 3
    with pytest.raises(ConfigError, match="not valid JSON"):
        load(file(tmp_path, '{"lengths": ', "w.json"))


def test_a_description_is_a_workload_and_a_deployment_is_none(tmp_path: Path) -> None:
    lengths = "lengths: {kind: fixed, num_prompt_tokens: 1, num_output_tokens: 1}"
    assert is_workload(str(file(tmp_path, lengths, "w.yaml")))
    assert not is_workload(str(file(tmp_path, "model: meta-llama/Llama-2-7b-hf\ndevice: a100", "d.yaml")))
    assert not is_workload(str(file(tmp_path, "lengths: {", "broken.yaml")))
    assert not is_workload(str(tmp_path / "missing.yaml"))


def test_the_published_file_of_the_manual_is_read(tmp_path: Path) -> None:
    manual = (Path(__file__).parents[2] / "fastsim" / "manual" / "workloads.md").read_text()
    published = file(tmp_path, manual.partition("cat > azure.csv <<END\n")[2].partition("END\n")[0], "azure.csv")
    assert load(published).arrived_at.tolist() == [0, 4.314579, 4.541877]


@needs_shared
def test_mooncake() -> None:
    stream = load(SHARED / "traces" / "mooncake_conversation_trace.parquet")
    assert stream.num_requests == 12_031
    assert stream.rate == pytest.approx(3.4, abs=0.1)  # an hour of traffic
    assert stream.block_hashes is not None
    assert (stream.block_hashes.counts == stream.num_prompt_tokens // 512).all()
