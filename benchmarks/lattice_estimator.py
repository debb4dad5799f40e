"""What the known attacks on our lattice parameters cost, by the lattice estimator: `python lattice_estimator.py PATH`.

PATH: a checkout of github.com/malb/lattice-estimator (Albrecht, Player, Scott 2015), which this project does not ship.
It needs SageMath, of which wheels do (passagemath-standard-no-symbolics and passagemath-symbolics), and this project,
in one environment.

For every set the cheapest of the attacks that the guidelines price, with as many samples as it wants: unique shortest
vector, bounded distance, and the hybrid dual one. Primal hybrids, which suit sparse secrets, are left out. Price of
lattice reduction: the estimator's default (MATZOV 2022).
"""

import importlib
import math
import sys

from aero.kernels.rlwe import DEVIATION, MAX_LOG_MODULUS, SHARES, WEIGHTS, WIDE
from aero.kernels.slots import NOISE_VARIANCE, P37, P50, SLOTS
from aero.mpc.hints import EFFECTIVE

LEFT_OUT = ("arora-gb", "bkw", "bdd_hybrid", "bdd_mitm_hybrid", "dual")
GUIDELINES = 3.19
TERNARY = math.sqrt(2 / 3)


def sets() -> dict[str, tuple[int, float, float, float]]:
    """By name: degree, log2 of the modulus, deviation of the noise, deviation of the secret."""
    found = {
        f"guidelines' limit, n = {degree}": (degree, float(limit), GUIDELINES, GUIDELINES)
        for degree, limit in MAX_LOG_MODULUS.items()
    }
    for name, params in (("SHARES", SHARES), ("WEIGHTS", WEIGHTS), ("WIDE", WIDE)):
        found[f"{name}, keys, fresh"] = (params.n, math.log2(params.modulus * params.special), DEVIATION, DEVIATION)
        if params is not WEIGHTS:  # no product of shares has its moduli
            found[f"{name}, keys, worn"] = (params.n, math.log2(params.modulus * params.special), EFFECTIVE, EFFECTIVE)
        found[f"{name}, uploads, encryptions of zero"] = (params.n, math.log2(params.modulus), DEVIATION, DEVIATION)
    for name, field in (("slots.P50", P50), ("slots.P37", P37)):
        found[name] = (SLOTS, math.log2(math.prod(field.primes)), math.sqrt(NOISE_VARIANCE), TERNARY)
    return found


def main(path: str) -> None:
    sys.path.insert(0, path)
    estimator = importlib.import_module("estimator")
    noise = estimator.ND.DiscreteGaussian
    print("| what | log2(q) | bits | attack | block size |\n| --- | --- | --- | --- | --- |")
    for name, (n, log_q, error, secret) in sets().items():
        law = estimator.ND.Ternary if secret == TERNARY else noise(secret)
        lwe = estimator.LWE.Parameters(n=n, q=round(2**log_q), Xs=law, Xe=noise(error))
        costs = estimator.LWE.estimate(lwe, deny_list=LEFT_OUT, quiet=True)
        attack, cost = min(costs.items(), key=lambda item: item[1]["rop"])
        print(f"| {name} | {log_q:.1f} | {math.log2(cost['rop']):.1f} | {attack} | {cost['beta']} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} PATH-TO-LATTICE-ESTIMATOR")
    main(sys.argv[1])
