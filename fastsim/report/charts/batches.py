"""The sizes of batches, and what engines preempt and find cached, over the time of a run."""

from collections.abc import Sequence

from fastsim.report.page.page import Block, Figure, Tabs, Text
from fastsim.report.page.picture import Bars, Layer, Line, Picture
from fastsim.report.runs import Batches, Run
from fastsim.result import wording


def composition(runs: Sequence[Run]) -> Block:
    """Return tabs with the sizes of batches, and for older results with KV memory and busy stages over time."""
    known = [(run, run.detail.batches) for run in runs if run.detail and run.detail.batches]
    if not known:
        return Text("The result holds no batches; simulate with `--iterations` to see them.")
    several = len(runs) > 1
    others = [run.name for run in runs if all(run is not other for other, _ in known)]
    missing = f" Not in the results {', '.join(others)}." if others else ""
    tabs: list[tuple[str, Sequence[Block]]] = []
    for name, label, which in (
        ("Requests", "requests in a batch", "sizes"),
        ("Decode tokens", "decode tokens in a batch", "decode"),
        ("Prompt tokens", "prompt tokens in a batch that has any", "prefill"),
    ):
        layers: list[Layer] = []
        for run, kept in known:
            at, counts = getattr(kept, which)
            if several:
                layers.append(Line(at[:-1], counts / max(1.0, counts.sum()), run.name, run.number, step=True))
            else:
                layers.append(Bars(at[:-1], at[1:], counts, 0, "batches"))
        plot = Picture(label, "share of batches" if several else "batches", layers, y_range="from zero")
        tabs.append((name, [Figure(plot, f"Batches by number of {label.partition(' in a')[0]}.{missing}")]))
    # The series of the summary show this for every run; these tabs are for results that have none.
    ours = (
        ("KV memory", "KV blocks held", "Most KV blocks held by a replica when a batch starts"),
        ("Busy", "share of busy stages", "Share of busy pipeline stages"),
    )
    for name, label, what in () if any(run.summary.get("series") for run in runs) else ours:
        layers = []
        for run, kept in known:
            at, values = kept.kv.edges, kept.kv.high if name == "KV memory" else kept.busy
            layers.append(Line((at[1:] + at[:-1]) / 2, values, run.name if several else "", run.number))
        plot = Picture("time in s", label, layers, y_range="from zero")
        tabs.append((name, [Figure(plot, f"{what}, in equal parts of the run.{missing}")]))
    return Tabs([*tabs, *_engine(known)])


def _engine(known: Sequence[tuple[Run, Batches]]) -> list[tuple[str, Sequence[Block]]]:
    """Tabs with preemptions and cached tokens over time, where a run of an engine has any."""
    tabs: list[tuple[str, Sequence[Block]]] = []
    words = wording.of(*(run.config for run, _ in known))
    for name, label, what, which in (
        (
            words.losses.capitalize(),
            f"requests {words.lost}",
            "Requests that lost their KV blocks to others",
            "preempted",
        ),
        ("Cached tokens", "cached tokens", f"Tokens that admitted requests found in the {words.cache}", "cached"),
    ):
        drawn = [(run, kept, values) for run, kept in known if (values := getattr(kept, which)) is not None]
        drawn = [each for each in drawn if each[2].any()]
        if not drawn:
            continue
        layers: list[Layer] = []
        for run, kept, values in drawn:
            at = kept.kv.edges
            layers.append(Line((at[1:] + at[:-1]) / 2, values, run.name if len(known) > 1 else "", run.number))
        plot = Picture("time in s", label, layers, y_range="from zero")
        tabs.append((name, [Figure(plot, f"{what}, in equal parts of the run.")]))
    return tabs
