"""The engine with a trusted dealer: every operation on real shares, every protocol replaced by what it computes.

It is the referee of our own protocols. Shares, rings, truncations with their errors of one step, and the order of
everything are those of the two-party engine (`on_shares`); what takes a protocol is computed by a dealer that sees both
parties' inputs. So a difference between this engine and the two-party one lies in a protocol, and a difference between
this engine and the plain one is at most one step for each truncated product, carried through the graph.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from aero.engines.engine import Engine, RunCost
from aero.engines.on_shares import Protocols, check_states, walk
from aero.engines.planning.stages import schedule
from aero.engines.planning.steps import WHOLE, Group, Step, added_format
from aero.graph import Graph
from aero.graph.interpret import apply, check_ids
from aero.graph.ring_plan import Format, RingPlan, shift
from aero.kernels import ring
from aero.mpc.dealer import InsecureDealer
from aero.mpc.fixed_point import from_ring, reduce_ring, to_ring
from aero.mpc.party import Party, Role
from aero.mpc.share import Share, Words, open_shares
from aero.wire.memory import channel_pair


class InsecureDealerEngine(Engine):
    """Both parties in two threads of one process, and a dealer, for tests.

    numbers: a ring plan; or one number format for all values and weights.
    """

    name: ClassVar[str] = "insecure-dealer"
    insecure: ClassVar[bool] = True

    def __init__(self, numbers: Format | RingPlan | None = None) -> None:
        self._numbers = numbers or Format(64, 18)
        self._state: dict[Role, dict[str, Share]] = {role: {} for role in Role}
        self._cost = RunCost(0.0)

    def run(
        self, graph: Graph, *, weights: Mapping[str, np.ndarray] | None = None, ids: np.ndarray | None = None
    ) -> np.ndarray:
        """As `Engine.run`, but one process brings both the weights and the ids."""
        if weights is None or ids is None:
            raise ValueError("the dealer engine is both parties at once: it needs the weights and the ids")
        plan = self._numbers
        if isinstance(plan, Format):
            plan = RingPlan.uniform(graph, plan.fraction_bits, plan.bits)
        for state in self._state.values():
            check_states(graph, plan, state)
        start, ids = time.perf_counter(), check_ids(ids, graph.length)
        plans, dealer = schedule([graph], plan), InsecureDealer()
        outputs: dict[Role, Words | None] = {}
        failures: list[BaseException] = []

        def run_party(party: Party) -> None:
            protocols = _Dealt(party, dealer, plan, weights)
            try:
                [(output, self._state[party.role])] = walk(
                    party,
                    plans,
                    protocols,
                    ids=[ids if party.is_client else None],
                    states=[{name: self._state[party.role][name] for name in graph.state_in}],
                )
                outputs[party.role] = open_shares(party, output, Role.CLIENT, graph.output)
            except BaseException as error:
                failures.append(error)
                dealer.abort()
                party.channel.close()

        parties = [Party(role, channel) for role, channel in zip(Role, channel_pair(), strict=True)]
        threads = [threading.Thread(target=run_party, args=(party,), daemon=True) for party in parties]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        self._cost = RunCost(time.perf_counter() - start)
        output, fmt = outputs[Role.CLIENT], plans.outputs[0].output
        assert output is not None
        return fmt.decode(from_ring(output, fmt.bits))

    def forget(self, prompt: int) -> None:
        if prompt == 0:
            self._state = {role: {} for role in Role}

    @property
    def cost(self) -> RunCost:
        return self._cost

    def close(self) -> None:
        self.forget(0)


class _Dealt(Protocols):
    """Every protocol's functionality, from the dealer."""

    def __init__(self, party: Party, dealer: InsecureDealer, plan: RingPlan, weights: Mapping[str, np.ndarray]) -> None:
        self._party, self._dealer, self._plan = party, dealer, plan
        self._weights = weights

    def added(self, step: Step, name: str) -> np.ndarray | None:
        return None if self._party.is_client else added_format(step).encode(self._weights[name], name)

    def linear(self, groups: Sequence[Group], xs: Sequence[Share]) -> list[list[Share]]:
        return [[self._linear(step, x) for step in group] for group, x in zip(groups, xs, strict=True)]

    def _linear(self, step: Step, x: Share) -> Share:
        name, bits = step.node.weights[0], step.ring_bits
        fmt = self._plan.of_weight(name)
        w = to_ring(fmt.encode(self._weights[name], name), bits)
        product = (lambda a: ring.matmul(a, w)) if step.node.op in WHOLE else (lambda a: a * w)
        f = x.fraction_bits + fmt.fraction_bits
        return self._dealer.deal_of(self._party, x, product, bits, f).truncated(step.dropped)

    def pair(self, steps: Sequence[Step], factors: Sequence[tuple[Share, Share]]) -> list[Share]:
        return [self._pair(step, x, y) for step, (x, y) in zip(steps, factors, strict=True)]

    def _pair(self, step: Step, x: Share, y: Share) -> Share:
        f = x.fraction_bits + y.fraction_bits
        product = self._dealer.deal(
            self._party, (x.values, y.values), lambda a, b: ring.matmul(a[0] + b[0], a[1] + b[1]), step.ring_bits, f
        )
        return product.truncated(step.dropped)

    def extend(self, values: Sequence[Share], bits: Sequence[int]) -> list[Share]:
        return [self._extend(x, to) for x, to in zip(values, bits, strict=True)]

    def _extend(self, x: Share, bits: int) -> Share:
        return self._dealer.deal_of(
            self._party, x, lambda a: to_ring(from_ring(a, x.bits), bits), bits, x.fraction_bits
        )

    def function(self, steps: Sequence[Step], inputs: Sequence[Sequence[Share]]) -> list[Share]:
        return [self._function(step, values) for step, values in zip(steps, inputs, strict=True)]

    def _function(self, step: Step, values: Sequence[Share]) -> Share:
        def function(a: list[Words], b: list[Words]) -> Words:
            reals = [
                fmt.decode(from_ring(reduce_ring(one + other, x.bits), x.bits))
                for fmt, x, one, other in zip(step.inputs, values, a, b, strict=True)
            ]
            return to_ring(step.output.encode(apply(step.node, reals, []), step.node.name), step.output.bits)

        parts = [x.values for x in values]
        return self._dealer.deal(self._party, parts, function, step.output.bits, step.output.fraction_bits)

    def embedding(self, steps: Sequence[Step], ids: Sequence[np.ndarray | None]) -> list[Share]:
        return [self._embedding(step, mine) for step, mine in zip(steps, ids, strict=True)]

    def _embedding(self, step: Step, ids: np.ndarray | None) -> Share:
        name, out = step.node.weights[0], step.output
        fmt = self._plan.of_weight(name)

        def look_up(ids: np.ndarray, table: np.ndarray) -> Words:
            rows = apply(step.node, [ids], [fmt.encode(table, name)])
            return to_ring(shift(rows, fmt.fraction_bits - out.fraction_bits), out.bits)

        mine = ids if self._party.is_client else self._weights[name]
        return self._dealer.deal(self._party, mine, look_up, out.bits, out.fraction_bits)
