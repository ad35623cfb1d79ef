r"""Evaluation: Degraded, linear Wiener, Direct and Sampled side by side, on pictures the training never saw.

Every method starts from the same degraded pictures at t = 1 and is scored by the same measures, on pictures drawn once by a
seed. The rows that keep a result honest are always there:

* *Degraded*: what doing nothing scores;
* *Linear Wiener*: what the best linear restorer scores, which knows the operator, the draw and the data's mean and covariance; for degradations that
  are linear and pictures of up to 3,072 values;
* *Diagonal Wiener*: the Wiener filter that knows only the variances in the basis in which the operator is diagonal: the one inside the network's
  own preconditioning, for operators that have such a basis;
* *Direct*: one call of the restorer;
* each sampler at each number of calls, scored at its end, x at t = 0, and by its last estimate.

Pictures are degraded twice: in floating point, where a strong blur still hides more in its digits than an eye or a file
could hold, and rounded to 8 bits, as a saved picture is. *Inconsistency* is the RMSE between the restored picture, degraded
again, and what was given: a pretty lie is caught by it.

Source: REFERENCE tables of Bansal et al. 2022 (arXiv 2208.09392) for the columns; Blau and Michaeli 2018
(arXiv 1711.06077) for why one call wins in RMSE and a walk in perception.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.files import write_text
from snowmelt.metrics import Distortion
from snowmelt.metrics import rmse as root_mean_square
from snowmelt.model import Model
from snowmelt.pictures import markdown_table
from snowmelt.randomness import generators, permutation
from snowmelt.restorers import LinearRestorer, Restorer, Wiener, Zero
from snowmelt.restorers.linear import LARGEST
from snowmelt.samplers import Sampler
from snowmelt.types import Batch, State, severity

Input = Literal["float", "8bit"]
Method = Callable[[Model, State, Sequence[int]], tuple[Batch, Batch | None]]

INPUTS: tuple[Input, ...] = ("float", "8bit")
_WIENER_SIGMAS = (2.3e-3, 2.3e-4, 2.3e-5)
_FIT_IMAGES = 20_000


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        rows: one mapping per method and input: method, input, calls, images, rmse (and its 95 % interval), psnr, ssim,
            inconsistency, rmse of the last estimate.
        facts: what it was measured on: data, model, seed, versions.
        verdict: what the numbers say, in sentences; the first one is the headline.
    """

    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    verdict: list[str]

    def table(self, input: Input) -> list[dict[str, Any]]:
        """The rows of one input, ready for a table."""
        keep = ("method", "calls", "rmse", "psnr", "ssim", "inconsistency", "RMSE of last estimate")
        return [{name: row[name] for name in keep if name in row} for row in self.rows if row["input"] == input]

    def markdown(self) -> str:
        """The report as Markdown."""
        parts = ["\n".join(self.verdict)]
        for name in INPUTS:
            parts.append(f"Degraded pictures {TITLES[name]}:\n\n{markdown_table(self.table(name), best=BEST)}")
        parts.append("\n".join(f"- {key}: {value}" for key, value in self.facts.items()))
        return "\n\n".join(parts) + "\n"

    def write(self, out: Path) -> None:
        """evaluation.json and evaluation.md in the directory `out`."""
        write_text(out / "evaluation.json", json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        write_text(out / "evaluation.md", self.markdown())


TITLES: dict[Input, str] = {"float": "in floating point", "8bit": "rounded to 8 bits, as in a file"}
BEST: dict[str, Literal["low", "high"]] = {"inconsistency": "low", "RMSE of last estimate": "low"}


def evaluate(
    model: Model,
    test: Dataset,
    validation: Dataset,
    train: Dataset,
    *,
    samplers: Iterable[Sampler],
    images: int,
    seed: int = 0,
    batch: int = 250,
    device: torch.device | str = "cpu",
    tick: Callable[[int], None] = lambda n: None,
) -> Report:
    """Score a model on test pictures.

    Args:
        model: what was trained.
        test: clean pictures it never saw; read once.
        validation: clean pictures on which the linear Wiener filter's noise level is chosen.
        train: clean pictures that give the linear Wiener filter its spectrum.
        samplers: the walks to compare.
        images: how many test pictures, drawn by the seed.
        seed: of that choice and of all draws.
        batch: pictures at a time.
        device: where to compute.
        tick: called with the number of pictures done, once a method and batch; see :func:`work`.
    """
    model, samplers = model.to(device), list(samplers)
    best_linear, statistics = full_wiener(model, train), _statistics(model, train)
    chosen = permutation(seed, "evaluation", 0, len(test))[:images].tolist()
    rows = []
    for name in INPUTS:
        seen = dataclasses.replace(model, input=name)  # how the pictures were degraded, whatever the restorer was trained for
        linear = diagonal_wiener(seen, statistics, validation, seed=seed, device=device)
        methods: list[tuple[str, int, Method]] = [("Degraded", 0, _degraded)]
        if best_linear is not None:
            methods.append(("Linear Wiener", 1, best_linear))
        if linear is not None:
            methods.append(("Diagonal Wiener", 1, linear))
        methods += [("Direct", 1, _direct), *((_title(s), s.steps, _walk(s, seed)) for s in samplers)]
        for title, calls, method in methods:
            restores = seen if method is linear else model
            scores = _score(restores, seen, method, test, chosen, seed=seed, batch=batch, device=device, tick=tick)
            rows.append({"method": title, "input": name, "calls": calls, "images": len(chosen), **scores})
        if len(chosen) < len(test):
            ids = list(range(len(test)))
            everything = _score(seen, seen, _degraded, test, ids, seed=seed, batch=batch, device=device, tick=lambda n: None)
            rows.append({"method": f"Degraded, all {len(test):,}", "input": name, "calls": 0, "images": len(test), **everything})
    facts = {
        "degradation": registry.spec(model.degradation),
        "test pictures": f"{len(chosen):,} of {len(test):,}, drawn with seed {seed}",
        "told of the draw": ", ".join(model.restorer.context) or "nothing" if isinstance(model.restorer, Restorer) else "unknown",
        "trained for": f"{'pictures rounded to 8 bits' if model.input == '8bit' else 'floating point'}, noise floor {model.noise_floor:g}",
    }
    return Report(rows, facts, verdict([row for row in rows if row["input"] == model.input]))


def work(model: Model, shape: tuple[int, ...], images: int, samplers: int) -> int:
    """How many pictures of `shape` `tick` will be told of in all."""
    filters = _is_small_and_linear(model, shape) + (model.degradation.basis is not None)
    return len(INPUTS) * images * (2 + filters + samplers)


def _statistics(model: Model, train: Dataset) -> Restorer | None:
    """A restorer without a network, fitted to the training set; None where the operator is diagonal in no basis."""
    if model.degradation.basis is None:
        return None
    return _diagonal(model, train.shape, _WIENER_SIGMAS[0]).fit(_batches(train))


def _diagonal(model: Model, shape: tuple[int, ...], sigma: float) -> Restorer:
    return Restorer(model.degradation, Zero(), shape, parameterization=Wiener(sigma), noise_floor=model.noise_floor)


def diagonal_wiener(
    model: Model, fitted: Restorer | None, validation: Dataset, *, seed: int, device: torch.device | str
) -> Method | None:
    """The Wiener filter in the operator's own basis; None where it is diagonal in none.

    Its noise level is the one of three that does best on validation pictures, rounding, a tenth and a hundredth of it, as far as
    they lie above the noise floor.
    """
    if fitted is None:
        return None
    best: tuple[float, Method] | None = None
    indices = range(min(len(validation), 256))
    for sigma in dict.fromkeys(max(sigma, model.noise_floor) for sigma in _WIENER_SIGMAS):
        restorer = _diagonal(model, fitted.shape, sigma)
        restorer.load_state_dict(fitted.state_dict())
        filtered = dataclasses.replace(model, restorer=restorer.to(device))
        method: Method = lambda model, state, ids, filtered=filtered: _direct(filtered, state, ids)  # type: ignore[misc]  # noqa: E731
        if not len(indices):
            return method
        x0, state = _start(filtered, validation, indices, seed=seed, device=device)
        error = root_mean_square(method(filtered, state, indices)[0], x0)
        if best is None or error < best[0]:
            best = (error, method)
    return best[1] if best else None


def full_wiener(model: Model, train: Dataset) -> Method | None:
    """The best linear restorer as a method; None for degradations that are not linear, and for large pictures.

    Where there is no noise floor it allows for the rounding of 8 bits, in floating point too.
    """
    if not _is_small_and_linear(model, train.shape):
        return None
    sigma = max(model.noise_floor, _WIENER_SIGMAS[0])
    filtered = LinearRestorer(model.degradation, _batches(train), sigma)

    def method(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
        return filtered(state.x, severity(state.t, state.x), state.z), None

    return method


def _is_small_and_linear(model: Model, shape: tuple[int, ...]) -> bool:
    return model.degradation.linear and math.prod(shape) <= LARGEST


def _batches(data: Dataset) -> Iterator[Batch]:
    """Clean pictures of the training set, as many as statistics are taken from."""
    last = min(len(data), _FIT_IMAGES)
    return (data.batch(range(i, min(i + 256, last)))["x0"] for i in range(0, last, 256))


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """What the rows of one input say; the first sentence is the headline, and says it when a restorer disappoints."""
    by_name = {row["method"]: row for row in rows}
    direct, degraded = by_name["Direct"], by_name["Degraded"]
    filters = [by_name[name] for name in ("Linear Wiener", "Diagonal Wiener") if name in by_name]
    linear = min(filters, key=lambda row: row["rmse"], default=None)
    gain = direct["psnr"] - degraded["psnr"]
    against = "" if linear is None else f", {direct['psnr'] - linear['psnr']:+.2f} dB against the best linear filter"
    headline = f"One call of the restorer gains {gain:+.2f} dB over the degraded pictures{against}."
    if gain < 3 or (linear is not None and direct["rmse"] >= linear["rmse"]):
        headline = "Not convincing: " + headline[0].lower() + headline[1:]
    out = [headline]
    walks = [row for row in rows if "RMSE of last estimate" in row]
    if walks:
        best = min(walks, key=lambda row: row["rmse"])
        word = "lower" if best["rmse"] < direct["rmse"] else "higher"
        out.append(
            f"Of the walks below, {best['method']} with {best['calls']} calls has the lowest RMSE: {best['rmse']:.3f}, "
            f"{word} than one call's {direct['rmse']:.3f}"
            + (". A walk trades distortion for detail: look at the pictures." if word == "higher" else ".")
        )
    return out


def _score(
    model: Model,
    seen: Model,
    method: Method,
    data: Dataset,
    chosen: Sequence[int],
    *,
    seed: int,
    batch: int,
    device: torch.device | str,
    tick: Callable[[int], None],
) -> dict[str, Any]:
    scores, last, squares = Distortion(), Distortion(), []
    for i in range(0, len(chosen), batch):
        ids = chosen[i : i + batch]
        x0, state = _start(seen, data, ids, seed=seed, device=device)
        out, estimate = method(model, state, ids)
        scores.update(out, x0)
        if estimate is not None:
            last.update(estimate, x0)
        if not model.degradation.hidden:
            t = severity(1.0, x0)
            again = model.degradation(out, t, state.z) - model.degradation(x0, t, state.z)
            squares.append(again.div(2).square().flatten(1).mean(1).cpu())
        tick(len(ids))
    found: dict[str, Any] = {**scores.compute(), "intervals": scores.interval()}
    if method is not _degraded and squares:
        found["inconsistency"] = float(torch.cat(squares).mean().sqrt())
    return found | ({"RMSE of last estimate": last.compute()["rmse"]} if len(last) else {})


def _start(model: Model, data: Dataset, ids: Sequence[int], *, seed: int, device: torch.device | str) -> tuple[Batch, State]:
    """Clean pictures and the state at t = 1 that restoring them starts from; draws are keyed by the pictures' numbers."""
    x0 = data.batch(ids)["x0"]
    state = model.corrupt(x0, 1.0, generators(seed, "evaluation-draw", ids))
    # What nobody could know stays behind, noise above all.
    z = {name: value.to(device) for name, value in state.z.items() if name not in model.degradation.hidden}
    return x0.to(device), State(state.x.to(device), 1.0, z)


def _degraded(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
    return state.x, None


@torch.no_grad()
def _direct(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
    return model.estimate(state.x, severity(state.t, state.x), state.z), None


def _walk(sampler: Sampler, seed: int) -> Method:
    def method(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
        *_, end = sampler.trajectory(model, state, generators(seed, "evaluation-walk", ids))
        return end.x, end.x0

    return method


def _title(sampler: Sampler) -> str:
    """The paper's names for its two algorithms, the registered name for others."""
    name = {"naive": "Algorithm 1 (naive)", "tacos": "Algorithm 2 (TACoS)"}.get(registry.label(type(sampler)), registry.label(type(sampler)))
    return f"{name}{', order 2' if sampler.order == 2 else ''}"
