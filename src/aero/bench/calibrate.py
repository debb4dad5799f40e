"""Calibration: SPU's cost of each operation, measured at several shapes between two processes, fitted to formulas.

Bytes and messages are what SPU's link counted. Rounds are measured, because SPU does not count them: the same graphs
run once more through relays that deliver everything `DELAY` later, and the time that this adds, divided by the delay,
is the number of message delays on the critical path. Computing time is processor time, so that a busy machine distorts
it little.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np

import aero
from aero.bench.delay import DelayRelay
from aero.cost.algebra import Declaration, Formula, Price
from aero.cost.profile import TableProfile
from aero.cost.quantities import quantities
from aero.engines.spu.engine import free_port
from aero.graph import Graph, Node
from aero.graph.ops import OPS, of_arithmetic
from aero.graph.ops.sheet import (
    Arithmetic,
    ElementProduct,
    Function,
    LookUp,
    Move,
    PublicProduct,
    SharedProduct,
    Sum,
    WeightProduct,
)
from aero.models.notation import parse
from aero.models.presets import Family, Size
from aero.mpc.party import Role
from aero.report.record import machine
from aero.structure import lowered

DELAY = 0.15
_TIME_LIMIT = 1800.0

# Vocabulary, positions, layers, heads, width; every operation at every size, up to where granularity matters little.
_SIZES = (
    Size(128, 16, 1, 2, 64),
    Size(512, 32, 1, 4, 64),
    Size(1024, 64, 1, 2, 128),
    Size(2048, 128, 1, 2, 128),
    Size(1024, 128, 1, 8, 256),
)
_FAMILIES: tuple[tuple[str, Family], ...] = (("SM(t)+LN+G", "gpt2"), ("SM+LN+R", "gpt_neox"))
_BYTE_GRAPHS = tuple((name, dataclasses.replace(size, family=family)) for size in _SIZES for name, family in _FAMILIES)
_ROUND_GRAPHS = (
    ("SM(t)+LN+G", Size(64, 16, 1, 2, 32)),
    ("SM+LN+R", Size(64, 64, 1, 2, 256, family="gpt_neox")),
)


def _depends_on(arithmetic: Arithmetic) -> tuple[str, ...]:
    """What an operation's bytes depend on, in the quantities of `aero.cost.quantities`; empty where there are none."""
    match arithmetic:
        case LookUp() | WeightProduct(whole=True):
            return "calls", "inputs", "outputs"
        case WeightProduct() | ElementProduct() | Function(of="number"):
            return "calls", "outputs"
        case PublicProduct():
            return "calls", "products"
        case SharedProduct():
            return "heads", "inputs", "outputs"
        case Function(of="row"):
            return "calls", "outputs", "rows"
        case Function():
            return "calls", "outputs", "live", "rows"
        case Sum() | Move():
            return ()
        case other:
            assert_never(other)


# Computed by each party on its shares alone; a calibration that sees one of them send something fails.
_LOCAL = of_arithmetic(Sum, Move)
_MEASURED = ("bytes_client_to_server", "bytes_server_to_client", "messages", "compute_seconds")
_MATRIX_PRODUCTS = tuple(op for op, sheet in OPS.items() if "inputs" in _depends_on(sheet.arithmetic))
# A maximum is a tree over a row; its messages and rounds grow with the depth.
_TREES = tuple(op for op, sheet in OPS.items() if "live" in _depends_on(sheet.arithmetic))

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Sample:
    """One SPU program, as both parties saw it: bytes, messages, and seconds of wall and processor time."""

    op: str
    label: str
    quantities: Mapping[str, int]
    bytes_client_to_server: int
    bytes_server_to_client: int
    messages: int
    wall_seconds: float
    compute_seconds: float


def calibrate(progress: Progress = lambda label, share: None) -> TableProfile:
    """Measure SPU on this machine: some minutes. ImportError without SPU; ConnectionError when a party fails."""
    graphs, slow_graphs = (calibration_graphs(g) for g in (_BYTE_GRAPHS, _ROUND_GRAPHS))
    set_up, samples = measure(graphs, 0.0, lambda share: progress("bytes and time", 0.6 * share))
    _, near = measure(slow_graphs, 0.0, lambda share: progress("without delay", 0.6 + 0.1 * share))
    _, far = measure(slow_graphs, DELAY, lambda share: progress("with delay", 0.7 + 0.3 * share))
    rounds = [(n, (f.wall_seconds - n.wall_seconds) / DELAY) for n, f in zip(near, far, strict=True)]
    return profile_of(set_up, samples, rounds)


def calibration_graphs(choices: Sequence[tuple[str, Size]]) -> list[Graph]:
    """Decoders of one layer. Those with ReLU have RMS norms, and after it every function of a number that no decoder
    here has, a product number by number, and the mean of all rows in place of the last one, so that every operation
    occurs."""
    graphs = []
    for name, size in choices:
        graph = lowered(parse(name), size)
        # SPU's compiler drops products with one.
        nodes = tuple(n.replace(attrs={"factor": 1.7}) if n.op == "scale" else n for n in graph.nodes)
        if name.endswith("+R"):
            nodes = tuple(n.replace(op="rms_norm") if n.op == "layer_norm" else n for n in nodes)
            nodes = tuple(n.replace(op="mean_rows", attrs={}) if n.op == "rows" else n for n in nodes)
            nodes = tuple(_with_others(nodes))
        graphs.append(dataclasses.replace(graph, nodes=nodes))
    return graphs


def _with_others(nodes: Sequence[Node]) -> Iterator[Node]:
    others = [op for op in of_arithmetic(Function) if OPS[op].arithmetic == Function(of="number")]
    others += of_arithmetic(ElementProduct)
    latest: dict[str, str] = {}
    for node in nodes:
        yield node.replace(inputs=tuple(latest.get(name, name) for name in node.inputs))
        for op in others if node.op == "relu" else ():
            if op not in ("relu", "gelu"):
                read = (latest.get(node.name, node.name),) * OPS[op].inputs
                yield Node(f"{node.name}.{op}", op, read)
                latest[node.name] = f"{node.name}.{op}"


def measure(graphs: Sequence[Graph], delay: float, progress: Callable[[float], None]) -> tuple[Sample, list[Sample]]:
    """Run graphs between two processes, every message `delay` seconds late; the set-up and a sample per program."""
    steps = _labels(graphs)
    with tempfile.TemporaryDirectory(prefix="aero-") as folder:
        outs = {party: Path(folder) / f"{party.word}.jsonl" for party in Role}
        with _parties(Path(folder), graphs, outs, delay) as processes:
            _wait(processes, outs[Role.CLIENT], len(steps) + 1, progress)
        lines = {p: [json.loads(line) for line in out.read_text().splitlines()] for p, out in outs.items()}
    samples = []
    for client, server in zip(*lines.values(), strict=True):
        index, label, wall, cpu, up, down, messages = client
        assert server[:2] == client[:2], "both parties run the same programs in the same order"
        op, counts = steps.get((index, label), ("set-up", {"calls": 1}))
        samples.append(Sample(op, label, counts, up, down, messages, (wall + server[2]) / 2, max(cpu, server[3])))
    return samples[0], samples[1:]


def _labels(graphs: Sequence[Graph]) -> dict[tuple[int, str], tuple[str, Mapping[str, int]]]:
    """Operation and quantities of every program, by graph and label."""
    grouping = TableProfile("spu", "", "as the engine groups them", {}, joins_linears=True)
    return {
        (index, " ".join(node.name for node in nodes)): (nodes[0].op, quantities(graph, nodes))
        for index, graph in enumerate(graphs)
        for nodes in grouping.steps(graph)
    }


@contextlib.contextmanager
def _parties(
    folder: Path, graphs: Sequence[Graph], outs: Mapping[Role, Path], delay: float
) -> Iterator[list[subprocess.Popen[bytes]]]:
    own = {party: f"127.0.0.1:{free_port()}" for party in Role}
    with contextlib.ExitStack() as stack:
        peers = dict(own)
        if delay:
            peers = {p: stack.enter_context(DelayRelay(address, delay)).address for p, address in own.items()}
        processes = []
        for party in Role:
            job = folder / f"{party.word}.json"
            job.write_text(
                json.dumps(
                    {
                        "party": party.name,
                        "own": own[party],
                        "peer": peers[party.other],
                        "graphs": [graph.to_json() for graph in graphs],
                        "out": str(outs[party]),
                    }
                )
            )
            command = [sys.executable, "-m", "aero.bench.spu_steps", str(job)]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()
                process.communicate()


def _wait(processes: list[subprocess.Popen[bytes]], out: Path, count: int, progress: Callable[[float], None]) -> None:
    deadline = time.monotonic() + _TIME_LIMIT
    while any(process.poll() is None for process in processes):
        for process in processes:
            if process.poll():
                assert process.stderr is not None
                lines = process.stderr.read().decode(errors="replace").strip().splitlines()
                raise ConnectionError(f"a party of the calibration failed: {lines[-1] if lines else 'no message'}")
        if time.monotonic() > deadline:
            raise ConnectionError(f"the calibration did not end within {_TIME_LIMIT:g} s; use a quieter machine")
        progress(len(out.read_text().splitlines()) / count if out.exists() else 0.0)
        time.sleep(0.3)


def profile_of(set_up: Sample, samples: Sequence[Sample], rounds: Sequence[tuple[Sample, float]]) -> TableProfile:
    """The profile that fits the samples, with the residuals of its bytes in `details`."""
    ops, details = {}, {}
    by_op = defaultdict(list)
    for sample in _quickest(samples):
        by_op[sample.op].append(sample)
    rounds_of = fit_rounds(rounds)
    for op in _LOCAL:
        if any(sample.messages for sample in by_op[op]):
            raise ValueError(f"{op} sends messages in this version of SPU; it needs a price of its own")
        ops[op] = Declaration(dict.fromkeys((*_MEASURED, "rounds"), Formula({})))
    for op, names in {op: _depends_on(sheet.arithmetic) for op, sheet in OPS.items() if op not in _LOCAL}.items():
        formulas = {}
        for component in _MEASURED:
            depends = names
            if component == "compute_seconds" and op in _MATRIX_PRODUCTS:
                depends = (*names, "products")
            elif component == "messages" and op in _TREES:
                depends = ("calls", "levels", "outputs")
            values = [getattr(s, component) for s in by_op[op]]
            formulas[component] = fit([s.quantities for s in by_op[op]], values, depends)
        formulas["rounds"] = rounds_of[op]
        ops[op] = Declaration(formulas)
        details[op] = _residuals(ops[op], by_op[op])
    return TableProfile(
        name="spu-cheetah",
        title="SecretFlow SPU 0.9.5, Cheetah, 64-bit ring, one thread for each party",
        source="measured by `aero bench calibrate`",
        ops=ops,
        joins_linears=True,
        set_up=Price(
            set_up.bytes_client_to_server,
            set_up.bytes_server_to_client,
            messages=set_up.messages,
            compute_seconds=set_up.compute_seconds,
        ),
        machine=machine(),
        version=aero.__version__,
        notes=(
            f"rounds from runs with each message {1000 * DELAY:g} ms late; not known are those of set-up, and of "
            "refilling the store of oblivious transfers",
            "compute seconds are processor time of the busier party",
        ),
        details={"samples": details},
    )


def fit(at: Sequence[Mapping[str, int]], values: Sequence[float], names: Sequence[str]) -> Formula:
    """The non-negative formula in `names` nearest to the values, each weighted by one over its square root.

    Between least squares of values, which ignores small shapes, and of ratios, which lets their granularity rule.
    """
    from scipy.optimize import nnls

    y = np.asarray(values, np.float64)
    if not len(y):
        raise ValueError("no samples to fit")
    if not y.any():
        return Formula({})
    matrix = np.array([[q[name] for name in names] for q in at], np.float64)
    size = matrix.max(axis=0)
    weight = 1 / np.sqrt(np.maximum(y, y.max() * 1e-6))
    coefficients, _ = nnls(weight[:, None] * (matrix / size), weight * y)
    return Formula({n: float(f"{c:.6g}") for n, c in zip(names, coefficients / size, strict=True)})


def fit_rounds(rounds: Sequence[tuple[Sample, float]]) -> dict[str, Formula]:
    """Rounds of each operation: a fixed number, and for a tree one more for each level.

    A sample is as uncertain as other programs may have stretched its computing in either run, and half a round. Rounds
    that only large operations have, when a store of oblivious transfers is filled again, are not in it.
    """
    from scipy.optimize import nnls

    by_op = defaultdict(list)
    for sample, count in rounds:
        by_op[sample.op].append((sample, max(0.0, count)))
    found = {}
    for op, samples in by_op.items():
        names = ("calls", "levels") if op in _TREES else ("calls",)
        weight = np.array([1 / (0.5 + s.compute_seconds / DELAY) for s, _ in samples])
        matrix = np.array([[s.quantities[name] for name in names] for s, _ in samples], np.float64)
        solution, _ = nnls(weight[:, None] * matrix, weight * np.array([count for _, count in samples]))
        found[op] = Formula({name: float(f"{v:.3g}") for name, v in zip(names, solution, strict=True)})
    return found


def _quickest(samples: Sequence[Sample]) -> list[Sample]:
    """Each sample with the least time of those of its operation and shape: what else the machine did only adds."""

    def shape(sample: Sample) -> tuple[object, ...]:
        return (sample.op, *sample.quantities.items())

    least: dict[tuple[object, ...], float] = {}
    for sample in samples:
        least[shape(sample)] = min(sample.compute_seconds, least.get(shape(sample), sample.compute_seconds))
    return [dataclasses.replace(sample, compute_seconds=least[shape(sample)]) for sample in samples]


def _residuals(declaration: Declaration, samples: Sequence[Sample]) -> list[dict[str, object]]:
    """Measured and fitted bytes of each sample, both ways."""
    return [
        {
            **{name: s.quantities[name] for name in ("inputs", "outputs")},
            "measured_bytes": s.bytes_client_to_server + s.bytes_server_to_client,
            "fitted_bytes": round(declaration.at(s.quantities).bytes_both_ways or 0),
            "measured_seconds": round(s.compute_seconds, 4),
            "fitted_seconds": round(declaration.at(s.quantities).compute_seconds or 0, 4),
            "messages": s.messages,
        }
        for s in samples
    ]
