r"""The paper's masks: the picture fades from one place outwards, or comes out of a plain colour.

.. math:: x_{t_k} = a_k \odot x_0 + (1 - a_k) \odot c, \qquad P_k = \prod_{i<k} (1 - G_i), \qquad
          G_i = \exp\left(-\frac{d^2}{2 \sigma_i^2}\right),

with d the distance in pixels to the centre, where :math:`1 - G_i` is exactly 0. For restoration :math:`a_k = P_k` and c is mid-grey, 0. For
generation (`reverse`) the products run backwards, :math:`a_k = 1 - P_{T-k}` for k > 0: at t = 1 there is nothing but c, a colour with each
channel uniform in (-1/2, 1/2), and on the way back the picture comes out of it from the centre outwards. (Reversed, the last step before
the clean picture is not quite one of the product, :math:`P_{T-1}` remaining; the paper's is the same.)

The centre is that of the paper's code, pixel n/2 - 1 of an even number n (the middle one of an odd number); *random* shifts it by n/2 - o
with o uniform in {0, ..., n}, so that it may lie one pixel outside. Width and distance are in pixels, so a mask fits any rectangle.

The products are a table over the distances along rows and columns, not over pixels: it is as large as the picture or as the widest mask reaches,
whichever is less, and serves every centre.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 4.2 and appendix, as its code does it; ``mask`` is the continuous form.
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from snowmelt.degradations.base import Basis, images
from snowmelt.degradations.pixelwise import Pixelwise
from snowmelt.randomness import uniform
from snowmelt.registry import Range, register
from snowmelt.schedules import certain, knot
from snowmelt.types import Batch, Draw, Generators, Severity

_FAR = 8.7  # widths from the centre, where 1 - G is 1 in float64
_LARGEST_BYTES = 1_000_000_000


@register("fade-mask", papers=("bansal2022",))
@dataclass(frozen=True)
class FadeMask(Pixelwise):
    """The paper's inpainting, and with `reverse` and `towards=colour` its generation: products of growing Gaussian masks.

    The width of step i = 0, 1, ... in px: *constant* kernel_std; *incremental* kernel_std (i + initial_mask), in the middle;
    *random* the same around a drawn place. MNIST and CIFAR-10: random, 0.1, 50 steps; CelebA: incremental, 0.2, 100 steps;
    generation: incremental, 0.05, 750 steps, reverse, towards=colour.

    The draw holds what cannot be computed: "offset" (b, 2) for *random*, "colour" (b, c) for towards=colour. A restorer may be told
    both, as the mask and as constant channels. Neither is hidden: where a mask is 0 the colour can be read off x_t, and at t = 1 of
    the reverse form, where a prior begins, x_t *is* the colour.
    """

    routine: Literal["incremental", "constant", "random"] = "incremental"
    kernel_std: Annotated[float, Range(1e-6, 1000, "px")] = 0.2
    initial_mask: Annotated[float, Range(0.001, 10_000), "width of the first step, in units of kernel_std"] = 1.0
    steps: Annotated[int, Range(1, 10_000), "in how many steps t goes from 0 to 1"] = 50
    reverse: bool = False
    towards: Literal["grey", "colour"] = "grey"

    @property
    def knots(self) -> int:
        """`steps`."""
        return self.steps

    @property
    def tells(self) -> tuple[str, ...]:
        """Where the mask is, and the colour it leaves."""
        return (*(("offset",) if self.routine == "random" else ()), *(("colour",) if self.towards == "colour" else ()))

    @property
    def basis(self) -> Basis | None:
        """Pixels; None with a colour, which a filter for pictures would take for a part of the picture."""
        return "pixel" if self.towards == "grey" else None

    @property
    def local(self) -> bool:
        """A mask has a place; run backwards it leaves none: far from the centre all goes at the first step."""
        return not self.reverse

    def widths(self) -> Tensor:
        """The standard deviation of every step in px: (steps,), float64."""
        i = torch.arange(self.steps, dtype=torch.float64)
        return torch.full_like(i, self.kernel_std) if self.routine == "constant" else self.kernel_std * (i + self.initial_mask)

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """offset (b, 2), whole numbers from 0 to h and to w; colour (b, c), uniform in [-1/2, 1/2)."""
        out = {}
        if self.routine == "random":
            most = like.new_tensor(images(like, "fade-mask"))
            out["offset"] = (uniform(like, generator, (2,)) * (most + 1)).floor().minimum(most)
        if self.towards == "colour":
            out["colour"] = uniform(like, generator, (like.shape[1],)) - 0.5
        return out

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """x times the mask, and the rest of the colour."""
        if self.towards == "grey":
            return super().degrade(x, t, z)
        images(x, "fade-mask")
        return torch.lerp(z["colour"].to(x)[:, :, None, None], x, self.gain(tuple(x.shape[1:]), t.reshape(-1), z))

    def gain(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """a_t, between the knots a mixture of two: (b, 1, h, w)."""
        sides = shape[-2:]
        table = _table(self, self._reach(sides[0]), self._reach(sides[1]), t.dtype, t.device)
        rows, columns = (
            self._distances(n, z["offset"][:, axis] if self.routine == "random" else None, t.device).clamp(max=table.shape[axis + 1] - 1)
            for axis, n in enumerate(sides)
        )
        below, on = knot(t, self.steps)
        if certain(on):
            return _picked(table, below + on.long(), rows, columns)
        low, high = (_picked(table, at, rows, columns) for at in (below, below + 1))
        return torch.lerp(low, high, on.to(t.dtype)[:, None, None, None])

    def context(self, shape: tuple[int, ...], t: Severity, z: Draw) -> Tensor:
        """The mask, one channel, and the colour, if there is one, as c constant channels."""
        mask = self.gain(shape, t, z)
        if self.towards == "grey":
            return mask
        return torch.cat([mask, z["colour"].to(t)[:, :, None, None].expand(-1, -1, *shape[-2:])], dim=1)

    def absent(self, shape: tuple[int, ...], t: Severity) -> Tensor:
        """No mask, and no colour: ones, and zeros where the colour would be told."""
        kept = t.new_ones(len(t), 1, *shape[-2:])
        return kept if self.towards == "grey" else torch.cat([kept, t.new_zeros(len(t), *shape)], dim=1)

    def products(self, rows: int, columns: int) -> Tensor:
        """a at every knot for distances of 0, 1, ... px along rows and columns: (steps + 1, rows, columns), float64."""
        squares = torch.arange(rows, dtype=torch.float64)[:, None] ** 2 + torch.arange(columns, dtype=torch.float64)[None] ** 2
        table = torch.ones(self.steps + 1, rows, columns, dtype=torch.float64)
        torch.expm1(squares / (-2 * self.widths()[:, None, None] ** 2), out=table[1:]).neg_()
        torch.cumprod(table, 0, out=table)
        if self.reverse:
            table = 1 - table.flip(0)
            table[0] = 1
        return table

    def _reach(self, n: int) -> int:
        """How many distances along an axis of n pixels the table holds: beyond the last of them nothing changes."""
        widest = _widest(self)
        return min(n if self.routine == "random" else n // 2, math.ceil(_FAR * widest)) + 1

    def _distances(self, n: int, offset: Tensor | None, device: torch.device) -> Tensor:
        """The distance of each of n pixels to the centre, in px: (b or 1, n), int64."""
        pixels = torch.arange(n, device=device)[None]
        if offset is None:
            return (pixels - ((n + 1) // 2 - 1)).abs()
        return (pixels - (n - 1 - offset.to(device).long())[:, None]).abs()


def _picked(table: Tensor, at: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The masks at knots (b,) for distances along rows (b or 1, h) and columns (b or 1, w): (b, 1, h, w). Whole rows first, for they lie together."""
    _, high, wide = table.shape
    tall = table.reshape(-1, wide)[(at[:, None] * high + rows).flatten()].reshape(-1, rows.shape[1], wide)
    if len(columns) == 1:
        return tall.index_select(2, columns[0])[:, None]
    return tall.gather(2, columns[:, None].expand(-1, tall.shape[1], -1))[:, None]


@functools.lru_cache(maxsize=64)
def _widest(mask: FadeMask) -> float:
    """The greatest standard deviation of a step, in px."""
    return float(mask.widths().max())


@functools.lru_cache(maxsize=16)
def _table(mask: FadeMask, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    size = (mask.steps + 1) * rows * columns * 8
    if size > _LARGEST_BYTES:
        raise ValueError(
            f"fade-mask of {mask.steps} steps with masks of up to {float(mask.widths().max()):g} px needs a table of {size / 1e9:.1f} GB: "
            "use smaller pictures, fewer steps, or the continuous form (mask)"
        )
    return mask.products(rows, columns).to(device=device, dtype=dtype)
