"""One colour: where a picture fades, from its edge inwards, to a colour that was chosen by chance.

The colour of each channel is uniform, and as the endpoint of the fade it is also an entry of the draw, "colour", that every step
of the walk reads.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 5 (generation from a Gaussian mask: colours in (-.5, .5)).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self

import torch

from snowmelt.priors.base import Learned, as_state
from snowmelt.randomness import uniform
from snowmelt.registry import Range, SpecError, register
from snowmelt.types import EMPTY, Batch, Generators, State

_FLAT = 0.05  # six levels of 8 bits: what rounding and a fade's last traces may leave


@register("constant", papers=("bansal2022",))
@dataclass(frozen=True)
class Constant(Learned):
    """Every pixel of x_1 has one colour, each channel of it uniform in [low, high]; it is also the draw's "colour" where there is one."""

    low: Annotated[float, Range(-1, 1)] = -0.5
    high: Annotated[float, Range(-1, 1)] = 0.5

    def __post_init__(self) -> None:
        """Check the fields: low must not lie above high.

        Raises:
            SpecError: it does.
        """
        super().__post_init__()
        if self.low > self.high:
            raise SpecError(f"constant.low = {self.low:g} lies above constant.high = {self.high:g}: exchange the two")

    def fit(self, batches: Iterable[Batch | State]) -> Self:
        """Takes over the shape of a sample and of its "colour"; the law is given, not learned.

        Raises:
            ValueError: the samples at t = 1 are not of one colour each.
        """
        state = as_state(next(iter(batches)))
        x = state.x.flatten(2)
        off = float((x - x.mean(-1, keepdim=True)).abs().max())
        if off > _FLAT:
            raise ValueError(f"the prior constant does not fit: x at t = 1 is off one colour by up to {off:.2g}; take gaussian-mixture or from-data")
        learned = {"shape": torch.tensor(state.x.shape[1:])}
        if "colour" in state.z:
            learned["colour"] = torch.tensor(state.z["colour"].shape[1:])
        return self.with_tensors(learned)

    def start(self, n: int, generator: Generators = None) -> State:
        """x = z["colour"], spread over all pixels."""
        shape = tuple(self._known("shape").tolist())
        colour = self.low + (self.high - self.low) * uniform(torch.empty(n), generator, (shape[0],))
        x = colour.reshape(n, shape[0], *(1,) * (len(shape) - 1)).expand(n, *shape).clone()
        z = {"colour": colour.reshape(n, *self.learned["colour"].tolist())} if "colour" in self.learned else EMPTY
        return State(x, 1.0, z)

    def require_learned(self, shape: tuple[int, ...]) -> None:
        """Refuse the shape of other samples, and a colour of another shape than one number a channel."""
        super().require_learned(shape)
        for name, due in (("shape", [shape]), ("colour", [shape[:1], (shape[0], *(1,) * (len(shape) - 1))])):
            if name in self.learned and tuple(self.learned[name].tolist()) not in due:
                raise ValueError(f"the prior constant is of a {name} of {self.learned[name].tolist()}, which samples {shape} do not have")

    def sizes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Of the shape."""
        return {"shape": (len(shape),)}

    def gives(self, drawn: frozenset[str]) -> frozenset[str]:
        """The colour."""
        return drawn & {"colour"}
