"""Generated samples as files: what was written is what is read."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.registry import build
from snowmelt.restoration import sample_folder
from snowmelt.restoration.outlets import read, write
from snowmelt.restoration.sampling import pack
from snowmelt.restoration.sheet import write_sheets
from snowmelt.restorers import Conditions, Restorer, UNet
from snowmelt.sensor import encode
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.types import EMPTY, Batch, Draw, Severity

SCAN, SOUND = Scan(rings=8, azimuths=32), Sound(rate_hz=4000)
SHAPES = {"sound": (1, 512), "scan": (3, 8, 32)}


class Still(Restorer):
    """Answers a little of what it sees."""

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        return x_t * 0.2, None


def model(signal: Signal) -> Model:
    shape, D = SHAPES[signal.name], build("noise")
    inner = UNet(widths=(8,), blocks=1) if signal == SCAN else build("wave-unet", "backbone")
    return Model(D, Still(D, inner, shape, conditions=Conditions(classes=2)).eval(), Normal(shape), signal=signal)


def test_sound_keeps_its_loudness_unless_it_would_hurt(tmp_path: Path) -> None:
    x = 0.1 * torch.sin(torch.arange(4000) / 7)[None]
    write(tmp_path / "a.wav", x, SOUND)
    assert soundfile.info(tmp_path / "a.wav").samplerate == 4000
    assert torch.allclose(read(tmp_path / "a.wav", SOUND), x, atol=1e-4)
    write(tmp_path / "b.wav", 1000 * x, SOUND)
    assert float(read(tmp_path / "b.wav", SOUND).square().mean().sqrt()) == pytest.approx(0.25, abs=0.01)


def test_scans_come_back_and_so_does_one_without_returns(tmp_path: Path) -> None:
    r = torch.rand(8, 32) * 50 + 2
    x = encode(r, torch.rand(8, 32), SCAN)
    write(tmp_path / "a.bin", x, SCAN)
    assert torch.allclose(read(tmp_path / "a.bin", SCAN), x, atol=1e-4)
    write(tmp_path / "b.bin", torch.full_like(x, -1), SCAN)
    assert torch.equal(read(tmp_path / "b.bin", SCAN), torch.full_like(x, -1))


@pytest.mark.parametrize(("signal", "suffix"), [(SOUND, ".wav"), (SCAN, ".bin"), (PICTURE, ".png")])
def test_nothing_is_written_of_what_diverged(tmp_path: Path, signal: Signal, suffix: str) -> None:
    with pytest.raises(ValueError, match="NaN"):
        write(tmp_path / f"a{suffix}", torch.full(SHAPES.get(signal.name, (1, 8, 8)), math.nan), signal)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("signal", "suffix"), [(SOUND, "wav"), (SCAN, "bin")])
def test_a_set_of_another_signal_goes_on_is_packed_and_drawn(tmp_path: Path, signal: Signal, suffix: str) -> None:
    how = {"sampler": "ancestral:steps=2", "batch": 2}
    own = model(signal)
    assert sample_folder(own, tmp_path, n=3, **how).done == 3  # type: ignore[arg-type]
    first = (tmp_path / f"sample_0001.{suffix}").read_bytes()
    (tmp_path / f"sample_0001.{suffix}").unlink()
    made = sample_folder(own, tmp_path, n=3, **how)  # type: ignore[arg-type]
    assert (made.done, made.kept, made.missing()) == (1, 2, 0)
    assert (tmp_path / f"sample_0001.{suffix}").read_bytes() == first
    with np.load(pack(made)) as held:
        assert held["arr_0"].shape == (3, *SHAPES[signal.name])
        assert held["arr_0"].dtype == np.float32
        assert np.array_equal(held["arr_0"][2], made.read(2).numpy())
    sheets = ["grid.png", "grid.html"] if signal == SOUND else ["grid.png"]
    assert write_sheets(made, [range(3)]) == sheets
    assert write_sheets(made, [range(1), range(2, 3)], ["zero", "one"]) == sheets
    if signal == SOUND:
        html = (tmp_path / "grid.html").read_text()
        assert html.count("<audio") == 2
        assert "zero" in html
    with pytest.raises(ValueError, match="were made with another"):
        sample_folder(own, tmp_path, n=3, sampler="ancestral:steps=3", batch=2)
