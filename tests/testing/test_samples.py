"""What degradations are checked on keeps the conventions of its signal, and is chosen by what the degradation takes."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.registry import build
from snowmelt.signals import Picture, Scan, Sound
from snowmelt.testing import astray, check_degradation, examine
from snowmelt.testing.samples import recordings, rings_of, samples, scans, shape_for, signal_of
from snowmelt.types import Draw


@dataclass(frozen=True)
class Fades(Degradation):
    """Fades recordings, correctly."""

    @property
    def takes(self) -> str:
        return "sound"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        if x.ndim != 3:
            raise ValueError("recordings only")
        return (1 - t) * x


class StereoOnly(Fades):
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        if x.shape[1] != 2:
            raise ValueError("stereo only")
        return super().degrade(x, t, z)


class Refuses(Fades):
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        raise RuntimeError("nothing will do")


class ShiftsItsMean(Fades):
    """Wrong where a mean is taken over the batch."""

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return super().degrade(x, t, z) + t * x.mean(0, keepdim=True)


def test_recordings_are_of_one_loudness_and_go_from_noise_to_tone():
    x = recordings(64, (2, 2000))
    assert x.square().mean((1, 2)).sqrt().numpy() == pytest.approx(Sound().level)
    spectrum = torch.fft.rfft(x).abs().square().sum(1)
    peaks = spectrum.topk(40).values.sum(1) / spectrum.sum(1)
    share = torch.arange(64) * (math.sqrt(5) - 1) / 2 % 1
    assert torch.corrcoef(torch.stack([peaks, share.double()]))[0, 1] > 0.5
    assert torch.equal(x, recordings(64, (2, 2000)))


def test_scans_say_the_same_in_range_reflectance_and_return():
    x = scans(16, (3, 32, 64))
    distance, reflectance, back = x.unbind(1)
    assert set(back.unique().tolist()) == {-1.0, 1.0}
    assert ((distance == -1) & (reflectance == -1))[back == -1].all()
    metres = torch.expm1((distance + 1) / 2 * math.log1p(Scan().farthest_m))[back == 1]
    assert 1 < float(metres.min()) < float(metres.max()) <= 80
    assert 0.03 < float((back == -1).double().mean()) < 0.4
    low, high = distance[:, -4:][back[:, -4:] == 1], distance[:, :4][back[:, :4] == 1]
    assert low.mean() < high.mean(), "the ground is near below"


def test_samples_are_those_of_the_signal_that_is_taken():
    assert signal_of(build("grey")) is Picture
    assert signal_of(build("background+clipping")) is Sound
    assert signal_of(build("ray-drop")) is Scan
    assert shape_for(build("low-pass"), 1) == (1, 400)
    assert rings_of(build("beam-drop:beams=8,rings=32+range-noise")) == 32
    assert samples(build("beam-drop:beams=8,rings=32"), 2).shape == (2, 3, 32, 16)
    assert samples(build("low-pass"), 2, (1, 30)).shape == (2, 1, 30)


def test_one_of_sound_is_examined_on_sound_in_its_own_words():
    found = {f.name: f for f in examine(Fades())}
    assert all(f.passed is not False for f in found.values())
    assert "every recording is (0)" in found["end"].seen
    assert found["monotone"].measured["lost at 1"] == pytest.approx(1, abs=0.05)
    assert "identity" in check_degradation(StereoOnly())
    assert next(f for f in examine(ShiftsItsMean()) if f.name == "rows_independent").passed is False


def test_one_that_refuses_all_recordings_is_told_what_they_are():
    (finding,) = examine(Refuses())
    assert finding.passed is False
    assert "It must take recordings, mono or stereo," in finding.checked
    assert "(b, 1, n), or (b, 2, n)" in finding.advice
    assert "t arrives as (b, 1, 1)." in finding.advice
    assert "nothing will do" in finding.seen


def test_a_restorer_astray_errs_as_much_on_recordings():
    x = recordings(4, (2, 300))
    error = astray(x, 0.1)(x, torch.ones(4)) - x
    assert float(error.square().mean().sqrt()) == pytest.approx(0.1)
    torch.testing.assert_close(error[0], error[-1], rtol=0, atol=1e-12)
