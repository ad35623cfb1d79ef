r"""Posterior means in closed form: the restorers that no network can beat in squared error.

For a clean sample from a mixture of Gaussians, :math:`x_0 \sim \sum_k w_k N(m_k, C_k)`, and a degradation that is affine in it for its known draw,
:math:`x_t = A x_0 + b + n` with Gaussian n of covariance S,

.. math:: E[x_0 | x_t] = \sum_k p(k | x_t) \left(m_k + C_k A^\top T_k^{-1} (x_t - A m_k - b)\right), \qquad T_k = A C_k A^\top + S,

.. math:: p(k | x_t) \propto w_k\, N(x_t;\, A m_k + b,\, T_k).

One Gaussian makes it the Wiener filter; Gaussians without extent, the points of a data set, make it the mean of those points under a softmax of
distances. All is computed in float64 and can be differentiated in x_t.

The matrix A is what D makes of the identity's columns, b what it makes of 0 and S what it makes of its noise's, so no operator has to say anything of
itself but that it is linear. S also holds the model's noise floor. Everything in the draw but noise is taken as known: a mask's place has to be in z.

Source: Kailath, Sayed and Hassibi, "Linear estimation" (2000), section 3.2; Bishop 2006, "Pattern recognition and machine learning", section 2.3.3,
for the mixture; Karras et al. 2022 (arXiv 2206.00364), appendix B.3, for the points.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.degradations.spectral import backward, forward
from snowmelt.registry import label
from snowmelt.restorers import Conditions, Informed
from snowmelt.samplers import entries
from snowmelt.testing.gaussians import Gaussians
from snowmelt.types import EMPTY, Batch, Draw, Severity, expand

LARGEST = 3072  # values a sample whose matrix is still made: 3 x 32 x 32
_KEPT = 128  # severities
_ROWS = 128  # at a time: a mixture's intermediate results stay in the cache, which halves the time


class _Factors(NamedTuple):
    """For one severity and one draw, with W_k = T_k^{-1/2}: of all components side by side, so that one product serves them all.

    Attributes:
        whiten: W_k transposed, (n, k n).
        shift: W_k (A m_k + b), (k n,).
        gain: C_k A^T W_k^T, transposed, (k n, n).
        volume: log det W_k, (k,).
    """

    whiten: Tensor
    shift: Tensor
    gain: Tensor
    volume: Tensor


class MixturePosterior(Informed):
    """The posterior mean of a mixture of Gaussians, and what else is known of x_t: the law of its component, of its class, its own density.

    A "label" in the draw, where it is not -1, restricts the mixture to the components of that class: the exact conditional posterior mean.

    Args:
        degradation: affine in x for a known draw, its noise Gaussian.
        law: of the clean samples.
        noise_floor: standard deviation of the noise in x_t beside the degradation's own.

    Raises:
        TypeError: the degradation is not linear, or hides more of its draw than Gaussian noise.
        ValueError: samples of too many values.
    """

    conditions: Conditions

    def __init__(self, degradation: Degradation, law: Gaussians, noise_floor: float = 0.0) -> None:
        super().__init__()
        name, n = label(type(degradation)), law.covariances.shape[-1]
        if not degradation.linear:
            raise TypeError(
                f"{name} is not linear in x0, so the posterior mean of a Gaussian mixture has no closed form under it: "
                "take the data's points (snowmelt.testing.empirical), or a linear degradation"
            )
        _require_noise(degradation)
        if n > LARGEST:
            raise ValueError(f"samples of {n} values: the most for an oracle is {LARGEST}; give smaller ones, or a spectrum (testing.wiener)")
        self.degradation, self.law, self.noise_floor = degradation, law, noise_floor
        self.conditions = Conditions(classes=int(law.labels.max()) + 1)
        self._kept: dict[tuple[float, bytes], _Factors] = {}

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, None]:
        """E[x0 | x_t], of the class in z["label"] where it is known: (b, *d). Learns no spread."""
        out = []
        for rows, factors in self._groups(x_t, t, z):
            white = _whitened(factors, x_t[rows])
            share = self._log_shares(factors, white, _of(z, rows)).softmax(1)
            moved = (share[:, :, None] * white).flatten(1) @ factors.gain
            out.append((rows, share @ self.law.means.flatten(1) + moved))
        return _merged(out, x_t).reshape(x_t.shape).to(x_t), None

    def components(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Tensor:
        """p(component | x_t), given its class where z tells it: (b, k), float64."""
        out = [(rows, self._log_shares(f, _whitened(f, x_t[rows]), _of(z, rows)).softmax(1)) for rows, f in self._groups(x_t, t, z)]
        return _merged(out, x_t)

    def classes(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Tensor:
        """log p(label | x_t), the perfect classifier of degraded samples, whatever z tells of the label: (b, classes), float64."""
        out = []
        for rows, factors in self._groups(x_t, t, z):
            shares = self._log_shares(factors, _whitened(factors, x_t[rows]), EMPTY)
            by_class = [torch.logsumexp(shares[:, self.law.labels == c], 1) for c in range(self.conditions.classes)]
            out.append((rows, torch.stack(by_class, 1).log_softmax(1)))
        return _merged(out, x_t)

    def log_density(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Tensor:
        """log p_t(x_t), given the class where z tells it: (b,), float64. Its gradient in x_t is the score."""
        out = []
        for rows, factors in self._groups(x_t, t, z):
            shares = self._log_shares(factors, _whitened(factors, x_t[rows]), _of(z, rows))
            prior = self._allowed(_of(z, rows), len(x_t[rows])).logsumexp(1)
            out.append((rows, shares.logsumexp(1) - prior - x_t[0].numel() / 2 * math.log(2 * math.pi)))
        return _merged(out, x_t)

    def _log_shares(self, factors: _Factors, white: Tensor, z: Draw) -> Tensor:
        """log w_k + log N(x_t; ...), but for a constant: (b, k)."""
        return self._allowed(z, len(white)) + factors.volume - white.square().sum(2) / 2

    def _allowed(self, z: Draw, b: int) -> Tensor:
        """log w_k of the components of each sample's class, and minus infinity for all others: (b, k)."""
        weights = self.law.weights.log().expand(b, -1)
        if "label" not in z:
            return weights
        label = z["label"].cpu()
        known = torch.isin(label, self.law.labels) | (label < 0)
        if not bool(known.all()):
            raise ValueError(f"label {int(label[~known][0])} is that of no component: give one of {sorted(set(self.law.labels.tolist()))}, or -1")
        return torch.where((label[:, None] < 0) | (label[:, None] == self.law.labels), weights, -math.inf)

    def _groups(self, x_t: Batch, t: Severity, z: Draw) -> list[tuple[Tensor, _Factors]]:
        """Rows that share severity and draw, with their factors."""
        if tuple(x_t.shape[1:]) != self.law.shape:
            raise ValueError(f"this oracle knows samples of shape {self.law.shape}; got a batch of shape {tuple(x_t.shape)}")
        known = _known(self.degradation, z)
        at = t.detach().double().cpu().expand(len(x_t))
        keys = torch.cat([at[:, None], *(value.double().flatten(1) for value in known.values())], 1)
        _, group = torch.unique(keys, dim=0, return_inverse=True)
        out = []
        for i in range(int(group.max()) + 1):
            rows = (group == i).nonzero()[:, 0]
            first = int(rows[0])
            factors = self._factors(float(at[first]), {name: value[first : first + 1] for name, value in known.items()}, keys[first])
            out += [(some, factors) for some in rows.split(_ROWS)]
        return out

    def _factors(self, t: float, z: Draw, key: Tensor) -> _Factors:
        name = (t, key.numpy().tobytes())
        if name not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[name] = self._solved(t, z)
        return self._kept[name]

    def _solved(self, t: float, z: Draw) -> _Factors:
        a, b, s = affine(self.degradation, self.law.shape, t, z)
        cross = self.law.covariances @ a.mT
        total = a @ cross + s + self.noise_floor**2 * torch.eye(len(a), dtype=torch.float64)
        root, failed = torch.linalg.cholesky_ex((total + total.mT) / 2)
        if bool(failed.any()):
            raise ValueError(
                f"{label(type(self.degradation))} at t = {t:g} leaves directions in which x_t does not vary at all, and there is no noise in it, "
                "so it has no density: give the oracle, and the model, a noise_floor > 0"
            )
        whiten = torch.linalg.solve_triangular(root, torch.eye(len(a), dtype=torch.float64), upper=False)
        expected = self.law.means.flatten(1) @ a.mT + b
        return _Factors(
            whiten.flatten(0, 1).mT.contiguous(),
            (whiten @ expected[:, :, None]).flatten(),
            (cross @ whiten.mT).mT.flatten(0, 1),
            whiten.diagonal(dim1=-2, dim2=-1).log().sum(-1),
        )


class SpectralWiener(Informed):
    """The Wiener filter of a Gaussian whose covariance is diagonal where the degradation is: for samples of any size.

    Args:
        degradation: diagonal in a basis.
        mean: of the data, (*d).
        spectrum: variance of every coefficient in that basis (in the DCT for a scalar), broadcastable to one sample's.
        noise_floor: standard deviation of the noise in x_t beside the degradation's own.

    Raises:
        TypeError: the degradation is diagonal in no basis.
    """

    def __init__(self, degradation: Degradation, mean: Tensor, spectrum: Tensor, noise_floor: float = 0.0) -> None:
        super().__init__()
        if degradation.basis is None:
            raise TypeError(f"{label(type(degradation))} is diagonal in no basis, so a spectrum does not do: give a covariance")
        _require_noise(degradation)
        self.degradation, self.noise_floor = degradation, noise_floor
        self.basis = "dct" if degradation.basis == "any" else degradation.basis
        self.mean, self.spectrum = mean.double(), spectrum.double()

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, None]:
        """m + A v / (A^2 v + s^2) (x_t - A m), coefficient by coefficient: (b, *d)."""
        x, t = x_t.double().cpu(), t.double().cpu()
        gain = self.degradation.gain(tuple(x.shape[1:]), t, _known(self.degradation, z))
        noise = expand(self.degradation.sigma(t).square(), x) + self.noise_floor**2
        centre = forward(self.mean[None], self.basis)
        total = gain.square() * self.spectrum + noise
        if not bool((total > 0).all()):
            raise ValueError(f"{label(type(self.degradation))} leaves nothing of some coefficients, and there is no noise: give a noise_floor > 0")
        found = centre + gain * self.spectrum / total * (forward(x, self.basis) - gain * centre)
        return backward(found, self.basis, x.shape[-1]).to(x_t), None


class EmpiricalPosterior(Informed):
    """The posterior mean when the clean sample is one of so many points, each as likely as the others. The degradation need not be linear.

    Args:
        degradation: with additive white noise, or none.
        points: (n, *d).
        noise_floor: standard deviation of the noise in x_t beside the degradation's own.

    Raises:
        TypeError: the degradation hides more of its draw than white noise.
        ValueError: there are no points.
    """

    def __init__(self, degradation: Degradation, points: Batch, noise_floor: float = 0.0) -> None:
        super().__init__()
        if not len(points):
            raise ValueError("empirical: there are no points, and their mean is all this oracle knows")
        _require_noise(degradation)
        self.degradation, self.points, self.noise_floor = degradation, points.double().cpu(), noise_floor

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, None]:
        """The mean of the points, each weighted by how well it explains x_t: (b, *d). Where there is no noise, the nearest."""
        return (self.shares(x_t, t, z) @ self.points.flatten(1)).reshape(x_t.shape).to(x_t), None

    def shares(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Tensor:
        """p(point | x_t): (b, n), float64."""
        x, at = x_t.double().cpu(), t.double().cpu()
        known, n = _known(self.degradation, z), len(self.points)
        squares = []
        for i in range(len(x)):
            draw = {name: value[i : i + 1].expand(n, *value.shape[1:]) for name, value in known.items()}
            draw |= {name: torch.zeros_like(self.points) for name in self.degradation.noise}
            squares.append((self.degradation(self.points, at[i].expand(n), draw) - x[i]).flatten(1).square().sum(1))
        variance = self.degradation.sigma(at).square() + self.noise_floor**2
        least = torch.finfo(torch.float64).tiny ** 0.5
        return (torch.stack(squares) / (-2 * variance.clamp(min=least)[:, None])).softmax(1)


def affine(degradation: Degradation, shape: tuple[int, ...], t: float, z: Draw = EMPTY) -> tuple[Tensor, Tensor, Tensor]:
    """D as x_t = A x0 + b + n for one severity and one sample's draw: A (n, n), b (n,) and the covariance S (n, n) of its noise, float64.

    Args:
        degradation: affine in x for that draw, and in its noise.
        shape: of one sample, n values.
        t: in [0, 1].
        z: all of the draw but the noise, each entry (1, ...).
    """
    n = math.prod(shape)
    probes = torch.cat([torch.eye(n, dtype=torch.float64), torch.zeros(1, n, dtype=torch.float64)]).reshape(-1, *shape)
    nothing = torch.zeros_like(probes)
    held = {name: value.expand(len(probes), *value.shape[1:]) for name, value in z.items()}
    silent = {name: nothing for name in degradation.noise}
    at = torch.full((len(probes),), t, dtype=torch.float64)
    seen = degradation(probes, at, held | silent).flatten(1)
    b = seen[-1]
    covariance = torch.zeros(n, n, dtype=torch.float64)
    for name in degradation.noise:
        column = degradation(nothing, at, held | silent | {name: probes}).flatten(1)[:-1] - b
        covariance += column.mT @ column
    return (seen[:-1] - b).mT, b, covariance


def _require_noise(degradation: Degradation) -> None:
    """Refuse hidden entries of the draw that are no Gaussian noise."""
    strange = sorted(set(degradation.hidden) - set(degradation.noise))
    if strange:
        raise TypeError(
            f"{label(type(degradation))} hides {', '.join(strange)} of its draw, of which an oracle knows no law: "
            "let the noise be Gaussian and the last part"
        )


def _known(degradation: Degradation, z: Draw) -> dict[str, Tensor]:
    """The draw but its noise, in float64 where it is a number.

    Raises:
        ValueError: an entry is missing.
    """
    names = [name for name in entries(degradation) if name not in degradation.noise]
    missing = [name for name in names if name not in z]
    if missing:
        raise ValueError(f"the oracle of {label(type(degradation))} has to know {', '.join(missing)} of the draw: give it in z")
    known = {name: z[name].cpu() for name in names}
    return {name: value.double() if value.is_floating_point() else value for name, value in known.items()}


def _of(z: Draw, rows: Tensor) -> Draw:
    """The label of these rows, if z holds one."""
    return {"label": z["label"].cpu()[rows]} if "label" in z else EMPTY


def _whitened(factors: _Factors, x_t: Batch) -> Tensor:
    """T_k^{-1/2} (x_t - A m_k - b): (b, k, n)."""
    white = x_t.double().cpu().flatten(1) @ factors.whiten - factors.shift
    return white.reshape(len(white), len(factors.volume), -1)


def _merged(parts: list[tuple[Tensor, Tensor]], like: Tensor) -> Tensor:
    """The rows of all groups, each back in its place."""
    order = torch.cat([rows for rows, _ in parts])
    return torch.cat([values for _, values in parts])[order.argsort()]
