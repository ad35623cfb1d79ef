"""A newcomer's own parts: one file, seven lines, and the command line knows it."""

import subprocess
import sys
from pathlib import Path

import pytest

SEPIA = (Path(__file__).parents[1] / "plugins" / "my_sepia.txt").read_text(encoding="utf-8")

NET = '''
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snowmelt import Backbone, register


class Three(nn.Module):
    def __init__(self, a: int, b: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(a + 1, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(),
                                    nn.Conv2d(width, b, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t.to(x.dtype)[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1))


@register("three")
@dataclass(frozen=True)
class ThreeConvolutions(Backbone):
    """Three convolutions."""
    width: int = 8

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        return Three(in_channels, out_channels, self.width)
'''


@pytest.fixture(scope="module")
def sepia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "my_sepia.py"
    path.write_text(SEPIA)
    return path


def test_describe_train_and_restore_a_degradation_of_ones_own(cli, sepia: Path, tmp_path: Path, draw_picture, plain) -> None:
    described = cli("describe", "sepia", "--plugin", sepia)
    assert described.code == 0, described.err
    assert "warm grey" in described.out
    assert "[0, 1]" in described.out
    assert "sepia" in cli("list", "--plugin", sepia).out
    for i in range(6):
        draw_picture(tmp_path / "in" / f"{i}.png", seed=i, colour=True)
    assert (
        cli("degrade", tmp_path / "in" / "0.png", "--degradation", "sepia:warmth=.5", "--plugin", sepia, "--out", tmp_path / "s.png").code
        == 0
    )
    run = tmp_path / "run"
    trained = cli("train", "--data", tmp_path / "in", "--degradation", "sepia:warmth=0.8", "--plugin", sepia, "--out", run, *plain)
    assert trained.code == 0, trained.err
    assert f"--plugin {sepia}" in trained.out
    restored = cli("restore", "--model", run, tmp_path / "in", "--severity", "1", "--plugin", sepia, "--out", tmp_path / "out")
    assert restored.code == 0, restored.err
    assert len(list((tmp_path / "out").glob("*.png"))) == 6
    forgotten = subprocess.run(
        [sys.executable, "-m", "snowmelt", "restore", "--model", str(run), str(tmp_path / "in"), "--severity", "1", "--out", str(tmp_path / "no")],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert forgotten.returncode == 2
    assert "unknown degradation 'sepia'" in forgotten.stderr
    assert "--plugin FILE" in forgotten.stderr
    assert forgotten.stderr.count("\n") == 1


def test_its_fields_are_checked_like_any_other(cli, sepia: Path, tmp_path: Path, draw_picture) -> None:
    image = draw_picture(tmp_path / "a.png", colour=True)
    for spec, says in (("sepia:warmth=2", "sepia.warmth = 2 lies outside [0, 1]"), ("sepia:warmpth=1", "did you mean 'warmth'?")):
        done = cli("degrade", image, "--degradation", spec, "--plugin", sepia, "--out", tmp_path / "s.png")
        assert done.code == 2
        assert says in done.error


def test_train_a_backbone_of_ones_own(cli, tmp_path: Path, folder: Path, plain) -> None:
    net, run = tmp_path / "net.py", tmp_path / "run"
    net.write_text(NET)
    words = [w if not str(w).startswith("unet") else "three:width=6" for w in plain]
    done = cli("train", "--data", "bundled:digits", "--degradation", "gaussian-blur:sigma_px=2", "--plugin", net, "--out", run, *words)
    assert done.code == 0, done.err
    assert cli("restore", "--model", run, folder, "--severity", "1", "--plugin", net, "--out", tmp_path / "out").code == 0
