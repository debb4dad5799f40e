"""Training: equal to a loop written out by hand, the same every time, and the same when it was stopped on the way."""

from __future__ import annotations

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from aero.data import tokenizer
from aero.data.folder import DataFolder
from aero.data.loader import TrainingBlocks
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.notation import parse
from aero.models.residual import ResidualLinear
from aero.train.callbacks import FiniteWeights, TrainingInterrupted, TrainingProgress
from aero.train.checkpoints import latest
from aero.train.diagnosis import TrainingDivergedError
from aero.train.evaluate import evaluate_run
from aero.train.run import resume, train
from aero.train.run_folder import RunInfo
from aero.train.settings import TrainSettings
from small_models import PERPLEXITY_SUMMED_ANEW


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def penalty(attentions: tuple[torch.Tensor, ...], thresholds: torch.Tensor, margin: float) -> torch.Tensor:
    """Jha & Reagen 2025, Alg. 1, head by head."""
    total, largest = torch.zeros(()), math.log(attentions[0].shape[-1])
    for layer, attention in enumerate(attentions):
        for head in range(attention.shape[1]):
            a = attention[:, head]
            deviation = -(a * (a + 1e-9).log()).sum(-1).mean() - thresholds[layer, head] * largest
            if deviation.abs() > margin * largest:
                total = total + deviation**2
    return total / thresholds.numel()


def window_penalty(attentions: tuple[torch.Tensor, ...], lowest: tuple[torch.Tensor, ...], bound: float):
    """zatt's, from probabilities: log-sum-exp = the lowest logit of a row minus the logarithm of its probability."""
    rows = []
    for attention, low in zip(attentions, lowest, strict=True):
        live = attention.masked_fill(torch.ones(attention.shape[-2:], dtype=torch.bool).triu(1), math.inf)
        rows.append((low - live.amin(-1).log())[..., 1:])
    return (torch.stack(rows).abs() - bound).clamp(min=0).square().mean()


@pytest.mark.parametrize(
    ("notation", "zatt"), [("SM+ScFuFFN", 0.0), ("SM+LN+G", 0.7), ("EReg(SM(t)+ScFuFFN)", 0.0), ("EReg(SM+LN+R)", 0.7)]
)
def test_equals_a_loop_written_out_by_hand(
    notation: str, zatt: float, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    fields = parse(notation).config_fields(config.num_layers)
    config = AeroConfig(**{**config.to_dict(), **fields})
    settings = replace(settings, gradient_accumulation=2, warmup_fraction=0.25, max_grad_norm=0.5)
    settings = replace(settings, entropy_weight=0.5, entropy_margin=0.05, zatt=zatt, zatt_bound=0.2)
    train(tmp_path / "run", data, config, settings)

    torch.manual_seed(settings.seed)
    model = AeroForCausalLM(config)
    decay = [m.weight for m in model.transformer.modules() if isinstance(m, (nn.Linear, nn.Embedding))]
    decayed = {id(p) for p in decay}
    others = [p for p in model.parameters() if id(p) not in decayed]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.95), eps=1e-8
    )
    blocks = TrainingBlocks(data.train, config.context, samples=12 * 8, seed=settings.seed)
    for step in range(12):
        ids = torch.stack([blocks[i]["input_ids"] for i in range(step * 8, step * 8 + 8)])
        optimizer.zero_grad()
        for half in (ids[:4], ids[4:]):
            output = model(input_ids=half, output_attentions=True, output_lowest_logits=True)
            loss = nn.functional.cross_entropy(output.logits[:, :-1].flatten(0, 1), half[:, 1:].flatten())
            if notation.startswith("EReg"):
                loss = loss + 0.5 * penalty(output.attentions, model.reg_threshold_weights, margin=0.05)
            loss = loss + zatt * window_penalty(output.attentions, output.lowest_logits, bound=0.2)
            (loss / 2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (step / 3 if step < 3 else (12 - step) / 9)
        optimizer.step()
    for name, value in weights(tmp_path / "run").items():
        # Softmax does not see a key's bias: its gradient is nothing but rounding, of two ways to compute the entropy.
        atol = 1e-4 if name.endswith("k_proj.bias") else 2e-6
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=atol, msg=lambda m, n=name: n + m)


def test_a_run_folder_holds_all_that_a_user_needs(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    seen: list[TrainingProgress] = []
    info = train(out, data, config, replace(settings, steps=80, learning_rate=1e-2), on_progress=seen.append)

    assert [p.step for p in seen] == list(range(1, 81))
    assert RunInfo.read(out) == info
    assert (info.notation, info.status, info.context) == ("SM+ScFuFFN", "finished", 16)
    model = AeroForCausalLM.from_pretrained(out)
    assert model.num_parameters() == info.parameters
    assert model.config.eos_token_id == data.info.end_of_text
    assert tokenizer.load(out).encode("def f") == data.tokenizer().encode("def f")

    assert info.result is not None
    assert info.result["perplexity"] < 100 < data.info.vocab_size, "it has learnt something"
    assert evaluate_run(out)[2].perplexity == pytest.approx(info.result["perplexity"], rel=PERPLEXITY_SUMMED_ANEW)
    assert info.result["train_tokens"] == 80 * 4 * 16

    lines = rows(out)
    assert [r["step"] for r in lines] == [1, *range(3, 79, 3), 80]
    assert lines[-1]["tokens"] == 80 * 4 * 16
    assert lines[-1]["loss"] == info.result["train_loss"] < lines[0]["loss"]
    assert set(lines[0]) == {"step", "loss", "learning_rate", "grad_norm", "tokens", "seconds", "tokens_per_second"}
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["checkpoint-75", "checkpoint-80"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    recorded = [(e.step, e.value) for e in events.Scalars("train/loss")]
    assert recorded == [(r["step"], pytest.approx(r["loss"])) for r in lines]
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [".lock"], "no temporary files are left"


def test_the_seed_decides_everything(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, data, config, replace(settings, seed=seed))
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_stopped_by_a_signal_and_resumed_equals_uninterrupted(
    precision: str, data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    base_width = 8 if precision == "bf16" else None
    settings = replace(settings, gradient_accumulation=2, precision=precision, base_width=base_width)
    train(tmp_path / "whole", data, config, settings)

    def press_control_c(progress: TrainingProgress) -> None:
        if progress.step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match=r"step [78] of 12; --resume"):
        train(tmp_path / "stopped", data, config, settings, on_progress=press_control_c)
    assert signal.getsignal(signal.SIGINT) is before
    assert RunInfo.read(tmp_path / "stopped").status == "unfinished"
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    with pytest.raises(ValueError, match="unfinished"):
        evaluate_run(tmp_path / "stopped")

    info = resume(tmp_path / "stopped")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    whole = RunInfo.read(tmp_path / "whole").result
    assert whole is not None and info.result is not None
    assert info.result["perplexity"] == whole["perplexity"]
    assert info.result["train_tokens"] == whole["train_tokens"]


def test_matrices_of_a_wider_and_deeper_model_learn_more_slowly(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    settings = replace(settings, steps=1, warmup_fraction=0)
    torch.manual_seed(settings.seed)
    model = AeroForCausalLM(config)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    bases = {"same": (None, None), "own": (16, 2), "half": (8, 2), "quarter": (8, 1)}
    for name, (width, depth) in bases.items():
        train(tmp_path / name, data, config, replace(settings, base_width=width, base_depth=depth))
    ran = {name: weights(tmp_path / name) for name in bases}
    assert same(ran["same"], ran["own"])
    residual = {f"{name}.weight" for name, m in model.named_modules() if isinstance(m, ResidualLinear)}
    assert len(residual) == 4  # of attention and FFN, in two layers
    for name in ran["same"]:
        wide = name.startswith("transformer.blocks.") and name.endswith("weight")
        for run, by_width, by_depth in (("half", 0.5, 1.0), ("quarter", 0.5, math.sqrt(1 / 2))):
            share = (by_width if wide else 1.0) * (by_depth if name in residual else 1.0)
            # A step of AdamW is linear in the learning rate.
            expected = share * (ran["same"][name] - start[name])
            torch.testing.assert_close(
                ran[run][name] - start[name], expected, rtol=1e-4, atol=1e-8, msg=lambda m, n=name: n + m
            )


def test_killed_between_checkpoints_and_resumed_equals_uninterrupted(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    train(tmp_path / "whole", data, config, settings)

    class PowerCut(Exception):
        pass

    def cut(progress: TrainingProgress) -> None:
        if progress.step == 9:
            raise PowerCut

    out = tmp_path / "cut"
    with pytest.raises(PowerCut):
        train(out, data, config, settings, on_progress=cut)
    assert [r["step"] for r in rows(out)] == [1, 3, 6]
    half = out / "checkpoints" / "checkpoint-8"
    half.mkdir()  # as if the power had gone while it was written
    (half / "trainer_state.json").write_text('{"global_st')
    assert latest(out) == out / "checkpoints" / "checkpoint-5"

    resume(out)
    assert same(weights(tmp_path / "whole"), weights(out))
    assert [r["step"] for r in rows(out)] == [r["step"] for r in rows(tmp_path / "whole")]
    assert [r["loss"] for r in rows(out)][3:] == [r["loss"] for r in rows(tmp_path / "whole")][3:]

    stamp = (out / "model.safetensors").stat().st_mtime_ns
    assert resume(out) == RunInfo.read(out)
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp, "a finished run stays as it is"


def test_stopped_after_the_last_step_and_resumed(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("aero.train.run._save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train(out, data, config, settings)
    info = resume(out)
    assert info.status == "finished"
    assert same(weights(out), weights(out / "checkpoints" / "checkpoint-12"))


def test_divergence_stops_the_run_and_keeps_a_good_state(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = replace(settings, learning_rate=1e25, warmup_fraction=0.25, save_every=1)
    with pytest.raises(
        TrainingDivergedError,
        match=r"diverged: the (loss|gradient norm) is (nan|inf) at step \d+.* last good state",
    ):
        train(out, data, config, settings)
    assert RunInfo.read(out).status == "diverged"
    good = latest(out)
    assert good is not None
    assert all(torch.isfinite(w).all() for w in weights(good).values())
    assert not (out / "model.safetensors").exists()


def test_broken_weights_are_never_saved(config: AeroConfig, tmp_path: Path) -> None:
    model = AeroForCausalLM(config)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    state = TrainerState(global_step=5, max_steps=10)
    check = FiniteWeights()
    check.on_step_end(arguments, state, TrainerControl(should_save=True), model=model)
    with torch.no_grad():
        model.transformer.blocks[1].attention.q_proj.weight[0, 0] = float("nan")
    check.on_step_end(arguments, state, TrainerControl(should_save=False), model=model)
    with pytest.raises(
        TrainingDivergedError, match=r"blocks\.1\.attention\.q_proj\.weight are not finite after step 5"
    ):
        check.on_step_end(arguments, state, TrainerControl(should_save=True), model=model)


def test_what_does_not_go_together_is_refused_before_anything_is_written(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    config.vocab_size *= 2
    with pytest.raises(ValueError, match="vocabulary"):
        train(out, data, config, settings)
    config.vocab_size = data.info.vocab_size
    config.context = 100_000
    with pytest.raises(ValueError, match="less validation text"):
        train(out, data, config, settings)
    assert not out.exists()


def test_an_existing_folder_is_never_overwritten_unasked(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(out, data, config, replace(settings, steps=1))
    before = weights(out)
    with pytest.raises(ValueError, match=r"--resume .* --force"):
        train(out, data, config, settings)
    assert same(before, weights(out))
    assert train(out, data, config, settings, force=True).settings.steps == 12
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="something else"):
        train(tmp_path / "photos", data, config, settings, force=True)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_resume_needs_the_run_and_the_same_data(
    data: DataFolder, config: AeroConfig, settings: TrainSettings, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no run at"):
        resume(tmp_path / "absent")
    out = tmp_path / "run"
    info = train(out, data, config, replace(settings, steps=1))
    replace(info, status="unfinished", data=replace(info.data, train_tokens=1)).write(out)
    with pytest.raises(ValueError, match="not the data"):
        resume(out)
    replace(info, status="unfinished", data=replace(info.data, path=str(tmp_path / "gone"))).write(out)
    with pytest.raises(FileNotFoundError, match="no data folder"):
        resume(out)


def test_a_damaged_or_foreign_run_file_gives_a_clear_error(tmp_path: Path) -> None:
    for text, message in (
        ("{", "not JSON"),
        ('{"format_version": 9}', "version 9, and this aero reads 2"),
        ('{"format_version": 2}', "no checksums"),
    ):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            RunInfo.read(tmp_path)
