"""`aero compile`: a trained run becomes the cheapest graph that computes the same function."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from aero.cli.console import wide_console
from aero.cli.options import RunFolder, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from rich.console import Console

    from aero.compiler.compiled import Compiled
    from aero.compiler.quantize import Accuracy, Quantized
    from aero.cost.pricing import Pricing
    from aero.graph import Graph
    from aero.graph.ring_plan import RingPlan
    from aero.models import AeroForCausalLM


def compile_(
    run: RunFolder,
    out: Annotated[Path, typer.Option(help="Folder for the compiled model.")],
    context: Annotated[int | None, typer.Option(help="Tokens at most; by default the model's own.", min=1)] = None,
    softmax_base: Annotated[str, typer.Option(help="2 for engines whose exponential is 2^x, or e.")] = "2",
    max_condition: Annotated[
        float, typer.Option(help="Largest condition number of a matrix that FFN elimination may invert.", min=1)
    ] = 1e3,
    ring_plan: Annotated[
        bool, typer.Option("--ring-plan/--no-ring-plan", help="Choose number formats from calibration text.")
    ] = True,
    data: Annotated[Path | None, typer.Option(help="Data folder to calibrate on; by default the run's own.")] = None,
    calibration: Annotated[int, typer.Option(help="Blocks of text to calibrate on.", min=1)] = 16,
    test: Annotated[int, typer.Option(help="Further blocks, to measure the accuracy on.", min=1)] = 8,
    outside: Annotated[
        Path | None,
        typer.Option(help="Text unlike the data, for score windows; by default random tokens."),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="Of an encoder: texts to calibrate on, one on each line; by default random tokens."),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="Prices of the table, as in `aero cost`: of our own engine, or for example spu-cheetah.")
    ] = "two-party",
    force: Annotated[bool, typer.Option("--force", help="Replace a compiled model.")] = False,
    json: Annotated[Path | None, json_option("Also write table and report here.")] = None,
) -> None:
    """Compile a run: exact rewrites, each checked, then number formats, the one lossy step.

    Form, formats and moduli are chosen so that each step of a session has room for noise, of any number of rows that a
    server may be asked for; what nothing can carry is refused.

    An encoder that `aero convert` made is compiled likewise, and calibrated on --texts.

    Writes OUT/{compiled.json, graph.json, weights.safetensors, ring_plan.json} and the tokenizer's files, with its chat
    template; `aero serve OUT` serves it. MB are 10^6 bytes, both directions. --json writes an object: run, notation,
    context, table (a row for each step), ffn (the form chosen, why, conditions), verification, and of number formats
    accuracy, proven, ranges and moduli (bits, of products that take larger ones than usual).
    """
    from aero.cli.calibration import calibration_blocks
    from aero.cli.served import fit
    from aero.compiler.compile import compile
    from aero.compiler.folder import INFO_FILE
    from aero.compiler.run import is_encoder, load_model
    from aero.cost.pricing import pricing
    from aero.files.atomic import check_replaceable
    from aero.report.record import write_json

    if softmax_base not in ("e", "2"):
        raise ValueError(f"softmax_base is {softmax_base!r}; choose e or 2")
    base: Literal["e", "2"] = "2" if softmax_base == "2" else "e"
    check_replaceable(out, INFO_FILE, force)
    console = wide_console()
    prices = pricing(profile)
    if is_encoder(run):
        if data is not None or outside is not None:
            raise ValueError(f"{run} is an encoder, which is calibrated on --texts; leave --data and --outside out")
        numbers = calibration, test
        found = _compile_encoder(run, out, context, base, ring_plan, texts, numbers, profile, force, console)
        if json is not None:
            write_json(json, found)
        return
    if texts is not None:
        raise ValueError(f"{run} is no encoder: it is calibrated on --data")
    model = load_model(run)
    notation = str(model.config.notation)
    with console.status("compiling"):
        compiled = compile(model, context, max_condition=max_condition, softmax_base=base)
    plan, formats = None, None
    if ring_plan:
        with console.status("choosing number formats"):
            seen, unseen, strange = calibration_blocks(run, compiled, data, calibration, test, outside)
            served = fit(model, compiled, seen, strange, max_condition=max_condition, softmax_base=base)
            compiled, formats, plan = served.compiled, served.quantized, served.quantized.plan
            accuracy = _accuracy(compiled, plan, unseen)
    rows = _rows(model, compiled, prices)
    console.print(_table(f"{notation}, {compiled.context} tokens, profile {profile}", rows))
    report = _report(compiled)
    for line in _explain(compiled):
        console.print(line, soft_wrap=True, markup=False)
    if formats is not None:
        report |= _quantization_report(formats, accuracy)
        for line in _explain_plan(formats, accuracy):
            console.print(line, soft_wrap=True, markup=False)
    _write(run, out, compiled, notation, plan, report, force, console)
    if json is not None:
        write_json(json, {"run": str(run), "notation": notation, "context": compiled.context, "table": rows, **report})


def _write(
    run: Path,
    out: Path,
    compiled: Compiled,
    notation: str,
    plan: RingPlan | None,
    report: dict[str, Any],
    force: bool,
    console: Console,
) -> None:
    from aero.compiler.folder import INFO_FILE, write
    from aero.data import chat_template, tokenizer
    from aero.files.atomic import new_folder
    from aero.files.reading import present

    with new_folder(out, INFO_FILE, force) as folder:
        for name in (tokenizer.FILE, tokenizer.CONFIG_FILE, chat_template.FILE):
            if present(run / name):
                shutil.copyfile(run / name, folder / name)
        info = write(folder, compiled, notation, plan=plan, report=report)
    console.print(f"wrote {out} (graph {info.digest[:12]})", soft_wrap=True, markup=False)


def _compile_encoder(
    run: Path,
    out: Path,
    context: int | None,
    base: Literal["e", "2"],
    ring_plan: bool,
    texts: Path | None,
    numbers: tuple[int, int],
    profile: str,
    force: bool,
    console: Console,
) -> dict[str, Any]:
    """What `--json` writes. numbers: of texts to calibrate on, and to test on."""
    from aero.cli.encoders import encoder_formats, output_accuracy, texts_of
    from aero.compiler.compile import compile_encoder
    from aero.compiler.positions import prefill_graph
    from aero.compiler.run import load_encoder
    from aero.cost.pricing import pricing

    prices = pricing(profile)
    encoder = load_encoder(run)
    with console.status("compiling"):
        compiled = compile_encoder(encoder, context, softmax_base=base)
    rows = [
        {"step": stage.name, **_numbers(prefill_graph(stage.graph, compiled.context), prices)}
        for stage in compiled.stages
    ]
    title = f"{encoder.notation}, to {compiled.task.kind}, {compiled.context} tokens, profile {profile}"
    console.print(_table(title, rows))
    report, lines, plan = _report(compiled), _explain(compiled), None
    if ring_plan:
        with console.status("choosing number formats"):
            found = texts_of(run, compiled, texts, *numbers)
            formats = encoder_formats(compiled, found)
            accuracy, plan = output_accuracy(compiled, formats, found.test), formats.plan
        report |= _plan_report(formats) | {"accuracy": vars(accuracy)}
        lines += [
            *_explain_formats(formats),
            f"outputs in fixed point: off by {accuracy.largest:.1e} at most, {accuracy.relative:.1e} of the largest; "
            f"cosine with those in float64 at least {accuracy.cosine:.7f}, on {accuracy.texts} texts",
            *_explain_windows(plan),
        ]
        if not found.known:
            lines.append("number formats come from random tokens; better ones, and score windows, from --texts FILE")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    _write(run, out, compiled, encoder.notation, plan, report, force, console)
    task = {"task": compiled.task.to_json()}
    return {"run": str(run), "notation": encoder.notation, "context": compiled.context, **task, "table": rows, **report}


# --- before and after -----------------------------------------------------------------------------------------------


def _rows(model: AeroForCausalLM, compiled: Compiled, prices: Pricing) -> list[dict[str, Any]]:
    """One row for each step; the last position's logits throughout, and in the end those of one more token."""
    from aero.compiler.lower import lower
    from aero.compiler.positions import prefill_graph

    length, first = compiled.context, compiled.stages[0]
    graphs: list[tuple[str, Graph]] = [
        ("as trained", lower(model, length).graph),
        ("last position only", prefill_graph(first.graph, length)),
        *((stage.name, prefill_graph(stage.graph, length)) for stage in compiled.stages[1:]),
    ]
    if length > 1:
        graphs.append(("one more token", compiled.decode(length - 1).graph))
    return [{"step": name, **_numbers(graph, prices)} for name, graph in graphs]


def _numbers(graph: Graph, prices: Pricing) -> dict[str, Any]:
    from aero.cost import estimate
    from aero.graph.count import count

    found, profile = count(graph), prices(graph, None)
    total = estimate(graph, profile).total
    return {
        "operations": found.operations,
        "multiplications": found.multiplications,
        "nonlinear_elements": found.nonlinear,
        "depth": found.depth,
        "profile": profile.name,
        "bytes_both_ways": total.bytes_both_ways,
        "rounds": total.rounds,
    }


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("after", no_wrap=True)
    for heading in ("operations", "10^6 products", "nonlinear elements", "depth", "MB", "rounds"):
        table.add_column(heading, justify="right")
    for row in rows:
        size, rounds = row["bytes_both_ways"], row["rounds"]
        cells = [
            str(row["operations"]),
            f"{row['multiplications'] / 1e6:,.2f}",
            f"{row['nonlinear_elements']:,}",
            str(row["depth"]),
            "?" if size is None else f"{size / 1e6:,.1f}",
            "?" if rounds is None else f"{rounds:,.0f}",
        ]
        if row["step"] == "one more token":
            table.add_section()
        table.add_row(row["step"], *cells)
    return table


def _explain(compiled: Compiled) -> list[str]:
    lines = []
    if compiled.ffn is not None:
        lines.append(f"FFNs: {compiled.ffn.chosen.name}, {compiled.ffn.reason}")
    if (found := compiled.verification) is not None:
        lines.append(
            f"verified on {found.positions} positions in float64: largest difference of a logit "
            f"{found.max_abs_error:.1e}, of which roundings explain {found.tolerance:.1e}"
        )
    return lines


def _report(compiled: Compiled) -> dict[str, Any]:
    report: dict[str, Any] = {}
    if compiled.ffn is not None:
        report["ffn"] = {
            "form": compiled.ffn.chosen.name,
            "reason": compiled.ffn.reason,
            # JSON has no infinity.
            "conditions": {f.name: f.condition if math.isfinite(f.condition) else None for f in compiled.ffn.forms},
        }
    if compiled.verification is not None:
        report["verification"] = vars(compiled.verification)
    return report


# --- number formats -------------------------------------------------------------------------------------------------


def _accuracy(compiled: Compiled, plan: RingPlan, unseen: Sequence[np.ndarray]) -> Accuracy:
    from aero.compiler.quantize import accuracy
    from aero.engines.insecure.plain import InsecurePlainEngine

    engine = InsecurePlainEngine(plan)

    def in_fixed_point(graph: Graph, weights: Any, ids: np.ndarray) -> np.ndarray:
        return engine.run(graph, weights=weights, ids=ids)

    return accuracy(compiled.program, plan, unseen, in_fixed_point)


def _explain_formats(quantized: Quantized) -> list[str]:
    plan = quantized.plan
    return [
        f"number formats: values up to {max(f.bits for f in plan.values.values())} bits, products up to "
        f"{max(plan.products.values())}; {len(quantized.proven)} of {len(plan.values)} values can overflow on no text",
        _explain_room(plan),
    ]


def _explain_plan(quantized: Quantized, accuracy: Accuracy) -> list[str]:
    formats, room = _explain_formats(quantized)
    return [
        formats,
        f"error of a logit in fixed point: predicted {accuracy.predicted:.1e} (rms), measured {accuracy.measured:.1e}, "
        f"at most {accuracy.largest:.1e}; same token at {accuracy.same_token:.1%} of {accuracy.positions} positions",
        f"perplexity on them {accuracy.perplexity:.3f} in float64, {accuracy.perplexity_change:+.4%} in fixed point",
        room,
        *_explain_windows(quantized.plan),
    ]


def _explain_windows(plan: RingPlan) -> list[str]:
    windows = plan.windows
    if not windows:
        return []
    apart = max(w.reference for w in windows) - min(w.reference - w.spread for w in windows)
    return [
        f"score windows: row maxima lie within {max(w.spread for w in windows):.1f} of a head's reference, "
        f"{apart:.1f} of one for all heads; "
        f"text unlike the data went {max(w.margin for w in windows):.2f} above"
    ]


def _explain_room(plan: RingPlan) -> str:
    if not plan.moduli:
        return "noise: room in every step of a session, of one prompt or several, at the usual moduli"
    larger = ", ".join(f"{name} ({bits} bits)" for name, bits in sorted(plan.moduli.items()))
    return f"noise: room in every step of a session, of one prompt or several, with larger moduli for {larger}"


def _quantization_report(quantized: Quantized, accuracy: Accuracy) -> dict[str, Any]:
    return {
        "accuracy": {**vars(accuracy), "perplexity_change": accuracy.perplexity_change},
        **_plan_report(quantized),
    }


def _plan_report(quantized: Quantized) -> dict[str, Any]:
    return {
        "proven": sorted(quantized.proven),
        "moduli": dict(quantized.plan.moduli),
        "ranges": {name: [r.seen, r.worst] for name, r in quantized.ranges.items()},
    }
