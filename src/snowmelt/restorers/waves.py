r"""The networks of sound, (b, c, n) with any n: on the waveform, and on its compressed short-time spectrum.

``wave-unet`` is the lean U-Net of one row: patches of `patch` samples, kernels of `kernel` places.

``stft-unet`` works on pictures of frequency over time with phase. Frames of `window` samples, `hop` apart, are weighted by a sine window and turned
into window / 2 complex numbers by the odd discrete Fourier transform, whose frequencies lie halfway between those of the usual one:

.. math:: S_{jk} = \sqrt{2 / w} \sum_m s_m\, x_{jh + m}\, e^{-2 \pi i (k + 1/2) m / w}, \qquad s_m = \sin(\pi (m + 1/2) / w).

As w numbers it is an orthogonal matrix, with no bins for a mean and for the highest frequency that would be unlike the others, so frames go back by
the transposed matrix, the same window, and division by how much of all windows lies on a sample: the reconstruction is exact. Spectra of sound span
many powers of ten, so the network sees and changes them compressed, phases kept,

.. math:: C = S \cdot (\sqrt{|S| + e^2} - e) / |S|, \qquad S = C\, (|C| + 2 e),

a square root that is linear below e^2, so that silence has a gradient.

Source: Stoller et al. 2018 (arXiv 1806.03185) for U-Nets of waveforms; Braun and Tashev 2020 (arXiv 2009.12286) for compressed
spectra; Richter et al. 2023 (arXiv 2208.05830) for diffusion on them.
"""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.registry import Range, SpecError, register
from snowmelt.restorers.backbones import Backbone, require_widths
from snowmelt.restorers.lean import Lattice, Lean, Size

_LINEAR = 0.1  # e
_TINY = 1e-12


@register("wave-unet", papers=("stoller2018",))
@dataclass(frozen=True)
class WaveUNet(Backbone):
    """The lean U-Net of waveforms: a stem of `patch` samples, each level half as long as the one before."""

    widths: Annotated[tuple[int, ...], Range(1, 4096), "channels per level"] = (64, 96, 128, 128)
    patch: Annotated[int, Range(1, 256, "samples"), "taken together by the stem"] = 16
    kernel: Annotated[int, Range(1, 63), "places of a convolution, odd"] = 5
    blocks: Annotated[int, Range(1, 16), "residual blocks per level, each way"] = 2
    attention: Annotated[bool, "at the coarsest level"] = True
    groups: Annotated[int, Range(1, 64), "of channels, normalised together"] = 8
    embeds: ClassVar[bool] = True
    axes: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        """Check the fields, that groups divide the widths, and that a kernel has a middle.

        Raises:
            SpecError: it has none, or they do not.
        """
        super().__post_init__()
        require_row("wave-unet", self.widths, self.groups, self.kernel)

    def build(self, in_channels: int, out_channels: int, features: int = 0) -> nn.Module:
        """The network, with its last layer at zero; with `features`, they are added to the embedding of the severity."""
        return _Wave(self, in_channels, out_channels, features)


@register("stft-unet", papers=("ronneberger2015", "braun2020", "richter2023"))
@dataclass(frozen=True)
class StftUNet(Backbone):
    """The lean U-Net of compressed short-time spectra, with patches of `frames` and `bins`.

    With the `answer` "change" it says what to add to the compressed spectrum of its input, F = spectrum changed - input; with "whole" the
    compressed spectrum of F.
    """

    window: Annotated[int, Range(4, 8192, "samples"), "of a frame, even"] = 256
    hop: Annotated[int, Range(1, 4096, "samples"), "from frame to frame, a divisor of half the window"] = 64
    widths: Annotated[tuple[int, ...], Range(1, 4096), "channels per level"] = (32, 64, 64)
    frames: Annotated[int, Range(1, 16), "of a patch of the stem"] = 4
    bins: Annotated[int, Range(1, 16), "of a patch of the stem"] = 4
    blocks: Annotated[int, Range(1, 16), "residual blocks per level, each way"] = 2
    attention: Annotated[bool, "at the coarsest level"] = True
    groups: Annotated[int, Range(1, 64), "of channels, normalised together"] = 8
    answer: Annotated[Literal["change", "whole"], "what the network says"] = "change"
    embeds: ClassVar[bool] = True
    axes: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        """Check the fields, that groups divide the widths, and that the hop divides half the window.

        Raises:
            SpecError: they do not.
        """
        super().__post_init__()
        require_widths("stft-unet", self.widths, self.groups)
        if self.window % (2 * self.hop):
            raise SpecError(f"stft-unet.hop = {self.hop} must divide half of stft-unet.window = {self.window}")

    def build(self, in_channels: int, out_channels: int, features: int = 0) -> nn.Module:
        """The network, with its last layer at zero; with `features`, they are added to the embedding of the severity."""
        return _Spectral(self, in_channels, out_channels, features)


def require_row(name: str, widths: tuple[int, ...], groups: int, kernel: int) -> None:
    """Refuse what no lean U-Net of one row has.

    Raises:
        SpecError: groups that do not divide the widths, or a kernel without a middle.
    """
    require_widths(name, widths, groups)
    if kernel % 2 == 0:
        raise SpecError(f"{name}.kernel = {kernel} has no middle: give an odd number")


class _Wave(nn.Module):
    def __init__(self, size: WaveUNet, in_channels: int, out_channels: int, features: int) -> None:
        super().__init__()
        lattice = Lattice((1, size.patch), kernel=(1, size.kernel), halving=(1, 2))
        sizes = Size(size.widths, size.blocks, size.groups, size.attention)
        self.net = Lean(lattice, sizes, (in_channels, out_channels), features)
        self.multiple = self.net.multiple

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        out: Tensor = self.net(x[:, :, None], t, c)
        return out[:, :, 0]


class _Spectral(nn.Module):
    def __init__(self, size: StftUNet, in_channels: int, out_channels: int, features: int) -> None:
        super().__init__()
        self.stft, self.answer, self.out_channels = Stft(size.window, size.hop), size.answer, out_channels
        sizes = Size(size.widths, size.blocks, size.groups, size.attention)
        self.net = Lean(Lattice((size.frames, size.bins)), sizes, (4 * in_channels + 1, 2 * out_channels), features)
        self.multiple = size.hop * self.net.sides[0]

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        n = x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):
            seen = compressed(self.stft(x))  # (b, c, 2, frames, bins)
            planes = self._planes(x, seen)
        f = self.net(planes, t, c)
        with torch.autocast(x.device.type, enabled=False):
            f = f.to(seen.dtype).reshape(len(x), self.out_channels, 2, *seen.shape[3:])
            if self.answer == "change":
                like = seen[:, : self.out_channels]
                like = functional.pad(like, (0, 0, 0, 0, 0, 0, 0, self.out_channels - like.shape[1]))
                return self.stft.back(decompressed(like + f) - decompressed(like), n)
            return self.stft.back(decompressed(f), n)

    def _planes(self, x: Tensor, seen: Tensor) -> Tensor:
        """Of each channel real and imaginary part, magnitude, and the mean over a hop, which is all there is to see of a mask; and the frequency."""
        b, _, _, frames, bins = seen.shape
        wide = (b, -1, frames, bins)
        level = functional.pad(x, (0, frames * self.stft.hop - x.shape[-1])).reshape(b, -1, frames, self.stft.hop).mean(-1)
        frequency = torch.linspace(-1, 1, bins, device=x.device, dtype=x.dtype).expand(b, 1, frames, bins)
        return torch.cat([seen.flatten(1, 2), magnitude(seen)[:, :, 0], level[..., None].expand(wide), frequency], dim=1)


class Stft(nn.Module):
    """The short-time spectrum of (b, c, n), as real and imaginary part: (b, c, 2, frames, window / 2); one frame for each hop begun.

    Args:
        window: samples of a frame.
        hop: samples from frame to frame, a divisor of half the window.
    """

    analysis: Tensor
    weight: Tensor

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        place = torch.arange(window, dtype=torch.float64) + 0.5
        sine = torch.sin(math.pi * place / window)
        angle = 2 * math.pi / window * torch.outer(place, torch.arange(window // 2) + 0.5)
        matrix = torch.cat([angle.cos(), -angle.sin()], dim=1) * (math.sqrt(2 / window) * sine[:, None])
        self.register_buffer("analysis", matrix.float(), persistent=False)
        self.register_buffer("weight", sine.square().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The spectrum."""
        n, hops = x.shape[-1], self.window // self.hop
        frames = -(-n // self.hop)
        before = (self.window - self.hop) // 2
        x = functional.pad(x, (before, (frames + hops - 1) * self.hop - before - n)).reshape(*x.shape[:2], -1, self.hop)
        cut = torch.cat([x[..., i : i + frames, :] for i in range(hops)], dim=-1)
        return (cut @ self.analysis.to(x.dtype)).reshape(*x.shape[:2], frames, 2, -1).transpose(-2, -3)

    def back(self, spectrum: Tensor, n: int) -> Tensor:
        """The (b, c, n) that has this spectrum, or whose spectrum is the nearest to it."""
        frames = spectrum.shape[-2]
        weighted = spectrum.transpose(-2, -3).flatten(-2) @ self.analysis.to(spectrum.dtype).T
        total = self._overlapped(self.weight.to(spectrum.dtype).expand(frames, -1))
        before = (self.window - self.hop) // 2
        out: Tensor = self._overlapped(weighted) / total
        return out[..., before : before + n]

    def _overlapped(self, frames: Tensor) -> Tensor:
        """The sum of frames (..., j, window), each where it was cut."""
        hops = self.window // self.hop
        parts = frames.reshape(*frames.shape[:-1], hops, self.hop).unbind(-2)
        return torch.stack([functional.pad(part, (0, 0, i, hops - 1 - i)) for i, part in enumerate(parts)]).sum(0).flatten(-2)


def magnitude(parts: Tensor) -> Tensor:
    """|S| of real and imaginary parts (b, c, 2, ...), as (b, c, 1, ...), with a finite gradient where S is 0."""
    return (parts.square().sum(2, keepdim=True) + _TINY).sqrt()


def compressed(spectrum: Tensor) -> Tensor:
    """C of S."""
    return spectrum / ((magnitude(spectrum) + _LINEAR**2).sqrt() + _LINEAR)


def decompressed(spectrum: Tensor) -> Tensor:
    """S of C."""
    return spectrum * (magnitude(spectrum) + 2 * _LINEAR)
