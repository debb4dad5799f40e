"""The OpenAI-compatible endpoint at a free port, over sessions whose computation is in the clear."""

import json
import threading
import time
import urllib.error
import urllib.request

import openai
import uvicorn

from aero.data.chat_template import ChatTemplate
from aero.proxy.app import Endpoint
from aero.proxy.batcher import Batcher
from aero.proxy.guard import Guard
from aero.serve.chat import Template
from clear_session import Sessions

PATIENCE = 60


class Served:
    """An endpoint at a free port of this machine."""

    def __init__(self, sessions: Sessions, guard: Guard, queue: int = 16, template: ChatTemplate | None = None) -> None:
        self.sessions = sessions
        self.batcher = Batcher(sessions.open, queue)
        self.tokenizer = self.batcher.start().tokenizer
        app = Endpoint(self.batcher, self.tokenizer, "toy", Template(self.tokenizer, template), guard).app()
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def client(self, **options) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, **options)

    def ask(self, path, body=None, **headers):
        """Status and text, of plain HTTP."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=PATIENCE) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
