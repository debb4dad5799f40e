"""What building the docs adds (mkdocs.yml names this file): the page of the verbs, from their own help, as a hook of
mkdocs; and docstrings as Markdown, as an extension of griffe, which reads them for the page of the Python API.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe
import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from aero.cli.main import app

INTRODUCTION = """# The verbs

What each verb of the command line does and takes. This page is `aero VERB --help`; what `--json` writes is in
[records](records.md).
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page; mkdocs calls this when it has found the files of docs/."""
    files.append(File.generated(config, "reference/verbs.md", content=verbs_page()))
    return files


def verbs_page() -> str:
    """Markdown: a section for each verb, in the order of `aero --help`."""
    return "\n".join([INTRODUCTION, *_sections(typer.main.get_command(app), "aero", level=2)])


def _sections(command: Any, name: str, level: int) -> Iterator[str]:
    for verb, one in command.commands.items():
        whole = f"{name} {verb}"
        arguments = [p for p in one.params if p.param_type_name == "argument"]
        usage = " ".join([whole, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if len(one.params) > 1 else [])])
        yield f"{'#' * level} {whole}\n"
        if hasattr(one, "commands"):
            yield f"{_text(one.help)}\n"
            yield from _sections(one, whole, level + 1)
            continue
        yield f"```\n{usage}\n```\n\n{_text(one.help)}\n"
        yield "| option | meaning |\n| --- | --- |"
        for parameter in one.params:
            if not parameter.hidden:
                yield f"| {_name(parameter)} | {_meaning(parameter)} |"
        yield ""


def _text(text: str | None) -> str:
    """Help as Markdown: names such as HOST:PORT and <end> stay what they are."""
    return (text or "").replace("<", "&lt;").replace("_", r"\_").replace("*", r"\*").replace("|", r"\|")


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_argument(parameter).strip('[]')}`"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return f"`{names}{value}`".replace("|", r"\|")


def _meaning(parameter: Any) -> str:
    """The help of one parameter, and its default where it has one that says something."""
    text = _text(parameter.help)
    if parameter.required and parameter.param_type_name == "option":
        text += " *Required.*"
    default = parameter.default
    if isinstance(default, str | int | float) and not isinstance(default, bool) and not parameter.required:
        text += f" *Default: {_text(str(default))}*"
    return text


class Docstrings(griffe.Extension):
    """Our docstrings say `name: what it is`, a line each; in Markdown these are the items of a list."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = "\n".join(_as_markdown(obj.docstring.value.splitlines()))


def _as_markdown(lines: list[str]) -> Iterator[str]:
    kind, field = "text", False  # of the last line; whether it belongs to a name
    for line in lines:
        last, kind = kind, "text"
        if names := re.match(r"([a-z]\w*(?:, \w+)*): (?=\S)", line):
            kind, field = "field", True
            line = f"- **{names[1]}**: ".replace("_", r"\_") + line[names.end() :]
        elif line.startswith("    ") and re.search(r"\S {2,}\S", line):
            kind, line = "table", f"    {line}" if field else line
        elif not line or line.startswith("Raises "):
            field = False
        if ("table" in (last, kind) and last != kind) or kind == "field" != last or line.startswith("Raises "):
            yield ""
        yield line
