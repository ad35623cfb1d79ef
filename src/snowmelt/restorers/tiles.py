r"""Large pictures by tiles: a network is applied to one piece at a time, so that memory does not grow with the picture.

Every tile is a window of the picture with weights over its pixels, and the weights of all tiles sum to 1 everywhere:

.. math:: F(x) = \sum_k w_k\, F(x|_k), \qquad \sum_k w_k = 1.

A network that says how far it sees (``radius``, px) and on which grid it lies (``multiple``, px, from the top left) has
hard weights: 1 on a tile's core, 0 on a halo at least `radius` wide. Tiles begin on the grid, and those at the border end
where the picture ends. What the network does there and what it computes inside is then what it would do to the whole
picture: the result is the same up to the rounding of sums in another order.

A network that says nothing (normalised over the picture, or with attention) has no exact tiles. Its tiles overlap and fade into
each other by :math:`\sin^2`. What holds is: the result is nowhere farther from the whole than the worst tile is there, and no
seam is steeper than the tiles themselves plus :math:`\pi / 2` times their disagreement over `overlap`. How much they disagree is up to
the network; nothing bounds it.

Source: the halo of overlap-tile, Ronneberger et al. 2015 (arXiv 1505.04597), figure 2; the grid and the fading are ours.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snowmelt.types import Batch, Severity

_log = logging.getLogger(__name__)

WHOLE_PX = 1 << 20  # a picture of about 1 megapixel runs whole: there tiles save no memory that matters, and a halo costs time
_LOCAL_PX = 1024  # as much as the largest whole picture: of a smaller tile the halo takes the larger part
_GLOBAL_PX = 512  # attention costs the square of the pixels
_LEAST_PX = 64


@dataclass(frozen=True)
class Tiles:
    """How a large picture is cut.

    Args:
        size: side of a tile in px, its halo or overlaps included.
        overlap: px over which neighbours fade into each other, None an eighth of `size`; not read for networks that say their `radius`.

    Raises:
        ValueError: no tile can have these sizes.
    """

    size: int
    overlap: int | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        if self.size < 1:
            raise ValueError(f"tiles.size = {self.size} is no side of a tile: give px, such as {_GLOBAL_PX}")
        if not 0 <= self.fading <= self.size // 2:
            raise ValueError(f"tiles.overlap = {self.overlap} px lies outside [0, {self.size // 2}], half of tiles.size: a third tile would be met")

    @property
    def fading(self) -> int:
        """`overlap`, or its default."""
        return self.size // 8 if self.overlap is None else self.overlap


WHOLE = Tiles(1 << 30)  # no picture is larger: none is cut


class Span(NamedTuple):
    """One tile along one axis: its pixels [start, stop) and their weights (stop - start,)."""

    start: int
    stop: int
    weight: Tensor


def tiled(
    net: nn.Module,
    x: Batch,
    t: Severity,
    tiles: Tiles | None = None,
    features: Tensor | None = None,
    call: Callable[..., Tensor] | None = None,
) -> Batch:
    """net(x, t), or net(x, t, features), tile by tile where x is larger than a tile; sums over tiles are in the dtype of x, whatever net returns.

    Without memory for a tile its side is halved, with a warning, as long as that leaves a core. Several pictures that ran whole are not cut: whoever
    called takes fewer at a time, which changes no more than last digits, while tiles of a network that says nothing are other pictures.

    Args:
        net: maps (b, c_in, h, w) and (b,) to (b, c_out, h, w), each sample and severity by itself.
        x: its input.
        t: severities (b,).
        tiles: None takes pictures up to `WHOLE_PX` whole, and larger ones by 1024 px for a network that says its radius, else by 512 px.
        features: (b, k) for a network that embeds conditions.
        call: another way to compute what net does, such as its compiled twin.

    Raises:
        ValueError: tiles are too small for the radius of the network.
        MemoryError, RuntimeError: there is no memory for several whole pictures, or for the smallest tile.
    """
    run = call or net
    h, w = x.shape[-2:]
    if tiles is not None:
        _check(net, tiles)
    told = (t,) if features is None else (t, features)
    now = tiles or Tiles(max(_LOCAL_PX, 2 * least(net)) if _reach(net) else _GLOBAL_PX)
    whole = h * w <= WHOLE_PX if tiles is None else max(h, w) <= tiles.size
    while True:
        try:
            out: Tensor = run(x, *told) if whole else _by_tiles(net, x, told, now, run)
            return out
        except (MemoryError, RuntimeError) as error:
            size = max(min(now.size, max(h, w)) // 2, least(net))
            fewer = tiles is None and whole and len(x) > 1
            if not out_of_memory(error) or fewer or size >= min(now.size, max(h, w)):
                raise
            _log.warning("out of memory for %s: going on with tiles of %d px", f"{w} x {h} px" if whole else f"tiles of {now.size} px", size)
        # Beyond the except clause, whose traceback keeps alive what the tile had computed.
        now, whole = Tiles(size, min(now.fading, size // 4)), False


def least(net: nn.Module) -> int:
    """The smallest side to which a tile is halved, in px: below it, almost all would be halo."""
    reach = _reach(net)
    return _LEAST_PX if reach is None else max(_LEAST_PX, 3 * _up(reach[0], reach[1]), 2 * _up(reach[0], reach[1]) + reach[1])


def spans(n: int, net: nn.Module, tiles: Tiles, like: Tensor) -> list[Span]:
    """The tiles along an axis of n px, with weights in the dtype and on the device of `like` that sum to 1 at every pixel."""
    reach, grid = _reach(net), int(getattr(net, "multiple", 1))
    if n <= max(tiles.size, 2 * grid):
        return [Span(0, n, like.new_ones(n))]
    return _fading(n, tiles, grid, like) if reach is None else _cores(n, tiles.size, *reach, like)


def _cores(n: int, size: int, radius: int, multiple: int, like: Tensor) -> list[Span]:
    """Cores side by side, about equal, each with a halo that ends where the picture does."""
    halo = _up(radius, multiple)
    largest = (size - 2 * halo) // multiple * multiple
    core = _up(math.ceil(n / math.ceil(n / largest)), multiple)
    out = []
    for first in range(0, n, core):
        start, last = max(first - halo, 0), min(first + core, n)
        stop = min(last + halo, n)
        weight = like.new_zeros(stop - start)
        weight[first - start : last - start] = 1
        out.append(Span(start, stop, weight))
    return out


def _fading(n: int, tiles: Tiles, grid: int, like: Tensor) -> list[Span]:
    """Tiles of equal size, the last of them moved back into the picture; each fades into the next over its last `overlap` px."""
    size = max(tiles.size // grid, 2) * grid
    stride = (size - min(tiles.fading, size // 2)) // grid * grid
    overlap = min(tiles.fading, stride)  # no pixel in more than two tiles' fading
    end = (n - size) // grid * grid
    rise = torch.sin(math.pi / 2 * (torch.arange(overlap, dtype=torch.float64) + 0.5) / max(overlap, 1)).square().to(like)
    out: list[Span] = []
    for start in [*range(0, end, stride), end]:
        stop = n if start == end else start + size
        weight = like.new_ones(stop - start)
        if out:
            met = out[-1].stop - start
            weight[:met] = 0
            weight[met - overlap : met] = rise
        if stop < n:
            weight[len(weight) - overlap :] = 1 - rise
        out.append(Span(start, stop, weight))
    return out


def _by_tiles(net: nn.Module, x: Batch, told: tuple[Tensor, ...], tiles: Tiles, run: Callable[..., Tensor]) -> Batch:
    """The weighted sum over tiles, one picture at a time."""
    out: Tensor | None = None
    rows, columns = (spans(n, net, tiles, x) for n in x.shape[-2:])
    for i in range(len(x)):
        for row in rows:
            for column in columns:
                window = (slice(i, i + 1), slice(None), slice(row.start, row.stop), slice(column.start, column.stop))
                y = run(x[window].contiguous(), *(value[i : i + 1] for value in told))
                if out is None:
                    out = x.new_zeros(len(x), y.shape[1], *x.shape[-2:])
                out[window] += y * (row.weight[:, None] * column.weight)
    assert out is not None  # noqa: S101 - a batch has a sample, a picture a tile
    return out


def _reach(net: nn.Module) -> tuple[int, int] | None:
    """The radius of a network and the grid on which it lies, in px; None where it does not say how far it sees."""
    radius = getattr(net, "radius", None)
    return None if radius is None else (int(radius), int(getattr(net, "multiple", 1)))


def _check(net: nn.Module, tiles: Tiles) -> None:
    reach = _reach(net)
    if reach is not None and tiles.size < 2 * _up(*reach) + reach[1]:
        raise ValueError(
            f"tiles.size = {tiles.size} px leaves nothing within the halo of a network that sees {reach[0]} px: "
            f"give at least {2 * _up(*reach) + reach[1]}, better {2 * least(net)}"
        )


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, in any of the ways in which torch says it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error) or "not enough memory" in str(error)
