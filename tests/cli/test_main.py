"""Every kind of bad input: one clear line on standard error, a non-zero exit code, nothing half-written."""

import json
import socket
import subprocess
import sys

import pytest
import torch
import typer.main

from aero.cli import main as cli
from aero.models import AeroConfig, AeroForCausalLM
from aero.wire.keys import make_keys


@pytest.fixture
def aero(monkeypatch, capsys):
    """Runs `aero ...` in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aero", *map(str, arguments)])
        monkeypatch.setattr(cli, "_debug", False)
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Keys, a data folder, and a run folder with an untrained model."""
    from aero.data.build import build
    from aero.data.folder import DataFolder
    from aero.data.settings import DataSettings

    folder = tmp_path_factory.mktemp("cli")
    make_keys(folder / "keys")
    (folder / "text").mkdir()
    for i in range(8):
        (folder / "text" / f"{i}.py").write_text(f"def function_{i}(x):\n    return x * {i} + {i**3}\n" * (40 + i))
    data = build(folder / "data", DataSettings(sources=(str(folder / "text"),), vocab_size=300, valid_fraction=0.3))
    torch.manual_seed(0)
    vocab = DataFolder(folder / "data").info.vocab_size
    config = AeroConfig.from_notation("SM+ScFuFFN", "demo", vocab_size=vocab, context=16, hidden_size=16)
    AeroForCausalLM(config).save_pretrained(folder / "run")
    (folder / "run" / "tokenizer.json").write_bytes((folder / "data" / "tokenizer.json").read_bytes())
    assert data is not None
    return folder


def assert_one_line(result: tuple[int, str, str], *parts: str) -> None:
    code, _, err = result
    assert code != 0
    lines = err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error:"), err
    for part in parts:
        assert part in lines[0]


def test_help_names_every_verb(aero):
    code, out, _ = aero("--help")
    assert code == 0
    for verb in ("demo", "data", "train", "eval", "entropy", "compile", "keys", "serve", "generate", "cost"):
        assert f" {verb} " in out


def test_every_verb_takes_json():
    verbs = dict(typer.main.get_command(cli.app).commands)
    verbs |= {f"bench {name}": command for name, command in verbs.pop("bench").commands.items()}
    assert len(verbs) > 20
    assert [name for name, verb in verbs.items() if not any("--json" in p.opts for p in verb.params)] == []


def test_help_needs_neither_torch_nor_jax():
    code = "import sys, aero.cli.main; print(sorted({'torch', 'jax', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_run(aero, tmp_path):
    assert_one_line(aero("generate", tmp_path / "no"), "no run at", "aero train")
    assert_one_line(aero("serve", tmp_path / "no", "--insecure-plaintext"), "no run at")
    assert_one_line(aero("eval", tmp_path / "no"), "no")
    assert_one_line(aero("entropy", tmp_path / "no"), "no")


def test_missing_data(aero, tmp_path):
    result = aero("train", tmp_path / "run", "--data", tmp_path / "no", "--size", "demo")
    assert_one_line(result, "no")
    assert not (tmp_path / "run").exists()


def test_an_unknown_notation_lists_the_known_ones(aero, folders, tmp_path):
    result = aero("train", tmp_path / "run", "--data", folders / "data", "--notation", "SM+XX", "--size", "demo")
    assert_one_line(result, "SM+XX", "SM+LN+G", "SM+ScFuFFN")
    assert not (tmp_path / "run").exists()


def test_an_unknown_verb_or_option(aero):
    assert aero("no-such-verb")[0] == 2
    assert aero("eval", "--no-such-option")[0] == 2


def test_a_checkpoint_of_another_version(aero, folders, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for file in (folders / "run").iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    assert_one_line(aero("generate", run), "version 99")


def test_a_damaged_tokenizer(aero, folders, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for file in (folders / "run").iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    (run / "tokenizer.json").write_text("{")
    assert_one_line(aero("generate", run), "tokenizer")


def test_a_prompt_longer_than_the_context(aero, folders):
    result = aero("generate", folders / "run", "--prompt", "def f(x):\n" * 20)
    assert_one_line(result, "context of 16", "shorten")


def test_an_empty_prompt(aero, folders):
    assert_one_line(aero("generate", folders / "run", "--prompt", ""), "empty")


def test_plaintext_generation(aero, folders, tmp_path):
    code, out, _ = aero("generate", folders / "run", "--prompt", "def ", "-n", 3, "--json", tmp_path / "g.json")
    result = json.loads((tmp_path / "g.json").read_text())
    assert code == 0 and out.startswith("def ") and len(result["new_ids"]) == 3
    assert result["text"] in out
    assert [record["context"] for record in result["records"]] == [len(result["prompt_ids"]) + i for i in range(3)]


def test_a_port_in_use(aero, folders):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = aero("serve", folders / "run", "--keys", folders / "keys", "--port", port)
    assert_one_line(result, f"127.0.0.1:{port}", "in use")


def test_both_parties_set_threads(aero, folders, tmp_path, monkeypatch):
    from aero.cli.serve import threads_of
    from aero.kernels import native
    from aero.serve.supervisor import Limits

    with native.use_threads(1):
        aero("serve", tmp_path / "no", "--threads", 3)
        assert native.threads() == 3
        monkeypatch.setenv(native.THREADS_VARIABLE, "3")
        aero("serve", tmp_path / "no")  # leaves what the environment has set
        assert native.threads() == 3
        monkeypatch.delenv(native.THREADS_VARIABLE)
        aero("serve", tmp_path / "no")
        assert native.threads() == threads_of(Limits.sessions)
        code, _, error = aero("serve", tmp_path / "no", "--threads", 0)
        assert code != 0 and "threads" in error
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
        for threads, verb in ((2, ["generate", "--private", address]), (5, ["chat", address])):
            aero(*verb, "--insecure-plaintext", "--threads", threads)
            assert native.threads() == threads


def test_an_absent_server(aero, folders):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    result = aero("generate", "--private", f"127.0.0.1:{port}", "--keys", folders / "keys")
    assert_one_line(result, "nobody listens", "start the server")


@pytest.mark.parametrize("address", ["", "host", "host:", ":7", "host:99999", "host:x"])
def test_not_an_address(aero, folders, address):
    assert_one_line(aero("generate", "--private", address, "--keys", folders / "keys"), "HOST:PORT")


def test_security_must_be_chosen(aero, folders):
    assert_one_line(aero("serve", folders / "run"), "aero keys")
    assert_one_line(aero("generate", "--private", "127.0.0.1:1"), "aero keys")
    assert_one_line(
        aero("serve", folders / "run", "--keys", folders / "keys", "--insecure-plaintext"), "exclude each other"
    )


def test_a_run_or_a_server(aero, folders):
    assert_one_line(aero("generate"), "--private HOST:PORT")
    assert_one_line(aero("generate", folders / "run", "--private", "127.0.0.1:1"), "either")


def test_debug_shows_the_traceback(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["aero", "--debug", "generate", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="no run at"):
        cli.main()
