"""Model.score: the gradient of the log-density of x_t, and who has none."""

import pytest
import torch

from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.testing import Gaussians, mixture
from snowmelt.types import severity

DOUBLE = torch.float64


def law() -> Gaussians:
    """Two Gaussians of pictures of 4 x 4 px, correlated."""
    g = generator(0, "law")
    roots = torch.randn(2, 16, 16, generator=g, dtype=DOUBLE) / 6
    means = torch.randn(2, 1, 4, 4, generator=g, dtype=DOUBLE) / 2
    return Gaussians(means, roots @ roots.mT, torch.tensor([0.3, 0.7], dtype=DOUBLE), torch.arange(2))


@pytest.mark.parametrize(
    ("spec", "floor"),
    [("noise", 0), ("noise:schedule=ve(sigma_max=3)", 0), ("gaussian-blur:sigma_px=1+noise", 0), ("gaussian-blur:sigma_px=1", 0.2), ("noise", 0.2)],
)
def test_the_score_is_the_gradient_of_the_log_density(spec: str, floor: float) -> None:
    degradation = build(spec)
    oracle = mixture(degradation, *law(), noise_floor=floor)
    model = Model(degradation, oracle, noise_floor=floor)
    x0, _ = law().sample(5, generator(1, "x0"))
    t = torch.linspace(0.2, 1, 5, dtype=DOUBLE)
    z = model.draw(x0, generator(2, "z"))
    x = model.degrade(x0, t, z).requires_grad_()
    (expected,) = torch.autograd.grad(oracle.log_density(x, t, z).sum(), x)
    torch.testing.assert_close(model.score(x.detach(), t, z), expected, rtol=1e-8, atol=1e-8)


def test_who_has_no_score_is_refused_by_name() -> None:
    x = torch.zeros(2, 1, 4, 4)
    for spec, words in (("gaussian-blur", "gaussian-blur has no noise"), ("snow", "snow hides"), ("mask", "mask has no noise")):
        with pytest.raises(TypeError, match=words):
            Model(build(spec), lambda x_t, t: x_t).score(x, severity(0.5, x))
    with pytest.raises(TypeError, match="median"):
        Model(build("noise"), lambda x_t, t: x_t, estimates="median").score(x, severity(0.5, x))
    with pytest.raises(ValueError, match="no noise at t = 0"):
        Model(build("noise"), lambda x_t, t: x_t).score(x, severity(0.0, x))
