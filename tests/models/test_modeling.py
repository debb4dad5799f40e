"""The decoder: its definition written out again, saving, generation, and training under the Trainer."""

import math

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from aero.models import AeroConfig, AeroForCausalLM
from aero.models.cache_name import CACHE_NAME, CACHE_NAMES
from aero.models.notation import KNOWN
from aero.models.presets import Size

TINY = Size(vocab_size=37, context=12, num_layers=7, num_heads=2, hidden_size=8)
MULTIPLIERS = {"embedding_multiplier": 4.0, "logit_multiplier": 3.0}
NAMES = (*KNOWN, "SM(t_h)+LN+R+ScFFN_i2", "SM(t)+LN")


def build(name, dtype=torch.float64, **overrides):
    torch.manual_seed(0)
    fields = {"initializer_range": 0.3, **MULTIPLIERS, **overrides}
    model = AeroForCausalLM(AeroConfig.from_notation(name, TINY, **fields)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1 or parameter.shape[0] == TINY.num_heads:  # biases, gains, scales, temperatures
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def ids_of(*shape):
    return torch.randint(TINY.vocab_size, shape, generator=torch.Generator().manual_seed(1))


def norm(x, layer):
    return (
        x
        if isinstance(layer, torch.nn.Identity)
        else F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.eps)
    )


def written_out(model, ids):
    """The definition, position by position and head by head: logits [T, V] of one text [T]."""
    config, transformer = model.config, model.transformer
    k = config.hidden_size // config.num_heads
    x = transformer.token_embedding.weight[ids] + transformer.position_embedding.weight[: len(ids)]
    x = config.embedding_multiplier * x
    for form, block in zip(config.ffn, transformer.blocks, strict=True):
        y, attention = norm(x, block.norm_1), block.attention
        mixed = torch.zeros_like(x)
        for head in range(config.num_heads):
            columns = slice(head * k, (head + 1) * k)
            q, keys, values = (
                (y @ p.weight.T + p.bias)[:, columns] for p in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            for i in range(len(ids)):
                t = 1.0
                if config.attention_temperature != "none":
                    t = attention.temperature()[head, i if config.attention_temperature == "per_position" else 0]
                logits = torch.stack([q[i] @ keys[j] / math.sqrt(k) / t for j in range(i + 1)])
                mixed[i, columns] = logits.softmax(0) @ values[: i + 1]
        x = x + mixed @ attention.o_proj.weight.T + attention.o_proj.bias
        if form == "absent":
            continue
        y, ffn = norm(x, block.norm_2), block.ffn
        if "fused" in form:
            y = y @ ffn.w.weight.T + ffn.w.bias
        else:
            y = y @ ffn.w_in.weight.T + ffn.w_in.bias
            if config.activation == "gelu":
                y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
            elif config.activation == "relu":
                y = y.clamp(min=0)
            y = y @ ffn.w_out.weight.T + ffn.w_out.bias
        x = block.ffn_beta * x + y / block.ffn_alpha if "scaled" in form else x + y
    return config.logit_multiplier * norm(x, transformer.final_norm) @ model.lm_head.weight.T


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_the_definition(name):
    model, ids = build(name), ids_of(2, 9)
    with torch.inference_mode():
        found = model(ids).logits
        for row in range(2):
            torch.testing.assert_close(found[row], written_out(model, ids[row]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_save_load_and_generate_with_and_without_cache(name, tmp_path):
    model = build(name)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert type(again) is AeroForCausalLM
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert again.lm_head.weight is again.transformer.token_embedding.weight
    ids = ids_of(1, 3)
    settings = {"max_new_tokens": 9, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(
        again.generate(ids, use_cache=True, **settings), model.generate(ids, use_cache=False, **settings)
    )


@pytest.mark.parametrize("name", ["SM+LN+G", "SM(t)+ScFuFFN"])
def test_the_cache_gives_the_same_logits(name):
    model, ids = build(name), ids_of(2, 10)
    with torch.inference_mode():
        whole = model(ids).logits
        first = model(ids[:, :4], use_cache=True)
        parts = [first.logits]
        for start, stop in ((4, 5), (5, 9), (9, 10)):
            step = model(ids[:, start:stop], cache=first[CACHE_NAME], use_cache=True)
            parts.append(step.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-11, atol=1e-11)


def test_a_cache_is_taken_by_the_name_of_every_release_of_transformers():
    model, ids = build("SM+R"), ids_of(1, 6)
    found = []
    with torch.inference_mode():
        for name in CACHE_NAMES:
            cache = model(ids[:, :4], use_cache=True)[CACHE_NAME]
            unused = {"cache_position": torch.arange(4, 6), "inputs_embeds": None}  # as transformers 5.0 calls a model
            found.append(model(ids[:, 4:], **{name: cache}, **unused))
            assert found[-1][CACHE_NAME] is cache and cache.get_seq_length() == 6
        assert model(ids).get(CACHE_NAME) is None
        whole = model(ids).logits[:, 4:]
    for output in found:
        torch.testing.assert_close(output.logits, whole, rtol=1e-11, atol=1e-11)
    with pytest.raises(ValueError, match="one argument; give `cache` alone"):
        model(ids, cache=cache, past_key_values=cache)


def test_generation_goes_on_from_a_cache_of_the_prompt():
    model, ids = build("SM(t)+ScFuFFN"), ids_of(1, 5)
    settings = {"max_new_tokens": 4, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    cache = model(ids[:, :3], use_cache=True)[CACHE_NAME]
    assert torch.equal(model.generate(ids, **{CACHE_NAME: cache}, **settings), model.generate(ids, **settings))


def test_generation_feeds_one_token_at_a_time():
    model, lengths = build("SM+R"), []
    model.transformer.register_forward_pre_hook(lambda _, args: lengths.append(args[0].shape[1]))
    model.generate(ids_of(1, 3), max_new_tokens=4, do_sample=False, attention_mask=torch.ones(1, 3))
    assert lengths == [3, 1, 1, 1]


def test_untied_embeddings_are_two_matrices(tmp_path):
    model = build("SM+R", tie_embeddings=False)
    assert model.lm_head.weight is not model.transformer.token_embedding.weight
    model.save_pretrained(tmp_path)
    again = AeroForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert not torch.equal(again.lm_head.weight, again.transformer.token_embedding.weight)
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_text_beyond_the_context_is_refused():
    model = build("SM(t)+ScFuFFN")
    with pytest.raises(ValueError, match="13 tokens do not fit this model's context of 12"):
        model(ids_of(1, 13))
    cache = model(ids_of(1, 12), use_cache=True)[CACHE_NAME]
    with pytest.raises(ValueError, match="13 tokens do not fit"):
        model(ids_of(1, 1), cache=cache)


def test_attentions_and_entropies_on_request():
    model = build("SM+LN+G")
    output = model(ids_of(2, 9), output_attentions=True, output_entropies=True, output_hidden_states=True)
    assert len(output.attentions) == len(output.entropies) == TINY.num_layers
    assert len(output.hidden_states) == TINY.num_layers + 1
    for attention, entropy in zip(output.attentions, output.entropies, strict=True):
        assert attention.shape == (2, 2, 9, 9)
        torch.testing.assert_close(attention.sum(-1), torch.ones(2, 2, 9, dtype=torch.float64))
        assert (attention.triu(1) == 0).all()
        torch.testing.assert_close(entropy, -torch.xlogy(attention, attention).sum(-1), rtol=0, atol=1e-7)
    plain = model(ids_of(2, 9))
    assert plain.attentions is plain.entropies is plain.hidden_states is plain.loss is None


def test_everything_stays_float64():
    model = build("EReg(SM(t)+ScFuFFN)").train()
    output = model(ids_of(2, 9), labels=ids_of(2, 9), output_entropies=True, output_attentions=True)
    assert output.loss.dtype == output.entropies[0].dtype == output.attentions[0].dtype == torch.float64
    output.loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g.dtype == torch.float64 for g in gradients.values() if g is not None)
    # The thresholds are moved by the regulariser alone; everything else by the loss.
    assert [name for name, g in gradients.items() if g is None] == ["reg_threshold_weights"]


def test_the_loss_is_pytorchs():
    model, ids = build("SM+LN+R"), ids_of(3, 12)
    labels = ids.clone()
    labels[1, 5:] = -100
    output = model(ids, labels=labels)
    expected = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(output.loss, expected)
    assert model.train()(ids, labels=labels).logits is None
    assert model(ids, labels=labels, skip_logits=False).logits is not None


def test_logits_of_the_last_positions_only():
    model, ids = build("SM+LN+R"), ids_of(2, 9)
    whole = model(ids).logits
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, whole[:, -2:])
    torch.testing.assert_close(model(ids, logits_to_keep=torch.tensor([0, 4])).logits, whole[:, [0, 4]])


def test_initialisation():
    config = AeroConfig(hidden_size=256, num_heads=4, num_layers=8, vocab_size=1000)
    torch.manual_seed(0)
    block = AeroForCausalLM(config).transformer.blocks[0]
    assert block.attention.q_proj.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert block.ffn.w_in.weight.std().item() == pytest.approx(0.02, rel=0.02)
    for residual in (block.attention.o_proj, block.ffn.w_out):
        assert residual.weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)
        assert (residual.bias == 0).all()
    model = AeroForCausalLM(AeroConfig.from_notation("EReg(SM(t)+ScFuFFN)", TINY))
    assert model.transformer.blocks[0].ffn_alpha.item() == model.transformer.blocks[0].ffn_beta.item() == 1
    assert (model.transformer.blocks[0].attention.temperature() == 1).all()
    assert (model.reg_threshold_weights == 0.5).all()
    assert model.reg_threshold_weights.shape == (7, 2)


def test_gradient_accumulation_gives_the_loss_of_the_whole_batch(tmp_path):
    """Two half batches with different numbers of counted tokens, as one step: the weights of one whole batch."""
    ids = ids_of(4, 12)
    labels = ids.clone()
    labels[:2, 4:] = -100
    data = Dataset.from_dict({"input_ids": ids.tolist(), "labels": labels.tolist()})
    results, losses = [], []
    for batch, accumulation in ((4, 1), (2, 2)):
        model = build("SM+ScFuFFN", torch.float32)
        arguments = TrainingArguments(
            output_dir=str(tmp_path / str(batch)),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            learning_rate=0.1,
            optim="sgd",
            max_grad_norm=0,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=data)
        losses.append(trainer.train().training_loss)
        results.append(model.state_dict())
    expected = build("SM+ScFuFFN", torch.float32)(ids, labels=labels).loss.item()
    assert losses == pytest.approx([expected, expected], rel=1e-5)
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-4, atol=1e-5)
    assert not torch.equal(results[0]["lm_head.weight"], build("SM+ScFuFFN", torch.float32).lm_head.weight)
