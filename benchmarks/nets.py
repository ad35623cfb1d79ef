"""The networks that are measured beside ours, each of about as many parameters (within 10 %), called as net(x, t) with t (b,) in [0, 1].

Three levels of resolution everywhere. A peer that is not installed raises ImportError when it is made; `make bench` puts them into .venv-bench.
"""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import paper
import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt.restorers.backbones import UNet

LEAN, DIFFUSERS, LUCIDRAINS, AZULA, PAPER = (
    "snowmelt, lean U-Net",
    "diffusers, UNet2DModel",
    "denoising-diffusion-pytorch, Unet",
    "azula, UNet",
    "the paper's ConvNeXt U-Net",
)
CHANNELS = 3
WIDTHS, SMALL = (64, 96, 128), (16, 24)  # the small ones are for trying whether everything runs
_STEPS = 1000.0  # how finely the peers number severities
_STAND_INS = Path(__file__).parent / "stand_ins"


def lean(small: bool = False) -> nn.Module:
    """Ours: a patch of 2 px, widths 64, 96, 128, channels last as in every restorer."""
    return UNet(widths=SMALL if small else WIDTHS).build(CHANNELS, CHANNELS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def diffusers(small: bool = False) -> nn.Module:
    """Attention on the lowest level only, as ours."""
    from diffusers import UNet2DModel  # two seconds, and not everybody has it

    down, up = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D")
    widths = (32, 32, 32) if small else (32, 64, 128)
    net = UNet2DModel(32, CHANNELS, CHANNELS, block_out_channels=widths, down_block_types=down, up_block_types=up)
    return Called(net, lambda net, x, t: net(x, t * _STEPS).sample)


def lucidrains(small: bool = False) -> nn.Module:
    """With its linear attention on the upper levels and full attention on the lowest, as it comes."""
    with stand_ins():
        from denoising_diffusion_pytorch import Unet
    return Called(Unet(dim=8 if small else 40, dim_mults=(1, 2, 4), channels=CHANNELS), lambda net, x, t: net(x, t * _STEPS))


def azula(small: bool = False) -> nn.Module:
    """Its U-Net takes a vector of the severity: an embedding as in its tutorials."""
    with stand_ins():
        from azula.nn.unet import UNet as AzulaUNet
    net = AzulaUNet(CHANNELS, CHANNELS, hid_channels=(16, 16, 16) if small else (64, 96, 120), hid_blocks=(2, 2, 2), mod_features=256)
    return Called(nn.ModuleDict({"time": nn.Sequential(nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, 256)), "net": net}), _modulated)


def convnext(small: bool = False) -> nn.Module:
    """The paper's own, in `paper.py`."""
    return Called(paper.ConvNeXtUNet(CHANNELS, 8 if small else 32, (1, 2, 4)), lambda net, x, t: net(x, t * _STEPS))


MAKERS: dict[str, Callable[[bool], nn.Module]] = {LEAN: lean, DIFFUSERS: diffusers, LUCIDRAINS: lucidrains, AZULA: azula, PAPER: convnext}


def made(name: str, *, small: bool = False) -> nn.Module | None:
    """The network of that name; None where it is not installed. What begins at zero is begun small, so that every layer has work to do."""
    torch.manual_seed(0)
    try:
        net = MAKERS[name](small)
    except ImportError:
        return None
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return net


def parameters(net: nn.Module) -> float:
    """Millions of them."""
    return sum(p.numel() for p in net.parameters()) / 1e6


class Called(nn.Module):
    """A peer's network, called as ours is."""

    def __init__(self, net: nn.Module, call: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.call = net, call

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.call(self.net, x, t)


def _modulated(parts: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    out: Tensor = parts["net"](x, parts["time"](paper.waves(t * _STEPS, 64)))  # type: ignore[index]
    return out


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Within it, torchvision and accelerate can be imported: the real ones, or else stand-ins, which are forgotten afterwards."""
    before = set(sys.modules)
    sys.path.append(str(_STAND_INS))
    try:
        yield
    finally:
        sys.path.remove(str(_STAND_INS))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(str(_STAND_INS)):
                del sys.modules[name]


# --- what is timed -------------------------------------------------------------------------------------------


def batch(size: int, px: int) -> tuple[Tensor, Tensor]:
    """Random pictures and their severities."""
    g = torch.Generator().manual_seed(0)
    return torch.rand(size, CHANNELS, px, px, generator=g) * 2 - 1, torch.rand(size, generator=g)


def autocast(bf16: bool, device: str = "cpu") -> torch.autocast:
    """bf16 where it is asked for."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=bf16)


def step(net: nn.Module, x: Tensor, t: Tensor, *, bf16: bool, fused: bool) -> Callable[[], object]:
    """One training step: forward, squared error, backward, AdamW."""
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True) if fused else torch.optim.AdamW(net.parameters(), lr=1e-4)

    def go() -> None:
        with autocast(bf16, x.device.type):
            y = net(x, t)
        functional.mse_loss(y.float(), x).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return go


def call(net: nn.Module, x: Tensor, t: Tensor, *, bf16: bool) -> Callable[[], object]:
    """One network call, without gradients."""

    @torch.no_grad()
    def go() -> Tensor:
        net.eval()
        with autocast(bf16, x.device.type):
            out: Tensor = net(x, t)
        return out

    return go


def flops(way: Callable[[], object]) -> int:
    """Floating-point operations of one run: those of convolutions and matrix products, two for each multiplication and addition."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        way()
    return int(counter.get_total_flops())


PEAK_SHAPES = ((128, 32), (128, 16), (256, 16))  # channels, side in px: what the machine does best is its peak


def peaks(
    *, batch: int = 32, device: str = "cpu", shapes: Sequence[tuple[int, int]] = PEAK_SHAPES
) -> dict[str, tuple[Callable[[], object], int]]:
    """Plain 3 x 3 convolutions in bf16, channels last, and the operations of each: the fastest is the machine's peak."""
    out: dict[str, tuple[Callable[[], object], int]] = {}
    dtype = torch.bfloat16
    for channels, px in shapes:
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        x = torch.rand(batch, channels, px, px, device=device).to(dtype).to(memory_format=torch.channels_last)
        way = functools.partial(torch.inference_mode()(conv), x)
        out[f"convolution of {channels} channels at {px} px"] = way, 2 * 9 * channels**2 * batch * px**2
    return out
