"""What Cold Diffusion's code does, stated again: its network and its walk, to be measured beside ours.

The network of its MNIST, CelebA and snow recipes is a U-Net of ConvNeXt blocks: depthwise 7 x 7, the severity's embedding added, normalisation over
channels, two dense 3 x 3 convolutions with GELU between them, twice as wide in the middle; linear attention (4 heads of 32 channels) on
every level. As published (`width` 64, `multiples` 1, 2, 4, 8) it has 56.6 M parameters and takes 4.2 GFLOP for a picture of 32 px.

Its walk is Algorithm 2 with both degradations of a step computed as the definition says, by one convolution after another from the clean estimate:
t of them for D(x0, t), t - 1 for D(x0, t - 1), and so T^2 in all.

Written from descriptions, not from the code, which has no licence.

Source: Bansal et al. 2022 (arXiv 2208.09392); Liu et al. 2022 (arXiv 2201.03545) for ConvNeXt.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.degradations import RecursiveBlur

HEADS, HEAD = 4, 32


class ConvNeXtUNet(nn.Module):
    """net(x, t) for x (b, channels, h, w) and t (b,), h and w multiples of 2 to the number of levels less one."""

    def __init__(self, channels: int = 3, width: int = 64, multiples: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        sizes = [channels, *(width * m for m in multiples)]
        pairs = list(itertools.pairwise(sizes))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (narrow, wide) in enumerate(pairs):
            shrink = nn.Conv2d(wide, wide, 4, stride=2, padding=1) if level < len(pairs) - 1 else nn.Identity()
            self.down.append(_Level(narrow, wide, width, shrink, normal=level > 0))
        deepest = sizes[-1]
        self.middle = nn.ModuleList((_Block(deepest, deepest, width), _Attention(deepest), _Block(deepest, deepest, width)))
        for narrow, wide in reversed(pairs[1:]):
            self.up.append(_Level(2 * wide, narrow, width, nn.ConvTranspose2d(narrow, narrow, 4, stride=2, padding=1)))
        self.last = _Block(width, width, width)
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        e, kept = self.time(waves(t, self.width)), []
        for level in self.down:
            before, x = level(x, e)
            kept.append(before)
        first, attention, second = self.middle
        x = second(attention(first(x, e)), e)
        for level in self.up:
            _, x = level(torch.cat([x, kept.pop()], dim=1), e)
        out: Tensor = self.out(self.last(x, e))
        return out


class _Level(nn.Module):
    """Two blocks, attention, and a change of size: what there was before the change, and what came of it."""

    def __init__(self, width: int, out: int, embedding: int, change: nn.Module, *, normal: bool = True) -> None:
        super().__init__()
        self.first, self.second = _Block(width, out, embedding, normal=normal), _Block(out, out, embedding)
        self.attention, self.change = _Attention(out), change

    def forward(self, x: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        x = self.attention(self.second(self.first(x, e), e))
        return x, self.change(x)


class _Block(nn.Module):
    """ConvNeXt, with two 3 x 3 convolutions where the original has 1 x 1."""

    def __init__(self, width: int, out: int, embedding: int, *, normal: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.time = nn.Linear(embedding, width)
        norm = _Normal(width) if normal else nn.Identity()
        self.dense = nn.Sequential(norm, nn.Conv2d(width, 2 * out, 3, padding=1), nn.GELU(), nn.Conv2d(2 * out, out, 3, padding=1))
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.depthwise(x) + self.time(functional.gelu(e))[:, :, None, None]
        out: Tensor = self.dense(h) + self.skip(x)
        return out


class _Normal(nn.Module):
    """Normalisation over channels, position by position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(1, width, 1, 1)), nn.Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * self.gain + self.bias


class _Attention(nn.Module):
    """Linear attention, normalised before and added to its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _Normal(width)
        self.qkv = nn.Conv2d(width, 3 * HEADS * HEAD, 1, bias=False)
        self.out = nn.Conv2d(HEADS * HEAD, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, HEADS, HEAD, h * w).unbind(1)
        context = k.softmax(dim=-1) @ v.transpose(-1, -2)
        y = context.transpose(-1, -2) @ (q.softmax(dim=-2) * HEAD**-0.5)
        out: Tensor = x + self.out(y.reshape(b, HEADS * HEAD, h, w))
        return out


def waves(t: Tensor, width: int) -> Tensor:
    """Sines and cosines of the severity."""
    half = width // 2
    angle = t[:, None] * torch.exp(torch.arange(half, device=t.device) * (-math.log(10_000) / (half - 1)))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# --- the walk ------------------------------------------------------------------------------------------------


def convolved(x: Tensor, kernels: Iterable[Tensor], mode: str) -> Tensor:
    """One more depthwise convolution for each kernel (taps,): the recursive blur by its definition."""
    channels = x.shape[1]
    for kernel in kernels:
        x = functional.pad(x, (len(kernel) // 2,) * 4, mode=mode)
        x = functional.conv2d(x, torch.outer(kernel, kernel).expand(channels, 1, -1, -1), groups=channels)
    return x


def recursive(blur: RecursiveBlur, x: Tensor, step: int) -> Tensor:
    """D(x, step / T): that many convolutions."""
    return convolved(x, blur.kernels().to(x)[:step], "reflect" if blur.reflects else "circular")


@torch.no_grad()
def walk(net: Callable[[Tensor, Tensor], Tensor], blur: RecursiveBlur, x: Tensor, steps: Iterable[int] | None = None) -> Tensor:
    """Algorithm 2 from x (b, c, h, w) at severity T: x = x - D(x0, t) + D(x0, t - 1).

    Args:
        net: the estimate of the clean picture, of x_t and the step t - 1 (b,) that led there, as the code numbers them.
        blur: what is undone.
        x: degraded pictures.
        steps: the t that are walked; all of them, T, ..., 1, where nothing is said.
    """
    for t in steps or range(blur.steps, 0, -1):
        x0 = net(x, torch.full((len(x),), t - 1, dtype=torch.float32, device=x.device))
        x = x - recursive(blur, x0, t) + recursive(blur, x0, t - 1)
    return x
