"""`aero embed` and `aero classify`: from a checkpoint to private outputs, between two processes over TLS."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aero.cli.main import app
from aero.cli.serving import Serving, load
from aero.compiler.import_encoder import outputs_of
from aero.data import tokenizer
from aero.engines.reveal import LOGITS
from aero.models.encoder_reference import read_encoder
from aero.wire.keys import make_keys
from small_encoders import checkpoint, sentences

PATIENCE = 240
TEXTS = ["The cat sat on the mat.", "dogs", "a dog runs on mats, cats sat"]
LABELS = {0: "sad", 1: "neither", 2: "glad"}
KINDS = {"embed": "bert", "first": "distilbert", "classify": "bert, classifier", "relu": "distilbert, classifier"}


def aero(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run and a compiled model of each kind."""
    folder = tmp_path_factory.mktemp("encoders")
    make_keys(folder / "keys")
    (folder / "texts").write_text("\n".join([*TEXTS, "mat on a dog", "the dog sat", "cats run"] * 4))
    for name, kind in KINDS.items():
        source = folder / f"{name}-source"
        checkpoint(kind, source, **({"id2label": LABELS} if name == "classify" else {}))
        if name == "embed":
            sentences(source, "Transformer", "Pooling", "Normalize")
        pooling = ("--pooling", "first") if name == "first" else ()
        aero("convert", source, folder / name, *pooling)
        texts = ("--texts", folder / "texts") if name != "relu" else ()
        out = folder / f"{name}-compiled"
        output = aero("compile", folder / name, "--out", out, "--calibration", 8, "--test", 4, *texts)
        assert ("come from random tokens" in output) == (name == "relu")
    return folder


def expected(folder: Path, name: str) -> np.ndarray:
    """Of Hugging Face's own class."""
    reference = read_encoder(folder / f"{name}-source", "first" if name == "first" else None)
    tokens = tokenizer.load(folder / name)
    found = [outputs_of(reference, reference.fields["pooling"], np.array(tokens.encode_text(t))) for t in TEXTS]
    return np.array([x / np.linalg.norm(x) if name == "embed" else x for x in found])


def values(written: Path) -> np.ndarray:
    texts = json.loads(written.read_text())["texts"]
    return np.array([t["embedding"] if "embedding" in t else list(t["logits"].values()) for t in texts])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("compiled", ["", "-compiled"])
def test_plaintext_outputs_are_those_of_their_class(name, compiled, folder, tmp_path):
    verb = "embed" if name in ("embed", "first") else "classify"
    output = aero(verb, folder / f"{name}{compiled}", *TEXTS, "--json", tmp_path / "out.json")
    assert "dogs" in output
    # Theirs are in float32.
    np.testing.assert_allclose(values(tmp_path / "out.json"), expected(folder, name), rtol=1e-4, atol=1e-5)
    written = json.loads((tmp_path / "out.json").read_text())
    assert [t["tokens"] for t in written["texts"]] == [9, 4, 12]
    if verb == "classify":
        assert [t["label"] for t in written["texts"]] == [
            ("sad", "neither", "glad")[i] if name == "classify" else f"LABEL_{i}"
            for i in expected(folder, name).argmax(1)
        ]
        assert all(1 / 3 < t["probability"] <= 1 for t in written["texts"])


def private(folder: Path, verb: str, model: str, *options: str, texts: list[str] = TEXTS) -> tuple[str, str, str]:
    """What the client prints, and what the server does."""
    keys = ["--keys", str(folder / "keys")]
    command = [sys.executable, "-m", "aero.cli.main", "serve", str(folder / model), "--port", "0", "--once", *keys]
    serve = [o for o in options if o.startswith("serve:")]
    command += [part for o in serve for part in o.removeprefix("serve:").split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        line = server.stdout.readline()
        match = re.search(r" at (\S+:\d+)", line)
        assert match, line + server.stderr.read()
        client = [sys.executable, "-m", "aero.cli.main", verb, "--private", match[1], *keys, *texts]
        done = subprocess.run(
            [*client, *(o for o in options if o not in serve)], capture_output=True, text=True, timeout=PATIENCE
        )
        out, err = server.communicate(timeout=PATIENCE)
    return done.stdout, done.stderr, line + out + err


@pytest.mark.parametrize("name", ["embed", "first", "classify", "relu"])
def test_private_outputs_are_those_of_their_class(name, folder, tmp_path):
    verb = "embed" if name in ("embed", "first") else "classify"
    _, err, server = private(folder, verb, f"{name}-compiled", "--json", str(tmp_path / "out.json"))
    exact, found = expected(folder, name), values(tmp_path / "out.json")
    # Softmax and GELU are within 2e-3 of a value each, and norms of two layers come after them.
    assert np.abs(found - exact).max() <= 3e-2 * np.abs(exact).max()
    written = json.loads((tmp_path / "out.json").read_text())
    # 9 and 4 tokens at once in contexts of 16 and 20, and 12 after them.
    assert [(r["work"], r["context"]) for r in written["records"]] == [("set-up", None), (verb, 13), (verb, 12)]
    assert "9, 4, 12 tokens, which the server learns" in err
    assert not any(word in server for word in ("cat", "dog", "mat"))


def test_the_class_alone_is_revealed(folder, tmp_path):
    out, err, _ = private(
        folder, "classify", "classify-compiled", "serve:--reveal token", "--json", str(tmp_path / "a")
    )
    answers = json.loads((tmp_path / "a").read_text())["texts"]
    labels = [("sad", "neither", "glad")[i] for i in expected(folder, "classify").argmax(axis=1)]
    assert [a["label"] for a in answers] == labels and not any("logits" in a or "probability" in a for a in answers)
    assert "the most likely class of each text alone" in err and "not revealed" in out


def test_a_run_is_served_without_having_been_compiled_and_refuses_other_verbs(folder):
    _, err, _ = private(folder, "classify", "first", texts=["a cat"])
    assert "not one to classify with; use `aero embed`" in err
    how = Serving("two-party", LOGITS, 2, 0, insecure_plaintext=True, idle=60.0)
    learnt, *others = load(folder / "first", how).notes
    assert learnt == "clients will learn the embedding of each text"
    assert "number formats come from random tokens" in others[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("embed", "{classify}", "a"), "use `aero classify`"),
        (("classify", "{embed-compiled}", "a"), "use `aero embed`"),
        (("embed", "{embed}", "the cat " * 9), "does not fit the model's context of 16"),
        (("embed", "{embed}"), "there is no text to embed"),
        (("embed", "{embed}", "a", "--keys", "keys"), "for a server"),
        (("generate", "{embed}"), "is an encoder, which continues no text; use `aero embed`"),
        (("serve", "{embed-compiled}", "--insecure-plaintext", "--reveal", "top-k:4"), "means nothing in parts"),
        (("compile", "{embed}", "--out", "{out}", "--data", "x"), "calibrated on --texts"),
        (("compile", "{embed}", "--out", "{out}", "--texts", "{texts}", "--test", 90), "has 24 texts"),
        (("convert", "{classify-source}", "{out}", "--pooling", "mean"), "pooling is its own"),
        (("embed", "{keys}", "a"), "holds no encoder"),
    ],
)
def test_one_line_says_what_is_wrong(arguments, message, folder, tmp_path):
    places = {name: folder / name for name in (*KINDS, *(f"{k}-compiled" for k in KINDS), "classify-source", "keys")}
    places |= {"texts": folder / "texts", "out": tmp_path / "out"}
    given = [str(places.get(str(a).strip("{}"), a)) if str(a).startswith("{") else a for a in arguments]
    done = CliRunner().invoke(app, [str(a) for a in given])
    assert done.exit_code and message in str(done.exception), (done.output, done.exception)


def test_texts_from_standard_input(folder, tmp_path):
    done = CliRunner().invoke(
        app, ["embed", str(folder / "embed"), "-", "--json", str(tmp_path / "a")], input="cat\n\nmat\n"
    )
    assert done.exit_code == 0
    assert [t["text"] for t in json.loads((tmp_path / "a").read_text())["texts"]] == ["cat", "mat"]
