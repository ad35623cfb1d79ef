r"""Backbones: the networks F(x, t) inside a restorer.

A backbone is registered like a degradation: a frozen dataclass of its sizes that *builds* a module, called as
``net(x, t)`` with x (b, in_channels, h, w) and t (b,), returning (b, out_channels, h, w) for any h and w; of sound (b, in_channels, n). A net of
three convolutions in a user's file is a backbone too. One that *embeds* also takes features of what it is conditioned on,
``net(x, t, c)`` with c (b, features).

``unet`` is made for small budgets and for CPUs, where layers of few channels at full resolution are bound by memory:
a pixel-unshuffle stem trades resolution for channels at once (:mod:`snowmelt.restorers.lean`). Its last layer starts at zero, so that a fresh
restorer *is* its linear skip connection. It comes in four sizes, :data:`SIZES`; what they cost is on the page "Networks". Its siblings for
sound are ``wave-unet`` and ``stft-unet``, for scans ``ring-unet``.

Source: Ronneberger et al. 2015 (arXiv 1505.04597); Perez et al. 2017 (arXiv 1709.07871) for FiLM; Shi et al. 2016
(arXiv 1609.05158) for pixel shuffling.
"""

import abc
import itertools
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.registry import Part, Range, SpecError, label, register
from snowmelt.restorers.lean import Lattice, Lean, Size, padded


class Backbone(Part, kind="backbone"):
    """Sizes of a network, which it can build. Where `embeds` is true, :meth:`build` takes `features` as well.

    `axes` says what it works on: 2 for pictures and scans (b, c, h, w), 1 for sound (b, c, n), None where it does not say.
    """

    embeds: ClassVar[bool] = False
    axes: ClassVar[int | None] = None

    @abc.abstractmethod
    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        """A module: net(x, t) -> (b, out_channels, *d) for x (b, in_channels, *d), any *d, and t (b,) in [0, 1]."""

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse samples of a shape that it does not work on.

        Raises:
            SpecError: they have other axes.
        """
        if self.axes is not None and len(shape) != 1 + self.axes:
            wanted, better = ("sound (c, n)", "unet, or ring-unet for scans") if self.axes == 1 else ("pictures and scans (c, h, w)", "stft-unet")
            raise SpecError(f"model.backbone = {label(type(self))} is made for {wanted}, and these samples are {shape}: use {better}")


class _Unsaid(tuple[int, ...]):
    """Widths that nobody gave: the default, which a size may replace."""

    __slots__ = ()


SIZES: dict[str, tuple[int, ...]] = {"xs": (32, 64, 64), "s": (64, 96, 128), "m": (128, 192, 288), "l": (192, 288, 448)}
_BLOCKS = 2
_MOST_LEVELS = 10


@register("unet", papers=("ronneberger2015", "perez2017", "shi2016"))
@dataclass(frozen=True)
class UNet(Backbone):
    """The lean U-Net: pixel-unshuffle stem of `patch`, one level per width, `blocks` residual blocks each way.

    `size` is a word for widths and blocks: xs of about 1 million parameters, s 4, m 17, l 40. It is translated when the part is made,
    so that what is saved is the widths themselves, and a model stays what it was whatever a word will mean. `patch` is chosen apart: it
    belongs to the pictures, 2 for about 32 px, 4 for 64 px and more.
    """

    widths: Annotated[tuple[int, ...], Range(1, 4096), "channels per level"] = _Unsaid((64, 96))
    patch: Annotated[int, Range(1, 16, "px"), "side of the stem's patches"] = 2
    blocks: Annotated[int, Range(1, 16)] = _BLOCKS
    attention: bool = True
    groups: Annotated[int, Range(1, 64)] = 8
    size: Annotated[Literal["xs", "s", "m", "l"] | None, "stands for widths and blocks"] = None
    embeds: ClassVar[bool] = True
    axes: ClassVar[int | None] = 2

    def __post_init__(self) -> None:
        """Check the fields, translate the size, and check that groups divide the widths."""
        unsaid = isinstance(self.widths, _Unsaid)
        super().__post_init__()
        if self.size is not None:
            self._take(self.size, unsaid=unsaid)
        require_widths("unet", self.widths, self.groups)

    @property
    def called(self) -> str | None:
        """The size that has these widths and blocks; None if none has."""
        return next((name for name, widths in SIZES.items() if (self.widths, self.blocks) == (widths, _BLOCKS)), None)

    def _take(self, size: str, *, unsaid: bool) -> None:
        """Put the widths for the word; from here on it is as if they had been given."""
        for name, given, meant in (("widths", self.widths, SIZES[size]), ("blocks", self.blocks, _BLOCKS)):
            if given != meant and not (name == "widths" and unsaid):
                raise SpecError(f"unet.size = {size} means {name} = {meant}, but unet.{name} = {given} is given too: leave one of the two out")
        object.__setattr__(self, "widths", SIZES[size])
        object.__setattr__(self, "size", None)

    def build(self, in_channels: int, out_channels: int, features: int = 0) -> nn.Module:
        """The network, with its last layer at zero; with `features`, they are added to the embedding of the severity."""
        size = Size(self.widths, self.blocks, self.groups, self.attention)
        return Lean(Lattice((self.patch, self.patch)), size, (in_channels, out_channels), features)


@register("local-unet", papers=("ronneberger2015", "zhang2021plug", "zhang2018", "shi2016"))
@dataclass(frozen=True)
class LocalUNet(Backbone):
    """A U-Net that sees only so far: no normalisation, no attention; tiles of a large picture give what the whole would.

    Its module says how far as `radius` (px) and on which grid as `multiple` (px). Severity enters as a constant plane.
    Source: Zhang et al. 2021 (arXiv 2008.13751) for residual U-Nets without normalisation; Zhang et al. 2018 (arXiv 1710.04026) for the plane.
    """

    widths: Annotated[tuple[int, ...], Range(1, 4096), "channels per level"] = (48, 96, 160)
    patch: Annotated[int, Range(1, 16, "px"), "side of the stem's patches"] = 2
    blocks: Annotated[int, Range(1, 16), "residual blocks per level, each way"] = 2
    axes: ClassVar[int | None] = 2

    def __post_init__(self) -> None:
        """Check the fields, and that there is a level."""
        super().__post_init__()
        if not self.widths:
            raise SpecError("local-unet.widths is empty: give the channels of at least one level")
        require_widths("local-unet", self.widths)

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        """The network, with its last layer at zero."""
        return _LocalUNet(self, in_channels, out_channels)


@register("zero")
@dataclass(frozen=True)
class Zero(Backbone):
    """No network, F = 0: the restorer is its skip connection alone. With `wiener` that is the best linear restorer."""

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        """A module without weights."""
        return _Zero(out_channels)


def require_widths(name: str, widths: tuple[int, ...], groups: int = 1) -> None:
    """Refuse more levels than samples have halvings, and widths that fall into no groups.

    Raises:
        SpecError: there are.
    """
    if len(widths) > _MOST_LEVELS:
        raise SpecError(f"{name}.widths has {len(widths)} levels: give at most {_MOST_LEVELS}, for every one of them halves the picture")
    if not widths or any(width % groups for width in widths):
        raise SpecError(f"{name}.widths = {widths} must each be a multiple of {name}.groups = {groups}")


class _Zero(nn.Module):
    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.out_channels, *x.shape[2:])


class _LocalUNet(nn.Module):
    def __init__(self, size: LocalUNet, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.patch, self.multiple = size.patch, size.patch * 2 ** (len(size.widths) - 1)
        # Convolutions of 3 x 3 reach 1 px of their level: stem and out, two in each block; halving and doubling reach one fine pixel more.
        convolutions = [2 * size.blocks * (1 if level == len(size.widths) - 1 else 2) + (2 if level == 0 else 1) for level in range(len(size.widths))]
        self.radius = size.patch * sum(n * 2**level for level, n in enumerate(convolutions)) + self.multiple
        first = size.widths[0]
        self.stem = nn.Conv2d((in_channels + 1) * size.patch**2, first, 3, padding=1)
        pairs = list(itertools.pairwise(size.widths))
        self.down = nn.ModuleList(_plain(width, size.blocks) for width in size.widths[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(width, out, 2, stride=2) for width, out in pairs)
        self.middle = _plain(size.widths[-1], size.blocks)
        self.grow = nn.ModuleList(nn.ConvTranspose2d(width, out, 2, stride=2) for out, width in reversed(pairs))
        self.up = nn.ModuleList(_plain(width, size.blocks) for width in reversed(size.widths[:-1]))
        self.out = nn.Conv2d(first, out_channels * size.patch**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # a Conv2d made with bias has one

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        plane = t.to(x.dtype)[:, None, None, None].expand(-1, 1, h, w)
        x = padded(torch.cat([x, plane], dim=1), (self.multiple, self.multiple))
        x = self.stem(functional.pixel_unshuffle(x, self.patch))
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = blocks(x)
            skips.append(x)
            x = shrink(x)
        x = self.middle(x)
        for grow, blocks in zip(self.grow, self.up, strict=True):
            x = blocks(grow(x) + skips.pop())
        return functional.pixel_shuffle(self.out(x), self.patch)[..., :h, :w]


def _plain(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(_PlainBlock(width) for _ in range(blocks)))


class _PlainBlock(nn.Module):
    """Convolution, ReLU, convolution, added to the input; it starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(functional.relu(self.conv1(x)))
        return out
