"""What the best known lattice attack on our parameters costs: `python benchmarks/lattice_estimate.py`.

The primal attack: BKZ finds the unusually short vector (e, s) of the embedding lattice once its block size beta
satisfies (Albrecht, Goepfert, Virdia, Wunderer 2017)

    sqrt(beta) sigma  <=  delta^(2 beta - d) (q^m (sigma / sigma_s)^n)^(1/d),     d = n + m + 1,

with the secret scaled to the noise (Bai and Galbraith 2014) and delta the root Hermite factor of block size beta (Chen
2013). Two prices of BKZ: the one behind the tables of the Homomorphic Encryption Standard, 2^(0.292 beta + 16.4) for
each of 8 d calls, and the cautious 2^(0.292 beta) alone ("core-SVP", Alkim et al. 2016).

It is a formula, not the lattice estimator: dual, hybrid and decoding attacks are not in it. At the Standard's own
table it gives back the 128 bits to within about a bit, which is the check that it is the right formula.
"""

import math

from aero.kernels.rlwe import DEVIATION, MAX_LOG_MODULUS, SHARES, WEIGHTS, WIDE
from aero.kernels.slots import NOISE_VARIANCE, P37, P50, SLOTS
from aero.mpc.hints import EFFECTIVE

TERNARY = math.sqrt(2 / 3)


def log_delta(beta: float) -> float:
    return math.log2((math.pi * beta) ** (1 / beta) * beta / (2 * math.pi * math.e)) / (2 * (beta - 1))


def succeeds(beta: float, n: int, log_q: float, m: int, sigma: float, secret: float) -> bool:
    d = n + m + 1
    log_volume = m * log_q + n * math.log2(sigma / secret)
    return 0.5 * math.log2(beta) + math.log2(sigma) <= (2 * beta - d) * log_delta(beta) + log_volume / d


def block_size(n: int, log_q: float, sigma: float, secret: float) -> tuple[int, int]:
    """The smallest block size, and its lattice dimension, over all numbers m of samples up to 2 n."""
    best = (10**9, 0)
    for m in range(n // 4, 2 * n, max(1, n // 64)):
        low, high = 60, 4 * n
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if succeeds(middle, n, log_q, m, sigma, secret) else (middle + 1, high)
        best = min(best, (low, n + m + 1))
    return best


def report(name: str, n: int, log_q: float, sigma: float, secret: float) -> None:
    """sigma, secret: deviations of the noise and of the secret."""
    beta, d = block_size(n, log_q, sigma, secret)
    standard, core = 0.292 * beta + 16.4 + math.log2(8 * d), 0.292 * beta
    print(
        f"{name:<22} n={n:<5} log2(QP)={log_q:6.1f}  beta={beta:<4}  {standard:6.1f} bits   core-SVP {core:6.1f} bits"
    )


if __name__ == "__main__":
    for degree, limit in MAX_LOG_MODULUS.items():
        report("the guidelines' limit", degree, limit, 3.19, 3.19)
    report("the Standard's limit", 4096, 109, 3.2, TERNARY)
    for label, params in (("WEIGHTS", WEIGHTS), ("SHARES", SHARES), ("WIDE", WIDE)):
        report(label, params.n, params.log_modulus, DEVIATION, DEVIATION)
        report(f"{label}, worn", params.n, params.log_modulus, EFFECTIVE, EFFECTIVE)
        report(f"{label}, uploads only", params.n, math.log2(params.modulus), DEVIATION, DEVIATION)
    for label, field in (("P50", P50), ("P37", P37)):
        report(f"slots.{label}", SLOTS, math.log2(math.prod(field.primes)), math.sqrt(NOISE_VARIANCE), TERNARY)
