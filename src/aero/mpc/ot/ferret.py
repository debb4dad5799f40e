"""Silent OT: millions of correlated OTs from a few, with 0.78 bits of communication each.

Ferret (Yang, Weng, Lan, Zhang and Wang 2020, ePrint 2020/924) with its check and regular noise, its single-point OTs
from correlated GGM trees (Guo et al. 2022, "Half-Tree", ePrint 2022/1431, section 4). One iteration, from 2^18 + t h
correlated OTs left from the last one, makes t 2^h, of which it leaves as many for the next one (t = 1170 trees of
depth h = 11):

1. Sender: grows t trees from uniform roots, every level of which adds up to Delta. For each tree and level, one OT's K
   plus the sum of the left children: sent.                                                 to the receiver
2. Receiver: M plus that is the sum of the left children, or, where its bit is one, of the right ones. So it gets all
   leaves of a tree but one, whose place is told by its bits, and that one plus Delta: correlated OTs whose bits are
   zero but for one in each tree.
3. Both: a public sparse matrix times the other 2^18 OTs, added: LPN, whose secret are their bits and whose noise are
   the trees' bits, makes the bits pseudorandom.

Then the check, one for all iterations made together, with 128 more of the OTs left before (K*; M* with bits x*). The
coefficients chi of a universal hash, one for each leaf, come from the sender's message:

4. Receiver: c = sum of the chi of the leaves that it lacks; c ^ x*: sent.                  to the sender
5. Sender: V = sum of chi times leaf, + sum of X^i (K*_i, + Delta where bit i of c ^ x* is one): its digest, sent.
                                                                                            to the receiver
6. Receiver: W, the same sum of its own leaves, + sum of X^i M*_i is V: compares the digest.

A message of t h blocks per iteration, a block and a digest are all. Trees are kept as seeds and are grown when
their OTs are taken, and so are, beyond a few iterations, the 2^18 OTs that the matrix is multiplied by: iterations made
ahead take little memory.

The parameters are those of emp-ot 1.0.0-alpha.1 (`tuning.h`, set b11), which states about 128 bits for them against the
known attacks on LPN with regular noise, but for the secret, which has twice the length: the margin.
docs/security/ot.md has the argument and what it rests on.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aero.kernels.gf128 import BLOCK_BYTES, POWERS, dot
from aero.kernels.ot import LocalCode, code_table, derived_key, punctured_leaves, tree_leaves, tree_sums
from aero.kernels.prg import Prg
from aero.mpc.ot.consistency import coefficients, digest, require_equal
from aero.mpc.ot.correlated import CorrelatedOts, Queue
from aero.mpc.ot.random_ot import Blocks

TREES = 1170
DEPTH = 11
SECRET = 1 << 18
LEVELS = TREES * DEPTH
_SECRET = slice(LEVELS, LEVELS + SECRET)
_CHECK = slice(_SECRET.stop, _SECRET.stop + 128)
"""Of the OTs that are left for an iteration, those for the check of it and of those made with it."""
SEEDS = _CHECK.stop
"""Correlated OTs that an iteration needs."""
KEPT_TREES = -(-SEEDS >> DEPTH)
"""Trees whose OTs are for the next iteration."""

UNIT = (TREES - KEPT_TREES) << DEPTH
"""Correlated OTs that one iteration gives away."""
UNIT_BYTES = LEVELS * 16
_TABLES_AHEAD = 4
"""Iterations made ahead whose tables, of 4 MB, are kept; making one again takes a tenth of an iteration's work."""
_TREES_AHEAD = 64
"""Grown at once where fewer are asked for: each time, the code's table has to come into the cache first."""
_TREES_HASHED = 16
"""Grown at once for the check, half a megabyte: the hash then finds them in the cache."""

TREE_DOMAIN, CODE_DOMAIN = 2, 4
"""Of `aero.kernels.ot`, for the first direction; the second has the next number. Pads have 0 and 1."""


Seeds = tuple[NDArray[np.uint8], ...]
"""What leaves come from, for each tree: roots; or bits, and sums."""


@dataclass
class _Iteration:
    """Of which trees up to `next_tree` have been grown. code: None until its turn comes, where it is not kept."""

    number: int
    code: LocalCode | None
    seeds: Seeds
    next_tree: int = 0


class _Ferret(CorrelatedOts):
    at_once = 1 << 18

    def __init__(self, session: bytes, direction: int, seeds: Blocks) -> None:
        self._session = session
        self._tree_domain = TREE_DOMAIN + direction
        self._code_key = derived_key(session, CODE_DOMAIN + direction, 0)
        self._seeds = np.empty((KEPT_TREES << DEPTH, 16), np.uint8)
        self._seeds[:SEEDS] = seeds[:SEEDS]
        self._iterations = 0
        self._waiting: deque[_Iteration] = deque()
        self._over = Queue()  # grown, but not taken yet

    def take(self, count: int) -> Blocks:
        if count <= self._over.size:
            return self._over.take(count)
        out, done = np.empty((count, 16), np.uint8), self._over.size
        out[:done] = self._over.take(done)
        while done < count:
            iteration = self._waiting[0]
            trees = min(TREES - iteration.next_tree, max(count - done >> DEPTH, _TREES_AHEAD))
            stop = done + (trees << DEPTH)
            if stop <= count:
                self._grow(iteration, out[done:stop])
            else:
                grown = np.empty((trees << DEPTH, 16), np.uint8)
                self._grow(iteration, grown)
                out[done:] = grown[: count - done]
                self._over.put(grown[count - done :])
                stop = count
            done = stop
        return out

    def work_ahead(self, most: int) -> bool:
        if most <= self._over.size:
            return False
        iteration = self._waiting[0]
        grown = np.empty((min(TREES - iteration.next_tree, _TREES_AHEAD) << DEPTH, 16), np.uint8)
        self._grow(iteration, grown)
        self._over.put(grown)
        return True

    def _pass_on(self) -> None:
        """From the first iteration, which is used up, to the next: its table are the OTs that the first kept for it."""
        done = self._waiting.popleft()
        if self._waiting and self._waiting[0].code is None:
            kept, done.next_tree = np.empty_like(self._seeds), 0
            self._grow(done, kept)
            assert done.code is not None
            done.code.table[:] = kept[_SECRET]
            self._waiting[0].code = done.code

    def _first_tree(self) -> int:
        return self._iterations * TREES

    def _begin(self, *seeds: NDArray[np.uint8]) -> None:
        """An iteration whose message has been made or read; its first OTs are those that the next one needs."""
        code = LocalCode(self._code_key, code_table(self._seeds[_SECRET]))
        iteration = _Iteration(self._iterations, code, seeds)
        self._iterations += 1
        self._grow(iteration, self._seeds)
        if len(self._waiting) >= _TABLES_AHEAD:
            iteration.code = None
        self._waiting.append(iteration)

    def _grow(self, iteration: _Iteration, out: Blocks) -> None:
        """The OTs of the iteration's next trees, as many as `out` has room for."""
        assert iteration.code is not None
        trees = slice(iteration.next_tree, iteration.next_tree + (len(out) >> DEPTH))
        seeds = tuple(part[trees] for part in iteration.seeds)
        self._leaves(iteration.number * TREES + trees.start, seeds, iteration.code, out)
        iteration.next_tree = trees.stop
        if trees.stop == TREES:
            self._pass_on()

    def _made_by(self, units: int, message: NDArray[np.uint8], check: Blocks) -> None:
        """The message that began the last iterations, so many, and the OTs for the check of them."""
        first = bytes([self._tree_domain]) + (self._iterations - units).to_bytes(8, "little")
        self._unchecked = units, digest("trees", self._session, first, message), check
        self._sum: Blocks | None = None

    def _hash(self) -> tuple[Blocks, Blocks]:
        """Of the iterations that are not checked yet: the sum of chi times leaf, + sum of X^i times the check's OTs;
        and the sum of the chi of leaves whose lowest bit is one, which are those that the receiver lacks. chi is a
        coefficient of the leaf's place in its tree times one of the tree."""
        units, seed, check = self._unchecked
        every = coefficients(seed, (1 << DEPTH) + units * TREES)
        of_place, of_tree = every[: 1 << DEPTH], every[1 << DEPTH :]
        of_trees = np.empty((2, units * TREES, BLOCK_BYTES), np.uint8)
        grown = np.empty((_TREES_HASHED << DEPTH, BLOCK_BYTES), np.uint8)
        done = 0
        for iteration in list(self._waiting)[-units:]:
            for first in range(0, TREES, _TREES_HASHED):
                count = min(TREES - first, _TREES_HASHED)
                leaves, seeds = grown[: count << DEPTH], tuple(part[first : first + count] for part in iteration.seeds)
                self._leaves(iteration.number * TREES + first, seeds, None, leaves)
                of_trees[:, done : done + count] = dot(of_place, leaves.reshape(count, 1 << DEPTH, BLOCK_BYTES))
                done += count
        (total, lacking), _ = dot(of_tree, of_trees)
        return total ^ _packed(check), lacking

    @abstractmethod
    def _leaves(self, first_tree: int, seeds: Seeds, code: LocalCode | None, out: Blocks) -> None:
        """To `out` [trees 2^DEPTH, 16] the leaves of trees number first_tree, ... plus the code, if there is one."""


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
        message, check = np.empty((units, TREES, DEPTH, 16), np.uint8), self._seeds[_CHECK].copy()
        for part in message:
            roots = np.frombuffer(self._stream.random_bytes(TREES * 16), np.uint8).reshape(TREES, 16)
            sums = tree_sums(self._session, self._tree_domain, self._first_tree(), DEPTH, self._delta, roots)
            part[:] = sums ^ self._seeds[:LEVELS].reshape(sums.shape)
            self._begin(roots)
        self._made_by(units, message, check)
        return message.reshape(-1)

    def sum_up(self) -> Blocks:
        if self._sum is None:
            self._sum, _ = self._hash()
        return self._sum

    def answer(self, challenge: NDArray[np.uint8]) -> NDArray[np.uint8]:
        chosen = self._delta * np.unpackbits(challenge, bitorder="little")[:, None]
        return digest("sum", self.sum_up() ^ _packed(chosen))

    def _leaves(self, first_tree: int, seeds: Seeds, code: LocalCode | None, out: Blocks) -> None:
        (roots,) = seeds
        tree_leaves(self._session, self._tree_domain, first_tree, DEPTH, self._delta, roots, code, out)


class FerretReceiver(_Ferret):
    """The end that has bits and M."""

    speaks = False

    def hear(self, units: int, message: NDArray[np.uint8]) -> None:
        check = self._seeds[_CHECK].copy()
        for part in message.reshape(units, TREES, DEPTH, 16):
            own = self._seeds[:LEVELS].reshape(part.shape)
            self._begin(own[:, :, 0] & np.uint8(1), part ^ own)
        self._made_by(units, message, check)

    def challenge(self) -> NDArray[np.uint8]:
        total, lacking = self._hash()
        self._expected = digest("sum", total)
        bits = self._unchecked[2][:, 0] & np.uint8(1)
        return lacking ^ np.packbits(bits, bitorder="little")

    def check(self, answer: NDArray[np.uint8]) -> None:
        require_equal(answer, self._expected)

    def _leaves(self, first_tree: int, seeds: Seeds, code: LocalCode | None, out: Blocks) -> None:
        bits, sums = seeds
        punctured_leaves(self._session, self._tree_domain, first_tree, bits, sums, code, out)


def _packed(blocks: Blocks) -> Blocks:
    """The sum of X^i times block i of 128."""
    return dot(POWERS, blocks[None])[0][0]
