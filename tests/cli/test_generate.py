"""`aero generate` with several prompts, over a channel in memory, the computation in the clear."""

import json
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

import aero.cli.generate as generate_module
from aero.cli.main import app
from aero.data.tokenizer import END_OF_TEXT, Tokenizer
from aero.serve.session import Span
from aero.wire import safe_text
from clear_session import LONGER
from serve.test_session import InsecureTestEngine, Session, greedy, tokenizer_bytes

assert tokenizer_bytes  # the fixture of the sessions


@pytest.fixture
def generate(tokenizer_bytes, monkeypatch):
    """Run the verb; gives the session and what was printed."""

    def run(
        *options: str, typed: str | bytes = "", tokenizer: bytes = tokenizer_bytes, **offer
    ) -> tuple[Session, object]:
        session = Session(tokenizer, **offer)

        @contextmanager
        def in_memory(address, security, progress, pad_to, wait, guesses, steady):
            with session.client(pad_to, guesses, steady) as client:
                yield client

        monkeypatch.setattr(generate_module, "private_session", in_memory)
        command = ["generate", "--private", "h:1", "--insecure-plaintext", *options]
        result = CliRunner().invoke(app, command, input=typed)
        session.client_channel.close()
        session.join()
        return session, result

    return run


def test_several_prompts_are_shown_one_after_the_other(generate, tmp_path):
    options = ["-n", "3", "--json", str(tmp_path / "g.json"), "--report", str(tmp_path / "page.html")]
    session, result = generate("--prompt", "t", "--prompt", "-", *options, typed="be")
    assert result.exit_code == 0 and session.failure is None, result.output
    data = json.loads((tmp_path / "g.json").read_text())
    texts = []
    for answer, prompt in zip(data["answers"], ("t", "be"), strict=True):
        assert answer["prompt"] == prompt and answer["new_ids"] == greedy(answer["prompt_ids"], 3)
        texts.append(prompt + answer["text"])
    shown = [safe_text(text) for text in texts]  # the model is a random one
    assert f"--- prompt 1 ---\n{shown[0]}\n--- prompt 2 ---\n{shown[1]}\n" in result.stdout
    assert [(r["work"], r.get("prompts")) for r in data["records"]] == [
        ("set-up", None), ("prefill", 2), ("next-token", 2), ("next-token", 2),
    ]  # fmt: skip
    assert result.output.count("for 2 prompts") == 3
    assert "Prompt 2 and its answer" in (tmp_path / "page.html").read_text()


def test_a_single_prompt_is_shown_as_it_is(generate, tmp_path):
    _, result = generate("--prompt", "t", "-n", "2", "--json", str(tmp_path / "g.json"))
    data = json.loads((tmp_path / "g.json").read_text())
    assert result.exit_code == 0 and "answers" not in data and "--- prompt" not in result.output
    assert data["new_ids"] == greedy(data["prompt_ids"], 2) and "for 1 prompts" not in result.output


def test_lengths_are_padded(generate, tmp_path):
    steps = []
    for prompt in ("t", "to"):
        session, result = generate("--prompt", prompt, "--pad-to", "4", "-n", "2")
        assert result.exit_code == 0, result.output
        steps.append(session.steps)
    assert steps[0] == steps[1] == [Span(0, 4), Span(4, 1)]


def test_tokens_that_are_guessed(generate, monkeypatch, tmp_path):
    """Records are of runs; the page says which tokens a run computed."""
    ids = [1, 2, 3]
    tokens = greedy(ids, 24, LONGER)
    monkeypatch.setattr("aero.serve.client.continued_phrase", lambda read, most: [*ids, *tokens][len(read) :][:most])
    page, path = tmp_path / "page.html", tmp_path / "g.json"
    monkeypatch.setattr("aero.data.tokenizer.Tokenizer.encode_prompt", lambda *_, **__: ids)
    options = ["--prompt", "x", "-n", "24", "--guess", "3", "--json", str(path), "--report", str(page)]
    session, result = generate(*options, program=LONGER)
    assert result.exit_code == 0, result.output
    data = json.loads(path.read_text())
    assert data["new_ids"] == tokens
    assert sum(step.outputs for step in session.steps) == 24 > len(session.steps)
    assert [record["work"] for record in data["records"]] == [
        "set-up", "prefill", *["next-token"] * (len(session.steps) - 1)
    ]  # fmt: skip
    assert "more where guesses hold" in page.read_text()
    made, held = (sum(record.get(name, 0) for record in data["records"]) for name in ("guesses", "guesses_held"))
    assert held == 24 - len(session.steps) and made == held, "all that were made, as the text goes on as told"
    line = f"24 tokens in {len(session.steps)} runs: {held} of {made} guesses held"
    assert line in result.output and f"{held} of {made} guesses held: 24 tokens" in page.read_text()


def test_a_terminal_obeys_no_generated_text(generate, tokenizer_bytes, tmp_path):
    """A tokenizer whose words are orders to a terminal: of the bytes of each word, ESC [2J, a newline and a tab."""
    file = json.loads(tokenizer_bytes)
    vocab = file["model"]["vocab"]
    kept = {word: number for word, number in vocab.items() if word in ("t", END_OF_TEXT)}
    order = "\u011b[2J\u010a\u0109"  # as GPT-2 spells these bytes
    orders = {order + word: number for word, number in vocab.items() if word not in kept}
    file["model"] |= {"vocab": kept | orders, "merges": []}
    options = ["--prompt", "t", "-n", "2", "--json", str(tmp_path / "g.json")]
    _, result = generate(*options, tokenizer=json.dumps(file).encode())
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output and result.stdout.startswith("t\ufffd[2J\n\t")
    assert json.loads((tmp_path / "g.json").read_text())["text"].startswith("\x1b[2J\n\t")


def test_what_it_refuses(generate):
    session, result = generate("--prompt", "t", "--prompt", "o", max_prompts=1)
    assert "1 to 1 prompts at once, not 2" in str(result.exception) and session.done == []
    _, result = generate("--prompt", "-", "--prompt", "-")
    assert "standard input is read once" in str(result.exception)


def test_prompts_that_are_not_unicode_or_empty(generate, tmp_path):
    for typed, complaint in (
        (b"caf\xe9", "not Unicode at character 3"),
        (b"", "the prompt is empty"),
        (b"t" * 9, "fit"),
    ):
        session, result = generate("--prompt", "-", typed=typed)
        assert complaint in str(result.exception) and "\n" not in str(result.exception)
        assert session.done == []
    session, result = generate("--prompt", "-", "-n", "1", "--json", str(tmp_path / "g.json"), typed=b"\xef\xbb\xbft")
    assert result.exit_code == 0 and json.loads((tmp_path / "g.json").read_text())["prompt"] == "t"
    _, result = generate("--prompt", "\udce9")  # as the system gives an argument that is not UTF-8
    assert "not Unicode at character 0" in str(result.exception)


def test_json_alone_on_standard_output(generate):
    _, result = generate("--prompt", "t", "-n", "2", "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["prompt"] == "t"
    assert "prompt tokens" in result.stderr


@pytest.mark.parametrize("prompts, refused", [(["oo"], (1,)), (["oo", "o"], (1, 1))])
def test_what_was_generated_is_kept_when_a_step_is_declined(generate, monkeypatch, tmp_path, prompts, refused):
    monkeypatch.setattr(Session, "refused", refused)
    given = [part for prompt in prompts for part in ("--prompt", prompt)]
    files = ["--json", str(tmp_path / "g.json"), "--report", str(tmp_path / "page.html")]
    _, result = generate(*given, "-n", "3", *files)
    assert result.exit_code == 1 and "the server declines: it cannot compute" in str(result.exception)
    data = json.loads((tmp_path / "g.json").read_text())
    for prompt, answer in zip(prompts, data.get("answers", [data]), strict=True):
        assert answer["new_ids"] == greedy(answer["prompt_ids"], 1)
        assert prompt + safe_text(answer["text"]) in result.output
    assert [record["work"] for record in data["records"]] == ["set-up", "prefill"]
    assert "oo" in (tmp_path / "page.html").read_text()


def test_what_was_generated_is_kept_when_the_server_goes_away(generate, monkeypatch, tmp_path):
    def load(self, batch):
        if batch[0].graph.state_in:
            raise RuntimeError("the server's process dies")

    monkeypatch.setattr(InsecureTestEngine, "load", load)
    _, result = generate("--prompt", "oo", "-n", "3", "--json", str(tmp_path / "g.json"))
    assert result.exit_code == 1 and isinstance(result.exception, ConnectionError)
    data = json.loads((tmp_path / "g.json").read_text())
    assert data["new_ids"] == greedy(data["prompt_ids"], 1) and "oo" + safe_text(data["text"]) in result.output


def test_special_tokens_in_prompts_are_text_unless_they_are_meant(generate, tokenizer_bytes, tmp_path):
    prompt, files = f"to{END_OF_TEXT}b", ["-n", "1", "--json", str(tmp_path / "g.json")]
    _, result = generate("--prompt", prompt, *files)
    assert "do not fit" in str(result.exception)  # letter by letter, in the small model's context
    _, result = generate("--prompt", prompt, "--special", *files)
    assert result.exit_code == 0, result.exception
    said = json.loads((tmp_path / "g.json").read_text())
    tokens = Tokenizer.from_bytes(tokenizer_bytes)
    assert said["special"] is True
    assert said["prompt_ids"] == [*tokens.encode("to"), tokens.end_of_text, *tokens.encode("b")]
    assert f"read as special tokens: {END_OF_TEXT}" in result.stderr


@pytest.mark.parametrize("stop", [[], ["--stop", "zzz"]])
def test_the_models_end_tokens_end_private_texts_of_a_batch(generate, tmp_path, stop):
    options = ["--prompt", "t", "--prompt", "b", "-n", "4", *stop, "--json", str(tmp_path / "g.json")]
    generate(*options)
    free = [answer["new_ids"] for answer in json.loads((tmp_path / "g.json").read_text())["answers"]]
    assert [len(ids) for ids in free] == [4, 4]
    ends = (free[0][1], free[1][2])
    _, result = generate(*options, ends=ends)
    assert result.exit_code == 0, result.exception
    answers = json.loads((tmp_path / "g.json").read_text())["answers"]
    expected = [ids[: next(i for i, token in enumerate(ids) if token in ends) + 1] for ids in free]
    assert [answer["new_ids"] for answer in answers] == expected and min(map(len, expected)) < 4
