"""Which form the FFNs of a Softmax-only model take: the cheapest that is well conditioned.

Nothing nonlinear stands between two softmaxes, so every FFN is a matrix on the residual stream (`merge_branches`).
All forms compute the same function:

    keep            a product with d^2 weights for each FFN, and a wait for it
    basis           none at all (`change_basis`), with inverses of products of those matrices
    basis, 2 tables the same with a second embedding table, which spares the first and often worst inverse; it costs a
                    second look-up, so it is only tried where one table does not qualify
    carry           the product, without the wait (`carry`)
    carry, merged   the same with the output projection merged as well: one product between two softmaxes

Errors of fixed-point numbers grow with the condition numbers of what is inverted, so beyond `max_condition` the basis
forms do not qualify. Among those that do, `price` decides; among equal prices, the better conditioned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from aero.compiler.passes.carry import carry, merge_output_projection
from aero.compiler.passes.change_basis import best_basis, change_basis
from aero.compiler.passes.residual_stream import find_stream
from aero.graph import Graph, Program
from aero.graph.count import count

# What a graph costs: smaller is better, compared item by item.
Ranking = Callable[[Graph], tuple[float, ...]]

# Above this, 12-bit weights and activations lose perplexity; with 16 bits there is room of two orders of magnitude.
MAX_CONDITION = 1e3


@dataclass(frozen=True)
class FFNForm:
    """One way to write the FFNs: its name, the largest condition number of an inverse in it, its price."""

    name: str
    condition: float
    price: tuple[float, ...]


@dataclass(frozen=True)
class FFNChoice:
    """Which form was chosen among which, and why."""

    chosen: FFNForm
    forms: tuple[FFNForm, ...]
    reason: str


def by_products(graph: Graph) -> tuple[float, ...]:
    """Multiplications; then the operations that must follow one another; then the entries of embedding tables."""
    found = count(graph)
    tables = sum(math.prod(graph.weight_shapes[n.weights[0]]) for n in graph.nodes if n.op == "embedding")
    return (float(found.multiplications), float(found.depth), float(tables))


def eliminate_ffn(program: Program) -> Program:
    """The cheapest form by multiplications."""
    return choose_ffn_form(program)[0]


def choose_ffn_form(
    program: Program, *, price: Ranking = by_products, max_condition: float = MAX_CONDITION, form: str | None = None
) -> tuple[Program, FFNChoice | None]:
    """The program in the form that is chosen, and the choice; the program itself and None where no FFN is a matrix.
    form: the name of the one to take, by default what `price` says."""
    stream = find_stream(program.graph)
    if stream is None or not stream.matrices:
        return program, None
    plain = best_basis(program, stream, second_table=False)
    builders: list[tuple[str, float, Callable[[], Program]]] = [
        ("keep", 1.0, lambda: program),
        ("basis", plain.condition, lambda: change_basis(program, stream, plain)),
    ]
    if plain.condition > max_condition and stream.first_leaves_read_the_source:
        second = best_basis(program, stream, second_table=True)
        if second.segment > 0:
            builders.append(("basis, 2 tables", second.condition, lambda: change_basis(program, stream, second)))
    carried = carry(program, stream)
    builders += [
        ("carry", 1.0, lambda: carried),
        ("carry, merged", 1.0, lambda: merge_output_projection(carried)),
    ]
    programs: dict[str, Program] = {}
    forms = []
    for name, condition, build in builders:
        if not math.isfinite(condition) or condition > 1e12:
            forms.append(FFNForm(name, condition, (math.inf,)))  # not worth building: the inverse would be noise
            continue
        programs[name] = build()
        forms.append(FFNForm(name, condition, price(programs[name].graph)))
    usable = [f for f in forms if f.condition <= max(max_condition, 1.0) and form in (None, f.name)]
    if not usable:
        raise ValueError(f"no form {form!r} with a condition number of at most {max_condition:g}; give a larger one")
    chosen = min(usable, key=lambda f: (f.price, f.condition))
    reason = _reason(chosen, forms, max_condition) if form is None else "asked for"
    return programs[chosen.name], FFNChoice(chosen, tuple(forms), reason)


def _reason(chosen: FFNForm, forms: list[FFNForm], max_condition: float) -> str:
    cheaper = [form for form in forms if form.price < chosen.price]
    if cheaper:
        refused = ", ".join(f"{form.name} ({form.condition:.3g})" for form in cheaper)
        return f"the cheapest form whose condition number stays below {max_condition:g}; cheaper but not: {refused}"
    return f"the cheapest form; condition number {chosen.condition:.3g}, allowed {max_condition:g}"
