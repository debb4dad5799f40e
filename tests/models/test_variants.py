"""Variants without a name in the papers: leaky ReLU, the simplified block, temperatures; every rung at every size."""

import math
import warnings

import pytest
import torch
from torch.nn import functional as F

from aero.compiler.compile import compile
from aero.compiler.lower import lower
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.cache_name import CACHE_NAME
from aero.models.presets import SIZES, TRAITS
from small_models import assert_same_function, make_model

IDS = torch.randint(50, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["SM+LR", "SM+LR(g)", "SM+LN+LR+ScFFN"])
def test_leaky_relu(name, tmp_path):
    model = make_model(name).double()
    slopes = [p for n, p in model.named_parameters() if n.endswith("negative_slope")]
    assert len(slopes) == (1 if "(g)" in name else 2)
    block, seen = model.transformer.blocks[1], []
    block.ffn.w_in.register_forward_hook(lambda _, __, y: seen.append(y))
    block.ffn.w_out.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    loss = model(IDS, labels=IDS).loss
    torch.testing.assert_close(seen[1], F.leaky_relu(seen[0], slopes[-1].item()))
    loss.backward()
    assert all(p.grad.abs() > 0 for p in slopes)
    model.save_pretrained(tmp_path)
    again = AeroForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert_same_function(again, model, IDS)
    fresh = [p for n, p in AeroForCausalLM(model.config).named_parameters() if n.endswith("negative_slope")]
    assert all(p.item() == 0.25 for p in fresh)
    compiled = compile(model)
    assert compiled.verification.passed
    assert [node.op for node in compiled.program.graph.nodes].count("relu") == 2


def simplified_written_out(model, ids):
    """He & Hofmann's block, head by head and row by row: logits [T, V] of one text [T]."""
    t, config = model.transformer, model.config
    x = config.embedding_multiplier * (t.token_embedding.weight[ids] + t.position_embedding.weight[: len(ids)])
    k = config.hidden_size // config.num_heads
    for block in t.blocks:
        a, out = block.attention, torch.zeros_like(x)
        for head in range(config.num_heads):
            part = slice(head * k, (head + 1) * k)
            q, keys = ((x @ p.weight.T + p.bias)[:, part] for p in (a.q_proj, a.k_proj))
            for i in range(len(ids)):
                attention = torch.stack([q[i] @ keys[j] / math.sqrt(k) for j in range(i + 1)]).softmax(0)
                values = x[: i + 1, part]
                out[i, part] = a.skip[head] * values[i] + a.mix[head] * attention @ values
                out[i, part] -= a.uniform[head] * values.mean(0)
        ffn = block.ffn
        y = ffn.w_out(ffn.w_in(out)) if hasattr(ffn, "w_in") else ffn.w(out)
        x = block.ffn_beta * out + y / block.ffn_alpha
    x = F.layer_norm(x, x.shape[-1:], t.final_norm.weight, t.final_norm.bias, t.final_norm.eps)
    return config.logit_multiplier * x @ model.lm_head.weight.T


@pytest.mark.parametrize("name", ["SAS(SM+ScFFN)", "SAS(SM+ScFuFFN)"])
def test_the_simplified_block(name, tmp_path):
    model = make_model(name).double()
    names = [n for n, _ in model.named_parameters()]
    assert not [n for n in names if "v_proj" in n or "o_proj" in n]
    assert [n for n in names if "norm" in n] == ["transformer.final_norm.weight", "transformer.final_norm.bias"]
    assert str(model.config.notation) == name
    with torch.inference_mode():
        found = model(IDS).logits
        torch.testing.assert_close(found[1], simplified_written_out(model, IDS[1]), rtol=1e-10, atol=1e-10)
        first = model(IDS[:, :4], use_cache=True)
        rest = model(IDS[:, 4:], cache=first[CACHE_NAME], use_cache=True)
        torch.testing.assert_close(torch.cat([first.logits, rest.logits], 1), found, rtol=1e-10, atol=1e-10)
    model.save_pretrained(tmp_path)
    again = AeroForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert_same_function(again, model, IDS)
    with pytest.raises(ValueError, match="simplified blocks cannot be compiled"):
        lower(model, 5)


def test_the_simplified_block_starts_as_the_identity():
    torch.manual_seed(0)
    seen = []
    model = AeroForCausalLM(AeroConfig.from_notation("SAS(SM+ScFFN)", "demo", vocab_size=50))
    model.transformer.blocks[0].attention.register_forward_hook(lambda _, x, y: seen.append((x[0], y[0])))
    model(IDS)
    torch.testing.assert_close(seen[0][1], seen[0][0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "value"), [("one", 1.0), ("codeparrot", 1e-2), ("languini", 1e-1)])
def test_initial_temperatures(kind, value):
    config = AeroConfig.from_notation("SM(t)+ScFuFFN", "demo", vocab_size=50, temperature_init=kind)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = AeroForCausalLM(config)
    for block in model.transformer.blocks:
        torch.testing.assert_close(block.attention.temperature(), torch.full((2, 64), value))
    told = [str(w.message) for w in caught if "temperature_init" in str(w.message)]
    assert len(told) == (kind != "one") and all("collapse heads" in message for message in told)


@pytest.mark.parametrize("name", ["SM(t)+ScFuFFN", "SM(t_h)+LN+G", "SM+FLN(p)+R", "SM+FRMS(p)+R"])
def test_positions_beyond_the_context(name):
    model = make_model(name).double()
    with pytest.raises(ValueError, match="position 14 is beyond what was trained: this model has 12"):
        model(IDS, position_ids=torch.arange(6, 15)[None])
    rotary = make_model(name, positions="rotary", rotary_fraction=0.5).double()
    if "(t)" in name or "(p)" in name:
        with pytest.raises(ValueError, match="beyond what was trained"):
            rotary(IDS, position_ids=torch.arange(6, 15)[None])
    else:
        shifted = rotary(IDS, position_ids=torch.arange(6, 15)[None]).logits
        torch.testing.assert_close(shifted, rotary(IDS).logits, rtol=0, atol=1e-10)


RUNGS = ["SM+LN+G", "SM+LN+R", "SM+LN", "SM+G", "SM+R", "SM", "SM+ScFFN", "SM+ScFuFFN", "SM+ScFuFFN_i1",
         "SM(t)+ScFuFFN", "EReg(SM(t)+ScFuFFN)", "SM+FLN+R", "SM+LR", "SM+RMS+SiLU+GaFFN",
         "SM+RMS+R+ScGaFFN_i1", "SM+FRMS+R"]  # fmt: skip


@pytest.mark.parametrize("size", [name for name, size in SIZES.items() if size.family in TRAITS])
def test_every_rung_at_every_size(size):
    """Shapes alone: parameters of the attention do not depend on the rung, and every name comes back."""
    attention = set()
    for name in RUNGS:
        config = AeroConfig.from_notation(name, size)
        with torch.device("meta"):
            model = AeroForCausalLM(config)
        assert str(config.notation) == name
        shape = SIZES[size]
        d, inner, layers = shape.hidden_size, shape.ffn_width or 4 * shape.hidden_size, shape.num_layers
        llama = shape.family in ("llama", "qwen2", "qwen3")  # without biases, but for Qwen2's
        fused, plain = d * d + d * (not llama), 2 * inner * d + (inner + d) * (not llama)
        gated = plain + inner * d + inner * (not llama)
        ffn = {
            "SM+ScFuFFN": layers * fused,
            "SM+ScFuFFN_i1": (layers - 1) * fused,
            "SM+RMS+SiLU+GaFFN": layers * gated,
            "SM+RMS+R+ScGaFFN_i1": (layers - 1) * gated,
        }
        found = sum(p.numel() for n, p in model.named_parameters() if ".ffn." in n and "slope" not in n)
        assert found == ffn.get(name.removeprefix("EReg(").removesuffix(")").replace("(t)", ""), layers * plain)
        attention.add(sum(p.numel() for n, p in model.named_parameters() if "_proj" in n))
    head = shape.head_width or d // shape.num_heads
    queries, keys = shape.num_heads * head, (shape.num_key_heads or shape.num_heads) * head
    biases = {"gpt2": queries + 2 * keys + d, "gpt_neox": queries + 2 * keys + d, "qwen2": queries + 2 * keys}
    assert attention == {layers * (2 * d * queries + 2 * d * keys + biases.get(shape.family, 0))}


@pytest.mark.parametrize("name", ["EReg(SM(t)+ScFuFFN)", "SM+FLN+LR(g)", "SM+FRMS+SiLU+GaFFN"])
def test_traced_as_one_graph(name):
    """What torch.compile traces, statistics of rows and norms on the way to constants included, gives the same."""
    gradients = []
    for compiled in (False, True):
        model = make_model(name).train()
        call = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        output = call(input_ids=IDS, labels=IDS, output_entropies=True, output_log_sum_exps=True)
        rows = torch.stack([*output.entropies, *output.log_sum_exps])
        (output.loss + rows.square().mean()).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
