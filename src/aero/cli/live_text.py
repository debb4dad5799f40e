"""Text that grows on standard output while an engine works, with a line beneath it that says what the engine does."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text


class LiveText:
    """On a terminal, the begun line of text and the engine's progress are redrawn; what ends in a newline stays.
    Where standard output is a file or a pipe, it gets the text and nothing else."""

    def __init__(self) -> None:
        self._out, self._errors = Console(highlight=False), Console(stderr=True, highlight=False)
        self._line, self._progress = "", ""
        self._shown: list[str] = []
        shown = self._out if self._out.is_terminal else self._errors
        self._live = Live(console=shown, transient=True, refresh_per_second=8, get_renderable=self._render)

    def write(self, text: str) -> None:
        """Append to the text."""
        if not self._out.is_terminal:
            self._out.file.write(text)
            self._out.file.flush()
            self._line = (self._line + text).rpartition("\n")[2]
            return
        *done, self._line = (self._line + text).split("\n")
        for line in done:
            self._out.print(Text(line), soft_wrap=True)
        self._live.refresh()

    def show(self, texts: Sequence[str]) -> None:
        """Texts that grow at the same time, each redrawn in a line of its own, of which it shows the end."""
        self._shown = list(texts)
        if self._out.is_terminal:
            self._live.refresh()

    def end_line(self) -> None:
        """A newline, where a line has begun; no work is in hand any more."""
        self._progress = ""
        if self._line:
            self.write("\n")

    def note(self, text: str) -> None:
        """A line that is not part of the text, on standard error."""
        (self._out if self._out.is_terminal else self._errors).print(Text(text, style="dim"), soft_wrap=True)

    def progress(self, label: str, share: float) -> None:
        """What the engine does now, and how much of its run is done, in [0, 1]."""
        self._progress = f"{share:4.0%}  {label}"

    def __enter__(self) -> LiveText:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress = ""
        self._live.stop()
        if self._line:
            self.write("\n")

    def _render(self) -> RenderableType:
        line = [Text(self._line)] if self._line and self._out.is_terminal else []
        if self._out.is_terminal:
            width = max(self._out.width - 1, 1)
            line += [Text(text.replace("\n", " ")[-width:], no_wrap=True) for text in self._shown]
        return Group(
            *line, *([Text(self._progress, style="dim", overflow="ellipsis", no_wrap=True)] if self._progress else [])
        )
