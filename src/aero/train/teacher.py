"""Learning from a model that was trained before: a run as a teacher, and what it predicts of each batch."""

from __future__ import annotations

from pathlib import Path

import torch

from aero.data.folder import DataFolder
from aero.files import manifest
from aero.models import AeroConfig, AeroForCausalLM
from aero.models.loss import SoftTargets
from aero.train.run_folder import FILE, RunInfo, finished_with_data
from aero.train.settings import Teacher


def as_teacher(run: Path, weight: float = Teacher.weight, temperature: float = Teacher.temperature) -> Teacher:
    """The finished run in a folder, trained or imported, for `TrainSettings.teacher`.

    FileNotFoundError where there is none; ValueError where it has no model yet, or is damaged.
    """
    RunInfo.read_finished(run)
    return Teacher(str(run.resolve()), manifest.file_sha256(run / FILE), weight, temperature)


def check_teacher(teacher: Teacher, data: DataFolder, student: AeroConfig) -> None:
    """FileNotFoundError or ValueError where the run is gone, damaged or another one by now, has another tokenizer than
    the data, or sees fewer positions or words than the student."""
    run = Path(teacher.path)
    finished_with_data(run, data.path)
    if manifest.file_sha256(run / FILE) != teacher.sha256:
        raise ValueError(f"the teacher {run} is another run than at the beginning; train again with --force")
    config = AeroConfig.from_pretrained(run)
    for field in ("context", "vocab_size"):
        theirs, ours = getattr(config, field), getattr(student, field)
        if theirs < ours:
            raise ValueError(f"the teacher {run} has a {field} of {theirs}, below the student's {ours}; take another")


class TeacherModel:
    """A teacher, which was checked, at work on the batches of one student."""

    def __init__(self, teacher: Teacher, student: AeroConfig, device: torch.device) -> None:
        self._model: AeroForCausalLM = AeroForCausalLM.from_pretrained(teacher.path)
        self._model.eval().requires_grad_(False).to(device)  # type: ignore[arg-type]
        # A published model may have words beyond its tokenizer's; the student's are the first of them.
        self._words = self._model.lm_head.weight[: student.vocab_size]
        self._teacher = teacher

    @torch.no_grad()
    def targets(self, input_ids: torch.Tensor) -> SoftTargets:
        """input_ids: [B, T]."""
        hidden = self._model.transformer(input_ids).last_hidden_state
        multiplier = self._model.config.logit_multiplier
        return SoftTargets(hidden, self._words, multiplier, self._teacher.temperature, self._teacher.weight)
