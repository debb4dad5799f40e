"""What a protocol computes, counted in calls of kernels: declared beside its bytes, priced by `aero.cost.machine`.

A kernel is counted in what its time is proportional to. Those of lattices are counted apart for each modulus.

    encrypt, decrypt      ciphertexts, at the owner of the key (`MatmulPlan`)
    load, respond         ciphertexts that arrive, and that go back, at the evaluator
    transform             butterflies of plaintext polynomials;  encode: their coefficients, where they are shares
    multiply, read        products of residues, after a transform or with transforms that are there
    switch                steps of the packing
    entry                 numbers of a result, at both parties
    slots ...             ciphertexts of `aero.kernels.slots`: encrypt, multiply, answer, decrypt
    draw key, take key    of parameters or of a field, at its owner and at the other party
    ferret ...            set-up, and iterations: speak, at the sender of its OTs, and hear

OTs that are used, bytes and messages are counts of a `ProtocolCost` already.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from aero.kernels.lattice_matmul import MatmulPlan

Work = Mapping[str, float]
"""Kernel -> how much of it."""


def sum_of(one: Work, other: Work) -> Work:
    """Both."""
    if not one or not other:
        return one or other
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *(n for n in other if n not in one))}


def owner_work(plan: MatmulPlan) -> Work:
    """Of the owner of the key, in a product of matrices."""
    return _under(plan, {"encrypt": plan.uploads, "decrypt": plan.packed, "entry": _entries(plan)})


def evaluator_work(plan: MatmulPlan, *, prepared: bool = False, shared: bool = False) -> Work:
    """Of the other party. prepared: with transforms of its matrix that are there; shared: its matrix is a share."""
    primes, n = len(plan.params.primes), plan.params.n
    polynomials = plan.batch * plan.column_tiles * plan.inner_tiles
    return _under(
        plan,
        {
            "load": plan.uploads,
            "transform": 0 if prepared else polynomials * primes * n * math.log2(plan.front) / 2,
            "encode": polynomials * plan.front if shared else 0,
            "read" if prepared else "multiply": 2 * polynomials * primes * plan.row_tiles * n,
            "switch": plan.batch * plan.row_tiles * plan.column_tiles - plan.packed,
            "respond": plan.packed,
            "entry": _entries(plan),
        },
    )


def _entries(plan: MatmulPlan) -> int:
    return plan.batch * plan.rows * plan.columns


def _under(plan: MatmulPlan, counts: Work) -> Work:
    bits = plan.params.modulus.bit_length()
    return {f"{name} {bits}": count for name, count in counts.items() if count}
