r"""Features of sound that need no network: the mean and the spread over time of the power in mel bands.

With frames and power spectra as for the log-spectral distance (:mod:`~.metrics.sound`) and B triangular bands of equal width on the mel scale
:math:`2595 \log_{10}(1 + f/700)`, a recording becomes, channels averaged,

.. math:: \Big(\tfrac1L \sum_l p_{l,1}, \ldots, \tfrac1L \sum_l p_{l,B}, \operatorname{std}_l p_{l,1}, \ldots, \operatorname{std}_l p_{l,B}\Big),
          \qquad p_{l,b} = \log_{10} \max(P_{l,b}, 10^{-8}),

2 B = 64 numbers. They tell how bright, rough and varied a sound is, and nothing of the order of what is said in it: a recording played backwards
has the same. Distances of sets in them bear their name, FD-log-mel; they are no Fréchet audio distance, which is one in the features of a
particular network.

Source: Stevens, Volkmann and Newman 1937 for the scale; Davis and Mermelstein 1980 (IEEE Trans. ASSP 28, 357) for such bands.
"""

import torch
from torch import Tensor

from snowmelt.metrics.features import Features
from snowmelt.metrics.sound import Recordings
from snowmelt.types import Batch

BANDS = 32
_FLOOR = 1e-8
_CHUNK = 64


class LogMel(Features):
    """Features of recordings (b, c, n).

    Args:
        rate_hz: samples per second.
    """

    name = "log-mel"
    dims = 2 * BANDS

    def __init__(self, rate_hz: int) -> None:
        self.recordings = Recordings(rate_hz)
        self._bands = _triangles(rate_hz, self.recordings.window)

    def __call__(self, x: Batch) -> Tensor:
        """Features (b, 64), float32.

        Raises:
            ValueError: these are no recordings, or hold NaN.
        """
        if x.ndim != 3 or not x.is_floating_point() or bool(x.isnan().any()):
            raise ValueError(f"log-mel features are of recordings (b, c, n) without NaN; this is {x.dtype} {tuple(x.shape)}")
        parts = [self._piece(part) for part in torch.split(x.detach().cpu().double(), _CHUNK) if len(part)]
        return torch.cat([torch.empty(0, self.dims), *parts])

    def _piece(self, x: Tensor) -> Tensor:
        powers = self.recordings.power(x.flatten(0, 1)) / self.recordings.window
        bands = (self._bands @ powers).clamp(min=_FLOOR).log10()
        found = torch.cat([bands.mean(2), bands.std(2, correction=0)], 1)
        return found.reshape(*x.shape[:2], -1).mean(1).float()


def _triangles(rate_hz: int, window: int) -> Tensor:
    """Bands (32, window / 2 + 1) whose weights rise from the middle of the band before to their own and fall to that of the next."""
    frequencies = torch.linspace(0, rate_hz / 2, window // 2 + 1, dtype=torch.float64)
    edges = 700 * (10 ** (torch.linspace(0, 1, BANDS + 2, dtype=torch.float64) * _mel(rate_hz / 2) / 2595) - 1)
    low, middle, high = (edges[i : i + BANDS, None] for i in range(3))
    slopes = torch.minimum((frequencies - low) / (middle - low), (high - frequencies) / (high - middle)).clamp(min=0)
    # The lowest bands may lie between two frequencies of the spectrum: each then takes the nearest.
    nearest = torch.nn.functional.one_hot((frequencies - middle).abs().argmin(1), len(frequencies)).double()
    return torch.where(slopes.sum(1, keepdim=True) > 0, slopes, nearest)


def _mel(hertz: float) -> float:
    return float(2595 * torch.tensor(1 + hertz / 700, dtype=torch.float64).log10())
