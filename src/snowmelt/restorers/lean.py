r"""The lean U-Net: what the backbones of pictures, sound and scans are made of.

A stem takes patches together, so that resolution becomes channels at once; convolutions are dense; attention runs at the coarsest level only;
the severity enters every block as a scale and shift (FiLM); the last layer starts at zero. All of it works on (b, c, h, w). What differs between
signals is a :class:`Lattice`: the shape of patches and kernels, and whether the columns close to a circle. A recording is a picture of one row.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

_WIDE = 16  # channels of a group that torch normalises fast in half precision
_AROUND = 4  # places of the coarsest level by which a circle is continued: what lies beyond changes a result by some hundredths


@dataclass(frozen=True)
class Lattice:
    """How a lean U-Net lies on its samples.

    Args:
        patch: rows and columns that the stem takes together.
        kernel: rows and columns of a convolution, both odd.
        halving: by how much a level is coarser than the one before, in rows and columns.
        circular: whether the last column is the neighbour of the first.
    """

    patch: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    halving: tuple[int, int] = (2, 2)
    circular: bool = False

    def sides(self, levels: int) -> tuple[int, int]:
        """Rows and columns of what one place of the coarsest level stands for."""
        return self.patch[0] * self.halving[0] ** (levels - 1), self.patch[1] * self.halving[1] ** (levels - 1)

    def convolution(self, width: int, out: int, *, strided: bool = False) -> nn.Conv2d:
        """A convolution that keeps the number of places, or divides it by `halving`."""
        stride = self.halving if strided else 1
        make = _Circular if self.circular else _Narrowing if strided else nn.Conv2d
        return make(width, out, self.kernel, stride=stride, padding=(self.kernel[0] // 2, self.kernel[1] // 2))

    def doubling(self, width: int) -> nn.Sequential:
        """The way back from a coarser level."""
        return nn.Sequential(nn.Upsample(scale_factor=tuple(map(float, self.halving)), mode="nearest"), self.convolution(width, width))


class Size(NamedTuple):
    """How large a lean U-Net is.

    Attributes:
        widths: channels of the levels, each a multiple of `groups`.
        blocks: residual blocks of a level, each way.
        groups: of channels, for the normalisation.
        attention: whether the coarsest level has it.
    """

    widths: tuple[int, ...]
    blocks: int
    groups: int
    attention: bool


class Lean(nn.Module):
    """net(x, t) or net(x, t, c): (b, in_channels, h, w) to (b, out_channels, h, w), for any h and w.

    On a circle whose columns are no multiple of the coarsest place, the circle is continued on both sides, and what was added is cut off again.

    Args:
        lattice: how it lies on the samples.
        size: how large it is.
        channels: of the input and of the output.
        features: length of c, 0 for none.
    """

    def __init__(self, lattice: Lattice, size: Size, channels: tuple[int, int], features: int = 0) -> None:
        super().__init__()
        widths, blocks, groups, attention = size
        self.lattice, self.sides = lattice, lattice.sides(len(widths))
        self.multiple = math.lcm(*self.sides)
        first, area = widths[0], math.prod(lattice.patch)
        embedding = 4 * first
        self.time = nn.Sequential(_Fourier(first), nn.Linear(2 * (first // 2), embedding), nn.SiLU())
        self.told = nn.Linear(features, embedding) if features else None
        self.stem = lattice.convolution(channels[0] * area, first)
        self.down, self.shrink, self.up, self.grow = (nn.ModuleList() for _ in range(4))
        width = first
        for i, out in enumerate(widths):
            shrink = nn.Identity() if i == len(widths) - 1 else lattice.convolution(out, out, strided=True)
            self.down.append(_Blocks(lattice, width, out, embedding, groups, blocks))
            self.shrink.append(shrink)
            width = out
        self.middle = _Block(lattice, width, width, embedding, groups)
        self.attention = _Attention(width, groups) if attention else nn.Identity()
        for i, out in reversed(list(enumerate(widths))):
            grow = lattice.doubling(out) if i else nn.Identity()
            self.up.append(_Blocks(lattice, width + out, out, embedding, groups, blocks))
            self.grow.append(grow)
            width = out
        self.norm = _Norm(groups, first)
        self.out = lattice.convolution(first, channels[1] * area)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # a Conv2d made with bias has one

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        h, w = x.shape[-2:]
        x, before = self._whole(x)
        e = self.time(t.to(x.dtype))
        if self.told is not None and c is not None:
            e = e + functional.silu(self.told(c.to(x.dtype)))
        x = self.stem(folded(x, self.lattice.patch))
        skips = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            x = blocks(x, e)
            skips.append(x)
            x = shrink(x)
        x = self.attention(self.middle(x, e))
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = grow(blocks(torch.cat([x, skips.pop()], dim=1), e))
        x = self.out(functional.silu(self.norm(x)))
        return unfolded(x, self.lattice.patch)[..., :h, before : before + w]

    def _whole(self, x: Tensor) -> tuple[Tensor, int]:
        """The input with sides that are multiples, and how many columns were put before the first."""
        rows, columns = self.sides
        if not self.lattice.circular or x.shape[-1] % columns == 0:
            return padded(x, self.sides), 0
        w = x.shape[-1]
        wide = (w // columns + 1 + 2 * _AROUND) * columns
        before = (wide - w) // 2
        around = torch.arange(-before, wide - before, device=x.device) % w
        return padded(x.index_select(-1, around), (rows, 1)), before


def padded(x: Tensor, multiple: tuple[int, int]) -> Tensor:
    """Repeat the last row and column until both sides are multiples."""
    below, right = -x.shape[-2] % multiple[0], -x.shape[-1] % multiple[1]
    return functional.pad(x, (0, right, 0, below), mode="replicate") if right or below else x


def folded(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Patches as channels: (b, c, h, w) to (b, c rows columns, h / rows, w / columns)."""
    rows, columns = patch
    if rows == columns:
        return functional.pixel_unshuffle(x, rows)
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // rows, rows, w // columns, columns).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(b, c * rows * columns, h // rows, w // columns)


def unfolded(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Channels as patches: what `folded` was given."""
    rows, columns = patch
    if rows == columns:
        return functional.pixel_shuffle(x, rows)
    b, c, h, w = x.shape
    x = x.reshape(b, c // (rows * columns), rows, columns, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(b, c // (rows * columns), h * rows, w * columns)


class _Narrowing(nn.Conv2d):
    """A convolution with strides; on CPUs in fp32 where it leaves a single column.

    There oneDNN's bf16 for processors with AMX reads memory that nobody wrote, and gives numbers of any size, or NaN: a strip of 1 x 5,000 px.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or input.shape[-1] > self.stride[1] or not (torch.is_autocast_enabled("cpu") or input.dtype != torch.float32):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.float()
            out: Tensor = self._conv_forward(input.float(), self.weight.float(), bias)
        return out.to(input.dtype)


class _Circular(nn.Conv2d):
    """A convolution that goes on beyond the last column with the first; beyond the rows there are zeros."""

    def forward(self, input: Tensor) -> Tensor:
        rows, columns = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        wanted = torch.is_grad_enabled() and input.requires_grad
        x: Tensor = _Around.apply(input, columns) if wanted else _around(input, columns)  # type: ignore[no-untyped-call]
        return functional.conv2d(x, self.weight, self.bias, self.stride, (rows, 0))


def _around(x: Tensor, columns: int) -> Tensor:
    """The last columns before the first and the first after the last. Unlike torch's circular padding, it keeps channels last."""
    return torch.cat([x[..., -columns:], x, x[..., :columns]], dim=-1) if columns else x


class _Around(torch.autograd.Function):
    """`_around` whose way back is one copy: torch's own would fill and add three of the size of x, a quarter of a training step."""

    @staticmethod
    def forward(x: Tensor, columns: int) -> Tensor:
        return _around(x, columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.columns = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        columns, grad = ctx.columns, grads[0]
        inner = grad[..., columns : grad.shape[-1] - columns].clone()
        if columns:
            inner[..., -columns:] += grad[..., :columns]
            inner[..., :columns] += grad[..., -columns:]
        return inner, None


class _Blocks(nn.ModuleList):
    """The residual blocks of one level, the first of which changes the width."""

    def __init__(self, lattice: Lattice, width: int, out: int, embedding: int, groups: int, blocks: int) -> None:
        super().__init__(_Block(lattice, width if j == 0 else out, out, embedding, groups) for j in range(blocks))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self:
            x = block(x, e)
        return x


class _Block(nn.Module):
    """Residual block whose second half is scaled and shifted by the severity's embedding; it starts as the identity."""

    def __init__(self, lattice: Lattice, width: int, out: int, embedding: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _Norm(math.gcd(groups, width), width)
        self.conv1 = lattice.convolution(width, out)
        self.film = nn.Linear(embedding, 2 * out)
        self.norm2 = _Norm(groups, out)
        self.conv2 = lattice.convolution(out, out)
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.film(e)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(functional.silu(self.norm2(h) * (1 + scale) + shift))
        out: Tensor = self.skip(x) + h
        return out


class _Norm(nn.GroupNorm):
    """GroupNorm, in half precision on CPUs by way of fp32 where its groups are thin.

    torch's kernel for channels-last runs value by value where a group's channels do not fill a vector register: bf16 groups of 4 channels took 17
    times as long as the same values in another layout, half of a whole call.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or input.dtype not in (torch.bfloat16, torch.float16) or self.num_channels >= _WIDE * self.num_groups:
            return super().forward(input)
        weight, bias = self.weight.float(), self.bias.float()
        return functional.group_norm(input.float(), self.num_groups, weight, bias, self.eps).to(input.dtype)


class _Attention(nn.Module):
    """Self-attention over all positions, heads of 32 channels; it starts as the identity."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.heads = max(width // 32, 1) if width % max(width // 32, 1) == 0 else 1
        self.norm = _Norm(groups, width)
        self.qkv = nn.Conv2d(width, 3 * width, 1)
        self.out = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        y = functional.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(b, c, h, w)
        out: Tensor = x + self.out(y)
        return out


class _Fourier(nn.Module):
    """sin and cos of t at octaves from half a turn to 64 turns over [0, 1]."""

    frequency: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequency", 2 * math.pi * torch.logspace(-1, 6, width // 2, base=2), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequency
        return torch.cat([angle.sin(), angle.cos()], dim=1)
