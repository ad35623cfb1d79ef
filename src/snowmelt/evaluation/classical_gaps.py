r"""What gaps in sound were filled with before networks: a line, and linear prediction.

A short piece of sound is nearly autoregressive: :math:`e_n = \sum_{j=0}^{p} a_j x_{n-j}` with :math:`a_0 = 1` is small. Two ways follow:

- *prediction* from both sides: the coefficients of what lies before a gap (Burg's method) predict into it, those of what lies after predict
  backwards, and the two are cross-faded;
- *least squares* (Janssen): the missing samples are those for which :math:`\sum_n e_n^2` is least, all at once; the coefficients are
  estimated again from the filled piece, a few times over. With A the matrix of e = A x and columns parted into known and unknown,
  :math:`A_u^T A_u x_u = -A_u^T A_k x_k`.

Clipped samples are missing too, but for their sign and that they lie beyond the level.

Source: Janssen, Veldhuis and Vries 1986, Adaptive interpolation of discrete-time signals that can be modeled as autoregressive processes;
Burg 1975, Maximum entropy spectral analysis; Kauppinen and Roth 2002, Audio signal extrapolation, for long prediction with cross-fades.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Samples: TypeAlias = NDArray[np.float64]
Lost: TypeAlias = NDArray[np.bool_]
_SILENCE = 1e-10
_RIDGE = 1e-6  # of the power, which keeps the normal equations well-posed


def linear(x: Tensor, lost: Tensor) -> Tensor:
    """Recordings x (b, c, n) with a straight line over every gap; `lost` (b, c or 1, n) is True in gaps."""

    def fill(samples: Samples, gone: Lost) -> Samples:
        at = np.arange(len(samples))
        return np.where(gone, np.interp(at, at[~gone], samples[~gone]), samples)

    return each(x, lost, fill)


def predicted(x: Tensor, lost: Tensor, *, order: int = 64, context: int = 800, rounds: int = 1) -> Tensor:
    """Recordings x (b, c, n) with gaps predicted from both sides and cross-faded.

    Args:
        x: recordings.
        lost: (b, c or 1, n), True in gaps.
        order: of the autoregression.
        context: samples on either side that it is estimated from, as far as they are there.
        rounds: how often; from the second on, the gaps filled before belong to what later ones are predicted from.
    """

    def fill(samples: Samples, gone: Lost) -> Samples:
        found, missing = samples.copy(), gone
        for _ in range(rounds):
            before = found.copy()
            for start, end in gaps(gone):
                found[start:end] = _between(before, missing, start, end, order, context)
            missing = np.zeros_like(gone)
        return found

    return each(x, lost, fill)


def _between(samples: Samples, missing: Lost, start: int, end: int, order: int, context: int) -> Samples:
    """What is expected in the gap [start, end), from both sides."""
    before = known_before(samples, missing, start, context)
    after = known_before(samples[::-1], missing[::-1], len(samples) - end, context)
    length = end - start
    ahead, back = extrapolated(before, order, length), extrapolated(after, order, length)[::-1]
    if not len(before) or not len(after):
        return ahead + back  # one of them is nothing
    weight = np.cos(np.linspace(0, np.pi / 2, length + 2)[1:-1]) ** 2
    return weight * ahead + (1 - weight) * back


def least_squares(x: Tensor, lost: Tensor, *, order: int = 64, context: int = 320, rounds: int = 3, guess: Tensor | None = None) -> Tensor:
    """Recordings x (b, c, n) with gaps filled by least-squares autoregressive interpolation.

    Args:
        x: recordings.
        lost: (b, c or 1, n), True in gaps.
        order: of the autoregression.
        context: samples on either side of a gap that belong to its piece; other gaps in it are solved with it.
        rounds: how often coefficients and samples are estimated by turns.
        guess: recordings with a first guess in the gaps; by default silence.
    """

    def fill(samples: Samples, gone: Lost) -> Samples:
        found = samples.copy()
        for start, end in gaps(gone):
            first, last = max(0, start - context), min(len(samples), end + context)
            piece = _janssen(found[first:last], gone[first:last], order, rounds)
            found[start:end] = piece[start - first : end - first]
        return found

    begun = x.masked_fill(lost, 0.0) if guess is None else torch.where(lost, guess, x)
    return torch.where(lost.all(-1, keepdim=True), x, each(begun, lost, fill))


def declipped(x: Tensor, level: Tensor, *, order: int = 32, piece: int = 512, rounds: int = 3) -> Tensor:
    """Recordings x (b, c, n) clipped at `level` (b,), by least-squares autoregressive interpolation of what was clipped.

    Args:
        x: recordings.
        level: amplitude at which they were clipped.
        order: of the autoregression.
        piece: samples that share one autoregression; pieces overlap by half and are cross-faded.
        rounds: how often coefficients and samples are estimated by turns.
    """
    limit = level.reshape(-1, 1, 1).expand(len(x), x.shape[1], 1)
    lost = x.abs() >= limit * (1 - 1e-4)
    window = np.hanning(piece + 2)[1:-1]

    def fill(samples: Samples, gone: Lost) -> Samples:
        top = np.abs(samples).max()
        padded, padded_gone = np.pad(samples, piece), np.pad(gone, piece)
        total, weight = np.zeros_like(padded), np.zeros_like(padded)
        for at in range(0, len(padded) - piece + 1, piece // 2):
            part, bad = padded[at : at + piece], padded_gone[at : at + piece]
            if bad.any():
                made = _janssen(part, bad, order, rounds)
                part = np.where(bad, np.sign(part) * np.clip(np.sign(part) * made, np.abs(part), 4 * top), part)
            total[at : at + piece] += window * part
            weight[at : at + piece] += window
        inside = slice(piece, piece + len(samples))
        return np.where(gone, total[inside] / weight[inside], samples)

    return each(x, lost, fill)


def each(x: Tensor, lost: Tensor, fill: Callable[[Samples, Lost], Samples]) -> Tensor:
    """`fill` of every channel of every recording x (b, c, n), in double precision; one that is lost as a whole stays as it is."""
    gone = lost.expand(x.shape).cpu().numpy()
    samples = x.double().cpu().numpy()
    out = samples.copy()
    for i in np.ndindex(samples.shape[:2]):
        if gone[i].any() and not gone[i].all():
            out[i] = fill(samples[i], gone[i])
    return torch.from_numpy(out).to(x)


def gaps(gone: Lost) -> Iterator[tuple[int, int]]:
    """First sample and the one after the last of every gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], gone.astype(np.int8), [0]])))
    return ((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))


def known_before(samples: Samples, gone: Lost, start: int, context: int) -> Samples:
    """The known samples right before `start` without a gap among them, at most `context`."""
    first = max(0, start - context)
    holes = np.flatnonzero(gone[first:start])
    return samples[first + (int(holes[-1]) + 1 if len(holes) else 0) : start]


def burg(x: Samples, order: int) -> Samples:
    """The coefficients (order + 1,) of e_n = sum_j a_j x_{n-j}, a_0 = 1, that predict x forwards and backwards best; always stable."""
    a = np.ones(1)
    ahead, back = x[1:].copy(), x[:-1].copy()
    for _ in range(min(order, len(x) - 1)):
        power = ahead @ ahead + back @ back
        k = -2 * (ahead @ back) / power if power > _SILENCE else 0.0
        a = np.append(a, 0.0)
        a = a + k * a[::-1]
        ahead, back = (ahead + k * back)[1:], (back + k * ahead)[:-1]
        if not len(ahead):
            break
    return a


def extrapolated(history: Samples, order: int, count: int) -> Samples:
    """The `count` samples that linear prediction expects after `history`; nothing where there is nothing to go by."""
    from scipy.signal import lfilter, lfiltic

    order = min(order, len(history) // 3)
    if order < 1 or history @ history < _SILENCE:
        return np.zeros(count)
    a = burg(history, order)
    state = lfiltic([1.0], a, history[: -order - 1 : -1])
    return np.asarray(lfilter([1.0], a, np.zeros(count), zi=state)[0])


def _janssen(x: Samples, gone: Lost, order: int, rounds: int) -> Samples:
    """Least-squares autoregressive interpolation of one piece (n,), from what stands in its gaps as the first guess."""
    from scipy.linalg import LinAlgError, solve, solve_toeplitz

    order = min(order, (len(x) - int(gone.sum())) // 2, len(x) - 1)
    found = x.copy()
    if order < 1 or x @ x < _SILENCE:
        return found
    unknown = np.flatnonzero(gone)
    distances = np.abs(unknown[:, None] - unknown[None, :])
    for _ in range(rounds):
        lags = np.correlate(found, found, "full")[len(found) - 1 : len(found) + order]
        lags[0] *= 1 + _RIDGE
        try:
            a = np.concatenate([[1.0], -solve_toeplitz(lags[:-1], lags[1:])])
            taps = np.correlate(a, a, "full")[order:]  # of A^T A, which is Toeplitz: beyond the piece there is silence
            near = np.pad(taps, (0, max(0, len(x) - len(taps))))
            known = np.convolve(np.where(gone, 0.0, found), np.concatenate([taps[:0:-1], taps]))[order : order + len(x)]
            solved = solve(near[distances], -known[unknown], assume_a="pos")
        except LinAlgError:  # a piece that a few sines are the whole of: what was found before stays
            break
        found[unknown] = solved
    return found
