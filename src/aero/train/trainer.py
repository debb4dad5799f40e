"""Hugging Face's Trainer, as AERO's models are trained by it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from aero.entropy.regularizer import EntropyRegularizer
from aero.entropy.window import WindowPenalty
from aero.models import AeroForCausalLM
from aero.models.residual import ResidualLinear
from aero.train import checkpoints
from aero.train.callbacks import MetricsCallback
from aero.train.diagnosis import Diagnosis, LossTrend, TrainingDivergedError, diagnose
from aero.train.measures import TEXTS, MeasureLog, measure
from aero.train.processes import whole
from aero.train.run_folder import CHECKPOINTS
from aero.train.settings import TrainSettings
from aero.train.teacher import TeacherModel


def training_arguments(out: Path, settings: TrainSettings, precision: str) -> TrainingArguments:
    """What Hugging Face's Trainer is told; checkpoints go into `out`."""
    sharding = {"fsdp_version": 2, "transformer_layer_cls_to_wrap": ["AeroBlock"]}
    return TrainingArguments(
        output_dir=str(out / CHECKPOINTS),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.adam_eps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(settings.warmup_fraction * settings.steps),
        seed=settings.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        torch_compile=settings.compile,
        fsdp=settings.fsdp,  # type: ignore[arg-type]
        fsdp_config=sharding if settings.fsdp else None,
        ddp_find_unused_parameters=False,
        use_cpu=not torch.accelerator.is_available(),
        train_sampling_strategy="sequential",  # TrainingBlocks is in order already
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=settings.save_every,
        save_total_limit=settings.keep_checkpoints,
        disable_tqdm=True,
        report_to="none",
    )


class AeroTrainer(Trainer):
    """Hugging Face's Trainer with our weight decay, penalties, live measures, and a stop where it diverges.

    diagnosis: set when a TrainingDivergedError is raised, of an unsharded model. A checkpoint is sealed when it is
    there (`aero.train.checkpoints`).
    """

    def __init__(
        self,
        *args: Any,
        metrics: MetricsCallback,
        measure_log: MeasureLog,
        measure_every: int,
        regularizer: EntropyRegularizer | None,
        window_penalty: WindowPenalty | None = None,
        teacher: TeacherModel | None = None,
        base_width: int | None = None,
        base_depth: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        # Blocks are all of one length: the mean of the forward passes' means is the mean over tokens.
        self.model_accepts_loss_kwargs = False
        self.diagnosis: Diagnosis | None = None
        self.metrics = metrics
        self._measure_log = measure_log
        self._measure_every = measure_every
        self._regularizer = regularizer
        self._window_penalty = window_penalty
        self._teacher = teacher
        self._base_width = base_width
        self._base_depth = base_depth
        self._step: int | None = None  # the optimizer step that the batches belong to
        self._batches: list[dict[str, torch.Tensor]] = []
        self._trend = LossTrend()

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if self._teacher is not None:
            with self.accelerator.autocast():
                inputs = {**inputs, "soft_targets": self._teacher.targets(inputs["input_ids"])}
        entropies, window = self._regularizer is not None, self._window_penalty is not None
        if not (entropies or window):
            return super().compute_loss(model, inputs, *args, **kwargs)
        output = model(**inputs, output_entropies=entropies, output_log_sum_exps=window)
        loss = output.loss
        if self._regularizer is not None:
            thresholds = whole(self.accelerator.unwrap_model(model).reg_threshold_weights)
            loss = loss + self._regularizer(output.entropies, thresholds)
        if self._window_penalty is not None:
            loss = loss + self._window_penalty(output.log_sum_exps)
        return loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        if self._step != self.state.global_step:
            self._begin_step(model, inputs)
        self._batches.append(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        value = self._of_all(loss) * self.current_gradient_accumulation_steps
        self.metrics.step_loss = value
        if not math.isfinite(value):
            self._diverged(f"the loss is {value}")
        first = self.metrics.first_loss = value if self.metrics.first_loss is None else self.metrics.first_loss
        if self._trend.climbs(value, first):
            self._diverged(f"the loss has climbed to {value:.3g}, far above where it began,")
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> torch.Tensor:
        norm = super()._clip_grad_norm(model)
        if not self.args.fp16 and not math.isfinite(float(norm)):  # in fp16 the scaler skips such a step
            self._diverged(f"the gradient norm is {float(norm)}")
        return norm

    def _begin_step(self, model: nn.Module, inputs: dict[str, Any]) -> None:
        if self._step is None:
            self._measure_log.go_on_from(self.state.global_step, writes=self.is_world_process_zero())
        self._step = self.state.global_step
        self._batches.clear()
        if self._measure_every and self._step % self._measure_every == 0:
            self._measure(model, inputs)

    def _measure(self, model: nn.Module, inputs: dict[str, Any]) -> None:
        inner = self._inner(model)
        ids = self._prepare_inputs(inputs)["input_ids"][:TEXTS]
        with self.compute_loss_context_manager():
            found = measure(model if self.is_fsdp_enabled else inner, inner, ids, self.state.global_step)
        self.metrics.warnings += self._measure_log.add(found)
        if self.metrics.scalars is not None:
            self.metrics.scalars.add(found.scalars(), self.state.global_step)

    def _inner(self, model: nn.Module) -> AeroForCausalLM:
        return self.accelerator.unwrap_model(model, keep_torch_compile=False)

    def _of_all(self, loss: torch.Tensor) -> float:
        """The loss over all processes, so that all of them stop together."""
        if self.args.world_size > 1:
            loss = self.accelerator.reduce(loss.detach(), reduction="mean")
        return float(loss)

    def _diverged(self, what: str) -> None:
        """Look for the cause, while the weights are still those that the batches met, and stop."""
        step = self.state.global_step + 1
        if not self.is_fsdp_enabled:
            model = self._inner(self.model_wrapped)
            if self._measure_every and self.state.global_step % self._measure_every:
                self._measure(model, self._batches[-1])

            def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
                with self.compute_loss_context_manager():
                    return self.compute_loss(model, self._prepare_inputs(batch))

            self.diagnosis = diagnose(model, self._batches, loss, step, what, self._measure_log.first_collapsed)
            raise TrainingDivergedError(str(self.diagnosis))
        raise TrainingDivergedError(f"{what} at step {step}")

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        step = self.state.global_step
        folder = Path(str(self.args.output_dir)) / f"checkpoint-{step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                self._measure_log.sync()
                checkpoints.seal(folder)
        except Exception as error:  # a full disk is an OSError here, a RuntimeError of torch or an error of safetensors
            if self.is_world_process_zero():
                shutil.rmtree(folder, ignore_errors=True)
            raise OSError(f"the state after step {step} could not be written ({error}); the last one stays") from error

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Hugging Face's, where the blocks' matrices have learning rates of their own in a model of another size."""
        made: torch.optim.Optimizer | None = self.optimizer
        if made is not None:
            return made
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        assert self.model is not None
        model = self._inner(self.model)
        by_width = (self._base_width or model.config.hidden_size) / model.config.hidden_size
        by_depth = math.sqrt((self._base_depth or model.config.num_layers) / model.config.num_layers)
        shares = {  # by shape, since reading the weight of a stabilised layer moves its power iteration
            id(p): by_width * (by_depth if isinstance(layer, ResidualLinear) else 1.0)
            for layer in model.transformer.blocks.modules()
            if isinstance(layer, nn.Linear)
            for p in layer.parameters()
            if p.shape == (layer.out_features, layer.in_features)
        }
        for group in list(optimizer.param_groups):
            for share in sorted({shares.get(id(p), 1.0) for p in group["params"]} - {1.0}):
                own = [p for p in group["params"] if shares.get(id(p)) == share]
                group["params"] = [p for p in group["params"] if shares.get(id(p)) != share]
                optimizer.add_param_group({**group, "params": own, "lr": group["lr"] * share})
        return optimizer

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The matrices: weights of linear layers and embeddings."""
        kinds = (nn.Linear, nn.Embedding)
        return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)]

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # Trainer's own estimate walks all parameters at every step, and counts another architecture
