"""One rung: an architecture, trained, with its perplexity and the bytes of a private token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aero.compiler.compile import compile
from aero.compiler.run import load_model
from aero.cost import estimate
from aero.cost.pricing import Pricing
from aero.models import AeroForCausalLM
from aero.models.stabilize import Stabilizer
from aero.train.run_folder import RunInfo


@dataclass(frozen=True)
class Rung:
    """step: of the four. notation, stabilizer: what was trained. folder: the run, under the ladder's. status: of the
    run. perplexity: on validation text, None where it diverged. bytes: both ways, of one token from a full context, by
    the cost model's `profile`, of the compiled model; None where there is no model or no price.
    """

    step: int
    notation: str
    stabilizer: Stabilizer
    folder: str
    status: str
    perplexity: float | None
    bytes: float | None
    profile: str

    @property
    def name(self) -> str:
        return self.notation if self.stabilizer == "none" else f"{self.notation}, {self.stabilizer}"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


def measure_rung(
    step: int, notation: str, stabilizer: Stabilizer, ladder: Path, run: str, profile: str, pricing: Pricing
) -> Rung:
    """The rung of a run that is finished or has diverged. pricing: what `profile` names."""
    info = RunInfo.read(ladder / run)
    perplexity = cost = None
    if info.status == "finished":
        assert info.result is not None
        perplexity = info.result["perplexity"]
        cost, _ = price(load_model(ladder / run), pricing)
    return Rung(step, notation, stabilizer, run, info.status, perplexity, cost, profile)


def price(model: AeroForCausalLM, pricing: Pricing) -> tuple[float | None, float | None]:
    """Bytes both ways and rounds of one private token from a full context, compiled; None where there is no price."""
    graph = compile(model, check=False).prefill(model.config.context).graph
    total = estimate(graph, pricing(graph, None)).total
    return total.bytes_both_ways, total.rounds


def pareto_front(rungs: Sequence[Rung]) -> list[Rung]:
    """The rungs that no other beats in both perplexity and bytes, the fewest bytes first."""
    priced = [r for r in rungs if r.perplexity is not None and r.bytes is not None]
    front: list[Rung] = []
    for rung in sorted(priced, key=lambda r: (r.bytes, r.perplexity)):
        if not front or rung.perplexity < front[-1].perplexity:  # type: ignore[operator]
            front.append(rung)
    return front
