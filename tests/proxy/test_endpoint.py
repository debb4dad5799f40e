"""The endpoint as programs see it: the official client, over HTTP; the computation behind it is in the clear."""

import asyncio
import json
import math
import time

import numpy as np
import openai
import pytest

from aero.data.chat_template import ChatTemplate
from aero.engines.reveal import Reveal
from aero.proxy.guard import Guard
from aero.serve.chat import Template
from aero.serve.limits import LimitError
from aero.serve.sampling import Sampler, Sampling
from aero.wire import PeerBusyError
from clear_session import LONGER as PROGRAM
from clear_session import Sessions, greedy, logits_after, tokenizer_file
from served_endpoint import PATIENCE, Served

CONTEXT = PROGRAM.graph.length


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> bytes:
    return tokenizer_file(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def serve(tokenizer):
    served = []

    def begin(guard=None, queue=16, max_prompts=4, template=None, how=None, **options):
        sessions = Sessions(tokenizer, max_prompts, **options)
        sessions.how = how or {}
        served.append(Served(sessions, guard or Guard(), queue, template))
        return served[-1]

    yield begin
    for one in served:
        one.close()


@pytest.fixture(scope="module")
def served(serve):
    return serve()


def text_of(served, prompt, count):
    ids = served.tokenizer.encode(prompt)
    return served.tokenizer.decode(greedy(ids, count, PROGRAM))


def test_the_model_is_listed(served):
    assert [model.id for model in served.client().models.list()] == ["toy"]
    assert served.client().models.retrieve("toy").id == "toy"
    with pytest.raises(openai.NotFoundError):
        served.client().models.retrieve("gpt-9")


def test_a_completion_is_the_models_text(served):
    found = served.client().completions.create(model="toy", prompt="to be", max_tokens=5, temperature=0)
    (choice,) = found.choices
    assert choice.text == text_of(served, "to be", 5) and choice.finish_reason == "length"
    count = len(served.tokenizer.encode("to be"))
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (count, 5, count + 5)
    spent = found.model_extra["x_aero"]
    assert spent["runs"] == spent["tokens"] == 5
    assert spent["bytes_client_to_server"] == 5 * 10 and spent["seconds"] == 5 * 0.5  # what the engine says of each


def test_set_up_is_apart_and_belongs_to_the_first_answer(serve):
    served = serve()
    first, second = (
        served.client().completions.create(model="toy", prompt="to be", max_tokens=2, temperature=0).model_extra
        for _ in range(2)
    )
    greeting = len(served.sessions.tokenizer)
    assert first["x_aero"]["set_up"]["bytes_server_to_client"] > greeting and first["x_aero"]["set_up"]["seconds"] > 0
    assert second["x_aero"]["set_up"]["bytes_server_to_client"] < greeting  # the steps are known by then
    assert [one["x_aero"]["bytes_server_to_client"] for one in (first, second)] == [40, 40]


def test_a_stream_has_the_same_text_and_usage(served):
    whole = served.client().completions.create(model="toy", prompt="to be", max_tokens=5, temperature=0)
    pieces = list(
        served.client().completions.create(
            model="toy", prompt="to be", max_tokens=5, temperature=0, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == whole.choices[0].text
    assert [piece.choices[0].finish_reason for piece in pieces if piece.choices] == [None] * 4 + ["length"]
    assert pieces[-1].usage == whole.usage and not pieces[-1].choices
    assert len({piece.id for piece in pieces}) == 1


def test_token_ids_as_prompts_several_prompts_and_choices(served):
    ids = [[1, 2, 3], [7, 8]]
    found = served.client().completions.create(model="toy", prompt=ids, max_tokens=3, temperature=0, n=2)
    texts = [served.tokenizer.decode(greedy(one, 3, PROGRAM)) for one in ids for _ in range(2)]
    assert [choice.text for choice in found.choices] == texts
    assert [choice.index for choice in found.choices] == [0, 1, 2, 3]
    assert found.usage.prompt_tokens == 5 and found.usage.completion_tokens == 12


def test_drawn_tokens_are_those_of_the_seed(served):
    ids = served.tokenizer.encode("to be")
    sampler, expected = Sampler(Sampling(0.9, top_p=0.8, seed=11)), list(ids)
    for _ in range(6):
        expected.append(sampler.choose(logits_after(expected, PROGRAM)[: served.tokenizer.vocab_size]))
    found = served.client().completions.create(
        model="toy", prompt="to be", max_tokens=6, temperature=0.9, top_p=0.8, seed=11
    )
    assert found.choices[0].text == served.tokenizer.decode(expected[len(ids) :])


def test_logprobs_are_those_of_the_logits(served):
    ids = served.tokenizer.encode("to be")
    found = served.client().completions.create(model="toy", prompt="to be", max_tokens=2, temperature=0, logprobs=3)
    logprobs = found.choices[0].logprobs
    logits = logits_after(ids, PROGRAM)[: served.tokenizer.vocab_size]
    expected = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
    np.testing.assert_allclose(logprobs.token_logprobs[0], expected.max(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(list(logprobs.top_logprobs[0].values()), np.sort(expected)[:-4:-1], rtol=0, atol=1e-9)
    assert logprobs.text_offset == [0, len(logprobs.tokens[0])]

    chat = served.client().chat.completions.create(
        model="toy", messages=[{"role": "user", "content": "to be"}], max_tokens=1, temperature=0, logprobs=True,
        top_logprobs=2,
    )  # fmt: skip
    (one,) = chat.choices[0].logprobs.content
    assert len(one.top_logprobs) == 2 and one.logprob == one.top_logprobs[0].logprob <= 0
    assert bytes(one.bytes).decode(errors="replace") == chat.choices[0].message.content


def test_an_echo_scores_the_prompt(served):
    ids = [1, 2, 3, 4]
    found = served.client().completions.create(
        model="toy", prompt=ids, max_tokens=1, temperature=0, echo=True, logprobs=1
    )
    (choice,) = found.choices
    assert choice.text == served.tokenizer.decode([*ids, *greedy(ids, 1, PROGRAM)])
    assert choice.logprobs.token_logprobs[0] is None and len(choice.logprobs.tokens) == 5
    for place in range(1, 4):
        logits = logits_after(ids[:place], PROGRAM)[: served.tokenizer.vocab_size]
        expected = logits[ids[place]] - logits.max() - math.log(np.exp(logits - logits.max()).sum())
        np.testing.assert_allclose(choice.logprobs.token_logprobs[place], expected, rtol=0, atol=1e-9)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (4, 1)
    alone = served.client().completions.create(model="toy", prompt=ids, max_tokens=0, echo=True, logprobs=1)
    assert alone.choices[0].logprobs.token_logprobs == choice.logprobs.token_logprobs[:4]
    assert alone.choices[0].text == served.tokenizer.decode(ids)


def test_a_stop_text_ends_and_is_left_out(served):
    whole = text_of(served, "to be", 8)
    stop = whole[3:5]
    found = served.client().completions.create(model="toy", prompt="to be", max_tokens=8, temperature=0, stop=[stop])
    assert found.choices[0].text == whole[: whole.index(stop)] and found.choices[0].finish_reason == "stop"


def test_a_chat_reads_the_plain_template(served):
    talk = [{"role": "system", "content": "Be."}, {"role": "user", "content": "to"}]
    found = served.client().chat.completions.create(model="toy", messages=talk, max_tokens=2, temperature=0)
    assert found.choices[0].message.content == text_of(served, "Be.\n\nUser: to\nAssistant:", 2)


@pytest.mark.parametrize("end", ["|", "<|endoftext|>"])
def test_a_conversation_goes_on_where_it_was(serve, end):
    served = serve(template=ChatTemplate("{% for message in messages %}{{ message.content }}" + end + "{% endfor %}"))

    def answered(*said, count):
        ids = served.tokenizer.encode("".join(one + end for one in said), special=True)
        return served.tokenizer.decode(greedy(ids, count, PROGRAM))

    # What the toy says is text only now and then.
    said = next(text for text in map(chr, range(33, 127)) if answered(text, count=2).isascii())
    talk = [{"role": "user", "content": said}]
    first = served.client().chat.completions.create(model="toy", messages=talk, max_tokens=2, temperature=0)
    answer = first.choices[0].message.content
    assert answer == answered(said, count=2)
    talk += [{"role": "assistant", "content": answer}, {"role": "user", "content": "b"}]
    second = served.client().chat.completions.create(model="toy", messages=talk, max_tokens=1, temperature=0)
    assert second.choices[0].message.content == answered(said, answer, "b", count=1)
    read = [step for steps in served.sessions.steps for step in steps]
    assert read[0].past == 0 and read[2].past == first.usage.prompt_tokens + 1


def test_a_message_that_spells_a_special_token_stays_text(served):
    template = Template(served.tokenizer, ChatTemplate("{{ messages[0].content }}<|endoftext|>"))
    end = served.tokenizer.end_of_text
    ids = template.ids([("user", "a<|endoftext|>b")])
    assert ids.count(end) == 1 and ids[-1] == end
    assert served.tokenizer.decode(ids[:-1]) == "a<|endoftext|>b"


@pytest.mark.parametrize(
    ("path", "change", "status", "param"),
    [
        ("/v1/completions", {"model": "other"}, 404, "model"),
        ("/v1/completions", {"model": None}, 400, "model"),
        ("/v1/completions", {"prompt": "to be " * CONTEXT}, 413, "prompt"),
        ("/v1/completions", {"prompt": ""}, 400, "prompt"),
        ("/v1/completions", {"prompt": [999999]}, 400, "prompt"),
        ("/v1/completions", {"prompt": {"a": 1}}, 400, "prompt"),
        ("/v1/completions", {"max_tokens": CONTEXT + 1}, 413, "prompt"),
        ("/v1/completions", {"max_tokens": -1}, 400, "max_tokens"),
        ("/v1/completions", {"max_tokens": True}, 400, "max_tokens"),
        ("/v1/completions", {"temperature": "hot"}, 400, "temperature"),
        ("/v1/completions", {"n": 1000}, 400, "n"),
        ("/v1/completions", {"stop": [1]}, 400, "stop"),
        ("/v1/completions", {"logit_bias": {"1": 5}}, 400, "logit_bias"),
        ("/v1/completions", {"frequency_penalty": 0.5}, 400, "frequency_penalty"),
        ("/v1/completions", {"best_of": 2}, 400, "best_of"),
        ("/v1/chat/completions", {"messages": []}, 400, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400,
         "messages[0].content"),
        ("/v1/chat/completions", {"messages": [{"role": "robot", "content": "x"}]}, 400, "messages[0].role"),
        ("/v1/chat/completions", {"tools": [{"type": "function"}]}, 400, "tools"),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}, 400, "response_format"),
        ("/v1/chat/completions", {"top_logprobs": 2}, 400, "top_logprobs"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(served, path, change, status, param):
    body = {"model": "toy", "prompt": "to", "messages": [{"role": "user", "content": "to"}], **change}
    found, text = served.ask(path, body)
    error = json.loads(text)["error"]
    assert (found, error["param"]) == (status, param) and error["message"]


def test_fields_that_nobody_knows_and_ask_for_nothing_are_ignored(served):
    body = {
        "model": "toy", "prompt": "to", "max_tokens": 1, "user": "me", "metadata": {"a": "b"}, "store": False,
        "presence_penalty": 0, "logit_bias": {}, "best_of": 1, "something_new": [1],
    }  # fmt: skip
    assert served.ask("/v1/completions", body)[0] == 200


@pytest.mark.parametrize("data", [b"", b"no", b"[1]", b"[" * 100_000, b'{"model": "toy"', b"\xff\xfe"])
def test_a_body_that_is_no_json_object_is_refused(served, data):
    assert served.ask("/v1/completions", data)[0] == 400


def test_a_body_beyond_the_limit_is_refused(served):
    assert served.ask("/v1/completions", b" " * (5 << 20))[0] == 413


def test_unknown_paths_and_methods_are_errors_of_the_api(served):
    assert json.loads(served.ask("/v1/embeddings", {})[1])["error"]["code"] == "not_found"
    assert served.ask("/v1/completions")[0] == 405


def test_twenty_at_once_share_rounds(serve):
    served = serve(max_prompts=8, queue=32)
    client = openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0)

    async def all_of_them():
        asked = [
            client.completions.create(model="toy", prompt=[i + 1, i + 2], max_tokens=4, temperature=0)
            for i in range(20)
        ]
        return await asyncio.gather(*asked)

    for i, found in enumerate(asyncio.run(all_of_them())):
        assert found.choices[0].text == served.tokenizer.decode(greedy([i + 1, i + 2], 4, PROGRAM))
    assert len(served.sessions.steps) < 20 * 4 / 2


def test_a_full_queue_is_429(serve):
    served = serve(queue=1, max_prompts=1)
    with pytest.raises(openai.RateLimitError):
        served.client().completions.create(model="toy", prompt=[1], max_tokens=2, n=4)


@pytest.mark.parametrize(
    ("limit", "retry", "status", "code", "header"),
    [
        ("tokens_a_minute", 41.5, 429, "rate_limit_exceeded", "42"),
        ("tokens_a_day", 7200.0, 429, "rate_limit_exceeded", "7200"),
        ("outputs", None, 429, "insufficient_quota", None),
        ("", 30.0, 503, "declined", "30"),
    ],
)
def test_a_limit_is_told_as_the_api_tells_it(serve, limit, retry, status, code, header):
    served = serve()

    def over(tokens, outputs):
        raise LimitError("alice has used 9 of its 9", limit, retry)

    served.sessions.opened[0].admit = over
    client = served.client()
    with pytest.raises(openai.APIStatusError) as told:
        client.with_options(max_retries=0).completions.create(model="toy", prompt="to", max_tokens=2)
    assert isinstance(told.value, openai.RateLimitError) == (status == 429)
    assert told.value.status_code == status and told.value.code == code
    assert told.value.response.headers.get("retry-after") == header
    assert "alice has used 9 of its 9" in told.value.message
    served.sessions.opened[0].admit = lambda tokens, outputs: None
    assert client.completions.create(model="toy", prompt="to be", max_tokens=2, temperature=0).choices


def test_a_program_that_hangs_up_frees_its_place(serve):
    served = serve(max_prompts=1)
    stream = served.client().completions.create(model="toy", prompt=[1, 2], max_tokens=38, temperature=0, stream=True)
    next(iter(stream))
    stream.close()
    found = served.client().completions.create(model="toy", prompt=[5], max_tokens=2, temperature=0)
    assert found.choices[0].text == served.tokenizer.decode(greedy([5], 2, PROGRAM))
    assert len(served.sessions.steps) < 39


def test_a_server_that_is_away_is_503_until_it_is_back(serve, monkeypatch):
    from aero.proxy import batcher as batching

    monkeypatch.setattr(batching, "PAUSE", 0.01)
    monkeypatch.setattr(batching, "RETRY_AFTER", 0.05)
    served = serve()
    sessions = served.sessions
    asked = {"model": "toy", "prompt": "to", "max_tokens": 1}
    sessions.opened[0].lose()
    sessions.away = PeerBusyError("127.0.0.1:7700 is busy")
    status, text = served.ask("/v1/completions", asked)
    assert status == 503 and json.loads(text)["error"]["code"] == "private_server_busy"
    assert served.ask("/health")[0] == 200
    sessions.away = True
    status, text = served.ask("/v1/completions", asked)
    assert status == 503 and json.loads(text)["error"]["code"] == "private_server_away"
    assert served.ask("/health")[0] == 503
    sessions.away = False
    for _ in range(PATIENCE * 20):
        if served.ask("/health")[0] == 200:
            break
        time.sleep(0.05)
    assert served.ask("/v1/completions", asked)[0] == 200


def test_what_the_server_does_not_reveal_is_400(serve):
    served = serve(reveal=Reveal(1, values=False))
    client = served.client()
    found = client.completions.create(model="toy", prompt="to be", max_tokens=3)
    assert found.choices[0].text == text_of(served, "to be", 3)
    for options in ({"logprobs": 1}, {"temperature": 0.7}):
        with pytest.raises(openai.BadRequestError):
            client.completions.create(model="toy", prompt="to be", max_tokens=3, **options)


def test_pages_of_other_origins_and_other_names_are_kept_out(serve):
    served = serve(guard=Guard(origins=["https://good.example"]))
    port = served.url.rsplit(":", 1)[1]
    assert served.ask("/v1/models")[0] == 200
    assert served.ask("/v1/models", Origin=served.url)[0] == 200
    assert served.ask("/v1/models", Origin="https://good.example")[0] == 200
    assert served.ask("/v1/models", Origin="https://evil.example")[0] == 403
    assert served.ask("/v1/models", Origin="null")[0] == 403
    assert served.ask("/v1/models", Host=f"evil.example:{port}")[0] == 403
    assert served.ask("/v1/models", Host=f"localhost:{port}")[0] == 200
    assert served.ask("/v1/models", Host="")[0] >= 400


def test_an_api_key_is_asked_for_where_one_is_set(serve):
    served = serve(guard=Guard(api_key="secret"))
    assert served.ask("/v1/models")[0] == 401
    assert served.ask("/metrics")[0] == 401
    assert served.ask("/v1/models", Authorization="Bearer wrong")[0] == 401
    assert served.ask("/v1/models", Authorization="Bearer secret")[0] == 200
    assert served.ask("/health")[0] == 200
    with pytest.raises(openai.AuthenticationError):
        served.client().models.list()


def test_metrics_count_and_tell_nothing_of_the_text(served):
    before = served.ask("/metrics")[1]
    served.client().completions.create(model="toy", prompt="to be or not", max_tokens=2, temperature=0)
    after = served.ask("/metrics")[1]

    def value(page, name):
        lines = (line.split()[-1] for line in page.splitlines() if line.startswith(name))
        return float(next(lines, 0))  # what has not been counted yet has no line

    assert value(after, 'aero_tokens_total{kind="chosen"}') - value(before, 'aero_tokens_total{kind="chosen"}') == 2
    assert value(after, "aero_private_sessions_total") == served.batcher.sessions
    assert "to be" not in after


@pytest.mark.parametrize("steady", [False, True])
def test_guesses_that_held_are_shown(serve, monkeypatch, steady):
    served = serve(how={"guesses": 3, "steady": steady})
    prompt = served.tokenizer.encode("to be or")
    text = [*prompt, *greedy(prompt, 9, PROGRAM)]
    monkeypatch.setattr("aero.serve.client.continued_phrase", lambda ids, most: text[len(ids) :][:most])
    whole = served.client().completions.create(model="toy", prompt="to be or", max_tokens=9, temperature=0)
    assert whole.choices[0].text == served.tokenizer.decode(text[len(prompt) :])
    spent, runs = whole.model_extra["x_aero"], json.loads(served.ask("/v1/x_aero/runs")[1])["runs"]
    assert spent["runs"] == len(runs) < spent["tokens"] == 9
    assert spent["guesses_held"] == sum(run["guesses_held"] for run in runs) == 9 - len(runs)
    assert spent["guesses"] == sum(run["guesses"] for run in runs) >= spent["guesses_held"]
    assert spent["bytes_client_to_server"] == 10 * len(runs), "of each run once"
    metrics = served.ask("/metrics")[1]
    assert f'aero_guesses_total{{kind="held"}} {float(spent["guesses_held"])}' in metrics
    assert f'aero_guesses_total{{kind="made"}} {float(spent["guesses"])}' in metrics


def test_the_page_is_served_with_all_that_it_loads(served):
    status, page = served.ask("/")
    assert status == 200
    for name in ("page/style.css", "page/chat.js"):
        assert name in page and served.ask("/" + name)[0] == 200
    assert "http" not in page.replace("http-equiv", "")  # nothing from elsewhere


def test_runs_are_shown_as_the_server_saw_them(served):
    pieces = list(
        served.client().completions.create(model="toy", prompt="to be", max_tokens=2, temperature=0, stream=True)
    )
    costs = [piece.model_extra["x_aero"] for piece in pieces]
    runs = {run["run"]: run for run in json.loads(served.ask("/v1/x_aero/runs")[1])["runs"]}
    length = len(served.tokenizer.encode("to be"))
    assert [runs[cost["run"]]["tokens_read"] for cost in costs] == [[length], [1]]
    assert [runs[cost["run"]]["past"] for cost in costs] == [[0], [length]]
    assert [runs[cost["run"]]["seconds"] for cost in costs] == [cost["seconds"] for cost in costs]
