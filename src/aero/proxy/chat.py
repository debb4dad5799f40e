"""A conversation becomes one text: by the model's own chat template, or a plain one.

A template is a Jinja program, as Hugging Face's tokenizers have it (`chat_template.jinja`), and it comes from the
server. It is rendered in Jinja's sandbox, in a process of its own that is ended when it takes too long or too much.

What people write stays text: a message that spells a special token does not become one. Only the template's own special
tokens do.
"""

from __future__ import annotations

import atexit
import multiprocessing
import re
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from aero.data.tokenizer import Tokenizer
from aero.wire import one_line

PLAIN = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content }}

{% else -%}
{{ message.role | capitalize }}:{{ '' if message.content[:1].isspace() else ' ' }}{{ message.content }}
{% endif -%}
{%- endfor -%}
Assistant:"""
"""Where a model has no template: a system message, then `User: ...` and `Assistant: ...`, a line each. A space stands
before what does not begin with one, as an answer does."""
PLAIN_STOP = ("\nUser:",)

MAX_TEMPLATE_BYTES = 256 << 10
MAX_TEXT = 1 << 22
SECONDS = 5.0
MEMORY = 1 << 30
_BREAK = "\ufdd0"  # a code point that is no character and never will be (Unicode 3.1, section 2.7)


class Template:
    """How conversations become ids.

    source: a Jinja template, or None for `PLAIN`. names: what it may refer to, such as bos_token.
    ValueError for one that does not parse.
    """

    def __init__(self, tokenizer: Tokenizer, source: str | None = None, names: Mapping[str, str] | None = None) -> None:
        self._tokenizer = tokenizer
        self.stop: tuple[str, ...] = PLAIN_STOP if source is None else ()
        self._before = tokenizer.before if source is None else ()
        longest_first = sorted(tokenizer.special, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._renderer = _Renderer(PLAIN if source is None else source, dict(names or {}))
        self._renderer.render([{"role": "user", "content": "?"}])

    def ids(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """The ids of a conversation, up to where the assistant's answer begins. ValueError where the template refuses
        it, with the template's own words."""
        rendered = self._renderer.render([{"role": role, "content": self._as_text(text)} for role, text in messages])
        return [*self._before, *self._tokenizer.encode_template(rendered, _BREAK, "")]

    def _as_text(self, text: str) -> str:
        """A message in which no special token is found: a code point that no text has breaks each."""
        return self._special.sub(lambda match: match[0][0] + _BREAK + match[0][1:], text.replace(_BREAK, ""))


class _Renderer:
    """A process that renders one template, started when it is needed and again after it had to be ended."""

    def __init__(self, source: str, names: dict[str, str]) -> None:
        if len(source.encode("utf-8", "replace")) > MAX_TEMPLATE_BYTES:
            raise ValueError(f"the chat template has more than {MAX_TEMPLATE_BYTES} bytes")
        self._source, self._names = source, names
        self._lock = threading.Lock()
        self._process: Any = None
        self._pipe: Connection | None = None
        atexit.register(self._end)

    def render(self, messages: list[dict[str, str]]) -> str:
        with self._lock:
            pipe = self._pipe or self._start()
            try:
                pipe.send(messages)
                if not pipe.poll(SECONDS):
                    raise EOFError
                done, text = pipe.recv()
            except (EOFError, OSError):
                self._end()
                raise ValueError("the model's chat template takes too long, or too much memory; give another one "
                                 "with --template") from None  # fmt: skip
        if not done:
            raise ValueError(f"the chat template refuses this conversation: {one_line(text)}")
        return str(text)

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = context.Process(target=_render, args=(theirs, self._source, self._names), daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        if not ours.poll(60.0) or ours.recv() is not True:  # to start takes long on a busy machine
            self._end()
            raise ValueError("the process for chat templates does not start")
        return ours

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def _render(pipe: Connection, source: str, names: dict[str, str]) -> None:
    """The process: renders what it is sent, until nobody sends any more."""
    environment, template, refusal = None, None, ""
    try:
        environment = _environment()
        template = environment.from_string(source)
    except Exception as error:
        refusal = str(error) or type(error).__name__
    pipe.send(True)
    _limit_memory()
    while True:
        try:
            messages = pipe.recv()
        except EOFError:
            return
        if template is None:
            pipe.send((False, refusal))
            continue
        try:
            text = template.render(messages=messages, add_generation_prompt=True, **names)
            pipe.send((True, text) if len(text) <= MAX_TEXT else (False, "its text is too long"))
        except Exception as error:
            pipe.send((False, str(error)[:200] or type(error).__name__))


def _environment() -> Any:
    """As Hugging Face's chat templates expect it."""
    import json
    from datetime import datetime

    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    def raise_exception(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _limit_memory() -> None:
    """As far as the system has it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass
