r"""What a sampler says of itself: its rule in words and symbols, and its numbers as they are measured.

Every move of the library is of one form,

.. math:: x_s = \mu_s(\hat x_0) + K\,(x_t - \mu_t(\hat x_0)) + \tau\,\varepsilon,

with the gain K of what the estimate leaves unexplained and the size tau of the new noise. A sampler tells both as text (:class:`Rule`); what
it does is looked at by :func:`measured`, which calls its ``move`` and knows nothing of its formulas, so that neither can be wrong alone.

Source: ours; the papers behind each sampler are named in its rule.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.degradations.spectral import backward, forward
from snowmelt.randomness import generator, normal
from snowmelt.registry import label
from snowmelt.types import Draw

if TYPE_CHECKING:
    from snowmelt.samplers.base import Sampler

_DRAWS = 64
_STREAM = "rule"


@dataclass(frozen=True)
class Rule:
    """A sampler in words.

    Attributes:
        words: what it does, a sentence or two.
        gain: K.
        noise: tau.
        source: the papers: title, year, arXiv number, equation or algorithm.
        fits: the degradations it can walk.
        calls: of the restorer, for each step.
        second: what order = 2 would mean.
    """

    words: str
    gain: str
    noise: str
    source: tuple[str, ...]
    fits: str = "every degradation whose draw is known"
    calls: str = "1"
    second: str = "possible; second order in theory only for K = 1 and K = sigma_s/sigma_t"


class Numbers(NamedTuple):
    """K and tau of one move, by coefficient in the degradation's basis: each (*coefficients), or (1, ...) where all are equal."""

    gain: Tensor
    noise: Tensor


def measured(sampler: "Sampler", degradation: Degradation, t: float, s: float, shape: tuple[int, ...] = (1, 16, 16)) -> Numbers:
    """The gain K and the size tau of the new noise that a sampler's move from t to s really has, in float64.

    With x0 = 0 and no noise in the draw, a move is K x + tau eps: K is the difference of two moves with the same eps, tau the size of what is
    left at x = 0 next to that of eps. A learned share of the noise, which only a model could say, is taken as one half.

    Args:
        sampler: any.
        degradation: diagonal in a basis.
        t: where the move begins.
        s: where it ends.
        shape: of a sample.

    Raises:
        ValueError: the degradation is diagonal in no basis, so that K is no set of numbers.
    """
    basis = degradation.basis
    if basis is None:
        raise ValueError(
            f"{label(type(degradation))} is diagonal in no basis, so a gain has no numbers there: take blur, masks, loss of colour, noise, or several"
        )
    zero = torch.zeros(_DRAWS, *shape, dtype=torch.float64)
    z: Draw = {k: v.to(zero) for k, v in degradation.draw(zero, generator(0, _STREAM)).items()}
    z = {k: v[:1].expand_as(v) for k, v in z.items()} | {name: zero for name in degradation.recovered} | {"spread": zero + 0.5}
    at, to = (torch.full((_DRAWS,), v, dtype=torch.float64) for v in (t, s))

    def moved(x: Tensor) -> Tensor:
        return _coefficients(sampler.move(degradation, x, zero, at, to, z, generator(1, _STREAM))[0], degradation)

    flat = torch.ones_like(_coefficients(zero, degradation))
    probe = flat if basis in ("any", "pixel") else backward(flat, basis, shape[-1])
    new = moved(zero)
    gain = ((moved(probe) - new) / _coefficients(probe, degradation)).mean(0)
    eps = _coefficients(normal(zero, generator(1, _STREAM)), degradation)
    size = (new.abs().square().mean(0) / eps.abs().square().mean(0)).sqrt()
    return Numbers(gain.real if gain.is_complex() else gain, size)


def _coefficients(x: Tensor, degradation: Degradation) -> Tensor:
    return x if degradation.basis in ("any", "pixel", None) else forward(x, degradation.basis)
