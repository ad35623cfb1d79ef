# %% [markdown]
# # The idea: degrade, restore, walk
#
# A diffusion model takes something apart step by step and learns to put it together again. The step need not be noise. Here a photograph is
# blurred, pixelated, masked and drowned in noise, all by the same three letters: a **degradation** `D(x0, t, z)`, a **severity** `t`
# between 0 and 1, and a **draw** `z`, which is all the chance there is.
#
# Open this file in VS Code, or in Jupyter with jupytext; or run it: `python examples/notebooks/1_the_idea.py`. Nothing is downloaded or
# trained.

# %%
# ruff: noqa: D100 - the first cell says what this is
from pathlib import Path

import torch
from PIL import Image

import snowmelt
from snowmelt import pictures
from snowmelt.data import DataOptions, open_data
from snowmelt.pictures import page, scrubber
from snowmelt.randomness import generator, generators
from snowmelt.testing import astray, empirical, sliced_wasserstein

OUT = Path()


def show(name: str, sheet: Image.Image) -> Image.Image:
    """Keep a sheet as a file; a notebook shows what a cell returns."""
    pictures.save(OUT / name, sheet)
    return sheet


# %% [markdown]
# ## Degrade
#
# At t = 0 every degradation leaves the picture as it is. What is left at t = 1 differs: a smear, some blocks, all but a hole, nothing but
# noise.

# %%
x0 = open_data(DataOptions(path="bundled:photos", size=64), "test").batch([8])["x0"]  # (1, 3, 64, 64) in [-1, 1]
severities = [0.0, 0.25, 0.5, 0.75, 1.0]
names = ["gaussian-blur", "pixelate", "mask", "snow", "noise"]
rows = []
for name in names:
    D = snowmelt.build(name)
    z = D.draw(x0, generator(0, name))  # drawn once for the whole path
    rows.append(torch.stack([D(x0, torch.tensor([t]), z)[0] for t in severities]))
show("1-degrade.png", pictures.strip(list(torch.stack(rows, 1)), [f"t = {t:g}" for t in severities], rows=names))

# %% [markdown]
# The same `x0`, `t` and `z` always give the same picture: what looks random is in the draw, as data.

# %%
snow = snowmelt.build("snow")
z = snow.draw(x0, generator(0, "snow"))
again = [snow(x0, torch.tensor([0.5]), z) for _ in range(2)]
print("the same draw, the same picture:", torch.equal(*again))
print("another draw, another picture:  ", not torch.equal(again[0], snow(x0, torch.tensor([0.5]), snow.draw(x0, generator(1, "snow")))))

# %% [markdown]
# ## Restore: two ways to walk
#
# A **restorer** R looks at `x_t` and says what the clean picture may have been. From that, two walks go from t = 1 to t = 0:
#
# * **Algorithm 1** degrades the estimate to the next severity: `x_s = D(R(x_t), s)`. Whatever R got wrong is now in the picture.
# * **Algorithm 2** takes only the *difference* from the estimate: `x_s = x_t - D(R(x_t), t) + D(R(x_t), s)`. A mistake of R that is the
#   same at t and s cancels.
#
# Let R know the truth, but for one smooth mistake that it makes in every call. With a blur, Algorithm 2 forgives nearly all of it:

# %%
blur = snowmelt.build("gaussian-blur:sigma_px=4")
R = astray(x0, 0.3, seed=0)
model = snowmelt.Model(blur, R)
begin = model.corrupt(x0, 1.0)
two = {"Algorithm 1": "naive:steps=20", "Algorithm 2": "tacos:steps=20"}
walks = {name: list(snowmelt.build(spec, "sampler").trajectory(model, begin)) for name, spec in two.items()}
for name, walk in walks.items():
    print(f"{name}: RMSE {float((walk[-1].x - x0).square().mean().sqrt()):.3f} at the end")
ends = {"Degraded": begin.x, "One estimate": walks["Algorithm 1"][1].x0, **{name: walk[-1].x for name, walk in walks.items()}, "Clean": x0}
show("1-two-walks.png", pictures.grid(ends))

# %% [markdown]
# ## When the answer is not in the question
#
# Blur a digit until only its mean is left. Many digits could have been meant, and the best single answer is their **mean**: a smear. One
# call of R returns it, and has the least error. A walk has to decide for *one* digit. Here R is exact (the mean over all training digits
# that fit), so what you see is the walk alone. A little noise on top, the *noise floor*, is what Algorithm 2 decides by; Algorithm 1 throws
# it away and ends in the same few digits again and again.

# %%
digits = DataOptions(path="bundled:digits", size=8)
known, new = (open_data(digits, split) for split in ("train", "test"))
clean = new.batch(range(100))["x0"].double()
erased = snowmelt.build("gaussian-blur:sigma_px=8")
exact = snowmelt.Model(erased, empirical(erased, known.batch(range(len(known)))["x0"].double(), noise_floor=0.1), noise_floor=0.1)
begin = exact.corrupt(clean, 1.0, generators(0, "digits", range(100)))
specs = {"One call": "naive:steps=1", "Algorithm 1": "naive:steps=20", "Algorithm 2": "tacos:steps=20"}
paths = {name: list(snowmelt.build(spec, "sampler").trajectory(exact, begin)) for name, spec in specs.items()}
for name, path in paths.items():
    x = path[-1].x
    error, away = float((x - clean).square().mean().sqrt()), float(sliced_wasserstein(x.flatten(1), clean.flatten(1)))
    print(f"{name:12} error {error:.3f}, distance from digits as a set {away:.3f}")
show("1-mean-or-digit.png", pictures.grid({"Degraded": begin.x[:6], **{name: path[-1].x[:6] for name, path in paths.items()}, "Clean": clean[:6]}))

# %% [markdown]
# Move through the walk of Algorithm 2 by hand: open `1-walk.html`.

# %%
walk = paths["Algorithm 2"]
moving = scrubber([state.x[:6] for state in walk], [f"t = {float(state.t):.2f}" for state in walk], caption="Algorithm 2 decides.")
(OUT / "1-walk.html").write_text(page.page("A walk from t = 1 to t = 0", [moving]), encoding="utf-8")
