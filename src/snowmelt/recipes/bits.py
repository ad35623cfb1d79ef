"""From a trained run to its bits per dimension: its test pictures, its model, and what is written."""

from pathlib import Path
from typing import Any

import torch

from snowmelt import registry
from snowmelt.data.sources import open_data
from snowmelt.evaluation.bits import Bits
from snowmelt.evaluation.bound import bound, grid_of, require
from snowmelt.model import Model, weights_of
from snowmelt.randomness import permutation
from snowmelt.recipes.recipe import Recipe
from snowmelt.recipes.report import environment
from snowmelt.restorers import Restorer
from snowmelt.training.progress import Bar


def bits_per_dim(
    run: Path, recipe: Recipe, model: Model, out: Path, *, images: int, steps: int | None = None, device: torch.device | str = "cpu"
) -> Bits:
    """Bound the bits per dimension of a run's test pictures, and write bound.json, bound.md and bound.svg to `out`.

    Args:
        run: the run directory, for its weights.
        recipe: says which data.
        model: what is judged: the run's own, or that of one part of its degradation.
        out: where to write.
        images: how many test pictures, those that an evaluation takes.
        steps: of the chain; by default the knots of its schedule, or 1000.
        device: where to compute.

    Raises:
        TypeError: the model's path is no chain of Gaussian noise.
        ValueError: the model adds to its x_t what is no part of the chain.
    """
    require(model)  # before the data are opened: no data could change it
    test, o = open_data(recipe.data, "test"), recipe.evaluation
    ids = permutation(o.seed, "evaluation", 0, len(test))[:images].tolist()
    t = grid_of(model, steps)
    with Bar("bounding", len(ids) * t, unit="picture steps") as bar:
        found = bound(model.to(device), test, ids, steps=t, seed=o.seed, batch=o.batch, device=device, tick=bar.advance)
    rounded = next(iter(found.values())).rounded
    facts: dict[str, Any] = {
        "degradation": registry.spec(model.degradation),
        "data": Path(recipe.data.path).name,
        "pictures": f"{len(ids):,} of {len(test):,} test pictures of shape {test.shape}",
        "levels": "256, on [-1, 1]" + (f"; values were moved to them by up to {rounded:.2g}, for they never were 8-bit" if rounded else ""),
        "steps": t,
        "estimates": f"clamped to {model.range}",
        "seed": o.seed,
        "weights": weights_of(run)[:12],
        **environment(),
    }
    if isinstance(model.restorer, Restorer) and model.restorer.conditions:
        facts["conditioned on"] = ", ".join(model.restorer.conditions.names)
    bits = Bits(found, facts)
    bits.write(out)
    return bits
