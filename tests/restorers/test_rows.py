"""A restorer of samples (c, n): the same hub, on rows of samples."""

import json

import pytest
import torch

from snowmelt.degradations import GaussianNoise
from snowmelt.files import BadFile
from snowmelt.model import Model, load, save
from snowmelt.registry import SpecError, build
from snowmelt.restorers import Conditions, Residual, Restorer, Wiener
from snowmelt.restorers.backbones import Backbone
from snowmelt.signals import PICTURE, Scan, Sound

NET = "wave-unet:widths=(8,8),patch=4,groups=4,attention=false"


def restorer(shape=(1, 40), degradation="noise", **options):
    torch.manual_seed(0)
    made = Restorer(build(degradation), build(options.pop("net", NET), "backbone"), shape, **options)
    for weight in made.parameters():  # a fresh network says nothing
        torch.nn.init.normal_(weight, std=0.2)
    return made.eval()


def test_its_estimate_is_the_hub_s_and_other_lengths_are_taken():
    made = restorer(parameterization=build("v", "parameterization"))
    for n in (40, 33, 7):
        x, t = torch.randn(2, 1, n), torch.tensor([0.3, 0.8])
        alpha, sigma = (value[:, None, None] for value in GaussianNoise().schedule(t))
        torch.testing.assert_close(made(x, t), alpha * x - sigma * made.net(x, t))


def test_without_a_word_it_is_residual_and_wiener_is_refused():
    assert restorer().parameterization == Residual()
    with pytest.raises(SpecError, match=r"spectra of pictures \(c, h, w\), and these samples are \(1, 40\): use residual"):
        restorer(parameterization=Wiener())


def test_what_is_no_row_of_samples_is_refused():
    made = restorer()
    with pytest.raises(ValueError, match=r"samples \(c, n\) with c = 1; got a batch of shape \(2, 1, 8, 8\)"):
        made(torch.zeros(2, 1, 8, 8), torch.ones(2))
    with pytest.raises(ValueError, match=r"\(c, n\) with c = 1; got a batch of shape \(2, 2, 40\)"):
        made(torch.zeros(2, 2, 40), torch.ones(2))


class Plain(Backbone):
    """A network of one convolution, which embeds nothing."""

    def build(self, in_channels, out_channels):
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.one = torch.nn.Conv1d(in_channels, out_channels, 3, padding=1)

            def forward(self, x, t):
                return self.one(x) * t[:, None, None]

        return Net()


@pytest.mark.parametrize("plain", [False, True])
def test_conditions_reach_networks_that_embed_and_those_that_do_not(plain):
    made = Restorer(build("noise"), Plain() if plain else build(NET, "backbone"), (1, 40), conditions=Conditions(classes=3, image=1)).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    x, t = torch.randn(2, 1, 40), torch.ones(2)
    known = [made(x, t, {"label": torch.full((2,), label)}) for label in (0, 1)]
    assert not torch.allclose(*known)
    assert not torch.allclose(known[0], made(x, t, {"label": torch.zeros(2).long(), "image": torch.randn(2, 1, 40)}))


def test_a_model_of_sound_is_saved_and_loaded_with_its_signal(tmp_path):
    signal = Sound(rate_hz=16_000)
    save(Model(build("noise"), restorer(), signal=signal), tmp_path)
    found = load(tmp_path)
    assert found.signal == signal
    x, t = torch.randn(2, 1, 30), torch.tensor([0.2, 0.9])
    torch.testing.assert_close(found.restorer(x, t), restorer()(x, t))


def test_a_model_of_pictures_says_nothing_of_signals_and_loads_as_one(tmp_path):
    save(Model(build("noise"), restorer((1, 8, 8), net="unet:widths=(8,8),groups=4")), tmp_path)
    assert "signal" not in json.loads((tmp_path / "model.json").read_text())
    assert load(tmp_path).signal == PICTURE


@pytest.mark.parametrize("signal", [{"name": "sound", "rate_hz": 3}, {"name": "smell"}, {"name": "scan", "rings": 2, "elevations_deg": [1.0]}, 7])
def test_a_hostile_signal_is_refused(tmp_path, signal):
    save(Model(build("noise"), restorer(), signal=Sound()), tmp_path)
    path = tmp_path / "model.json"
    said = json.loads(path.read_text())
    del said["seal"]
    path.write_text(json.dumps({**said, "signal": signal}))
    with pytest.raises((BadFile, SpecError), match=r"sound\.rate_hz = 3|smell|elevations_deg has 1|7"):
        load(tmp_path)


def test_sensors_are_checked():
    assert Scan(rings=3, up_deg=2, down_deg=-2).beams_deg == (2.0, 0.0, -2.0)
    with pytest.raises(SpecError, match="not downwards"):
        Scan(up_deg=-5, down_deg=5)
    with pytest.raises(SpecError, match=r"has 2 beams, scan\.rings = 64"):
        Scan(elevations_deg=(1.0, 0.0))
    assert build("scan:rings=32,up_deg=10.67,down_deg=-30.67", "signal") == Scan(rings=32, up_deg=10.67, down_deg=-30.67)
