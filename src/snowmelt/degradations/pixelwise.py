r"""Operators that act on each pixel by itself: :math:`x_t = g_t \odot x_0`, with a gain :math:`g_t \in [0, 1]` that all channels share.

What masks have in common: they are diagonal in the basis of pixels, are undone by division where something is left, and what a
restorer may be told of the draw is the gain itself.
"""

from torch import Tensor

from snowmelt.degradations.base import Basis, Degradation, Inverse, images
from snowmelt.degradations.inverse import divided
from snowmelt.registry import label
from snowmelt.types import EMPTY, Batch, Draw, Severity


class Pixelwise(Degradation):
    """A gain (b, 1, h, w) per pixel, which a subclass writes as :meth:`gain`."""

    @property
    def linear(self) -> bool:
        """True."""
        return True

    @property
    def basis(self) -> Basis | None:
        """Pixels."""
        return "pixel"

    @property
    def inverse(self) -> Inverse:
        """Pixel by pixel."""
        return "exact"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """x times the gain."""
        images(x, label(type(self)))
        return x * self.gain(tuple(x.shape[1:]), t.reshape(-1), z)

    def pinv(self, y: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """Y over the gain, where more than a twentieth of a pixel is left."""
        return divided(y, self.gain(tuple(y.shape[1:]), t.to(y.dtype), z))

    def context(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """What is left of each pixel, one channel."""
        return self.gain(shape, t, z)
