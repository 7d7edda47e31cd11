"""The answers first: does it meet its objectives, how sure is that, and what next."""

from typing import Any, NamedTuple

from fastsim.report.page.page import Block, Card, Cards, Section, Text, Tone
from fastsim.report.runs import Run
from fastsim.report.words import NOTHING, figure, interval, meaning, number, seconds, share, statistic
from fastsim.report.words import title as title_of
from fastsim.result.metrics import objectives
from fastsim.result.metrics.definitions import headline

KEY_FIGURES = (
    "latency.ttft.p99",
    "latency.tbt.p99",
    "latency.e2e.p50",
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "goodput.share",
    "utilisation.busy",
    "utilisation.peak_kv",
    "cost.dollars_per_million_output_tokens",
)

# What to try, by what the verdict (fastsim/result/metrics/verdict.py) finds short.
ADVICE = {
    "nothing": "`fastsim capacity` finds how much more load it takes.",
    "compute": "Try more GPUs per replica, a faster GPU, lower precision, or smaller chunks.",
    "bandwidth": "Try more GPUs per replica, a GPU with more bandwidth, or weights of lower precision.",
    "KV memory": "Try more GPUs per replica, a GPU with more memory, or `kv_cache_dtype: fp8`.",
    "batch slots": "Try a larger `max_num_seqs`, or more tokens per batch.",
    "replicas": "Try more replicas.",
}


class Judged(NamedTuple):
    """One objective and what became of it."""

    text: str
    key: str  # of the figure in summary.json
    value: float | None  # s
    limit: float  # s
    met: bool | None
    agree: tuple[int, int] | None  # repetitions with other operator times that say the same, of how many


def judged(run: Run) -> list[Judged]:
    """The objectives of a run: its own, or Vidur's when it has none."""
    own = [objectives.parse(text) for text in run.summary.get("objectives", {})]
    return [_judge(objective, run) for objective in own or objectives.DEFAULTS]


def _judge(objective: objectives.Objective, run: Run) -> Judged:
    key = f"latency.{objective.metric}.{objective.statistic}"
    value, agree = run.figures.get(key), None
    met = objectives.holds(objective, value)
    if value is not None and (drawn := run.summary.get("replicates", {}).get("values", {}).get(key)):
        agree = sum(objectives.holds(objective, other) == met for other in drawn), len(drawn)
    return Judged(str(objective), key, value, objective.limit, met, agree)


def verdict(found: list[Judged]) -> bool | None:
    """Whether all are met; None when that is not known."""
    if any(one.met is False for one in found):
        return False
    return None if any(one.met is None for one in found) else True


def words(judged_one: Judged) -> str:
    """``TTFT P90 below 2 s``."""
    _, metric, stat = judged_one.key.split(".")
    return f"{title_of(metric)} {statistic(stat)}"


def answers(run: Run) -> Section:
    """The first section of a page about one run."""
    found = judged(run)
    blocks: list[Block] = [Cards([_met(run, found), _sure(run, found), _next(run)], wide=True)]
    blocks.append(Cards([_objective(one) for one in found]))
    blocks.append(Cards([_card(run, key) for key in KEY_FIGURES if key in run.figures]))
    if out := run.summary.get("excluded"):
        left = f"{number(out.get('requests'))} requests of the first {seconds(out.get('warm_up_s'))} and the last "
        blocks.append(Text(f"Latencies leave out {left}{seconds(out.get('cool_down_s'))} of arrivals.", "note"))
    blocks += [Text(warning, "note") for warning in run.summary.get("warnings", [])]
    return Section("Answers", blocks, title(run))


def title(run: Run) -> str:
    """The deployment and its load in a line."""
    deployment, workload = run.config["deployment"], run.config.get("workload", {})
    replicas = deployment.get("num_replicas", 1)
    shape = [
        f"TP {deployment.get('tensor_parallel_size', 1)}",
        f"PP {deployment.get('pipeline_parallel_size', 1)}",
        f"{replicas} replica" + ("s" if replicas != 1 else ""),
    ]
    return (
        f"{deployment.get('model', NOTHING)} on {number(run.figures.get('cost.gpus'))} × "
        f"{deployment.get('device', '')} ({', '.join(shape)}), {deployment.get('scheduler', {}).get('policy', '')}; "
        f"{number(workload.get('num_requests'))} requests of {workload.get('name', 'a workload')} in "
        f"{seconds(run.figures.get('totals.span_s'))}"
    )


def _met(run: Run, found: list[Judged]) -> Card:
    question = "Does it meet its objectives?"
    own = "" if run.summary.get("objectives") else " None were given, so these are Vidur's."
    if not run.num_finished:
        what = f"None of {number(run.figures.get('totals.requests'))} requests finished."
        return Card(question, "Not known", what + own, "unknown")
    missed = [words(one) for one in found if one.met is False]
    match verdict(found):
        case True:
            nearest = max(found, key=lambda one: (one.value or 0.0) / one.limit)
            used = share((nearest.value or 0.0) / nearest.limit)
            return Card(
                question, "Yes", f"All {len(found)}; {words(nearest)} comes closest: {used} of its limit.{own}", "good"
            )
        case False:
            return Card(question, "No", f"{len(missed)} of {len(found)} missed: {', '.join(missed)}.{own}", "bad")
        case _:
            return Card(question, "Not known", f"Nothing was measured for some of them.{own}", "unknown")


def _sure(run: Run, found: list[Judged]) -> Card:
    question = "How sure is that?"
    known: dict[str, Any] = run.summary.get("operator_times") or {}
    measured = known.get("measured")
    basis = "" if measured is None else f"{share(measured)} of the time per iteration comes from measured operators."
    agree = [one.agree for one in found if one.agree is not None]
    if not agree:
        tip = "Simulate with `--replicates 16` to see how far each figure may be off."
        value = NOTHING if measured is None else f"{share(measured)} measured"
        return Card(question, value, f"{basis} {tip}".strip(), "plain", "operator_times.measured", measured)
    same, of = min(agree)
    tone: Tone = "good" if same >= 0.9 * of else "unknown"
    note = f"This many repetitions, their operator times drawn from intervals, agree on every objective. {basis}"
    return Card(question, f"{same} of {of}", note.strip(), tone)


def _next(run: Run) -> Card:
    question = "What next?"
    found = run.summary.get("verdict")
    if not isinstance(found, dict) or "short_of" not in found:
        return Card(question, NOTHING, "This result holds no verdict; simulate again with `--out` to get one.")
    short_of = str(found["short_of"])
    head = "Not saturated" if short_of == "nothing" else f"Short of {short_of}"
    why = str(found.get("sentence", "")).partition(": ")[2]
    advice = ADVICE.get(short_of, "")
    return Card(question, head, f"{why[:1].upper()}{why[1:]} {advice}".strip())


def _objective(one: Judged) -> Card:
    tone: Tone = "unknown" if one.met is None else "good" if one.met else "bad"
    used = "" if one.value is None else f"; {'uses' if one.met else 'is at'} {share(one.value / one.limit)} of it"
    note = f"limit {seconds(one.limit)}{used}"
    if one.agree:
        note += f"; {one.agree[0]} of {one.agree[1]} repetitions agree"
    return Card(words(one), seconds(one.value), note, tone, one.key, one.value, meaning(one.key))


def _card(run: Run, key: str) -> Card:
    value = run.figures[key]
    ends = run.summary.get("replicates", {}).get("intervals", {}).get(key)
    note = "" if ends is None else f"90 %: {interval(key, ends)}"
    return Card(headline(key).label, figure(key, value), note, "plain", key, value, meaning(key))
