"""Write the cost tables of docs/results-estimates.md: every rung of GPT-2 small, as the papers count it and compiled.

    python benchmarks/cost_table.py --out docs/results-estimates.md

Replaces what stands between the two marks in that file, and nothing else; makes the file where there is none.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sections import table, write_section

from aero.compiler.architecture import compiled_stages
from aero.cost import Estimate, estimate, load_profile
from aero.cost.estimate import seconds_on
from aero.cost.flops import paper_count
from aero.cost.profile import Profile
from aero.cost.published import TABLES
from aero.graph.count import count
from aero.models.notation import parse
from aero.wire.network import LAN, LOOPBACK, WAN

PROFILES = ("spu-cheetah", "aero-published", "bumblebee-published")
RUNGS = (
    "SM+LN+G", "SM+LN+R", "SM+LN", "SM+G", "SM+R", "SM", "SM+ScFFN", "SM+ScFuFFN",
    "SM+ScFuFFN_i6", "SM+ScFuFFN_i4", "SM+ScFuFFN_i1", "SM(t)+ScFuFFN",
)  # fmt: skip
# How many FFNs the papers prune there.
PRUNED = {"T=128": "_i6", "T=256": "_i6", "L=18": "_i4", "T=512": "_i1"}
STAGED = ("SM+LN+G", "SM+LN+R", "SM+ScFFN", "SM+ScFuFFN")


def rungs_of(table: str) -> list[str]:
    return [name for name in RUNGS if "_i" not in name or name.endswith(PRUNED[table])]


def gigabytes(found: Estimate | None) -> str:
    value = found.total.bytes_both_ways if found else None
    return "-" if value is None else f"{value / 1e9:.2f}"


def priced(graph, profile: Profile) -> Estimate | None:  # type: ignore[no-untyped-def]
    """None where the profile says nothing of such a model."""
    try:
        return estimate(graph, profile)
    except ValueError:
        return None


def rung_table(name: str, profiles: list[Profile]) -> list[str]:
    size = TABLES[name]
    head = ["network", "FFN GFLOPs", "attention GFLOPs", "nonlinear, as the papers list it", "10^6 products, compiled"]
    head += ["nonlinear elements, compiled"]
    for profile in profiles:
        head += [f"{profile.name}: GB as trained", "GB compiled"]
    head += ["spu-cheetah: rounds", "hours on lan", "hours on wan"]
    rows = []
    for rung in rungs_of(name):
        paper, stages = paper_count(parse(rung), size), compiled_stages(parse(rung), size)
        trained, compiled = stages[0].graph, stages[-1].graph
        cells = [rung, f"{paper.ffn_flops / 1e9:.1f}", f"{paper.attention_flops / 1e9:.1f}"]
        cells.append(", ".join(f"{key} {ops}" for key, ops in paper.nonlinear.items()))
        cells += [f"{count(compiled).multiplications / 1e6:,.0f}", f"{count(compiled).nonlinear:,}"]
        for profile in profiles:
            cells += [gigabytes(priced(trained, profile)), gigabytes(priced(compiled, profile))]
        spu = estimate(compiled, profiles[0]).total
        cells.append(f"{spu.rounds:,.0f}")
        cells += [f"{(seconds_on(network, spu).total or 0) / 3600:.2f}" for network in (LAN, WAN)]
        rows.append(cells)
    return [f"### {name}, {size.num_layers} layers, {size.vocab_size:,} words", "", *table(head, rows), ""]


def stage_table(name: str, profiles: list[Profile]) -> list[str]:
    size = TABLES[name]
    head = [
        "network",
        "after",
        "operations",
        "10^6 products",
        "nonlinear elements",
        "products and nonlinear in a chain",
    ]
    head += ["spu-cheetah: GB", "rounds", "s on loopback", "aero-published: GB"]
    rows = []
    for rung in STAGED:
        for index, stage in enumerate(compiled_stages(parse(rung), size)):
            counts, spu = count(stage.graph), estimate(stage.graph, profiles[0])
            cells = [rung if index == 0 else "", stage.name, str(counts.operations)]
            cells += [f"{counts.multiplications / 1e6:,.1f}", f"{counts.nonlinear:,}", str(counts.depth)]
            cells += [gigabytes(spu), f"{spu.total.rounds:,.0f}", f"{seconds_on(LOOPBACK, spu.total).total:,.0f}"]
            rows.append([*cells, gigabytes(priced(stage.graph, profiles[1]))])
    title = f"### After each step of the compiler, {name}, {size.num_layers} layers"
    return [title, "", *table(head, rows, words=2), ""]


def section() -> str:
    profiles: list[Profile] = [load_profile(name) for name in PROFILES]
    lines = ["## What a private forward pass costs", ""]
    lines += [
        "Made by `python benchmarks/cost_table.py --out docs/results-estimates.md`; nothing here was trained or run.",
        "GFLOPs and the nonlinear list count as the papers' tables do; products and nonlinear elements count what the",
        "compiled graph does, causal entries alone; GB are 10^9 bytes, both directions, set-up apart, estimated under",
        "each [profile](understand/cost.md); - where a profile says nothing of such a network. One prompt of T tokens,",
        "the last position's logits. SPU's figures are for one thread each; its seconds and hours rest on computing",
        "times measured on a busy machine, and its rounds are a lower estimate. Which form FFN elimination takes is",
        "chosen for well-conditioned weights.",
        "",
    ]
    for name in TABLES:
        lines += rung_table(name, profiles)
    for name in TABLES:
        lines += stage_table(name, profiles)
    return "\n".join(lines).rstrip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the file whose section is replaced")
    write_section(parser.parse_args().out, "cost tables", section())
