"""What is kept by its digest is found as it was, or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from aero.files.cache import Cache, user_cache


def name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_what_was_kept_is_found_by_its_digest(tmp_path):
    cache, data = Cache(tmp_path / "a" / "b"), b"a model"
    assert cache.read(name(data), 7) is None
    cache.write(data)
    assert cache.read(name(data), 7) == data
    assert cache.read(name(data), 6) is None, "of another size than is asked for"
    assert cache.read(name(b"another"), 7) is None
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [name(data)], "nothing else is left there"


def test_what_was_changed_is_not_found_and_written_anew(tmp_path):
    cache, data = Cache(tmp_path), b"a model"
    cache.write(data)
    for changed in (b"a modem", b"", b"a model, longer"):
        (tmp_path / name(data)).write_bytes(changed)
        assert cache.read(name(data), 7) is None
        cache.write(data)
        assert cache.read(name(data), 7) == data


def test_the_oldest_makes_room(tmp_path):
    cache, files = Cache(tmp_path, most=10), [b"1111", b"2222", b"3333"]
    for age, data in enumerate(files[:2]):
        cache.write(data)
        os.utime(tmp_path / name(data), (age, age))
    assert cache.read(name(files[0]), 4) == files[0]  # read later than the other was written
    cache.write(files[2])
    assert [cache.read(name(data), 4) for data in files] == [files[0], None, files[2]]
    cache.write(b"x" * 11)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 8


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    tmp_path.chmod(0o500)
    cache = Cache(tmp_path / "drafts")
    cache.write(b"a model")
    assert cache.read(name(b"a model"), 7) is None


def test_a_place_that_is_no_folder_keeps_nothing(tmp_path):
    (tmp_path / "drafts").write_text("a file")
    cache = Cache(tmp_path / "drafts")
    cache.write(b"a model")
    assert cache.read(name(b"a model"), 7) is None


def test_without_a_place_nothing_is_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Cache(Path("~/.cache")).write(b"a model")
    assert list(tmp_path.iterdir()) == []


def test_the_place_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "aero"
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")  # which means nothing, by the XDG Base Directory Specification
    monkeypatch.setattr("sys.platform", "linux")
    assert user_cache() == Path.home() / ".cache" / "aero"
    monkeypatch.setattr("sys.platform", "darwin")
    assert user_cache() == Path.home() / "Library" / "Caches" / "aero"
