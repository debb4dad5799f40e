"""The tutorials are true: their commands, taken from the pages, run and print what stands there."""

import os
import re
import shlex
import socket
import subprocess
import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import typer.main

from aero.cli.main import app

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?"
PATIENCE = 1200


@dataclass
class Block:
    """A fenced block: its language, the file that it is called, its text."""

    language: str
    title: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r'^```(\w+)(?: title="(.+?)")?\n(.*?)^```$', page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(language, title or None, text) for language, title, text in found]


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of a console block, with the lines that it prints."""
    parts = re.split(r"^\$ (.+)\n", text, flags=re.MULTILINE)[1:]
    return [(parts[i], parts[i + 1].splitlines()) for i in range(0, len(parts), 2)]


def same(stated: str, printed: str) -> bool:
    """Is the printed line the stated one? `...` is anything, and spaces are one space. Numbers may differ by half;
    seconds, and errors in powers of ten, by any amount."""
    parts = re.split(rf"(\.\.\.|{NUMBER})", " ".join(stated.split()))
    numbers = [place for place in range(1, len(parts), 2) if parts[place] != "..."]
    wild = {place: f"({NUMBER})" if place in numbers else ".*" for place in range(1, len(parts), 2)}
    pattern = "".join(wild.get(place, re.escape(part)) for place, part in enumerate(parts))
    match = re.fullmatch(pattern, " ".join(printed.split()))
    if match is None:
        return False
    for place, found in zip(numbers, match.groups(), strict=True):
        one, other = (float(text.replace(",", "")) for text in (parts[place], found))
        loose = "e" in parts[place] or re.match(r" s\b", parts[place + 1])
        if not loose and abs(one - other) > 0.5 * max(one, other):
            return False
    return True


def missing(stated: list[str], printed: list[str]) -> str | None:
    """The first stated line that was not printed in its place."""
    place, anywhere = 0, False
    for line in stated:
        if line.strip() == "...":
            anywhere = True
            continue
        if not line.strip():
            continue
        rest = range(place, len(printed) if anywhere else min(place + 1, len(printed)))
        found = next((i for i in rest if same(line, printed[i])), None)
        if found is None:
            return line
        place, anywhere = found + 1, False
    return None if anywhere or place >= len(printed) else f"nothing more, but: {printed[place]}"


def free_port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def run(pages: list[Path], folder: Path) -> None:
    """Runs what stands in the pages in one shell, as a reader would, and compares what is printed."""
    port, numbers, script = free_port(), count(), ["trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    stated: list[tuple[str, list[str]]] = []

    def add(command: str, lines: list[str]) -> None:
        out = f"out.{next(numbers)}"
        background = command.endswith("&")
        script.append(f"{command.rstrip('& ')} > {out} 2>&1 {'&' if background else '|| { cat ' + out + '; exit 1; }'}")
        if background:
            said = sum(line != "..." for line in lines)
            script.append(f"for i in $(seq 600); do [ $(wc -l < {out}) -ge {said} ] && break; sleep 0.5; done")
        stated.append((command, lines))

    for page in pages:
        program = []
        for block in blocks(page):
            text = block.text.replace("7700", port)
            if block.language == "console":
                for command, lines in commands(text):
                    add(command, lines)
            elif block.title:
                (folder / block.title).write_text(text)
            else:
                program.append(text)
        if program:
            (folder / f"{page.stem}.py").write_text("\n".join(program))
            add(f"python {page.stem}.py", ["..."])
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "130"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=environment, text=True, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for index, (command, lines) in enumerate(stated):
        printed = [line for line in (folder / f"out.{index}").read_text().splitlines() if line.strip()]
        line = missing(lines, printed)
        assert line is None, f"$ {command}\nis said to print\n{line}\nand printed\n" + "\n".join(printed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pages", [["tutorials/train", "use/python"], ["tutorials/checkpoint"], ["tutorials/price"]], ids=lambda p: p[0]
)
def test_what_a_tutorial_says_happens(pages, tmp_path):
    run([DOCS / f"{page}.md" for page in pages], tmp_path)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_commands_exist_with_their_options(page):
    found = [c for block in blocks(page) if block.language == "console" for c, _ in commands(block.text)]
    verbs = [shlex.split(command.rstrip("& ")) for command in found if command.startswith("aero ")]
    assert len(verbs) >= 4
    for _, verb, *arguments in verbs:
        assert typer.main.get_command(app).commands[verb].make_context(verb, list(arguments)).params


def test_lines_are_compared():
    assert same("wrote x in 3 s", "wrote x in 17 s") and not same("wrote x in 3 s", "wrote y in 3 s")
    assert same("perplexity 300.2, ...", "perplexity  410.0, and more") and not same("10 rounds", "21 rounds")
    assert missing(["a", "...", "c"], ["a", "b", "c"]) is None and missing(["a", "c"], ["a", "b", "c"]) == "c"
    assert missing(["a"], ["a", "b"]) is not None and missing(["...", "9"], ["a", "b"]) == "9"
