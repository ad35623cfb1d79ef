"""``make bench``: ratios measured side by side in one run; seconds drift between machines, ratios much less.

Each line times two ways to the same output in turn, A B A B ..., and prints the median of the pairwise ratios with their range.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

import snowmelt
from snowmelt.degradations import RecursiveBlur
from snowmelt.recipes.report import environment

BLURS = [
    ("MNIST 32 px, 11 taps of 7 px, T = 20, circular", "recursive-blur:steps=20", (32, 1, 32, 32)),
    ("CIFAR 32 px, special-6, T = 50, mirrored", "recursive-blur:routine=special-6,steps=50", (32, 3, 32, 32)),
    (
        "128 px, 27 taps growing, T = 300, circular",
        "recursive-blur:routine=exponential,kernel_size=27,kernel_std=0.01,steps=300",
        (4, 3, 128, 128),
    ),
]


def loop(blur: RecursiveBlur, x: Tensor) -> Tensor:
    """The definition: one more depthwise convolution a step, T of them."""
    channels = x.shape[1]
    for kernel in blur.kernels().to(x):
        pad = len(kernel) // 2
        x = functional.pad(x, (pad,) * 4, mode="reflect" if blur.reflects else "circular")
        x = functional.conv2d(x, torch.outer(kernel, kernel).expand(channels, 1, -1, -1), groups=channels)
    return x


def ratio(slow: Callable[[], Tensor], fast: Callable[[], Tensor], runs: int) -> tuple[float, float, float]:
    """Time of `slow` over time of `fast`: median, minimum and maximum of `runs` pairs, after one warm-up each."""
    fast()
    found = []
    for _ in range(runs):
        seconds = []
        for way in (slow, fast):
            start, repeats = time.perf_counter(), 0
            while repeats == 0 or time.perf_counter() - start < 0.05:
                way()
                repeats += 1
            seconds.append((time.perf_counter() - start) / repeats)
        found.append(seconds[0] / seconds[1])
    return statistics.median(found), min(found), max(found)


def closed_form(runs: int) -> list[dict[str, object]]:
    """The blur of a batch at t = 1: T convolutions against the closed form."""
    out: list[dict[str, object]] = []
    for title, spec, shape in BLURS:
        blur = snowmelt.build(spec)
        x = torch.empty(shape).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
        t = torch.ones(len(x))
        error = float((loop(blur, x) - blur(x, t)).abs().max())
        median, low, high = ratio(lambda b=blur, x=x: loop(b, x), lambda b=blur, x=x, t=t: b(x, t), runs)
        out.append({"what": title, "steps": blur.steps, "ratio": median, "low": low, "high": high, "max_error": error})
        print(f"closed form against recursive loop, t = {blur.steps:3d} ({title}): x {median:,.0f}", end="  ")
        print(f"({low:,.0f} to {high:,.0f}), same output to {error:.0e}")
    return out


def main() -> None:
    """Run the benchmarks; with --out, keep the figures as JSON with date, commit and device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="pairs per line")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures, such as benchmarks/results/closed-form.json")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = closed_form(options.runs)
    if options.out:
        record = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}", "environment": environment(), "closed_form": rows}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
