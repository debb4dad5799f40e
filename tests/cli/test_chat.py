"""A conversation over a channel in memory, the computation in the clear: what is read, forgotten and shown."""

import json
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

import aero.cli.chat as chat_module
from aero.cli.chat import fitting
from aero.cli.main import app
from aero.data.chat_template import ChatTemplate
from aero.data.tokenizer import Tokenizer
from aero.engines.reveal import TOKEN
from aero.report.record import read_records
from aero.serve.session import Span
from serve.test_session import Session, greedy, tokenizer_bytes

assert tokenizer_bytes  # the fixture of the sessions


@pytest.fixture
def talk(tokenizer_bytes, monkeypatch, tmp_path):
    """Type lines into `aero chat`; gives the session and what was printed."""

    def run(lines: list[str | bytes], *options: str, reveal=None) -> tuple[Session, object]:
        session = Session(tokenizer_bytes, reveal) if reveal else Session(tokenizer_bytes)

        @contextmanager
        def in_memory(address, security, progress, pad_to, wait, guesses, steady):
            with session.client(pad_to, guesses, steady) as client:
                yield client

        monkeypatch.setattr(chat_module, "private_session", in_memory)
        typed = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
        result = CliRunner().invoke(app, ["chat", "h:1", "--insecure-plaintext", *options], input=typed)
        session.client_channel.close()
        session.join()
        return session, result

    return run


def test_an_answer_continues_what_was_said(talk, tmp_path):
    files = ["--report", str(tmp_path / "chat.html"), "--json", str(tmp_path / "records.json")]
    session, result = talk(["t", "", "o"], "-n", "2", *files)
    assert result.exit_code == 0, result.output
    assert session.failure is None
    # "t", two tokens of answer of which the second was not read; then that and "o"; each then one token more.
    assert session.steps == [Span(0, 1), Span(1, 1), Span(2, 2), Span(4, 1)]
    answers = json.loads((tmp_path / "chat.json").read_text())["answers"]
    ids: list[int] = []
    for answer, line in zip(answers, "to", strict=True):
        assert answer["prompt"] == line
        ids += [answer["prompt_ids"][-1]]
        assert answer["prompt_ids"] == ids
        assert [token["id"] for token in answer["tokens"]] == greedy(ids, 2)
        ids += greedy(ids, 2)
    works = [(record.work, record.context) for record in read_records(tmp_path / "records.json")]
    assert works == [("set-up", None), ("prefill", 1), ("next-token", 2), ("prefill", 4), ("next-token", 5)]
    assert "2 tokens read, 2 new" in result.output and "0.00 MB up" in result.output
    assert "the logits of every token" in result.output


def test_a_new_conversation_and_one_that_outgrows_the_context(talk):
    session, result = talk(["t", "/new", "t", "o", "be or not to be", "/quit"], "-n", "2")
    assert result.exit_code == 0, result.output
    assert session.steps[2] == Span(0, 1)  # anew
    assert session.client_engine.forgotten == session.server_engine.forgotten == [0]
    assert "tokens are forgotten" not in result.output.split("> ")[4]
    assert "do not fit the model's context of 6" in result.output  # one line, and the conversation goes on
    session, result = talk(["t", "o", "t"], "-n", "2")
    # 1 + 2, 1 + 2 and 1 tokens, and room for one of the answer's two: the first turn and its answer go.
    assert "the oldest 3 tokens are forgotten" in result.output
    assert session.steps[-2:] == [Span(0, 4), Span(4, 1)]


def test_a_line_that_the_server_declines_is_left_out_of_the_conversation(talk, monkeypatch):
    monkeypatch.setattr(Session, "refused", (2,))
    session, result = talk(["t", "o", "ooo"], "-n", "1")
    assert result.exit_code == 1, result.output
    assert "error: the server declines: it cannot compute 2 tokens" in result.output
    assert len(session.declined) == 1 and session.steps == [Span(0, 1), Span(1, 4)]


def test_what_there_was_of_an_answer_is_kept(talk, monkeypatch, tmp_path):
    """An answer's first token is computed with two rows, its second with one, which is declined."""
    monkeypatch.setattr(Session, "refused", (1,))
    session, result = talk(["oo"], "-n", "2", "--json", str(tmp_path / "r.json"))
    assert result.exit_code == 1 and "error: the server declines: it cannot compute 1 tokens" in result.output
    assert session.steps == [Span(0, 2)] and len(session.declined) == 1
    assert [record.work for record in read_records(tmp_path / "r.json")] == ["set-up", "prefill"]
    assert "2 tokens read, 1 new" in result.output


def test_a_server_that_reveals_a_token_alone(talk):
    _, result = talk(["t"], "-n", "1", reveal=TOKEN)
    assert result.exit_code == 0 and "the most likely token alone" in result.output
    _, result = talk(["t"], "-n", "1", "--temperature", "1", reveal=TOKEN)
    assert result.exit_code != 0 and "nothing to draw from" in str(result.exception)


def test_turns_that_fit():
    turns = [[1] * 3, [2] * 2, [3] * 4]
    assert fitting(turns, 1, 9) == (turns, 0)
    assert fitting(turns, 2, 9) == (turns[1:], 3)
    assert fitting(turns, 6, 9) == (turns[2:], 5)
    with pytest.raises(ValueError, match="do not fit"):
        fitting(turns, 7, 9)


def test_a_template_says_where_the_line_goes(talk):
    session, result = talk(["t"], "-n", "1", "--template", "o{}b")
    assert result.exit_code == 0 and session.steps == [Span(0, 3)]
    _, result = talk(["t"], "--template", "none")
    assert result.exit_code != 0 and "put one in" in str(result.exception)


def test_a_line_that_is_not_utf8_is_left_out_of_the_conversation(talk):
    session, result = talk([b"\xef\xbb\xbft", b"caf\xe9", b"\xff\xfe", b"", b" ", b"o"], "-n", "1")
    assert result.exit_code == 0, result.output
    assert session.steps == [Span(0, 1), Span(1, 2)]  # "t" without its mark; its answer, and "o"
    assert result.output.count("error: the text is not Unicode at character") == 2
    assert "at character 3" in result.output and "at character 0" in result.output


@pytest.mark.parametrize("line", [b"\x00", b"t\x00o", b"\x1b[2J", "\U0010ffff".encode(), "\u2028".encode()])
def test_any_unicode_line_is_text(talk, line):
    session, result = talk([line, "/new", "t"], "-n", "1")
    assert result.exit_code == 0, result.output
    assert session.failure is None and session.steps[-1] == Span(0, 1)


def test_what_stands_in_brackets_is_shown_as_it_is(talk):
    """An error is no markup."""
    _, result = talk(["[/red]" * 9], "-n", "1")
    assert result.exit_code == 0 and "error: a prompt of" in result.output


def test_the_models_own_template_writes_the_conversation(talk, tokenizer_bytes, monkeypatch, tmp_path):
    tokenizer = Tokenizer.from_bytes(tokenizer_bytes)
    monkeypatch.setattr(
        Session, "chat_template", ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    )  # fmt: skip
    # What the toy says is text only now and then.
    line = next(
        text for text in map(chr, range(33, 127)) if tokenizer.decode(greedy(tokenizer.encode(text), 2)).isascii()
    )
    session, result = talk([line, "o", "/new", line], "-n", "2", "--report", str(tmp_path / "chat.html"))
    assert result.exit_code == 0, result.output
    answers = json.loads((tmp_path / "chat.json").read_text())["answers"]
    first = [*tokenizer.encode(line), *greedy(tokenizer.encode(line), 2)]
    assert answers[1]["prompt_ids"] == [*first, *tokenizer.encode("o")]
    # The answer's first token was read, so that its second and the line are new.
    assert session.steps == [Span(0, 1), Span(1, 1), Span(2, 2), Span(4, 1), Span(0, 1), Span(1, 1)]
    session, _ = talk([line, "o", "t"], "-n", "2")
    assert session.steps[-2:] == [Span(0, 4), Span(4, 1)]  # the oldest line went, with its answer
    session, _ = talk(["t"], "-n", "1", "--template", "o{}b")  # one of the user's own goes before it
    assert session.steps == [Span(0, 3)]
