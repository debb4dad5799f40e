"""Documents: read, cleaned, ordered and split."""

from __future__ import annotations

import gzip
import importlib.metadata
import os
import re
from pathlib import Path

import pytest

from aero.data import corpus
from aero.data.corpus import Document
from aero.data.text_files import Skipped


def test_the_standard_library_is_python_code_of_this_interpreter() -> None:
    documents = list(corpus.read("stdlib"))
    names = [d.name for d in documents]
    assert "stdlib/json/decoder.py" in names
    assert not any("site-packages" in name for name in names)
    assert len(set(names)) == len(names)
    json_source = next(d.text for d in documents if d.name == "stdlib/json/decoder.py")
    import json.decoder

    assert json_source == Path(json.decoder.__file__).read_text(encoding="utf-8")


def test_a_folder_is_read_in_order_without_binary_hidden_and_huge_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "b.py").write_text("b = 1\n")
    (tmp_path / "sub" / "a.txt").write_text("prose\n")
    (tmp_path / ".git" / "c.py").write_text("hidden = 1\n")
    (tmp_path / "latin.py").write_bytes(b"x = '\xe9'\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "huge.py").write_text("x = 1\n" * 100_000)
    (tmp_path / "null.txt").write_bytes(b"a\x00b")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.md").symlink_to(tmp_path / "round.md")
    os.mkfifo(tmp_path / "pipe.txt")
    skipped = Skipped()
    found = [(d.name.split("/", 1)[1], d.text) for d in corpus.read(tmp_path, skipped=skipped)]
    assert found == [("b.py", "b = 1\n"), ("sub/a.txt", "prose\n")]
    names = {reason: [name.split("/", 1)[1] for name in found] for reason, found in skipped.by_reason.items()}
    assert names == {
        "is not UTF-8 text": ["latin.py"],
        "is binary, not text: it holds null bytes": ["null.txt"],
        "larger than 512 KiB; name it as a source to have it": ["huge.py"],
        "of another kind than .py, .pyi, .txt, .md, .rst, .jsonl, .ndjson": ["picture.png"],
        f"is a link to {tmp_path / 'nowhere'}, which does not exist": ["gone.md"],
        "cannot be read: Too many levels of symbolic links": ["round.md"],
        "no regular file": ["pipe.txt"],
    }
    assert f"skipped 1 file (is not UTF-8 text): {tmp_path.name}/latin.py" in skipped.lines


def test_skipped_files_are_counted_and_the_first_are_named() -> None:
    skipped = Skipped()
    for number in range(7):
        skipped.add(str(number), "odd")
    assert skipped.lines == ["skipped 7 files (odd): 0, 1, 2, 3, 4 and 2 more"]


def test_json_lines_are_known_by_their_suffix(tmp_path: Path) -> None:
    lines = '\ufeff{"text": "eins\\n", "id": 1}\r\n\n{"text": "", "id": 2}\n{"id": 3, "text": "drei\\u00e9"}'
    plain, compressed = tmp_path / "a.jsonl", tmp_path / "a.json.gz"
    plain.write_text(lines, encoding="utf-8", newline="")
    compressed.write_bytes(gzip.compress(lines.encode()))
    for path in (plain, compressed):
        expected = [(f"{path.name}:{n}", text) for n, text in ((1, "eins\n"), (3, ""), (4, "dreié"))]
        assert [(d.name, d.text) for d in corpus.read(path)] == expected
    assert [d.text for d in corpus.read(tmp_path)] == ["eins\n", "", "dreié"]  # .json.gz is not looked for in folders
    (tmp_path / "c.ndjson").write_text('{"title": "t", "body": "b"}\n{"body": "c"}\n')
    assert [d.text for d in corpus.read(tmp_path / "c.ndjson", field="body")] == ["b", "c"]
    (tmp_path / "x.txt.gz").write_bytes(gzip.compress(b"text\n"))
    assert [d.text for d in corpus.read(tmp_path / "x.txt.gz")] == ["text\n"]


@pytest.mark.parametrize(
    ("lines", "field", "complaint"),
    [
        ('{"text": "a"}\n{"text": 7}', None, "line 2: no text in a field 'text'; its fields are 'text'"),
        ('{"text": "a"}\n\n{"other": "b"}', None, "line 3: no text in a field 'text'; its fields are 'other'"),
        ('{"a": "x", "b": "y"}', None, "line 1: no field that is known to be the text; its fields are 'a', 'b'"),
        ('{"a": "x"}', "b", "line 1: no text in a field 'b'"),
        ("plain text", None, "line 1: not JSON; give it another suffix if it is plain text"),
        ('{"a": "x"}\n{"a": "x"', None, "line 2: not JSON; each line is an object"),
        ("[" * 100_000, None, "line 1: not JSON"),
        ('"a"', None, "line 1: not a JSON object"),
        ('{"a": "\\ud800"}', None, "line 1: the text is not Unicode"),
    ],
)
def test_json_lines_that_hold_no_texts_say_where(tmp_path: Path, lines: str, field: str | None, complaint: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(ValueError, match=re.escape(f"a.jsonl, {complaint}")):
        list(corpus.read(tmp_path / "a.jsonl", field))


def test_marks_and_line_ends_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert [d.text for d in corpus.read(tmp_path / "a.txt")] == ["one\ntwo\nthree\n"]
    (tmp_path / "empty.txt").write_bytes(b"")
    assert [d.text for d in corpus.read(tmp_path / "empty.txt")] == [""]


def test_a_file_named_by_the_user_is_read_whatever_its_size_or_suffix(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_text("line\n" * 200_000)
    assert [d.bytes for d in corpus.read(path)] == [1_000_000]


def test_a_missing_source_and_a_binary_file_give_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        list(corpus.read(tmp_path / "absent"))
    cases = {
        b"\xff\xfea\x00": "UTF-16",
        b"caf\xe9": r"not UTF-8 text \(byte 3\)",
        b"a\x00": "binary",
    }
    for data, complaint in cases.items():
        (tmp_path / "b.bin").write_bytes(data)
        with pytest.raises(ValueError, match=complaint):
            list(corpus.read(tmp_path / "b.bin"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a" * 99)[:-9])
    (tmp_path / "no.gz").write_bytes(b"text")
    (tmp_path / "link").symlink_to("nowhere")
    for name, complaint in {
        "cut.gz": "cut short", "no.gz": "not compressed", "link": "is a link to nowhere, which does not exist",
        "no.gz/x": "cannot be read: Not a directory", "x" * 300: "cannot be read: File name too long",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=complaint):
            list(corpus.read(tmp_path / name))


def test_copies_that_differ_in_comments_and_blanks_are_dropped() -> None:
    documents = [
        Document("a.py", "def f(x):\n    return x + 1\n"),
        Document("b.py", "# a licence\ndef f(x):\n\n    return x + 1  # why\n"),
        Document("c.py", "def f(x):\n    return x + 2\n"),
        Document("d.py", "# only a comment\n"),
        Document("e.txt", "# a heading\n"),
    ]
    assert [d.name for d in corpus.clean(documents)] == ["a.py", "c.py", "e.txt"]


def test_tables_are_known_from_code() -> None:
    table = "decoding_table = (\n" + "".join(f"    '\\x{i:02x}'  # 0x{i:02x} -> NAME\n" for i in range(256)) + ")\n"
    assert corpus.is_table(table)
    assert not corpus.is_table(Path(corpus.__file__).read_text())
    documents = {d.name for d in corpus.clean(corpus.read("stdlib"))}
    assert "stdlib/encodings/cp437.py" not in documents
    assert "stdlib/html/entities.py" not in documents
    assert {"stdlib/json/decoder.py", "stdlib/typing.py", "stdlib/ast.py"} <= documents


def test_the_order_depends_on_the_seed_only() -> None:
    documents = [Document(f"{i}.py", f"x = {i}") for i in range(50)]
    order = corpus.shuffle(documents, seed=0)
    assert corpus.shuffle(reversed(documents), seed=0) == order
    assert corpus.shuffle(documents, seed=1) != order
    assert sorted(d.name for d in order) == sorted(d.name for d in documents)


def test_split_is_by_file_and_near_the_fraction() -> None:
    documents = corpus.shuffle([Document(f"{i}.py", "x" * (100 + i)) for i in range(400)], seed=0)
    train, valid = corpus.split(documents, 0.1)
    assert not {d.name for d in train} & {d.name for d in valid}
    assert len(train) + len(valid) == 400
    total = sum(d.bytes for d in documents)
    assert 0.095 * total < sum(d.bytes for d in valid) <= 0.1 * total


def test_installed_packages_are_read_beside_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [importlib.metadata.distribution(name) for name in ("typer", "pytest", "typer")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    documents = list(corpus.read("installed"))
    by_group: dict[str | None, dict[str, Document]] = {}
    for document in documents:
        by_group.setdefault(document.group, {})[document.name] = document
    assert {"pytest", "typer", "stdlib/json", "stdlib/ast.py"} <= by_group.keys() and None not in by_group
    assert sum(map(len, by_group.values())) == len(documents), "names are unique, and a package is read once"
    assert [d.name for d in documents if d.group in ("pytest", "typer")] == sorted(
        [*by_group["pytest"], *by_group["typer"]]
    )
    import _pytest.fixtures

    assert by_group["pytest"]["pytest/_pytest/fixtures.py"].text == Path(_pytest.fixtures.__file__).read_text("utf-8")
    assert "stdlib/json/decoder.py" in by_group["stdlib/json"]
    train, valid = corpus.split(corpus.shuffle(corpus.clean(documents), seed=0), 0.1)
    assert train and valid and not {d.group for d in train} & {d.group for d in valid}
    assert 0.08 < sum(d.bytes for d in valid) / sum(d.bytes for d in (*train, *valid)) <= 0.1


def test_a_group_stays_together() -> None:
    documents = [Document(f"{i}.py", "x" * 100, group=f"g{i % 10}") for i in range(200)]
    train, valid = corpus.split(corpus.shuffle(documents, seed=0), 0.25)
    assert len(valid) == 40 and len({d.group for d in valid}) == 2
    assert not {d.group for d in train} & {d.group for d in valid}
    with pytest.raises(ValueError, match="all the text is of one package"):
        corpus.split([Document("a", "x", group="g"), Document("b", "y", group="g")], 0.25)


def test_split_of_few_large_files_and_of_a_single_one() -> None:
    train, valid = corpus.split([Document("a", "x" * 100), Document("b", "x" * 50)], 0.05)
    assert [d.name for d in train] == ["a"]
    assert [d.name for d in valid] == ["b"]
    text = "".join(f"line {i}\n" for i in range(1000))
    (head,), (tail,) = corpus.split([Document("one", text)], 0.1)
    assert head.text + tail.text == text
    assert head.text.endswith("\n")
    assert 0.09 < len(tail.text) / len(text) < 0.11
    for long, expected in (
        ("x" * 1_100_000, 990_000),  # neither line ends nor blanks
        ("a\n" + "é" * 999_998, 900_000),  # a line end, but far away
        ("word " * 200_000, 900_000 - 900_000 % 5),
        ("xy", 1),
    ):
        (head,), (tail,) = corpus.split([Document("one", long)], 0.1)
        assert head.text + tail.text == long and len(head.text) == expected
    with pytest.raises(ValueError, match="too short"):
        corpus.split([Document("one", "x")], 0.1)
    with pytest.raises(ValueError, match="no text"):
        corpus.split([], 0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        corpus.split([Document("a", "x")], 1.0)


def test_limit_counts_bytes_and_cuts_a_single_large_file() -> None:
    documents = [Document("a", "é" * 10), Document("b", "x" * 100), Document("c", "x" * 5)]
    assert [d.name for d in corpus.limit(documents, 25)] == ["a", "c"]
    assert corpus.limit(documents, None) == documents
    assert [d.text for d in corpus.limit(documents[:1], 5)] == ["éé"]
