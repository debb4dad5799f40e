"""Time and memory of attention with the entropy of its rows, forward and backward: all probabilities, or row blocks.

    python benchmarks/attention_kernels.py --out docs/results.md

Replaces what stands between the section's two marks in that file. Each measurement is a process of its own, since the
memory is the most that it ever held, less what it held before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from pathlib import Path

import torch
from sections import write_section

from aero.models.attend import Wanted, attend, choose_kernel
from aero.models.attention import additive_causal_mask
from aero.report.record import machine

LENGTHS = (128, 256, 512, 1024, 2048, 4096)
HEADS, WIDTH, TOKENS = 4, 64, 4096
WANTED = {"none": Wanted(), "entropy": Wanted(entropy=True), "log-sum-exp": Wanted(log_sum_exp=True)}
CASES = (("materialised", "none"), ("library", "none"), ("materialised", "entropy"), ("blockwise", "entropy"))


def measure(kernel: str, rows: str, length: int, dtype: torch.dtype, seconds: float) -> dict[str, float]:
    """The fastest of the runs that fit into so many seconds of the processor (at least two)."""
    torch.set_num_threads(1)
    q, k, v = (
        torch.randn(TOKENS // length, HEADS, length, WIDTH).mul(0.5).to(dtype).requires_grad_() for _ in range(3)
    )
    mask = additive_causal_mask(length, 0, None, dtype, q.device) if kernel == "materialised" else None
    torch.randn(2, 2).mm(torch.randn(2, 2))  # the libraries are loaded now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.process_time()
        output, found = attend(q, k, v, kernel, WANTED[rows], mask)  # type: ignore[arg-type]
        loss = output.float().sum()
        for value in (found.entropy, found.log_sum_exp):
            loss = loss if value is None else loss + value.square().mean()
        loss.backward()
        times.append(time.process_time() - start)
        q.grad = k.grad = v.grad = None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"milliseconds": 1e3 * min(times), "mebibytes": (peak - before) / 1024}


def table(dtype: str, seconds: float) -> list[str]:
    head = " | ".join(f"{kernel}, {rows}: ms | MiB" for kernel, rows in CASES)
    lines = [f"| T | {head} | default with entropy |"]
    lines.append("|---:|" + "---:|" * (2 * len(CASES)) + "---|")
    for length in LENGTHS:
        cells = []
        for kernel, rows in CASES:
            with multiprocessing.get_context("fork").Pool(1) as pool:
                found = pool.apply(measure, (kernel, rows, length, getattr(torch, dtype), seconds))
            cells += [f"{found['milliseconds']:.1f}", f"{found['mebibytes']:.0f}"]
        default = choose_kernel(WANTED["entropy"], length, torch.device("cpu"), masked=False)
        lines.append(f"| {length} | " + " | ".join(cells) + f" | {default} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file in which to replace the table")
    parser.add_argument("--dtype", default="bfloat16,float32", help="separated by commas")
    parser.add_argument("--seconds", type=float, default=0.2, help="for each measurement")
    given = parser.parse_args()
    lines = [
        f"Forward and backward of one layer, {HEADS} heads of {WIDTH}, {TOKENS} tokens as texts of T, one thread.",
        "ms: of the processor, since other work shares the machine; MiB: peak above the inputs.",
        f"On: {machine()}.",
        *(line for dtype in given.dtype.split(",") for line in ("", f"{dtype}:", "", *table(dtype, given.seconds))),
    ]
    if given.out:
        write_section(given.out, "attention kernels", "\n".join(["", *lines, ""]))


if __name__ == "__main__":
    main()
