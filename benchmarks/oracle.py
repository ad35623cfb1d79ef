"""What do samplers do when the restorer is exact? Two benches of closed-form posterior means, without training.

Orders: one Gaussian, where each walk is an affine map. The figure is the relative error of the standard deviation that a walk ends with.

- constant: x_t = exp(-2.5 t^2) x0 with a noise floor of 0.1, data of variance 1.7;
- flow, variance preserving: noise with the schedules linear and cosine, the same data.

Samples: the mixture of 25 Gaussians that fits the bundled digits of 8 x 8 px (snowmelt.testing.digits_mixture), 3,000 walks, each begun from a
degraded fresh sample. The figure is the sliced Wasserstein-2 distance (512 directions) of the ends from 3,000 further samples of the mixture; two
such sets are apart by the *floor*.

- blur: to 4 px in a geometric ladder from 0.3 px, noise floor 0.02; ancestral walks have the noise as a part of the path, so that they can renew it;
- mask: a soft hole in the middle, noise floor 0.02;
- noise, flow: the schedules cosine and linear;
- warm: that blur and noise with the schedule cosine.

    python benchmarks/oracle.py --out benchmarks/results/oracle.json --figure docs/images/oracle.svg
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import snowmelt
from snowmelt.degradations import Compose, Degradation, GaussianBlur, GaussianNoise, LinearDegradation
from snowmelt.model import Model
from snowmelt.pictures.curves import curve_svg
from snowmelt.randomness import generator
from snowmelt.recipes.report import environment
from snowmelt.restorers import Informed
from snowmelt.samplers import Ancestral, Heun, Naive, Sampler, TACoS
from snowmelt.schedules import Cosine, Linear
from snowmelt.testing import digits_mixture, mixture, sliced_wasserstein, wiener
from snowmelt.types import Draw, State

FLOOR, WIDEST_PX, FINEST_PX = 0.02, 4.0, 0.3
VARIANCE, CONSTANT = 1.7, 0.1
ORDER_CALLS, CALLS = (8, 16, 32, 64, 256), (5, 8, 12, 50)
SETS = 5  # pairs of fresh sets for the floor
PATHS = ("blur", "mask", "noise", "flow", "warm")


# --- orders ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dim(LinearDegradation):
    """x_t = exp(-2.5 t^2) x0."""

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return torch.exp(-2.5 * t**2) * x


ORDERS: dict[str, tuple[Degradation, float, dict[str, Callable[[int], Sampler]]]] = {
    "constant": (Dim(), CONSTANT, {"TACoS": TACoS, "Heun": Heun, "TACoS, order 2": lambda n: TACoS(n, order=2)}),
    "flow": (
        GaussianNoise(Linear()),
        0.0,
        {"DDIM": lambda n: Ancestral(n, eta=0.0), "Heun": Heun, "DDIM, order 2": lambda n: Ancestral(n, eta=0.0, order=2)},
    ),
    "variance preserving": (
        GaussianNoise(Cosine()),
        0.0,
        {"DDIM": lambda n: Ancestral(n, eta=0.0), "Heun": Heun, "DDIM, order 2": lambda n: Ancestral(n, eta=0.0, order=2)},
    ),
}


def spread(sampler: Sampler, degradation: Degradation, floor: float) -> float:
    """The relative error of the standard deviation that a walk with the posterior mean of N(0, VARIANCE) ends with."""
    zero, ends = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    ones = torch.ones(2, 1, dtype=torch.float64)
    alpha = degradation(ones, ends, {"endpoint": torch.zeros_like(ones)})[:, 0]
    first, last = (alpha**2 * VARIANCE + degradation.sigma(ends) ** 2 + floor**2).sqrt()
    model = Model(degradation, wiener(degradation, zero[0], VARIANCE, noise_floor=floor), noise_floor=floor)
    out = sampler.sample(model, State(first.reshape(1, 1), 1.0, {"endpoint": zero}))
    return float((out.squeeze() / last - 1).abs())


def orders() -> Iterator[dict[str, object]]:
    """One row for each path, sampler and number of calls."""
    for path, (degradation, floor, samplers) in ORDERS.items():
        for name, make in samplers.items():
            for calls in ORDER_CALLS:
                yield {"path": path, "sampler": name, "calls": calls, "error": spread(make(calls - (name == "Heun")), degradation, floor)}


def order(rows: list[dict[str, object]], path: str, sampler: str, low: int = 64, high: int = 256) -> float:
    """The measured order: how the logarithm of the error falls with that of the number of calls."""
    errors = {row["calls"]: float(str(row["error"])) for row in rows if row["path"] == path and row["sampler"] == sampler}
    return math.log(errors[low] / errors[high]) / math.log(high / low)


# --- samples -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ladder(GaussianBlur):
    """A blur of 0.3 (sigma_px / 0.3)^t px: a geometric ladder, and the identity at t = 0."""

    def width(self, t: Tensor) -> Tensor:
        return torch.where(t > 0, FINEST_PX * (self.sigma_px / FINEST_PX) ** t, torch.zeros_like(t))


class Bench(NamedTuple):
    """A path with its exact restorer, where its walks begin, and what their ends are compared with."""

    model: Model
    start: State
    fresh: Tensor

    def distance(self, sampler: Sampler, model: Model | None = None) -> float:
        """From the ends of a sampler's walks to fresh samples."""
        out = sampler.sample(model or self.model, self.start, generator(0, "walk"))
        return sliced_wasserstein(out, self.fresh)


def degradation_of(path: str) -> tuple[Degradation, float]:
    """The operator and the noise floor of a path."""
    match path:
        case "blur":
            return Ladder(WIDEST_PX), FLOOR
        case "mask":
            return snowmelt.build("mask:width=0.3,strength=8,centre=middle"), FLOOR
        case "noise":
            return GaussianNoise(Cosine()), 0.0
        case "flow":
            return GaussianNoise(Linear()), 0.0
        case _:
            return Compose((Ladder(WIDEST_PX), GaussianNoise(Cosine()))), 0.0


def bench(path: str, n: int = 3000, seed: int = 0) -> Bench:
    """A path of PATHS with n walks."""
    law, (degradation, floor) = digits_mixture(), degradation_of(path)
    x, _ = law.sample(n, generator(seed, "begun from"))
    fresh, _ = law.sample(n, generator(seed, "compared with"))
    model = Model(degradation, mixture(degradation, *law, noise_floor=floor), noise_floor=floor)
    return Bench(model, model.corrupt(x, 1.0, generator(seed, "draw")), fresh)


def samplers(path: str) -> dict[str, Callable[[int], Sampler]]:
    """The samplers that a path is walked with, by name, for a number of calls."""
    if path in ("blur", "mask"):
        return {
            "Algorithm 1": Naive,
            "Algorithm 1, noise": lambda n: Naive(n, noise=FLOOR),
            "ancestral": Ancestral,
            "TACoS": TACoS,
            "Heun": Heun,
            "order 2": lambda n: TACoS(n, order=2),
        }
    return {
        "Algorithm 1, noise": lambda n: Naive(n, fresh=True),
        "ancestral": Ancestral,
        "TACoS": lambda n: Ancestral(n, eta=0.0),
        "Heun": Heun,
        "order 2": lambda n: Ancestral(n, eta=0.0, order=2),
    }


def noisy(model: Model) -> Model:
    """The same law of x_t with the noise floor as a part of the degradation, so that a sampler may renew it."""
    degradation = Compose((model.degradation, snowmelt.build(f"noise:schedule=constant(sigma={FLOOR})")))
    assert isinstance(model.restorer, Informed)
    return Model(degradation, mixture(degradation, *digits_mixture()))


def renamed(start: State) -> State:
    """The start of a walk with its draw named as :func:`noisy` names it."""
    return start._replace(z={f"0.{name}": value for name, value in start.z.items() if name != "floor"})


def samples(path: str) -> Iterator[dict[str, object]]:
    """One row for each sampler and number of calls, and one for a single call."""
    here = bench(path)
    yield {"path": path, "sampler": "direct", "calls": 1, "distance": here.distance(Naive(1))}
    for name, make in samplers(path).items():
        of, start = (noisy(here.model), renamed(here.start)) if name == "ancestral" and here.model.noise_floor else (here.model, here.start)
        for calls in CALLS:
            yield {"path": path, "sampler": name, "calls": calls, "distance": here._replace(start=start).distance(make(calls), of)}


def floors(n: int = 3000) -> list[float]:
    """The distances of pairs of fresh sets."""
    law = digits_mixture()
    pairs = [[law.sample(n, generator(seed, name))[0] for name in ("begun from", "compared with")] for seed in range(SETS)]
    return [sliced_wasserstein(a, b) for a, b in pairs]


# --- what is shown -----------------------------------------------------------------------------------------


def order_table(rows: list[dict[str, object]]) -> str:
    """Errors over calls, and the measured order, as Markdown."""
    out = ["| path | sampler | " + " | ".join(f"{n} calls" for n in ORDER_CALLS) + " | order |", "|---|---|" + "---|" * (len(ORDER_CALLS) + 1)]
    for path, (_, _, by_name) in ORDERS.items():
        for name in by_name:
            errors = [float(str(row["error"])) for row in rows if row["path"] == path and row["sampler"] == name]
            out.append(f"| {path} | {name} | " + " | ".join(f"{e:.1e}" for e in errors) + f" | {order(rows, path, name):.2f} |")
    return "\n".join(out)


def sample_table(rows: list[dict[str, object]]) -> str:
    """Distances over calls as Markdown, those of one call before them."""
    out = ["| path | sampler | " + " | ".join(f"{n} calls" for n in CALLS) + " |", "|---|---|" + "---|" * len(CALLS)]
    for path in PATHS:
        of = [row for row in rows if row["path"] == path]
        out += [f"| {path} | one call | {row['distance']:.3f}" + " |" * len(CALLS) for row in of if row["sampler"] == "direct"]
        for name in samplers(path):
            out.append(f"| {path} | {name} | " + " | ".join(f"{row['distance']:.3f}" for row in of if row["sampler"] == name) + " |")
    return "\n".join(out)


def figure(rows: list[dict[str, object]], floor: list[float]) -> str:
    """Distance against calls for order 1 and 2 on every path, Algorithm 1 on the blur, and the floor: an SVG."""
    shown = [(path, name) for path in PATHS for name in ("TACoS", "order 2")] + [("blur", "Algorithm 1")]
    series = {
        f"{path}, {name}": [(float(str(r["calls"])), float(str(r["distance"]))) for r in rows if r["path"] == path and r["sampler"] == name]
        for path, name in shown
    }
    middle = sum(floor) / len(floor)
    series["two fresh sets"] = [(float(n), middle) for n in (CALLS[0], CALLS[-1])]
    return curve_svg(
        series,
        title="The exact restorer: distance from the data against calls",
        x_label="calls of the restorer",
        y_label="sliced Wasserstein-2 distance",
        log_x=True,
        log_y=True,
    )


def arguments(about: str | None) -> argparse.Namespace:
    """What was asked for; the threads are set."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    parser.add_argument("--figure", type=Path, help="an SVG file: distance against calls")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def main() -> None:
    """Measure everything and print both tables; with --out, keep all figures as JSON with date, commit and device."""
    options = arguments(__doc__)
    by_order = list(orders())
    print(order_table(by_order), end="\n\n", flush=True)
    by_path = [row for path in PATHS for row in samples(path)]
    floor = floors()
    print(sample_table(by_path))
    print(f"\ntwo fresh sets: {', '.join(f'{f:.3f}' for f in floor)}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        kept = {**environment(), "orders": by_order, "samples": by_path, "floors": floor}
        options.out.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    if options.figure:
        options.figure.write_text(figure(by_path, floor) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
