"""Draw the figures of the docs: who holds and sees what, the ladder, and the results, from the records beside them.

    python benchmarks/figures.py --out docs/figures

One SVG each, for light and dark pages: where the reader's page is dark, a style in the file exchanges its colours.
Records: forward.json and generate.json (`aero bench forward`, `aero bench generate`), published.json (papers), and
study.json (perplexities of `aero bench study`, three seeds each; bytes and rounds of `aero cost --preset nano`).
"""

from __future__ import annotations

import argparse
import json
import re
from io import StringIO
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from aero.files.atomic import write_text
from aero.report.record import Record, read_records

RECORDS = Path(__file__).parents[1] / "docs" / "figures"
# On light pages, and on dark ones.
INK, MUTED, FAINT, PANEL = "#1f2937", "#64748b", "#cbd5e1", "#f1f5f9"
CLIENT, SERVER, OURS, PEERS = "#2563eb", "#c2410c", "#0f766e", "#94a3b8"
DARK = {INK: "#e5e7eb", MUTED: "#94a3b8", FAINT: "#475569", PANEL: "#1e293b"}
DARK |= {CLIENT: "#60a5fa", SERVER: "#fb923c", OURS: "#2dd4bf", PEERS: "#64748b"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "aero", "font.size": 11, "text.color": INK}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
KEPT = {
    "SM+LN+G": ("softmax", "LayerNorm", "GELU"),
    "SM+LN+R": ("softmax", "LayerNorm", "ReLU"),
    "SM+R": ("softmax", "ReLU"),
    "SM+ScFuFFN": ("softmax",),
}


def save(figure: Figure, path: Path, title: str) -> None:
    """An SVG that reads aloud as its title, with the reader's own font, and colours for light and dark."""
    text = StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Title": title})
    svg = re.sub(r"font: (\w+ )*([\d.]+px)[^;\"]*", lambda m: f"font: {m[1] or ''}{m[2]} {FONT}", text.getvalue())
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    svg = svg.replace("<defs>", f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>\n <defs>", 1)
    write_text(path, re.sub(r"[ \t]+\n", "\n", svg))


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A page of so many points, measured from its upper left corner."""
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, fill: str = "none") -> None:
    shape = "round,pad=0,rounding_size=8"
    axes.add_patch(FancyBboxPatch((x, y), width, height, shape, edgecolor=colour, facecolor=fill, linewidth=1.4))


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, color=colour, linewidth=1.6))


def parties(path: Path) -> None:
    """What each party holds, sees and sends."""
    figure, axes = canvas(480, 358)
    sides = (
        (8, CLIENT, "You", ("your text", "its tokens"), ("the logits of the", "next token")),
        (324, SERVER, "The server", ("the model's weights",), ("how many tokens,", "and when")),
    )
    for x, colour, name, holds, learns in sides:
        box(axes, x, 8, 148, 222, colour, PANEL)
        axes.text(x + 12, 32, name, color=colour, size=15, weight="bold")
        axes.text(x + 12, 60, "holds", color=MUTED, size=10)
        for line, held in enumerate(holds):
            axes.text(x + 12, 79 + 18 * line, held)
        axes.text(x + 12, 124, "learns", color=MUTED, size=10)
        for line, learnt in enumerate(learns):
            axes.text(x + 12, 143 + 18 * line, learnt)
        axes.text(x + 12, 193, "sends", color=MUTED, size=10)
        axes.text(x + 12, 212, "masked numbers")
    for y, ends, colour, hexadecimal in (
        (92, (164, 316), CLIENT, "9f 3c 71 e0 b8 …"),
        (150, (316, 164), SERVER, "24 d7 0a 5e c3 …"),
    ):
        axes.text(240, y - 10, hexadecimal, ha="center", color=colour, family="monospace")
        arrow(axes, (ends[0], y), (ends[1], y), colour)
    axes.text(240, 178, "random to whoever", ha="center", color=MUTED, size=10)
    axes.text(240, 192, "receives it", ha="center", color=MUTED, size=10)
    box(axes, 8, 246, 464, 104, FAINT)
    axes.text(
        240,
        270,
        "a number inside the network is split in two (here modulo 2³², 16 bits of fraction)",
        ha="center",
        color=MUTED,
        size=10,
    )
    for x, width, text, colour in (
        (24, 100, "0.7312", INK),
        (160, 134, "0x91c4f0e2", CLIENT),
        (326, 134, "0x6e3bca4e", SERVER),
    ):
        box(axes, x, 282, width, 34, colour, PANEL)
        axes.text(x + width / 2, 304, text, ha="center", color=colour, family="monospace", size=12)
    axes.text(142, 304, "=", ha="center", size=14)
    axes.text(310, 304, "+", ha="center", size=14)
    axes.text(74, 336, "nobody has it", ha="center", color=MUTED, size=10)
    axes.text(227, 336, "yours: random alone", ha="center", color=MUTED, size=10)
    axes.text(393, 336, "its: random alone", ha="center", color=MUTED, size=10)
    save(figure, path, "What client and server hold, learn and send")


STEPS = (
    ("client", "text becomes token ids", "on your machine; nothing is sent"),
    ("both", "keys are exchanged", "once for a session"),
    ("both", "ids are looked up", "the server cannot see which rows of its table"),
    ("both", "products with weights", "on your ciphertexts and its weights"),
    ("both", "softmax", "on shares, by oblivious transfer: the most bytes"),
    ("server", "its half of the logits is sent", "only you can put both halves together"),
    ("client", "you choose the token", "and the next one begins"),
)


def steps(path: Path) -> None:
    """What happens for one token, in order, on whose side."""
    height = 46 + 56 * len(STEPS)
    figure, axes = canvas(480, height)
    for x, name, colour in ((24, "you", CLIENT), (64, "server", SERVER)):
        axes.text(x, 20, name, ha="center", color=colour, weight="bold")
        axes.plot([x, x], [30, height - 8], color=colour, linewidth=1.6, alpha=0.5)
    for index, (who, what, note) in enumerate(STEPS):
        y = 58 + 56 * index
        colour = {"client": CLIENT, "server": SERVER, "both": INK}[who]
        if who == "both":
            arrow(axes, (24, y - 4), (64, y - 4), CLIENT)
            arrow(axes, (64, y + 6), (24, y + 6), SERVER)
        elif who == "server":
            arrow(axes, (64, y), (24, y), colour)
        else:
            axes.plot([24], [y], marker="o", markersize=9, color=colour)
        axes.text(96, y, what, size=12.5, color=colour, weight="bold" if who == "both" else "normal")
        axes.text(96, y + 17, note, color=MUTED, size=10.5)
    bottom, top = 58 + 56 * 3 - 20, 58 + 56 * 4 + 24
    axes.plot([466, 472, 472, 466], [bottom, bottom, top, top], color=MUTED, linewidth=1.2)
    axes.text(462, (bottom + top) / 2 + 4, "in every layer", ha="right", color=MUTED, size=10.5)
    save(figure, path, "How one token is computed privately, step by step")


def both_ways(record: Record) -> float:
    """Bytes in both directions together."""
    assert record.bytes_client_to_server is not None and record.bytes_server_to_client is not None
    return record.bytes_client_to_server + record.bytes_server_to_client


def forwards(network: str = "loopback", engine: str = "two-party") -> dict[str, Record]:
    """The measured forward passes, by architecture."""
    records = read_records(RECORDS / "forward.json")
    return {str(r.notation): r for r in records if (r.engine, r.extra["network"]) == (engine, network)}


def published() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((RECORDS / "published.json").read_text())
    return found


def ladder(path: Path) -> None:
    """Fewer kinds of nonlinear operations, fewer bytes; at which perplexity, as the papers publish it."""
    measured = forwards()
    perplexity = {str(row["notation"]): row["perplexity"] for row in published() if row["perplexity"]}
    figure, axes = canvas(480, 62 + 62 * len(KEPT))
    colours = {"softmax": OURS, "LayerNorm": SERVER, "GELU": CLIENT, "ReLU": CLIENT}
    for x, head, align in (
        (12, "what the model keeps", "left"),
        (300, "MB sent", "left"),
        (468, "perplexity", "right"),
    ):
        axes.text(x, 22, head, color=MUTED, size=10.5, ha=align)
    largest = max(both_ways(measured[name]) for name in KEPT)
    for index, (name, kept) in enumerate(KEPT.items()):
        y = 40 + 62 * index
        axes.text(12, y + 12, name, weight="bold")
        for place, operation in enumerate(kept):
            box(axes, 12 + 92 * place, y + 20, 84, 24, colours[operation], PANEL)
            axes.text(54 + 92 * place, y + 36, operation, ha="center", color=colours[operation], size=10.5)
        size = both_ways(measured[name])
        axes.barh(y + 31, 100 * size / largest, height=20, left=300, color=OURS)
        axes.text(300, y + 14, f"{size / 1e6:,.0f}", size=11)
        axes.text(468, y + 36, f"{perplexity[name]:.2f}", ha="right", size=12)
    last = f"{perplexity['EReg(SM(t)+ScFuFFN)']:.2f} with entropy regularisation"
    axes.text(468, 52 + 62 * len(KEPT), last, color=MUTED, size=10.5, ha="right")
    save(figure, path, "The ladder: fewer nonlinear operations, fewer bytes, and the perplexity that it costs")


def peers(path: Path) -> None:
    """Gigabytes for the next token's logits: published, measured on SPU, and our own engine's."""
    rows: list[tuple[str, str, float, str]] = []
    for row in published():
        if row["gigabytes"] and not str(row["notation"]).startswith("EReg"):
            quality = f"{row['context']} tokens"
            if row["seconds"]:
                quality = f"perplexity {row['perplexity']:.2f}, {float(str(row['seconds'])) / 60:.1f} min"
            rows.append((str(row["notation"]), f"published: {row['engine']}", float(str(row["gigabytes"])), quality))
    for label, engine in (("measured: SPU, Cheetah", "spu-cheetah"), ("measured: this engine", "two-party")):
        for name in ("SM+LN+G", "SM+LN+R", "SM+ScFuFFN"):
            record = forwards(engine=engine)[name]
            rows.append((name, label, both_ways(record) / 1e9, f"{record.seconds:,.0f} s, loopback"))
    groups = list(dict.fromkeys(label for _, label, _, _ in rows))
    figure, axes = canvas(480, 26 * len(rows) + 30 * len(groups) + 8)
    largest, y, last = max(size for _, _, size, _ in rows), 4, ""
    for name, label, size, quality in sorted(rows, key=lambda row: groups.index(row[1])):
        ours = "this engine" in label
        if label != last:
            y, last = y + 30, label
            axes.text(12, y - 8, label, color=OURS if ours else MUTED, size=11, weight="bold" if ours else "normal")
        axes.text(12, y + 13, name, size=11)
        width = 150 * size / largest
        axes.barh(y + 9, width, height=16, left=108, color=OURS if ours else PEERS)
        number = f"{size:.2f} GB" if size >= 1 else f"{size * 1000:.0f} MB"
        axes.text(114 + width, y + 13, number, size=11, weight="bold" if ours else "normal")
        axes.text(468, y + 13, quality, size=10, color=MUTED, ha="right")
        y += 26
    save(figure, path, "Gigabytes sent for one token after 128, published and measured")


def quality(path: Path) -> None:
    """Ten architectures trained alike: bytes, and perplexity with its deviation over seeds."""
    rows = json.loads((RECORDS / "study.json").read_text())
    figure, axes = canvas(480, 44 + 26 * len(rows))
    largest = max(row["bytes"] for row in rows)
    least = min(row["perplexity"] - row["deviation"] for row in rows)
    most = max(row["perplexity"] + row["deviation"] for row in rows)
    for x, head, align in ((172, "MB sent", "left"), (468, "perplexity, and its deviation", "right")):
        axes.text(x, 20, head, color=MUTED, size=10.5, ha=align)
    for index, row in enumerate(rows):
        y = 30 + 26 * index
        axes.text(12, y + 14, row["notation"], size=11)
        axes.barh(y + 10, 70 * row["bytes"] / largest, height=14, left=172, color=OURS)
        axes.text(177 + 70 * row["bytes"] / largest, y + 14, f"{row['bytes'] / 1e6:.0f}", size=11)
        ends = [
            300 + 120 * (row["perplexity"] + sign * row["deviation"] - least) / (most - least) for sign in (-1, 0, 1)
        ]
        axes.plot([ends[0], ends[2]], [y + 10, y + 10], color=PEERS, linewidth=3)
        axes.plot([ends[1]], [y + 10], marker="o", markersize=6, color=CLIENT)
        axes.text(468, y + 14, f"{row['perplexity']:.1f}", size=11, ha="right")
    save(figure, path, "Bytes and perplexity of ten architectures, trained alike")


def networks(path: Path) -> None:
    """Seconds by network: a prompt of 128 tokens, and each token after it."""
    names = {"loopback": "same machine", "lan": "1 Gbit/s, 0.2 ms", "wan": "100 Mbit/s, 80 ms"}
    tokens = [r for r in read_records(RECORDS / "generate.json") if r.work == "next-token"]
    figure, axes = canvas(480, 292)
    y = 0.0
    largest = max(forwards(network)["SM+LN+G"].seconds or 0 for network in names)
    for name in ("SM+LN+G", "SM+ScFuFFN"):
        axes.text(12, y + 22, f"{name}, a prompt of 128 tokens", size=11, weight="bold")
        for index, (network, label) in enumerate(names.items()):
            seconds = forwards(network)[name].seconds or 0.0
            _second_bar(axes, y + 32 + 24 * index, label, seconds, largest)
        y += 112
    axes.text(12, y + 8, "SM+ScFuFFN, each token after it", size=11, weight="bold")
    for index, network in enumerate(("loopback", "wan")):
        times = [r.seconds for r in tokens if r.extra["network"] == network and r.seconds is not None]
        _second_bar(axes, y + 18 + 24 * index, names[network], sum(times) / len(times), largest)
    save(figure, path, "Seconds on three networks")


def _second_bar(axes: Axes, y: float, label: str, seconds: float, largest: float) -> None:
    axes.text(12, y + 12, label, size=10.5, color=MUTED)
    axes.barh(y + 8, 270 * seconds / largest, height=14, left=138, color=OURS)
    axes.text(144 + 270 * seconds / largest, y + 12, f"{seconds:.3g} s", size=11)


FIGURES = {
    "parties": parties,
    "steps": steps,
    "ladder": ladder,
    "peers": peers,
    "quality": quality,
    "networks": networks,
}


def main(out: Path) -> None:
    """Writes every figure into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, draw in FIGURES.items():
            draw(out / f"{name}.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    main(parser.parse_args().out)
