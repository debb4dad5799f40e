"""Time and memory of attention with the entropy of its rows, forward and backward: all probabilities, or row blocks.

    python benchmarks/attention_kernels.py --out docs/results.md

Replaces what stands between the two marks in that file. Each measurement is a process of its own, since the memory is
the most that it ever held, less what it held before.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from aero.bench.record import machine
from aero.data.atomic import write_text
from aero.models.attend import Wanted, attend, choose_kernel
from aero.models.attention import additive_causal_mask

BEGIN, END = "<!-- attention kernels: begin -->", "<!-- attention kernels: end -->"
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
HEADS, WIDTH = 4, 64
WANTED = {"none": Wanted(), "entropy": Wanted(entropy=True), "log-sum-exp": Wanted(log_sum_exp=True)}
CASES = (("materialised", "none"), ("library", "none"), ("materialised", "entropy"), ("blockwise", "entropy"))


def measure(kernel: str, rows: str, length: int, dtype: torch.dtype, seconds: float) -> dict[str, float]:
    """The fastest of the runs that fit into so many seconds (at least two)."""
    torch.set_num_threads(1)
    q, k, v = (torch.randn(1, HEADS, length, WIDTH).mul(0.5).to(dtype).requires_grad_() for _ in range(3))
    mask = additive_causal_mask(length, 0, None, dtype, q.device) if kernel == "materialised" else None
    torch.randn(2, 2).mm(torch.randn(2, 2))  # the libraries are loaded now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        output, found = attend(q, k, v, kernel, WANTED[rows], mask)  # type: ignore[arg-type]
        loss = output.float().sum()
        for value in (found.entropy, found.log_sum_exp):
            loss = loss if value is None else loss + value.square().mean()
        loss.backward()
        times.append(time.perf_counter() - start)
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
            child = [sys.executable, __file__, "--child", kernel, rows, str(length), dtype, str(seconds)]
            done = subprocess.run(child, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            cells += [f"{found['milliseconds']:.1f}", f"{found['mebibytes']:.0f}"]
        default = choose_kernel(WANTED["entropy"], length, torch.device("cpu"), masked=False)
        lines.append(f"| {length} | " + " | ".join(cells) + f" | {default} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file in which to replace the table")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--seconds", type=float, default=0.2, help="for each measurement")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        kernel, rows, length, dtype, seconds = given.child
        print(json.dumps(measure(kernel, rows, int(length), getattr(torch, dtype), float(seconds))))
        return
    lines = [
        f"Forward and backward of one layer, {HEADS} heads of {WIDTH}, one text, {given.dtype}, one thread; memory is",
        f"the peak above the inputs. On: {machine()}. `python benchmarks/attention_kernels.py`.",
        "",
        *table(given.dtype, given.seconds),
    ]
    if given.out:
        text = given.out.read_text(encoding="utf-8")
        if BEGIN not in text or END not in text:
            raise SystemExit(f"error: {given.out} has no marks {BEGIN} and {END}; add them where the table should be")
        head, tail = text.split(BEGIN)[0], text.split(END)[1]
        write_text(given.out, head + "\n".join([BEGIN, "", *lines, "", END]) + tail)


if __name__ == "__main__":
    main()
