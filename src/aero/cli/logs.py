"""The log of a server: an event a line, for a person or, as JSON, for a program. It has no text, token or secret."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from aero.serve.supervisor import Event
from aero.wire import safe_text

_LONGEST = 2000  # characters of a message

events = logging.getLogger("aero.events")
"""What happens, each with `extra={"about": ...}`: what a program may want to know of it, by name."""


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


def start_log(form: LogFormat) -> None:
    """From now on events, and warnings of our packages, are lines on standard output."""
    handler = _Lines(sys.stdout)
    handler.setFormatter(_Json() if form is LogFormat.JSON else _Text())
    events.handlers, events.propagate = [handler], False
    events.setLevel(logging.INFO)
    ours = logging.getLogger("aero")
    ours.propagate = logging.getLogger().level <= logging.DEBUG  # with --debug all is on standard error
    for other in ours.handlers:
        if other.level == logging.WARNING:  # which shows them to a person
            ours.removeHandler(other)
    warnings = _Lines(sys.stdout, logging.WARNING)
    warnings.setFormatter(handler.formatter)
    ours.addHandler(warnings)


class _Lines(logging.StreamHandler[Any]):
    """A full disk, or a reader that has gone, stops nothing."""

    def __init__(self, stream: Any, level: int = logging.NOTSET) -> None:
        super().__init__(stream)
        self.setLevel(level)

    def handleError(self, record: logging.LogRecord) -> None:
        pass


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        return f"{when} {record.levelname:7} {_line(record)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        about: Mapping[str, Any] = getattr(record, "about", {})
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
        return json.dumps({"time": when, "level": record.levelname.lower(), **about, "message": _line(record)})


def _line(record: logging.LogRecord) -> str:
    """One line, whatever is in it: who may write a part of a message may not write another one."""
    return safe_text(" ".join(record.getMessage()[:_LONGEST].split()))


class EventLog:
    """A line for each event of a server's connections. Of those that come to nothing, or wait, ten a minute at most,
    and how many more there were, so that nobody can fill a log."""

    _MOST, _MINUTE = 10, 60.0

    def __init__(self) -> None:
        self._since, self._count = 0.0, 0

    def __call__(self, event: Event) -> None:
        about = {"event": event.kind, "session": event.session or None, "client": event.client, "address": event.where}
        about = {name: value for name, value in about.items() if value}
        level, line = logging.INFO, ""
        if event.kind == "begun":
            line = f"session {event.session} begins, with {event.who}"
        elif event.kind == "told":
            named = f"session {event.session}" + (f" ({event.client})" if event.client else "")
            if "declined" in event.what:
                level, line = logging.WARNING, f"{named}: declined: {event.what['declined']}"
                about["event"] = "declined"
            else:
                line = f"{named}: {event.what['line']}"
                about |= {"event": "step"} | {name: event.what[name] for name in ("work", "tokens", "seconds")}
        elif event.kind == "ended":
            failure = event.what["failure"]
            line = f"session {event.session} " + (f"ended: {failure}" if failure else "finished")
            about |= {"reason": event.what["reason"] or "finished", "seconds": round(event.what["seconds"], 3)}
        elif event.kind == "reloaded":
            failure = event.what["failure"]
            line = f"not reloaded, the old model goes on: {failure}" if failure else "reloaded"
            level = logging.ERROR if failure else logging.INFO
        elif not self._may_say():
            return
        elif event.kind == "waits":
            line = f"{event.who} waits, place {event.what['place']}"
            about["place"] = event.what["place"]
        else:
            line = f"no session with {event.who}: {event.what['why']}"
            about["reason"] = event.what["reason"]
        events.log(level, "%s", line, extra={"about": about})

    def _may_say(self) -> bool:
        now = time.monotonic()
        if now > self._since + self._MINUTE:
            if self._count > self._MOST:
                more = self._count - self._MOST
                events.info("%d more connections waited or came to nothing", more)
            self._since, self._count = now, 0
        self._count += 1
        return self._count <= self._MOST
