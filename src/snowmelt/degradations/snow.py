r"""Snow: flakes fall on the picture, more and longer ones at every step.

In the range [0, 1], with flakes A that are drawn once for the whole walk and step i = 1, ..., T at t = i/T,

.. math:: x_t = \mathrm{clip}(x_0' + S_i + \mathrm{rot}_{180} S_i,\; 0, 1), \qquad
          S_i = g_{\sigma_i} * \mathrm{clip}(A\,[A \ge \theta_i],\; 0, 1).

A is a matrix of N(mean, std) of which the middle is enlarged by the zoom factor, linearly between its corners; g is a Gaussian of `length`
taps that sum to 1, along the columns or along the rows, which is drawn too. The threshold :math:`\theta_i` falls and the width
:math:`\sigma_i` grows in T equal values from the level's first to its last, both included. The picture itself stays,
:math:`x_0' = x_0`, or fades, :math:`x_0' = b_i x_0 + (1 - b_i) \max(x_0, 1.5\,\mathrm{grey} + .5)`, with b from .95 to the level's end and
grey the luma of Rec. 601 (.299 R + .587 G + .114 B), as in ImageNet-C; a picture of one channel is its own grey. Data in [-1, 1] is converted
inside, where a layer counts twice: :math:`2\,\mathrm{clip}((x + 1)/2 + S) - 1 = \mathrm{clip}(x + 2 S, -1, 1)`, the clip now at -1 and 1.

Step 0 is the identity, without a clip. Every step is computed from x_0 at once, so t may differ from sample to sample; between two
steps their results are mixed linearly. The clip makes snow neither linear nor additive. Beyond its edges a layer is mirrored about its
outermost pixels: the source does not say what is there, and darkness would frame every picture.

Source: Bansal et al. 2022 (arXiv 2208.09392), section 4.4; the layer: Hendrycks and Dietterich 2019, ImageNet-C (arXiv 1903.12261).
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from snowmelt.degradations.base import Degradation, images
from snowmelt.randomness import generator as stream
from snowmelt.randomness import normal, uniform
from snowmelt.registry import Range, register
from snowmelt.schedules import certain, knot
from snowmelt.types import Batch, Draw, Generators, expand, once


class Level(NamedTuple):
    """The numbers behind a level; pairs are those of the first and the last step."""

    mean: float
    std: float
    zoom: float
    threshold: tuple[float, float]
    length: int
    sigma: tuple[float, float]
    brightness: tuple[float, float]


LEVELS = {
    1: Level(0.1, 0.3, 3, (0.7, 0.3), 5, (0.5, 5), (0.95, 0.7)),
    2: Level(0.55, 0.3, 2.5, (1.15, 0.7), 11, (0.05, 12), (0.95, 0.55)),
    3: Level(0.55, 0.3, 2.5, (1.15, 0.7), 11, (0.05, 16), (0.95, 0.4)),
    4: Level(0.55, 0.3, 2.5, (1.15, 0.55), 11, (0.05, 20), (0.95, 0.3)),
}
_LUMA = (0.299, 0.587, 0.114)


@register("snow", papers=("bansal2022", "hendrycks2019"))
@dataclass(frozen=True)
class Snow(Degradation):
    """The paper's snow: level 3 is its CIFAR-10, level 4 its CelebA; level 1 is the lightest."""

    level: Annotated[int, Range(1, 4), "how heavy: 1 to 4"] = 3
    steps: Annotated[int, Range(1, 10_000), "in how many steps t goes from 0 to 1"] = 200
    brightness: Annotated[Literal["fixed", "fading"], "whether the picture itself pales"] = "fixed"
    direction: Annotated[Literal["random", "vertical", "horizontal"], "of the flakes' fall"] = "random"
    seed: Annotated[int | None, Range(0, 2**63 - 1), "one snow for all pictures; none: fresh flakes for each"] = None

    @property
    def knots(self) -> int:
        """`steps`."""
        return self.steps

    @property
    def hidden(self) -> tuple[str, ...]:
        """The flakes and how they fall."""
        return ("flakes", "direction")

    def draw(self, like: Batch, generator: Generators = None) -> Draw:
        """flakes (b, 1, h, w): the enlarged field, before any threshold; direction (b,): 0 falls along the columns, 1 along the rows."""
        h, w = images(like, "snow")
        if self.seed is not None:
            one = self._drawn(torch.empty(1), stream(self.seed, "snow"), (h, w))  # the same in every precision
            return {name: value.to(like).repeat(len(like), *(1,) * (value.ndim - 1)) for name, value in one.items()}
        return self._drawn(like, generator, (h, w))

    def _drawn(self, like: Batch, generator: Generators, size: tuple[int, int]) -> Draw:
        # Only the middle of the matrix is ever seen: nothing else is drawn.
        crop = tuple(math.ceil(n / self._numbers.zoom) for n in size)
        field = self._numbers.mean + self._numbers.std * normal(like, generator, (1, *crop))
        if self.direction == "random":
            along_rows = (uniform(like, generator, ()) >= 0.5).to(like.dtype)
        else:
            along_rows = like.new_full((len(like),), self.direction == "horizontal")
        return {"flakes": zoomed(field, size, self._numbers.zoom), "direction": along_rows}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        """Step t T; between two steps both, mixed linearly."""
        images(x, "snow")
        if self.brightness == "fading" and x.shape[1] not in (1, 3):
            raise ValueError(f'snow:brightness=fading knows the grey of 1 or 3 channels; these have {x.shape[1]}: use brightness = "fixed"')
        below, on = knot(once(t).reshape(-1), self.steps)
        if certain(on):  # on the knots, as in training, one step is enough
            return self._step(x, below + on.long(), z)
        between = (on > 0) & (on < 1)
        low = self._step(x, torch.where(between, below, below + on.round().long()), z)
        return torch.where(expand(between, x), torch.lerp(low, self._step(x, below + 1, z), expand(on.to(x.dtype), x)), low)

    def _step(self, x: Tensor, i: Tensor, z: Draw) -> Tensor:
        """x after step i (b,) in 0, ..., T, each sample its own."""
        threshold, taps, brightness = _table(self, x.dtype, x.device)
        flakes, along_rows = z["flakes"].to(x), z["direction"].to(x)[:, None] > 0.5
        layer = torch.where(flakes >= expand(threshold[i], x), flakes, 0).clamp(0, 1)
        if layer.shape[-2] == layer.shape[-1]:  # a square falls along its columns, turned or not
            turned = along_rows[..., None, None]
            layer = convolved(torch.where(turned, layer.mT, layer), taps[i], -2)
            layer = torch.where(turned, layer.mT, layer)
        else:
            still, smeared = taps[0], taps[i]  # the kernel of step 0 is a single 1
            layer = convolved(layer, torch.where(along_rows, still, smeared), -2)
            layer = convolved(layer, torch.where(along_rows, smeared, still), -1)
        fallen = (layer + layer.flip((-2, -1))).mul_(2)
        snowed = (self._paled(x, expand(brightness[i], x)) + fallen).clamp(-1, 1)
        return torch.where(expand(i > 0, x), snowed, x)

    def _paled(self, x: Tensor, b: Tensor) -> Tensor:
        """x_0' in [-1, 1], where 1.5 grey + .5 reads 1.5 (grey + 1)."""
        if self.brightness == "fixed":
            return x
        grey = x if x.shape[1] == 1 else (x * x.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
        return x + (1 - b) * (1.5 * (grey + 1) - x).clamp(min=0)

    @property
    def _numbers(self) -> Level:
        return LEVELS[self.level]

    def in_units(self, t: float) -> dict[str, float]:
        """The step of the paper's table."""
        return {"step": t * self.steps}


def zoomed(field: Tensor, size: tuple[int, int], zoom: float) -> Tensor:
    """The middle (..., *size) of a field enlarged by `zoom`, linear between its corners, which stay corners."""
    for axis, n in zip((-2, -1), size, strict=True):
        m = field.shape[axis]
        wide = round(m * zoom)
        trim = (wide - n) // 2
        at = torch.arange(trim, trim + n, dtype=torch.float64) * ((m - 1) / max(wide - 1, 1))
        low = at.floor().clamp(0, max(m - 2, 0)).long()
        part = (at - low).to(field.dtype).to(field.device)
        low = low.to(field.device)
        before, after = field.index_select(axis, low), field.index_select(axis, (low + 1).clamp(max=m - 1))
        field = torch.lerp(before, after, part if axis == -1 else part[:, None])
    return field


def convolved(layer: Tensor, taps: Tensor, axis: int) -> Tensor:
    """Each sample of a layer (b, 1, h, w) convolved along an axis with its own odd, even-handed kernel (b, k), edges mirrored."""
    n, reach = layer.shape[axis], taps.shape[1] // 2
    period = max(2 * n - 2, 1)
    at = torch.arange(-reach, n + reach, device=layer.device) % period
    wide = layer.index_select(axis, torch.where(at < n, at, period - at))
    out = layer * expand(taps[:, reach], layer)
    for k in range(reach):  # a tap and its mirror image at once
        pair = wide.narrow(axis, k, n) + wide.narrow(axis, 2 * reach - k, n)
        out.addcmul_(pair, expand(taps[:, k], layer))
    return out


class _Steps(NamedTuple):
    """What changes from step to step, for i = 0, ..., T."""

    threshold: Tensor  # (T + 1,)
    taps: Tensor  # (T + 1, length)
    brightness: Tensor  # (T + 1,)


@functools.lru_cache(maxsize=32)
def _table(snow: Snow, dtype: torch.dtype, device: torch.device) -> _Steps:
    """The numbers of every step, made in float64; step 0 lets no flake through and moves nothing."""
    level = LEVELS[snow.level]
    ends = level.threshold, level.sigma, level.brightness
    threshold, sigma, brightness = (torch.linspace(first, last, snow.steps, dtype=torch.float64) for first, last in ends)
    n = torch.arange(level.length, dtype=torch.float64) - level.length // 2
    taps = torch.exp(-0.5 * (n / sigma[:, None]) ** 2)
    taps /= taps.sum(1, keepdim=True)
    threshold = torch.cat([threshold.new_tensor([math.inf]), threshold])
    taps = torch.cat([(n == 0).to(taps)[None], taps])
    brightness = torch.cat([brightness.new_ones(1), brightness])
    return _Steps(*(part.to(device=device, dtype=dtype) for part in (threshold, taps, brightness)))
