r"""Choices: one of several kinds of damage for each sample, and which one is known.

.. math:: x_t = D_k(x_0, t, z), \qquad k \sim \mathrm{Categorical}(p).

The draw holds k, as "which", and the draws of all parts; a restorer is told k as one-hot channels, and nothing that a part would tell of its own
draw. So a single network learns to undo several degradations at the price of one training, and one of them alone is that
network with k held (:func:`snowmelt.model.alone`). A mixture, by contrast, applies several at once and tells nothing.

The parts keep their own knots: where training asks a table at its knots, each sample is asked at those of its part.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.degradations.several import Several, keyed, share_of
from snowmelt.randomness import uniform
from snowmelt.registry import Range, SpecError, register
from snowmelt.types import Batch, Draw, Generators, Severity, expand


@register("choice")
@dataclass(frozen=True)
class Choice(Several):
    """Apply one of `parts` to each sample, each with its own weight; a restorer is told which."""

    weights: Annotated[tuple[float, ...], Range(0, 1000), "how often each part is chosen, relative to the others; one number for all"] = (1.0,)

    def __post_init__(self) -> None:
        """Check the fields: one weight for all parts, or one for each, and not all of them 0."""
        super().__post_init__()
        if len(self.weights) not in (1, len(self.parts)):
            raise SpecError(f"choice.weights has {len(self.weights)} numbers for {len(self.parts)} parts: give one for all, or one for each")
        if not sum(self.weights) > 0:
            raise SpecError(f"choice.weights = {self.weights} chooses nothing: give at least one part a weight above 0")

    @property
    def knots(self) -> int | None:
        """The knots that all parts share; None where they differ, see :meth:`snapped`."""
        knots = {part.knots for part in self.parts}
        return knots.pop() if len(knots) == 1 else None

    @property
    def tells(self) -> tuple[str, ...]:
        """Which part it is."""
        return ("which",)

    @property
    def local(self) -> bool:
        """Whether any part is: nobody knows beforehand which it will be."""
        return any(part.local for part in self.parts)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """which (b,): the part's number; and the draws of all parts, under "0.centre"."""
        weights = torch.tensor(self.weights * (len(self.parts) if len(self.weights) == 1 else 1), dtype=torch.float64)
        reach = (weights.cumsum(0) / weights.sum()).to(like)
        which = torch.searchsorted(reach, uniform(like, generator, (1,))[:, 0].contiguous(), right=True).clamp(max=len(self.parts) - 1)
        out: dict[str, Tensor] = {"which": which}
        for i, part in enumerate(self.parts):
            out |= keyed(part.draw(like, generator), i)
        return out

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Every sample by its own part."""
        groups = _groups(z["which"], len(self.parts))
        if groups is not None:
            return self._grouped(x, t, z, groups)
        out, which = x, expand(z["which"], x)
        for i, part in enumerate(self.parts):
            # Every part sees every sample, those of others at severity 0: an accelerator would have to be waited for to say which rows are whose.
            mine = which == i
            out = torch.where(mine, part.degrade(x, torch.where(mine, t, 0), share_of(z, i)), out)
        return out

    def _grouped(self, x: Tensor, t: Tensor, z: Draw, groups: list[Tensor]) -> Tensor:
        """Every part on its own rows; the results put back in order."""
        found = [(i, rows) for i, rows in enumerate(groups) if len(rows)]
        if len(found) == 1:
            i = found[0][0]
            return self.parts[i].degrade(x, t, share_of(z, i))
        done = []
        for i, rows in found:
            share = {name: value[rows] if len(value) == len(x) else value for name, value in share_of(z, i).items()}
            done.append(self.parts[i].degrade(x[rows], t[rows], share))
        return torch.cat(done)[torch.cat([rows for _, rows in found]).argsort()] if done else x

    def snapped(self, t: Severity, z: Draw) -> Severity:
        """Every severity moved up to the next knot of its own part."""
        out = t
        for i, part in enumerate(self.parts):
            out = torch.where(z["which"] == i, part.snapped(t, share_of(z, i)), out)
        return out

    def absent(self, shape: tuple[int, ...], t: Severity) -> Tensor:
        """None of them."""
        return t.new_zeros(len(t), len(self.parts), *shape[-2:])

    def context(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """One channel for each part: 1 where it is the one, else 0."""
        code = functional.one_hot(z["which"].long(), len(self.parts)).to(t)
        return code[:, :, None, None].expand(-1, -1, *shape[-2:])


def _groups(which: Tensor, parts: int) -> list[Tensor] | None:
    """The rows of every part; None where values are not at hand: on an accelerator, and in what is traced or mapped."""
    if which.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    try:
        return [(which == i).nonzero()[:, 0] for i in range(parts)]
    except RuntimeError:  # torch.func.vmap, fake tensors
        return None
