"""Are severities of equal loss better than uniform ones? Measured on the bundled digits with the exact linear restorer.

The restorer is the linear-Gaussian optimum, with mean and covariance of the training digits, so no training blurs the answer: what differs between
two rows is the severities alone. Walks start from degraded test digits with a noise floor, the same for all. Two figures for each walk:

- law: the Gaussian Wasserstein-2 distance, root mean square per pixel, between the outputs and the clean test digits (means and covariances);
- path: the root mean square distance of the outputs from those of a walk of 128 uniform severities, the error of taking large steps.

    python benchmarks/schedule.py --out benchmarks/results/schedule.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.randomness import generators
from snowmelt.recipes.report import environment
from snowmelt.restorers.information import errors, spaced
from snowmelt.restorers.linear import LinearRestorer
from snowmelt.samplers import Ancestral, Sampler, TACoS
from snowmelt.types import State

SPECS = (
    "gaussian-blur:sigma_px=4",
    "gaussian-blur:sigma_px=8",
    "recursive-blur:routine=constant,kernel_std=0.7,steps=20",
    "mask:width=0.5,strength=8",
    "pixelate:levels=3",
    "noise",
    "noise:schedule=linear",
)
CALLS = (4, 8, 12)
POWERS = {"mean square": 1.0, "root": 0.5}
KNOTS, FINE = 64, 128


def digits(split: str) -> Tensor:
    data = open_data(DataOptions(path="bundled:digits"), split)
    return data.batch(range(len(data)))["x0"].double()


def root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.mT


def law(x: Tensor, y: Tensor) -> float:
    """The Wasserstein-2 distance of two Gaussians with the samples' means and covariances, per pixel."""
    a, b = torch.cov(x.flatten(1).mT), torch.cov(y.flatten(1).mT)
    half = root(a)
    squared = (x.mean(0) - y.mean(0)).square().sum() + (a + b - 2 * root(half @ b @ half)).trace()
    return float((squared.clamp(min=0) / x[0].numel()).sqrt())


def walk(degradation: Degradation, restorer: LinearRestorer, sampler: Sampler, state: State) -> Tensor:
    known = {name: value for name, value in state.z.items() if name in degradation.tells}
    return sampler.sample(Model(degradation, lambda x_t, t: restorer(x_t, t, known)), state)


def measure(spec: str, floor: float) -> list[dict[str, object]]:
    """Every number of calls, order and spacing for one operator."""
    d: Degradation = snowmelt.build(spec)
    train, test = digits("train"), digits("test")
    restorer = LinearRestorer(d, [train], floor)
    model = Model(d, restorer, noise_floor=floor)
    state = model.corrupt(test, 1.0, generators(0, "schedule", range(len(test))))
    severities = [i / KNOTS for i in range(KNOTS + 1)]
    curve = errors(d, train, severities, sigma=floor).mean(1).tolist()
    sampler: Sampler = Ancestral(eta=0.0) if d.noise else TACoS()
    end = walk(d, restorer, replace(sampler, steps=FINE), state)
    rows: list[dict[str, object]] = []
    for calls in CALLS:
        times = {"uniform": ()} | {name: tuple(spaced(severities, curve, calls, power=power)) for name, power in POWERS.items()}
        for order in (1, 2):
            for name, chosen in times.items():
                out = walk(d, restorer, replace(sampler, steps=calls, order=order, times=chosen), state)
                row = {"degradation": spec, "floor": floor, "calls": calls, "order": order, "severities": name}
                rows.append(row | {"law": law(out, test), "path": float((out - end).square().mean().sqrt())})
    return rows


def ratios(rows: list[dict[str, object]], name: str, figure: str) -> list[float]:
    """The figure with equal losses over that with uniform severities, row by row: below 1 the suggestion is better."""
    chosen = [row[figure] for row in rows if row["severities"] == name]
    uniform = [row[figure] for row in rows if row["severities"] == "uniform"]
    return [a / b for a, b in zip(chosen, uniform, strict=True)]


def main() -> None:
    """Measure every operator; print ratios; with --out, keep all figures as JSON with date, commit and device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--floor", type=float, default=0.02, help="standard deviation of the noise floor, on [-1, 1]")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, object]] = []
    print("equal losses over uniform severities, below 1 is better: calls x order = " + ", ".join(f"{c}x{o}" for c in CALLS for o in (1, 2)))
    for spec in SPECS:
        found = measure(spec, options.floor)
        rows += found
        for figure in ("law", "path"):
            for name in POWERS:
                values = ratios(found, name, figure)
                listed = "  ".join(f"{v:5.2f}" for v in values)
                print(f"{spec:58} {figure:5} {name:12} {listed}   geometric mean {np.exp(np.mean(np.log(values))):.2f}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({**environment(), "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
