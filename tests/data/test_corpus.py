"""Documents: read, cleaned, ordered and split."""

from __future__ import annotations

from pathlib import Path

import pytest

from aero.data import corpus
from aero.data.corpus import Document


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
    found = [(d.name.split("/", 1)[1], d.text) for d in corpus.read(tmp_path)]
    assert found == [("b.py", "b = 1\n"), ("sub/a.txt", "prose\n")]


def test_a_file_named_by_the_user_is_read_whatever_its_size_or_suffix(tmp_path: Path) -> None:
    path = tmp_path / "book"
    path.write_text("line\n" * 200_000)
    assert [d.bytes for d in corpus.read(path)] == [1_000_000]


def test_a_missing_source_and_a_binary_file_give_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        list(corpus.read(tmp_path / "absent"))
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not UTF-8"):
        list(corpus.read(tmp_path / "b.bin"))


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


def test_split_of_few_large_files_and_of_a_single_one() -> None:
    train, valid = corpus.split([Document("a", "x" * 100), Document("b", "x" * 50)], 0.05)
    assert [d.name for d in train] == ["a"]
    assert [d.name for d in valid] == ["b"]
    text = "".join(f"line {i}\n" for i in range(1000))
    (head,), (tail,) = corpus.split([Document("one", text)], 0.1)
    assert head.text + tail.text == text
    assert head.text.endswith("\n")
    assert 0.09 < len(tail.text) / len(text) < 0.11
    with pytest.raises(ValueError, match="no text"):
        corpus.split([], 0.1)
    with pytest.raises(ValueError, match="between 0 and 1"):
        corpus.split([Document("a", "x")], 1.0)


def test_limit_counts_bytes_and_cuts_a_single_large_file() -> None:
    documents = [Document("a", "é" * 10), Document("b", "x" * 100), Document("c", "x" * 5)]
    assert [d.name for d in corpus.limit(documents, 25)] == ["a", "c"]
    assert corpus.limit(documents, None) == documents
    assert [d.text for d in corpus.limit(documents[:1], 5)] == ["éé"]
