"""`aero generate`: continue a prompt, privately with a server or in plaintext from a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aero.cli import streams
from aero.cli.live_text import LiveText
from aero.cli.options import (
    Guess,
    Keys,
    NoTls,
    PadTo,
    Reconnect,
    SamplingSeed,
    SessionReport,
    Special,
    Steady,
    Stop,
    Temperature,
    Threads,
    TopK,
    TopP,
    Wait,
    json_option,
)
from aero.cli.private import answers_with, cost_line, numbered, parse_address, private_session, session_of, special_note
from aero.cli.security import security_of
from aero.cli.step_table import step_table
from aero.engines.reveal import Reveal
from aero.kernels import native
from aero.mpc.party import Role
from aero.report.record import Record, write_json
from aero.report.session import Answer, Session, guesses_line, write_report
from aero.serve.client import check_length, check_prompts, check_sampling
from aero.serve.reconnecting import RECONNECTIONS, Reconnecting
from aero.serve.sampling import Sampler, Sampling
from aero.serve.text import TextStream
from aero.wire import safe_text

if TYPE_CHECKING:
    from aero.data.tokenizer import Tokenizer
    from aero.models import AeroForCausalLM

DEFAULT_PROMPT = "def main():\n"


def generate(
    run: Annotated[Path | None, typer.Argument(help="Run folder, to generate in plaintext.")] = None,
    private: Annotated[
        str | None,
        typer.Option("--private", "--server", metavar="HOST:PORT", help="Server to generate with, privately."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="Text to continue; - reads standard input. Repeatable: several are continued together, privately in "
            "the rounds of one.",
            show_default="def main():",
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", help="Tokens to generate.", min=1)] = 8,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: SamplingSeed = None,
    stop: Stop = None,
    special: Special = False,
    pad_to: PadTo = None,
    guess: Guess = 0,
    steady: Steady = False,
    wait: Wait = None,
    reconnect: Reconnect = RECONNECTIONS,
    keys: Keys = None,
    insecure_plaintext: NoTls = False,
    threads: Threads = None,
    report: SessionReport = None,
    operations: Annotated[
        bool, typer.Option("--operations", help="Show what each operation of the last private token cost.")
    ] = False,
    json: Annotated[Path | None, json_option("Write prompt, ids, text and a record of each token.")] = None,
) -> None:
    """Continue a prompt, or several, from a run in plaintext, or with --private without showing the server any text.

    Generation ends with one of the model's end tokens, which aero convert keeps, with --stop, or after -n tokens.
    --json writes an object: special (whether special tokens in prompts were read as such), prompt, prompt_ids, new_ids,
    text, records (of a private session's set-up, and of each token); of a private session also reveal, and what was
    revealed of each output: logits, or revealed ([id, logit]).
    A session that ends too early leaves what there was by then, and the exit code 1.
    Of several prompts: answers, a list of such objects, and records, each of a token of every prompt that still grew.
    """
    if (run is None) == (private is None):
        raise ValueError("give either a run folder, or --private HOST:PORT")
    if report is not None and private is None:
        raise ValueError("--report is about a private session; give --private HOST:PORT with it")
    if pad_to is not None and private is None:
        raise ValueError("--pad-to is about what a server learns; give --private HOST:PORT with it")
    if guess and private is None:
        raise ValueError("--guess saves rounds with a server; give --private HOST:PORT with it")
    if steady and not guess:
        raise ValueError("--steady is about guesses; give --guess N with it")
    if wait is not None and private is None:
        raise ValueError("--wait is for a place at a server; give --private HOST:PORT with it")
    sampling = Sampling(temperature, top_k, top_p, seed)
    texts = _texts(prompt or [DEFAULT_PROMPT])
    if private is not None:
        parse_address(private)
        security = security_of(keys, Role.CLIENT, insecure_plaintext)
        if threads is not None:
            native.set_threads(threads)
        with (
            LiveText() as live,
            Reconnecting(
                lambda: private_session(private, security, live.progress, pad_to, wait, guess, steady),
                reconnect,
                live.note,
            ) as client,
        ):
            offer, ids = client.offer, [client.tokenizer.encode_prompt(text, special=special) for text in texts]
            check_prompts(len(ids), offer)
            for tokens in ids:
                check_length(len(tokens), max_new_tokens, offer.context)
            check_sampling(sampling, offer)
            live.note(
                f"{', '.join(str(len(tokens)) for tokens in ids)} prompt tokens; {offer.notation} by {offer.engine}; "
                f"you will learn {offer.revealed.described} of each output"
            )
            if note := special_note(client.tokenizer, texts, special=special):
                live.note(note)
            answers, failure = answers_with(client, live, texts, ids, max_new_tokens, sampling, stop or ())
            session = session_of(client, answers)
            for record in session.records():
                live.note(cost_line(record))
            if line := guesses_line(session.runs):
                live.note(f"{len(session.tokens)} tokens in {len(session.runs)} runs: {line}")
            if failure is not None:  # what there is, is kept
                _write(_result(session, special), json, session, report)
                raise failure
            if operations:
                title = "the last run, by operation (MB = 10^6 bytes)"
                table = step_table(title, session.runs[-1].report)
                Console(stderr=True, highlight=False).print(table)
            result = _result(session, special)
    else:
        assert run is not None
        result = _plaintext(run, texts, max_new_tokens, sampling, stop or [], special)
        session = None
    _write(result, json, session, report)


def _write(result: dict[str, object], json: Path | None, session: Session | None, report: Path | None) -> None:
    if json is not None:
        write_json(json, result)
    if report is not None:
        assert session is not None
        write_report(session, report)


def _texts(prompts: list[str]) -> list[str]:
    """- is standard input, which is read once."""
    if prompts.count("-") > 1:
        raise ValueError("standard input is read once; give --prompt - once")
    return [streams.read_all() if prompt == "-" else prompt for prompt in prompts]


def _result(session: Session, special: bool) -> dict[str, object]:
    """What `--json` writes: the keys of a prompt, or "answers" with those of each of several; and records."""
    answers = [_answer_json(answer, session.offer.revealed) for answer in session.answers]
    own = answers[0] if len(answers) == 1 else {"answers": answers}
    records = [record.to_json() for record in session.records()]
    return {"special": special, **own, "reveal": session.offer.reveal, "records": records}


def _answer_json(answer: Answer, reveal: Reveal) -> dict[str, object]:
    """Logits for each new token where all are revealed, else the ids and logits that are."""
    result: dict[str, object] = {
        "prompt": answer.prompt,
        "prompt_ids": list(answer.prompt_ids),
        "new_ids": [token.id for token in answer.tokens],
        "text": answer.text,
    }
    if reveal.k is None:
        result["logits"] = [token.logits.round(6).tolist() for token in answer.tokens]
    elif reveal.values:
        result["revealed"] = [
            [[int(i), round(float(token.logits[i]), 6)] for i in token.revealed] for token in answer.tokens
        ]
    return result


def _plaintext(
    run: Path, texts: list[str], max_new_tokens: int, sampling: Sampling, stop: list[str], special: bool
) -> dict[str, object]:
    """One prompt after the other."""
    from aero.compiler.run import load_model
    from aero.data import tokenizer as tokenizers

    model, tokenizer = load_model(run), tokenizers.load(run)
    prompts = [tokenizer.encode_prompt(text, special=special) for text in texts]
    for ids in prompts:
        check_length(len(ids), max_new_tokens, model.config.context)
    if note := special_note(tokenizer, texts, special=special):
        typer.echo(note, err=True)
    answers: list[dict[str, object]] = []
    records: list[Record] = []
    for number, (text, ids) in enumerate(zip(texts, prompts, strict=True), 1):
        if len(texts) > 1:
            typer.echo(numbered(number))
        answers.append(_continued(model, tokenizer, text, ids, max_new_tokens, sampling, stop, records))
    own = answers[0] if len(answers) == 1 else {"answers": answers}
    return {"special": special, **own, "records": [record.to_json() for record in records]}


def _continued(
    model: AeroForCausalLM,
    tokenizer: Tokenizer,
    text: str,
    ids: list[int],
    max_new_tokens: int,
    sampling: Sampling,
    stop: list[str],
    records: list[Record],
) -> dict[str, object]:
    """Continue one prompt, and show it; adds a record of each token."""
    import torch

    typer.echo(text, nl=False)
    sampler, stream = Sampler(sampling), TextStream(tokenizer.decode, stop)
    new: list[int] = []
    notation, ends = str(model.config.notation), model.config.end_tokens
    while len(new) < max_new_tokens and not stream.stopped and not (new and new[-1] in ends):
        start = time.perf_counter()
        with torch.inference_mode():
            logits = model(torch.tensor([ids + new])).logits[0, -1, : tokenizer.vocab_size]
        token = sampler.choose(logits.double().numpy())
        seconds = time.perf_counter() - start
        records.append(Record("next-token", "insecure-plaintext", notation, len(ids) + len(new), seconds))
        new.append(token)
        if token not in ends:
            typer.echo(safe_text(stream.push(token)), nl=False)
    typer.echo(safe_text(stream.finish()))
    return {"prompt": text, "prompt_ids": ids, "new_ids": new, "text": stream.text}
