"""What a program gets back: the OpenAI API's objects, each with what it cost privately (`x_aero`)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aero.data.tokenizer import Tokenizer
from aero.engines.engine import RunCost
from aero.serve.client import PrivateRun, PrivateToken

Shown = tuple[int, np.ndarray | None]
"""A token's id, and the logits [V] from which it was or would have been chosen; None where nothing came before it."""


@dataclass
class Choice:
    """One answer as it grows. tokens: those that are shown, of the prompt too where it is echoed."""

    index: int
    tokens: list[Shown] = field(default_factory=list)
    text: str = ""
    finish: str | None = None


@dataclass(frozen=True)
class Logprob:
    """Of one token, from the logits that were revealed: natural logarithm of its probability at temperature 1.

    top: the most likely ids and theirs, descending."""

    id: int
    value: float
    top: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, id: int, logits: np.ndarray, top: int) -> Logprob:
        shifted = logits - logits.max()
        values = shifted - np.log(np.exp(shifted).sum())
        order = np.argsort(-values, kind="stable")[:top]
        return cls(id, float(values[id]), tuple((int(i), float(values[i])) for i in order))


class ResponseFrame:
    """The frame of one response: its id, kind and model, the same in every chunk of a stream."""

    def __init__(self, chat: bool, model: str, tokenizer: Tokenizer, logprobs: int | None) -> None:
        self.chat, self.model, self.tokenizer, self.logprobs = chat, model, tokenizer, logprobs
        self._id = ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex
        self._created = int(time.time())
        self._offset: dict[int, int] = {}

    def whole(self, choices: Sequence[Choice], prompt_tokens: int, new_tokens: int, cost: Spent) -> dict[str, Any]:
        """A response that is not streamed."""
        return {
            **self._frame("chat.completion" if self.chat else "text_completion"),
            "choices": [self._choice(choice) for choice in choices],
            "usage": usage(prompt_tokens, new_tokens),
            "x_aero": cost.to_json(),
        }

    def chunk(self, choice: int, text: str, tokens: Sequence[Shown], finish: str | None, **more: Any) -> dict[str, Any]:
        """A piece of a stream: what these tokens add."""
        body: dict[str, Any] = {"index": choice, "finish_reason": finish}
        logprobs = self._logprobs(choice, tokens) if tokens else None
        body |= {"delta": {"content": text}} if self.chat else {"text": text}
        return self._piece([{**body, "logprobs": logprobs}], **more)

    def opening(self, choice: int) -> dict[str, Any]:
        """The first piece of a chat's stream: who speaks."""
        delta = {"role": "assistant", "content": ""}
        return self._piece([{"index": choice, "delta": delta, "finish_reason": None, "logprobs": None}])

    def closing(self, prompt_tokens: int, new_tokens: int, cost: Spent) -> dict[str, Any]:
        """The last piece of a stream, where its usage was asked for."""
        return self._piece([], usage=usage(prompt_tokens, new_tokens), x_aero=cost.to_json())

    def _piece(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            **self._frame("chat.completion.chunk" if self.chat else "text_completion"), "choices": choices, **more
        }  # fmt: skip

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self.model}

    def _choice(self, choice: Choice) -> dict[str, Any]:
        body: dict[str, Any] = {"index": choice.index, "finish_reason": choice.finish}
        if self.chat:
            body["message"] = {"role": "assistant", "content": choice.text, "refusal": None}
        else:
            body["text"] = choice.text
        return {**body, "logprobs": self._logprobs(choice.index, choice.tokens)}

    def _logprobs(self, choice: int, tokens: Sequence[Shown]) -> dict[str, Any] | None:
        """None where none were asked for. The first token of an echoed prompt has none: nothing came before it."""
        if self.logprobs is None:
            return None
        vocabulary = self.tokenizer.vocab_size
        found = [
            None if logits is None else Logprob.of(id, logits[:vocabulary], self.logprobs) for id, logits in tokens
        ]
        if self.chat:
            return {
                "content": [self._chat_logprob(logprob) for logprob in found if logprob is not None],
                "refusal": None,
            }
        texts = [self._text(id) for id, _ in tokens]
        start = self._offset.get(choice, 0)
        offsets = [start + sum(map(len, texts[:i])) for i in range(len(texts))]
        self._offset[choice] = start + sum(map(len, texts))
        return {
            "tokens": texts,
            "token_logprobs": [None if logprob is None else logprob.value for logprob in found],
            "top_logprobs": [
                None if logprob is None else {self._text(i): v for i, v in logprob.top} for logprob in found
            ],
            "text_offset": offsets,
        }

    def _chat_logprob(self, logprob: Logprob) -> dict[str, Any]:
        def entry(id: int, value: float) -> dict[str, Any]:
            return {"token": self._text(id), "logprob": value, "bytes": list(self.tokenizer.bytes_of(id))}

        return {**entry(logprob.id, logprob.value), "top_logprobs": [entry(i, value) for i, value in logprob.top]}

    def _text(self, id: int) -> str:
        """A token alone: part of a character shows as its bytes, so that no two tokens look the same."""
        data = self.tokenizer.bytes_of(id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


@dataclass
class Spent:
    """What an answer cost: of each run that it took part in, its share of the bytes, and the rounds and seconds."""

    runs: dict[int, PrivateRun] = field(default_factory=dict)  # by identity: each session counts its own anew
    tokens: int = 0

    def add(self, token: PrivateToken) -> None:
        self.runs[id(token.run)] = token.run
        self.tokens += 1

    def to_json(self) -> dict[str, Any]:
        """seconds and rounds are those of the runs, which other requests may share; bytes are this answer's part.
        set_up: what came before these runs, apart; most of it before the first of a session. guesses, guesses_held: of
        the runs, tokens that were guessed, and of these how many were chosen."""
        spent = [cost_json(run.cost, len(run.steps)) for run in self.runs.values()]
        set_up = [cost_json(run.set_up, len(run.steps)) for run in self.runs.values()]
        counts = {"tokens": self.tokens, "runs": len(self.runs), **guesses_json(self.runs.values())}
        return {**_added(spent), **counts, "set_up": _added(set_up)}


def guesses_json(runs: Collection[PrivateRun]) -> dict[str, int]:
    """How many tokens runs read as guesses, of all prompts that shared them, and how many of these held."""
    return {"guesses": sum(run.guessed for run in runs), "guesses_held": sum(run.held for run in runs)}


def cost_json(cost: RunCost, prompts: int) -> dict[str, Any]:
    """Of one run that so many prompts shared."""

    def share(count: int | None) -> int | None:
        return None if count is None else round(count / prompts)

    return {
        "seconds": cost.seconds,
        "bytes_client_to_server": share(cost.bytes_client_to_server),
        "bytes_server_to_client": share(cost.bytes_server_to_client),
        "rounds": cost.rounds,
    }


def usage(prompt_tokens: int, new_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": new_tokens,
        "total_tokens": prompt_tokens + new_tokens,
    }


def _added(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """None where one of them is not known."""

    def total(name: str) -> Any:
        values = [part[name] for part in parts]
        return None if None in values else sum(values)

    return {name: total(name) for name in ("seconds", "bytes_client_to_server", "bytes_server_to_client", "rounds")}
