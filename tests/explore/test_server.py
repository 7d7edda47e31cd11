"""The server answers below its token alone, and says in a sentence what it cannot answer."""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from explore import served

from fastsim.cli import run
from fastsim.explore.question import Question


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served("--requests", "200", "--rate", "4") as found:
        yield found.partition("?")[0]


def get(url: str) -> Any:
    return urllib.request.urlopen(url, timeout=60)


def post(address: str, what: str, asked: Any) -> Any:
    with urllib.request.urlopen(f"{address}{what}", json.dumps(asked).encode(), timeout=60) as answer:
        return json.load(answer)


def test_without_the_token_there_is_nothing(address: str) -> None:
    root = "/".join(address.split("/")[:3])
    for path in ("/", "/answer", "/files/explore.js", f"/{'x' * 24}/", f"/{'x' * 24}/files/bokeh.js"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(root + path)
        assert refused.value.code == 404


def test_the_page_loads_nothing_from_elsewhere(address: str) -> None:
    with get(address) as page:
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert page.headers["Referrer-Policy"] == "no-referrer"
        text = page.read().decode()
    assert "://" not in text.replace("http://127.0.0.1", "")


def test_a_question_is_answered(address: str) -> None:
    question = Question(settings={"model": "llama-3-8b", "device": "h100"}, rate=4.0, num_requests=200)
    found = post(address, "answer", {"question": question.as_dict()})
    assert 'data-key="latency.ttft.p99"' in found["headline"]
    assert found["copies"]["link"] == question.query()
    drawn = post(address, "figures", {"question": question.as_dict()})
    assert [section["name"] for section in drawn["sections"]] == ["Latency", "Slow requests", "Over time"]
    known = [section["figure"]["shape"] for section in drawn["sections"]]
    again = post(address, "figures", {"question": question.as_dict(), "known": known})
    assert all("item" in section["figure"] for section in drawn["sections"])
    assert not any("item" in section["figure"] for section in again["sections"])


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"question": {"settings": {"model": "llama-3-8b", "device": "h100", "seed": -1}}}, "seed: -1 is not"),
        ({"question": {"settings": {"model": "llama-3-8b", "device": "h101"}}}, "device: 'h101' is unknown"),
        ({"question": {"settings": {"model": "llama-3-8b", "device": "h100"}, "workload": "none.csv"}}, "none.csv: "),
        ({"question": {"settings": {"scheduler.policy": "mine.py:f"}}}, "'mine.py:f' is Python code"),
        ({"questions": 1}, "question: missing"),
        ([], "question: missing"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(address: str, asked: Any, sentence: str) -> None:
    assert post(address, "answer", asked)["error"].startswith(sentence)


def test_the_command_refuses_what_cannot_be_asked() -> None:
    assert run(["explore", "--no-browser", "none.yaml"]) == 2
    assert run(["explore", "--no-browser", "--rate", "1", "--users", "2"]) == 2
    assert run(["explore", "--no-browser", "http://127.0.0.1:1/x/?rate=fast"]) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends them")
def test_a_server_that_is_killed_leaves_no_process_behind() -> None:
    with served("--requests", "200", "--rate", "4") as found:
        question = Question(settings={"model": "llama-3-8b", "device": "h100"}, rate=4.0, num_requests=200)
        post(found.partition("?")[0], "better", {"question": question.as_dict()})  # by then a process beside works
        server = max(psutil.Process().children(), key=lambda one: one.create_time())
        beside = [one for one in server.children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
        for one in beside:
            one.suspend()  # as while an answer is computed
        server.kill()
        assert beside and not psutil.wait_procs(beside, timeout=20)[1]
