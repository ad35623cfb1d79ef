"""How time and memory grow with resolution, batch, steps and number of pictures: each by factors of two from its first point."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import nets
import torch
from contest import Row, spread
from memory import rise
from timing import over, seconds

import snowmelt
from snowmelt.model import Model
from snowmelt.pictures.curves import curve_svg
from snowmelt.restorers import Restorer
from snowmelt.restorers.backbones import UNet
from snowmelt.samplers import TACoS

TITLE = "How time and memory grow"
ABOUT = (
    "Ours, lean U-Net in bf16. Time and memory over those of the first point; the ratio is the last point over the first, the slope that "
    "of the logarithms: 1 is "
    "proportional, 2 quadratic (the side: twice the side is four times the pixels). Memory is how far the process rises above what it "
    "held; that of a walk does not grow with its steps."
)
FIGURES = {f"speed-{what}.svg": f"{what.capitalize()} over that of the first point, against the factor" for what in ("time", "memory")}
MEMORY_ROUNDS = 1  # a process's memory varies little from one to the next
LEVEL = 1.25  # memory of a walk of eight times the steps: that it does not grow, but for what an allocator does


class Curve(NamedTuple):
    """What is made larger: a title, the first four values, and the work at a value."""

    what: str
    unit: str
    values: tuple[int, ...]
    work: Callable[[int], Callable[[], object]]


def curves(*, quick: bool) -> list[Curve]:
    """The four."""
    net = nets.lean(quick)

    def step(batch: int, px: int) -> Callable[[], object]:
        x, t = nets.batch(batch, px)
        return nets.step(net, x, t, bf16=True, fused=True)

    def walk(pictures: int, calls: int, px: int) -> Callable[[], object]:
        model, sampler = _model(px, small=quick), TACoS(steps=calls)
        x, _ = nets.batch(pictures, px)
        return lambda: [snowmelt.restore(model, part, severity=1.0, sampler=sampler, consistent=False) for part in x.split(16)]

    if quick:
        return [Curve("a restoration", "calls", (1, 2), lambda n: walk(1, n, 8))]
    return [
        Curve("a training step", "px", (32, 64, 128, 256), lambda px: step(2, px)),
        Curve("a training step", "pictures a batch", (8, 16, 32, 64), lambda batch: step(batch, 32)),
        Curve("a restoration", "calls", (5, 10, 20, 40), lambda calls: walk(16, calls, 64)),
        Curve("a restoration", "pictures", (16, 32, 64, 128), lambda pictures: walk(pictures, 4, 32)),
    ]


def measure(*, runs: int, quick: bool) -> list[Row]:
    """Two rows for each curve, time and memory."""
    out: list[Row] = []
    kept = [] if quick else memory(min(runs, MEMORY_ROUNDS))
    for i, curve in enumerate(curves(quick=quick)):
        ways = {str(value): curve.work(value) for value in curve.values}
        times = seconds(ways, runs=1 if quick else min(runs, 3), least_s=0.0)
        out.append(_row("time", curve, list(times.values())))
        if kept:
            out.append(_row("memory", curve, kept[i]))
    return out


def _row(quantity: str, curve: Curve, found: Sequence[Sequence[float]]) -> Row:
    """One curve: the factors of its points, how it grows, and its slope."""
    middles = [over(point, found[0]).median for point in found]
    logs = [math.log2(value / curve.values[0]) for value in curve.values], [math.log2(middle) for middle in middles]
    mean_x, mean_y = (sum(log) / len(log) for log in logs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(*logs, strict=True)) / sum((x - mean_x) ** 2 for x in logs[0])
    points = {f"x {value // curve.values[0]}": middle for value, middle in zip(curve.values[1:], middles[1:], strict=True)}
    what = f"{quantity} of {curve.what}, {curve.values[0]} to {curve.values[-1]} {curve.unit}"
    limit = {"limit": LEVEL} if (quantity, curve.unit) == ("memory", "calls") else {}
    return {"what": what, **points, **spread(over(found[-1], found[0])), "slope": slope, **limit}


def draw(rows: Sequence[Row]) -> dict[str, str]:
    """The figures of these rows, by file name: time and memory, each line a curve."""
    out = {}
    for file, quantity in zip(FIGURES, ("time", "memory"), strict=True):
        lines = {}
        for row in rows:
            if str(row["what"]).startswith(quantity):
                points = [(float(key[2:]), float(value)) for key, value in row.items() if key.startswith("x ")]  # type: ignore[arg-type]
                lines[str(row["what"]).removeprefix(f"{quantity} of ")] = [(1.0, 1.0), *points]
        title = f"{quantity.capitalize()} over that of the first point"
        out[file] = curve_svg(lines, title=title, x_label="factor over the first point", y_label=f"{quantity}, ratio", log_x=True, log_y=True)
    return out


def _model(px: int, *, small: bool) -> Model:
    """Untrained, of the default blur."""
    blur = snowmelt.build("gaussian-blur")
    restorer = Restorer(blur, UNet(widths=nets.SMALL if small else nets.WIDTHS), (nets.CHANNELS, px, px), noise_floor=0.01)
    restorer.fit([torch.rand(8, nets.CHANNELS, px, px) * 2 - 1]).eval()
    restorer.precision = "bf16"
    return Model(blur, restorer, noise_floor=0.01)


def memory(rounds: int) -> list[list[list[float]]]:
    """For each curve and point the bytes of every round, each round of each curve in a process of its own."""
    out: list[list[list[float]]] = []
    for i, curve in enumerate(curves(quick=False)):
        found = [json.loads(_process(str(i)).splitlines()[-1]) for _ in range(rounds)]
        out.append([[one[n] for one in found] for n in range(len(curve.values))])
    return out


def _process(*arguments: str) -> str:
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - this file


def main(number: str) -> None:
    """Print how far each point of that curve raises the memory of this process, as JSON."""
    torch.set_num_threads(1)
    curve = curves(quick=False)[int(number)]
    curve.work(curve.values[0])()  # what is loaded at the first call is no part of any point
    print(json.dumps([rise(lambda value=value: curve.work(value)()) for value in curve.values]))


if __name__ == "__main__":
    main(*sys.argv[1:])
