"""The page of a session: the same numbers as in the records, and no more than the client may show."""

import json
import re

import numpy as np
import pytest

from aero.engines.engine import RunCost, StepReport
from aero.report.session import Answer, Session, by_op, total, write_report
from aero.serve.client import PrivateRun, PrivateToken
from aero.serve.session import PROTOCOL, Offer, Span


def offer(reveal: str = "logits") -> Offer:
    return Offer(PROTOCOL, "0", "SM+ScFuFFN", 12, 9, "two-party", reveal, 8, 100)


def report(scale: int) -> tuple[StepReport, ...]:
    return (
        StepReport("blocks.0.scores", "scores", 100 * scale, 200 * scale, 2, 0.1 * scale, 0.05),
        StepReport("blocks.1.scores", "scores", 100 * scale, 200 * scale, 2, 0.1 * scale, 0.05),
        StepReport("blocks.0.softmax", "softmax", 1000 * scale, 50 * scale, 30, 0.7 * scale, 0.2),
    )


def token(id_: int, text: str, step: Span, scale: int, logits: np.ndarray | None = None) -> PrivateToken:
    run = PrivateRun(id_, (step,), cost_of(scale), report(scale))
    return PrivateToken(id_, text, np.zeros(9) if logits is None else logits, step, run)


def cost_of(scale: int) -> RunCost:
    return RunCost(0.9 * scale, 1200 * scale, 450 * scale, 34, 40)


def session(reveal: str = "logits", logits: np.ndarray | None = None) -> Session:
    steps = [Span(0, 3), Span(3, 1), Span(4, 1)]
    tokens = tuple(
        token(i, text, step, scale, logits)
        for i, (text, step, scale) in enumerate(zip(("<b", "", "é>"), steps, (10, 1, 3), strict=True))
    )
    return Session(offer(reveal), RunCost(2.0, 5000, 6000, 7, 8), (Answer("a <prompt>", (1, 2, 3), tokens),))


def test_operations_add_up():
    scores, softmax = sorted(by_op(report(2)), key=lambda line: line.op)
    assert (scores.op, scores.label, softmax.label) == ("scores", "2", "1")
    assert (scores.bytes_client_to_server, scores.bytes_server_to_client, scores.rounds) == (400, 800, 4)
    assert scores.seconds == pytest.approx(0.4) and softmax.seconds == pytest.approx(1.4)
    assert [line.op for line in by_op(report(2))] == ["softmax", "scores"]  # the longest first


def test_a_sum_with_something_unknown_is_unknown():
    assert total([RunCost(1.0, 2, 3, 4, 5), RunCost(0.5, 1, None, 1, 1)]) == RunCost(1.5, 3, None, 5, 6)
    assert total([]) == RunCost(0.0, 0, 0, 0, 0)


def test_records_keep_prompts_and_tokens_apart():
    records = session().records()
    assert [(r.work, r.context) for r in records] == [
        ("set-up", None), ("prefill", 3), ("next-token", 4), ("next-token", 5),
    ]  # fmt: skip
    assert [r.bytes_client_to_server for r in records] == [5000, 12000, 1200, 3600]


def test_the_page_stands_alone_and_says_what_the_json_says(tmp_path):
    path = tmp_path / "session.html"
    write_report(session(), path)
    page, data = path.read_text(), json.loads((tmp_path / "session.json").read_text())
    assert "a &lt;prompt&gt;&lt;bé&gt;" in page and "<b" not in page.split("<body>")[1].replace("<body", "")[:200]
    assert not re.search(r"<script|https?://|src=(?!\"data:)", page)
    (answer,) = data["answers"]
    assert answer["text"] == "<bé>" and [t["tokens_read"] for t in answer["tokens"]] == [3, 1, 1]
    assert [t["record"]["work"] for t in answer["tokens"]] == ["prefill", "next-token", "next-token"]
    assert all(sum(o["rounds"] for o in t["operations"]) == t["record"]["rounds"] for t in answer["tokens"])
    for cells in (
        ("set-up", "2.00", "0.01", "0.01", "7", "8"),
        ("prefill, 1 in all, the mean", "9.00", "0.01", "0.00", "34", "40"),
        ("next-token, 2 in all, the mean", "1.80", "0.00", "0.00", "34", "40"),
    ):
        assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    # The bar of the tokens' seconds: softmax (0.7 + 2.1) / 2 and scores (0.2 + 0.6) / 2
    assert "softmax: 1.4 seconds, 78%" in page and "scores: 0.4 seconds, 22%" in page


def test_what_each_party_saw(tmp_path):
    logits = np.full(9, -np.inf)
    logits[4] = 0.0
    write_report(session("token", logits), tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text()
    seen = page[page.index("What each party saw") :]
    assert "1 prompts of 3 new tokens" in seen and "3 ids, without their logits in 3 outputs" in seen
    assert "prompt&gt;" not in seen
    data = json.loads((tmp_path / "s.json").read_text())
    assert {row["of"]: row["server"] for row in data["seen"]}["outputs"] == "nothing"
    assert "prompt" not in {row["client"] for row in data["seen"]}
    everything = session()
    write_report(everything, tmp_path / "s.html")
    assert "27 logits in 3 outputs" in (tmp_path / "s.html").read_text()


def test_an_engine_that_cannot_tell_has_no_operations(tmp_path):
    tokens = tuple(
        PrivateToken(1, "x", np.zeros(9), Span(0, 2), PrivateRun(0, (Span(0, 2),), RunCost(1.0))) for _ in range(1)
    )
    write_report(Session(offer(), RunCost(0.0), (Answer("p", (1, 2), tokens),)), tmp_path / "s.html")
    page = (tmp_path / "s.html").read_text()
    assert "Operations" not in page and "<td>?</td>" in page


def test_a_run_for_several_prompts_counts_once(tmp_path):
    """Two prompts, of which the second ends after its first token."""
    steps = [(Span(0, 3), Span(0, 2)), (Span(3, 1),)]
    runs = [
        PrivateRun(i, each, cost_of(scale), report(scale))
        for i, (each, scale) in enumerate(zip(steps, (10, 1), strict=True))
    ]
    first = tuple(PrivateToken(7, text, np.zeros(9), run.steps[0], run) for text, run in zip("ab", runs, strict=True))
    second = (PrivateToken(8, "c", np.zeros(9), runs[0].steps[1], runs[0]),)
    answers = Answer("one ", (1, 2, 3), first), Answer("two ", (4, 5), second)
    whole = Session(offer(), RunCost(2.0, 5000, 6000, 7, 8), answers)
    assert [(r.work, r.context, r.extra.get("prompts")) for r in whole.records()] == [
        ("set-up", None, None), ("prefill", 3, 2), ("next-token", 4, 1),
    ]  # fmt: skip
    assert [answer.cost.rounds for answer in answers] == [68, 34]
    write_report(whole, tmp_path / "s.html")
    page, data = (tmp_path / "s.html").read_text(), json.loads((tmp_path / "s.json").read_text())
    for number, text in ((1, "one ab"), (2, "two c")):
        assert f"Prompt {number} and its answer" in page and f">{text}<" in page
    # Each token names its run; each run its prompts, and its cost once.
    for cells in (("&#x27;b&#x27;", "next-token, 4 tokens", "2"), ("&#x27;c&#x27;", "prefill, 2 tokens", "1")):
        assert "".join(f"<td>{cell}</td>" for cell in cells) in page
    assert "<td>1</td><td>prefill</td><td>1, 2</td><td>9.00</td>" in page
    assert "<td>2</td><td>next-token</td><td>1</td><td>0.90</td>" in page
    assert "of the whole run, not of each token" in page
    assert "prefill, 1 in all, the mean" in page and "3 outputs in 2 steps" in page
    assert "0.02 MB, masked or encrypted" in page  # 5000 + 12000 + 1200 bytes to the server, the shared run once
    assert [[t["run"] for t in answer["tokens"]] for answer in data["answers"]] == [[0, 1], [0]]
