"""Shapes under a private budget, by successive halving: many are trained a little, the best of them longer.

1. Candidates (`aero.ladder.space`) are priced, and those over the budget are dropped, before anything is trained.
2. The baseline is trained; candidates that are taught learn from it.
3. In each heat all that are left are trained, and a third of them goes on to the next, with three times the steps.
   Each heat trains from the beginning, so that learning rates decay to the end and perplexities of a heat compare.
4. What the last heat trained is priced again, as it would be served, and its fronts are drawn.

Successive halving is Jamieson & Talwalkar 2016, algorithm 1. Who goes on is decided on perplexity and costs at once, by
non-dominated sorting (Deb et al. 2002, §III.A), as Schmucker et al. 2021 do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from aero.compiler.architecture import outline
from aero.cost.budget import Budget, Deployment, PrivateCost, Unit, Work
from aero.cost.compare import pareto_front
from aero.cost.two_party import windowed
from aero.data.folder import DataFolder
from aero.files.atomic import write_text
from aero.ladder.space import Candidate, Space
from aero.models.notation import parse
from aero.models.presets import Size
from aero.train.many import OnProgress, TrainMany, Wanted, one_after_another
from aero.train.run_folder import RunInfo
from aero.train.settings import Teacher, TrainSettings
from aero.train.teacher import as_teacher

FILE = "search.json"
WORKS: tuple[Work, ...] = ("token", "prompt")
KEEP = 3
"""One of so many goes on to the next heat, which has so many times the steps."""
HEATS = 3
_BASELINE = "baseline"


@dataclass(frozen=True)
class Priced:
    """cost: of the compiled architecture, in number formats of weights of trained-like scale; within: every budget."""

    candidate: Candidate
    cost: PrivateCost
    within: bool


@dataclass(frozen=True)
class Heat:
    """So many runs, each of so many steps."""

    runs: int
    steps: int


@dataclass(frozen=True)
class Plan:
    """What a search will do. windows: is it taken that scores lie in windows, as a penalty on them makes them?"""

    space: Space
    budgets: tuple[Budget, ...]
    deployment: Deployment
    windows: bool
    baseline: Priced
    candidates: tuple[Priced, ...]
    heats: tuple[Heat, ...]

    @property
    def unit(self) -> Unit:
        """Of the costs that are drawn: that of the first budget."""
        return self.budgets[0].unit

    def tokens(self, batch_size: int) -> int:
        """Of all training, the baseline's included."""
        steps = self.heats[-1].steps + sum(heat.runs * heat.steps for heat in self.heats)
        return steps * batch_size * self.space.base.context


@dataclass(frozen=True)
class Trial:
    """A run. folder: under the search's; perplexity: on validation text, None where it diverged."""

    steps: int
    folder: str
    status: str
    perplexity: float | None

    @classmethod
    def of(cls, folder: str, info: RunInfo) -> Trial:
        assert info.settings is not None  # it was trained here
        return cls(info.settings.steps, folder, info.status, (info.result or {}).get("perplexity"))


@dataclass(frozen=True)
class Entry:
    """A candidate, or the baseline, and its runs. served: what the model of the last heat takes with the form, number
    formats and windows that its weights ask for; None where it was not trained to the end, or for the `problem`."""

    priced: Priced
    trials: tuple[Trial, ...] = ()
    served: PrivateCost | None = None
    problem: str | None = None

    @property
    def perplexity(self) -> float | None:
        """After the last of its heats."""
        return self.trials[-1].perplexity if self.trials else None

    def to_json(self) -> dict[str, Any]:
        priced = {"name": self.priced.candidate.name, **asdict(self.priced.candidate), "within": self.priced.within}
        costs = {"cost": asdict(self.priced.cost), "served": self.served and asdict(self.served)}
        return {**priced, **costs, "problem": self.problem, "trials": [asdict(trial) for trial in self.trials]}


@dataclass(frozen=True)
class Point:
    """Of a figure: what a work costs of a model that was trained to the end. front: does no other beat it?"""

    name: str
    cost: float
    perplexity: float
    front: bool


@dataclass(frozen=True)
class Found:
    """The baseline and all candidates, in the order of the space."""

    plan: Plan
    baseline: Entry
    candidates: tuple[Entry, ...]

    def points(self, work: Work) -> list[Point]:
        """Of the models that were trained to the end and can be served, the baseline first."""
        entries = [
            (entry.priced.candidate.name, entry.served.of(work, self.plan.unit), entry.perplexity)
            for entry in (self.baseline, *self.candidates)
            if entry.served is not None and entry.perplexity is not None
        ]
        front = pareto_front([(cost, perplexity) for _, cost, perplexity in entries])
        return [Point(*entry, index in front) for index, entry in enumerate(entries)]

    @property
    def fronts(self) -> dict[Work, list[str]]:
        """The names of those that no other beats in perplexity and in what the work costs."""
        return {work: [point.name for point in self.points(work) if point.front] for work in WORKS}

    @property
    def choice(self) -> Entry | None:
        """The candidate of lowest perplexity that is within every budget as it would be served; None without one."""
        fine = [
            (entry.perplexity, index)
            for index, entry in enumerate(self.candidates)
            if entry.served is not None
            and entry.perplexity is not None
            and all(budget.allows(entry.served) for budget in self.plan.budgets)
        ]
        return self.candidates[min(fine)[1]] if fine else None

    def to_json(self) -> dict[str, Any]:
        return {
            **plan_json(self.plan),
            "baseline": self.baseline.to_json(),
            "candidates": [entry.to_json() for entry in self.candidates],
            "figure": {work: [asdict(point) for point in self.points(work)] for work in WORKS},
            "front": self.fronts,
            "choice": self.choice and self.choice.priced.candidate.name,
        }


def plan_json(plan: Plan) -> dict[str, Any]:
    """Plain data; candidates as entries without trials."""
    return {
        "budgets": [budget.to_json() for budget in plan.budgets],
        **plan.deployment.to_json(),
        "windows": plan.windows,
        "unit": plan.unit,
        "heats": [asdict(heat) for heat in plan.heats],
        "baseline": Entry(plan.baseline).to_json(),
        "candidates": [Entry(priced).to_json() for priced in plan.candidates],
    }


def plan_search(
    space: Space,
    budgets: Sequence[Budget],
    deployment: Deployment,
    steps: int,
    windows: bool = True,
    heats: int = HEATS,
) -> Plan:
    """Prices, and who takes part; nothing is trained. steps: of the last heat; windows: as in `Plan`, of training with
    `zatt`; heats: at most.

    ValueError where no candidate is within the budgets, without a budget, and for fewer than one heat.
    """
    if not budgets:
        raise ValueError("name a private budget: --budget 3MB of a token, or 2s, or 40MB/prompt")
    if heats < 1:
        raise ValueError(f"{heats} heats train nothing; give at least 1")

    @cache  # a teacher does not alter the price
    def cost_of(notation: str, size: Size) -> PrivateCost:
        found = outline(parse(notation), size)
        formats = windowed(found.programs.program.graph, found.plan) if windows else found.plan
        return deployment.cost(found.programs, formats)

    def priced(candidate: Candidate) -> Priced:
        cost = cost_of(candidate.notation, candidate.size(space.base))
        return Priced(candidate, cost, all(budget.allows(cost) for budget in budgets))

    candidates = tuple(map(priced, space.candidates()))
    within = sum(each.within for each in candidates)
    if not within:
        budget = budgets[0]
        least = min(each.cost.of(budget.work, budget.unit) for each in candidates)
        raise ValueError(
            f"none of {len(candidates)} candidates is within {' and '.join(map(str, budgets))}: the cheapest takes "
            f"{replace(budget, amount=least)}; raise the budget, or try fewer layers, heads or a smaller width"
        )
    baseline = priced(space.baseline)
    return Plan(space, tuple(budgets), deployment, windows, baseline, candidates, halving(within, steps, heats))


def halving(runs: int, steps: int, most: int = HEATS) -> tuple[Heat, ...]:
    """The heats for so many candidates, as many as leave two for the last one, which has all the steps."""
    sizes = [runs]
    while len(sizes) < most and sizes[-1] > KEEP:
        sizes.append(-(-sizes[-1] // KEEP))
    last = len(sizes) - 1
    return tuple(Heat(size, max(1, steps // KEEP ** (last - index))) for index, size in enumerate(sizes))


def survivors(results: Sequence[tuple[float, ...] | None], count: int) -> list[int]:
    """Indices of those that go on, in their order. results: perplexity and then costs, None where it diverged.

    Front by front: what nothing else equals or beats in everything, then the same of the rest. Of a front of which not
    all go on, those with the lowest perplexity.
    """
    left = [index for index, result in enumerate(results) if result is not None]
    kept: list[int] = []

    def beaten(index: int) -> bool:
        return any(_dominates(results[other], results[index]) for other in left)  # type: ignore[arg-type]

    while left and len(kept) < count:
        front = sorted((i for i in left if not beaten(i)), key=lambda i: (results[i], i))
        kept += front[: count - len(kept)]
        left = [i for i in left if i not in front]
    return sorted(kept)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def search(
    out: Path,
    data: DataFolder,
    plan: Plan,
    settings: TrainSettings,
    price_run: Callable[[Path], PrivateCost],
    weight: float = Teacher.weight,
    temperature: float = Teacher.temperature,
    train: TrainMany = one_after_another,
    on_heat: Callable[[Heat], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Found:
    """Carry out a plan in folders of `out`, and write search.json there.

    settings: of every run, but for its steps, its teacher and the width for which the learning rate holds: the base's.
    price_run: what a trained run takes as it would be served, or ValueError. weight, temperature: of the baseline as a
    teacher. train: the way to train; it gets the runs of a heat together. Runs that are finished are kept, so a search
    that was stopped goes on. ValueError where `out` holds runs of other settings, or the vocabulary is not the plan's;
    RuntimeError where the baseline or every candidate diverges.
    """
    space = plan.space
    if space.base.vocab_size != data.info.vocab_size:
        raise ValueError(f"the plan is for {space.base.vocab_size} words, and {data.path} has {data.info.vocab_size}")
    settings = replace(settings, base_width=space.base.hidden_size, steps=plan.heats[-1].steps)
    runs = [Wanted(_BASELINE, out / _BASELINE, space.baseline.config(space.base), settings)]
    [info] = train(runs, data, on_progress)
    if info.status != "finished":
        raise RuntimeError(f"the baseline {space.baseline.notation} diverged; use a lower learning rate")
    taught = replace(settings, teacher=as_teacher(out / _BASELINE, weight, temperature))
    trials: dict[int, tuple[Trial, ...]] = {i: () for i, each in enumerate(plan.candidates) if each.within}
    left = list(trials)
    for index, heat in enumerate(plan.heats):
        if on_heat is not None:
            on_heat(replace(heat, runs=len(left)))
        folders, runs = [], []
        for i in left:
            candidate = plan.candidates[i].candidate
            folders.append(f"{heat.steps}-steps/{candidate.name}")
            with_steps = replace(taught if candidate.taught else settings, steps=heat.steps)
            runs.append(Wanted(candidate.name, out / folders[-1], candidate.config(space.base), with_steps))
        for i, folder, info in zip(left, folders, train(runs, data, on_progress), strict=True):
            trials[i] = (*trials[i], Trial.of(folder, info))
        count = plan.heats[index + 1].runs if index + 1 < len(plan.heats) else len(left)
        left = [left[k] for k in survivors([_result(plan, i, trials[i]) for i in left], count)]
        if not left:
            raise RuntimeError("every candidate diverged; use a lower learning rate")
    entries = [Entry(priced, trials.get(i, ())) for i, priced in enumerate(plan.candidates)]
    for i in left:
        entries[i] = _served(entries[i], out, price_run)
    baseline = Entry(plan.baseline, (Trial.of(_BASELINE, RunInfo.read(out / _BASELINE)),))
    found = Found(plan, _served(baseline, out, price_run), tuple(entries))
    write_text(out / FILE, json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n")
    return found


def _result(plan: Plan, index: int, trials: Sequence[Trial]) -> tuple[float, ...] | None:
    perplexity, cost = trials[-1].perplexity, plan.candidates[index].cost
    if perplexity is None:
        return None
    return (perplexity, *(cost.of(budget.work, budget.unit) for budget in plan.budgets))


def _served(entry: Entry, out: Path, price_run: Callable[[Path], PrivateCost]) -> Entry:
    try:
        return replace(entry, served=price_run(out / entry.trials[-1].folder))
    except ValueError as error:
        return replace(entry, problem=str(error))
