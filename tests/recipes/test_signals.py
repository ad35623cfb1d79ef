"""Sound and scans through the whole house: what a recipe says of them, what is refused, what the model remembers."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch

from snowmelt.data.options import DataOptions
from snowmelt.model import load
from snowmelt.recipes import run as runs
from snowmelt.recipes.recipe import Recipe, from_table
from snowmelt.recipes.run import require_signal
from snowmelt.registry import build
from snowmelt.signals import PICTURE, Scan, Sound

WAVES = "wave-unet:widths=(8,8),patch=4,groups=4,attention=false"
SENSOR = "scan:rings=8,azimuths=32,up_deg=2,down_deg=-12"
RINGS = "ring-unet:widths=(8,8),rows=2,columns=2,groups=4,attention=false"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for i in range(16):
        soundfile.write(folder / f"{i:02d}.wav", 0.1 * np.sin(2 * np.pi * (100 + 37 * i) * np.arange(900) / 4000), 4000)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    around = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    for i in range(16):
        image = np.stack([10 + 3 * np.sin(around + i) + np.arange(8)[:, None], np.full((8, 32), 0.4)], -1)
        np.save(folder / f"{i:02d}.npy", image.astype(np.float32))
    return folder


def recipe(path, degradation, backbone, **data):
    training = {"images": 32, "batch": 4, "validate_every": 16, "validation_images": 2}
    evaluation = {"images": 2, "batch": 2, "samplers": ["tacos"], "calls": [2], "severities": 2}
    return from_table(
        {
            "degradation": degradation,
            "data": {"path": str(path), "validation": 0.2, "test": 0.2, **data},
            "model": {"backbone": backbone},
            "training": training,
            "evaluation": evaluation,
        }
    )


@pytest.fixture(scope="module")
def sounds(recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "sound"
    runs.train(recipe(recordings, "packet-loss:packet=40", WAVES, window=256), out)
    return out


def test_a_model_of_sound_knows_its_rate_and_is_not_rounded(sounds):
    model = load(sounds)
    assert model.signal == Sound(rate_hz=4000)
    assert model.input == "float"
    assert model.restorer.shape == (1, 256)


def test_a_model_of_sound_is_judged_by_what_sound_is_judged_by(sounds):
    report = runs.evaluate(sounds)
    row = next(row for row in report.rows if row["kind"] == "direct")
    assert {"si_sdr", "lsd", "segmental_snr", "rmse"} <= row.keys()
    assert not {"psnr", "ssim"} & row.keys()
    page = (sounds / "report.html").read_text(encoding="utf-8")
    assert "<audio" in page
    assert "picture" not in report.facts


def test_recordings_at_another_rate_are_brought_to_the_model_s(sounds, recordings, tmp_path):
    for path in sorted(recordings.iterdir()):
        samples, rate = soundfile.read(path)
        soundfile.write(tmp_path / path.name, np.repeat(samples, 2), 2 * rate)
    report = runs.evaluate(sounds, path=str(tmp_path), out=tmp_path / "report")
    assert report.rows


def test_a_model_of_sound_is_not_judged_by_scans(sounds, scans, tmp_path):
    for path in scans.iterdir():
        points = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32) * 10
        points.tofile(tmp_path / f"{path.stem}.bin")
    with pytest.raises(ValueError, match=r"means nothing for scans"):
        runs.evaluate(sounds, path=str(tmp_path), out=tmp_path / "report")


def test_a_model_of_scans_through_the_house(scans, tmp_path):
    runs.train(recipe(scans, "beam-drop:beams=4,rings=8", RINGS, turn=True, flip=True, sensor=SENSOR), tmp_path)
    model = load(tmp_path)
    assert isinstance(model.signal, Scan)
    assert (model.signal.rings, model.signal.azimuths) == (8, 32)
    report = runs.evaluate(tmp_path)
    row = next(row for row in report.rows if row["kind"] == "direct")
    assert {"mae_m", "rmse_m", "chamfer_m", "return_error"} <= row.keys()


def test_the_next_scan_from_the_one_before(scans, tmp_path):
    following = recipe(scans, "morph:schedule=linear", RINGS, endpoint="previous", pairs=True, sensor=SENSOR)
    runs.train(following, tmp_path)
    assert isinstance(load(tmp_path).signal, Scan)


def test_what_does_not_go_together_is_refused(recordings, scans):
    with pytest.raises(ValueError, match=r"low-pass degrades recordings, and .* holds scans"):
        runs.make_trainer(recipe(scans, "low-pass", RINGS, sensor=SENSOR), "unused")
    with pytest.raises(ValueError, match=r"beam-drop.* degrades scans, and .* holds recordings"):
        runs.make_trainer(recipe(recordings, "beam-drop", WAVES, window=256), "unused")
    sound = recipe(recordings, "low-pass", WAVES, window=256)
    with pytest.raises(ValueError, match=r"model\.input = 8bit is for pictures"):
        runs.make_trainer(dataclasses.replace(sound, model=dataclasses.replace(sound.model, input="8bit")), "unused")
    with pytest.raises(ValueError, match=r"severity_images"):
        runs.make_trainer(dataclasses.replace(sound, training=dataclasses.replace(sound.training, severity_images=10)), "unused")


def test_unfolded_and_penalised_trainings_run_and_resume_to_the_same_weights(recordings, tmp_path):
    base = recipe(recordings, "background", WAVES, window=512)
    options = dataclasses.replace(base.training, unfold=True, penalty="frequency", images=16, validate_every=8)
    whole = dataclasses.replace(base, training=options)
    one = runs.train(whole, tmp_path / "one")
    trainer = runs.make_trainer(whole, tmp_path / "two")
    trainer.resume()
    trainer._begin(None)
    for _ in range(2):
        trainer._advance(type("Quiet", (), {"done": 0, "advance": lambda self, n, **said: None})())
    trainer.save(validate=False)
    (tmp_path / "two" / "recipe.toml").write_text((tmp_path / "one" / "recipe.toml").read_text())
    two = runs.train(whole, tmp_path / "two")
    assert one.estimates == "penalised"
    for a, b in zip(one.restorer.state_dict().values(), two.restorer.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_pictures_are_what_a_model_is_made_of_if_nothing_else_is_said():
    assert runs.make_model(from_table({"degradation": "noise"}), (1, 8, 8)).signal == PICTURE


@pytest.mark.parametrize(
    ("spec", "way_out"),
    [
        ("beam-drop:beams=16", r"sensor of 64 rings, .* in drive are of one of 16: write beam-drop:beams=4,rings=16$"),
        ("fog:visibility_m=50", r"sensor of 80 m, .* in drive are of one of 100: write fog:.*farthest_m=100"),
        ("choice:parts=(ray-drop,range-noise)", r"^range-noise.* sensor of 80 m, .*: write range-noise:.*farthest_m=100"),
    ],
)
def test_a_degradation_of_another_sensor_is_refused_with_the_one_to_write(spec: str, way_out: str) -> None:
    scan = Scan(16, 64, 15.0, -15.0, farthest_m=100.0)
    own = Recipe(degradation=spec, data=DataOptions(path="drive"))
    with pytest.raises(ValueError, match=way_out) as told:
        require_signal(build(spec), scan, own)
    again = str(told.value).rpartition("write ")[2]
    require_signal(build(again), scan, own)


def test_halving_that_leads_nowhere_is_said() -> None:
    with pytest.raises(ValueError, match=r"no halving leads on from the 15 of the scans"):
        require_signal(build("beam-drop"), Scan(15, 64, 15.0, -15.0), Recipe(degradation="beam-drop", data=DataOptions(path="drive")))
