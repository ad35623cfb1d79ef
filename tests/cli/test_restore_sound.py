"""``snowmelt restore`` with a model of sound, and what refuses sound."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from snowmelt.model import Model, save
from snowmelt.registry import build
from snowmelt.restorers import Restorer
from snowmelt.signals import Sound


def trained(spec: str, out: Path) -> Path:
    restorer = Restorer(degradation := build(spec, "degradation"), build("wave-unet", "backbone"), (1, 1024)).eval()
    save(Model(degradation, restorer, signal=Sound(8000)), out)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return trained("background", tmp_path_factory.mktemp("runs") / "noisy")


@pytest.fixture
def noisy(tmp_path) -> Path:
    soundfile.write(tmp_path / "noisy.wav", np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), 16_000)
    return tmp_path / "noisy.wav"


def test_one_recording_becomes_the_file_that_is_named(cli, run, noisy, tmp_path):
    words = ("restore", noisy, "--model", run, "--severity", "1", "--steps", "2", "--out", tmp_path / "clean.wav")
    done = cli(*words)
    assert done.code == 0, done.err
    assert f"restored 1 recording of 1 into {tmp_path / 'clean.wav'}" in done.out
    assert "1 recording has more than the 8,000 samples per second of the model: what lies above 4,000 Hz is lost" in done.err
    assert soundfile.info(tmp_path / "clean.wav").frames == 16_000
    assert f"1 recording already in {tmp_path} and left alone" in cli(*words).err


def test_a_folder_there_and_back_is_scored(cli, run, noisy, tmp_path):
    (noisy.parent / "bad.wav").write_bytes(b"no")
    done = cli("restore", noisy, noisy.parent / "bad.wav", "--model", run, "--degrade", "--steps", "2", "--out", tmp_path / "out")
    assert done.code == 1
    assert "noisy.wav: si-sdr degraded " in done.out
    assert "left out" in done.err
    assert (tmp_path / "out" / "degraded" / "noisy.wav").is_file()


def test_gaps_are_found_by_a_model_that_has_to_be_told(cli, noisy, tmp_path):
    model = trained("packet-loss", tmp_path / "gaps")
    done = cli("restore", noisy, "--model", model, "--severity", "1", "--steps", "2", "--out", tmp_path / "whole.flac")
    assert done.code == 0, done.err
    assert soundfile.info(tmp_path / "whole.flac").samplerate == 16_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("restore", "{noisy}"), "noisy.wav is a recording, and this model restores pictures"),
        (("restore", "{noisy}", "--model", "{run}", "--severity", "1", "--tile", "64"), "--tile is for pictures"),
        (("restore", "{noisy}", "--model", "{run}", "--severity", "1", "--enlarge", "2"), "--enlarge is for pictures"),
        (("edit", "{run}", "{noisy}", "--severity", ".5", "--out", "{out}"), "edit works on pictures, and this model was trained on recordings"),
        (("solve", "{run}", "{noisy}", "--operator", "gaussian-blur", "--out", "{out}"), "solve works on pictures"),
        (("translate", "{noisy}", "--model", "{run}", "--out", "{out}"), "translate works on pictures"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(cli, run, noisy, tmp_path, words, said):
    done = cli(*(word.format(noisy=noisy, run=run, out=tmp_path / "out") for word in words))
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_one_file_is_spoken_of_in_the_singular(cli, run, tmp_path):
    soundfile.write(tmp_path / "still.wav", np.zeros(4000), 8000)
    done = cli("restore", tmp_path / "still.wav", "--model", run, "--severity", "1", "--out", tmp_path / "out.wav")
    assert "1 recording is silent, and was copied" in " ".join(done.err.split())
