"""`aero convert`: small checkpoints of Hugging Face become run folders that the other verbs read."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    T5Config,
)
from typer.testing import CliRunner

from aero.cli.main import app
from aero.compiler.run import CompiledRun
from aero.data.build import build
from aero.data.folder import DataFolder
from aero.data.settings import DataSettings
from aero.data.tokenizer import END_OF_TEXT
from aero.models import AeroForCausalLM
from aero.train.run_folder import RunInfo

MODELS = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_positions=16, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)
    ),
    "pythia": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=304, max_position_embeddings=16, hidden_size=32, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, initializer_range=0.3,
        )
    ),
    "opt": lambda: OPTForCausalLM(
        OPTConfig(
            vocab_size=304, max_position_embeddings=16, hidden_size=32, word_embed_proj_dim=32, ffn_dim=128,
            num_hidden_layers=2, num_attention_heads=4, init_std=0.3,
        )
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=304, max_position_embeddings=16, hidden_size=36, intermediate_size=56, num_hidden_layers=2,
            num_attention_heads=9, num_key_value_heads=3, initializer_range=0.15,
        )
    ),
}  # fmt: skip
NOTATIONS = {"gpt2": "SM+LN+G", "pythia": "SM+LN+G", "opt": "SM+LN+R", "llama": "SM+RMS+SiLU+GaFFN"}
FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}  # roundings of sums of tens of terms through two layers


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataFolder:
    folder = tmp_path_factory.mktemp("convert")
    (folder / "texts").mkdir()
    for i in range(12):
        (folder / "texts" / f"{i}.py").write_text("".join(f"def f{i}_{j}(x):\n    return x + {j}\n" for j in range(20)))
    return build(folder / "data", DataSettings(sources=(str(folder / "texts"),), vocab_size=300, valid_fraction=0.2))


def checkpoint(name: str, data: DataFolder, folder: Path) -> torch.nn.Module:
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    model.save_pretrained(folder)
    data.tokenizer().save(folder / "tokenizer.json")
    return model


def aero(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", MODELS)
def test_convert_and_use(name, data, tmp_path):
    theirs = checkpoint(name, data, tmp_path / "theirs")
    run, result = tmp_path / "run", tmp_path / "convert.json"
    done = aero("convert", tmp_path / "theirs", run, "--json", result)
    assert done.exit_code == 0, (done.output, done.exception)
    assert NOTATIONS[name] in done.output
    ids = torch.randint(300, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, found = theirs(ids).logits, AeroForCausalLM.from_pretrained(run)(ids).logits
    torch.testing.assert_close(found, expected, **FLOAT32)
    (record,) = json.loads(result.read_text())
    assert (record["work"], record["notation"], record["source"]) == (
        "convert",
        NOTATIONS[name],
        str(tmp_path / "theirs"),
    )
    assert 0 <= record["relative_error"] < 1e-4
    info = RunInfo.read(run)
    assert (info.status, info.context, info.settings, info.data) == ("finished", 16, None, None)

    perplexity = tmp_path / "eval.json"
    done = aero("eval", run, "--data", data.path, "--json", perplexity)
    assert done.exit_code == 0, (done.output, done.exception)
    blocks = torch.stack([torch.from_numpy(data.valid.block(i, 16)) for i in range(data.valid.blocks(16))]).long()
    with torch.inference_mode():
        logits = theirs(blocks).logits[:, :-1].double().flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, blocks[:, 1:].flatten()).exp().item()
    assert json.loads(perplexity.read_text())[0]["perplexity"] == pytest.approx(expected, rel=1e-3)
    for verb in ("entropy", "window"):
        done = aero(verb, run, "--data", data.path, "--blocks", 2)
        assert done.exit_code == 0, (done.output, done.exception)
    done = aero("compile", run, "--out", tmp_path / "compiled", "--no-ring-plan")
    assert done.exit_code == 0, (done.output, done.exception)
    done = aero("eval", run)
    assert "imported from" in str(done.exception) and "--data DIR" in str(done.exception)


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_that_is_not_whole_is_refused_and_a_wrapped_one_is_not(name, data, tmp_path):
    theirs = checkpoint(name, data, tmp_path / "theirs")
    weights = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(weights)
    lost = next(key for key in tensors if ".1." in key)
    save_file({key: tensor for key, tensor in tensors.items() if key != lost}, weights)
    assert f"lacks {lost}" in str(aero("convert", tmp_path / "theirs", tmp_path / "run").exception)
    assert not (tmp_path / "run").exists()
    save_file({f"_orig_mod.{key}": tensor.half() for key, tensor in tensors.items()}, weights)
    done = aero("convert", tmp_path / "theirs", tmp_path / "run")
    assert done.exit_code == 0 and "weights in float16, exactly to float32" in done.output
    ids = torch.randint(300, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        # Weights alone: rotary frequencies are computed, and stay in float32.
        theirs.load_state_dict({key: tensor.half().float() for key, tensor in theirs.state_dict().items()})
        expected = theirs(ids).logits
        torch.testing.assert_close(AeroForCausalLM.from_pretrained(tmp_path / "run")(ids).logits, expected, **FLOAT32)


def test_the_models_own_end_tokens_are_kept_and_obeyed(data, tmp_path):
    """In the run folder, in plaintext, and in what a server offers of either folder."""
    theirs = checkpoint("gpt2", data, tmp_path / "free")
    prompt = data.tokenizer().encode("def f")
    settings = {"do_sample": False, "pad_token_id": 0, "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
    with torch.inference_mode():
        theirs.generation_config.eos_token_id = None
        said = theirs.generate(torch.tensor([prompt]), max_new_tokens=10, **settings)[0, len(prompt) :].tolist()
    place = next(i for i, token in enumerate(said) if token != said[0])
    ends = [299, said[place]]
    theirs.generation_config.eos_token_id = ends
    checkpoint("gpt2", data, tmp_path / "theirs")
    theirs.generation_config.save_pretrained(tmp_path / "theirs")
    run, compiled, result = tmp_path / "run", tmp_path / "compiled", tmp_path / "g.json"
    done = aero("convert", tmp_path / "theirs", run)
    assert done.exit_code == 0 and "by generation_config.json" in done.output, done.exception
    done = aero("generate", run, "--prompt", "def f", "-n", 10, "--json", result)
    assert done.exit_code == 0, done.exception
    found = json.loads(result.read_text())
    assert (found["prompt_ids"], found["new_ids"]) == (prompt, said[: place + 1])
    assert found["text"] == data.tokenizer().decode(said[:place])
    done = aero("compile", run, "--out", compiled, "--no-ring-plan")
    assert done.exit_code == 0, done.exception
    for folder in (run, compiled):
        assert CompiledRun.load(folder).compiled.end_tokens == tuple(ends)


def test_special_tokens_of_prompts_in_plaintext(data, tmp_path):
    checkpoint("gpt2", data, tmp_path / "theirs")
    aero("convert", tmp_path / "theirs", tmp_path / "run")
    tokens, result = data.tokenizer(), tmp_path / "g.json"
    for flag, ids, how in (
        ((), tokens.encode(f"a{END_OF_TEXT}"), "read as text"),
        (("--special",), [*tokens.encode("a"), tokens.end_of_text], "read as special tokens"),
    ):
        done = aero("generate", tmp_path / "run", "--prompt", f"a{END_OF_TEXT}", "-n", 1, *flag, "--json", result)
        assert done.exit_code == 0, done.exception
        assert json.loads(result.read_text())["prompt_ids"] == ids
        assert how in done.stderr and END_OF_TEXT in done.stderr


def test_what_cannot_be_converted_is_refused_and_leaves_nothing(data, tmp_path):
    checkpoint("gpt2", data, tmp_path / "theirs")
    out = tmp_path / "run"
    for change, message in (
        ({"model_type": "t5"}, "model of type 't5'; convertible: gpt2, gpt_neox, llama, mistral, opt"),
        ({"activation_function": "mish"}, "activation 'mish'"),
    ):
        path = tmp_path / "theirs" / "config.json"
        before = path.read_text()
        config = T5Config().to_dict() if "model_type" in change else {**json.loads(before), **change}
        path.write_text(json.dumps(config))
        done = aero("convert", tmp_path / "theirs", out)
        assert message in str(done.exception)
        path.write_text(before)
    (tmp_path / "theirs" / "tokenizer.json").unlink()
    assert isinstance(aero("convert", tmp_path / "theirs", out).exception, FileNotFoundError)
    assert not out.exists()
    out.mkdir()
    (out / "photo.jpg").write_bytes(b"x")
    assert "something else" in str(aero("convert", tmp_path / "theirs", out, "--force").exception)
