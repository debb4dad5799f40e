"""Results as a page that stands alone: one HTML file, pictures inside, no scripts and nothing fetched."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from aero.files.atomic import write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; }
th { text-align: left; background: #f4f4f4; } td + td { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; } img { max-width: 100%; }
.bar { display: flex; height: 1.6rem; margin: .2rem 0 .6rem; font: 12px/1.6rem system-ui, sans-serif; color: #fff; }
.bar span { overflow: hidden; white-space: nowrap; padding-left: .2rem; box-sizing: border-box; min-width: 1px; }
@media (prefers-color-scheme: dark) {
  body { background: #181818; color: #ddd; } th, pre { background: #262626; } th, td { border-color: #444; } }
"""


_COLOURS = ("#31688e", "#35b779", "#b5477d", "#c66b3d", "#5b5fc7", "#7a8b2f", "#8c564b", "#1f9e89", "#666666")


class Page:
    """Collects parts, then writes the page. All text is escaped."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        self._parts.append(f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>")

    def stacked_bars(self, bars: Iterable[tuple[str, Sequence[tuple[str, float]]]]) -> None:
        """One full-width bar for each quantity, cut into its named parts, which are not negative. A part has the same
        colour in every bar, and its figures where the pointer rests on it."""
        colours: dict[str, str] = {}
        for name, parts in bars:
            whole = sum(value for _, value in parts)
            spans = []
            for part, value in parts:
                colour = colours.setdefault(part, _COLOURS[len(colours) % len(_COLOURS)])
                share = value / whole if whole else 0.0
                label = html.escape(f"{part}: {value:.4g} {name}, {share:.0%}", quote=True)
                style = f"width: {100 * share:.2f}%; background: {colour}"
                spans.append(f'<span title="{label}" style="{style}">{html.escape(part)}</span>')
            self._parts.append(f'<p>{html.escape(f"{whole:.4g} {name}")}</p><div class="bar">{"".join(spans)}</div>')

    def png(self, path: Path, description: str) -> None:
        data = base64.b64encode(path.read_bytes()).decode()
        alt = html.escape(description, quote=True)
        self._parts.append(f'<p><img alt="{alt}" src="data:image/png;base64,{data}"></p>')

    def write(self, path: Path) -> None:
        """Write the page, atomically."""
        write_text(
            path,
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(self._title)}</title>'
            f"<style>{_STYLE}</style></head><body>{''.join(self._parts)}</body></html>\n",
        )
