"""The moves of Cold Diffusion, and Heun's: the estimate degraded again, the difference that it predicts, and that with a second look.

Source: Bansal et al. 2022 (arXiv 2208.09392), Algorithms 1 and 2; Karras et al. 2022 (arXiv 2206.00364), Algorithm 1; Song et al. 2023
(arXiv 2303.01469), Algorithm 1; Rissanen et al. 2022 (arXiv 2206.13397), Algorithm 2.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.randomness import normal
from snowmelt.references import When
from snowmelt.registry import Range, label, register
from snowmelt.samplers.base import MULTISTEP, Sampler
from snowmelt.samplers.rule import Rule
from snowmelt.types import Draw, Generators, expand


@register(
    "naive",
    papers=(
        When("bansal2022", lambda walk: not (walk.fresh or walk.noise)),
        When("song2023", lambda walk: walk.fresh),
        When("daras2022", lambda walk: walk.fresh),
        When("rissanen2022", lambda walk: walk.noise and not walk.fresh),
        MULTISTEP,
    ),
)
@dataclass(frozen=True)
class Naive(Sampler):
    """Degrade the estimate to s: errors of every call are kept whole. Source: Cold Diffusion, Algorithm 1.

    With fresh noise in every move it is the multistep sampling of consistency models and Soft Diffusion's naive sampler; with a little noise
    added to every picture but the last, the sampler of inverse heat dissipation, on ``gaussian-blur`` with a noise floor.
    """

    fresh: Annotated[bool, "draw the noise of the degradation anew for every move"] = False
    noise: Annotated[float, Range(0, 1000), "standard deviation of what is added after every move but the last"] = 0.0

    @property
    def random(self) -> bool:
        """Where it draws."""
        return self.fresh or self.noise > 0

    @property
    def rule(self) -> Rule:
        """K = 0."""
        words = "Degrades the estimate to s and forgets x_t. Every call's error is kept whole: the result is as good as the last call."
        if self.fresh:
            return Rule(
                words="Degrades the estimate to s with new noise and forgets x_t: each call of a one-step model mends what the one before got wrong.",
                gain="0",
                noise="sigma_s" if not self.noise else f"sqrt(sigma_s^2 + {self.noise:g}^2), and 0 at s = 0",
                source=("Consistency models, 2023, arXiv 2303.01469, Algorithm 1", "Soft Diffusion, 2022, arXiv 2209.05442, the Naive Sampler"),
                fits="noise, and whatever has noise appended",
            )
        if self.noise:
            words = "Degrades the estimate to s and adds a little noise, without which a walk back through a blur has nothing to decide."
        cold = "Cold Diffusion, 2022, arXiv 2208.09392, Algorithm 1"
        heat = "Generative modelling with inverse heat dissipation, 2022, arXiv 2206.13397, Algorithm 2"
        return Rule(
            words=words,
            gain="0",
            noise=f"{self.noise:g}, and 0 at s = 0" if self.noise else "0",
            source=(heat,) if self.noise else (cold,),
            second="possible, without a gain in order",
        )

    def require(self, degradation: Degradation) -> None:
        """Fresh noise needs noise.

        Raises:
            TypeError: there is none.
        """
        if self.fresh and not degradation.noise:
            name = label(type(degradation))
            raise TypeError(f"naive:fresh=true draws the noise anew, and {name} has none at its end: leave fresh out, or append '+noise'")

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """All but the noise that is drawn anew."""
        return super().reads(degradation) - (set(degradation.noise) if self.fresh else set())

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """D(x0, s, z), with the noise in z or added to it as the fields say."""
        if self.fresh:
            z = {**z, **{name: normal(x, generator) for name in degradation.noise}}
        out = degradation(x0, s, z)
        if self.noise:
            out = out + self.noise * (expand(s, x) > 0).to(x) * normal(x, generator)
        return out, z


@register("tacos", papers=("bansal2022", MULTISTEP))
@dataclass(frozen=True)
class TACoS(Sampler):
    """Take away what the estimate degraded to t explains, add it degraded to s. Source: Cold Diffusion, Algorithm 2."""

    @property
    def rule(self) -> Rule:
        """K = 1."""
        return Rule(
            words="Moves x_t by the difference that the estimate predicts; what the estimate does not explain stays in the picture, so each call's "
            "error passes only in the band that its step restores. Noise counts as known: it is that of the draw.",
            gain="1",
            noise="0",
            source=("Cold Diffusion, 2022, arXiv 2208.09392, Algorithm 2 (transformation-agnostic cold sampling)",),
            second="yes: second order at the same number of calls",
        )

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """x - D(x0, t, z) + D(x0, s, z)."""
        return x + degradation.change(x0, t, s, z), z


@register("heun", papers=("karras2022", MULTISTEP))
@dataclass(frozen=True)
class Heun(Sampler):
    r"""Two calls a move: Heun's second-order step. `steps` counts calls, so there are (steps + 1) // 2 moves.

    The mean of the slopes :math:`(x - \hat x_0) / \sigma` at both ends is DDIM's move with the estimate

    .. math:: \hat x_0 + \tfrac12 \tfrac{\sigma_t}{\sigma_s} \left(\hat x_0' - \hat x_0\right),

    where the second estimate is that at s: exactly so where alpha = 1 or alpha + sigma = 1, to second order elsewhere. Where no noise can be
    solved for, it is the mean of both estimates.

    Source: Karras et al. 2022 (arXiv 2206.00364), Algorithm 1; on straight lines it is Heun's step along the velocity.
    """

    @property
    def corrector(self) -> bool:
        """True."""
        return True

    @property
    def rule(self) -> Rule:
        """K of DDIM, or of TACoS."""
        return Rule(
            words="Makes a step, asks the restorer there once more, and makes the step again with the mean of the slopes at both ends: the "
            "first estimate and half of the change, times sigma_t / sigma_s where noise can be solved for.",
            gain="sigma_s / sigma_t where noise can be solved for, else 1",
            noise="0",
            source=("Elucidating the design space of diffusion-based generative models (EDM), 2022, arXiv 2206.00364, Algorithm 1",),
            fits="every degradation; what is drawn and cannot be solved for must be known",
            calls="2, and 1 for the last",
            second="possible on top, and of no use: it is second order by itself",
        )

    def reads(self, degradation: Degradation) -> frozenset[str]:
        """All but what can be solved for."""
        return super().reads(degradation) - set(degradation.recovered)

    def correction(self, degradation: Degradation, t: Tensor, s: Tensor) -> Tensor:
        """sigma_t / (2 sigma_s): what makes the move that of the mean slope; a half where there is no noise."""
        sigma_t, sigma_s = degradation.sigma(t), degradation.sigma(s)
        if not degradation.recovers:
            return super().correction(degradation, t, s)
        silent = sigma_s == 0
        ratio: Tensor = torch.where(silent, 1, sigma_t / torch.where(silent, 1, sigma_s))
        return ratio / 2

    def move(
        self, degradation: Degradation, x: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Draw, generator: Generators
    ) -> tuple[Tensor, Draw]:
        """The move of DDIM where the noise can be solved, else that of TACoS."""
        if degradation.recovers:
            z = degradation.recover(x, x0, t, z)
            return degradation(x0, s, z), z
        return x + degradation.change(x0, t, s, z), z
