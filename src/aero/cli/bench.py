"""`aero bench ...`: measure on this machine. Each sub-verb is a file in `aero/cli/benches`; add it to `_BENCHES`."""

from __future__ import annotations

from collections.abc import Callable

import typer

from aero.cli.benches.calibrate import calibrate
from aero.cli.benches.compile import compile_
from aero.cli.benches.forward import forward
from aero.cli.benches.generate import generate
from aero.cli.benches.kernels import kernels
from aero.cli.benches.linear import linear
from aero.cli.benches.ot import ot
from aero.cli.benches.study import study
from aero.cli.benches.training import training

bench = typer.Typer(help="Measure on this machine.", no_args_is_help=True, add_completion=False)

_BENCHES: dict[str, Callable[..., None]] = {
    "calibrate": calibrate,
    "compile": compile_,
    "forward": forward,
    "generate": generate,
    "kernels": kernels,
    "linear": linear,
    "ot": ot,
    "study": study,
    "training": training,
}
for _name, _function in _BENCHES.items():
    bench.command(_name)(_function)
