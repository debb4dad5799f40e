"""What a program asks for: bodies of the OpenAI API's requests, read strictly where it matters.

Unknown fields are ignored, as the API does. A field that would change the answer and cannot be honoured is refused by
name. https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aero.engines.reveal import Reveal
from aero.serve.sampling import Sampling

MAX_CHOICES = 32
MAX_STOPS = 4
MAX_TOP_LOGPROBS = 20
DEFAULT_MAX_TOKENS = 16
"""Of a completion, as the API has it; a chat goes on to the end of the context."""

# What changes an answer and is not built, with the values that ask for nothing.
_NOT_HONOURED: dict[str, tuple[Any, ...]] = {
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "suffix": (None, ""),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
}


class ApiError(Exception):
    """An error as the API tells it.

    status: of HTTP; type and code: the API's words; param: the field that is at fault; retry_after: seconds after which
    a program may ask again, None where it would be told the same.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after
        self.body = {"error": {"message": message, "type": type, "param": param, "code": code}}


@dataclass(frozen=True)
class RequestOptions:
    """What both kinds of request have in common.

    max_tokens: None to the end of the context. logprobs: how many alternatives to list beside each token's own, None
    for no log-probabilities at all. seed: of the first choice; the others count on from it.
    """

    model: str
    max_tokens: int | None
    temperature: float | None
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    n: int
    stream: bool
    include_usage: bool
    logprobs: int | None

    def sampling(self, choice: int, reveal: Reveal) -> Sampling:
        """Of one of the `n` choices. The API draws at temperature 1 where none is given; a token that comes without a
        logit leaves nothing to draw from, and is then taken as it is."""
        temperature = self.temperature
        if temperature is None:
            temperature = 1.0 if reveal.values else 0.0
        if temperature == 0:
            return Sampling()
        if not reveal.values:
            raise ApiError(
                f"the server reveals {reveal.described} of each output, nothing to draw from; ask for temperature 0",
                param="temperature",
                code="unsupported_value",
            )
        seed = None if self.seed is None else self.seed + choice
        return Sampling(temperature, top_p=None if self.top_p == 1 else self.top_p, seed=seed)


@dataclass(frozen=True)
class Completion:
    """POST /v1/completions. prompts: texts or token ids."""

    prompts: tuple[str | tuple[int, ...], ...]
    echo: bool
    wanted: RequestOptions

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Completion:
        """ApiError for what cannot be answered."""
        logprobs = _integer(body, "logprobs", 0, MAX_TOP_LOGPROBS)
        wanted = _wanted(body, body.get("max_tokens", DEFAULT_MAX_TOKENS), "max_tokens", logprobs)
        echo = _flag(body, "echo")
        if wanted.max_tokens == 0 and not echo:
            raise ApiError("max_tokens is 0, which asks for nothing; give 1 or more, or echo", param="max_tokens")
        return cls(_prompts(body.get("prompt", "")), echo, wanted)


@dataclass(frozen=True)
class Chat:
    """POST /v1/chat/completions. messages: role and text of each."""

    messages: tuple[tuple[str, str], ...]
    wanted: RequestOptions

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Chat:
        """ApiError for what cannot be answered."""
        name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
        top = _integer(body, "top_logprobs", 0, MAX_TOP_LOGPROBS)
        logprobs = (top or 0) if _flag(body, "logprobs") else None
        if top and logprobs is None:
            raise ApiError("top_logprobs is for logprobs; ask for both", param="top_logprobs")
        wanted = _wanted(body, body.get(name), name, logprobs)
        if wanted.max_tokens == 0:
            raise ApiError(f"{name} is 0; give 1 or more", param=name)
        return cls(_messages(body.get("messages")), wanted)


def _wanted(body: Mapping[str, Any], max_tokens: Any, name: str, logprobs: int | None) -> RequestOptions:
    for field, nothing in _NOT_HONOURED.items():
        if body.get(field) not in nothing:
            raise ApiError(f"{field} is not supported here; leave it out", param=field, code="unsupported_parameter")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ApiError("you must provide a model; /v1/models lists it", param="model")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        raise ApiError("stream_options is not an object", param="stream_options")
    top_p = _number(body, "top_p", 0.0, 1.0)
    if top_p == 0:
        raise ApiError("top_p is 0, which leaves no token; give more than 0", param="top_p")
    n = _integer(body, "n", 1, MAX_CHOICES)
    return RequestOptions(
        model=model,
        max_tokens=None if max_tokens is None else _integer({name: max_tokens}, name, 0, 1 << 31),
        temperature=_number(body, "temperature", 0.0, 2.0),
        top_p=1.0 if top_p is None else top_p,
        seed=_seed(body),
        stop=_stops(body.get("stop")),
        n=1 if n is None else n,
        stream=_flag(body, "stream"),
        include_usage=bool(options and options.get("include_usage")),
        logprobs=logprobs,
    )


def _integer(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not least <= value <= most:
        raise ApiError(f"{name} has to be a whole number from {least} to {most}", param=name)
    return value


def _seed(body: Mapping[str, Any]) -> int | None:
    """The API takes negative ones, too; each is a seed of its own."""
    seed = _integer(body, "seed", -(1 << 63), (1 << 63) - 1)
    return seed if seed is None or seed >= 0 else seed + (1 << 64)


def _number(body: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not least <= value <= most:
        raise ApiError(f"{name} has to be a number from {least:g} to {most:g}", param=name)
    return float(value)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and type(value) is not bool:
        raise ApiError(f"{name} has to be true or false", param=name)
    return bool(value)


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, Sequence) or not all(isinstance(stop, str) for stop in stops):
        raise ApiError("stop has to be a text or a list of texts", param="stop")
    if len(stops) > MAX_STOPS:
        raise ApiError(f"stop lists {len(stops)} texts; give at most {MAX_STOPS}", param="stop")
    return tuple(stop for stop in stops if stop)


def _prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """A text, some texts, token ids, or several lists of them."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not value:
        raise ApiError("prompt has to be a text, token ids, or a list of either", param="prompt")
    if all(type(item) is int for item in value):
        return (tuple(value),)
    found: list[str | tuple[int, ...]] = []
    for item in value:
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list) and item and all(type(i) is int for i in item):
            found.append(tuple(item))
        else:
            raise ApiError("prompt has to be a text, token ids, or a list of either", param="prompt")
    return tuple(found)


def _messages(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise ApiError("messages has to be a list of at least one message", param="messages")
    found = []
    for i, message in enumerate(value):
        where = f"messages[{i}]"
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ("system", "developer", "user", "assistant"):
            raise ApiError(f"{where} has no role that is known here (system, user, assistant)", param=f"{where}.role")
        found.append(("system" if role == "developer" else role, _text(message.get("content"), where)))
    return tuple(found)


def _text(content: Any, where: str) -> str:
    """A text, or the parts of one."""
    if isinstance(content, str):
        return content
    parts = []
    for part in content if isinstance(content, list) else [None]:
        if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise ApiError(f"{where} has content other than text, which this model does not read",
                           param=f"{where}.content")  # fmt: skip
        parts.append(part["text"])
    return "".join(parts)
