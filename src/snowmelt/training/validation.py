"""Is it learning? Loss per severity band and PSNR on fixed pictures, fixed severities and fixed draws.

The pictures are the first of the validation split, their severities spread evenly over (0, 1] and their draws keyed by their
number, so two validations differ by the weights alone.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from snowmelt.data.dataset import Dataset
from snowmelt.losses import Loss, distance
from snowmelt.model import Model
from snowmelt.randomness import generators
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler
from snowmelt.types import Batch, State

BANDS = 4


@dataclass(frozen=True)
class Validation:
    """The result of one validation.

    Attributes:
        loss: mean over all pictures.
        bands: mean loss for severities in (0, 1/4], (1/4, 1/2], (1/2, 3/4], (3/4, 1].
        degraded_psnr_db, restored_psnr_db: of the same pictures, before and after one call, from the pooled squared error.
        raw_loss: the loss of the weights that are trained, where `loss` is that of their moving average; None if they were not asked.
    """

    loss: float
    bands: tuple[float, ...]
    degraded_psnr_db: float
    restored_psnr_db: float
    raw_loss: float | None = None

    def table(self) -> dict[str, Any]:
        """As JSON, which has no NaN: what is no finite number is None."""
        plain = dataclasses.asdict(self)
        plain["bands"] = [band if math.isfinite(band) else None for band in self.bands]
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in plain.items()}


def nothing() -> None:
    """What is done between two batches, if nothing is."""


@torch.no_grad()
def validate(
    model: Model,
    data: Dataset,
    count: int,
    *,
    loss: Loss,
    seed: int,
    batch: int,
    device: torch.device,
    raw: Model | None = None,
    tick: Callable[[], None] = nothing,
    counted: Callable[[Batch], torch.Tensor] | None = None,
) -> Validation:
    """Validate on the first `count` pictures of `data`.

    Args:
        model: with the weights whose estimates count, the moving average.
        data: clean pictures that nothing was trained on.
        count: how many of them.
        loss: that of the training, not weighted.
        seed: of the draws.
        batch: pictures in one call.
        device: where the model is.
        raw: the same model with the weights that are trained; its estimates cost as many calls again.
        tick: called after each batch; what it raises ends the validation, of which nothing is left.
        counted: what errors are multiplied by, given the clean samples; by default nothing.
    """
    count = min(count, len(data))
    levels, losses, raws, before, after = [], [], [], [], []
    for start in range(0, count, batch):
        indices = range(start, min(start + batch, count))
        item = data.batch(indices)
        z = model.draw(item["x0"], generators(seed, "validation", indices), item)
        levels.append(model.degradation.snapped(_severities(indices), z))
        x0, z = item["x0"].to(device), {name: value.to(device) for name, value in z.items()}
        t = levels[-1].to(x0)
        x_t = model.degrade(x0, t, z)
        seen = _seen(x0, counted)
        estimate = seen(model.estimate(x_t, t, z))
        losses.append(distance(estimate, x0, loss).cpu().double())
        if raw is not None:
            with _at_rest(raw):
                raws.append(distance(seen(raw.estimate(x_t, t, z)), x0, loss).cpu().double())
        before.append(distance(seen(x_t), x0, "l2").cpu().double())
        after.append(distance(estimate, x0, "l2").cpu().double())
        tick()
    each = torch.cat(losses)
    band = (torch.cat(levels) * BANDS).ceil().clamp(1, BANDS) - 1
    bands = tuple(float(each[band == i].mean()) if bool((band == i).any()) else math.nan for i in range(BANDS))
    raw_loss = float(torch.cat(raws).mean()) if raws else None
    return Validation(float(each.mean()), bands, _psnr(torch.cat(before)), _psnr(torch.cat(after)), raw_loss)


def _seen(x0: Batch, counted: Callable[[Batch], torch.Tensor] | None) -> Callable[[Batch], Batch]:
    """Samples as the loss sees them beside x0: with errors that do not count taken away."""
    if counted is None:
        return lambda x: x
    weights = counted(x0)
    return lambda x: x0 + weights * (x - x0)


@contextlib.contextmanager
def _at_rest(model: Model) -> Iterator[None]:
    """While this lasts, a restorer in training works as its average does: no dropout, and not compiled, which these few calls are not worth."""
    restorer = model.restorer
    if not isinstance(restorer, Restorer):
        yield
        return
    learning, compiled = restorer.training, restorer.compiled
    restorer.compiled = False
    restorer.eval()
    try:
        yield
    finally:
        restorer.compiled = compiled
        restorer.train(learning)


def samples(
    model: Model,
    sampler: Sampler,
    data: Dataset,
    count: int,
    *,
    seed: int,
    device: torch.device,
    tick: Callable[[], None] = nothing,
) -> dict[str, Batch]:
    """Degraded, Direct, Sampled and Clean for the first `count` pictures, all from t = 1; `tick` is called after each step of the walk."""
    indices = range(min(count, len(data)))
    item = {name: value.to(device) for name, value in data.batch(indices).items()}
    x0 = item["x0"]
    state = model.corrupt(x0, 1.0, generators(seed, "validation", indices), item)
    start, *walk = sampler_walk(model, sampler, state, seed, indices, tick=tick)
    return {"Degraded": start.x, "Direct": walk[0].x0 if walk[0].x0 is not None else start.x, "Sampled": walk[-1].x, "Clean": x0}


def sampler_walk(
    model: Model, sampler: Sampler, state: State, seed: int, indices: range, *, tick: Callable[[], None] = nothing
) -> list[State]:
    """The states of a walk whose noise is keyed by the pictures' numbers; `tick` is called after each."""
    states = []
    for one in sampler.trajectory(model, state, generators(seed, "walk", indices)):
        states.append(one)
        tick()
    return states


def _severities(indices: range) -> torch.Tensor:
    """Spread evenly over (0, 1], interleaved so that every batch has all of them: the golden ratio is even at any count."""
    return 1 - (torch.tensor(list(indices), dtype=torch.float64) * 0.6180339887498949) % 1


def _psnr(mean_squares: torch.Tensor) -> float:
    """PSNR in dB for data on [-1, 1], from the mean of the squared errors."""
    return -10 * math.log10(max(float(mean_squares.mean()) / 4, 1e-12))
