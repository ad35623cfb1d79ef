r"""The U-Net of diffusers as a backbone: ``UNet2DModel`` called as net(x, t).

Its fields have the names they have in diffusers' ``config.json`` and mean the same. Severity becomes diffusers' timestep, which counts from 0:

.. math:: t = i / T \;\mapsto\; i - 1, \qquad T = \texttt{steps}.

Its sinusoidal embedding takes any real number, so a t between two knots gets the timestep between theirs; below 1/T it is that of 1/T. Sides that
are no multiple of 2^(levels - 1) are padded by repeating the last row and column, and cut again.

The last layer starts at zero, as in DDPM, so that a fresh restorer is its skip connection.

Source: Ho et al. 2020 (arXiv 2006.11239), appendix B, for the network; diffusers (Apache-2.0) for this implementation of it.
"""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.registry import Range, SpecError, register
from snowmelt.restorers import Backbone
from snowmelt.schedules import knot
from snowmelt.types import Batch, Severity

Down = Literal["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]
Up = Literal["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]
_MOST_LEVELS = 8


@register("diffusers-unet2d", papers=("ho2020", "vonplaten2022"))
@dataclass(frozen=True)
class DiffusersUNet2D(Backbone):
    """The U-Net of diffusers (UNet2DModel). Its fields are those of its config.json; needs the extra snowmelt[diffusers]."""

    steps: Annotated[int, Range(1, 100_000), "T: severity i/T is diffusers' timestep i - 1; as many as the schedule betas has"] = 1000
    block_out_channels: Annotated[tuple[int, ...], Range(4, 4096), "channels per level"] = (64, 128, 128)
    layers_per_block: Annotated[int, Range(1, 16), "residual blocks per level on the way down"] = 2
    down_block_types: Annotated[tuple[Down, ...], "one a level; none for attention at the coarsest level only"] = ()
    up_block_types: Annotated[tuple[Up, ...], "one a level, the coarsest first; none for those that mirror the way down"] = ()
    mid_block_type: Literal["UNetMidBlock2D"] | None = "UNetMidBlock2D"
    add_attention: Annotated[bool, "attention in the middle block"] = True
    attention_head_dim: Annotated[int | None, Range(1, 4096), "channels a head; none for one head"] = 8
    norm_num_groups: Annotated[int, Range(1, 4096)] = 32
    attn_norm_num_groups: Annotated[int | None, Range(1, 4096)] = None
    norm_eps: Annotated[float, Range(1e-12, 1)] = 1e-5
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    dropout: Annotated[float, Range(0, 1)] = 0.0
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    time_embedding_dim: Annotated[int | None, Range(4, 65_536)] = None
    freq_shift: Annotated[int, Range(0, 1)] = 0
    flip_sin_to_cos: bool = True
    center_input_sample: bool = False
    downsample_padding: Annotated[int, Range(0, 1)] = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    mid_block_scale_factor: Annotated[float, Range(1e-3, 1e3)] = 1.0
    embeds: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the fields, and that they are sizes of one network.

        Raises:
            SpecError: they are not: a width that the groups do not divide, say, or as many block types as there are no levels.
        """
        super().__post_init__()
        widths, levels = self.block_out_channels, len(self.block_out_channels)
        if not 1 <= levels <= _MOST_LEVELS:
            raise SpecError(f"diffusers-unet2d.block_out_channels has {levels} levels: give 1 to {_MOST_LEVELS}")
        for name in ("down_block_types", "up_block_types"):
            if len(getattr(self, name)) not in (0, levels):
                raise SpecError(f"diffusers-unet2d.{name} has {len(getattr(self, name))} entries for {levels} levels: give one a level, or none")
        if any(width % self.norm_num_groups for width in widths):
            groups = f"norm_num_groups = {self.norm_num_groups}"
            raise SpecError(f"diffusers-unet2d.block_out_channels = {widths} must each be a multiple of {groups}: give fewer groups")
        if self.attn_norm_num_groups is not None and widths[-1] % self.attn_norm_num_groups:
            raise SpecError(f"diffusers-unet2d.attn_norm_num_groups = {self.attn_norm_num_groups} does not divide the last width, {widths[-1]}")
        narrowest = min(self._attended(), default=None)
        if narrowest is not None and self.attention_head_dim is not None and self.attention_head_dim > narrowest:
            raise SpecError(f"diffusers-unet2d.attention_head_dim = {self.attention_head_dim} exceeds {narrowest}, a width with attention")

    @property
    def multiple(self) -> int:
        """What both sides must be a multiple of, in px; other sizes are padded."""
        return int(2 ** (len(self.block_out_channels) - 1))

    def _attended(self) -> list[int]:
        """The widths of the levels that have attention."""
        widths, config = self.block_out_channels, self.config(1, 1)
        levels = [*zip(config["down_block_types"], widths, strict=True), *zip(config["up_block_types"], reversed(widths), strict=True)]
        middle = [widths[-1]] if self.add_attention and self.mid_block_type is not None else []
        return [width for kind, width in levels if kind.startswith("Attn")] + middle

    def build(self, in_channels: int, out_channels: int, features: int = 0) -> nn.Module:
        """The network; with `features`, a linear map of them is added to the embedding of the severity.

        Raises:
            SpecError: diffusers is not installed.
        """
        return _UNet2D(self, in_channels, out_channels, features)

    def config(self, in_channels: int, out_channels: int) -> dict[str, Any]:
        """The entries of diffusers' config.json that make this network, but for sample_size."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "steps"}
        down: list[str] = list(self.down_block_types) or ["DownBlock2D"] * (len(self.block_out_channels) - 1) + ["AttnDownBlock2D"]
        mirrored = {"DownBlock2D": "UpBlock2D", "AttnDownBlock2D": "AttnUpBlock2D", "ResnetDownsampleBlock2D": "ResnetUpsampleBlock2D"}
        up: list[str] = list(self.up_block_types) or [mirrored[kind] for kind in reversed(down)]
        made = {"block_out_channels": list(self.block_out_channels), "down_block_types": down, "up_block_types": up}
        return {**own, **made, "in_channels": in_channels, "out_channels": out_channels, "time_embedding_type": "positional"}


class _UNet2D(nn.Module):
    """UNet2DModel under the name `unet`, called with severities."""

    def __init__(self, size: DiffusersUNet2D, in_channels: int, out_channels: int, features: int) -> None:
        super().__init__()
        config = size.config(in_channels, out_channels)
        width = size.time_embedding_dim or 4 * size.block_out_channels[0]
        self.steps, self.multiple = size.steps, size.multiple
        self.unet = _network()(**config, class_embed_type="identity" if features else None)
        self.told = nn.Linear(features, width) if features else None
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)

    def forward(self, x: Batch, t: Severity, c: Tensor | None = None) -> Tensor:
        h, w = x.shape[-2:]
        right, below = -w % self.multiple, -h % self.multiple
        if right or below:
            x = functional.pad(x, (0, right, 0, below), mode="replicate")
        told = None if self.told is None or c is None else self.told(c.to(x.dtype))
        out: Tensor = self.unet(x, timestep(t, self.steps), told, return_dict=False)[0]
        return out[..., :h, :w]


def timestep(t: Severity, steps: int) -> Tensor:
    """Diffusers' timestep of severities t (b,): i - 1 at i/T exactly, in between at others, never below 0; float32."""
    below, on = knot(t, steps)
    return (below + on - 1).clamp(min=0).to(torch.float32)


def _network() -> Any:
    """UNet2DModel, imported only now.

    Raises:
        SpecError: diffusers is not installed, or does not import.
    """
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        why = " ".join(str(error).split())
        raise SpecError(f"diffusers-unet2d needs diffusers, which cannot be imported: pip install 'snowmelt[diffusers]' ({why})") from None
    return UNet2DModel
