"""The whole way from a model to what engines run: lower, rewrite, verify."""

from __future__ import annotations

from typing import Any, Literal

from aero.compiler.compiled import Compiled, CompilerStage
from aero.compiler.encoder import EncoderModel
from aero.compiler.lower import lower
from aero.compiler.passes import (
    FOLDS,
    Pass,
    centre_residual,
    drop_attention_biases,
    join_gains,
    merge_branches,
    merge_linears,
    sink_scalar_gains,
    softmax_base_two,
)  # fmt: skip
from aero.compiler.passes.eliminate_ffn import MAX_CONDITION, FFNChoice, Ranking, by_products, choose_ffn_form
from aero.compiler.passes.rewrite import until_done
from aero.compiler.verify import verify, verify_rewritten
from aero.graph import Program
from aero.models import AeroForCausalLM


def compile(
    model: AeroForCausalLM,
    context: int | None = None,
    *,
    price: Ranking = by_products,
    max_condition: float = MAX_CONDITION,
    softmax_base: Literal["e", "2"] = "e",
    form: str | None = None,
    check: bool = True,
) -> Compiled:
    """Compile a model for up to `context` tokens (by default, the model's own). The model is not altered.

    price: what decides between the forms of FFN elimination, by default multiplications.
    max_condition: the largest condition number of a matrix that may be inverted there.
    softmax_base: "2" for engines whose exponential is 2^x. form: of the FFNs, whatever its price.
    check: compare the result with the model, in float64.
    Raises ValueError where the context does not fit, VerificationError if a rewrite were wrong.
    """
    context = model.config.context if context is None else context
    lowered = lower(model, context, every_position=True)
    options: dict[str, Any] = {"price": price, "max_condition": max_condition, "softmax_base": softmax_base}
    program, stages, choice = rewrite(lowered, form=form, **options)
    verification = None
    if check:
        condition = choice.chosen.condition if choice is not None else 1.0
        verification = verify(program, model, lowered=lowered, condition=condition)
    return Compiled(program, stages, choice, verification, model.config.end_tokens)


def compile_encoder(
    encoder: EncoderModel, context: int | None = None, *, softmax_base: Literal["e", "2"] = "e", check: bool = True
) -> Compiled:
    """Compile an encoder for texts of up to `context` tokens, as above; check: compare with it as it was imported."""
    lowered = encoder.program(encoder.structure.context if context is None else context)
    program, stages, _ = rewrite(lowered, softmax_base=softmax_base)
    verification = verify_rewritten(program, lowered) if check else None
    return Compiled(program, stages, verification=verification, task=encoder.task)


def rewrite(
    program: Program,
    *,
    price: Ranking = by_products,
    max_condition: float = MAX_CONDITION,
    softmax_base: Literal["e", "2"] = "e",
    form: str | None = None,
) -> tuple[Program, tuple[CompilerStage, ...], FFNChoice | None]:
    """Every exact pass; the stages that changed something, and the form of the FFNs."""
    choice: FFNChoice | None = None
    steps: list[tuple[str, tuple[Pass, ...]]] = [
        ("constants into weights", ()),
        ("attention biases", (drop_attention_biases,)),
        ("linear layers multiplied", (merge_linears, merge_branches)),
        ("residual gains", (sink_scalar_gains,)),
        ("FFN elimination", (drop_attention_biases,)),  # keys and values get new constants there
        ("gains of post-norms", (join_gains, drop_attention_biases)),
        ("centred residual stream", (centre_residual,)),
    ]
    if softmax_base == "2":
        steps.append(("softmax in base 2", (softmax_base_two,)))
    stages = [CompilerStage("as trained", program.graph)]
    for name, passes in steps:
        before = program
        if name == "FFN elimination":  # once: its choice would else be made again among what it has made
            program, choice = choose_ffn_form(program, price=price, max_condition=max_condition, form=form)
        program = until_done(lambda p, passes=passes: _apply((*passes, *FOLDS), p), program)  # type: ignore[misc]
        if program is not before:
            stages.append(CompilerStage(name, program.graph))
    return program, tuple(stages), choice


def _apply(passes: tuple[Pass, ...], program: Program) -> Program:
    for apply_pass in passes:
        program = apply_pass(program)
    return program
