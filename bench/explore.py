"""Change settings in `fastsim explore` at random in Chromium, and hold each answer against `fastsim simulate`.

``python bench/explore.py [--changes 30] [--pause 1.0] [--seed 0]`` prints the time from a change until its answer is
shown (the headline with the verdict, the objectives and all main figures), and until the charts are drawn, for 5,000
requests; and the share of answers within 150 ms. Each answer must have the figures that the copied file gives, and
what the page refuses, `fastsim simulate` must refuse in the same words. ``--pause``: the time between two changes, s.
"""

import argparse
import json
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastsim.explore.question import Question
from fastsim.result.metrics.definitions import flatten

WITHIN = 150.0  # ms
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# What a change may set, by control.
VALUES: dict[str, list[Any]] = {
    "model": ["meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3-8B", "Qwen/Qwen3-8B", "mistralai/Mistral-7B-v0.1"],
    "device": ["h100", "h200", "a100", "b200", "l40s"],
    "tensor_parallel_size": [1, 2, 4, 8],
    "pipeline_parallel_size": [1, 2],
    "num_replicas": [1, 2, 3, 4, 8],
    "scheduler.max_num_seqs": [32, 64, 128, 256, 1024],
    "scheduler.max_num_batched_tokens": [1024, 2048, 4096, 8192, 16384],
    "gpu_memory_utilization": [0.5, 0.8, 0.9],
    "quantization": ["", "none", "fp8"],
    "kv_cache_dtype": ["", "fp8"],
    "workload": ["chat", "code", "summarisation", "mix of these", "fixed lengths"],
    "rate": [1, 4, 8, 16, 32],
    "objectives": ["ttft:p90<500ms", "ttft:p99<2s, tbt:p99<100ms", "e2e:p50<5s", ""],
}


class Answer(NamedTuple):
    """What the page shows after a change: the times until then and until charts are drawn, ms, and what it says."""

    ms: float
    drawn_ms: float
    figures: dict[str, float]
    refusal: str
    yaml: str


class Explored:
    """A page in a browser, and all that its console said."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        page.on("console", lambda one: self.said.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda problem: self.said.append(str(problem)))

    def open(self, address: str) -> None:
        self.page.goto(address)
        self.page.wait_for_selector("html[data-exact=true]", timeout=300_000)
        self.settle()

    def change(self, key: str, value: Any) -> Answer:
        """Change a control as its user does, and wait for the answer."""
        page, before = self.page, self._answered()
        box = page.locator(f".control[data-key='{key}'] [id^=c-]")
        box.evaluate("box => { box.closest('details').open = true; }")
        if box.evaluate("box => box.tagName") == "SELECT":
            box.select_option(str(value))
        else:
            box.fill(str(value))
            box.press("Tab")
        self._wait(before)
        return self.answer()

    def click(self, button: str) -> Answer:
        """Click a button that changes the question, and wait for the answer."""
        before = self._answered()
        self.page.click(button)
        self._wait(before)
        return self.answer()

    def settle(self) -> None:
        """Wait until all that was asked is answered."""
        self.page.wait_for_selector("#answer:not([aria-busy])")

    def _answered(self) -> int:
        return int(self.page.get_attribute("html", "data-answered"))

    def _wait(self, before: int) -> None:
        self.page.wait_for_selector(f"html:not([data-answered='{before}'])", timeout=300_000)
        self.settle()

    def value(self, key: str) -> str:
        """What a control shows."""
        return str(self.page.input_value(f".control[data-key='{key}'] [id^=c-]"))

    def answer(self) -> Answer:
        """What the page shows now."""
        page = self.page
        page.click("[data-copy=yaml]")
        refused = "stale" in (page.get_attribute("#answer", "class") or "")
        shown = page.eval_on_selector_all(
            "#headline [data-key]", "all => all.map(e => [e.dataset.key, e.dataset.value ?? null])"
        )
        asked = Question.read(page.evaluate("question"))
        return Answer(
            float(page.evaluate("document.documentElement.dataset.ms")),
            float(page.evaluate("document.documentElement.dataset.drawn")),
            {key: float(value) for key, value in shown if value is not None},
            page.inner_text("#status") if refused else "",
            asked.yaml() if refused else page.evaluate("navigator.clipboard.readText()"),
        )


@contextmanager
def served(*arguments: str) -> Iterator[str]:
    """The address of a page that `fastsim explore` serves."""
    command = [sys.executable, "-m", "fastsim", "explore", "--no-browser", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http\S+", process.stdout.readline())
        assert found is not None
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def browsed(address: str, **context: Any) -> Iterator[Explored]:
    """A page in Chromium, which may read what is copied."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        opened = browser.new_context(**context)
        opened.grant_permissions(["clipboard-read", "clipboard-write"])
        explored = Explored(opened.new_page())
        explored.open(address)
        yield explored
        browser.close()


def simulated(yaml: str) -> tuple[int, dict[str, float | int | None], str]:
    """The exit code of the command in the first line of a copied file, the figures that it prints, and what it says."""
    command = shlex.split(yaml.partition("\n")[0].removeprefix("# fastsim "))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "deployment.yaml").write_text(yaml)
        whole = [sys.executable, "-m", "fastsim", *command, "--json"]
        done = subprocess.run(whole, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, flatten(json.loads(done.stdout)) if done.returncode == 0 else {}, done.stderr


def differences(answer: Answer) -> list[str]:
    """The figures that an answer shows and that are others from its copied file; empty if all are equal.

    What the page refuses, the command must refuse in the same words, but for the file, which it names.
    """
    code, truth, said = simulated(answer.yaml)
    if answer.refusal:
        words = answer.refusal.removesuffix(" The last answer is shown in grey.").rstrip(".")
        return [] if code == 2 and words in said else [f"the command ends with {code}: {said}"]
    if code:
        return [f"the copied file ends with {code}"]
    wrong = [key for key, value in answer.figures.items() if truth.get(key) != value]
    return wrong or ([] if len(answer.figures) > 8 else ["too few figures are shown"])


def main() -> None:
    """Print a line per change, and the share of answers within 150 ms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="Compare nothing.")
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    times: list[float] = []
    drawn: list[float] = []
    wrong = 0
    with served("--rate", "8") as address, browsed(address, viewport={"width": 1400, "height": 900}) as explored:
        for number in range(asked.changes):
            time.sleep(asked.pause)
            keys = [key for key in VALUES if explored.page.is_visible(f".control[data-key='{key}']")]
            key = draw.choice(keys)
            value = draw.choice([each for each in VALUES[key] if str(each) != explored.value(key)])
            answer = explored.change(key, value)
            told = "refused" if answer.refusal else f"{answer.ms:6.0f} ms, charts {answer.drawn_ms:6.0f} ms"
            if not answer.refusal:
                times.append(answer.ms)
                drawn.append(answer.drawn_ms)
            lost = [] if asked.quick else differences(answer)
            wrong += bool(lost)
            print(f"{number + 1:3} {key} = {value!r}: {told} {answer.refusal} {lost or ''}", flush=True)
        said = explored.said
    share = sum(ms <= WITHIN for ms in times) / len(times)
    print(f"{len(times)} answers: {share:.0%} within {WITHIN:.0f} ms, median {statistics.median(times):.0f} ms")
    print(f"charts: median {statistics.median(drawn):.0f} ms, most {max(drawn):.0f} ms")
    print(f"{wrong} differ from `fastsim simulate`; the console said {said or 'nothing'}")
    sys.exit(bool(wrong or said))


if __name__ == "__main__":
    main()
