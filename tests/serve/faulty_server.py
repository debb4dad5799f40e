"""A server with a fault of its own, for test_operation.py: each session ends in a TypeError."""

import logging
import sys
import threading
from contextlib import suppress

from aero.serve.supervisor import Limits, Supervisor
from aero.wire.tcp import InsecurePlaintext, Listener, connect


def serve(channel, tell):
    raise TypeError("a fault of ours")


def client(port: int) -> None:
    with suppress(ConnectionError):
        connect("127.0.0.1", port, InsecurePlaintext()).recv(1)


if __name__ == "__main__":
    logging.basicConfig(level=sys.argv[1])
    with Listener("127.0.0.1", 0, InsecurePlaintext()) as listener:
        threading.Thread(target=client, args=(listener.port,), daemon=True).start()
        supervisor = Supervisor(
            listener,
            serve,
            stop=lambda how: None,
            limits=Limits(),
            on_event=lambda it: print(it.kind, it.what),
        )
        with suppress(ConnectionError):
            supervisor.run(once=True)
