"""From a model towards a cheaper rung: the way, what each stage begins with, and a way that is stopped and gone on."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from typer.testing import CliRunner

from aero.cli.main import app
from aero.compiler.compile import compile
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.ladder.adapt import FILE, adapt, plan
from aero.ladder.stages import begin_with, stages
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.notation import parse
from aero.models.presets import Size
from aero.train.callbacks import TrainingProgress
from aero.train.evaluate import evaluate_on
from aero.train.imported import import_checkpoint
from aero.train.run import train
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings
from small_models import LLAMA, make_model


@pytest.mark.parametrize(
    ("source", "target", "way"),
    [
        ("SM+LN+G", "SM+FLN+R", ["SM+LN+R", "SM+FLN+R"]),
        ("SM+LN+R", "SM+FLN(p)+R", ["SM+FLN(p)+R"]),
        ("SM+LN+G", "SM+FLN+G", ["SM+FLN+G"]),
        ("SM+R", "SM+R+ScFFN", ["SM+R+ScFFN"]),
        (
            "SM+LN+G",
            "SM+FLN+ScFuFFN_i2",
            ["SM+LN+R", "SM+FLN+R", "SM+FLN+ScFuFFN", "SM+FLN+ScFuFFN_i1", "SM+FLN+ScFuFFN_i2"],
        ),
        ("SM+FLN+ScFuFFN_i1", "SM+FLN+ScFuFFN_i2", ["SM+FLN+ScFuFFN_i2"]),
        ("SM+ScFFN", "SM+ScFuFFN", ["SM+ScFuFFN"]),
        ("SM+ScFFN_i1", "SM+ScFuFFN_i1", ["SM+ScFuFFN_i1"]),
        ("SM+RMS+SiLU+GaFFN", "SM+FRMS+SiLU+GaFFN", ["SM+FRMS+SiLU+GaFFN"]),
        ("SM+RMS+SiLU+GaFFN", "SM+FRMS(p)+R", ["SM+RMS+R+GaFFN", "SM+FRMS(p)+R+GaFFN", "SM+FRMS(p)+R"]),
        (
            "SM+RMS+SiLU+GaFFN",
            "SM+FRMS+ScFuFFN_i1",
            ["SM+RMS+R+GaFFN", "SM+FRMS+R+GaFFN", "SM+FRMS+R", "SM+FRMS+ScFuFFN", "SM+FRMS+ScFuFFN_i1"],
        ),
        ("SM+RMS+R+GaFFN", "SM+RMS+R+ScGaFFN_i1", ["SM+RMS+R+ScGaFFN", "SM+RMS+R+ScGaFFN_i1"]),
        ("SM+RMS+SiLU+ScGaFFN_i1", "SM+RMS+SiLU+ScFFN_i1", ["SM+RMS+SiLU+ScFFN_i1"]),
        ("SM+LN+G", "SM+LN+G", []),
    ],
)
def test_the_way(source: str, target: str, way: list[str]) -> None:
    assert [str(stage.notation) for stage in stages(parse(source), parse(target))] == way


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("SM+LN+R", "SM+LN+G"),
        ("SM+LN+G", "SM+R"),
        ("SM+ScFuFFN", "SM+R"),
        ("SM+LN+G", "SM(t)+LN+R"),
        ("SM+R", "SM+LN+R"),
        ("SM+RMS+SiLU+GaFFN", "SM+FLN+R"),
        ("SM+RMS+SiLU+GaFFN", "SM+LN+R"),
        ("SM+RMS+R", "SM+RMS+R+GaFFN"),
        ("SM+ScFuFFN_i1", "SM+ScFuFFN"),
    ],
)
def test_no_way(source: str, target: str) -> None:
    with pytest.raises(ValueError, match="no way from"):
        stages(parse(source), parse(target))


def texts(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(50, (8, 12), generator=generator) for _ in range(3)]


@pytest.mark.parametrize(("source", "target"), [("SM+LN+R", "SM+FLN+R"), ("SM+R", "SM+R+ScFFN")])
def test_what_costs_nothing_at_first_begins_as_the_same_function(source: str, target: str) -> None:
    model = make_model(source)
    after = begin_with(model, model.config.with_notation(target), [])
    ids = texts()[0]
    torch.testing.assert_close(after.double()(ids).logits, model.double()(ids).logits, rtol=1e-11, atol=1e-11)


def test_a_fused_ffn_is_the_least_squares_map() -> None:
    model = make_model("SM+LN+G").double()
    seen: dict[int, tuple[list, list]] = {}
    for layer, block in enumerate(model.transformer.blocks):
        seen[layer] = ([], [])

        def note(module, inputs, output, layer=layer):
            seen[layer][0].append(inputs[0].detach().flatten(0, -2))
            seen[layer][1].append(output.detach().flatten(0, -2))

        block.ffn.register_forward_hook(note)
    for ids in texts():
        model(ids)
    after = begin_with(model, model.config.with_notation("SM+LN+ScFuFFN"), texts())
    for layer, (x, y) in seen.items():
        a, b = (torch.cat(rows[:3]).numpy() for rows in (x, y))
        # NumPy's solution of the same problem: a ridge is rows of its own, and the constant has none.
        ridge = np.sqrt(1e-6 * (a**2).sum(0).mean()) * np.eye(16)
        rows = np.block([[a, np.ones((len(a), 1))], [ridge, np.zeros((16, 1))]])
        expected = np.linalg.lstsq(rows, np.concatenate([b, np.zeros((16, 16))]), rcond=None)[0]
        found = after.transformer.blocks[layer].ffn.w
        np.testing.assert_allclose(found.weight.detach().numpy(), expected[:-1].T, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.bias.detach().numpy(), expected[-1], rtol=1e-5, atol=1e-6)


def of_ffns(model: AeroForCausalLM) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What the FFN of each layer reads and gives on the texts, [rows, d]."""
    seen: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    for block in model.transformer.blocks:
        seen.append(([], []))

        def note(module, inputs, output, seen=seen[-1]):
            seen[0].append(inputs[0].detach().flatten(0, -2))
            seen[1].append(output.detach().flatten(0, -2))

        block.ffn.register_forward_hook(note)
    for ids in texts():
        model(ids)
    return [(torch.cat(x), torch.cat(y)) for x, y in seen]


@pytest.mark.parametrize("target", ["SM+RMS+R", "SM+RMS+ScFuFFN"])
def test_an_ffn_without_biases_or_gate_is_the_least_squares_map(target: str) -> None:
    model = make_model("SM+RMS+R+GaFFN", **LLAMA).double()
    rows = of_ffns(model)
    after = begin_with(model, model.config.with_notation(target), texts())
    for before, block, (x, y) in zip(model.transformer.blocks, after.transformer.blocks, rows, strict=True):
        if target == "SM+RMS+R":
            both = (before.ffn.w_gate.weight + before.ffn.w_in.weight).detach()
            assert torch.equal(block.ffn.w_in.weight, both)
            x, last = torch.relu(x @ both.T), block.ffn.w_out
        else:
            last = block.ffn.w
        assert last.bias is None
        a, d = x.numpy(), x.shape[1]
        ridge = np.sqrt(1e-6 * (a**2).sum(0).mean()) * np.eye(d)
        expected = np.linalg.lstsq(np.vstack([a, ridge]), np.vstack([y.numpy(), np.zeros((d, 16))]), rcond=None)[0]
        np.testing.assert_allclose(last.weight.detach().numpy(), expected.T, rtol=1e-6, atol=1e-8)


def test_an_ffn_is_left_out_where_attention_has_no_bias() -> None:
    model = make_model("SM+FRMS+ScFuFFN", **LLAMA)
    after = begin_with(model, model.config.with_notation("SM+FRMS+ScFuFFN_i1"), texts())
    assert after.transformer.blocks[1].ffn is None
    kept = {name: value for name, value in model.state_dict().items() if name in after.state_dict()}
    assert all(torch.equal(after.state_dict()[name], value) for name, value in kept.items())


def test_an_ffn_that_is_left_out_leaves_its_mean() -> None:
    model = make_model("SM+ScFuFFN").double()
    outputs: list[torch.Tensor] = []
    model.transformer.blocks[1].ffn.register_forward_hook(lambda m, i, output: outputs.append(output.detach()))
    for ids in texts():
        model(ids)
    mean = torch.cat(outputs).mean((0, 1)) / model.transformer.blocks[1].ffn_alpha.detach()
    after = begin_with(model, model.config.with_notation("SM+ScFuFFN_i1"), texts())
    assert after.transformer.blocks[1].ffn is None
    before, now = (m.transformer.blocks[1].attention.o_proj.bias.detach().double() for m in (model, after))
    torch.testing.assert_close(now - before, mean, rtol=1e-5, atol=1e-6)
    kept = (m.transformer.blocks[0].ffn.w.weight.detach().double() for m in (model, after))
    torch.testing.assert_close(*kept, rtol=1e-6, atol=1e-7)


SETTINGS = TrainSettings(batch_size=2, precision="float32", valid_blocks=8, measure_every=0, save_every=50)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    folder = tmp_path_factory.mktemp("adapt")
    (folder / "t.py").write_text("".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(300)))
    return build(folder / "data", DataSettings(sources=(str(folder / "t.py"),), vocab_size=300, valid_fraction=0.2))


@pytest.fixture(scope="module")
def original(data: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("original") / "run"
    config = AeroConfig.from_notation("SM+LN+G", Size(data.info.vocab_size, 16, 2, 2, 16))
    train(run, data, config, replace(SETTINGS, steps=80, learning_rate=1e-2))
    return run


def test_a_way_is_gone_stopped_and_gone_on(original: Path, data: DataFolder, tmp_path: Path) -> None:
    out, target, tokens = tmp_path / "out", "SM+FLN+ScFuFFN_i1", 4 * 10 * 2 * 16

    def stop(stage: str, now: TrainingProgress) -> None:
        if stage == "2-SM+FLN+R" and now.step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        adapt(out, original, target, SETTINGS, tokens, tolerance=5, on_progress=stop)
    assert not (out / FILE).exists()
    kept = (out / "1-SM+LN+R" / "model.safetensors").stat().st_mtime_ns
    found = adapt(out, original, target, SETTINGS, tokens, tolerance=5)
    assert (out / "1-SM+LN+R" / "model.safetensors").stat().st_mtime_ns == kept
    whole = adapt(tmp_path / "whole", original, target, SETTINGS, tokens, tolerance=5)
    assert [step.perplexity for step in found.steps] == [step.perplexity for step in whole.steps]

    assert found.done and found.choice == found.steps[-1]
    ahead = plan(original, target, tokens)
    assert [(s.name, s.notation, s.tokens, s.rounds) for s in found.steps] == [
        (s.name, s.notation, s.tokens, s.rounds) for s in ahead
    ]
    start = evaluate_on(AeroForCausalLM.from_pretrained(original), data, SETTINGS.valid_blocks)
    assert found.steps[0].perplexity == start.perplexity
    prices = [step.bytes or 0 for step in found.steps]
    assert prices == sorted(prices, reverse=True) and prices[3] < prices[2] < prices[1] < prices[0]
    for step in found.steps[1:]:
        info = RunInfo.read(out / step.folder)
        assert info.settings is not None and info.settings.teacher is not None and info.result is not None
        assert info.settings.teacher.path == str(original.resolve()) and info.settings.steps == 10
        assert info.notation == step.notation and info.result["perplexity"] == step.perplexity
    assert not list(out.glob("*.start"))
    frozen, last = (load_file(out / f"{name}" / "model.safetensors") for name in ("2-SM+FLN+R", found.steps[-1].folder))
    constants = [name for name in last if name.endswith("log_sigma")]
    assert constants and all(torch.equal(frozen[name], last[name]) for name in constants), "constants stay"
    compiled = compile(AeroForCausalLM.from_pretrained(out / found.steps[-1].folder))
    assert {"rms_norm", "relu", "gelu"}.isdisjoint(node.op for node in compiled.program.graph.nodes)
    assert json.loads((out / FILE).read_text()) == json.loads(json.dumps(found.to_json()))
    with pytest.raises(ValueError, match="other settings"):
        adapt(out, original, target, replace(SETTINGS, learning_rate=1.0), tokens)


def test_it_ends_at_the_tolerance(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = adapt(tmp_path, original, "SM+FLN+R", replace(SETTINGS, learning_rate=0.3), tolerance=0.0)
    assert len(found.steps) == 2 < found.planned + 1 and not found.done
    assert found.steps[1].perplexity is None or found.steps[1].perplexity > found.limit
    assert found.choice == found.steps[0]
    assert found.steps[1].tokens == 80 * 2 * 16 // 4 // 2 // 32 * 32, "a quarter of the original's, in whole steps"
    with pytest.raises(ValueError, match=r"0\.02 for 2%"):
        adapt(tmp_path, original, "SM+FLN+R", SETTINGS, tolerance=-1)
    with pytest.raises(ValueError, match="too few for 2 stages"):
        adapt(tmp_path, original, "SM+FLN+R", SETTINGS, tokens=63)
    monkeypatch.setattr("aero.ladder.adapt.join", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(ValueError, match="without torchrun"):
        adapt(tmp_path, original, "SM+FLN+R", SETTINGS)


@pytest.mark.parametrize(
    ("theirs", "settings"),
    [(LlamaForCausalLM, LlamaConfig), (Qwen2ForCausalLM, Qwen2Config), (Qwen3ForCausalLM, Qwen3Config)],
    ids=["llama", "qwen2", "qwen3"],
)
def test_a_llama_is_taken_down_to_softmax_alone(theirs: Any, settings: Any, data: DataFolder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 44, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = settings(vocab_size=data.info.vocab_size, max_position_embeddings=16, num_key_value_heads=2, **sizes)
    theirs(config).save_pretrained(tmp_path / "theirs")
    data.tokenizer().save(tmp_path / "theirs" / "tokenizer.json")
    import_checkpoint(str(tmp_path / "theirs"), tmp_path / "run")
    target, tokens = "SM+FRMS+ScFuFFN_i1", 5 * 4 * 2 * 16
    found = adapt(tmp_path / "out", tmp_path / "run", target, SETTINGS, tokens, tolerance=5, data=data.path)
    assert found.done and len(found.steps) == 6
    prices = [step.bytes or 0 for step in found.steps]
    assert all(before > after for before, after in itertools.pairwise(prices[:5])) and prices[5] <= prices[4]
    ahead = plan(tmp_path / "run", target, tokens, data=data.path)
    assert [(s.notation, s.rounds) for s in found.steps] == [(s.notation, s.rounds) for s in ahead]
    last: AeroForCausalLM = AeroForCausalLM.from_pretrained(tmp_path / "out" / found.choice.folder)
    assert (last.config.positions, last.config.num_key_heads, last.config.o_bias) == ("rotary", 2, False)
    operations = {node.op for node in compile(last).program.graph.nodes}
    assert operations == {"embedding", "linear", "rotary", "scores", "softmax", "attend", "add"}, "softmax alone"


def test_a_published_model_with_more_words_than_its_tokenizer(data: DataFolder, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = data.info.vocab_size + 2
    theirs = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=words, max_position_embeddings=16, **sizes))
    theirs.save_pretrained(tmp_path / "theirs")
    data.tokenizer().save(tmp_path / "theirs" / "tokenizer.json")
    (tmp_path / "theirs" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (tmp_path / "theirs" / "generation_config.json").write_text('{"eos_token_id": [0, 5]}')
    import_checkpoint(str(tmp_path / "theirs"), tmp_path / "run")
    own = build(
        tmp_path / "data", DataSettings(sources=("stdlib",), tokenizer=str(tmp_path / "run"), max_megabytes=0.05)
    )
    with pytest.raises(ValueError, match="--tokens"):
        plan(tmp_path / "run", "SM+LN+R", data=own.path)
    found = adapt(tmp_path / "out", tmp_path / "run", "SM+LN+R", SETTINGS, tokens=64, tolerance=5, data=own.path)
    assert found.done and [step.notation for step in found.steps] == ["SM+LN+G", "SM+LN+R"]
    config = AeroConfig.from_pretrained(tmp_path / "out" / "1-SM+LN+R")
    assert (config.vocab_size, config.positions, config.activation) == (words, "rotary", "relu")
    assert config.end_tokens == AeroConfig.from_pretrained(tmp_path / "run").end_tokens == (0, 5)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / "out" / "1-SM+LN+R" / name).read_text() == (tmp_path / "run" / name).read_text()


def test_the_command(original: Path, tmp_path: Path) -> None:
    command = ["adapt", str(original), str(tmp_path / "out"), "--to", "SM+FLN+R", "--batch-size", "2"]
    done = CliRunner().invoke(app, [*command, "--plan", "--json", str(tmp_path / "plan.json")])
    assert done.exit_code == 0, done.output
    ahead = json.loads((tmp_path / "plan.json").read_text())
    assert [step["notation"] for step in ahead] == ["SM+LN+G", "SM+LN+R", "SM+FLN+R"]
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, [*command, "--tolerance", "5", "--json", str(tmp_path / "r.json")])
    assert done.exit_code == 0, done.output
    assert "The last stage, norms frozen, costs" in done.output and "Reached SM+FLN+R" in done.output
    assert "data:image/png;base64," in (tmp_path / "out" / "index.html").read_text()
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["choice"] == "2-SM+FLN+R" and found["steps"][2]["bytes_change"] < -0.3
    done = CliRunner().invoke(app, ["adapt", str(original), str(tmp_path / "none"), "--to", "SM+LN+G"])
    assert "is SM+LN+G already" in done.output
