"""`aero`: from text to a privately computed token. Each verb is a file beside this one.

A verb imports what is heavy (torch, JAX, matplotlib) inside its function, so that `aero --help` is quick and a client
needs no more than it uses.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import aero
from aero.cli import streams
from aero.cli.adapt import adapt
from aero.cli.bench import bench
from aero.cli.chat import chat
from aero.cli.classify import classify
from aero.cli.compile import compile_
from aero.cli.convert import convert
from aero.cli.cost import cost
from aero.cli.data import data
from aero.cli.demo import demo
from aero.cli.embed import embed
from aero.cli.entropy import entropy
from aero.cli.eval import eval_
from aero.cli.generate import generate
from aero.cli.keys import keys
from aero.cli.ladder import ladder
from aero.cli.proxy import proxy
from aero.cli.recipe import recipe
from aero.cli.report import report
from aero.cli.search import search
from aero.cli.serve import serve
from aero.cli.train import train
from aero.cli.window import window
from aero.wire import PeerBusyError, safe_text

app = typer.Typer(
    help="AERO: language models made for private inference. A client keeps its prompt, a server keeps its weights, "
    "and the client gets the next token by two-party cryptography.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Start here": {"demo": demo},
    "Train": {
        "data": data,
        "train": train,
        "recipe": recipe,
        "ladder": ladder,
        "search": search,
        "adapt": adapt,
        "convert": convert,
        "eval": eval_,
        "entropy": entropy,
        "window": window,
    },
    "Serve": {
        "compile": compile_,
        "keys": keys,
        "serve": serve,
        "generate": generate,
        "chat": chat,
        "embed": embed,
        "classify": classify,
        "proxy": proxy,
    },
    "Measure": {"cost": cost, "report": report},
}
for _group, _verbs in _VERBS.items():
    for _name, _function in _verbs.items():
        app.command(_name, rich_help_panel=_group)(_function)
app.add_typer(bench, name="bench", rich_help_panel="Measure")

# What libraries read when they are imported, unless the user has set it.
ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # of transformers, too; the verbs show progress of their own
    "HF_HUB_VERBOSITY": "error",  # it tells of every retry
    "TRANSFORMERS_VERBOSITY": "error",  # Trainer warns of a tied projection as of a missing weight
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait starve a busy machine
}
TRY_AGAIN = 75
"""Exit code where a server has no place: EX_TEMPFAIL of sysexits.h."""
_debug = False


def _version(wanted: bool) -> None:
    if wanted:
        from aero.kernels import native

        print(f"aero {aero.__version__}, kernels: {native.level()} (of {', '.join(native.available_levels())})")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and the log.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and the kernels' level.", is_eager=True, callback=_version),
    ] = False,
) -> None:
    global _debug
    _debug = debug
    streams.prepare()
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    _show_warnings()


class _Warnings(logging.Handler):
    """Shows what our own packages warn of, such as a damaged checkpoint that was passed over, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        text = escape(safe_text(record.getMessage()))
        Console(stderr=True).print(f"[yellow]warning:[/yellow] {text}", soft_wrap=True, highlight=False)


def _show_warnings() -> None:
    logger = logging.getLogger("aero")
    if not _debug and not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


def main() -> None:
    """Run a verb. Any error ends in one line on standard error and a non-zero exit code."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except KeyboardInterrupt:
        _fail("interrupted", code=130)
    except PeerBusyError as error:
        _fail(str(error), code=TRY_AGAIN)
    except ModuleNotFoundError as error:
        if _debug:
            raise
        extra = _extra(error.name)
        _fail(f"the Python package {error.name!r} is missing: pip install 'aero-private-inference[{extra}]'")
    except Exception as error:
        if _debug:
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        _fail(message)
    finally:
        streams.finish()


_PROXY = ("uvicorn", "starlette", "prometheus_client")


def _extra(package: str | None) -> str:
    root = (package or "").split(".")[0]
    return {
        "spu": "spu",
        "jax": "spu",
        "psycopg": "postgresql",
        "matplotlib": "plot",
        "ray": "cluster",
        "lm_eval": "eval",
        **dict.fromkeys(_PROXY, "proxy"),
    }.get(root, "train")


def _fail(message: str, code: int = 1) -> None:
    Console(stderr=True).print(f"[red]error:[/red] {escape(safe_text(message))}", soft_wrap=True, highlight=False)
    sys.exit(code)


if __name__ == "__main__":
    main()
