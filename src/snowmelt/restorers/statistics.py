r"""What a linear restorer knows of the data: its mean, and its variance in the basis of the operator.

The mean m is a picture, the variance v one number per coefficient. Both are taken from the training data before
the first step and are buffers of the restorer, so they travel with its weights. For pictures of another
size, m is resized and v is read at the same *frequency in cycles per pixel*: in an orthonormal basis a power
spectrum does not depend on the size, whereas at equal index it would be off by the ratio of the sizes squared.
The mean grey value, which has no such limit, is kept apart.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.degradations.base import Basis
from snowmelt.degradations.spectral import forward, frequencies
from snowmelt.types import Batch


class Statistics(nn.Module):
    """Mean (c, h, w) and variance of the coefficients of clean samples of one shape, in one basis."""

    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...], basis: Basis) -> None:
        super().__init__()
        self.shape, self.basis = tuple(shape), basis
        like = torch.zeros(1, *shape)
        self.register_buffer("mean", like[0])
        self.register_buffer("variance", torch.ones_like(forward(like, basis)[0].real))

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> "Statistics":
        """Mean and variance over clean batches (b, c, h, w).

        Raises:
            ValueError: no sample was given, one of another shape, or one with a value that is not finite.
        """
        n, total, squares = 0, torch.zeros(1), torch.zeros(1)
        for batch in batches:
            if tuple(batch.shape[1:]) != self.shape:
                raise ValueError(f"statistics of samples of shape {self.shape} were given one of shape {tuple(batch.shape[1:])}")
            wide = batch.to("cpu", torch.float64)
            if len(odd := (~wide.isfinite().flatten(1).all(1)).nonzero()):
                raise ValueError(f"statistics were given a sample, number {n + int(odd[0])}, with a value that is not finite")
            n, total = n + len(wide), total + wide.sum(0)
            squares = squares + forward(wide, self.basis).abs().square().sum(0)
        if n == 0:
            raise ValueError("statistics need at least one sample")
        mean = total / n
        variance = squares / n - forward(mean[None], self.basis)[0].abs().square()
        if self.basis == "channel":  # the same for every pixel
            variance = variance.mean((-2, -1), keepdim=True).expand_as(variance)
        self.mean.copy_(mean)
        self.variance.copy_(variance.clamp(min=0))
        return self

    def at(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Mean (c, h, w) and variance for samples of another size."""
        if tuple(shape) == self.shape:
            return self.mean, self.variance
        mean = functional.interpolate(self.mean[None], size=shape[-2:], mode="bilinear", antialias=True)[0]
        if self.basis in ("pixel", "channel"):
            return mean, functional.interpolate(self.variance[None], size=shape[-2:], mode="bilinear")[0]
        return mean, self._spectrum(shape)

    def _spectrum(self, shape: tuple[int, ...]) -> Tensor:
        """The power spectrum at the frequencies of another size; linear in its logarithm."""
        h, w = self.shape[-2:]
        log = self.variance.clamp(min=1e-12).log()
        log[:, 0, 0] = (log[:, 0, min(1, log.shape[2] - 1)] + log[:, min(1, log.shape[1] - 1), 0]) / 2
        signed = self.basis == "fft"
        rows = frequencies(shape[-2], self.basis) * (h if signed else 2 * h)
        columns = frequencies(shape[-1], self.basis, half=True) * (w if signed else 2 * w)
        if signed:  # frequencies in rising order, from -h/2
            log, rows = torch.fft.fftshift(log, dim=1), rows + h // 2
        log = _take(_take(log, rows.to(log), 1), columns.to(log), 2)
        out = log.exp()
        out[:, 0, 0] = self.variance[:, 0, 0] * (shape[-2] * shape[-1]) / (h * w)
        return out


def _take(table: Tensor, at: Tensor, dim: int) -> Tensor:
    """Entries of `table` at fractional indices along `dim`, linear in between, the last value beyond the end."""
    at = at.clamp(0, table.shape[dim] - 1)
    below = at.floor().clamp(max=max(table.shape[dim] - 2, 0))
    high = (below + 1).clamp(max=table.shape[dim] - 1)
    weight = (at - below).reshape(-1, *(1,) * (table.ndim - 1 - dim))
    return torch.lerp(table.index_select(dim, below.long()), table.index_select(dim, high.long()), weight)
