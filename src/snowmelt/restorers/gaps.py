r"""The network that fills gaps in recordings, (b, c, n) with any n: what linear prediction expects there, improved.

A network that has to continue a waveform into silence must learn pitch, phase and resonances before it is better than nothing. Linear
prediction (:mod:`snowmelt.restorers.prediction`) has all three from a few hundred samples on either side, for every voice anew. What it does
not know is how far it can be trusted, what is voiced and what is noise, and how the two sides are joined: that is learned. Where the gain g
that the degradation tells is not about 0, the sample is known, x_t / g; elsewhere it is lost, and with the predictions from before, a, from
after, b, and cross-faded, m,

.. math:: x_t + F = \begin{cases} x_t / g & \text{known} \\ m + u\, a + v\, b + s\, w & \text{lost,}\end{cases}

where u, v and w are the three outputs of a lean U-Net for every sample, zero at first: a fresh restorer *is* linear prediction. s is the loudness of
what is known; all that the network sees is divided by it, so a recording twice as loud is filled twice as loud.

Source: Itakura and Saito 1970 and Makhoul 1975 for linear prediction of speech; Valin and Skoglund 2019 (arXiv 1810.11846) for
networks that build on it; ITU-T G.711 appendix I for concealment of lost packets.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from snowmelt.registry import Range, SpecError, register
from snowmelt.restorers.backbones import Backbone
from snowmelt.restorers.lean import Lattice, Lean, Size
from snowmelt.restorers.prediction import Prediction, predicted
from snowmelt.restorers.waves import require_row

_HEARD = 0.05  # gain from which on a sample is known
_QUIET = 1e-4  # loudness that counts as silence
_SEEN = 4  # known part, and three predictions
_SAID = 3  # u, v, w


@register("gap-unet", papers=("stoller2018", "itakura1970", "makhoul1975", "burg1975", "valin2019", "itu1999"))
@dataclass(frozen=True)
class GapUNet(Backbone):
    """Linear prediction of what is lost, improved by the lean U-Net of waveforms; for degradations that tell a mask, and nothing else.

    What it returns is what is missing, so it belongs to the parameterization `residual`, the default of sound.
    """

    widths: Annotated[tuple[int, ...], Range(1, 4096), "channels per level"] = (64, 96, 128)
    patch: Annotated[int, Range(1, 256, "samples"), "taken together by the stem"] = 16
    kernel: Annotated[int, Range(1, 63), "places of a convolution, odd"] = 5
    blocks: Annotated[int, Range(1, 16), "residual blocks per level, each way"] = 2
    attention: Annotated[bool, "at the coarsest level"] = True
    groups: Annotated[int, Range(1, 64), "of channels, normalised together"] = 8
    order: Annotated[int, Range(1, 512), "of the linear prediction"] = 64
    context: Annotated[int, Range(8, 100_000, "samples"), "on either side of a gap that it is predicted from"] = 800
    half: Annotated[float, Range(1, 1_000_000, "samples"), "further away at which a sample counts half as much"] = 100.0
    reach: Annotated[int, Range(1, 1_000_000, "samples"), "from the edge of a gap at which prediction ends"] = 1600
    embeds: ClassVar[bool] = True
    axes: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        """Check the fields, that groups divide the widths, and that a kernel has a middle.

        Raises:
            SpecError: it has none, or they do not.
        """
        super().__post_init__()
        require_row("gap-unet", self.widths, self.groups, self.kernel)

    def build(self, in_channels: int, out_channels: int, features: int = 0) -> nn.Module:
        """The network, with its last layer at zero; with `features`, they are added to the embedding of the severity.

        Raises:
            SpecError: the input is not the degraded samples and one channel that says what is left of them.
        """
        if in_channels != out_channels + 1:
            told = in_channels - out_channels
            raise SpecError(
                f"model.backbone = gap-unet fills what a mask says is lost, one channel beside {out_channels} of sound, and is told {max(told, 0)}: "
                "take degradation packet-loss with model.told = true and fixed variance, or backbone stft-unet"
            )
        return _Gap(self, out_channels, features)


class _Gap(nn.Module):
    def __init__(self, size: GapUNet, channels: int, features: int) -> None:
        super().__init__()
        self.channels = channels
        self.size = size
        lattice = Lattice((1, size.patch), kernel=(1, size.kernel), halving=(1, 2))
        sizes = Size(size.widths, size.blocks, size.groups, size.attention)
        self.net = Lean(lattice, sizes, (_SEEN * channels + 1, _SAID * channels), features)
        self.multiple = self.net.multiple

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        x, gain = x[:, : self.channels], x[:, self.channels :]
        with torch.autocast(x.device.type, enabled=False):
            lost = gain < _HEARD
            known = torch.where(lost, 0, x / torch.where(lost, 1, gain))
            expected = self._expected(known.detach(), lost)
            share = (~lost).to(x.dtype).mean((1, 2), keepdim=True).clamp(min=1 / x.shape[-1])
            level = (known.square().mean((1, 2), keepdim=True) / share + _QUIET**2).sqrt()
            seen = torch.cat([torch.cat([known, *expected], dim=1) / level, gain], dim=1)
        said = self.net(seen[:, :, None], t, c)[:, :, 0]
        with torch.autocast(x.device.type, enabled=False):
            u, v, w = said.to(x.dtype).chunk(_SAID, dim=1)
            filled = expected.faded + u * expected.ahead + v * expected.back + level * w
            return torch.where(lost, filled, known) - x

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the number of gaps and their lengths are data
    def _expected(self, known: Tensor, lost: Tensor) -> Prediction:
        size = self.size
        return predicted(known, lost, order=size.order, context=size.context, half=size.half, reach=size.reach)
