r"""Moves that know the noise: solved for, kept, renewed. DDPM, DDIM and what lies between; blurring diffusion; the momentum of Soft Diffusion.

:class:`Ancestral` solves the noise from (x_t, x0_hat), renews the share eta of it and degrades the estimate to s. On a Gaussian chain
(:mod:`snowmelt.degradations.chain`) eta = 1 is a draw from the chain's posterior, *coefficient by coefficient*: DDPM on ``noise``, blurring diffusion
on ``gaussian-blur+noise``. Its variance may be the posterior's own ("small"), the transition's ("large"), or lie where a model
has learned that it lies ("learned").

:class:`Momentum` keeps a smaller share of the noise, :math:`K = \sigma_s^2 / \sigma_t^2`, the first-order step of the reverse stochastic
differential equation of exploding noise. As published it draws :math:`\tau^2 = \sigma_t^2 - \sigma_s^2`, so that x_s has more noise than
:math:`\sigma_s`, by the variance :math:`(\sigma_t^2 - \sigma_s^2)^2 / \sigma_t^2`, second order in the step; ``closed`` draws
:math:`\tau^2 = \sigma_s^2 (1 - \sigma_s^2 / \sigma_t^2)`, which closes the marginal.

Source: Ho et al. 2020 (arXiv 2006.11239), eq. 7 and section 3.2; Song et al. 2020 (arXiv 2010.02502), eq. 12 and 16; Nichol and Dhariwal 2021
(arXiv 2102.09672), eq. 15; Hoogeboom and Salimans 2022 (arXiv 2209.05557); Lugmayr et al. 2022 (arXiv 2201.09865), Algorithm 1; Daras et al. 2022
(arXiv 2209.05442); Fabian et al. 2023 (arXiv 2303.14353).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
from torch import Tensor

from snowmelt.degradations import Degradation, chain
from snowmelt.randomness import normal
from snowmelt.references import When
from snowmelt.registry import Range, SpecError, label, register
from snowmelt.samplers.base import MULTISTEP, SPREAD, Sampler
from snowmelt.samplers.rule import Rule
from snowmelt.types import Draw, Generators, expand


@register(
    "ancestral",
    papers=(
        When("song2020", lambda walk: walk.eta < 1),
        When("ho2020", lambda walk: walk.eta == 1 and walk.variance != "learned"),
        When("nichol2021", lambda walk: walk.variance == "learned"),
        When("hoogeboom2022", lambda walk: walk.eta == 1),
        When("lugmayr2022", lambda walk: walk.again > 1),
        MULTISTEP,
    ),
)
@dataclass(frozen=True)
class Ancestral(Sampler):
    """Solve the noise, renew the share eta of it, degrade the estimate to s: eta = 1 is DDPM, eta = 0 DDIM.

    Source: Ho et al. 2020, eq. 7 (posterior with the small variance); Song et al. 2020, eq. 12 and 16.

    Attributes:
        eta: the share.
        variance: of the new noise, for eta = 1: "small" is the posterior's, "large" that of the step which is undone, "learned" what
            the model says.
        again: passes over every step but the last; between two of them the chain itself goes back up (RePaint). With it `steps` still
            counts calls.
    """

    eta: Annotated[float, Range(0, 1)] = 1.0
    variance: Literal["small", "large", "learned"] = "small"
    again: Annotated[int, Range(1, 1000), "passes over every step, the way back up by the chain (RePaint)"] = 1

    def __post_init__(self) -> None:
        """Check the fields, and that they go together.

        Raises:
            SpecError: another variance than the small one with eta below 1, or order 2 with steps that are taken again.
        """
        super().__post_init__()
        if self.variance != "small" and self.eta != 1:
            raise SpecError(f"ancestral.variance = {self.variance} is that of a DDPM step, but eta = {self.eta:g}: leave one of the two out")
        if self.order == 2 and self.again > 1:
            raise SpecError(f"ancestral.order = 2 extrapolates along a walk that only falls, but again = {self.again} goes back up: take order = 1")

    @property
    def random(self) -> bool:
        """Where noise is renewed."""
        return self.eta > 0 or self.again > 1

    @property
    def rule(self) -> Rule:
        """K and tau of DDPM, DDIM, or in between."""
        ddpm = "Denoising diffusion probabilistic models (DDPM), 2020, arXiv 2006.11239"
        own = {
            "small": ("sigma_s r", f"{ddpm}, eq. 7"),
            "large": ("sigma_t r (DDPM's beta_t), and 0 at s = 0", f"{ddpm}, section 3.2"),
            "learned": ("sigma_s^(1-v) sigma_t^v r, v learned (in numbers: 1/2), 0 at s = 0", "Improved DDPM, 2021, arXiv 2102.09672, eq. 15"),
        }[self.variance]
        warm = "Blurring diffusion models, 2022, arXiv 2209.05557, section 4 (on gaussian-blur+noise, frequency by frequency)"
        implicit = "Denoising diffusion implicit models (DDIM), 2020, arXiv 2010.02502, eq. 12 and 16"
        shares = {
            0.0: ("sigma_s / sigma_t", "0", (implicit,), "Solves the noise and keeps all of it: DDIM, Euler's step of the flow."),
            1.0: (
                "a sigma_s^2 / sigma_t^2, with a = A_t / A_s",
                f"{own[0]}, with r^2 = 1 - a^2 sigma_s^2 / sigma_t^2",
                (own[1], warm),
                "Solves the noise and renews as much of it as the chain does: a draw from the posterior of the step, DDPM.",
            ),
        }
        between = f"{self.eta:g} sigma_s r, with r^2 = 1 - a^2 sigma_s^2 / sigma_t^2 and a = A_t / A_s"
        gain, noise, source, words = shares.get(
            self.eta, ("sqrt(sigma_s^2 - tau^2) / sigma_t", between, (implicit,), "Solves the noise and renews a part of it: between DDIM and DDPM.")
        )
        repeated = self.again > 1
        if repeated:
            words += f" Every step but the last is taken {self.again} times; the degradation's own chain leads back up, without a call."
            source = (*source, "RePaint, 2022, arXiv 2201.09865, Algorithm 1")
        return Rule(
            words=words,
            gain=gain,
            noise=noise,
            source=source,
            fits="noise, and whatever has noise appended"
            + (": Gaussian chains, diagonal in a basis, only" if repeated or self.variance != "small" else ""),
            calls=f"{self.again}, and 1 for the last" if repeated else "1",
            second="refused: the walk goes back up" if repeated else "yes: second order" if self.eta == 0 else "possible, without a gain in order",
        )

    def require(self, degradation: Degradation) -> None:
        """Other variances, and steps back, are defined on Gaussian chains.

        Raises:
            TypeError: the degradation is none.
        """
        if self.again > 1 or self.variance != "small":
            chain.require(degradation)

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """All but what is solved for."""
        return super().reads(degradation) - set(degradation.recovered)

    def _calls(self, moves: int) -> int:
        """As many a move as there are passes, but one for the last."""
        return self.again * (moves - 1) + 1

    def _moves(self) -> int:
        """The last, and one for every `again` calls before it."""
        return (self.steps - 1) // self.again + 1

    def _through(self, levels: list[float]) -> list[float]:
        """Down, and up and down again; never up from 0."""
        out = levels[:1]
        for t, s in pairwise(levels):
            out += [s] + [t, s] * (self.again - 1 if s > 0 else 0)
        return out

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """D(x0, s, z') with z' = refresh(recover(x, x0, t)).

        Raises:
            ValueError: the variance should be the learned one, and the model has learned none.
        """
        z = degradation.recover(x, x0, t, z)
        if chain.is_chain(degradation):  # whatever its author wrote, a chain has one posterior
            z = chain.renewed(degradation, z, t, s, self.eta, generator, self._spread(z))
        else:
            z = degradation.refresh(z, t, s, self.eta, generator)
        return degradation(x0, s, z), z

    def _spread(self, z: Draw) -> float | Tensor:
        if self.variance != "learned":
            return 1.0 if self.variance == "large" else 0.0
        if SPREAD not in z:
            raise ValueError(
                "ancestral:variance=learned walks with the variance that a model has learned, and this one has learned none: take variance = small, "
                "or train it with a learned variance"
            )
        return z[SPREAD]


@dataclass(frozen=True)
class Renewing(Sampler):
    """A walk that scales the noise in x_t and draws some of it anew, for degradations whose noise comes last."""

    @property
    def random(self) -> bool:
        """True."""
        return True

    def require(self, degradation: Degradation) -> None:
        """There must be noise, one, and last.

        Raises:
            TypeError: there is not.
        """
        d, name = degradation, label(type(degradation))
        if not d.noise or set(d.hidden) - set(d.noise):
            why = f"hides more than one ({', '.join(d.hidden)})" if d.noise else "has none at its end"
            raise TypeError(f"{label(type(self))} scales the noise in x_t, and {name} {why}: sample it with TACoS or Naive, or append '+noise'")

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """All but the noise."""
        return super().reads(degradation) - set(degradation.noise)


@register("momentum", papers=("daras2022", "fabian2023", MULTISTEP))
@dataclass(frozen=True)
class Momentum(Renewing):
    """Keep the share sigma_s^2 / sigma_t^2 of what the estimate does not explain, and draw the rest: Soft Diffusion's sampler, and Dirac's.

    Where sigma is constant nothing is drawn and all is kept: TACoS. At s = 0 the estimate is the answer.

    Source: Daras et al. 2022 (arXiv 2209.05442), the Momentum Sampler; Fabian et al. 2023 (arXiv 2303.14353).
    """

    closed: Annotated[bool, "draw as much as closes the marginal, instead of as much as was published"] = False

    @property
    def rule(self) -> Rule:
        """K = sigma_s^2 / sigma_t^2."""
        return Rule(
            words="Moves the mean by what the estimate predicts and damps the noise, with new noise in its place."
            + ("" if self.closed else " As published, x_s has more noise than sigma_s, by (sigma_t^2 - sigma_s^2)^2 / sigma_t^2 in variance."),
            gain="sigma_s^2 / sigma_t^2",
            noise="sigma_s sqrt(1 - sigma_s^2 / sigma_t^2)" if self.closed else "sqrt(sigma_t^2 - sigma_s^2), and 0 at s = 0",
            source=("Soft Diffusion, 2022, arXiv 2209.05442, the Momentum Sampler", "DiracDiffusion, 2023, arXiv 2303.14353, its reverse step"),
            fits="noise that only grows (ve, geometric, karras, constant), and whatever has it appended",
            second="possible, without a gain in order",
        )

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """mu_s(x0) + K (x - mu_t(x0)) + tau eps."""
        sigma_t, sigma_s = (expand(degradation.sigma(v), x) for v in (t, s))
        gain = (sigma_s / torch.where(sigma_t == 0, 1, sigma_t)) ** 2
        new = (sigma_s**2 * (1 - gain) if self.closed else sigma_t**2 - sigma_s**2).clamp(min=0)
        tau = torch.where(sigma_s > 0, new.sqrt(), 0)
        out = chain.mean(degradation, x0, s, z) + gain * (x - chain.mean(degradation, x0, t, z)) + tau * normal(x, generator)
        return out, degradation.recover(out, x0, s, z)
