"""One operator, all zero-shot methods, one table: the same pictures, the same measurements, the same walk, and what needs no model beside them.

The rows are *Degraded*, the measurement itself; its pseudo-inverse A^+ y; the full linear Wiener filter, which was told the operator
and the covariance of the training pictures, where pictures are small enough; and the methods of :mod:`snowmelt.restoration.solving`. Measures are
those of :mod:`snowmelt.evaluation`; the measurement error is against y as it was given, with its noise.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from snowmelt import pictures, registry
from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Degradation
from snowmelt.evaluation import filters
from snowmelt.evaluation.scoring import MEASUREMENT
from snowmelt.files import write_text
from snowmelt.metrics import Distortion
from snowmelt.model import Model
from snowmelt.pictures import markdown_table
from snowmelt.randomness import generators, normal, permutation
from snowmelt.restoration.measurement import Measurement, check_operator
from snowmelt.restoration.solving import METHODS, ROUNDING, Method, solve, walk_for
from snowmelt.restorers import LinearRestorer
from snowmelt.samplers import Sampler
from snowmelt.types import Batch
from snowmelt.types import severity as severities

TITLES: dict[Method, str] = {"ddnm": "DDNM", "diffpir": "DiffPIR", "pigdm": "PiGDM", "dps": "DPS"}
TIME = "time"
_SHOWN = 8
_Way: TypeAlias = Callable[[Measurement, Sequence[int]], Batch]


@dataclass(frozen=True)
class Comparison:
    """What was measured.

    Attributes:
        rows: one mapping per method: method, calls, psnr, ssim, measurement error, and time, in units of the quickest walk's.
        facts: on what, and how.
        shown: the first pictures, by the name of what made them.
    """

    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    shown: dict[str, Tensor] = field(repr=False)

    def markdown(self) -> str:
        """The table and what it was measured on, as Markdown."""
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        return f"{markdown_table(self.rows, best={MEASUREMENT: 'low'})}\n{facts}\n"

    def write(self, out: Path) -> None:
        """solve.json, solve.md and solve.png in the directory `out`."""
        write_text(out / "solve.json", json.dumps({"rows": self.rows, "facts": self.facts}, indent=2) + "\n")
        write_text(out / "solve.md", self.markdown())
        pictures.save(out / "solve.png", pictures.grid(self.shown))


def compare(
    model: Model,
    operator: Degradation | str,
    test: Dataset,
    train: Dataset | None = None,
    *,
    t: float = 1.0,
    noise: float = 0.0,
    sampler: Sampler | str = "default",
    images: int = 64,
    seed: int = 0,
    batch: int = 32,
    device: torch.device | str = "cpu",
    tick: Callable[[int], None] = lambda n: None,
) -> Comparison:
    """Degrade test pictures by an operator and restore them by every method.

    Args:
        model: one of noise.
        operator: linear for a known draw.
        test: clean pictures the model never saw.
        train: clean pictures whose covariance the Wiener filter is told; None leaves it out.
        t: the severity of the operator.
        noise: standard deviation of the noise that is added to what it leaves; above 0, without ddnm.
        sampler: the walk of all methods.
        images: how many pictures, drawn by the seed.
        seed: of that choice and of all draws.
        batch: pictures at a time.
        device: where to compute.
        tick: told the number of pictures done, once a method and batch; see :func:`work`.

    Raises:
        ValueError: as :func:`~snowmelt.restoration.solve`; or fewer than one picture.
    """
    built: Degradation = registry.build(operator)
    check_operator(built)
    if images < 1 or batch < 1:
        raise ValueError(f"images = {images} in batches of {batch}: both must be at least 1")
    model, walk = model.to(device), walk_for(sampler)
    chosen = permutation(seed, "solve", 0, len(test))[:images].tolist()
    ways = _plain(built, train, t, noise, test.shape) | _methods(model, walk, noise, seed)
    found = {name: _Scores() for name in ways}
    shown: dict[str, list[Tensor]] = {}
    for first in range(0, len(chosen), batch):
        ids = chosen[first : first + batch]
        x0, measured = _measured(built, test, ids, t, noise, seed, device)
        kept = max(0, _SHOWN - first)
        shown.setdefault("Clean", []).append(x0[:kept].cpu())
        for name, way in ways.items():
            out = found[name].add(way, measured, ids, x0)
            shown.setdefault(name, []).append(out[:kept].cpu())
            tick(len(ids))
    facts = _facts(model, built, walk, chosen, test, t, noise, seed)
    return Comparison(_rows(found, walk, model), facts, {name: torch.cat(parts) for name, parts in shown.items()})


def work(operator: Degradation, images: int, shape: tuple[int, ...], *, noise: float = 0.0, trained: bool = True) -> int:
    """How many pictures `tick` will be told of in all."""
    filtered = trained and filters.is_small_and_linear(Model(operator, lambda x, t: x), shape)
    return images * (2 + filtered + len(_fitting(noise)))


class _Scores:
    """What one method scored so far, and how long it took."""

    def __init__(self) -> None:
        self.distortion, self.squares, self.seconds = Distortion(), list[Tensor](), 0.0

    def add(self, way: _Way, measured: Measurement, ids: Sequence[int], x0: Batch) -> Batch:
        began = time.perf_counter()
        out = way(measured, ids)
        if out.is_cuda:
            torch.cuda.synchronize(out.device)  # its calls return before their work is done
        self.seconds += time.perf_counter() - began
        self.distortion.update(out, x0)
        self.squares.append(measured.left(out).div(2).square().flatten(1).mean(1).cpu())
        return out


def _fitting(noise: float) -> list[Method]:
    """The methods that take a measurement with such noise."""
    return [method for method in METHODS if method != "ddnm" or noise == 0]


def _plain(operator: Degradation, train: Dataset | None, t: float, noise: float, shape: tuple[int, ...]) -> dict[str, _Way]:
    """What needs no model of the pictures, or one that is linear."""
    ways: dict[str, _Way] = {"Degraded": lambda m, ids: m.y, "Pseudo-inverse": lambda m, ids: m.back(m.left(torch.zeros_like(m.y)))}
    if train is not None and filters.is_small_and_linear(Model(operator, lambda x, t: x), shape):
        linear = LinearRestorer(operator, filters.clean_batches(train), max(noise, ROUNDING))
        ways["Linear Wiener"] = lambda m, ids: _here(linear, m)
    return ways


def _here(linear: LinearRestorer, m: Measurement) -> Batch:
    """The filter's estimate: it was fitted on the CPU, so that is where it is asked."""
    y = m.y.cpu()
    t = m.t.cpu() if isinstance(m.t, Tensor) else m.t
    return linear(y, severities(t, y), {name: value.cpu() for name, value in m.z.items()}).to(m.y.device)


def _methods(model: Model, walk: Sampler, noise: float, seed: int) -> dict[str, _Way]:
    def way(method: Method) -> _Way:
        def walked(m: Measurement, ids: Sequence[int]) -> Batch:
            draws = generators(seed, "solve-walk", ids)
            return solve(model, m.y, m.operator, t=m.t, z=m.z, method=method, noise=m.noise, sampler=walk, generator=draws)

        return walked

    return {TITLES[method]: way(method) for method in _fitting(noise)}


def _measured(
    operator: Degradation, test: Dataset, ids: Sequence[int], t: float, noise: float, seed: int, device: torch.device | str
) -> tuple[Batch, Measurement]:
    """Clean pictures, and what was measured of them; the draws of each depend on its number alone."""
    item = test.batch(ids)
    x0 = item["x0"]
    z = {**operator.draw(x0, generators(seed, "solve-operator", ids)), **operator.given_by(item)}
    y = operator(x0, severities(t, x0), z)
    if noise > 0:
        y = y + noise * normal(y, generators(seed, "solve-noise", ids))
    return x0.to(device), Measurement(operator, y.to(device), t, {name: value.to(device) for name, value in z.items()}, noise)


def _rows(found: dict[str, _Scores], walk: Sampler, model: Model) -> list[dict[str, Any]]:
    walks = set(TITLES.values())
    quickest = min((scores.seconds for name, scores in found.items() if name in walks), default=math.nan)
    rows: list[dict[str, Any]] = []
    for name, scores in found.items():
        row: dict[str, Any] = {"method": name, "calls": walk.calls(model.degradation) if name in walks else int(name == "Linear Wiener")}
        measures = scores.distortion.compute()
        row |= {measure: value for measure in ("psnr", "ssim") if (value := measures[measure]) is not None}
        row[MEASUREMENT] = float(torch.cat(scores.squares).mean().sqrt())
        rows.append(row | ({TIME: scores.seconds / max(quickest, 1e-9)} if name in walks else {}))
    return rows


def _facts(
    model: Model, operator: Degradation, walk: Sampler, chosen: Sequence[int], test: Dataset, t: float, noise: float, seed: int
) -> dict[str, Any]:
    facts = {
        "model": registry.spec(model.degradation),
        "operator": f"{registry.spec(operator)} at t = {t:g}, known",
        "noise in y": f"standard deviation {noise:g} on [-1, 1]",
        "walk of all methods": registry.spec(walk),
        "pictures": f"{len(chosen):,} of {len(test):,}, drawn with seed {seed}",
        MEASUREMENT: "root mean square of A x - y, on [0, 1]; x is not clamped",
        TIME: "of the walk, in units of the quickest one's on this machine",
    }
    return facts if noise == 0 else facts | {"left out": "DDNM, which takes y at its word"}
