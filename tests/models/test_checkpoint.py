"""Checkpoints are read strictly: what is read is compared with the model that was saved, tensor by tensor and in
logits; what is missing, superfluous or another's is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from aero.models import AeroForCausalLM
from aero.models.convert_hf import convert
from aero.models.reference import read_reference
from small_models import make_model

Tensors = dict[str, Tensor]
IDS = torch.randint(40, (2, 12), generator=torch.Generator().manual_seed(1))


def gpt2(**fields) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = dict(vocab_size=40, n_positions=12, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **fields})).eval()


def neox(**fields) -> GPTNeoXForCausalLM:
    torch.manual_seed(0)
    sizes = dict(vocab_size=40, max_position_embeddings=12, hidden_size=16, intermediate_size=64)
    more = dict(num_hidden_layers=2, num_attention_heads=2, initializer_range=0.3)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{**sizes, **more, **fields})).eval()


def opt(**fields) -> OPTForCausalLM:
    torch.manual_seed(0)
    sizes = dict(vocab_size=40, max_position_embeddings=12, hidden_size=16, word_embed_proj_dim=16, ffn_dim=64)
    return OPTForCausalLM(OPTConfig(**{**sizes, "num_hidden_layers": 2, "num_attention_heads": 2, **fields})).eval()


def llama(**fields) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = dict(vocab_size=40, max_position_embeddings=12, hidden_size=24, intermediate_size=40, num_hidden_layers=2)
    more = dict(num_attention_heads=6, num_key_value_heads=2, initializer_range=0.3)
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **more, **fields})).eval()


MODELS = {"gpt2": gpt2, "neox": neox, "opt": opt, "llama": llama}


def saved(model, folder: Path, change: Callable[[Tensors], Tensors] = dict) -> Path:
    """The model's own files, with its tensors changed."""
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t.contiguous() for name, t in change(tensors).items()}, folder / "model.safetensors")
    return folder


def logits(model) -> Tensor:
    with torch.inference_mode():
        return model(IDS).logits


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: t for name, t in tensors.items()}


def inside(tensors: Tensors) -> Tensors:
    """As where each block is compiled, and FSDP wraps what is in it."""
    return {
        name.replace(".0.", ".0._orig_mod.").replace(".1.", "._fsdp_wrapped_module.1.module."): t
        for name, t in tensors.items()
    }


def without_base(tensors: Tensors) -> Tensors:
    bases = re.compile(r"^(transformer|gpt_neox|model)\.")
    return {bases.sub("", name): t for name, t in tensors.items()}


WRAPPED = {
    "as saved": dict,
    "compiled": prefixed("_orig_mod."),
    "in parallel": prefixed("module."),
    "compiled in parallel": prefixed("module._orig_mod."),
    "in a trainer's module": prefixed("model."),
    "in two": prefixed("model.model."),
    "blocks of their own": inside,
    "without the head's prefix": without_base,
    "compiled without the head": lambda tensors: prefixed("_orig_mod.")(without_base(tensors)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_models_are_read(name, how, tmp_path):
    theirs = MODELS[name]()
    found = read_reference(saved(theirs, tmp_path, WRAPPED[how]))
    assert found.notes == ()
    state = found.model.state_dict()
    assert set(state) == set(theirs.state_dict())
    assert all(torch.equal(state[key], tensor) for key, tensor in theirs.state_dict().items())
    assert torch.equal(logits(found.model), logits(theirs))
    # float32 roundings of sums of tens of terms through two layers.
    torch.testing.assert_close(logits(convert(found.model)), logits(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_same_is_read_as_by_transformers(name, tmp_path):
    for how, change in (("whole", dict), ("bare", without_base)):
        folder = saved(MODELS[name](), tmp_path / how, change)
        theirs = type(MODELS[name]()).from_pretrained(folder)
        assert torch.equal(logits(read_reference(folder).model), logits(theirs.eval()))


@pytest.mark.parametrize("name", MODELS)
def test_several_files_and_pytorchs_own(name, tmp_path):
    theirs = MODELS[name]()
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert torch.equal(logits(read_reference(tmp_path / "shards").model), logits(theirs))

    theirs.config.save_pretrained(tmp_path / "binary")
    torch.save(theirs.state_dict(), tmp_path / "binary" / "pytorch_model.bin")
    assert torch.equal(logits(read_reference(tmp_path / "binary").model), logits(theirs))

    index = tmp_path / "shards" / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    some = next(iter(places["weight_map"]))
    lacking = {**places, "weight_map": {k: v for k, v in places["weight_map"].items() if k != some}}
    index.write_text(json.dumps(lacking))
    with pytest.raises(ValueError, match=f"disagree on {some}"):
        read_reference(tmp_path / "shards")
    for bad in ("nowhere.safetensors", "../shards/model-00001-of-00002.safetensors", 7):
        index.write_text(json.dumps({**places, "weight_map": {**places["weight_map"], some: bad}}))
        with pytest.raises((FileNotFoundError, ValueError), match=r"not in its folder|not readable|disagree on"):
            read_reference(tmp_path / "shards")


def drop(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: t for name, t in tensors.items() if part not in name}


def add(**more: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, **{name.replace("__", "."): t for name, t in more.items()}}


def put(part: str, value: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value(t) if part in name else t for name, t in tensors.items()}


def with_nan(tensor: Tensor) -> Tensor:
    return tensor.clone().index_fill(0, torch.tensor([0]), float("nan"))


REFUSED = [
    ("gpt2", drop(".h.1."), r"lacks transformer\.h\.1\.attn\.c_attn\.bias, .* and 9 more"),
    ("neox", drop("layers.0.mlp.dense_h_to_4h.bias"), r"lacks gpt_neox\.layers\.0\.mlp\.dense_h_to_4h\.bias;"),
    ("neox", drop("embed_out"), None),
    ("gpt2", drop("wte"), r"lacks lm_head\.weight, transformer\.wte\.weight;"),
    ("gpt2", lambda t: {**t, **{k.replace(".1.", ".2."): v.clone() for k, v in t.items() if ".h.1." in k}},
     r"holds transformer\.h\.2\.attn\.c_attn\.bias, .* and 9 more, for which"),
    ("gpt2", add(multiple_choice_head__summary__weight=torch.ones(1, 16)), r"multiple_choice_head\.summary\.weight"),
    ("gpt2", add(score__weight=torch.ones(2, 16)), r"holds transformer\.score\.weight"),
    ("neox", add(lm_head__bias=torch.ones(40)), r"holds lm_head\.bias"),
    ("gpt2", add(ema__transformer__wte__weight=torch.ones(40, 16)), r"holds transformer\.ema\.transformer\.wte"),
    ("gpt2", lambda t: {**t, **{"_orig_mod." + k: v + 1 for k, v in t.items()}}, r"one tensor twice"),
    ("gpt2", prefixed("base_model.model."), "PEFT"),
    ("gpt2", add(transformer__h__0__attn__c_attn__lora_A__weight=torch.ones(4, 16)), "PEFT"),
    ("gpt2", put("wpe", lambda t: t[:8]), r"transformer\.wpe\.weight has shape \[8, 16\], and \[12, 16\]"),
    ("neox", put("embed_in", lambda t: t[:39]), r"gpt_neox\.embed_in\.weight has shape \[39, 16\]"),
    ("gpt2", put("ln_f.bias", with_nan), r"NaN or infinity in transformer\.ln_f\.bias"),
    ("neox", put("0.mlp.dense_4h_to_h.bias", lambda t: t + float("inf")), r"NaN or infinity in gpt_neox\.layers\.0"),
    ("neox", put("dense.weight", lambda t: t.to(torch.int8)), r"as torch\.int8"),
    ("gpt2", put("wte", lambda t: t.double() * 1e300), "NaN or infinity in lm_head"),
    ("gpt2", add(transformer__h__0__attn__bias=torch.ones(1, 1, 12, 12)), r"h\.0\.attn\.bias is not what"),
    ("neox", add(gpt_neox__layers__1__attention__rotary_emb__inv_freq=torch.ones(1) / 2), r"inv_freq is not what"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), REFUSED)
def test_what_does_not_fit_is_refused_by_name(name, change, message, tmp_path):
    if message is None:  # under the name that this transformers gives to the output matrix
        change, message = lambda tensors: drop("lm_head")(drop("embed_out")(tensors)), r"lacks (lm_head|embed_out)\."
    with pytest.raises(ValueError, match=message) as error:
        read_reference(saved(MODELS[name](), tmp_path, change))
    assert "\n" not in str(error.value)


def test_a_tied_head_may_be_there_or_not(tmp_path):
    theirs = gpt2()
    tied = {
        "both": lambda t: {**t, "lm_head.weight": t["transformer.wte.weight"].clone()},
        "head alone": lambda t: {"lm_head.weight": t["transformer.wte.weight"], **drop("wte")(t)},
    }
    for name, change in tied.items():
        found = read_reference(saved(theirs, tmp_path / name, change))
        assert found.notes == () and found.model.config.tie_word_embeddings
        assert torch.equal(logits(found.model), logits(theirs))


@pytest.mark.parametrize("name", MODELS)
def test_another_head_where_the_configuration_says_tied_is_the_models_own(name, tmp_path):
    """As transformers reads it, which warns: 'both are present ... so we will NOT tie them'."""
    theirs = MODELS[name](tie_word_embeddings=False)
    folder = saved(theirs, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    found = read_reference(folder)
    assert any("output matrix of its own" in note for note in found.notes)
    assert torch.equal(logits(found.model), logits(theirs))
    assert torch.equal(logits(type(theirs).from_pretrained(folder).eval()), logits(theirs))
    ours = convert(found.model)
    assert not ours.config.tie_embeddings
    torch.testing.assert_close(logits(ours), logits(theirs), rtol=1e-4, atol=1e-4)


def test_an_untied_configuration_needs_a_head(tmp_path):
    folder = saved(gpt2(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ValueError, match=r"lacks lm_head\.weight"):
        read_reference(folder)


def test_constants_of_older_files_are_known(tmp_path):
    mask = torch.ones(12, 12).tril()[None, None]
    old = gpt2()
    more = {f"transformer__h__{i}__attn__{k}": v.clone() for i in (0, 1) for k, v in
            (("bias", mask.to(torch.uint8)), ("masked_bias", torch.tensor(-1e4)))}  # fmt: skip
    assert torch.equal(logits(read_reference(saved(old, tmp_path / "gpt2", add(**more))).model), logits(old))
    old = neox()
    frequencies = old.gpt_neox.rotary_emb.inv_freq
    more = {f"gpt_neox__layers__{i}__attention__{k}": v.clone() for i in (0, 1) for k, v in
            (("bias", mask.bool()), ("masked_bias", torch.tensor(-1e9)),
             ("rotary_emb__inv_freq", frequencies.bfloat16()))}  # fmt: skip
    assert torch.equal(logits(read_reference(saved(old, tmp_path / "neox", add(**more))).model), logits(old))


@pytest.mark.parametrize(("dtype", "how"), [("float16", "exactly"), ("bfloat16", "exactly"), ("float64", "rounded")])
def test_float_types_are_converted_and_said(dtype, how, tmp_path):
    theirs = gpt2().to(getattr(torch, dtype))
    found = read_reference(saved(theirs, tmp_path))
    assert found.notes == (f"weights in {dtype}, {how} to float32",)
    for key, tensor in theirs.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor.float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}, "auto_map"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ({"rope_theta": 500.0}, "rope_theta 500"),
        ({"rotary_pct": 1.0}, "rotary_pct 1.0"),
        ({"hidden_size": 15}, "config.json"),
        ({"num_hidden_layers": "two"}, "config.json"),
        ({"model_type": "bloom"}, "type 'bloom'"),
    ],
)
def test_configurations_that_mean_something_else_are_refused(change, message, tmp_path):
    folder = saved(neox(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=message) as error:
        read_reference(folder)
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused(tmp_path):
    folder = saved(gpt2(), tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (b"", whole[:7], whole[:200], whole[:-1]):
        weights.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors is no safetensors file, or a damaged one"):
            read_reference(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="no weights"):
        read_reference(folder)
    for content in (b"not a zip", b"\x80\x04N."):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ValueError, match=r"pytorch_model\.bin"):
            read_reference(folder)
    torch.save({"state_dict": gpt2().state_dict(), "step": 3}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="state_dict, step, which are no tensors"):
        read_reference(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="PEFT adapter"):
        read_reference(folder)


OURS = [
    (prefixed("_orig_mod."), "lacks .* and holds _orig_mod"),
    (drop("blocks.1."), r"lacks transformer\.blocks\.1\."),
    (add(score__weight=torch.ones(2)), r"holds score\.weight"),
    (put("position_embedding", lambda t: t[:4]), r"position_embedding\.weight has shape \[4, 16\], and \[12, 16\]"),
    (put("final_norm.bias", with_nan), r"NaN or infinity in transformer\.final_norm\.bias"),
    (add(lm_head__weight=torch.ones(50, 16)), "output matrix of its own"),
]


@pytest.mark.parametrize(("change", "message"), OURS)
def test_our_own_models_are_read_as_strictly(change, message, tmp_path):
    model = make_model("SM+LN+G")
    again = AeroForCausalLM.from_pretrained(saved(model, tmp_path))
    assert all(torch.equal(again.state_dict()[k], v) for k, v in model.state_dict().items())
    saved(model, tmp_path, change)
    with pytest.raises(ValueError, match=message):
        AeroForCausalLM.from_pretrained(tmp_path)
