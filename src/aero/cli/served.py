"""A model as our own engine serves it: the form of its FFNs, number formats and moduli, chosen together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from aero.cli.calibration import blocks_of_run
from aero.compiler.compile import compile
from aero.compiler.compiled import Compiled
from aero.compiler.passes.eliminate_ffn import MAX_CONDITION
from aero.compiler.quantize import Quantized, quantize
from aero.cost.estimate import estimate
from aero.cost.two_party import TwoPartyProfile
from aero.engines.two_party.room import with_room
from aero.graph.ring_plan import RingPlan
from aero.models import AeroForCausalLM
from aero.serve.session import MAX_OUTPUTS


@dataclass(frozen=True)
class Served:
    """compiled: verified, with the reason for its form; quantized: number formats in which every step of a session has
    room for noise, of which the plan has the moduli."""

    compiled: Compiled
    quantized: Quantized


def fit(
    model: AeroForCausalLM,
    compiled: Compiled,
    calibration: Sequence[np.ndarray],
    outside: Sequence[np.ndarray] = (),
    *,
    max_condition: float = MAX_CONDITION,
    softmax_base: Literal["e", "2"] = "2",
) -> Served:
    """A compiled model with number formats; or another form of it, where the form that is cheapest by multiplications
    has weights so large that noise asks for larger moduli, and another takes fewer bytes then.

    ValueError, naming what is in the way, for a model that no form, formats and moduli can serve.
    """
    first = compiled.ffn.chosen.name if compiled.ffn is not None else ""
    names = [first]
    if compiled.ffn is not None:
        usable = [f for f in compiled.ffn.forms if f.condition <= max(max_condition, 1.0) and f.name != first]
        names += [form.name for form in sorted(usable, key=lambda form: form.price)]
    fitted: dict[str, Served] = {}
    failure: ValueError | None = None
    for name in names:
        candidate = compiled
        if name != first:
            candidate = compile(
                model, compiled.context, form=name, max_condition=max_condition, softmax_base=softmax_base, check=False
            )
        try:
            fitted[name] = Served(candidate, formats(candidate, calibration, outside))
        except ValueError as error:
            failure = failure or error
            continue
        if not fitted[name].quantized.plan.moduli:
            break  # the others have more products
    if not fitted:
        assert failure is not None
        raise failure
    if len(fitted) == 1 and first in fitted:
        return fitted[first]
    sizes = {name: _bytes(served) for name, served in fitted.items()}
    best = min(sizes, key=lambda name: sizes[name])
    found = fitted[best].compiled
    if best != first:
        found = compile(model, compiled.context, form=best, max_condition=max_condition, softmax_base=softmax_base)
    assert found.ffn is not None
    others = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items() if name != best)
    refused = ", ".join(f"{name} cannot be served" for name in names[: names.index(best)] if name not in fitted)
    reason = (
        f"the fewest bytes of a whole prompt and a next token, with room for noise: {sizes[best] / 1e6:.2f} MB; "
        + ("; ".join(part for part in (others, refused) if part))
    )
    return Served(replace(found, ffn=replace(found.ffn, reason=reason)), fitted[best].quantized)


def formats(compiled: Compiled, calibration: Sequence[np.ndarray], outside: Sequence[np.ndarray] = ()) -> Quantized:
    """Number formats with room for noise in every step of a session. ValueError, naming what is in the way, where there
    are none."""
    found = quantize(compiled.program, calibration, outside=outside)
    return replace(found, plan=with_room(compiled, found.plan, MAX_OUTPUTS))


def serve_run(run: Path, model: AeroForCausalLM) -> tuple[Served, bool]:
    """Of a run that was not compiled before; and whether its own validation text decided: where that is not there,
    random tokens do."""
    compiled = compile(model, softmax_base="2")
    blocks, by_text = blocks_of_run(run, compiled)
    return fit(model, compiled, blocks), by_text


def plan_of(run: Path, compiled: Compiled) -> tuple[RingPlan, bool]:
    """The same for a compiled model without number formats, whose form is what it is."""
    blocks, by_text = blocks_of_run(run, compiled)
    return formats(compiled, blocks).plan, by_text


def _bytes(served: Served) -> float:
    """Both ways, of a prompt that fills the context, and of the last token of the context alone."""
    compiled, plan = served.compiled, served.quantized.plan
    graphs = [compiled.prefill(compiled.context).graph]
    if compiled.context > 1:
        graphs.append(compiled.decode(compiled.context - 1).graph)
    return sum(estimate(graph, TwoPartyProfile(graph, plan)).total.bytes_both_ways or 0 for graph in graphs)
