"""One grammar: DEPLOYMENT and WORKLOAD in that order or another, and options that mean the same everywhere."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fastsim.cli import COMMANDS, cli, run, spaces
from fastsim.cli.requests import subject
from fastsim.errors import ConfigError

DEPLOYMENT = "model: meta-llama/Llama-3.1-8B\ndevice: h100\n"
REQUESTS = "arrived_at,num_prompt_tokens,num_output_tokens\n0,100,20\n0.5,200,30\n"
# Options that mean the same wherever they are, and commands where a word of the help has to differ.
SAME = (
    "--input-len",
    "--output-len",
    "--concurrency",
    "--duration",
    "--json",
    "--quiet",
    "--set",
    "--slo",
    "--policies",
)
OTHER = {("--set", "sweep"), ("--set", "search")}  # of the deployment in SPACE


def every() -> list[tuple[str, click.Command]]:
    """All commands by name, with those of groups."""
    found: list[tuple[str, click.Command]] = []
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        inner = command.commands.items() if isinstance(command, click.Group) else ()
        found += [(f"{name} {below}", each) for below, each in inner] or [(name, command)]
    return found


def test_an_option_means_the_same_in_every_command() -> None:
    meanings: dict[str, set[str]] = {}
    for name, command in every():
        for option in command.params:
            if isinstance(option, click.Option):
                for word in set(option.opts) & set(SAME):
                    if (word, name) not in OTHER:
                        meanings.setdefault(word, set()).add(str(option.help))
    assert meanings.keys() == set(SAME)
    assert {word: found for word, found in meanings.items() if len(found) > 1} == {}


def test_every_command_that_answers_can_be_quiet() -> None:
    without = {name for name, command in every() if not any("--quiet" in option.opts for option in command.params)}
    assert without == {"result wandb", "manual", "schema", "completion", "explore"}


@pytest.mark.parametrize(
    ("given", "named", "deployments", "workload"),
    [
        ((), None, (), None),
        (("d.yaml",), None, ("d.yaml",), None),
        (("chat",), None, (), "chat"),
        (("d.yaml", "chat"), None, ("d.yaml",), "chat"),
        (("chat", "d.yaml"), None, ("d.yaml",), "chat"),
        (("r.csv", "d.yaml"), None, ("d.yaml",), "r.csv"),
        (("w.yaml", "d.yaml"), None, ("d.yaml",), "w.yaml"),
        (("d.yaml",), "chat", ("d.yaml",), "chat"),
        (("-", "r.csv"), None, ("-",), "r.csv"),
        (("d.yaml", "-"), None, ("d.yaml",), "-"),
    ],
)
def test_a_workload_is_known_wherever_it_stands(
    given: tuple[str, ...],
    named: str | None,
    deployments: tuple[str, ...],
    workload: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.yaml").write_text(DEPLOYMENT)
    Path("r.csv").write_text(REQUESTS)
    Path("w.yaml").write_text("lengths: {kind: fixed, num_prompt_tokens: 9, num_output_tokens: 9}\n")
    about = subject(given, named)
    assert (about.deployments, about.workload) == (deployments, workload)


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        (("chat", "code"), None, "two workloads, 'chat' and 'code'"),
        (("chat",), "code", "two workloads, 'chat' and 'code'"),
        (("device=h200", "chat"), None, "is a setting of the deployment; give it as --set device=h200"),
        (("cht",), None, "cht: neither a file that describes a deployment nor a preset; did you mean 'chat'?"),
    ],
)
def test_what_is_no_deployment_is_refused(given: tuple[str, ...], named: str | None, said: str) -> None:
    with pytest.raises((ConfigError, click.UsageError)) as told:
        subject(given, named)
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("simulate", "code", "--slo", "ttft:p90<1s"), 0),
        (("simulate", "code", "--slo", "ttft:p90<1ms"), 1),
        (("capacity", "chat", "--slo", "ttft:p90<1ms", "--replicates", "0", "--tolerance", "0.5"), 1),
        (("capacity", "--input-len", "64", "--output-len", "2", "--rate", "1e6", "--tolerance", "0.5"), 1),
        (("fleet", "chat", "--rate", "2", "--gpu", "h100", "--slo", "ttft:p90<1ms", "--replicates", "0"), 1),
        (("simulate", "chat"), 2),
    ],
)
def test_check_tells_whether_objectives_are_met(
    arguments: tuple[str, ...], code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*arguments, "--requests", "60", "--check", "--quiet"]) == code
    said = capfd.readouterr().err.strip().splitlines()
    assert len(said) == (code > 0) or code == 2, said


def test_quiet_leaves_the_answer_only(tmp_path: Path) -> None:
    def said(*words: str) -> tuple[str, str]:
        done = CliRunner().invoke(cli, ["simulate", *words, "--requests", "20"], catch_exceptions=False)
        return done.stdout, done.stderr

    out, noted = str(tmp_path / "run"), ["--set", "device=l20", "--set", "model=Qwen2.5-7B"]
    assert "Written to" in said("--out", out)[0] and said(*noted)[1]
    shown, notes = said(*noted, "--quiet", "--out", out)
    assert notes == "" and "Written to" not in shown and shown.endswith("ms\n")


NOTHING = {"input_len": None, "output_len": None, "seed": None, "overrides": (), "prices": None, "price": None}


def test_options_take_the_place_of_what_a_space_says(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("deployment: {model: Qwen2.5-7B}\nworkload: {source: code, rate: 2}\naxes: {device: [h100]}\n")
    (tmp_path / "r.csv").write_text(REQUESTS)

    def of(workload: str | None = None, **given: object) -> tuple[object, object]:
        base = spaces.read(str(file), False, workload, None, **{**NOTHING, **given}).base  # type: ignore[arg-type]
        return base.workload, base.document.values

    assert of()[0] == {"source": "code", "rate": 2}
    assert of("chat=70,code=30", rate=3.0)[0] == {"source": "chat=70,code=30", "rate": 3.0}
    assert of(str(tmp_path / "r.csv"))[0] == {"source": str(tmp_path / "r.csv"), "rate": 2}
    fixed, deployed = of(input_len=9, output_len=5, seed=4, price="h100=2")
    assert isinstance(fixed, dict) and fixed["source"]["lengths"]["num_output_tokens"] == 5
    assert deployed == {"model": "Qwen2.5-7B", "seed": 4, "prices": {"dollars_per_hour": "h100=2"}}
    with pytest.raises(ConfigError, match="device is one of its axes; leave it out there, or here"):
        of(overrides=("device=a100",))
    with pytest.raises(click.UsageError, match="two workloads"):
        spaces.read(str(file), False, "chat", "code", **NOTHING)  # type: ignore[arg-type]
