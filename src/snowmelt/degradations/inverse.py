r"""Pseudo-inverses: what a measurement says about the sample behind it, and nothing else.

For an operator that is diagonal in an orthonormal basis with gain g there are two of them,

.. math:: A^+ = \begin{cases} 1/g & |g| > .05 \\ 0 & \text{else} \end{cases} \qquad\text{and}\qquad A^+ = \frac{g}{g^2 + \varepsilon},

the first where what is left of a coefficient is known as well as floating point knows it (masks, colour), the second where a
gain sinks to nothing and a measurement was rounded to 8 bits (blur). There :math:`\varepsilon = \sigma^2 / v = 10^{-3}`,
with :math:`\sigma = .0023`, the standard deviation of that rounding on [-1, 1], and :math:`v = .07^2`, the squared error of a
usual estimate: for white errors this is their Wiener filter, and what it leaves unexplained of them,
:math:`\varepsilon g / (g^2 + \varepsilon)`, is at most :math:`\sigma / 2`, whatever the gain. Any other linear operator is
inverted by conjugate gradients, :math:`A^\top (A A^\top + \varepsilon)^{-1}`, with its adjoint.

Source: Tikhonov 1963; Hestenes and Stiefel 1952, "Methods of conjugate gradients for solving linear systems"; Engl, Hanke and Neubauer 1996,
"Regularization of inverse problems".
"""

from collections.abc import Callable

import torch
from torch import Tensor

LEAST_GAIN = 0.05  # of a coefficient of which less is left, an 8-bit file knows a tenth at best
EPSILON = 1e-3
_ITERATIONS = 40
_ENOUGH = 0.01  # of the residual: whoever needs more asks again


def divided(y: Tensor, gain: Tensor) -> Tensor:
    """y / gain where the gain exceeds 0.05, and 0 elsewhere."""
    gone = gain.abs() <= LEAST_GAIN
    return torch.where(gone, 0, y / torch.where(gone, 1, gain))


def damped(y: Tensor, gain: Tensor, epsilon: float | Tensor = EPSILON) -> Tensor:
    """Y gain / (gain^2 + epsilon): at most 16 times y, unless told another epsilon."""
    return y * (gain / (gain.square() + epsilon))


def solved(
    y: Tensor,
    operator: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    epsilon: float | Tensor = EPSILON,
    enough: float = _ENOUGH,
) -> Tensor:
    """A^T (A A^T + epsilon)^-1 y (b, *d) by conjugate gradients until the residual is `enough` of y, every row by itself; solved ones stand still."""
    axes = tuple(range(1, y.ndim))
    u, residual = torch.zeros_like(y), y
    direction, size = y, y.square().sum(axes, keepdim=True)
    goal = enough**2 * size
    for _ in range(_ITERATIONS):
        going = size > goal
        if not bool(going.any()):
            break
        pushed = operator(adjoint(direction)) + epsilon * direction
        along = (direction * pushed).sum(axes, keepdim=True)
        step = torch.where(going, size / torch.where(going, along, 1), 0)
        u, residual = u + step * direction, residual - step * pushed
        shrunk = torch.where(going, residual.square().sum(axes, keepdim=True), size)
        direction = torch.where(going, residual + shrunk / torch.where(going, size, 1) * direction, direction)
        size = shrunk
    return adjoint(u)
