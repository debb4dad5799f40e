"""Where chat templates lie, in both of Hugging Face's forms, and what is none."""

import json

import pytest

from aero.data import chat_template
from aero.data.chat_template import ChatTemplate

ONE = "{{ messages }}"


def config(folder, **content):
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": None, **content}))


@pytest.mark.parametrize(
    "value", [ONE, [{"name": "tool_use", "template": "no"}, {"name": "default", "template": ONE}]]
)  # fmt: skip
def test_a_template_in_the_tokenizers_configuration(tmp_path, value):
    config(tmp_path, chat_template=value)
    assert chat_template.load(tmp_path) == ChatTemplate(ONE, {"bos_token": "<s>"})


def test_a_template_in_a_file_of_its_own_goes_first(tmp_path):
    config(tmp_path, chat_template="no")
    (tmp_path / "chat_template.jinja").write_text(ONE, encoding="utf-8")
    assert chat_template.load(tmp_path) == ChatTemplate(ONE, {"bos_token": "<s>"})


@pytest.mark.parametrize("value", [None, "", [], [{"name": "tool_use", "template": "no"}]])
def test_no_template(tmp_path, value):
    assert chat_template.load(tmp_path) is None
    config(tmp_path, chat_template=value)
    assert chat_template.load(tmp_path) is None


@pytest.mark.parametrize(
    ("value", "complaint"), [(5, "no text"), ("x" * chat_template.MAX_BYTES, "more than"), ("\ud800", "Unicode")]
)
def test_what_is_no_template_is_refused(tmp_path, value, complaint):
    config(tmp_path, chat_template=value)
    with pytest.raises(ValueError, match=complaint):
        chat_template.load(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"chat_template\.jinja"):
        chat_template.load(tmp_path)
