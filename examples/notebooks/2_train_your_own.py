# %% [markdown]
# # Train your own
#
# A degradation that nobody has written yet, a restorer for it, and a page that says how well it does. Some seconds on one core; `python
# examples/notebooks/2_train_your_own.py` runs it as a script.

# %%
# ruff: noqa: D100 - the first cell says what this is
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from PIL import Image

import snowmelt
from snowmelt import pictures
from snowmelt.data import open_data
from snowmelt.randomness import uniform
from snowmelt.recipes.overview import overview
from snowmelt.recipes.recipe import from_table
from snowmelt.recipes.run import evaluate, train
from snowmelt.testing import check_degradation
from snowmelt.types import Generators

OUT = Path()


def show(name: str, sheet: Image.Image) -> Image.Image:
    """Keep a sheet as a file; a notebook shows what a cell returns."""
    pictures.save(OUT / name, sheet)
    return sheet


# %% [markdown]
# ## 1. Write it
#
# Rain: grey streaks, from column to column darker or lighter, that hide more and more of the picture. All that is random is made in `draw`,
# and read from `z`.


# %%
@snowmelt.register("notebook-rain")
@dataclass(frozen=True)
class Rain(snowmelt.Degradation):
    """Grey streaks that hide more and more of the picture."""

    most: Annotated[float, snowmelt.Range(0, 1), "part of a pixel that is hidden at t = 1"] = 0.9

    def draw(self, like: torch.Tensor, generator: Generators = None) -> snowmelt.Draw:
        return {"streaks": uniform(like, generator, (1, 1, like.shape[-1]))}

    def degrade(self, x: torch.Tensor, t: torch.Tensor, z: snowmelt.Draw) -> torch.Tensor:
        return x + t * self.most * z["streaks"] * (0.3 - x)


check_degradation(Rain())  # raises at the first clause of the contract that does not hold

# %% [markdown]
# ## 2. Say what to do
#
# A recipe is a table; what it does not say has defaults. The command line does the same: `snowmelt train --data bundled:digits --data.size
# 16 --degradation notebook-rain --plugin FILE --images 6400 --out runs/rain`.

# %%
recipe = from_table(
    {
        "about": "Digits in the rain",
        "degradation": "notebook-rain:most=0.95",
        "data": {"path": "bundled:digits", "size": 16},
        "model": {"backbone": "unet:widths=(16,24),patch=2,groups=4,blocks=1", "noise_floor": 0.02},
        "training": {"images": 6400, "batch": 64, "lr": 2e-3, "validate_every": 1600, "validation_images": 48},
        "evaluation": {"images": 60, "calls": [4]},
    }
)
data = open_data(recipe.data, "test")
x0 = data.batch(range(4))["x0"]
rain = snowmelt.build(recipe.degradation)
z = rain.draw(x0, torch.Generator().manual_seed(0))
severities = [0.0, 0.25, 0.5, 0.75, 1.0]
show("2-rain.png", pictures.strip([rain(x0, torch.full((4,), t), z) for t in severities], [f"t = {t:g}" for t in severities]))

# %% [markdown]
# ## 3. Train
#
# Everything goes to the folder `rain`: weights, a log, sample grids. Call it again and it goes on where it was.

# %%
model = train(recipe, OUT / "rain", fresh=True)

# %% [markdown]
# ## 4. Restore
#
# One call of the restorer; for a walk, give `sampler="tacos:steps=8"`.

# %%
wet = model.corrupt(x0, 1.0, torch.Generator().manual_seed(1))
dry = snowmelt.restore(model, wet.x, severity=1.0, sampler=None)
for name, x in {"in the rain": wet.x, "restored": dry}.items():
    print(f"{name}: RMSE {float((x - x0).square().mean().sqrt()):.3f}")
show("2-restored.png", pictures.grid({"In the rain": wet.x, "Restored": dry, "Clean": x0}))

# %% [markdown]
# ## 5. Measure, and look at the page
#
# `evaluate` scores it on pictures it never saw, beside doing nothing and linear filters. The page of the run, `rain/report.html`, has
# curves, tables, and a walk to move through by hand.

# %%
report = evaluate(OUT / "rain")
print("\n".join(report.verdict))
print(overview(OUT / "rain").path)
