"""The best linear restorer, against its closed form and against the filters it must beat."""

import pytest
import torch

from snowmelt.degradations import Degradation
from snowmelt.randomness import generator, normal
from snowmelt.registry import build
from snowmelt.restorers import LinearRestorer, Restorer, Wiener, Zero


def field(n: int, seed: int) -> torch.Tensor:
    """Smooth random pictures (n, 1, 8, 8): neighbours go together."""
    white = normal(torch.zeros(n, 1, 8, 8, dtype=torch.float64), generator(seed, "field"))
    return build("gaussian-blur:sigma_px=1.5")(white, torch.ones(n, dtype=torch.float64)) * 2 + 0.3


@pytest.mark.parametrize("text", ["mask:centre=middle", "mask", "gaussian-blur:sigma_px=2", "noise:schedule=linear", "pixelate", "mask+noise"])
def test_no_linear_filter_does_better(text: str) -> None:
    d, train, x0, sigma = build(text), field(4000, 0), field(200, 1), 0.05
    t, z = torch.full((200,), 0.7, dtype=torch.float64), d.draw(x0, generator(0, "z"))
    x_t = d(x0, t, z) + sigma * normal(x0, generator(2, "floor"))
    best = LinearRestorer(d, [train], sigma)(x_t, t, z)
    error = float((best - x0).square().mean())
    assert error < float((x_t - x0).square().mean())
    if d.basis is not None:
        diagonal = Restorer(d, Zero(), (1, 8, 8), parameterization=Wiener(), noise_floor=sigma).fit([train])
        assert error < 1.03 * float((diagonal(x_t, t, z) - x0).square().mean())
    residual = (best - x0).flatten(1)
    observed = (x_t - x_t.mean(0)).flatten(1)
    assert float((residual.mean(0)).abs().max()) < 0.4
    assert float((residual.mT @ observed / 200).abs().mean()) < 0.05  # what is left over goes with nothing that was seen


def test_it_fills_a_hole_from_its_rim() -> None:
    d, train, x0 = build("mask:centre=middle,width=0.1"), field(4000, 0), field(100, 1)
    t = torch.ones(100, dtype=torch.float64)
    z = d.draw(x0)
    x_t = d(x0, t, z)
    inside = (d(torch.ones_like(x0), t, z) == 0)
    assert inside.any()
    best = LinearRestorer(d, [train], 1e-3)(x_t, t, z)
    diagonal = Restorer(d, Zero(), (1, 8, 8), parameterization=Wiener(1e-3)).fit([train])(x_t, t, z)
    assert float((best - x0)[inside].square().mean()) < 0.5 * float((diagonal - x0)[inside].square().mean())


def test_it_is_the_closed_form_for_white_data() -> None:
    d: Degradation = build("noise:schedule=linear")
    t, z = torch.full((3,), 0.5, dtype=torch.float64), {}
    white = normal(torch.zeros(50_000, 1, 2, 2, dtype=torch.float64), generator(0, "white"))
    x_t = white[:3] * 2
    seen = LinearRestorer(d, [white], 0.0)(x_t, t, z)
    torch.testing.assert_close(seen, x_t * 0.5 / (0.25 + 0.25), atol=0.05, rtol=0)


@pytest.mark.parametrize("text", ["mask", "fade-mask:routine=random,kernel_std=0.3,steps=10", "mask+gaussian-blur:sigma_px=1"])
def test_a_sample_alone_is_solved_as_the_closed_form_says(text: str) -> None:
    d, x0 = build(text), field(3, 1)
    best = LinearRestorer(d, [field(500, 0)], 0.05)
    t, z = torch.full((3,), 0.6, dtype=torch.float64), d.draw(x0, generator(0, "z"))
    x_t = d(x0, t, z)
    found = best(x_t, t, z)
    for i in range(3):
        gain, expected = best._solve(0.6, {name: value[i : i + 1] for name, value in z.items()})
        torch.testing.assert_close(found[i].flatten(), best.mean + gain @ (x_t[i].flatten() - expected), atol=1e-10, rtol=0)
