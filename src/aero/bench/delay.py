"""A relay on this machine that delivers every byte of a TCP connection a fixed time later.

Time added to a run, divided by the delay, is the number of message delays on its critical path: how rounds are measured
of an engine that opens its own connections and does not count them.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from types import TracebackType

_CHUNK = 1 << 16


class DelayRelay:
    """Listens on a free port of 127.0.0.1 and forwards to `target`, `seconds` later in each direction.

    A context manager; `address` is "127.0.0.1:PORT". Bandwidth is not limited.
    """

    def __init__(self, target: str, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"a delay of {seconds} s; give 0 or more")
        host, _, port = target.rpartition(":")
        self._target, self._seconds = (host, int(port)), seconds
        self._loop = asyncio.new_event_loop()
        self._pumps: list[asyncio.Task[None]] = []
        self._server = self._loop.run_until_complete(asyncio.start_server(self._connect, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> DelayRelay:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            self._pumps.append(self._loop.create_task(self._pump(source, sink)))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, chunk = await queue.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if not chunk:
                    return sink.close()
                sink.write(chunk)
                await sink.drain()

        delivery = self._loop.create_task(deliver())
        with contextlib.suppress(ConnectionError):
            while chunk := await source.read(_CHUNK):
                queue.put_nowait((time.monotonic() + self._seconds, chunk))
        queue.put_nowait((time.monotonic() + self._seconds, b""))
        with contextlib.suppress(ConnectionError):
            await delivery
