# %% [markdown]
# # Hot is cold: the identities
#
# DDIM, DDPM, rectified flow and InDI were found apart. With noise as a degradation like any other, each is *one* move of the same family.
# This is no likeness: below, each is written out by hand as its paper has it, and compared with snowmelt's move, number by number, in
# double precision.
#
# `python examples/notebooks/3_hot_is_cold.py` runs it as a script; it stops where an identity does not hold.

# %%
# ruff: noqa: D100 - the first cell says what this is
import itertools
from pathlib import Path

import torch
from torch import Tensor

import snowmelt
from snowmelt.pictures import page, scrubber
from snowmelt.randomness import generators, normal
from snowmelt.samplers import Ancestral, Naive, TACoS
from snowmelt.testing import empirical

OUT = Path()
g = torch.Generator().manual_seed(0)
x0, guess = (torch.randn(4, 1, 6, 6, dtype=torch.float64, generator=g) for _ in range(2))  # a sample; what some restorer says of it
t, s = (torch.full((4,), value, dtype=torch.float64) for value in (0.6, 0.45))
found: list[dict[str, object]] = []


def same(name: str, by_hand: Tensor, by_snowmelt: Tensor) -> None:
    """Note how far two tensors lie apart, and stop where that is more than rounding."""
    apart = float((by_hand - by_snowmelt).abs().max())
    found.append({"identity": name, "largest difference": f"{apart:.1e}"})
    print(f"{name:62} {apart:.1e}")
    assert apart < 1e-9, name


def column(value: Tensor) -> Tensor:
    """(b,) so that it multiplies samples (b, c, h, w)."""
    return value[:, None, None, None]


# %% [markdown]
# ## DDIM is Algorithm 2
#
# Noise as a degradation: `D(x0, t, z) = alpha(t) x0 + sigma(t) z`. DDIM solves the noise from the estimate and degrades the estimate to s
# *with that noise*. Algorithm 2 does the same once it is given that noise as its draw: the residual `x_t - D(x0_hat, t, z_hat)` is zero. In
# snowmelt, `ancestral:eta=0` is Algorithm 2 with the noise solved anew at each step.

# %%
hot = snowmelt.build("noise")
z = hot.draw(x0, torch.Generator().manual_seed(1))
x_t = hot(x0, t, z)
(alpha_t, sigma_t), (alpha_s, sigma_s) = ([column(value) for value in hot.schedule(severity)] for severity in (t, s))
noise = (x_t - alpha_t * guess) / sigma_t
ddim = alpha_s * guess + sigma_s * noise
same("DDIM = Ancestral(eta=0)", ddim, Ancestral(eta=0.0).move(hot, x_t, guess, t, s, {}, None)[0])
same("DDIM = Algorithm 2 with the noise solved from the estimate", ddim, TACoS().move(hot, x_t, guess, t, s, {"endpoint": noise}, None)[0])

# %% [markdown]
# ## DDPM is the same move with the noise renewed
#
# The posterior q(x_s | x_t, x0) of the chain, with the estimate in the place of x0, and its small variance.

# %%
ratio = alpha_t / alpha_s
step = 1 - (ratio * sigma_s / sigma_t) ** 2  # the share of sigma_t^2 that came between s and t
mean = (1 - step) / ratio * x_t + (alpha_s - (1 - step) / ratio * alpha_t) * guess
eps = normal(x_t, torch.Generator().manual_seed(2))
ddpm = mean + sigma_s * step.sqrt() * eps
same("DDPM = Ancestral(eta=1)", ddpm, Ancestral(eta=1.0).move(hot, x_t, guess, t, s, {}, torch.Generator().manual_seed(2))[0])

# %% [markdown]
# ## Rectified flow is Algorithm 2 on a straight path
#
# `x_t = (1 - t) x0 + t z`. The velocity that the estimate implies is `(x_t - x0_hat) / t`; an Euler step follows it from t to s.

# %%
straight = snowmelt.build("noise:schedule=linear")
x_t = straight(x0, t, z)
euler = x_t - column(t - s) * (x_t - guess) / column(t)
same("an Euler step of rectified flow = Ancestral(eta=0)", euler, Ancestral(eta=0.0).move(straight, x_t, guess, t, s, {}, None)[0])

# %% [markdown]
# ## InDI is the same, with a picture in the place of the noise
#
# A `morph` ends in another picture. InDI goes from t to s by `(s / t) x_t + (1 - s / t) x0_hat`.

# %%
morph = snowmelt.build("morph:schedule=linear")
x_t = morph(x0, t, {"endpoint": torch.randn(x0.shape, dtype=x0.dtype, generator=g)})
indi = column(s / t) * x_t + (1 - column(s / t)) * guess
same("InDI = Ancestral(eta=0) on a morph", indi, Ancestral(eta=0.0).move(morph, x_t, guess, t, s, {}, None)[0])

# %% [markdown]
# ## And a cold one: Algorithms 1 and 2 on a blur
#
# Nothing here knows that it is not noise.

# %%
blur = snowmelt.build("gaussian-blur:sigma_px=2")
x_t = blur(x0, t)
same("Algorithm 1 = Naive", blur(guess, s), Naive().move(blur, x_t, guess, t, s, {}, None)[0])
same("Algorithm 2 = TACoS", x_t - blur(guess, t) + blur(guess, s), TACoS().move(blur, x_t, guess, t, s, {}, None)[0])
truth = TACoS().move(blur, x_t, x0, t, s, {}, None)[0]
same("with the truth as estimate, Algorithm 2 lands on D(x0, s)", blur(x0, s), truth)

# %% [markdown]
# ## Whole walks
#
# What holds for a move holds for a walk: DDIM written as a loop, beside snowmelt's, with an exact restorer of four points. The page
# `3-identities.html` has the table and the walk.

# %%
model = snowmelt.Model(hot, empirical(hot, x0))
state = model.corrupt(x0, 1.0, generators(3, "start", range(4)))
walk = list(Ancestral(steps=10, eta=0.0).trajectory(model, state))
x = state.x
for now, after in itertools.pairwise(walk):
    a, b = (torch.full((4,), float(one.t), dtype=torch.float64) for one in (now, after))
    (alpha_a, sigma_a), (alpha_b, sigma_b) = ([column(value) for value in hot.schedule(severity)] for severity in (a, b))
    estimate = model.restorer(x, a)
    x = alpha_b * estimate + sigma_b * (x - alpha_a * estimate) / sigma_a
same("ten steps of DDIM = ten steps of Ancestral(eta=0)", x, walk[-1].x)
moving = scrubber([one.x for one in walk], [f"t = {float(one.t):.2f}" for one in walk], caption="Ten steps of DDIM towards four known points.")
(OUT / "3-identities.html").write_text(page.page("Hot is cold", [page.table(found), moving]), encoding="utf-8")
