r"""The U-Net of scans: a range image is a band around the sensor, whose last column is the neighbour of the first.

``ring-unet`` is ``unet`` with three changes. Every convolution goes on beyond the last column with the first, so that there is no seam and, without
azimuth coordinates, a turned scan gives a turned result: exactly where it is turned by multiples of what one place of the coarsest level stands for.
Patches may be rectangles, since a scan has many more columns than rings, and neighbouring columns say nearly the same. And coordinates are further
input channels: the ring, from 1 at the highest to -1 at the lowest, since what is below the horizon is road; and, if asked for, where it points.

Beyond the highest and lowest ring there are zeros, of which the ring's coordinate tells the network.

Source: Schubert et al. 2019 (Circular convolutional neural networks for panoramic images and laser data, IEEE IV) for the padding;
Zyrianov et al. 2022 (arXiv 2209.03954) and Nakashima and Kurazume 2023 (arXiv 2309.09256) for coordinates in diffusion models of scans.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from snowmelt.registry import Range, SpecError, register
from snowmelt.restorers.backbones import Backbone, require_widths
from snowmelt.restorers.filling import NEIGHBOURS, nearby
from snowmelt.restorers.lean import Lattice, Lean, Size

_CHANNELS = 3  # of a scan


@register("ring-unet", papers=("ronneberger2015", "schubert2019", "zyrianov2022", "nakashima2023"))
@dataclass(frozen=True)
class RingUNet(Backbone):
    """The lean U-Net of range images (b, c, rings, azimuths), a circle along azimuth, with patches of `rows` and `columns`.

    Any number of rings and azimuths: rings are repeated up to a multiple. Where the azimuths are no multiple, the circle is continued
    on both sides and cut off again: no seam is visible then either, but the result turns with the scan only nearly.
    """

    widths: Annotated[tuple[int, ...], Range(1, 4096), "channels per level"] = (64, 96, 128)
    rows: Annotated[int, Range(1, 16, "rings"), "of a patch of the stem"] = 4
    columns: Annotated[int, Range(1, 64, "azimuths"), "of a patch of the stem"] = 8
    blocks: Annotated[int, Range(1, 16), "residual blocks per level, each way"] = 2
    attention: Annotated[bool, "at the coarsest level"] = True
    groups: Annotated[int, Range(1, 64), "of channels, normalised together"] = 8
    fill: Annotated[bool, "begins with what neighbours say of lost cells, of which it is told"] = False
    azimuth: Annotated[bool, "whether it is told where a column points: ahead is not behind"] = False
    embeds: ClassVar[bool] = True
    axes: ClassVar[int | None] = 2

    def __post_init__(self) -> None:
        """Check the fields, and that groups divide the widths."""
        super().__post_init__()
        require_widths("ring-unet", self.widths, self.groups)

    def build(self, in_channels: int, out_channels: int, features: int = 0) -> nn.Module:
        """The network, with its last layer at zero; with `features`, they are added to the embedding of the severity.

        Raises:
            SpecError: lost cells are to be filled, and nobody tells which they are.
        """
        if self.fill and (in_channels == out_channels or out_channels != _CHANNELS):
            raise SpecError("ring-unet.fill = true needs to be told what is left of every cell of a scan, as beam-drop and ray-drop do: leave it out")
        return _Rings(self, in_channels, out_channels, features)


class _Rings(nn.Module):
    def __init__(self, size: RingUNet, in_channels: int, out_channels: int, features: int) -> None:
        super().__init__()
        self.azimuth = size.azimuth
        self.fill = size.fill
        begun, believed = (_CHANNELS + NEIGHBOURS, NEIGHBOURS) if size.fill else (0, 0)
        channels = (in_channels + begun + (3 if size.azimuth else 1), out_channels + believed)
        sizes = Size(size.widths, size.blocks, size.groups, size.attention)
        self.net = Lean(Lattice((size.rows, size.columns), circular=True), sizes, channels, features)
        self.multiple = self.net.multiple

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        planes = self._coordinates(x)
        if not self.fill:
            out: Tensor = self.net(torch.cat([x, planes], dim=1), t, c)
            return out
        x_t, left = x[:, :_CHANNELS], x[:, _CHANNELS : _CHANNELS + 1]
        with torch.autocast(x.device.type, enabled=False):
            seen = nearby(x_t, left)
            inputs = [x, seen.filled(), (seen.values[:, :, 0] - seen.x[:, :1]) * (seen.weights[:, :, 0] > 0), planes]
        said = self.net(torch.cat(inputs, dim=1), t, c)
        with torch.autocast(x.device.type, enabled=False):
            change, believed = said.to(x.dtype).split([_CHANNELS, NEIGHBOURS], dim=1)
            return seen.filled(believed) - x_t + torch.where(seen.known, 0, change)

    def _coordinates(self, x: Tensor) -> Tensor:
        """(b, 1 or 3, h, w)."""
        b, _, h, w = x.shape
        planes = [torch.linspace(1, -1, h, device=x.device, dtype=x.dtype)[:, None].expand(h, w)]
        if self.azimuth:
            angle = (torch.arange(w, device=x.device, dtype=x.dtype) + 0.5) * (2 * math.pi / w)
            planes += [angle.cos().expand(h, w), angle.sin().expand(h, w)]
        return torch.stack(planes).expand(b, -1, -1, -1)
