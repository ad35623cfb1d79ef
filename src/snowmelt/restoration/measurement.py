r"""Measurements: what a linear operator left of a sample, :math:`y = A x_0 + b + \sigma_y n`, and what that says of an estimate.

All ways to restore with a model that never saw the operator need one thing of it, the regularised step back

.. math:: A^\top \left(A A^\top + \rho\right)^{-1} \left(y - A \hat x_0 - b\right),

which for :math:`\rho = 0` is the pseudo-inverse :math:`A^+ (y - A \hat x_0 - b)` of :mod:`snowmelt.degradations.inverse`. It is the step from an
estimate :math:`\hat x_0` to the minimum of :math:`|y - A x - b|^2 + \rho\,|x - \hat x_0|^2` over x. Where the operator is diagonal in a basis with
gain g it is :math:`g / (g^2 + \rho)` coefficient by coefficient; else it is found by conjugate gradients, with the adjoint by reverse
differentiation.

Source: Tikhonov 1963; Hestenes and Stiefel 1952; Bishop 2006, "Pattern recognition and machine learning", section 2.3.3, for the same step
as the mean of a Gaussian posterior.
"""

import functools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation
from snowmelt.degradations.inverse import EPSILON, damped, solved
from snowmelt.degradations.spectral import backward, forward
from snowmelt.samplers import entries
from snowmelt.types import Batch, Draw
from snowmelt.types import severity as severities

_ENOUGH = {torch.float64: 1e-10}  # of the residual; less is rounding
_ENOUGH_FLOAT32 = 1e-4


@dataclass(frozen=True, eq=False)
class Measurement:
    """What was measured, and how.

    Attributes:
        operator: D, affine in x for a known draw: A x + b.
        y: what it left, (b, *d); what lies in a hole is not read.
        t: at this severity, a number or (b,).
        z: with this draw.
        noise: standard deviation of what was added to it, in the units of y.

    Raises:
        ValueError: the operator is not affine or its draw is not known, y holds values that are not finite, a number is out of bounds.
    """

    operator: Degradation
    y: Batch
    t: float | Tensor = 1.0
    z: Draw = field(default_factory=dict)
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what says nothing of x0 that could be computed with."""
        check_operator(self.operator)
        name, missing = registry.spec(self.operator), sorted(entries(self.operator).keys() - self.z.keys())
        if missing:
            raise ValueError(f"{name} cannot be undone while its draw is unknown: give {', '.join(missing)} in z")
        if not self.y.is_floating_point() or not bool(torch.isfinite(self.y).all()):
            raise ValueError("y holds values that are no finite floating-point numbers: repair or leave out those samples")
        t = torch.as_tensor(self.t)
        if not bool(((t >= 0) & (t <= 1)).all()):
            raise ValueError(f"t = {self.t} lies outside [0, 1]: it is the severity of {name}, 1 the strongest")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise = {self.noise:g} lies outside [0, ∞): it is the standard deviation of the noise in y, on the range of the data")

    def of(self, x: Batch) -> Batch:
        """A x + b: what the operator makes of x (b, *d)."""
        return self.operator(x, severities(self.t, x), self.z)

    def left(self, x0: Batch) -> Batch:
        """y - A x0 - b: what of the measurement an estimate (b, *d) does not explain."""
        left = self.y.to(x0) - self.of(x0)
        return left if self._seen is None else torch.where(self._seen, left, 0)

    def adjoint(self, u: Batch) -> Batch:
        """A^T u, (b, *d)."""
        with torch.enable_grad():
            x = torch.zeros_like(u, requires_grad=True)
            (out,) = torch.autograd.grad(self.of(x), x, u)
        return out

    @torch.no_grad()
    def back(self, left: Batch, rho: float | Tensor = 0.0) -> Batch:
        """A^T (A A^T + rho)^-1 `left`, for rho = 0 the operator's own A^+ `left`: (b, *d).

        Args:
            left: (b, *d).
            rho: a number, or one for each sample, (b, 1, ..., 1), then above 0.
        """
        t = severities(self.t, left)
        plain = not isinstance(rho, Tensor) and rho == 0
        if plain and self.operator.inverse is not None:
            return self.operator.pinv(left, t, self.z)
        basis = self.operator.basis
        if plain or basis is None or left.ndim != 4:
            rho = EPSILON if plain else rho
            return solved(left, lambda x: self.of(x) - self._offset.to(x), self.adjoint, rho, _ENOUGH.get(left.dtype, _ENOUGH_FLOAT32))
        gain = self.operator.gain(tuple(left.shape[1:]), t, self.z)
        return backward(damped(forward(left, basis), gain, rho), basis, left.shape[-1])

    @functools.cached_property
    def _seen(self) -> Tensor | None:
        """Where pixels are left, (b, 1, h, w); what lies in a hole was not measured. None for operators that have no pixels to lose."""
        if self.operator.basis != "pixel" or self.y.ndim != 4:
            return None
        return self.operator.gain(tuple(self.y.shape[1:]), severities(self.t, self.y), self.z) != 0

    @functools.cached_property
    def _offset(self) -> Tensor:
        """b, what the operator makes of nothing."""
        with torch.no_grad():
            return self.of(torch.zeros_like(self.y))


def check_operator(operator: Degradation) -> None:
    """Refuse an operator that is not affine in x, or that adds what nobody could know.

    Raises:
        ValueError: it is so.
    """
    name = registry.spec(operator)
    if operator.noise or set(operator.hidden) - set(operator.given):
        raise ValueError(
            f"{name} adds what nobody could know of a picture ({', '.join(operator.hidden)}): give the linear part as the operator, "
            "and the standard deviation of its noise as noise"
        )
    if not operator.linear:
        raise ValueError(
            f"{name} is not linear, so that no step back from what it leaves is known: take a linear operator (mask, holes, pixelate, "
            "gaussian-blur, grey, ...), or train a model for this one"
        )
