"""A session's process reads what strangers send: whatever it then says to its parent ends itself alone."""

import os
import signal
import socket
import time

import pytest

from aero.serve.supervisor import Limits, Supervisor, _Child


@pytest.mark.parametrize(
    "said",
    [
        b"[]\n", b"7\n", b"{}\n", b"\xff\n", b"[" * 500_000 + b"\n", b'{"say": "known"}\n', b'{"say": "ended"}\n',
        b'{"say": "known", "client": []}\n', b'{"say": "known", "client": {"a": 1}}\n', b'{"say": "told"}\n',
        b"x" * (2 << 20),
    ],
)  # fmt: skip
def test_no_word_of_a_process_ends_its_parent(said):
    events = []
    parent = Supervisor(
        None, lambda *_: None, stop=lambda _: None, limits=Limits(), on_event=lambda event: events.append(event)
    )
    ear, mouth = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    child = _Child(pid, "192.0.2.1:1", "192.0.2.1", time.monotonic(), ear)
    parent._children[ear.fileno()] = child
    ear.setblocking(False)
    mouth.setblocking(False)
    while said and not child.ended:
        said = said[mouth.send(said) :] if said else said
        parent._hear(child)
    while not child.ended:
        parent._hear(child)
    assert parent._children == {} and [event.kind for event in events] == ["refused"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    mouth.close()
