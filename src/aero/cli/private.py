"""A session with a server, as the verbs open it, and what they say of its cost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from aero.cli.live_text import LiveText
from aero.cli.options import WAIT_SECONDS
from aero.data.tokenizer import Tokenizer
from aero.engines.engine import Engine, Progress
from aero.files.cache import Cache, user_cache
from aero.mpc.party import Role
from aero.report.record import Record
from aero.report.session import Answer, Session
from aero.serve.client import Client, PrivateToken
from aero.serve.drafts import Guess
from aero.serve.reconnecting import Reconnecting
from aero.serve.sampling import Sampling
from aero.serve.session import DeclinedError
from aero.wire import Channel, PeerBusyError, one_line, safe_text
from aero.wire.tcp import InsecurePlaintext, Security, connect

_SILENCE = 600.0  # seconds that a server may say nothing within a session, as when it prepares a large model
_AGAIN = 1.0  # seconds after which a busy server is asked again

Failure = DeclinedError | ConnectionError
"""What may end an answer before its end."""


@contextmanager
def private_session(
    address: str,
    security: Security,
    progress: Progress,
    pad_to: int | None = None,
    wait: float | None = 0.0,
    guesses: int = 0,
    steady: bool = False,
) -> Iterator[Client]:
    """A client of the server at HOST:PORT, connected for the length of the block.

    progress: told what the engine does. pad_to, guesses, steady: as in `Client`. wait: seconds to wait for a place at a
    busy server, in its queue, or until there is room in that, None for as many as a person would; PeerBusyError after
    them.
    """
    from aero.engines.connect import connect_engine

    host, port = parse_address(address)
    plaintext = isinstance(security, InsecurePlaintext)
    drafts = Cache(user_cache() / "drafts")

    def engine_for(name: str, channel: Channel) -> Engine:
        return connect_engine(name, Role.CLIENT, channel, insecure_plaintext=plaintext, progress=progress)

    with (
        _connected(host, port, security, progress, WAIT_SECONDS if wait is None else wait) as channel,
        Client(
            channel, engine_for, pad_to=pad_to, guesses=guesses, steady=steady, draft_for=_draft_for, drafts=drafts
        ) as client,
    ):
        yield client


def _draft_for(data: bytes, vocab_size: int) -> Guess:
    from aero.compiler.draft import Draft, unpack

    return Draft(unpack(data, vocab_size)).guess


def _connected(host: str, port: int, security: Security, progress: Progress, wait: float) -> Channel:
    progress("connecting", 0.0)
    began = time.monotonic()

    def waited() -> float:
        return time.monotonic() - began

    def on_place(place: int) -> None:
        progress(f"waiting for a place: {place} in the queue", waited() / wait)

    while True:
        try:
            return connect(
                host, port, security, timeout=_SILENCE, patience=max(wait - waited(), 0.0), on_place=on_place
            )
        except PeerBusyError as error:
            if waited() >= wait:
                raise
            progress(f"waiting for a place: {error}", waited() / wait)
            time.sleep(min(wait - waited(), _AGAIN * random.uniform(0.5, 1.5)))  # several that wait come apart


def session_of(client: Reconnecting, answers: Sequence[Answer]) -> Session:
    """For records and reports."""
    (_, set_up), *again = client.set_ups
    return Session(client.offer, set_up, tuple(answers), tuple(again))


def answers_with(
    client: Reconnecting,
    live: LiveText,
    prompts: Sequence[str],
    ids: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling,
    stop: Sequence[str],
) -> tuple[tuple[Answer, ...], Failure | None]:
    """Several prompts at once: shown together as they grow, on a terminal, and then one after the other. What ended
    them too early comes beside what there was by then."""
    if len(prompts) == 1:
        answer, failure = answer_with(client, live, prompts[0], ids[0], max_new_tokens, sampling, stop)
        return (answer,), failure
    tokens: list[list[PrivateToken]] = [[] for _ in prompts]
    texts, failure = list(prompts), None
    try:
        for i, token in client.generate_batch(ids, max_new_tokens, sampling=sampling, stop=stop):
            tokens[i].append(token)
            texts[i] += safe_text(token.text)
            live.show([f"{numbered(n)} {text}" for n, text in enumerate(texts, 1)])
    except (DeclinedError, ConnectionError) as error:
        failure = error
    live.show([])
    write_numbered(live.write, texts)
    return tuple(Answer(p, tuple(i), tuple(t)) for p, i, t in zip(prompts, ids, tokens, strict=True)), failure


def write_numbered(write: Callable[[str], None], texts: Sequence[str]) -> None:
    """Each text under its prompt's number."""
    for number, text in enumerate(texts, 1):
        write(f"{numbered(number)}\n{text}" + ("" if text.endswith("\n") else "\n"))


def numbered(prompt: int) -> str:
    return f"--- prompt {prompt} ---"


def answer_with(
    client: Reconnecting,
    live: LiveText,
    prompt: str,
    ids: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling,
    stop: Sequence[str],
    *,
    keep: bool = False,
) -> tuple[Answer, Failure | None]:
    """Show the prompt and what follows it, as it comes; and what ended it too early, if anything did. `ids`: all that
    the model reads, the prompt's at the end. keep: as in `Client.generate`."""
    live.write(prompt)
    tokens, failure = [], None
    try:
        for token in client.generate(ids, max_new_tokens, sampling=sampling, stop=stop, keep=keep):
            tokens.append(token)
            live.write(safe_text(token.text))
    except (DeclinedError, ConnectionError) as error:
        failure = error
    live.end_line()
    return Answer(prompt, tuple(ids), tuple(tokens)), failure


def special_note(tokenizer: Tokenizer, texts: Sequence[str], *, special: bool) -> str | None:
    """How special tokens that the texts spell are read; None where they spell none."""
    spelt = dict.fromkeys(word for text in texts for word in tokenizer.spelt(text))
    if not spelt:
        return None
    how = "as special tokens" if special else "as text, character for character"
    return f"read {how}: {', '.join(one_line(word, 40) for word in spelt)}"


def cost_line(record: Record) -> str:
    """A record in one line, as far as it is known."""
    parts = [f"{record.work}" + (f" after {record.context} tokens" if record.context else "")]
    if record.seconds is not None:
        parts.append(f"{record.seconds:.2f} s")
    for name, count in (("up", record.bytes_client_to_server), ("down", record.bytes_server_to_client)):
        if count is not None:
            parts.append(f"{count / 1e6:.2f} MB {name}")
    if record.rounds is not None:
        parts.append(f"{record.rounds} rounds")
    if (prompts := record.extra.get("prompts", 1)) > 1:
        parts.append(f"for {prompts} prompts")
    if guesses := record.extra.get("guesses"):
        parts.append(f"{record.extra['guesses_held']} of {guesses} guesses held")
    return "  ".join(parts)


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT, with brackets around an IPv6 host. ValueError otherwise."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not HOST:PORT, for example 127.0.0.1:7700")
    return host.strip("[]"), int(port)
