r"""Sets of scans against sets: the histograms of their clouds as a bird sees them.

A cloud becomes the counts of its points in 100 x 100 cells over x and y in [-80, 80] m, of points between 3 and 70 m from the sensor: nearer ones
are the car itself. With :math:`h_i` the histogram of scan i, which sums to 1, and P, Q those of all points of a set together:

.. math:: \mathrm{JSD} = \sqrt{\tfrac12 \mathrm{KL}(P \,\|\, M) + \tfrac12 \mathrm{KL}(Q \,\|\, M)}, \quad M = \tfrac12 (P + Q), \qquad
          \mathrm{MMD} = \overline{k(h_i, h_j)} + \overline{k(g_i, g_j)} - 2 \, \overline{k(h_i, g_j)}, \quad k(h, g) = e^{-\|h - g\|^2 / 2 \sigma^2},

sigma = 0.5, means over all pairs. The first sees where points lie on average, and nothing of what lies in one scan with what; the second is blind
to little, but its kernel is wide, so that its numbers are small: papers write them times 10^4. As in these papers the number called JSD is the
root of the divergence, in natural units, at most 0.83, and the MMD has the pairs of a scan with itself in it: both are above 0 for two sets of
one law, the more so the smaller they are, and compare only at equal N with a floor, real scans against real ones, beside them.

Source: Zyrianov et al. 2022, LiDARGen (arXiv 2209.03954), for both measures and the limits; Nakashima and Kurazume 2023, R2DM (arXiv 2309.09256).
"""

import math

import torch
from torch import Tensor

from snowmelt.metrics.clouds import points_of
from snowmelt.metrics.distortion import Interval
from snowmelt.randomness import generator
from snowmelt.signals import Scan
from snowmelt.types import Batch

CELLS = 100
REACH_M = 80.0
BETWEEN_M = (3.0, 70.0)
SIGMA = 0.5
RESAMPLES = 100


def histograms(x: Batch, scan: Scan) -> Tensor:
    """The bird's-eye histograms of scans x (b, 3, rings, azimuths): counts (b, 10000), float32."""
    return torch.stack([counted(points) for points in points_of(scan, x)]) if len(x) else torch.empty(0, CELLS**2)


def counted(points: Tensor) -> Tensor:
    """The bird's-eye histogram of one cloud (n, 3 or more): counts (10000,), float32."""
    far = points[:, :3].norm(dim=1)
    seen = points[(far > BETWEEN_M[0]) & (far < BETWEEN_M[1]), :2]
    cells = ((seen + REACH_M) * (CELLS / (2 * REACH_M))).long().clamp(0, CELLS - 1)
    return torch.bincount(cells[:, 0] * CELLS + cells[:, 1], minlength=CELLS**2).float()


def jensen_shannon(a: Tensor, b: Tensor) -> float:
    """The root of the Jensen-Shannon divergence of all points of two sets, by their histograms (n, k) and (m, k); in [0, 0.833].

    A set without any point is as far from others as can be, 0.833; two of them have no distance, NaN.

    Raises:
        ValueError: another number of cells, or a set without scans.
    """
    a, b = _pair(a, b)
    return _jensen_shannon(a.sum(0), b.sum(0))


def mmd(a: Tensor, b: Tensor) -> float:
    """The squared maximum mean discrepancy of two sets of histograms (n, k) and (m, k), in which a scan without any point is all zeros; at least 0.

    Raises:
        ValueError: as :func:`jensen_shannon`.
    """
    a, b = _pair(a, b)
    return _discrepancy(*_kernels(a, b), torch.ones(len(a)).double(), torch.ones(len(b)).double())


def intervals(a: Tensor, b: Tensor, *, run: int = 0) -> tuple[Interval, Interval]:
    """95 % bootstrap intervals of both numbers: both sets drawn anew, and the mean excess of drawn numbers taken off, as for Fréchet distances."""
    a, b = _pair(a, b)
    kernels, found = _kernels(a, b), []
    for r in range(RESAMPLES):
        g = generator(run, "bootstrap", r)
        times = [torch.bincount(torch.randint(len(x), (len(x),), generator=g), minlength=len(x)).double() for x in (a, b)]
        p, q = (w @ x for w, x in zip(times, (a, b), strict=True))
        found.append((_jensen_shannon(p, q), _discrepancy(*kernels, *times)))
    drawn, own = torch.tensor(found, dtype=torch.float64), torch.tensor([jensen_shannon(a, b), mmd(a, b)], dtype=torch.float64)
    excess = drawn.mean(0) - own
    low, high = (torch.quantile(drawn, q, dim=0) - excess for q in (0.025, 0.975))
    (a0, a1), (b0, b1) = zip(low.clamp(min=0).tolist(), high.tolist(), strict=True)
    return (a0, a1), (b0, b1)


def _jensen_shannon(p: Tensor, q: Tensor) -> float:
    if not float(p.sum()) or not float(q.sum()):
        return math.nan if float(p.sum()) == float(q.sum()) else math.sqrt(math.log(2))
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2
    apart = sum(torch.special.xlogy(one, (one / middle).where(one > 0, 1.0)).sum() for one in (p, q))
    return float(torch.as_tensor(apart / 2).clamp(min=0).sqrt())


def _kernels(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = (x / x.sum(1, keepdim=True).clamp(min=1) for x in (a, b))
    return _kernel(a, a), _kernel(b, b), _kernel(a, b)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    squares = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.mT
    return (-squares.clamp(min=0) / (2 * SIGMA**2)).exp()


def _discrepancy(aa: Tensor, bb: Tensor, ab: Tensor, u: Tensor, v: Tensor) -> float:
    """With row i of the first set taken u_i times, and of the second v_i times."""
    u, v = u / u.sum(), v / v.sum()
    return max(float(u @ aa @ u + v @ bb @ v - 2 * (u @ ab @ v)), 0.0)


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, and fit to be compared."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"histograms of shape {tuple(a.shape)} and {tuple(b.shape)}: give (n, k) and (m, k), of at least one scan each")
    return a.double(), b.double()
