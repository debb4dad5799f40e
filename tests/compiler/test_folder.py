import json
import subprocess
import sys

import numpy as np
import pytest

from aero.compiler.compile import compile
from aero.compiler.folder import read, write
from aero.compiler.quantize import quantize
from aero.compiler.run import CompiledRun
from aero.graph import interpret
from small_models import make_model


@pytest.fixture(scope="module")
def compiled():
    return compile(make_model("SM+ScFuFFN"), softmax_base="2")  # as `aero compile` does


@pytest.fixture
def folder(compiled, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    plan = quantize(compiled.program, [np.arange(12)]).plan
    write(tmp_path, compiled, "SM+ScFuFFN", plan=plan, report={"ffn": "basis"})
    return tmp_path


def test_a_compiled_model_survives_the_disk(compiled, folder):
    info, again, plan = read(folder)
    assert (info.notation, info.context, info.vocab_size) == ("SM+ScFuFFN", 12, 50)
    assert again.program.graph == compiled.program.graph and plan.windows
    ids = np.arange(7)
    for name, weight in compiled.program.weights.items():
        np.testing.assert_array_equal(again.program.weights[name], weight)
    np.testing.assert_allclose(interpret(again.prefill(7), ids), interpret(compiled.prefill(7), ids), atol=1e-12)


def test_a_server_takes_either_folder(compiled, folder, tmp_path):
    served = CompiledRun.load(folder)
    assert (served.notation, served.context, served.vocab_size) == ("SM+ScFuFFN", 12, 50)
    assert served.compiled.prefill(5).graph == compiled.prefill(5).graph
    assert served.compiled.prefill(5) is served.compiled.prefill(5)
    make_model("SM+ScFuFFN").save_pretrained(tmp_path / "run")
    fresh = CompiledRun.load(tmp_path / "run")
    assert fresh.compiled.prefill(5).graph.digest == served.compiled.prefill(5).graph.digest
    with pytest.raises(FileNotFoundError, match="no run"):
        CompiledRun.load(tmp_path / "nothing")


FILES = ["compiled.json", "graph.json", "weights.safetensors", "ring_plan.json", "tokenizer.json"]


@pytest.mark.parametrize("name", FILES)
def test_an_altered_or_lost_file_is_refused(folder, name):
    assert sorted(FILES) == sorted(path.name for path in folder.iterdir())
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"{name} (is damaged|is not JSON).* compile the model again"):
        read(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lost {name}|{name} is missing"):
        read(folder)


def test_another_version_is_refused(folder):
    info = json.loads((folder / "compiled.json").read_text())
    for change, message in (
        ({"format_version": 1}, "version 1, and this aero reads 3; compile the model again"),
        ({"files": {"../x": "0"}}, "was changed after it was written"),
    ):
        (folder / "compiled.json").write_text(json.dumps({**info, **change}))
        with pytest.raises(ValueError, match=message):
            read(folder)


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "vocab.json", "added_tokens.json"])
def test_an_added_file_that_a_loader_would_read_is_refused(folder, name):
    (folder / "README.md").write_text("A model card.")
    (folder / "bench.json").write_text("{}")
    read(folder)
    (folder / name).write_text("{}")
    with pytest.raises(ValueError, match=rf"{name} does not belong to what was written there; move it elsewhere"):
        read(folder)


def test_a_compiled_model_is_served_without_torch(folder):
    code = (
        "import sys; from pathlib import Path; from aero.compiler.run import CompiledRun; "
        "print(CompiledRun.load(Path(sys.argv[1])).notation, {'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "SM+ScFuFFN set()\n"
