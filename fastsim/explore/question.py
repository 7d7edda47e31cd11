"""A question: a deployment, the requests that it serves, and what they must keep to. It is what the page changes."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.documents import Document, short
from fastsim.files.schema import validate, value_of
from fastsim.workload.too_long import check_too_long

REQUESTS = 5000
MOST_REQUESTS = 200_000
ALWAYS = ("model", "device")  # fields that a deployment file names in any case
WORDS = {"rate": float, "users": int, "num_requests": int, "input_len": int, "output_len": int}
OPTIONS = {"input_len": "input-len", "output_len": "output-len", "num_requests": "requests"}
REFUSE = "refuse"
FILE = "deployment.yaml"
PRICE = "prices.dollars_per_hour"  # written as h100=2.1,a100=1.5


@dataclass(frozen=True)
class Question:
    """What the page asks.

    Parameters
    ----------
    settings : mapping of str to object
        The fields of the deployment that differ from their defaults, by dotted name, as JSON has their values.
    workload : str
        A preset, a mix of presets, a description or a file of requests; "" with fixed lengths.
    input_len, output_len : int, optional
        Prompt and output tokens of each request, instead of a workload.
    rate : float, optional
        Mean arrivals per second.
    users : int, optional
        Users who wait for their answers, instead of a rate.
    num_requests : int
        How many requests are simulated. By default 5,000.
    objectives : tuple of str
        What the latencies must keep to.
    too_long : str
        What becomes of requests with more tokens than max_model_len: refuse, drop or clip. By default refuse.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    workload: str = "chat"
    input_len: int | None = None
    output_len: int | None = None
    rate: float | None = None
    users: int | None = None
    num_requests: int = REQUESTS
    objectives: tuple[str, ...] = ()
    too_long: str = REFUSE

    def __post_init__(self) -> None:
        """Put the settings in one order, so that equal questions have equal files and links."""
        order = sorted(self.settings, key=lambda name: (*(name != first for first in ALWAYS), name))
        object.__setattr__(self, "settings", {name: self.settings[name] for name in order})

    @classmethod
    def of(cls, deployment: Deployment, **others: Any) -> Self:
        """The question about a deployment; ``others`` are the other fields."""
        return cls(settings=settings_of(deployment), **others)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """A question from what ``as_dict`` returns. Raises ConfigError for what cannot be one."""
        names = list(cls.__dataclass_fields__)
        for name in given:
            if name not in names:
                raise ConfigError(f"{name}: unknown; {did_you_mean(name, names)}")
        values = dict(given)
        settings, objectives = values.get("settings", {}), values.get("objectives", ())
        if not isinstance(settings, Mapping) or not all(isinstance(name, str) for name in settings):
            raise ConfigError(f"settings: {short(settings)} are no fields of a deployment (e.g. device: h100)")
        if not isinstance(objectives, list | tuple) or not all(isinstance(each, str) for each in objectives):
            raise ConfigError(f"objectives: {short(objectives)} is no list of objectives (e.g. ttft:p90<2s)")
        if not isinstance(values.get("workload", ""), str):
            raise ConfigError(f"workload: {short(values['workload'])} is no name of a workload (e.g. chat)")
        check_too_long(values.get("too_long", REFUSE))
        for name, kind in WORDS.items():
            value = values.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, kind))):
                raise ConfigError(f"{name}: {short(value)} is not a {'whole ' if kind is int else ''}number (e.g. 8)")
        made = cls(**{**values, "settings": dict(settings), "objectives": tuple(objectives)})
        if not 1 <= made.num_requests <= MOST_REQUESTS:
            least = f"{made.num_requests:,} is not a whole number from 1 to {MOST_REQUESTS:,}"
            raise ConfigError(f"num_requests: {least} (e.g. {REQUESTS})")
        return made

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return asdict(self) | {"objectives": list(self.objectives)}

    @property
    def key(self) -> str:
        """A text that is the same for the same question."""
        return json.dumps(self.as_dict(), sort_keys=True)

    @property
    def deployment(self) -> Deployment:
        """The deployment. Raises ConfigError for a field that is not valid."""
        return validate(Deployment, Document(nested(self.settings)))

    def with_settings(self, settings: Mapping[str, Any]) -> "Question":
        """The same question of a deployment with other ``settings``; None takes a setting back to its default."""
        kept = {name: value for name, value in {**self.settings, **settings}.items() if value is not None}
        return replace(self, settings=kept)

    # The forms in which the page copies it

    def yaml(self) -> str:
        """The deployment as a file, whose first line is the command that asks the same."""
        import yaml

        text = yaml.safe_dump(nested(self.settings), sort_keys=False, allow_unicode=True, width=120)
        return f"# {self._simulate(FILE)}\n{text}"

    def command(self) -> str:
        """A shell command that asks the same, without any file but those that the settings name."""
        if any(isinstance(value, dict | list) for value in self.settings.values()):
            import yaml

            text = yaml.safe_dump(nested(self.settings), sort_keys=False, allow_unicode=True, width=120)
            return f"{self._simulate('-')} <<'END'\n{text}END"
        changes = [word for name, value in self.settings.items() for word in ("--set", f"{name}={_text(value)}")]
        return self._simulate(None, changes)

    def _simulate(self, file: str | None, more: list[str] | None = None) -> str:
        words = ["fastsim", "simulate", *([file] if file else [])]
        if self.input_len is None and self.output_len is None:
            words.append(self.workload or "chat")
        for name in ("input_len", "output_len", "rate", "users", "num_requests"):
            value = getattr(self, name)
            if value is not None:
                words += [f"--{OPTIONS.get(name, name)}", _text(value)]
        if self.too_long != REFUSE:
            words += ["--too-long", self.too_long]
        for objective in self.objectives:
            words += ["--slo", objective]
        return shlex.join([*words, *(more or [])])

    def query(self) -> str:
        """The query of a link that opens the page with this question."""
        pairs = [(name, _text(value)) for name, value in self.settings.items()]
        pairs.append(("workload", self.workload))
        for name in WORDS:
            if (value := getattr(self, name)) is not None:
                pairs.append((name, _text(value)))
        if self.too_long != REFUSE:
            pairs.append(("too_long", self.too_long))
        return urlencode([*pairs, *(("slo", each) for each in self.objectives)])

    @classmethod
    def from_query(cls, query: str) -> Self:
        """The question of a link. Raises ConfigError for a link that cannot be read."""
        settings: dict[str, Any] = {}
        values: dict[str, Any] = {"settings": settings, "objectives": []}
        for name, text in parse_qsl(query, keep_blank_values=True):
            if name == "slo":
                values["objectives"].append(text)
            elif name in ("workload", "too_long"):
                values[name] = text
            elif name in WORDS:
                try:
                    values[name] = WORDS[name](text)
                except ValueError:
                    raise ConfigError(f"{name}: {short(text)} is not a number (e.g. 8)") from None
            else:
                settings[name] = value_of(text, is_group=True)
        return cls.read(values)


def settings_of(deployment: Deployment) -> dict[str, Any]:
    """The fields of a deployment that differ from their defaults, by dotted name."""
    values = deployment.model_dump(mode="json", exclude_defaults=True)
    first = {name: getattr(deployment, name) for name in ALWAYS}
    return dict(_flat({**first, **values}))


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted settings as groups within each other. Raises ConfigError for a setting within another's value."""
    made: dict[str, Any] = {}
    for dotted, value in settings.items():
        *groups, name = dotted.split(".")
        inner = made
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{dotted}: {group} has the value {short(inner)} already")
        inner[name] = value
    return made


def _flat(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if f"{within}{name}" == PRICE:
            yield PRICE, ",".join(f"{gpu}={_text(amount)}" for gpu, amount in value.items())
        elif isinstance(value, Mapping) and value and all("." not in key for key in value):
            yield from _flat(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _text(value: Any) -> str:
    """A value as the shell and links have it, which is read as YAML."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str) and value and value_of(value, is_group=True) == value:
        return value
    return json.dumps(value)
