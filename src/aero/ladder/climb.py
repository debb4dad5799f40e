"""The four steps (Jha & Reagen 2024, §4; 2025, §4), each rung a run of its own; stopped, they go on where they were.

1. fewer nonlinearities   SM+LN+G, SM+LN+R, SM+FLN+R, SM+R; of another family its own (`Traits.rungs` of presets)
2. softmax alone          with each stabiliser: FFN scaling, weight norm, spectral norm, frozen norms; the best goes on
3. fewer FLOPs            FFNs fused; then the deepest pruned, as many as the tolerance bears, found by halving
4. entropy                what is left, with a temperature for each head and the entropy regulariser

Norms that end as constants are ours, and all of them are left out of the papers' flavour.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aero.cost.pricing import TWO_PARTY, pricing
from aero.data.folder import DataFolder
from aero.files.atomic import write_text
from aero.ladder.rung import Rung, measure_rung, pareto_front
from aero.models import AeroConfig
from aero.models.notation import BEGINS_AS, Norm, Notation, parse
from aero.models.presets import Size, traits_of
from aero.models.presets import size as size_of
from aero.models.stabilize import Stabilizer
from aero.train.many import OnProgress, TrainMany, Wanted, one_after_another
from aero.train.recipes import Flavour, check_flavour
from aero.train.settings import TrainSettings

FILE = "ladder.json"
_STABILISED: tuple[tuple[str, Stabilizer], ...] = (
    ("SM+ScFFN", "none"),
    ("SM", "weight_norm"),
    ("SM", "spectral_norm"),
)
_FROZEN: dict[Norm, Norm] = {"layer": "frozen", "rms": "frozen_rms"}


@dataclass(frozen=True)
class Ladder:
    """All rungs in the order in which they were trained. stabilizer: the best of step 2, "scaled" for FFN scaling,
    "frozen" for frozen norms. pruned: how many of the deepest FFNs the tolerance bears. choice: the rung with fewest
    bytes whose perplexity is within the tolerance of the baseline's; the baseline itself where no other is. None where
    it diverged.
    """

    tolerance: float
    rungs: tuple[Rung, ...]
    stabilizer: str
    pruned: int

    @property
    def front(self) -> list[Rung]:
        return pareto_front(self.rungs)

    @property
    def choice(self) -> Rung | None:
        baseline = self.rungs[0].perplexity
        if baseline is None:
            return None
        return next(r for r in self.front if r.perplexity is not None and r.perplexity <= baseline * self._bound)

    @property
    def _bound(self) -> float:
        return 1 + self.tolerance

    def to_json(self) -> dict[str, Any]:
        return {
            "tolerance": self.tolerance,
            "stabilizer": self.stabilizer,
            "pruned": self.pruned,
            "rungs": [rung.to_json() for rung in self.rungs],
            "front": [rung.name for rung in self.front],
            "choice": None if self.choice is None else self.choice.name,
        }


def climb(
    out: Path,
    data: DataFolder,
    size: str | Size,
    settings: TrainSettings,
    tolerance: float = 0.02,
    profile: str = TWO_PARTY,
    flavour: Flavour = "recommended",
    train: TrainMany = one_after_another,
    on_progress: OnProgress | None = None,
) -> Ladder:
    """Train the rungs in folders of `out`, and write ladder.json there.

    tolerance: relative increase of perplexity that is borne, of pruning against the fused model, and of the choice
    against the baseline. settings: of every rung, but for the stabiliser. flavour: "papers" has no frozen norms. train:
    the way to train; it gets the rungs of steps 1 and 2 together. Runs that are finished are kept. ValueError for a
    negative tolerance, an unknown profile or flavour, or where `out` holds rungs of other settings; RuntimeError where
    every Softmax-only model diverges.
    """
    if not 0 <= tolerance < 10:
        raise ValueError(f"a tolerance of {tolerance} is not a fraction; give 0.02 for 2%")
    check_flavour(flavour)
    prices = pricing(profile)  # first: an unknown name is an error before anything is trained
    size = size_of(size) if isinstance(size, str) else size
    found: list[Rung] = []

    def rungs_of(wanted: Sequence[tuple[int, str, Stabilizer]]) -> list[Rung]:
        runs = []
        for _, notation, stabilizer in wanted:
            name = notation if stabilizer == "none" else f"{notation},{stabilizer}"
            config = AeroConfig.from_notation(notation, size, vocab_size=data.info.vocab_size)
            runs.append(Wanted(name, out / name, config, replace(settings, stabilizer=stabilizer)))
        train(runs, data, on_progress)
        trained = [measure_rung(*one, out, run.name, profile, prices) for one, run in zip(wanted, runs, strict=True)]
        found.extend(trained)
        return trained

    def rung(step: int, notation: Notation, stabilizer: Stabilizer) -> Rung:
        return rungs_of([(step, str(notation), stabilizer)])[0]

    rungs, stabilised = list(traits_of(size).rungs), list(_STABILISED)
    frozen = _FROZEN[parse(rungs[0]).norm]
    if flavour == "papers":
        rungs = [notation for notation in rungs if parse(notation).norm not in BEGINS_AS]
    else:
        stabilised.append((str(Notation(frozen, "identity")), "none"))
    first = rungs_of([(1, notation, "none") for notation in rungs] + [(2, *one) for one in stabilised])
    best = _best(first[len(rungs) :])
    if best is None:
        raise RuntimeError("every Softmax-only model diverged; use a lower learning rate")
    form = Notation(parse(best.notation).norm, "identity", "scaled_fused")
    fused = rung(3, form, best.stabilizer)
    layers = AeroConfig.from_pretrained(out / found[0].folder).num_layers
    pruned = 0
    if fused.perplexity is not None:
        limit = fused.perplexity * (1 + tolerance)
        pruned = most_pruned(layers - 1, lambda k: _within(rung(3, replace(form, pruned=k), best.stabilizer), limit))
    last = replace(form, pruned=pruned, temperature="per_head", entropy_regularized=True)
    rung(4, last, best.stabilizer)
    stabilizer = _called(best)
    ladder = Ladder(tolerance, tuple(found), stabilizer, pruned)
    write_text(out / FILE, json.dumps(ladder.to_json(), indent=2, allow_nan=False) + "\n")
    return ladder


def most_pruned(most: int, fine: Callable[[int], bool]) -> int:
    """The largest k of 0 .. most for which `fine(k)`, by halving, if it is fine up to some k and not beyond; 0 is."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fine(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _best(rungs: Sequence[Rung]) -> Rung | None:
    trained = [rung for rung in rungs if rung.perplexity is not None]
    return min(trained, key=lambda rung: rung.perplexity or 0.0) if trained else None


def _called(best: Rung) -> str:
    """The stabiliser of a rung of step 2."""
    if parse(best.notation).norm in BEGINS_AS:
        return "frozen"
    return "scaled" if best.stabilizer == "none" else best.stabilizer


def _within(rung: Rung, limit: float) -> bool:
    return rung.perplexity is not None and rung.perplexity <= limit
