r"""Annealed Langevin dynamics: stay at a level of noise until the picture belongs there, then go down to the next.

With the score :math:`(\mu_t(\hat x_0) - x) / \sigma_t^2` a step of size :math:`c\,\sigma_t^2` is

.. math:: x' = x + \tfrac c2 \left(\mu_t(\hat x_0) - x\right) + \sqrt c\, \sigma_t\, \varepsilon,

that is the rule of every sampler with :math:`K = 1 - c/2` and :math:`\tau = \sqrt c\, \sigma_t`, at one severity, s = t. On the way
to the next level the picture is kept and only its mean moves, from :math:`\mu_t(\hat x_0)` to :math:`\mu_s(\hat x_0)`: for exploding
noise nothing moves at all, as in the paper, and for other schedules it is the noise that is kept. So each level begins with too
much noise, that of the level before, and its steps take it away: the variance goes from :math:`\sigma_t^2` towards
:math:`\sigma_s^2 / (1 - c/4)`, by the factor :math:`(1 - c/2)^2` a step. Levels that lie close, or many steps on each, are what this
sampler needs. From the lowest level the answer is the estimate.

Source: Song and Ermon 2019 (arXiv 1907.05600), Algorithm 1 (there c = epsilon / sigma_L^2 = 0.2, 100 steps on each of 10 levels); Song and Ermon 2020
(arXiv 2006.09011) for the last estimate, and for the analysis of the steps.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations import Degradation, chain
from snowmelt.randomness import normal
from snowmelt.registry import Range, SpecError, register
from snowmelt.samplers.ancestral import Renewing
from snowmelt.samplers.rule import Rule
from snowmelt.types import Draw, Generators, expand


@register("langevin", papers=("song2019", "song2020improved"))
@dataclass(frozen=True)
class Langevin(Renewing):
    """Several steps of Langevin dynamics at every level of noise: NCSN's sampler. `steps` counts calls, those at all levels together.

    Where `inner` does not divide `steps` the first level, which begins in the right place, has fewer.

    Source: Song and Ermon 2019 (arXiv 1907.05600), Algorithm 1.
    """

    inner: Annotated[int, Range(1, 100_000), "calls at every level"] = 5
    rate: Annotated[float, Range(0.0001, 2), "c, the size of a step in units of sigma^2; NCSN: 0.2"] = 0.2

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            SpecError: order 2, which has no meaning where a walk stays.
        """
        super().__post_init__()
        if self.order == 2:
            raise SpecError("langevin.order = 2 extrapolates along a walk, but this one stays at each level: take order = 1")

    @property
    def rule(self) -> Rule:
        """K = 1 - c/2."""
        return Rule(
            words="Takes small steps up the score at one level of noise, with new noise in each; then goes on to the next level with the picture as "
            "it is. The last step returns the estimate.",
            gain=f"1 - c/2, with c = {self.rate:g}; 0 at s = 0",
            noise=f"sqrt(c) sigma_t, with c = {self.rate:g}; 0 at s = 0",
            source=("Generative modeling by estimating gradients of the data distribution (NCSN), 2019, arXiv 1907.05600, Algorithm 1",),
            fits="noise on a ladder of close levels (geometric), and whatever has noise appended",
            calls=f"{self.inner} at every level",
            second="refused: the walk stays at each level",
        )

    def _calls(self, moves: int) -> int:
        """As many as there are at each level."""
        return self.inner * moves

    def _moves(self) -> int:
        """The levels, the first of which may have fewer calls."""
        return -(-self.steps // self.inner)

    def _through(self, levels: list[float]) -> list[float]:
        """Each level as often as there are calls at it."""
        *above, end = levels
        first = self.inner - max(0, self.inner * len(above) - self.steps)
        return [t for i, t in enumerate(above) for _ in range(first if i == 0 else self.inner)] + [end]

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """mu_s(x0) + (1 - c/2) (x - mu_t(x0)) + sqrt(c) sigma_t eps; x0 at s = 0."""
        left = (1 - self.rate / 2) * (x - chain.mean(degradation, x0, t, z))
        left = left + self.rate**0.5 * expand(degradation.sigma(t), x) * normal(x, generator)
        out = chain.mean(degradation, x0, s, z) + torch.where(expand(s, x) > 0, left, 0)
        return out, degradation.recover(out, x0, s, z)
