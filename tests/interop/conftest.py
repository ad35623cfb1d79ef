"""Tiny networks of diffusers with random weights, as directories that diffusers itself wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import snowmelt.interop  # noqa: F401 - registered before a test takes its snapshot of the registry

NEEDED = "these tests hold snowmelt against diffusers, which is not installed: pip install 'snowmelt[test]'"
T, N = 12, 3
SIZES = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
SCHEDULE = {"num_train_timesteps": T, "beta_start": 0.001, "beta_end": 0.4, "clip_sample": False}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """A directory that diffusers wrote: written(sizes={...}, pipeline="DDPMPipeline", scheduler="DDPMScheduler", **settings of the scheduler)."""
    diffusers = pytest.importorskip("diffusers", reason=NEEDED)

    def write(sizes: dict[str, Any] | None = None, pipeline: str = "DDPMPipeline", scheduler: str = "DDPMScheduler", **settings: Any) -> Path:
        path = tmp_path / "theirs"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = diffusers.UNet2DModel(**{**SIZES, **(sizes or {})})
        said = {**SCHEDULE, **settings}
        if scheduler == "PNDMScheduler":
            del said["clip_sample"]
        getattr(diffusers, pipeline)(net, getattr(diffusers, scheduler)(**said)).save_pretrained(path)
        return path

    return write


@pytest.fixture
def changed(written: Callable[..., Path]) -> Callable[..., Path]:
    """Such a directory with entries of one of its JSON files changed: changed("unet/config.json", in_channels=2)."""

    def change(file: str, **entries: Any) -> Path:
        path = written()
        table = json.loads((path / file).read_text())
        (path / file).write_text(json.dumps({**table, **entries}))
        return path

    return change


@pytest.fixture
def pipeline() -> Callable[[Path], Any]:
    """Plain diffusers.DDPMPipeline.from_pretrained, without its bars."""
    diffusers = pytest.importorskip("diffusers", reason=NEEDED)

    def load(path: Path, kind: str = "DDPMPipeline") -> Any:
        made = getattr(diffusers, kind).from_pretrained(path)
        made.set_progress_bar_config(disable=True)
        return made

    return load


@pytest.fixture
def theirs() -> Callable[..., torch.Tensor]:
    """The samples of a pipeline before it clips them for showing: its network and its scheduler, in its own order of draws."""

    def walk(pipe: Any, steps: int, seed: int = 7, **options: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        size = pipe.unet.config.sample_size
        x = torch.randn(N, pipe.unet.config.in_channels, *((size, size) if isinstance(size, int) else size), generator=generator)
        pipe.scheduler.set_timesteps(steps)
        with torch.no_grad():
            for t in pipe.scheduler.timesteps:
                x = pipe.scheduler.step(pipe.unet(x, t).sample, t, x, generator=generator, **options).prev_sample
        return x

    return walk


@pytest.fixture
def close() -> Callable[[torch.Tensor, torch.Tensor], None]:
    """To 1e-5 of the largest value: a random network that predicts noise sends some walks far beyond [-1, 1]."""

    def compare(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(1.0, float(b.abs().max())))

    return compare
