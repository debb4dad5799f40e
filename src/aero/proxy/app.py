"""The routes: what the OpenAI API has of them, and how they reach the private session.

GET  /v1/models                the one model         GET /health    whether the private server is there
POST /v1/completions           a text goes on        GET /metrics   for Prometheus
POST /v1/chat/completions      a conversation        GET /          a chat in the browser
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from aero.data.tokenizer import Tokenizer
from aero.proxy.answers import Choice, ResponseFrame, Shown, Spent, cost_json, guesses_json
from aero.proxy.batcher import RETRY_AFTER, AwayError, Batcher, BusyError, Job, SeenRun
from aero.proxy.guard import Guard
from aero.proxy.metrics import ProxyMetrics
from aero.proxy.requests import ApiError, Chat, Completion, RequestOptions
from aero.serve.chat import Template
from aero.serve.client import PrivateRun, PrivateToken
from aero.serve.session import DeclinedError
from aero.wire import PeerBusyError, one_line

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 4 << 20
PAGE = Path(__file__).with_name("page")
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Prompt:
    """What is to be continued. ids: its tokens; text: as it is echoed."""

    ids: tuple[int, ...]
    text: str


@dataclass
class _Event:
    """What the session says of one choice: a token, or why there are no more."""

    choice: int
    session: int
    token: PrivateToken | None = None
    finish: str | None = None
    error: Exception | None = None


class Endpoint:
    """The endpoint over a batcher that has started. model: the name that programs ask for; template: of its chats."""

    def __init__(self, batcher: Batcher, tokenizer: Tokenizer, model: str, template: Template, guard: Guard) -> None:
        self._batcher, self._tokenizer, self._model, self._template = batcher, tokenizer, model, template
        self._guard, self._metrics = guard, ProxyMetrics(batcher)
        batcher.on_run.append(self._metrics.ran)
        batcher.on_open.append(self._metrics.opened)
        self._metrics.opened()  # the first session, which the batcher has started with

    def app(self) -> Starlette:
        """For an ASGI server. The batcher is closed with it."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            await asyncio.to_thread(self._batcher.close)

        routes = [
            self._route("/v1/models", self._models),
            self._route("/v1/models/{name:path}", self._one_model),
            self._route("/v1/completions", self._completions, "POST"),
            self._route("/v1/chat/completions", self._chats, "POST"),
            self._route("/v1/x_aero/runs", self._runs),
            self._route("/health", self._health),
            self._route("/metrics", self._metrics_page),
            self._route("/", self._page),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]
        cors = Middleware(
            CORSMiddleware, allow_origins=sorted(self._guard.origins), allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )  # fmt: skip
        return Starlette(
            routes=routes, middleware=[cors], lifespan=lifespan,
            exception_handlers={404: _not_found, 405: _not_found},
        )  # fmt: skip

    def _route(self, path: str, route: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        """A route, guarded; errors as the API tells them."""

        async def answer(request: Request) -> Response:
            try:
                self._guard.check(request)
                response = await route(request)
            except ApiError as error:
                headers = None if error.retry_after is None else {"Retry-After": str(error.retry_after)}
                response = JSONResponse(error.body, error.status, headers)
            self._metrics.answered(path, response.status_code)
            return response

        return Route(path, answer, methods=[method])

    # Routes

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model_card()]})

    async def _one_model(self, request: Request) -> Response:
        self._check_model(request.path_params["name"])
        return JSONResponse(self._model_card())

    def _model_card(self) -> dict[str, Any]:
        offer = self._batcher.offer
        about = {"notation": offer.notation, "context": offer.context, "engine": offer.engine, "reveal": offer.reveal}
        return {"id": self._model, "object": "model", "created": 0, "owned_by": "aero", "x_aero": about}

    async def _runs(self, _: Request) -> Response:
        """The last runs as the server saw them, for whoever wants to show it."""
        return JSONResponse({"runs": [_seen(seen) for seen in list(self._batcher.seen)]})

    async def _health(self, _: Request) -> Response:
        away = self._batcher.away
        return JSONResponse({"status": "the private server is away" if away else "ok"}, 503 if away else 200)

    async def _metrics_page(self, _: Request) -> Response:
        return Response(self._metrics.page(), media_type=self._metrics.content_type)

    async def _page(self, _: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)

    async def _completions(self, request: Request) -> Response:
        asked = Completion.read(await _json(request))
        self._check(asked.wanted)
        prompts = [self._prompt(prompt) for prompt in asked.prompts]
        return await self._answer(request, asked.wanted, prompts, echo=asked.echo, chat=False)

    async def _chats(self, request: Request) -> Response:
        asked = Chat.read(await _json(request))
        self._check(asked.wanted)
        try:
            ids = await asyncio.to_thread(self._template.ids, asked.messages)
        except ValueError as error:
            raise ApiError(str(error), param="messages") from None
        prompt = Prompt(tuple(ids), "")
        return await self._answer(request, asked.wanted, [prompt], stop=self._template.stop, chat=True)

    # What is asked for

    def _check(self, wanted: RequestOptions) -> None:
        self._check_model(wanted.model)
        if wanted.logprobs is not None and self._batcher.offer.revealed.k is not None:
            raise ApiError(
                f"the server reveals {self._batcher.offer.revealed.described} of each output, which gives no "
                "probabilities; leave logprobs out",
                param="logprobs",
                code="unsupported_value",
            )

    def _check_model(self, name: str) -> None:
        if name != self._model:
            raise ApiError(
                f"the model {name[:80]!r} does not exist here; there is {self._model!r}",
                status=404, param="model", code="model_not_found",
            )  # fmt: skip

    def _prompt(self, given: str | tuple[int, ...]) -> Prompt:
        if isinstance(given, str):
            try:
                return Prompt(tuple(self._tokenizer.encode_prompt(given)), given)
            except ValueError as error:
                raise ApiError(str(error), param="prompt") from None
        try:
            return Prompt(given, self._tokenizer.decode(given))
        except ValueError as error:
            raise ApiError(str(error), param="prompt") from None

    def _new_tokens(self, wanted: RequestOptions, prompt: Prompt) -> int:
        """How many may follow. ApiError where they do not fit."""
        context = self._batcher.offer.context
        room = context - len(prompt.ids) + 1  # the last token is never read
        if not prompt.ids:
            raise ApiError("the prompt is empty; give at least one token of text", param="prompt")
        wish = wanted.max_tokens
        if room < 1 or (wish is not None and wish > room):
            raise ApiError(
                f"this model's context is {context} tokens; the prompt has {len(prompt.ids)}"
                + ("" if wish is None else f", and {wish} new ones are asked for"),
                status=413, param="prompt", code="context_length_exceeded",
            )  # fmt: skip
        return room if wish is None else wish

    # Answering

    async def _answer(
        self,
        request: Request,
        wanted: RequestOptions,
        prompts: Sequence[Prompt],
        *,
        chat: bool,
        echo: bool = False,
        stop: Sequence[str] = (),
    ) -> Response:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[_Event]()
        jobs, choices = [], []
        for place, prompt in enumerate(prompts):
            count = self._new_tokens(wanted, prompt)
            for number in range(wanted.n):
                choice = Choice(place * wanted.n + number)
                choices.append(choice)
                job = self._job(choice, prompt, count, wanted, number, stop, echo, loop, events)
                if job is not None:
                    jobs.append(job)
        try:
            self._batcher.submit(*jobs)
        except BusyError as error:
            raise ApiError(
                str(error), status=429, type="rate_limit_error", code="queue_full", retry_after=RETRY_AFTER
            ) from None
        except AwayError as error:
            raise _away(error) from None
        answer = ResponseFrame(chat, self._model, self._tokenizer, wanted.logprobs)
        prompt_tokens = sum(len(prompt.ids) for prompt in prompts)
        growing = _Growing(choices, jobs, events, echo, self._metrics.chosen)
        if wanted.stream:
            first = await growing.first(request)
            pieces = self._pieces(growing, first, answer, wanted, prompt_tokens)
            return StreamingResponse(pieces, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        await growing.all(request)
        return JSONResponse(answer.whole(choices, prompt_tokens, growing.new_tokens, growing.spent))

    def _job(
        self,
        choice: Choice,
        prompt: Prompt,
        count: int,
        wanted: RequestOptions,
        number: int,
        stop: Sequence[str],
        echo: bool,
        loop: asyncio.AbstractEventLoop,
        events: asyncio.Queue[_Event],
    ) -> Job | None:
        """None where nothing has to be computed. An echo with log-probabilities is read token by token, so that the
        logits of each are learnt."""
        scored = echo and wanted.logprobs is not None
        if echo:
            choice.text = prompt.text
            choice.tokens = [(prompt.ids[0], None)] if scored else []
        ids, given = (prompt.ids[:1], prompt.ids[1:]) if scored else (prompt.ids, ())
        if count == 0 and not given:
            choice.finish = "length"
            return None

        def say(event: _Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        return Job(
            ids=ids,
            max_new_tokens=count,
            deliver=lambda token, finish: say(_Event(choice.index, self._batcher.sessions, token, finish)),
            failed=lambda error: say(_Event(choice.index, self._batcher.sessions, error=error)),
            sampling=wanted.sampling(number, self._batcher.offer.revealed),
            stop=(*wanted.stop, *stop),
            given=given,
        )

    async def _pieces(
        self, growing: _Growing, first: _Event | None, answer: ResponseFrame, wanted: RequestOptions, prompt_tokens: int
    ) -> AsyncIterator[bytes]:
        """Server-sent events: each token as it comes."""
        try:
            for choice in growing.choices:
                if answer.chat:
                    yield _sse(answer.opening(choice.index))
                elif choice.text or choice.tokens or choice.finish:
                    yield _sse(answer.chunk(choice.index, choice.text, choice.tokens, choice.finish))
            event = first
            while event is not None:
                if event.error is not None:
                    yield _sse(_api_error(event.error).body)
                    return
                assert event.token is not None
                text, shown = growing.take(event)
                run = event.token.run
                cost = {"run": _number(event.session, run), "work": run.work, "prompts": len(run.steps)}
                cost |= guesses_json([run])
                cost |= cost_json(run.cost, len(run.steps)) | {"set_up": cost_json(run.set_up, len(run.steps))}
                yield _sse(answer.chunk(event.choice, text, [shown], event.finish, x_aero=cost))
                event = await growing.next()
            if wanted.include_usage:
                yield _sse(answer.closing(prompt_tokens, growing.new_tokens, growing.spent))
            yield b"data: [DONE]\n\n"
        finally:
            growing.cancel()  # of a client that hung up


class _Growing:
    """The choices of one request while they grow."""

    def __init__(
        self,
        choices: Sequence[Choice],
        jobs: Sequence[Job],
        events: asyncio.Queue[_Event],
        echo: bool,
        on_chosen: Callable[[], None],
    ) -> None:
        self.choices, self.spent, self.new_tokens = choices, Spent(), 0
        self._jobs, self._events, self._left, self._on_chosen = jobs, events, len(jobs), on_chosen
        self._given = {choice: len(job.given) for choice, job in zip(_places(choices), jobs, strict=True)}

    async def next(self) -> _Event | None:
        """The next event, or None when all have ended."""
        return await self._events.get() if self._left else None

    async def first(self, request: Request) -> _Event | None:
        """The first event, before a stream begins: what fails by then still has a status of its own."""
        event = await self._while_connected(request)
        if event is not None and event.error is not None:
            self.cancel()
            raise _api_error(event.error)
        return event

    async def all(self, request: Request) -> None:
        """Until all have ended. ApiError where one fails, and nothing more is computed for a program that hung up."""
        while (event := await self.first(request)) is not None:
            self.take(event)

    def take(self, event: _Event) -> tuple[str, Shown]:
        """Count a token; gives the text that it adds, and what is shown of it."""
        token, choice = event.token, self.choices[event.choice]
        assert token is not None
        self.spent.add(token)
        shown = token.id, token.logits
        choice.tokens.append(shown)
        if self._given[event.choice]:
            self._given[event.choice] -= 1  # of the prompt, whose text stands there already
            text = ""
        else:
            self.new_tokens += 1
            self._on_chosen()
            text = token.text
        choice.text += text
        if event.finish is not None:
            choice.finish = event.finish
            self._left -= 1
        return text, shown

    def cancel(self) -> None:
        for job in self._jobs:
            job.cancel()

    async def _while_connected(self, request: Request) -> _Event | None:
        waiting = asyncio.ensure_future(self.next())
        while True:
            done, _ = await asyncio.wait([waiting], timeout=0.5)
            if done:
                return waiting.result()
            if await request.is_disconnected():
                waiting.cancel()
                self.cancel()
                raise ApiError("the program hung up", status=499)


def _places(choices: Sequence[Choice]) -> list[int]:
    """Of the choices that are computed."""
    return [choice.index for choice in choices if choice.finish is None]


def _number(session: int, run: PrivateRun) -> str:
    """By which a run is known over all sessions."""
    return f"{session}.{run.index}"


def _seen(seen: SeenRun) -> dict[str, Any]:
    run = seen.run
    return {
        "run": _number(seen.session, run),
        "work": run.work,
        "tokens_read": [step.length for step in run.steps],
        "past": [step.past for step in run.steps],
        **guesses_json([run]),
        **cost_json(run.cost, 1),
        "set_up": cost_json(run.set_up, 1),
        "sent": [{"of": part.of, "bytes": part.size, "hex": part.first.hex(" ")} for part in seen.sent],
    }


async def _json(request: Request) -> dict[str, Any]:
    """The body. ApiError for what is none."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise ApiError(f"the body has more than {MAX_BODY_BYTES} bytes", status=413)
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise ApiError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise ApiError("the body is not a JSON object")
    return body


def _sse(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _api_error(error: Exception) -> ApiError:
    if isinstance(error, AwayError):
        return _away(error)
    if isinstance(error, PeerBusyError):
        return ApiError(
            one_line(str(error)), status=503, type="server_error", code="private_server_busy", retry_after=RETRY_AFTER
        )
    if isinstance(error, DeclinedError):
        return _declined(error)
    return ApiError(str(error))


def _away(error: AwayError) -> ApiError:
    return ApiError(str(error), status=503, type="server_error", code="private_server_away", retry_after=RETRY_AFTER)


def _declined(error: DeclinedError) -> ApiError:
    """A limit of this client's is the API's 429; "insufficient_quota" where time does not lift it."""
    retry = None if error.retry is None else math.ceil(error.retry)
    if not error.limit:
        return ApiError(str(error), status=503, type="server_error", code="declined", retry_after=retry)
    if retry is None:
        return ApiError(str(error), status=429, type="insufficient_quota", code="insufficient_quota")
    return ApiError(str(error), status=429, type="tokens", code="rate_limit_exceeded", retry_after=retry)


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    what = ApiError(f"{request.method} {request.url.path} is not served here", status=status, code="not_found")
    return JSONResponse(what.body, status)
