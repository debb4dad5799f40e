"""Silent OT: millions of correlated OTs from a few, with 0.73 bits of communication each.

Ferret (Yang, Weng, Lan, Zhang and Wang 2020, ePrint 2020/924) with regular noise, semi-honest, its single-point OTs
from correlated GGM trees (Guo et al. 2022, "Half-Tree", ePrint 2022/1431, section 4). One iteration, from 2^17 + t h
correlated OTs left from the last one, makes t 2^h, of which it leaves as many for the next one (t = 1170 trees of
depth h = 11):

1. Sender: grows t trees from uniform roots, every level of which adds up to Delta. For each tree and level, one OT's K
   plus the sum of the left children: sent.                                                 to the receiver
2. Receiver: M plus that is the sum of the left children, or, where its bit is one, of the right ones. So it gets all
   leaves of a tree but one, whose place is told by its bits, and that one plus Delta: correlated OTs whose bits are
   zero but for one in each tree.
3. Both: a public sparse matrix times the other 2^17 OTs, added: LPN, whose secret are their bits and whose noise are
   the trees' bits, makes the bits pseudorandom.

The receiver sends nothing; a message of t h blocks per iteration is all. Trees are kept as seeds and are grown when
their OTs are taken, so iterations made ahead take little memory.

The parameters are those of emp-ot 1.0.0-alpha.1 (`tuning.h`, set b11), which states about 128 bits for them against the
known attacks on LPN with regular noise. We did not estimate them again. docs/security/ot.md has the
argument and what it rests on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aero.kernels.ot import add_code, code_table, derived_key, punctured_leaves, tree_leaves, tree_sums
from aero.kernels.prg import Prg
from aero.mpc.ot.correlated import CorrelatedOts, Queue
from aero.mpc.ot.random_ot import Blocks

TREES = 1170
DEPTH = 11
SECRET = 1 << 17
LEVELS = TREES * DEPTH
SEEDS = LEVELS + SECRET
"""Correlated OTs that an iteration needs."""
KEPT_TREES = -(-SEEDS >> DEPTH)
"""Trees whose OTs are for the next iteration."""

UNIT = (TREES - KEPT_TREES) << DEPTH
"""Correlated OTs that one iteration gives away."""
UNIT_BYTES = LEVELS * 16
_TREES_AT_ONCE = 64

TREE_DOMAIN, CODE_DOMAIN = 2, 4
"""Of `aero.kernels.ot`, for the first direction; the second has the next number. Pads have 0 and 1."""


@dataclass
class _Iteration:
    """Of which trees up to `next_tree` have been grown. seeds: per tree, what its leaves come from."""

    number: int
    table: Blocks
    seeds: tuple[NDArray[np.uint8], ...]
    next_tree: int = 0


class _Ferret(CorrelatedOts):
    def __init__(self, session: bytes, direction: int, seeds: Blocks) -> None:
        self._session = session
        self._tree_domain = TREE_DOMAIN + direction
        self._code_key = derived_key(session, CODE_DOMAIN + direction, 0)
        self._seeds = seeds[:SEEDS]
        self._iterations = 0
        self._waiting: deque[_Iteration] = deque()
        self._queue = Queue()

    def take(self, count: int) -> Blocks:
        while self._queue.size < count:
            iteration = self._waiting[0]
            self._queue.put(self._grow(iteration, min(TREES, iteration.next_tree + _TREES_AT_ONCE)))
            if iteration.next_tree == TREES:
                self._waiting.popleft()
        return self._queue.take(count)

    def _first_tree(self) -> int:
        return self._iterations * TREES

    def _begin(self, *seeds: NDArray[np.uint8]) -> None:
        """An iteration whose message has been made or read; its first OTs are those that the next one needs."""
        iteration = _Iteration(self._iterations, code_table(self._seeds[LEVELS:]), seeds)
        self._iterations += 1
        self._seeds = self._grow(iteration, KEPT_TREES)[:SEEDS].copy()
        self._waiting.append(iteration)

    def _grow(self, iteration: _Iteration, stop: int) -> Blocks:
        """The OTs of the next trees, up to `stop`."""
        trees = slice(iteration.next_tree, stop)
        first = iteration.number * TREES + trees.start
        blocks = self._leaves(first, *(part[trees] for part in iteration.seeds)).reshape(-1, 16)
        add_code(self._code_key, first << DEPTH, iteration.table, blocks)
        iteration.next_tree = stop
        return blocks

    @abstractmethod
    def _leaves(self, first_tree: int, *seeds: NDArray[np.uint8]) -> Blocks:
        """The leaves of trees number first_tree, ...: [trees, 2^DEPTH, 16]."""


class FerretSender(_Ferret):
    """The end that has Delta and K."""

    speaks = True

    def __init__(self, session: bytes, direction: int, delta: Blocks, seeds: Blocks, stream: Prg) -> None:
        """`session`: public, 16 bytes, the same at both ends and never used before. `direction`: 0 or 1, another one
        for another Delta. `seeds` [SEEDS or more, 16]: K of the first OTs. `stream`: where the roots come from."""
        super().__init__(session, direction, seeds)
        self._delta = delta
        self._stream = stream

    def speak(self, units: int) -> NDArray[np.uint8]:
        message = np.empty((units, TREES, DEPTH, 16), np.uint8)
        for part in message:
            roots = np.frombuffer(self._stream.random_bytes(TREES * 16), np.uint8).reshape(TREES, 16)
            sums = tree_sums(self._session, self._tree_domain, self._first_tree(), DEPTH, self._delta, roots)
            part[:] = sums ^ self._seeds[:LEVELS].reshape(sums.shape)
            self._begin(roots)
        return message.reshape(-1)

    def _leaves(self, first_tree: int, *seeds: NDArray[np.uint8]) -> Blocks:
        return tree_leaves(self._session, self._tree_domain, first_tree, DEPTH, self._delta, *seeds)


class FerretReceiver(_Ferret):
    """The end that has bits and M."""

    speaks = False

    def hear(self, units: int, message: NDArray[np.uint8]) -> None:
        for part in message.reshape(units, TREES, DEPTH, 16):
            own = self._seeds[:LEVELS].reshape(part.shape)
            self._begin(own[:, :, 0] & np.uint8(1), part ^ own)

    def _leaves(self, first_tree: int, *seeds: NDArray[np.uint8]) -> Blocks:
        bits, sums = seeds
        return punctured_leaves(self._session, self._tree_domain, first_tree, np.ascontiguousarray(bits), sums)
