"""The paper's hot noise, ``noise:schedule=betas(kind=cosine,steps=200)``, against the chain of single steps."""

import itertools
import math

import pytest
import torch

from snowmelt.randomness import generator
from snowmelt.registry import build

DOUBLE = torch.float64


def chain(steps: int) -> list[tuple[float, float]]:
    """Share of the picture and variance of the noise after 0, 1, ... steps x' = sqrt(1 - beta) x + sqrt(beta) e with e ~ N(0, 1)."""
    bar = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
    out = [(1.0, 0.0)]
    for before, after in itertools.pairwise(bar):
        beta = min(1 - after / before, 0.999)
        share, variance = out[-1]
        out.append((math.sqrt(1 - beta) * share, (1 - beta) * variance + beta))
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("steps", [200, 20])
def test_every_knot_is_the_chain(steps, dtype, tolerance):
    d = build(f"noise:schedule=betas(kind=cosine,steps={steps})")
    x = torch.empty(2, 3, 5, 4, dtype=dtype).uniform_(-1, 1, generator=generator(0, "pixels"))
    z = d.draw(x, generator(1, "z"))
    for k, (share, variance) in enumerate(chain(steps)):
        expected = share * x.double() + math.sqrt(variance) * z["endpoint"].double()
        seen = d(x, torch.full((2,), k / steps, dtype=dtype), z)
        torch.testing.assert_close(seen.double(), expected, rtol=0, atol=tolerance)
    assert d.knots == steps
    assert chain(200)[-1][0] ** 2 == pytest.approx(6e-8, rel=0.05)
    assert chain(200)[1][0] ** 2 == pytest.approx(0.99975, abs=1e-5)
