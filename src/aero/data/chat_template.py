"""A model's chat template, as Hugging Face's tokenizers have it: a Jinja program, which `aero.serve.chat` renders."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aero.data.tokenizer import CONFIG_FILE, declared
from aero.files import manifest
from aero.files.reading import parse_json, present, read_json, read_text

FILE = "chat_template.jinja"
MAX_BYTES = 256 << 10
_MAX_TOKENS = 32
_NAME = re.compile(r"[a-z_]{1,64}_token")


@dataclass(frozen=True)
class ChatTemplate:
    """source: Jinja; tokens: the special tokens that it may name, such as bos_token, by how they are spelt.

    ValueError for one that is too large, or not Unicode.
    """

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [self.source, *self.tokens, *self.tokens.values()]
        if not all(isinstance(text, str) for text in texts) or not self.source:
            raise ValueError("the chat template is no text")
        if len(self.tokens) > _MAX_TOKENS or not all(_NAME.fullmatch(name) for name in self.tokens):
            raise ValueError("the chat template names tokens otherwise than Hugging Face does: bos_token, ...")
        try:
            size = len(self.to_bytes())
        except UnicodeEncodeError:
            raise ValueError("the chat template is not Unicode") from None
        if size > MAX_BYTES:
            raise ValueError(f"the chat template has {size} bytes, more than {MAX_BYTES}")

    def to_bytes(self) -> bytes:
        """JSON, at most MAX_BYTES."""
        return json.dumps({"source": self.source, "tokens": dict(self.tokens)}, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ChatTemplate:
        """Of another party. ValueError where it is none."""
        found = parse_json(data, "the chat template")
        tokens = found.get("tokens") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(tokens, dict):
            raise ValueError("the chat template is no JSON object of a source and its tokens")
        return cls(found.get("source", ""), tokens)


def load(folder: Path, tokens: Mapping[str, str] | None = None) -> ChatTemplate | None:
    """The template of a folder of a run, of a compiled model or of Hugging Face: of `chat_template.jinja`, else of its
    tokenizer_config.json, where it is a text, or several with names, of which "default" is taken. None where there is
    none. tokens: those that it may name; by default what tokenizer_config.json says.

    ValueError for a damaged file, or a template that is not usable.
    """
    config = folder / CONFIG_FILE
    manifest.verify(folder, {FILE, CONFIG_FILE})
    if present(folder / FILE):
        source = read_text(folder / FILE, limit=MAX_BYTES)
    else:
        about = read_json(config) if present(config) else {}
        source = _default(about.get("chat_template") if isinstance(about, dict) else None, config)
    if not source:
        return None
    try:
        return ChatTemplate(source, declared(config) if tokens is None else tokens)
    except ValueError as error:
        raise ValueError(f"{error}, in {folder}") from None


def _default(value: object, path: Path) -> str:
    """ "" where none is the default."""
    several = value if isinstance(value, list) else [{"name": "default", "template": value}]
    found = {template.get("name"): template.get("template") for template in several if isinstance(template, dict)}
    source = found.get("default")
    if source is not None and not isinstance(source, str):
        raise ValueError(f"chat_template in {path} is no text; get the file again")
    return source or ""
