"""The process in which a chat template is rendered: `python -m aero.serve.render FD`, at the other end of a pipe.

It imports Jinja and nothing of ours, so that the limits of its memory and time are those of the template. Messages are
JSON: at first that it has started and whether the template parses, then, for each list of messages, whether there is a
text, and the text or the reason.
"""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, time
from multiprocessing.connection import Connection
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_TEXT = 1 << 20
SECONDS = 5.0
MEMORY = 1 << 30


class Generation(Extension):
    """`{% generation %}`, which marks the assistant's words for training."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja declares it)

    def parse(self, parser: Any) -> list[nodes.Node]:
        next(parser.stream)
        body: list[nodes.Node] = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return body


def environment() -> ImmutableSandboxedEnvironment:
    """As Hugging Face's chat templates expect it (transformers, "Writing a chat template")."""

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)

    def raise_exception(message: str) -> None:
        raise ValueError(message)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    # The day alone: a text whose length followed the clock would tell the client's time zone, and, asked for again and
    # again, where between two multiples of the padding its length lies.
    made.globals["strftime_now"] = lambda form: datetime.combine(date.today(), time()).strftime(form)
    return made


def main(pipe: Connection) -> None:
    """Render what is sent, until nobody sends any more."""

    def say(done: bool, text: object) -> None:
        pipe.send_bytes(json.dumps([done, str(text)]).encode())

    say(True, "")
    source, tokens = json.loads(pipe.recv_bytes())
    _limit_memory()
    _limit_time()
    try:
        template = environment().from_string(source)
    except Exception as error:
        return say(False, str(error)[:200] or type(error).__name__)
    say(True, "")
    while True:
        try:
            messages = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        _limit_time()
        more: dict[str, Any] = {**tokens, "add_generation_prompt": True, "tools": None, "documents": None}
        try:
            text = template.render(messages=messages, **more)
            say(len(text) <= MAX_TEXT, text if len(text) <= MAX_TEXT else "its text is too long")
        except Exception as error:
            say(False, str(error)[:200] or type(error).__name__)


def _limit_memory() -> None:
    """As far as the system has it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def _limit_time() -> None:
    """Of the processor, from now on: for the case that nobody is left to end this process."""
    try:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime + SECONDS) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        pass


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
