"""A small classifier whose last layer but one tells pictures apart: features without a download.

A convolution of 5 x 5 with stride 2, then four of 3 x 3 with two maximum poolings (16, 8, 4, 4 px for pictures of 32 px), the mean over each quarter
of what is left, one layer of `dims` rectified features, one linear layer to the classes. Trained with batch normalisation, which
:meth:`Classifier.folded` multiplies into the convolutions: the network that is stored and used has none, so a picture's features do not depend
on the batch it comes in.

Source: Simonyan and Zisserman 2015 (arXiv 1409.1556) for stacks of 3 x 3; Ioffe and Szegedy 2015 (arXiv 1502.03167) for the normalisation.
"""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from snowmelt.types import Batch


class Classifier(nn.Module):
    """Pictures (b, c, h, w) in [-1, 1] to features (b, dims) and logits (b, classes).

    Args:
        channels: c.
        classes: how many.
        widths: channels of the convolutions.
        dims: features.
        normalised: with batch normalisation, for training.
    """

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int] = (24, 48, 96, 96, 128), dims: int = 128, *, normalised: bool = False
    ) -> None:
        super().__init__()
        self.widths, self.dims = tuple(widths), dims
        units: list[_Unit] = []
        before = channels
        for width in widths:
            conv = nn.Conv2d(before, width, 3, padding=1) if units else nn.Conv2d(before, width, 5, stride=2, padding=2)
            units.append(_Unit(conv, nn.BatchNorm2d(width) if normalised else nn.Identity()))
            before = width
        self.convolutions = nn.ModuleList(units)
        self.embed = _Unit(nn.Linear(4 * before, dims), nn.BatchNorm1d(dims) if normalised else nn.Identity())
        self.head = nn.Linear(dims, classes)

    def features(self, x: Batch) -> Tensor:
        """(b, dims), at least 0."""
        for i, unit in enumerate(self.convolutions):
            x = unit(x)
            if i in (1, 2):
                x = nn.functional.max_pool2d(x, 2, ceil_mode=True)
        # Quarters, not one mean: where a stroke lies is part of what a picture is.
        embedded: Tensor = self.embed(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return embedded

    def forward(self, x: Batch, kept: Tensor | None = None) -> Tensor:
        """The logits (b, classes); in training the features are first multiplied by `kept` (b, dims), which leaves some of them out."""
        features = self.features(x)
        logits: Tensor = self.head(features if kept is None else features * kept)
        return logits

    @torch.no_grad()
    def folded(self) -> Self:
        """The same function in evaluation, without normalisation, its weights rounded to what float16 holds."""
        plain: Self = copy.deepcopy(self).eval()
        plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for unit in (*plain.convolutions, plain.embed):
            assert isinstance(unit, _Unit)  # noqa: S101 - there are no others
            unit.fold()
        for parameter in plain.parameters():
            parameter.copy_(parameter.half().float())
        plain.requires_grad_(False)
        return plain


class _Unit(nn.Module):
    """A linear map, perhaps its normalisation, and the rectifier."""

    def __init__(self, linear: nn.Conv2d | nn.Linear, norm: nn.Module) -> None:
        super().__init__()
        self.linear: nn.Module = linear
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.norm(self.linear(x)), inplace=True)

    def fold(self) -> None:
        if isinstance(self.linear, nn.Conv2d) and isinstance(self.norm, nn.BatchNorm2d):
            self.linear = fuse_conv_bn_eval(self.linear, self.norm)
        elif isinstance(self.linear, nn.Linear) and isinstance(self.norm, nn.BatchNorm1d):
            self.linear = fuse_linear_bn_eval(self.linear, self.norm)
        self.norm = nn.Identity()
