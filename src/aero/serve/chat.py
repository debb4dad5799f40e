"""A conversation becomes one text: by the model's own chat template, or a plain one.

A template is a Jinja program, and it comes from the server, which sees how long the text becomes. So it never gets what
people write: it is rendered with a stand-in for each message, and the texts are put in afterwards. A template can place
a message once, leave it out, or take the blanks off its ends, as nearly all of them do and no more; nothing that it
does tells of a text. A text that stood there N times would have N times its length, which padding to multiples of N
does not hide. It is rendered in Jinja's sandbox, in a process of its own, which is ended when it takes too long or too
much.

What people write stays text: a message that spells a special token does not become one. Only the template's own special
tokens do.
"""

from __future__ import annotations

import atexit
import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from aero.data.chat_template import ChatTemplate
from aero.data.tokenizer import Tokenizer
from aero.serve.render import MAX_TEXT, SECONDS
from aero.wire import one_line

PLAIN = ChatTemplate("""\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content }}

{% else -%}
{{ message.role | capitalize }}:{{ message.content }}
{% endif -%}
{%- endfor -%}
Assistant:""")
"""Where a model has no template: a system message, then `User: ...` and `Assistant: ...`, a line each. A space stands
before what does not begin with one, as an answer does."""
PLAIN_STOP = ("\nUser:",)

STARTING = 60.0
_REMEDY = "give another one with --template"

# A message's stand-in: a number between code points that are no characters and never will be (Unicode 3.1, section
# 2.7), with blanks that no template has, which show whether it takes blanks off; what else a template does to a text
# would change the letters.
_BLANK, _BEGIN, _END = "\x1c\x1d\x1e\x1f", "\ufdd0AeroMessage\"'<", "\ufdd1"
_STAND_IN = re.compile(f"((?:{_BLANK})?){_BEGIN}([0-9]+){_END}((?:{_BLANK})?)")
_REST = re.compile(f"[{_BLANK}\ufdd0{_END}]|AeroMessage", re.IGNORECASE)


class Template:
    """How conversations become ids. template: None for `PLAIN`. ValueError for one that cannot be used."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self._tokenizer, self._plain = tokenizer, template is None
        self.stop: tuple[str, ...] = PLAIN_STOP if self._plain else ()
        self._before = tokenizer.before if self._plain else ()
        self._renderer = _Renderer(template or PLAIN)

    def ids(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """The ids of a conversation, of the role and text of each message, up to where the assistant's answer begins.

        ValueError where the template refuses it, with the template's own words, or does to a message what it may not.
        """
        texts = [text for _, text in messages]
        if self._plain:
            texts = [text if role == "system" or text[:1].isspace() else f" {text}" for role, text in messages]
        stand_ins = [f"{_BLANK}{_BEGIN}{i}{_END}{_BLANK}" if text else "" for i, text in enumerate(texts)]
        pairs = zip(messages, stand_ins, strict=True)
        rendered = self._renderer.render([{"role": role, "content": stand_in} for (role, _), stand_in in pairs])

        def text_of(found: re.Match[str]) -> str:
            text = texts[int(found[2])]
            text = text if found[1] else text.lstrip()
            return text if found[3] else text.rstrip()

        def fill(part: str) -> str:
            return _STAND_IN.sub(text_of, part)

        placed = [int(found[2]) for found in _STAND_IN.finditer(rendered)]
        if any(i >= len(texts) for i in placed):
            raise ValueError(f"the chat template makes up messages; {_REMEDY}")
        if len(set(placed)) < len(placed):
            raise ValueError(f"the chat template repeats a message, which tells its length; {_REMEDY}")
        if _REST.search(_STAND_IN.sub("", rendered)):
            raise ValueError(f"the chat template changes a message's text, which it never gets; {_REMEDY}")
        if len(rendered) + sum(len(texts[i]) for i in placed) > MAX_TEXT:
            raise ValueError(f"the conversation has more than {MAX_TEXT} characters; shorten it")
        return [*self._before, *self._tokenizer.encode_template(rendered, fill)]


class _Renderer:
    """A process that renders one template, started when it is needed and again after it had to be ended."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        atexit.register(self._end)
        with self._lock:
            self._start()

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """ValueError, in one line, where the template refuses it, or takes too long or too much."""
        with self._lock:
            if self._pipe is None:
                self._start()
            done, text = self._ask(messages, SECONDS)
        if not done:
            raise ValueError(f"the chat template refuses this conversation: {one_line(text)}")
        return text

    def _start(self) -> None:
        """ValueError where the template does not parse."""
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-P", "-m", "aero.serve.render", str(theirs.fileno())]
        nothing = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=nothing, pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        self._hear(STARTING)  # to start takes long on a busy machine
        parsed, reason = self._ask([self._template.source, dict(self._template.tokens)], SECONDS)
        if not parsed:
            self._end()
            raise ValueError(f"the chat template cannot be read: {one_line(reason)}; {_REMEDY}")

    def _ask(self, message: object, seconds: float) -> tuple[bool, str]:
        assert self._pipe is not None
        with suppress(OSError):  # the process has ended, which is heard next
            self._pipe.send_bytes(json.dumps(message).encode())
        return self._hear(seconds)

    def _hear(self, seconds: float) -> tuple[bool, str]:
        """What the process says next; it is ended where that does not come."""
        assert self._pipe is not None
        try:
            if not self._pipe.poll(seconds):
                raise EOFError
            done, text = json.loads(self._pipe.recv_bytes(8 * MAX_TEXT))
        except (EOFError, OSError):
            self._end()
            raise ValueError(f"the chat template takes too long, or too much memory; {_REMEDY}") from None
        return bool(done), str(text)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None
