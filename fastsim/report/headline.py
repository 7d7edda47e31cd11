"""The first section of a page: does the run meet its objectives, how certain is that, and what to try next."""

from typing import Any, NamedTuple

from fastsim.report.page.page import Block, Card, Cards, Section, Text, Tone
from fastsim.report.runs import Run
from fastsim.report.words import NOTHING, figure, interval, meaning, number, seconds, share, statistic
from fastsim.report.words import title as title_of
from fastsim.result.kinds import hardware
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
    "cache.token_hit_rate",
    "cost.dollars_per_million_output_tokens",
)

# What to try, by the limit that the verdict names (fastsim/result/metrics/verdict.py).
ADVICE = {
    "nothing": "`fastsim capacity` finds how much more load the deployment can take.",
    "compute": "Try more GPUs per replica, a faster GPU, lower precision, or smaller chunks.",
    "bandwidth": "Try more GPUs per replica, a GPU with more bandwidth, or weights of lower precision.",
    "KV memory": "Try more GPUs per replica, a GPU with more memory, or `kv_cache_dtype: fp8`.",
    "batch slots": "Try a larger `max_num_seqs` (SGLang: `max_running_requests`), or more tokens per batch.",
    "replicas": "Try more replicas.",
}


class Judged(NamedTuple):
    """An objective, and whether a run meets it."""

    text: str
    key: str  # dotted key of the latency in summary.json
    value: float | None  # s
    limit: float  # s
    met: bool | None
    agree: tuple[int, int] | None  # number of replicates with the same outcome, and number of all replicates


def judged(run: Run) -> list[Judged]:
    """Judge a run by its objectives, or by Vidur's if it has none."""
    own = [objectives.parse(text) for text in run.summary.get("objectives", {})]
    return [_judge(objective, run) for objective in own or objectives.DEFAULTS]


def _judge(objective: objectives.Objective, run: Run) -> Judged:
    """Judge a run and its replicates by one objective."""
    key = f"latency.{objective.metric}.{objective.statistic}"
    value, agree = run.figures.get(key), None
    met = objectives.holds(objective, value)
    if value is not None and (drawn := run.summary.get("replicates", {}).get("values", {}).get(key)):
        agree = sum(objectives.holds(objective, other) == met for other in drawn), len(drawn)
    return Judged(str(objective), key, value, objective.limit, met, agree)


def verdict(outcomes: list[Judged]) -> bool | None:
    """Return whether all objectives are met, or None if that is not known."""
    if any(outcome.met is False for outcome in outcomes):
        return False
    return None if any(outcome.met is None for outcome in outcomes) else True


def words(objective: Judged) -> str:
    """Return the latency of an objective as a heading: TTFT P90."""
    _, metric, stat = objective.key.split(".")
    return f"{title_of(metric)} {statistic(stat)}"


def answers(run: Run) -> Section:
    """Return the first section of a page about one run: answers, objectives, headline figures and warnings."""
    outcomes = judged(run)
    blocks: list[Block] = [Cards([_met(run, outcomes), _sure(run, outcomes), _next(run)], wide=True)]
    blocks.append(Cards([_objective(outcome) for outcome in outcomes]))
    blocks.append(Cards([_card(run, key) for key in KEY_FIGURES if key in run.figures]))
    if out := run.summary.get("excluded"):
        first, last = seconds(out.get("warm_up_s")), seconds(out.get("cool_down_s"))
        which = f"{number(out.get('requests'))} requests that arrive in the first {first} or the last {last}"
        blocks.append(Text(f"Latencies exclude {which}.", "note"))
    blocks += [Text(warning, "note") for warning in run.summary.get("warnings", [])]
    return Section("Answers", blocks, title(run))


def title(run: Run) -> str:
    """Return the deployment and its workload in a line."""
    deployment, workload = run.config["deployment"], run.config.get("workload", {})
    runs = deployment.get("engine") or deployment.get("scheduler", {}).get("policy", "")
    return (
        f"{deployment.get('model', NOTHING)} on "
        f"{hardware(deployment, number(run.figures.get('cost.gpus')), chr(215))}, {runs}; "
        f"{number(workload.get('num_requests'))} requests of {workload.get('name', 'a workload')} in "
        f"{seconds(run.figures.get('totals.span_s'))}"
    )


def _met(run: Run, outcomes: list[Judged]) -> Card:
    """Whether the run meets its objectives, and which come closest or are missed."""
    question = "Does it meet its objectives?"
    own = "" if run.summary.get("objectives") else " No objectives were given, so Vidur's apply."
    if not run.num_finished:
        what = f"None of {number(run.figures.get('totals.requests'))} requests finished."
        return Card(question, "Not known", what + own, "unknown")
    missed = [words(outcome) for outcome in outcomes if outcome.met is False]
    match verdict(outcomes):
        case True:
            nearest = max(outcomes, key=lambda outcome: (outcome.value or 0.0) / outcome.limit)
            used = share((nearest.value or 0.0) / nearest.limit)
            return Card(
                question,
                "Yes",
                f"All {len(outcomes)} are met; {words(nearest)} is closest to its limit, at {used}.{own}",
                "good",
            )
        case False:
            return Card(
                question, "No", f"{len(missed)} of {len(outcomes)} are missed: {', '.join(missed)}.{own}", "bad"
            )
        case _:
            return Card(question, "Not known", f"Some of the latencies were not measured.{own}", "unknown")


def _sure(run: Run, outcomes: list[Judged]) -> Card:
    """How certain the answer is: replicates that agree, and the share of measured operator times."""
    question = "How certain is that?"
    known: dict[str, Any] = run.summary.get("operator_times") or {}
    measured = known.get("measured")
    basis = "" if measured is None else f"Measured operators account for {share(measured)} of the time per iteration."
    agree = [outcome.agree for outcome in outcomes if outcome.agree is not None]
    if not agree:
        tip = "Simulate with `--replicates 16` to get an interval for each figure."
        value = NOTHING if measured is None else f"{share(measured)} measured"
        return Card(question, value, f"{basis} {tip}".strip(), "plain", "operator_times.measured", measured)
    same, of = min(agree)
    tone: Tone = "good" if same >= 0.9 * of else "unknown"
    note = f"Replicates with resampled operator times that agree on every objective. {basis}"
    return Card(question, f"{same} of {of}", note.strip(), tone)


def _next(run: Run) -> Card:
    """What the deployment is short of, and what to try next."""
    question = "What to try next?"
    section = run.summary.get("verdict")
    if not isinstance(section, dict) or "short_of" not in section:
        return Card(question, NOTHING, "The result holds no verdict; simulate again with `--out` to get one.")
    short_of = str(section["short_of"])
    head = "Not saturated" if short_of == "nothing" else f"Short of {short_of}"
    why = str(section.get("sentence", "")).partition(": ")[2]
    advice = ADVICE.get(short_of, "")
    return Card(question, head, f"{why[:1].upper()}{why[1:]} {advice}".strip())


def _objective(outcome: Judged) -> Card:
    """One objective: the latency, its limit, and how many replicates agree."""
    tone: Tone = "unknown" if outcome.met is None else "good" if outcome.met else "bad"
    used = "" if outcome.value is None else f", of which this is {share(outcome.value / outcome.limit)}"
    note = f"limit {seconds(outcome.limit)}{used}"
    if outcome.agree:
        note += f"; {outcome.agree[0]} of {outcome.agree[1]} replicates agree"
    return Card(words(outcome), seconds(outcome.value), note, tone, outcome.key, outcome.value, meaning(outcome.key))


def _card(run: Run, key: str) -> Card:
    """One headline figure, with its 90 % interval if it has one."""
    value = run.figures[key]
    ends = run.summary.get("replicates", {}).get("intervals", {}).get(key)
    note = "" if ends is None else f"90 % interval: {interval(key, ends)}"
    return Card(headline(key).label, figure(key, value), note, "plain", key, value, meaning(key))
