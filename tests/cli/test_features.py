"""``snowmelt train-features``: from labelled pictures to named features, or to one line that says why not."""

import json

import pytest
import torch

from snowmelt.metrics import load_features
from snowmelt.stopping import Stopped
from snowmelt.training import features

DIGITS = ("train-features", "--data", "bundled:digits", "--limit", "300", "--size", "16", "--epochs", "2")


def test_it_trains_saves_and_says_the_name_of_the_score(cli, tmp_path):
    out = cli(*DIGITS, "--name", "digits", "--out", tmp_path / "f")
    assert out.code == 0, out.err
    found = load_features(tmp_path / "f")
    assert found.score in out.out
    assert found.score.startswith("FD-digits-")
    assert "test pictures are told right" in out.out
    notes = json.loads((tmp_path / "f" / "features.json").read_text())["notes"]
    assert notes["recipe"]["epochs"] == 2
    assert notes["test_pictures"] > 0
    assert found(torch.zeros(1, 1, 16, 16)).shape == (1, 128)
    assert cli(*DIGITS, "--name", "digits", "--out", tmp_path / "f").code == 0  # its own kind is replaced


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("name", "mnist-v1", "without a version"),
        ("name", "../up", "small letters"),
        ("channels", "2", "neither 1 (grey) nor 3"),
        ("data", "bundled:photos", "have no labels"),
        ("size", "2", "data.size = 2"),
        ("epochs", "0", "epochs = 0"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(cli, tmp_path, field, value, word):
    fields = {"data": "bundled:digits", "limit": "300", "size": "16", "epochs": "2", "name": "digits", "out": tmp_path / "f", field: value}
    out = cli("train-features", *(part for name, given in fields.items() for part in (f"--{name}", given)))
    assert out.code == 2
    assert word in out.error
    assert not (tmp_path / "f").exists()


def test_a_folder_of_something_else_is_left_alone(cli, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    out = cli(*DIGITS, "--name", "digits", "--out", tmp_path)
    assert out.code == 2
    assert "holds something else" in out.error
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_interrupted_training_leaves_nothing(cli, tmp_path, monkeypatch):
    def stop(*arguments: object, **kept: object) -> None:
        raise Stopped("stopped; nothing was written")

    monkeypatch.setattr(features, "fit", stop)
    out = cli(*DIGITS, "--name", "digits", "--out", tmp_path / "f")
    assert out.code == 130
    assert not (tmp_path / "f").exists()
