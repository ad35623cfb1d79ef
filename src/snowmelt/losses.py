r"""What training minimises: the distance of the restorer's estimate from the truth, per sample.

.. math:: \ell_i = w(t_i)\, \rho\!\left(R(x_t, t)_i - x_{0,i}\right) + \text{penalty}_i

Squared error makes the restorer the posterior mean :math:`E[x_0 | x_t]`, which is what Algorithm 2 and every ODE view of
sampling assume; absolute error, the paper's choice, makes it the median. Nothing is averaged over the batch here:
whoever calls sees each sample's loss and its severity.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import Tensor

from snowmelt.model import Model
from snowmelt.types import Batch, Draw, Severity

Loss: TypeAlias = Literal["l2", "l1", "charbonnier", "pseudo-huber"]
_CHARBONNIER = 1e-3
_PSEUDO_HUBER = 0.06


def restoration_loss(
    model: Model,
    x0: Batch,
    t: Severity,
    z: Draw,
    *,
    loss: Loss = "l2",
    weight: Callable[[Severity], Tensor] | None = None,
    penalty: Callable[[Batch, Batch], Tensor] | None = None,
    cond: Tensor | None = None,
) -> Tensor:
    """The loss of each sample: (b,), never reduced.

    Args:
        model: degrades x0 (noise floor and rounding included) and estimates it back.
        x0: clean samples (b, *d).
        t: severities (b,) in [0, 1].
        z: the draw, from ``model.draw``.
        loss: l2 and l1 are means over the sample; charbonnier is a smooth l1; pseudo-huber acts on the norm of the sample's error.
        weight: of the severity, (b,) -> (b,).
        penalty: (estimate, x0) -> (b,), added after weighting.
        cond: handed to the restorer.

    Raises:
        ValueError: unknown loss.
    """
    estimate = model.estimate(model.degrade(x0, t, z), t, z, cond)
    out = distance(estimate, x0, loss)
    if weight is not None:
        out = out * weight(t)
    return out if penalty is None else out + penalty(estimate, x0)


def distance(estimate: Batch, x0: Batch, loss: Loss) -> Tensor:
    """rho(estimate - x0) for each sample: (b,), in float32 or wider."""
    error = (estimate - x0).float().flatten(1) if x0.dtype.itemsize < 4 else (estimate - x0).flatten(1)
    match loss:
        case "l2":
            return error.square().mean(1)
        case "l1":
            return error.abs().mean(1)
        case "charbonnier":
            return (error.square() + _CHARBONNIER**2).sqrt().mean(1)
        case "pseudo-huber":
            return (error.square().mean(1) + _PSEUDO_HUBER**2).sqrt() - _PSEUDO_HUBER
    raise ValueError(f"unknown loss {loss!r}: choose l2, l1, charbonnier or pseudo-huber")


def estimates(loss: Loss) -> Literal["mean", "median"]:
    """What a restorer trained with this loss returns: the posterior mean, or a median."""
    return "mean" if loss == "l2" else "median"
