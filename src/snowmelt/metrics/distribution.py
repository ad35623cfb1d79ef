r"""How far one set of pictures lies from another, in the features of a network, and how sure one can be of that number.

Rows of features :math:`a_i, b_j \in R^k` (:mod:`snowmelt.metrics.features`). With their means m and unbiased covariances S, the
*Fréchet distance* is that of two normal distributions,

.. math:: FD = |m_a - m_b|^2 + \mathrm{tr}\left(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2}\right),

which is blind to all but the first two moments and biased upwards by about const / N: two halves of one set do not have FD 0. So numbers
compare only at equal N and with a floor (real against real) beside them. The *kernel distance* (KID) is the unbiased squared maximum mean discrepancy

.. math:: KID = \frac{1}{n(n-1)} \sum_{i \ne j} k(a_i, a_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(b_i, b_j) - \frac{2}{nm} \sum_{i,j} k(a_i, b_j),
          \qquad k(x, y) = (x \cdot y / k + 1)^3,

0 on average for two independent sets of one law at any N, and so the better number for few samples; it can be negative. In *paired* sets row i
of both shows one picture: the last sum then runs over i != j, and a perfect restorer scores 0 with any pictures. All rows are used: no subsets, whose
choice would be one more source of noise. Everything is float64, in pieces, so that memory does not grow with the square of N.

An interval is a bootstrap over rows: 95 % of the values that *this estimate at this N* takes with other pictures of the same sources.
Resampled FDs lie higher than the FD they resample (a row that is drawn twice is one row fewer), so they are moved down by the mean of
that excess; resampled KIDs leave out pairs of a row with itself.
Near the floor, where a distance is nearly 0, both intervals are too wide rather than too narrow.

Sources: Dowson and Landau 1982 (J. Multivar. Anal. 12, 450); Heusel et al. 2017 (arXiv 1706.08500); Binkowski et al. 2018 (arXiv
1801.01401); Kynkäänniemi et al. 2019 (arXiv 1904.06991) for precision and recall; Naeem et al. 2020 (arXiv 2002.09797) for density and coverage.
"""

import torch
from torch import Tensor

from snowmelt.metrics.distortion import Interval
from snowmelt.randomness import generator

RESAMPLES = 100  # each resampled FD costs two eigenvalue problems
_CHUNK = 1024
_CANDIDATES = 4
_HELD_VALUES = 4_000_000  # of the candidates of a piece: 32 MB


def frechet(a: Tensor, b: Tensor) -> float:
    """The Fréchet distance of two sets of features, (n, k) and (m, k); at least 0, in squared units of the features.

    Raises:
        ValueError: fewer than two rows, another width, or a value that is not finite.
    """
    a, b = _pair(a, b)
    return _frechet(a, b)


def frechet_interval(a: Tensor, b: Tensor, *, paired: bool = False, resamples: int = RESAMPLES, run: int = 0) -> Interval:
    """A 95 % bootstrap interval (low, high) of :func:`frechet`; `resamples` times its cost.

    Args:
        a: features (n, k).
        b: features (m, k).
        paired: row i of both belongs to one picture (restored and clean): they are drawn together.
        resamples: how many sets are drawn.
        run: seed of the draws, a function of (run, number of the resample).

    Raises:
        ValueError: as :func:`frechet`; or paired sets differ in size, or there are fewer than 20 resamples.
    """
    a, b = _pair(a, b)
    drawn = [_frechet(a[i], b[j]) for i, j in _draws(len(a), len(b), paired, resamples, run)]
    low, high = _centred(_frechet(a, b), torch.tensor(drawn, dtype=torch.float64), unbiased=False)
    return max(low, 0.0), high


def kid(a: Tensor, b: Tensor, *, paired: bool = False) -> float:
    """The unbiased squared kernel distance of two sets of features, (n, k) and (m, k), all rows at once.

    Args:
        a: features (n, k).
        b: features (m, k).
        paired: row i of both belongs to one picture (restored and clean). The two are not independent, and such pairs are left out.

    Raises:
        ValueError: as :func:`frechet`; or paired sets differ in size.
    """
    a, b = _pair(a, b)
    _require_pairs(len(a), len(b), paired)
    return float(_kernel_distance(a, b, torch.ones(1, len(a)).to(a), torch.ones(1, len(b)).to(b), paired))


def kid_interval(a: Tensor, b: Tensor, *, paired: bool = False, resamples: int = RESAMPLES, run: int = 0) -> Interval:
    """A 95 % bootstrap interval (low, high) of :func:`kid`; arguments and errors as :func:`frechet_interval`."""
    a, b = _pair(a, b)
    draws = _draws(len(a), len(b), paired, resamples, run)
    times_a = torch.stack([torch.bincount(i, minlength=len(a)) for i, _ in draws]).to(a)
    times_b = torch.stack([torch.bincount(j, minlength=len(b)) for _, j in draws]).to(b)
    return _centred(kid(a, b, paired=paired), _kernel_distance(a, b, times_a, times_b, paired), unbiased=True)


def caveat(n: int, m: int, k: int) -> str | None:
    """What must be said beside an FD of n against m rows of k features; None where nothing must.

    A covariance of N <= k rows is singular; at N < 2 k the FD is still mostly bias. The number has a value then, but compares with none.
    """
    least = min(n, m)
    if least <= k:
        return f"N = {least} <= {k} features: the covariance is singular, this FD compares with no other; read KID"
    if least < 2 * k:
        return f"N = {least} < 2 x {k} features: this FD is mostly bias; compare it at equal N only, or read KID"
    return None


def nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """For every row of `a` the nearest row of `b`: its number (n,) int64 and its Euclidean distance (n,) float64.

    Rows may be pictures: all but the first axis is flattened. Equal rows have distance 0 exactly, and a tie goes to the smaller number.

    Raises:
        ValueError: the rows differ in width, `b` is empty, or a value is not finite.
    """
    a, b = _rows(a, "a"), _rows(b, "b")
    if a.shape[1] != b.shape[1] or not len(b):
        raise ValueError(f"a has shape {tuple(a.shape)} and b {tuple(b.shape)}: rows must have one width, and b at least one row")
    indices = [torch.empty(0, dtype=torch.int64)]
    distances = [torch.empty(0, dtype=torch.float64)]
    chunk = max(1, min(_CHUNK, _HELD_VALUES // (_CANDIDATES * max(b.shape[1], 1))))
    centre = b.mean(0, dtype=torch.float64)  # |x|^2 + |y|^2 - 2xy loses what is common to all rows
    # Pictures are long rows: float64 is only ever held of a piece of them.
    held = torch.cat([(rows.double() - centre).float() for rows in torch.split(b, chunk)])
    squares = held.square().sum(1)
    for part in torch.split(a, chunk):
        rows = part.double()
        near = _candidates((rows - centre).float(), held, squares)
        # The products above rank in float32; the distance itself is taken from the rows, so that a copy is at 0.
        exact = (rows[:, None] - b[near].double()).square().sum(2).sqrt()
        best = exact.argmin(1, keepdim=True)
        indices.append(near.gather(1, best)[:, 0])
        distances.append(exact.gather(1, best)[:, 0])
    return torch.cat(indices), torch.cat(distances)


def coverage(a: Tensor, b: Tensor, neighbours: int = 5) -> dict[str, float]:
    """``precision``, ``recall``, ``density`` and ``coverage`` of the made set `a` (n, k) against the real set `b` (m, k).

    A row is *in* a set if it lies in the ball of some row of it that reaches to that row's k-th neighbour. Precision: the part of `a` in
    `b`; recall: the part of `b` in `a`; density: how many balls of `b` a row of `a` lies in, over k; coverage: the part of `b` whose ball holds
    a row of `a`.

    Raises:
        ValueError: as :func:`frechet`, or a set has no more than `neighbours` rows.
    """
    a, b = _pair(a, b)
    if not 1 <= neighbours < min(len(a), len(b)):
        raise ValueError(f"neighbours = {neighbours} lies outside [1, {min(len(a), len(b)) - 1}], one less than the smaller set")
    reach_a, reach_b = _reach(a, neighbours), _reach(b, neighbours)
    inside = torch.zeros(len(a), dtype=torch.int64)
    recalled = covered = 0
    for start in range(0, len(b), _CHUNK):
        ball = slice(start, start + _CHUNK)
        distance = torch.cdist(b[ball], a, compute_mode="donot_use_mm_for_euclid_dist")
        in_b = distance <= reach_b[ball, None]
        inside += in_b.sum(0)
        covered += int(in_b.any(1).sum())
        recalled += int((distance <= reach_a).any(1).sum())
    return {
        "precision": float((inside > 0).double().mean()),
        "recall": recalled / len(b),
        "density": float(inside.double().mean()) / neighbours,
        "coverage": covered / len(b),
    }


def _frechet(a: Tensor, b: Tensor) -> float:
    """See :func:`frechet`, of float64 rows; symmetric roots throughout, so that a singular covariance gives no complex numbers."""
    shift = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = _covariance(a), _covariance(b)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    cross = root @ cov_b @ root
    overlap = torch.linalg.eigvalsh((cross + cross.mT) / 2).clamp(min=0).sqrt().sum()
    return max(float(shift + cov_a.trace() + cov_b.trace() - 2 * overlap), 0.0)


def _covariance(x: Tensor) -> Tensor:
    x = x - x.mean(0)
    return x.mT @ x / (len(x) - 1)


def _kernel_distance(a: Tensor, b: Tensor, times_a: Tensor, times_b: Tensor, paired: bool) -> Tensor:
    """One kernel distance for each row of weights, `times_a` (r, n) and `times_b` (r, m): how often a row of features was drawn.

    The mean over pairs (i, j) must be one over independent rows. In paired sets row i of `a` and row i of `b` show one picture: with them the
    distance would be too small by about 2/n of how much closer they are than others, and below 0 for a perfect restorer.
    """

    def within(x: Tensor, times: Tensor) -> Tensor:
        total = x.new_zeros(len(times))
        for start in range(0, len(x), _CHUNK):
            k = _kernel(x[start : start + _CHUNK], x)
            k.diagonal(start).zero_()
            total += (times[:, start : start + _CHUNK] @ k * times).sum(1)
        return total / (times.sum(1).square() - times.square().sum(1))

    across = a.new_zeros(len(times_a))
    for start in range(0, len(a), _CHUNK):
        k = _kernel(a[start : start + _CHUNK], b)
        if paired:
            k.diagonal(start).zero_()
        across += (times_a[:, start : start + _CHUNK] @ k * times_b).sum(1)
    pairs = times_a.sum(1) * times_b.sum(1) - (times_a * times_b).sum(1) if paired else times_a.sum(1) * times_b.sum(1)
    return within(a, times_a) + within(b, times_b) - 2 * across / pairs


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.mT / x.shape[1]).add_(1).pow_(3)


def _draws(n: int, m: int, paired: bool, resamples: int, run: int) -> list[tuple[Tensor, Tensor]]:
    """The rows of every resample, with replacement: ((n,), (m,)) int64."""
    _require_pairs(n, m, paired)
    if resamples < 20:
        raise ValueError(f"resamples = {resamples} lies under 20: no 95 % interval comes from so few")
    found = []
    for r in range(resamples):
        g = generator(run, "bootstrap", r)
        i = torch.randint(n, (n,), generator=g)
        found.append((i, i if paired else torch.randint(m, (m,), generator=g)))
    return found


def _require_pairs(n: int, m: int, paired: bool) -> None:
    if paired and n != m:
        raise ValueError(f"paired sets have one row each per picture; these have {n} and {m} rows")


def _centred(value: float, drawn: Tensor, *, unbiased: bool) -> Interval:
    """2.5 % and 97.5 % of the resampled values, less their mean excess over `value` where resampling has one."""
    low, high = torch.quantile(drawn, drawn.new_tensor([0.025, 0.975])).tolist()
    excess = 0.0 if unbiased else float(drawn.mean()) - value
    return low - excess, high - excess


def _candidates(rows: Tensor, held: Tensor, squares: Tensor) -> Tensor:
    """The numbers (n, c), ascending, of the c rows of `held` that are nearest by float32 products."""
    values, numbers = rows.new_empty(len(rows), 0), torch.empty(len(rows), 0, dtype=torch.int64)
    for start in range(0, len(held), 16 * _CHUNK):
        piece = slice(start, start + 16 * _CHUNK)
        score = squares[piece] - 2 * rows @ held[piece].mT
        best = score.topk(min(_CANDIDATES, score.shape[1]), dim=1, largest=False)
        values, numbers = torch.cat([values, best.values], 1), torch.cat([numbers, best.indices + start], 1)
    kept = values.topk(min(_CANDIDATES, values.shape[1]), dim=1, largest=False).indices
    return numbers.gather(1, kept).sort(1).values


def _reach(x: Tensor, neighbours: int) -> Tensor:
    """(n,): the distance of every row to its k-th neighbour in the same set, itself not counted."""
    found = [
        torch.cdist(rows, x, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(neighbours + 1, dim=1).values for rows in torch.split(x, _CHUNK)
    ]
    return torch.cat(found)


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 (n, k) on the CPU, and fit for a distance."""
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 2 or len(x) < 2:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; a distance of sets takes features (n, k) of at least n = 2 pictures")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"a has {a.shape[1]} features a row and b {b.shape[1]}: take both from one network")
    return _flat(a, "a"), _flat(b, "b")


def _flat(x: Tensor, name: str) -> Tensor:
    return _rows(x, name).double()


def _rows(x: Tensor, name: str) -> Tensor:
    """(n, k) on the CPU, in whatever numbers they come."""
    flat = x.detach().cpu().flatten(1) if x.ndim > 1 else x.detach().cpu()[:, None]
    if not bool(flat.isfinite().all()):
        bad = int((~flat.isfinite()).any(1).sum())
        raise ValueError(f"{name} holds NaN or infinity in {bad} of {len(flat)} rows: there is no distance")
    return flat
