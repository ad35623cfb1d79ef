r"""The best linear restorer: what can be said of a picture from means and covariances alone.

For :math:`x_t = A x_0 + b + \sigma n` and data of mean :math:`\mu` and covariance C it is

.. math:: \hat x_0 = \mu + C A^\top (A C A^\top + \sigma^2 I)^{-1} (x_t - A \mu - b),

which no restorer that is linear in x_t can beat in squared error. It knows the operator, the draw and how every pixel
goes with every other, so it fills a hole from its rim. It is no product, but the row a network has to beat: it costs
a d x d matrix for d values a picture, and one factorisation for each draw.

Source: Wiener 1949; Kailath, Sayed and Hassibi, "Linear estimation" (2000), section 3.2.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.types import EMPTY, Batch, Draw, Severity

LARGEST = 3072  # values a picture: 3 x 32 x 32


class LinearRestorer:
    """The linear minimum-mean-square-error restorer of a degradation that is affine in x.

    Args:
        degradation: affine for a fixed draw.
        batches: clean samples (b, *d), from which mean and covariance are taken.
        sigma: standard deviation of the noise in x_t beside the degradation's own: a noise floor, or rounding.

    Raises:
        ValueError: no sample was given.
    """

    def __init__(self, degradation: Degradation, batches: Iterable[Batch], sigma: float) -> None:
        self.degradation, self.sigma = degradation, sigma
        n, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for batch in batches:
            rows = batch.double().flatten(1)
            n, total, squares = n + len(rows), total + rows.sum(0), squares + rows.mT @ rows
        if n == 0:
            raise ValueError("a linear restorer needs clean samples: their mean and covariance are all it knows")
        self.shape = tuple(batch.shape[1:])
        self.mean = total / n
        self.covariance = squares / n - torch.outer(self.mean, self.mean)
        self._gains: dict[float, tuple[Tensor, Tensor]] = {}

    def __call__(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> Batch:
        """The estimate, on the CPU and back: (b, *d). One factorisation a sample if there is a draw, else one in all."""
        known = {name: value for name, value in z.items() if name in self.degradation.tells}
        out = []
        for i in range(len(x_t)):
            at, seen = float(t[i]), x_t[i].double().cpu().flatten()
            if known:
                out.append(self._once(seen, at, {name: value[i : i + 1].double().cpu() for name, value in known.items()}))
                continue
            if at not in self._gains:
                self._gains[at] = self._solve(at, {})
            gain, expected = self._gains[at]
            out.append(self.mean + gain @ (seen - expected))
        return torch.stack(out).reshape(x_t.shape).to(x_t)

    def _once(self, seen: Tensor, t: float, z: Draw) -> Tensor:
        """The estimate of one sample, whose operator is no other's: nothing but one factorisation, and of masks not even products of matrices."""
        if self.degradation.basis == "pixel":
            at = torch.tensor([t], dtype=torch.float64)
            mask = self.degradation.gain(self.shape, at, z).expand(1, *self.shape).flatten()
            variance = float(self.degradation.sigma(at).square()) + self.sigma**2
            a, total, expected = torch.diag(mask), self.covariance * mask * mask[:, None], mask * self.mean
        else:
            a, expected, variance = self._operator(t, z)
            total = a @ self.covariance @ a.mT
        root = torch.linalg.cholesky(total + variance * torch.eye(len(total), dtype=torch.float64))
        inner = torch.cholesky_solve((seen - expected)[:, None], root)[:, 0]
        return self.mean + self.covariance @ (a.mT @ inner)

    def expected_error(self, t: float, z: Draw = EMPTY) -> float:
        """The mean square error per value that the restorer will have at severity t, given one sample's draw: tr(C - K A C) / d."""
        a, _, variance = self._operator(t, {name: value.double().cpu() for name, value in z.items()})
        cross = self.covariance @ a.mT
        total = a @ cross + variance * torch.eye(len(a), dtype=torch.float64)
        explained = torch.linalg.solve_triangular(torch.linalg.cholesky(total), cross.mT, upper=False).square().sum()
        return float((self.covariance.trace() - explained).clamp(min=0)) / len(a)

    def _solve(self, t: float, z: Draw) -> tuple[Tensor, Tensor]:
        """The gain C A^T (A C A^T + s^2 I)^-1 and the expected x_t, for one severity and one sample's draw."""
        a, expected, variance = self._operator(t, z)
        cross = self.covariance @ a.mT
        total = a @ cross + variance * torch.eye(len(a), dtype=torch.float64)
        gain = torch.linalg.solve(total, cross.mT).mT
        return gain, expected

    def _operator(self, t: float, z: Draw) -> tuple[Tensor, Tensor, float]:
        """The matrix A, the expected x_t and the variance of the noise in it, for one severity and one sample's draw."""
        d = len(self.mean)
        probes = torch.cat([torch.eye(d, dtype=torch.float64), self.mean[None], torch.zeros(1, d, dtype=torch.float64)])
        probes = probes.reshape(-1, *self.shape)
        severities = torch.full((len(probes),), t, dtype=torch.float64)
        draw = {name: value.expand(len(probes), *value.shape[1:]) for name, value in z.items()}
        draw |= {name: torch.zeros_like(probes) for name in self.degradation.noise}
        seen = self.degradation(probes, severities, draw).flatten(1)
        a = (seen[:-2] - seen[-1]).mT
        variance = float(self.degradation.sigma(severities[:1]).square()) + self.sigma**2
        return a, seen[-2], variance
