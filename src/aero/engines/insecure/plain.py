"""The reference engine: fixed point in one process, without any cryptography.

It shows what an engine's arithmetic does to a model, apart from its protocols: every value is an integer with a number
of fractional bits, in a ring; every product is truncated, with half a step added first, as a two-party truncation does
with a public constant; and a nonlinear function is the float64 one, rounded to a step.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, assert_never

import numpy as np

from aero.engines.engine import Engine, PromptRun, RunCost, check_batch, first_rows
from aero.graph import OPS, Graph, Node
from aero.graph.graph import INPUT
from aero.graph.interpret import apply, check_ids, check_state
from aero.graph.ops.sheet import (
    ElementProduct,
    Function,
    LookUp,
    Move,
    Product,
    PublicProduct,
    SharedProduct,
    Sum,
    WeightProduct,
)
from aero.graph.ring_plan import Format, RingPlan, shift

_EXACT_IN_FLOAT64 = 2.0**53


class InsecurePlainEngine(Engine):
    """Both parties in one process, for tests and as the reference of every secure engine.

    numbers: a ring plan; or one number format for all values and weights.

    Error: each truncated product, rounded weight, input or nonlinear value is off by at most half a step of its format;
    `tests/engines/insecure/test_plain.py` carries these bounds through the graph.
    """

    name: ClassVar[str] = "insecure-plain"
    insecure: ClassVar[bool] = True
    cuts: ClassVar[bool] = True

    def __init__(self, numbers: Format | RingPlan | None = None) -> None:
        self._numbers = numbers or Format(64, 18)
        self._states: dict[int, dict[str, np.ndarray]] = {}
        self._cost = RunCost(0.0)

    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray:
        """As `Engine.run`, but one process brings both the weights and the ids.

        Raises OverflowError, naming the node, where a value leaves its ring.
        """
        [output] = self.run_batch([PromptRun(graph, ids, weights=weights)])
        assert output is not None
        return output

    def run_batch(self, batch: Sequence[PromptRun]) -> list[np.ndarray | None]:
        """One prompt after the other."""
        check_batch(batch)
        start = time.perf_counter()
        outputs: list[np.ndarray | None] = [self._run(run) for run in batch]
        self._cost = RunCost(time.perf_counter() - start)
        return outputs

    def _run(self, run: PromptRun) -> np.ndarray:
        graph, ids, weights = run.graph, run.ids, run.weights
        if weights is None or ids is None:
            raise ValueError("the plain engine is both parties at once: it needs the weights and the ids")
        plan = self._numbers
        if isinstance(plan, Format):
            plan = RingPlan.uniform(graph, plan.fraction_bits, plan.bits)
        values = {INPUT: check_ids(ids, graph.length), **check_state(graph, self._states.get(run.prompt, {}))}
        for node in graph.nodes:
            arithmetic = Arithmetic(graph, node, plan)
            arrays = [arithmetic.weight_format(name).encode(weights[name], name) for name in node.weights]
            values[node.name] = arithmetic.apply([values[i] for i in node.inputs], arrays)
        self._states[run.prompt] = {name: values[value] for name, value in graph.state_out.items()}
        return plan.of_value(graph, graph.output).decode(values[graph.output])

    def cut(self, prompt: int, tokens: int) -> None:
        self._states[prompt] = {name: first_rows(x, tokens) for name, x in self._states.get(prompt, {}).items()}

    def forget(self, prompt: int) -> None:
        self._states.pop(prompt, None)

    @property
    def cost(self) -> RunCost:
        return self._cost

    def close(self) -> None:
        """Forget the states of all prompts."""
        self._states = {}


class Arithmetic:
    """One node, on integers in the formats of a plan."""

    def __init__(self, graph: Graph, node: Node, plan: RingPlan) -> None:
        self.node, self.plan = node, plan
        self.inputs = [plan.of_value(graph, name) for name in node.inputs if name != INPUT]
        self.output = plan.of_value(graph, node.name)

    def weight_format(self, name: str) -> Format:
        """What is added to a product is held as the value is; a factor, as the plan says."""
        added = name in self.node.added
        return Format(64, self.output.fraction_bits) if added else self.plan.of_weight(name)

    def apply(self, inputs: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
        """int64 arrays in, int64 out. OverflowError where a product or the value leaves its ring."""
        node = self.node
        match OPS[node.op].arithmetic:
            case Move():
                return apply(node, inputs, weights)
            case Function():
                reals = [f.decode(x) for x, f in zip(inputs, self.inputs, strict=True)]
                return self.output.encode(apply(node, reals, []), node.name)
            case LookUp():
                value = self._to_output(apply(node, inputs, weights), self.plan.of_weight(node.weights[0]))
            case Sum():
                terms = [self._to_output(x, f) for x, f in zip(inputs, self.inputs, strict=True)]
                value = apply(node, terms, weights)
            case WeightProduct() as product:
                value = self._product(product, inputs[0], *weights[:1], fmt=self.plan.of_weight(node.weights[0]))
                value = sum(weights[1:], start=value)
            case SharedProduct() | ElementProduct() as product:
                value = self._product(product, *inputs, fmt=self.inputs[1])
            case PublicProduct() as product:
                fmt = Format(64, self.inputs[0].fraction_bits + product.finer)
                constants = product.constants(inputs[0].shape, **node.attrs)
                value = self._product(product, inputs[0], *(fmt.encode(c, node.name) for c in constants), fmt=fmt)
            case other:
                assert_never(other)
        self._check(np.abs(value).max(), self.output.bits, self.output.fraction_bits)
        return value

    def _to_output(self, x: np.ndarray, fmt: Format) -> np.ndarray:
        return shift(x, fmt.fraction_bits - self.output.fraction_bits)

    def _product(self, product: Product, *factors: np.ndarray, fmt: Format) -> np.ndarray:
        """Truncated to the output's format; fmt: of all factors but the first. Partial sums may wrap in a ring, the
        product may not."""
        form = functools.partial(product.form, **self.node.attrs)
        reals = [x.astype(np.float64) for x in factors]
        found, terms = form(*reals), form(*map(np.abs, reals))
        fraction_bits = self.inputs[0].fraction_bits + fmt.fraction_bits
        self._check(np.abs(found).max(), self.plan.products.get(self.node.name, 64), fraction_bits)
        # Where every partial sum is exact in float64, its much faster product has the same integers.
        value = found.astype(np.int64) if terms.max() < _EXACT_IN_FLOAT64 else form(*factors)
        return shift(value, fraction_bits - self.output.fraction_bits)

    def _check(self, largest: float, bits: int, fraction_bits: int) -> None:
        if not largest < 2.0 ** (bits - 1):
            raise OverflowError(
                f"{self.node.name}: {largest * 2.0**-fraction_bits:.3g} leaves its ring of {bits} bits, which holds up "
                f"to {2.0 ** (bits - 1 - fraction_bits):.3g}; use fewer fractional bits, or calibrate on such text"
            )
