import json

import numpy as np
import pytest

from aero.compiler import compile
from aero.compiler.folder import read, read_info, write
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
    assert set(info.files) == {"graph.json", "weights.safetensors", "ring_plan.json", "tokenizer.json"}
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


@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors", "ring_plan.json", "tokenizer.json"])
def test_an_altered_or_lost_file_is_refused(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is not what was compiled"):
        read(folder)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lost {name}"):
        read(folder)


def test_another_version_is_refused(folder):
    info = json.loads((folder / "compiled.json").read_text())
    (folder / "compiled.json").write_text(json.dumps({**info, "format_version": 2}))
    with pytest.raises(ValueError, match="compile it again"):
        read_info(folder)
    (folder / "compiled.json").write_text("{}")
    with pytest.raises(ValueError, match="not readable"):
        read_info(folder)
    (folder / "compiled.json").write_text(json.dumps({**info, "files": {"../x": "0"}}))
    with pytest.raises(FileNotFoundError, match="lost"):
        read(folder)
