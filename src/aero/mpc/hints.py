"""What products of shares tell, were they opened, of the key that they are under: hints, and how many a key bears.

The client answers products under the server's key, and knows of each result's error all but the server's secrets: for
every number that it gets to see there is one linear equation

    z = <c, (s, e)> + f,        c known to the client, f the server's own normal noise of deviation SERVER_NOISE,

a *hint* on the secret s and on the noise e of keys and uploads. Hint-RLWE (Kim, Lee, Seo and Song, CRYPTO 2023, theorem
1; restated by Espitau, Niot and Prest 2024): with s and e discrete Gaussians of deviation d, and B a bound on the
largest eigenvalue of the sum of c c^T, RLWE with hints is as hard as RLWE with Gaussians of deviation r,

    1 / r^2 = 2 (1 / d^2 + B / SERVER_NOISE^2),        if r >= 2^(1/2) eta,

eta the smoothing parameter of the integers in as many dimensions as there are coordinates in s and e. Here stands what
B is for a plan, and how large it may become: `wear` is the part of a key that a product uses up, as if every number of
it were opened. docs/security/errors.md has the derivation.
"""

from __future__ import annotations

import math

from aero.kernels.lattice_matmul import MatmulPlan
from aero.kernels.rlwe import DEVIATION, NOISE_VARIANCE

SERVER_NOISE = 2.0
"""Standard deviation, in steps of the result's last place, of what the server adds to its share before rounding."""
MAX_KNOWN = 0.6
"""Standard deviation, in steps, of an upload's noise times the other party's factor: a plan takes digits to meet it."""
MAX_UPLOAD_HINT = 0.0625
"""B of the hints on the noise of one upload, in squares of a step, at most."""
LOG_COORDINATES = 36
"""log2 of how many coordinates of secrets and noise one key has at most: it is worn out by them as well."""
LOG_LOSS = 41
"""The theorem loses 2 epsilon, epsilon 2^-LOG_LOSS."""
SMOOTHING = math.sqrt(math.log(2) * (1 + LOG_COORDINATES + LOG_LOSS) / (2 * math.pi**2))
"""eta, as a standard deviation: sqrt(ln(2 N (1 + 1/epsilon)) / (2 pi^2)), Micciancio and Regev 2007, lemma 3.3."""
EFFECTIVE = math.sqrt(2) * SMOOTHING
"""r at the end of a key, at least: 2.34, which parameters are estimated for."""
_ROOM = 1 / (2 * EFFECTIVE**2) - 1 / DEVIATION**2  # of B / SERVER_NOISE^2
KEY_ROOM = (_ROOM - MAX_UPLOAD_HINT / SERVER_NOISE**2) / 1.05
"""What is left for hints on the key, whose B is within 5 % of its mean by then."""


def hints(product: MatmulPlan) -> int:
    """Numbers of a result, each with an equation."""
    return product.batch * product.rows * product.columns


def hint_size(product: MatmulPlan) -> float:
    """The mean over the coordinates of the key of the squares of c, in steps: from the rounding of a, which is uniform
    within 2^-guard_a of a step, times s; from e_a s and u e of the encryption of zero; from the digits of key switches,
    times the noise of the keys."""
    p, unit = product.params, 2.0**product.output_bits / product.params.modulus
    switches = (product.merge**2 - 1) / 3 * max(p.primes) ** 2 / 12 / p.special**2
    return 4.0**-product.guard_a / 12 + (2 * NOISE_VARIANCE + switches) * unit**2


def upload_hint(product: MatmulPlan, known: float) -> float:
    """B of the hints on the noise of what is uploaded for one tile of rows; known: the deviation of that noise in each.

    The largest eigenvalue is that of a matrix of independent numbers with so many rows and columns (Marchenko and
    Pastur 1967).
    """
    numbers, coordinates = product.d0 * product.columns, product.inner_tiles * product.params.n
    return (known / DEVIATION) ** 2 * (1 + math.sqrt(numbers / coordinates)) ** 2


def wear(product: MatmulPlan) -> float:
    """The part of a key that this product takes; 1 is a whole key."""
    coordinates = product.uploads * product.params.n
    by_hints = hints(product) * hint_size(product) / (SERVER_NOISE**2 * KEY_ROOM)
    return by_hints + coordinates / 2.0**LOG_COORDINATES
