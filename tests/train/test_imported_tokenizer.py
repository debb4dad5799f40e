"""Tokenizers of checkpoints: as transformers' own, and with the end tokens at which its `generate` stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig
from typer.testing import CliRunner

from aero.cli.main import app
from aero.data import chat_template, tokenizer
from aero.data.chat_template import ChatTemplate
from aero.data.tokenizer import END_OF_TEXT, Tokenizer
from aero.models import AeroForCausalLM
from aero.train.imported import import_checkpoint
from aero.train.imported_tokenizer import end_tokens, read_tokenizer

BASE = tokenizer.train(["def f(x):\n\treturn x + 1  # é漢\n" * 9, "to be or not to be"], 290)
FIRST = BASE.vocab_size
ADDED = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]
VOCABULARY = FIRST + len(ADDED)
TEXTS = ["def f(x):", "to be  or\n\n not", "é漢 \ttext", "a<|im_end|>b", "", " <s> </s>"]


def file(special: bool = True, **changes) -> dict:
    found = json.loads(BASE._inner.to_str())
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    found["added_tokens"] += [
        {"id": FIRST + i, "content": word, "special": special, **flags} for i, word in enumerate(ADDED)
    ]
    return {**found, **changes}


def folder(path: Path, content: dict | None = None, **settings) -> Path:
    """A checkpoint's tokenizer: tokenizer.json and tokenizer_config.json."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "tokenizer.json").write_text(json.dumps(file() if content is None else content))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "bos_token": "<s>", **settings}
    (path / "tokenizer_config.json").write_text(json.dumps(about))
    return path


def checkpoint(path: Path, **fields) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = dict(vocab_size=VOCABULARY, n_positions=24, n_embd=16, n_layer=1, n_head=2, initializer_range=0.5)
    model = GPT2LMHeadModel(GPT2Config(**{**sizes, **fields})).eval()
    model.save_pretrained(path)
    return model


def continued(model, ids: list[int], count: int) -> list[int]:
    """Greedily, by transformers' own `generate`, without what was given."""
    given = torch.tensor([ids])
    settings = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones_like(given)}
    with torch.inference_mode():
        return model.generate(given, max_new_tokens=count, **settings)[0, len(ids) :].tolist()


PROMPT = [70, 71, 72]
IM_END, END = FIRST + 1, FIRST + 3


@pytest.mark.parametrize(
    ("config", "generation", "expected", "by"),
    [
        (END, None, [END], "config.json"),
        ([END, IM_END], None, [END, IM_END], "config.json"),
        (END, [IM_END, END], [IM_END, END], "generation_config.json"),
        (END, IM_END, [IM_END], "generation_config.json"),
        (50256, None, [END], "the tokenizer"),
        (50256, 50256, [END], "the tokenizer"),
        (None, None, [END], "the tokenizer"),
        ([50256, IM_END], None, [IM_END], "config.json"),
    ],
)
def test_end_tokens_in_the_order_of_their_authority(config, generation, expected, by, tmp_path):
    where = folder(tmp_path)
    if generation is not None:
        (where / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    found = end_tokens(where, GPT2Config(eos_token_id=config), read_tokenizer(where).tokens)
    assert list(found.ids) == expected and f"by {by}" in found.note
    if config == END and generation == IM_END:
        assert f"config.json says </s> ({END})" in found.note


@pytest.mark.parametrize("bad", ["7", [7, "8"], 1.5, True, {"a": 1}])
def test_end_tokens_that_are_no_ids_are_refused(bad, tmp_path):
    where = folder(tmp_path)
    (where / "generation_config.json").write_text(json.dumps({"eos_token_id": bad}))
    with pytest.raises(ValueError, match=r"eos_token_id of generation_config\.json"):
        end_tokens(where, GPT2Config(), read_tokenizer(where).tokens)


def test_an_imported_model_stops_where_transformers_does(tmp_path):
    """At what it says after some tokens, where nothing ends it."""
    free = checkpoint(folder(tmp_path / "free"), eos_token_id=None)
    said = continued(free, PROMPT, 12)
    ends = [said[3], IM_END]
    assert len(set(said[:4])) == 4, "the text must vary, or this shows nothing"
    theirs = checkpoint(folder(tmp_path / "theirs"), eos_token_id=[50256])
    theirs.generation_config.eos_token_id = ends
    theirs.save_pretrained(tmp_path / "theirs")
    expected = continued(GPT2LMHeadModel.from_pretrained(tmp_path / "theirs").eval(), PROMPT, 12)
    assert expected == said[:4]
    imported = import_checkpoint(str(tmp_path / "theirs"), tmp_path / "run")
    assert any("by generation_config.json" in note for note in imported.notes)
    ours = AeroForCausalLM.from_pretrained(tmp_path / "run").eval()
    assert ours.config.end_tokens == tuple(ends) and continued(ours, PROMPT, 12) == expected


def test_a_run_folder_is_a_tokenizer_for_transformers(tmp_path):
    checkpoint(folder(tmp_path / "theirs"), eos_token_id=IM_END)
    import_checkpoint(str(tmp_path / "theirs"), tmp_path / "run")
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path / "run"), tokenizer.load(tmp_path / "run")
    assert (theirs.eos_token, theirs.bos_token) == ("</s>", "<s>") and ours.end_of_text == END
    for text in TEXTS:
        assert theirs(text)["input_ids"] == ours.encode_prompt(text, special=True)


def test_ordinary_added_tokens_that_end_a_text_become_special(tmp_path):
    checkpoint(folder(tmp_path / "theirs", file(special=False)), eos_token_id=[IM_END, BASE.encode("\n")[0]])
    import_checkpoint(str(tmp_path / "theirs"), tmp_path / "run")
    tokens = tokenizer.load(tmp_path / "run")
    assert set(tokens.special) == {END_OF_TEXT, "<|im_end|>", "<s>", "</s>"}
    for text in TEXTS:
        assert tokens.decode(tokens.encode(text)) == text
        assert not set(tokens.encode(text)) & set(tokens.special.values())
    # A newline ends a text of this model, and is a word like others.
    assert tokens.encode("\n") == BASE.encode("\n")


def test_prompts_begin_as_transformers_begins_them(tmp_path):
    begin = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [FIRST + 2], "tokens": ["<s>"]}},
    }
    plain, by_file = folder(tmp_path / "plain"), folder(tmp_path / "file", file(post_processor=begin))
    for where, first in ((plain, ()), (by_file, (FIRST + 2,))):
        found, theirs = read_tokenizer(where), AutoTokenizer.from_pretrained(where)
        assert found.tokens.before == first
        for text in TEXTS:
            assert found.tokens.encode_prompt(text, special=True) == theirs(text)["input_ids"]
        assert any("prompts begin with <s>" in note for note in found.notes) == bool(first)


@pytest.mark.parametrize("config", [GPT2Config(), GPTNeoXConfig()], ids=["gpt2", "gpt_neox"])
def test_vocab_json_and_merges_txt_alone_make_a_tokenizer(config, tmp_path):
    inner = json.loads(BASE._inner.to_str())["model"]
    config.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(inner["vocab"]), encoding="utf-8")
    merges = [" ".join(pair) for pair in inner["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    found = read_tokenizer(tmp_path)
    assert "made of vocab.json and merges.txt" in found.notes[0]
    tokens = found.with_ends((BASE.end_of_text,))
    for text in [*TEXTS, "naïve 漢字 \U0001f600\r\n\t  x", END_OF_TEXT]:
        assert tokens.encode(text) == BASE.encode(text) and tokens.decode(tokens.encode(text)) == text
    assert tokens.encode(END_OF_TEXT, special=True) == [BASE.end_of_text] and tokens.vocab_size == BASE.vocab_size
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        assert tokens.encode_prompt(text, special=True) == theirs(text)["input_ids"]


def test_other_vocabularies_are_refused_by_their_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        read_tokenizer(tmp_path)
    for name, kind in (("vocab.txt", "WordPiece"), ("tokenizer.model", "SentencePiece")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ValueError, match=f"is a {kind} vocabulary"):
            read_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("[]")
    (tmp_path / "merges.txt").write_text("x")
    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"make no tokenizer|is not one that AERO reads"):
        read_tokenizer(tmp_path)


def test_a_tokenizer_that_its_model_lacks_words_for_is_refused(tmp_path):
    checkpoint(folder(tmp_path / "theirs"), vocab_size=VOCABULARY - 1)
    with pytest.raises(ValueError, match=f"{VOCABULARY - 1} words, its tokenizer {VOCABULARY}"):
        import_checkpoint(str(tmp_path / "theirs"), tmp_path / "run")
    assert Tokenizer.from_bytes(json.dumps(file()).encode()).vocab_size == VOCABULARY


def test_the_chat_template_comes_along(tmp_path):
    """Of the checkpoint, in either form, into the run and the compiled model, and back through transformers."""
    source = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}{{ unk_token }}"
    checkpoint(tmp_path / "theirs")
    folder(tmp_path / "theirs", chat_template=source, bos_token=None, pad_token="<|im_end|>", unk_token="<none>")
    import_checkpoint(str(tmp_path / "theirs"), tmp_path / "run")
    found = chat_template.load(tmp_path / "run")
    assert found == ChatTemplate(source, {"eos_token": "</s>", "pad_token": "<|im_end|>"})
    talk = [{"role": "user", "content": "to be"}]
    theirs, ours = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("theirs", "run"))
    assert ours.apply_chat_template(talk, tokenize=False) == "to be</s>"
    assert theirs.apply_chat_template(talk, tokenize=False) == "to be</s><none>"  # a token that is not there
    command = [str(tmp_path / "run"), "--out", str(tmp_path / "compiled"), "--no-ring-plan"]
    assert CliRunner().invoke(app, ["compile", *command]).exit_code == 0
    assert chat_template.load(tmp_path / "compiled") == found
