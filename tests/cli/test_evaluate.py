"""evaluate: what can be asked for, what is written, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from snowmelt.metrics.classifier import Classifier
from snowmelt.metrics.features import ClassifierFeatures, save_features


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of digits that was never trained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("features")
    save_features(ClassifierFeatures(Classifier(1, 10, dims=8), "untrained", [str(i) for i in range(10)], (1, 8, 8)), path)
    return path


def test_what_is_asked_for_is_measured_and_shown(cli, run: Path, features: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(run, own)
    assert cli("sample", own, "--prior", "from-data").code == 0
    done = cli("evaluate", own, "--images", 12, "--features", features, "--generate", 6, "--input", "8bit", "--out", out)
    assert done.code == 0, done.err
    kept = json.loads((out / "evaluation.json").read_text())
    name = next(key for key in kept["rows"][0] if key.startswith("FD-untrained-"))
    assert {row["input"] for row in kept["rows"]} == {"8bit"}
    assert [row["method"] for row in kept["rows"] if row["kind"] == "floor"] == ["Floor: training pictures"]
    assert f"{name} against test" in kept["generated"]["measures"]
    for file in ("curve.svg", "severity.svg", "worst.png", "median.png", "generated.png", "nearest.png", "report.html"):
        assert (out / file).is_file(), file
    html = (out / "report.html").read_text()
    for words in ("Distortion and perception", "Error per severity", "Worst and typical", "memorisation ratio", "95 % intervals"):
        assert words in html, words
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")  # nothing is asked of the network
    assert str(tmp_path) not in (out / "evaluation.json").read_text()  # a kept report says nothing of the machine


def test_other_data_than_the_runs_own(cli, run: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", pixels)
    done = cli("evaluate", run, "--data", tmp_path / "noise.npy", "--images", 4, "--input", "float", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    facts = json.loads((tmp_path / "out" / "evaluation.json").read_text())["facts"]
    assert (facts["data"], facts["trained on pictures of"]) == ("noise.npy", "bundled:digits")
    assert "not computed" in done.out


def test_what_cannot_be_measured_is_said_at_once(cli, run: Path, tmp_path: Path) -> None:
    assert "holds no features" in cli("evaluate", run, "--features", "inception", "--out", tmp_path / "a").error
    assert "no prior" in cli("evaluate", run, "--generate", 4, "--images", 4, "--out", tmp_path / "a").error
    assert cli("evaluate", run, "--generate", 1).error == "--generate 1 lies under 2"
    assert cli("evaluate", run, "--images", 0).error == "--images 0 lies under 1"
    assert not (tmp_path / "a").exists()
