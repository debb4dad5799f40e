"""Products in slots in Python integers: polynomials are object arrays of n coefficients, modulo all of Q at once."""

import numpy as np
from numpy.typing import NDArray

from aero.kernels.reference.ntt import forward, inverse
from aero.kernels.reference.rlwe import Poly, centred, multiply

Words = NDArray[np.uint64]


def encrypt(slots: Words | None, p: int, modulus: int, secret: Poly, a: Poly, noise: Poly) -> Poly:
    """b = -a s + noise + round(Q/p m), where m has these slots; m = 0 for None."""
    message = 0 if slots is None else (modulus * inverse(slots, p).astype(object) + p // 2) // p
    b: Poly = (message + noise - multiply(a, secret, modulus)) % modulus
    return b


def respond(
    pairs: list[tuple[Poly, Poly]],
    factors: list[Words],
    p: int,
    modulus: int,
    last: int,
    public: tuple[Poly, Poly],
    u: Poly,
    noise: Poly,
) -> tuple[Poly, Words]:
    """From ciphertexts (b, a) and as many factors' slots: a response modulo q' = Q / last, and a share of the sum."""
    b, a = multiply(public[0], u, modulus), multiply(public[1], u, modulus) + noise
    for (b_in, a_in), slots in zip(pairs, factors, strict=True):
        v = centred(inverse(slots, p).astype(object), p)
        b, a = b + multiply(b_in, v, modulus), a + multiply(a_in, v, modulus)
    response = (a - centred(a, last)) // last % (modulus // last)
    return response, _share(b % modulus, p, modulus)


def decrypt(response: Poly, p: int, modulus: int, secret: Poly) -> Words:
    """The other share; `modulus` is q'."""
    return _share(multiply(response, secret, modulus), p, modulus)


def _share(phase: Poly, p: int, modulus: int) -> Words:
    """round(p/Q x) modulo p, as slots."""
    return forward(((2 * p * phase + modulus) // (2 * modulus) % p).astype(np.uint64), p)
