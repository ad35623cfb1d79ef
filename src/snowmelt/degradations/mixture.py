r"""Mixtures: several kinds of damage, each present or not, each as strong as it happens to be.

.. math:: x_t = D_n^{\,t s_n} \circ \dots \circ D_1^{\,t s_1}(x_0), \qquad s_i = 0 \text{ with probability } 1 - p_i,
          \text{ else } s_i \sim U(0, 1].

Real pictures are blurred *and* noisy *and* compressed, in amounts nobody wrote down. The parts' own severities s are part of the draw,
independent of each other; a part with knots is asked at its knots. A restorer trained on a mixture is *blind*: severity t = 1
stands for "whatever it was". What a part tells of its draw, a mask for instance, is told on; where
nothing is said of it, a restorer is told that the part is absent.

Source: the idea of random, composed damage: Zhang et al. 2021 (arXiv 2103.14006); Wang et al. 2021, Real-ESRGAN (arXiv 2107.10833).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from snowmelt.degradations.base import blank
from snowmelt.degradations.several import Several, keyed, share_of
from snowmelt.randomness import uniform
from snowmelt.registry import Range, SpecError, register
from snowmelt.types import Batch, Draw, Generators, Severity, expand


@register("mixture", papers=("zhang2021practical", "wang2021"))
@dataclass(frozen=True)
class Mixture(Several):
    """Apply `parts` in order, each with its own chance of being there and its own severity."""

    chances: Annotated[tuple[float, ...], Range(0, 1), "of each part to be there; one number for all"] = (0.5,)

    def __post_init__(self) -> None:
        """Check the fields: one chance for all parts, or one for each."""
        super().__post_init__()
        if len(self.chances) not in (1, len(self.parts)):
            raise SpecError(f"mixture.chances has {len(self.chances)} numbers for {len(self.parts)} parts: give one for all, or one for each")

    @property
    def knots(self) -> int:
        """1: the mixture is there, as it was drawn, or not; what lies between is for walks."""
        return 1

    @property
    def hidden(self) -> tuple[str, ...]:
        """Which parts are there, how strong, and how they fell out: all but what is given, and whether that is there."""
        drawn = self.draw(blank(self), torch.Generator())
        known = {*self.given, *(f"{i}.severity" for i, part in enumerate(self.parts) if part.given)}
        return tuple(name for name in drawn if name not in known)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """The parts' draws under "0.endpoint", and their severities s (b,) under "0.severity"."""
        chance, amount = uniform(like, generator, (len(self.parts), 2)).unbind(-1)
        out: dict[str, Tensor] = {}
        for i, (part, p) in enumerate(zip(self.parts, self.chances * (len(self.parts) if len(self.chances) == 1 else 1), strict=True)):
            z = part.draw(like, generator)
            s = part.snapped(1 - amount[:, i], z)  # in (0, 1]
            out |= keyed(z, i) | {f"{i}.severity": torch.where(chance[:, i] < p, s, 0)}
        return out

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Every part at its own severity."""
        for i, part in enumerate(self.parts):
            x = part.degrade(x, t * expand(z[f"{i}.severity"].to(x), x), share_of(z, i))
        return x

    def unknowns(self, t: Severity, z: Draw) -> Mapping[str, Tensor]:
        """The severity of every part, by its name."""
        return {name: t * z[f"{i}.severity"].to(t) for i, name in enumerate(self.names)}

    def context(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor | None:
        """What the parts tell, side by side; a part of which the draw says nothing is told to be absent."""
        found = []
        for i, part in enumerate(self.parts):
            if part.tells:
                share = share_of(z, i)
                if all(name in share for name in part.tells):
                    told = part.context(shape, t * share.get("severity", torch.ones_like(t)).to(t), share)
                else:
                    told = part.absent(shape, t)
                found += [] if told is None else [told]
        return torch.cat(found, dim=1) if found else None
