r"""Linear prediction into the gaps of recordings, from before and from after, for all gaps of a batch at once.

A short piece of sound is nearly autoregressive: :math:`e_n = \sum_{j=0}^{p} a_j x_{n-j}` with :math:`a_0 = 1` is small. The a_j are found by
Burg's method, order by order: the reflection coefficient

.. math:: k = -\frac{2 \sum_n w_n f_n b_{n-1}}{\sum_n w_n (f_n^2 + b_{n-1}^2)}

makes the errors of prediction forwards, f, and backwards, b, least. It lies in [-1, 1] whatever the weights w_n >= 0 are, so what is predicted
never grows without bound. Two liberties follow. Errors that would need a lost sample have no weight, so that other gaps may lie among the
samples that a gap is predicted from; and a sample counts less the further away it is, half as much every `half` samples, for sound does not
stay what it is.

The coefficients of what lies before a gap predict into it, those of what lies after predict backwards, and a cross-fade joins them. The
reflection coefficients are found in float32; the recursion that turns them into a_j, and the one that predicts, lose digits, and are done in float64
where there is one.

Source: Burg 1975, Maximum entropy spectral analysis; Kaveh and Lippert 1983, An optimum tapered Burg algorithm; de Waele and Broersen 2000, The
Burg algorithm for segments; Kauppinen and Roth 2002, Audio signal extrapolation, for long prediction with cross-fades.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_SILENCE = 1e-10  # of a piece's energy
_ROUNDING = 1e-12  # of its energy: what is left is no longer the signal
_AT_ONCE = 2048  # gaps


class Prediction(NamedTuple):
    """What is expected in gaps; zero outside of them.

    Attributes:
        ahead: from what lies before, (b, c, n).
        back: from what lies after, (b, c, n).
        faded: the two cross-faded, or the one that there is, (b, c, n).
    """

    ahead: Tensor
    back: Tensor
    faded: Tensor


class Gaps(NamedTuple):
    """Gaps of rows of samples: row, first sample, and the one after the last, each (g,)."""

    row: Tensor
    start: Tensor
    end: Tensor


@torch.no_grad()
def predicted(x: Tensor, lost: Tensor, *, order: int = 64, context: int = 800, half: float = 100.0, reach: int = 1600) -> Prediction:
    """What linear prediction expects in the gaps of recordings x (b, c, n).

    Args:
        x: recordings, float32; what stands in their gaps is not looked at.
        lost: (b, c or 1, n), True in gaps.
        order: of the autoregression, less where fewer than thrice as many samples are known, or fewer follow one another right before the gap.
        context: samples on either side that a gap is predicted from, as far as they are there and known.
        half: a sample counts half as much every so many samples further away; inf for no difference.
        reach: samples from the edge of a gap at which prediction ends; beyond there is silence.
    """
    n = x.shape[-1]
    gone = lost.expand(x.shape).reshape(-1, n)
    known = torch.where(gone, 0, x.reshape(-1, n).float())
    found = gaps(gone)
    out, heard = known.new_zeros(2, *known.shape), gone.new_zeros(2, len(found.row))
    # Time runs backwards for what lies after: the same gaps, seen from behind.
    before = functional.pad(known, (context, 0)), functional.pad(~gone, (context, 0))
    after = functional.pad(known.flip(1), (context, 0)), functional.pad(~gone.flip(1), (context, 0))
    for first in range(0, len(found.row), _AT_ONCE):
        row, start, end = (value[first : first + _AT_ONCE] for value in found)
        length = end - start
        longest = min(int(length.max()), reach)
        sides = [_pieces(*before, row, start, context), _pieces(*after, row, n - end, context)]
        piece, there = (torch.cat(values) for values in zip(*sides, strict=True))
        expected, sure = _expected(piece, there, length.repeat(2), (order, half, longest))
        place = torch.arange(longest, device=x.device)
        inside = place < length[:, None]
        rows = row[:, None].expand(inside.shape)[inside]
        out[0, rows, (start[:, None] + place)[inside]] = expected[: len(row)][inside]
        out[1, rows, (end[:, None] - 1 - place)[inside]] = expected[len(row) :][inside]
        heard[:, first : first + len(row)] = sure.reshape(2, -1)
    ahead, back = out.reshape(2, *x.shape).to(x.dtype)
    return Prediction(ahead, back, torch.lerp(back, ahead, _weight(gone, found, heard).reshape(x.shape).to(x.dtype)))


def gaps(gone: Tensor) -> Gaps:
    """The gaps of (r, n), True where samples are lost, from row to row."""
    edges = functional.pad(gone.to(torch.int8), (1, 1)).diff(dim=1)
    row, start = (edges == 1).nonzero().unbind(1)
    return Gaps(row, start, (edges == -1).nonzero()[:, 1])


def burg(x: Tensor, known: Tensor, order: int, most: Tensor, weight: Tensor) -> Tensor:
    """The coefficients a (p, order + 1) of pieces x (p, n), in float64 where there is one: e_n = sum_j a_j x_{n-j}, a_0 = 1.

    Args:
        x: pieces, zero where they are not known.
        known: (p, n), 1 where they are, else 0; errors that need an unknown sample do not count.
        order: of the autoregression.
        most: (p,), the order of each, if less.
        weight: (n,), at least 0, of the errors, by the oldest sample that they need.
    """
    a = functional.pad(x.new_ones(len(x), 1, dtype=_wide(x)), (0, order))
    whole = known[:, 1:] * known[:, :-1]
    f, b = x[:, 1:] * whole, x[:, :-1] * whole
    least = (x.square().sum(1) * _ROUNDING).clamp(min=_SILENCE)
    for m in range(min(order, x.shape[1] - 1)):
        w = weight[: f.shape[1]]
        power = torch.addcmul(f * f, b, b) @ w
        k = -2 * ((f * b) @ w) / power.clamp(min=_SILENCE)
        k = torch.where((power > least) & (m < most), k.clamp(-1, 1), 0)[:, None]
        a[:, 1 : m + 2] += k * a[:, : m + 1].flip(1)
        whole = whole[:, :-1] * known[:, m + 2 :]
        f, b = torch.addcmul(f, k, b)[:, 1:] * whole, torch.addcmul(b, k, f)[:, :-1] * whole
    return a


def extrapolated(a: Tensor, last: Tensor, length: Tensor, longest: int) -> Tensor:
    """What coefficients a (p, order + 1) expect after the `last` (p, order) samples: (p, longest), of which `length` (p,) are wanted."""
    order = last.shape[1]
    taps = -a[:, 1:].flip(1)
    by_length = length.argsort(descending=True)  # so that those of which more is wanted are the first rows
    taps, out = taps[by_length], functional.pad(last.to(a)[by_length], (0, longest))
    wanted = (length[:, None] > torch.arange(longest, device=length.device)).sum(0).tolist()
    for i, rows in enumerate(wanted):
        out[:rows, order + i] = (taps[:rows] * out[:rows, i : i + order]).sum(1)
    return torch.empty_like(out).index_copy_(0, by_length, out)[:, order:]


def _pieces(x: Tensor, known: Tensor, row: Tensor, start: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """The `context` samples before each `start`, and which of them are known: (p, context); x has as many in front."""
    at = start[:, None] + torch.arange(context, device=x.device)
    return x[row[:, None], at], known[row[:, None], at]


def _expected(piece: Tensor, known: Tensor, length: Tensor, sizes: tuple[int, float, int]) -> tuple[Tensor, Tensor]:
    """What is expected after pieces (p, context), and whether there was anything to go by (p,)."""
    order, half, longest = sizes
    context = piece.shape[1]
    order = min(order, context)
    follow = known.flip(1).long().cumprod(1).sum(1)  # known samples right before the gap
    most = torch.minimum(follow, known.sum(1) // 3).clamp(max=order)
    weight = 0.5 ** (torch.arange(context - 1, -1, -1, device=piece.device, dtype=piece.dtype) / half)
    a = burg(piece, known.to(piece.dtype), order, most, weight)
    return extrapolated(a, piece[:, -order:], length, longest).to(piece.dtype), most > 0


def _weight(gone: Tensor, found: Gaps, heard: Tensor) -> Tensor:
    """Of what is predicted ahead, (r, n): in a gap a squared cosine where both sides were `heard` (2, g), else 1 or 0."""
    row, place = gone.nonzero().unbind(1)
    which = torch.searchsorted(found.row * gone.shape[1] + found.start, row * gone.shape[1] + place, right=True) - 1
    start, end = found.start[which], found.end[which]
    before, after = heard[:, which]
    falling = torch.cos((place - start + 1) / (end - start + 1) * (math.pi / 2)).square()
    out = torch.zeros(gone.shape, device=gone.device)
    out[row, place] = torch.where(before & after, falling, before.to(falling))
    return out


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64
