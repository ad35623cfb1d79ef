r"""Composition: one degradation after another, :math:`D = D_n \circ \dots \circ D_1`, at one severity.

Real damage comes together: a blurred photograph is also noisy. A composition is a degradation like any
other and passes the same contract tests; its draw holds the parts' draws under "0.endpoint", "1.centre", ...
When the *last* part carries noise, that noise can still be solved for, since everything before it is known
from x0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snowmelt.degradations import chain
from snowmelt.degradations.base import Basis, Degradation, Inverse
from snowmelt.degradations.inverse import damped
from snowmelt.degradations.several import Several, keyed, share_of
from snowmelt.degradations.spectral import backward, forward
from snowmelt.registry import register
from snowmelt.types import EMPTY, Batch, Draw, Generators, Severity


@register("compose")
@dataclass(frozen=True)
class Compose(Several):
    """Apply `parts` in order, the first one first: ``gaussian-blur:sigma_px=2+noise``."""

    def __post_init__(self) -> None:
        """Flatten nested compositions, so that (a + b) + c equals a + b + c."""
        flat: list[Degradation] = []
        for part in self.parts:
            flat.extend(part.parts if isinstance(part, Compose) else (part,))
        object.__setattr__(self, "parts", tuple(flat))
        super().__post_init__()

    @property
    def knots(self) -> int | None:
        """The most knots of any recursive part; a noise schedule's table is smooth and asks for none."""
        return max((p.knots for p in self.parts if p.knots is not None and not p.recovered), default=None)

    @property
    def noise(self) -> tuple[str, ...]:
        """The noise of the last part."""
        return tuple(f"{len(self.parts) - 1}.{name}" for name in self.parts[-1].noise)

    @property
    def recovered(self) -> tuple[str, ...]:
        """What can be solved for in the last part."""
        return tuple(f"{len(self.parts) - 1}.{name}" for name in self.parts[-1].recovered)

    @property
    def tells(self) -> tuple[str, ...]:
        """What the parts tell."""
        return self._named([part.tells for part in self.parts])

    @property
    def basis(self) -> Basis | None:
        """The basis the parts share, as long as noise that enters early is only scaled afterwards."""
        found: set[Basis | None] = {part.basis for part in self.parts} - {"any"}
        coloured = any(a.noise and b.basis != "any" for i, a in enumerate(self.parts) for b in self.parts[i + 1 :])
        if len(found) > 1 or coloured:
            return None
        return found.pop() if found else "any"

    @property
    def local(self) -> bool:
        """Whether every part is: one that is everywhere can be read everywhere."""
        return all(part.local for part in self.parts)

    @property
    def inverse(self) -> Inverse | None:
        """That of a single part; "damped" for several that are diagonal in one basis; else none, for (A B)^+ is not B^+ A^+."""
        if len(self.parts) == 1:
            return self.parts[0].inverse
        return "damped" if self.basis is not None and all(part.inverse for part in self.parts) else None

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """The parts' draws, one after the other from the same generators."""
        drawn = [part.draw(like, generator) for part in self.parts]
        return {f"{i}.{name}": value for i, z in enumerate(drawn) for name, value in z.items()}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Every part at the same severity, each with its own share of the draw."""
        for i, part in enumerate(self.parts):
            x = part.degrade(x, t, share_of(z, i))
        return x

    def recover(self, x_t: Batch, x0: Batch, t: Severity, z: Draw) -> Draw:
        """Solve the last part's noise, its clean input being what the parts before it make of x0."""
        for i, part in enumerate(self.parts[:-1]):
            x0 = part(x0, t, share_of(z, i))
        last = len(self.parts) - 1
        return {**z, **keyed(self.parts[last].recover(x_t, x0, t, share_of(z, last)), last)}

    def refresh(self, z: Draw, t: Severity, s: Severity, eta: float, generator: Generators = None) -> Draw:
        """Renew the last part's noise, coefficient by coefficient where the whole is a Gaussian chain; what comes before it stays as it was drawn."""
        if chain.is_chain(self):
            return chain.renewed(self, z, t, s, eta, generator)
        last = len(self.parts) - 1
        return {**z, **keyed(self.parts[last].refresh(share_of(z, last), t, s, eta, generator), last)}

    def snapped(self, t: Severity, z: Draw) -> Severity:
        """Up to the next knot; where a part has other knots for other draws, as a choice has, up to those that it was drawn."""
        if self.knots is not None:
            return super().snapped(t, z)
        for i, part in enumerate(self.parts):
            t = t if part.recovers else part.snapped(t, share_of(z, i))
        return t

    def sigma(self, t: Severity) -> Tensor:
        """The parts' noises, scaled by what comes after each, added as variances."""
        variance = t.new_zeros(t.shape)
        for part in self.parts:
            if part.basis == "any":
                variance = variance * part.gain((), t, {}) ** 2
            variance = variance + part.sigma(t) ** 2
        return variance.sqrt()

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """The product of the parts' gains."""
        gains: Sequence[Tensor] = [part.gain(shape, t, share_of(z, i)) for i, part in enumerate(self.parts)]
        out = gains[0]
        for gain in gains[1:]:
            out = out * gain
        return out

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """The single part's, or one by the product of the parts' gains."""
        if len(self.parts) == 1:
            return self.parts[0].pinv(y, t, share_of(z, 0))
        if self.basis is None or not self.inverse:
            return super().pinv(y, t, z)
        gain = self.gain(tuple(y.shape[1:]), t.to(y.dtype), z)
        return backward(damped(forward(y, self.basis), gain), self.basis, y.shape[-1])

    def context(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor | None:
        """The parts' contexts, side by side."""
        found = [c for i, part in enumerate(self.parts) if (c := part.context(shape, t, share_of(z, i))) is not None]
        return torch.cat(found, dim=1) if found else None

