"""The server of the page: on this machine alone, below a token that only the address holds."""

import asyncio
import gc
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from fastsim.errors import ConfigError, FastsimError, InputError
from fastsim.explore import better, page, view
from fastsim.explore.answer import Answers, load_forests
from fastsim.explore.background import Background, curve_of, models_like, second_of, warm
from fastsim.explore.process import keep_memory, reserve
from fastsim.explore.question import Question
from fastsim.planning.load_curve import Curve
from fastsim.predictors.tables.cache import never_wait
from fastsim.report.runs import Run
from fastsim.result.result import Result

HOST = "127.0.0.1"
LATE = 0.5  # s
SAFE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Service:
    """What the handlers share: the first question, answers, and a process for what is simulated beside them."""

    def __init__(self, question: Question, check: Callable[[Question], None]) -> None:
        """``check`` raises ConfigError for a question that may not be asked, such as one that runs Python code."""
        self.question, self.check = question, check
        self.answers = Answers()
        self.background = Background()
        self.ahead = Background()  # builds tables that may be needed next
        self.thread = ThreadPoolExecutor(1)  # one answer at a time
        self._curves: dict[str, Curve | str] = {}  # by question without its load

    def prepare(self) -> None:
        """Answer the first question before the page asks it; what that imports and draws is kept for good."""
        keep_memory()
        never_wait()  # for the processes beside, which build the same tables with less of the cores
        self.thread.submit(self._prepare)
        for each in (self.background, self.ahead):
            each.begin()

    def _prepare(self) -> None:
        with suppress(FastsimError):  # the page asks again, and says it
            asked = {"question": self.question.as_dict()}
            self._answer(asked)
            self._figures(asked)
        gc.collect()
        gc.freeze()  # a collection that looks at all modules takes longer than an answer
        steps = [partial(load_forests, self.question.with_settings({"device": name})) for name in page.GPUS]
        self._make_ready([*steps, *reserve()])

    def _make_ready(self, steps: Sequence[Callable[[], None]]) -> None:
        """Do one by one, with answers in between, what would make the answers that need it first late."""
        if steps:
            steps[0]()
            self.thread.submit(self._make_ready, steps[1:])

    def forget(self) -> None:
        """Leave out what is simulated beside the answers and has not begun."""
        self.background.forget()
        self.ahead.forget()

    def close(self) -> None:
        """End the processes."""
        self.background.close()
        self.ahead.close()

    async def answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a question, as the page shows it first."""
        return await self._alone(self._answer, asked)

    async def figures(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The figures of an answer."""
        return await self._alone(self._figures, asked)

    async def _alone(
        self, work: Callable[[Mapping[str, Any]], dict[str, Any]], asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Do some work while the processes beside stand still, unless it takes long."""
        loop = asyncio.get_running_loop()
        for each in (self.background, self.ahead):
            each.pause()
        late = loop.call_later(LATE, self._resume)  # it may wait for what one of them compiles
        try:
            return await loop.run_in_executor(self.thread, work, asked)
        finally:
            late.cancel()
            self._resume()

    def _resume(self) -> None:
        for each in (self.background, self.ahead):
            each.resume()

    def _figures(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        runs = self._runs(asked, self.answers.of(self._read(asked, "question")), True)
        return {"sections": view.as_json(view.sections(runs), _opened(asked), _known(asked))}

    def _runs(self, asked: Mapping[str, Any], result: Result, detail: bool) -> list[Run]:
        pinned = self.answers.of(self._read(asked, "pinned")) if asked.get("pinned") else None
        return view.runs_of(result, pinned, detail)

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        question = self._read(asked, "question")
        result = self.answers.of(question)
        runs = self._runs(asked, result, False)
        return {
            "headline": view.headline(runs),
            "verdict": page.verdict(runs[0]),
            "defaults": page.defaults(result),
            "warnings": result.summary["warnings"],
            "subject": page.subject(result),
            "copies": page.copies(question),
        }

    async def second(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The batches of a second of the run, by default that in which most requests wait."""
        given = asked.get("second")
        question = self._read(asked, "question")
        figure, begin = await self.background.do(second_of, question, None if given is None else float(given))
        return {"sections": view.as_json({view.SECOND: [("", figure)]}, {}, _known(asked)), "second": begin}

    async def loads(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The figures of latency and cost against load, or why there are none."""
        question = self._read(asked, "question")
        key = replace(question, rate=None, users=None if question.users is None else 1, num_requests=1).key
        if key not in self._curves:
            self._curves[key] = await self.background.do(curve_of, question)
        found = self._curves[key]
        if isinstance(found, str):
            return {"sections": [], "note": found}
        return {"sections": view.as_json(view.loads(found, question), _opened(asked), _known(asked)), "note": ""}

    async def better(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The nearest better configurations."""
        question = self._read(asked, "question")
        now = await self.background.do(better.judge, question)
        if now is None:
            return {"better": []}
        tried = []
        for each in better.neighbours(question):
            tried.append((each, await self.background.do(better.judge, question.with_settings(each.settings))))
        found = better.better(question, now, tried)
        return {"better": [{"text": each.text, "question": each.question.as_dict()} for each in found]}

    async def warm(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Build the tables of what may be asked next."""
        question = self._read(asked, "question")
        for each in better.nearby(question, page.next_settings(question)):
            await self.ahead.do(warm, each)
        for name in await self.ahead.do(models_like, question):
            await self.ahead.do(warm, replace(question.with_settings({"model": name}), num_requests=1))
        return {}

    def _read(self, asked: Mapping[str, Any], name: str) -> Question:
        question = Question.read(asked[name])
        self.check(question)
        return question


def _opened(asked: Mapping[str, Any]) -> Mapping[str, str]:
    return dict(asked.get("opened", {}))


def _known(asked: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(asked.get("known", ()))


class _Handler(RequestHandler):  # type: ignore[misc]  # tornado's types are not followed
    service: Service

    def initialize(self, service: Service) -> None:
        self.service = service

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in SAFE.items():
            self.set_header(name, value)


class _Page(_Handler):
    def get(self) -> None:
        query, problem = self.request.query, ""
        question = self.service.question
        try:
            question = Question.from_query(query) if query else question
            self.service.check(question)
        except FastsimError as error:
            question, problem = self.service.question, str(error)
        self.finish(page.html(question, problem))


class _File(_Handler):
    def get(self, name: str) -> None:
        self.set_header("Content-Type", f"text/{'css' if name.endswith('.css') else 'javascript'}; charset=utf-8")
        self.set_header("Cache-Control", "max-age=3600")
        self.finish(page.file(name))


class _Ask(_Handler):
    """Answers a POST of JSON with JSON; what is wrong with a question is said in a sentence."""

    async def post(self, what: str) -> None:
        if what == "answer":
            self.service.forget()
        try:
            asked = json.loads(self.request.body)
            if not isinstance(asked, dict) or not isinstance(asked.get("question"), dict):
                raise ConfigError("question: missing; send a JSON object with the question")
            found = await getattr(self.service, what)(asked)
        except InputError as error:
            found = {"error": str(error)}
        except (ValueError, TypeError) as error:
            found = {"error": f"the question cannot be read: {error}"}
        except asyncio.CancelledError:
            found = {"left_out": True}
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(found, allow_nan=False))


class Server:
    """A page that is served until the process ends.

    Parameters
    ----------
    question : Question
        What the page asks first.
    check : callable
        A function that raises ConfigError for a question that may not be asked.
    port : int
        The port; 0 for one that is free.

    Raises
    ------
    ConfigError
        The port is taken, or may not be used.
    """

    def __init__(self, question: Question, check: Callable[[Question], None] = lambda question: None, port: int = 0):
        try:
            sockets = bind_sockets(port, HOST)
        except OSError as problem:
            raise ConfigError(f"--port {port}: {problem.strerror}; 0 takes one that is free") from None
        except OverflowError:
            raise ConfigError(f"--port {port}: not a port from 0 to 65535 (e.g. 5006)") from None
        self.service = Service(question, check)
        token = secrets.token_urlsafe(18)
        about = {"service": self.service}
        application = Application(
            [
                (rf"/{token}/", _Page, about),
                (rf"/{token}/files/([a-z.]+)", _File, about),
                (rf"/{token}/(answer|better|figures|loads|second|warm)", _Ask, about),
            ],
            log_function=lambda handler: None,
        )
        self.service.prepare()
        HTTPServer(application, max_body_size=2**20).add_sockets(sockets)
        self.base = f"http://{HOST}:{sockets[0].getsockname()[1]}/{token}/"

    @property
    def address(self) -> str:
        """The address of the page with its first question."""
        return f"{self.base}?{self.service.question.query()}"

    def run(self) -> None:
        """Serve until a signal ends the process."""
        try:
            IOLoop.current().start()
        finally:
            self.service.close()
