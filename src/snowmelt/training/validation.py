"""Is it learning? Loss per severity band and PSNR on fixed pictures, fixed severities and fixed draws.

The pictures are the first of the validation split, their severities spread evenly over (0, 1] and their draws keyed by their
number, so two validations differ by the weights alone.
"""

import math
from dataclasses import dataclass

import torch

from snowmelt.data.dataset import Dataset
from snowmelt.losses import Loss, distance
from snowmelt.model import Model
from snowmelt.randomness import generators
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
    """

    loss: float
    bands: tuple[float, ...]
    degraded_psnr_db: float
    restored_psnr_db: float


@torch.no_grad()
def validate(model: Model, data: Dataset, count: int, *, loss: Loss, seed: int, batch: int, device: torch.device) -> Validation:
    """Validate on the first `count` pictures of `data`."""
    count = min(count, len(data))
    levels, losses, before, after = [], [], [], []
    for start in range(0, count, batch):
        indices = range(start, min(start + batch, count))
        item = data.batch(indices)
        z = model.draw(item["x0"], generators(seed, "validation", indices), item)
        levels.append(model.degradation.snapped(_severities(indices), z))
        x0, z = item["x0"].to(device), {name: value.to(device) for name, value in z.items()}
        t = levels[-1].to(x0)
        x_t = model.degrade(x0, t, z)
        estimate = model.estimate(x_t, t, z)
        losses.append(distance(estimate, x0, loss).double().cpu())
        before.append(distance(x_t, x0, "l2").double().cpu())
        after.append(distance(estimate, x0, "l2").double().cpu())
    each = torch.cat(losses)
    band = (torch.cat(levels) * BANDS).ceil().clamp(1, BANDS) - 1
    bands = tuple(float(each[band == i].mean()) if bool((band == i).any()) else math.nan for i in range(BANDS))
    return Validation(float(each.mean()), bands, _psnr(torch.cat(before)), _psnr(torch.cat(after)))


def samples(model: Model, sampler: Sampler, data: Dataset, count: int, *, seed: int, device: torch.device) -> dict[str, Batch]:
    """Degraded, Direct, Sampled and Clean for the first `count` pictures, all from t = 1."""
    indices = range(min(count, len(data)))
    item = {name: value.to(device) for name, value in data.batch(indices).items()}
    x0 = item["x0"]
    state = model.corrupt(x0, 1.0, generators(seed, "validation", indices), item)
    start, *walk = sampler_walk(model, sampler, state, seed, indices)
    return {"Degraded": start.x, "Direct": walk[0].x0 if walk[0].x0 is not None else start.x, "Sampled": walk[-1].x, "Clean": x0}


def sampler_walk(model: Model, sampler: Sampler, state: State, seed: int, indices: range) -> list[State]:
    """The states of a walk whose noise is keyed by the pictures' numbers."""
    return list(sampler.trajectory(model, state, generators(seed, "walk", indices)))


def _severities(indices: range) -> torch.Tensor:
    """Spread evenly over (0, 1], interleaved so that every batch has all of them: the golden ratio is even at any count."""
    return 1 - (torch.tensor(list(indices), dtype=torch.float64) * 0.6180339887498949) % 1


def _psnr(mean_squares: torch.Tensor) -> float:
    """PSNR in dB for data on [-1, 1], from the mean of the squared errors."""
    return -10 * math.log10(max(float(mean_squares.mean()) / 4, 1e-12))
