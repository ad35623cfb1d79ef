"""``snowmelt sample --label 3 --guidance 2`` and ``train-classifier``, as a user walks in: what is made, what is said, what is refused."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import snowmelt
from snowmelt.cli import main
from snowmelt.cli.wishes import Granted
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.restorers import Conditions, Restorer

NET = "unet:widths=(8,16),patch=2,groups=4,blocks=1"
SHORT = ("--model.backbone", NET, "--training.batch", "32", "--training.precision", "fp32", "--images", "640")
QUIET = ("--training.validate_every", "640", "--training.validation_images", "16")
FAST = ("--steps", "3", "--sampler", "ancestral:eta=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of noise on digits: "labels" knows classes, "plain" does not; "classifier" is one of the latter."""
    here = tmp_path_factory.mktemp("guided")
    data = ("--data", "bundled:digits", "--degradation", "noise")
    for name, told in (("labels", ("--model.conditions", "label")), ("plain", ())):
        assert main(["train", *data, *told, "--out", str(here / name), *SHORT, *QUIET]) == 0
    assert main(["train-classifier", str(here / "plain"), "--images", "640", "--out", str(here / "classifier")]) == 0
    return here


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=int)


def test_classes_are_shared_out_in_order_and_have_a_row_each(cli: Callable, place: Path, tmp_path: Path, files_in: Callable) -> None:
    done = cli("sample", place / "labels", "--label", "3,7", "--guidance", "2", "-n", "6", "--out", tmp_path / "out", *FAST)
    assert done.code == 0, done.err
    assert files_in(tmp_path / "out") == {*(f"sample_{i:04d}.png" for i in range(6)), "grid.png", "sample.json"}
    noted = json.loads((tmp_path / "out" / "sample.json").read_text())
    assert (noted["labels"], noted["guidance"], noted["guidance_interval"], noted["number"]) == (["3", "7"], 2.0, None, 6)
    high, wide, _ = pixels(tmp_path / "out" / "grid.png").shape
    assert wide > 1.3 * high, "two rows of three"
    for label, first in (("3", 0), ("7", 3)):
        alone = tmp_path / label
        assert cli("sample", place / "labels", "--label", label, "--guidance", "2", "-n", "6", "--out", alone, *FAST).code == 0
        for i in range(first, first + 3):
            assert np.abs(pixels(alone / f"sample_{i:04d}.png") - pixels(tmp_path / "out" / f"sample_{i:04d}.png")).max() <= 1


def test_guidance_and_its_interval_do_something(cli: Callable, place: Path, tmp_path: Path) -> None:
    ways = {
        "bare": (),
        "zero": ("--label", "3", "--guidance", "0"),
        "plain": ("--label", "3"),
        "one": ("--label", "3", "--guidance", "1"),
        "fifty": ("--label", "3", "--guidance", "50"),
        "within": ("--label", "3", "--guidance", "50", "--guidance-interval", "0.5,0.8"),
        "nowhere": ("--label", "3", "--guidance", "50", "--guidance-interval", "0.1,0.1"),
    }
    made = {}
    for name, words in ways.items():
        done = cli("sample", place / "labels", *words, "-n", "4", "--out", tmp_path / name, *FAST)
        assert done.code == 0, done.err
        made[name] = np.stack([pixels(tmp_path / name / f"sample_{i:04d}.png") for i in range(4)])
    assert np.array_equal(made["bare"], made["zero"])
    assert np.array_equal(made["plain"], made["one"])
    assert np.array_equal(made["plain"], made["nowhere"])
    assert not np.array_equal(made["bare"], made["plain"])
    for name in ("fifty", "within"):
        assert np.abs(made[name] - made["plain"]).max() > 1, name
    assert np.abs(made["fifty"] - made["within"]).max() > 1
    noted = json.loads((tmp_path / "within" / "sample.json").read_text())
    assert noted["guidance_interval"] == [0.5, 0.8]
    assert "labels" not in json.loads((tmp_path / "bare" / "sample.json").read_text())


def test_all_classes_are_eight_pictures_each(cli: Callable, place: Path, tmp_path: Path, files_in: Callable) -> None:
    done = cli("sample", place / "labels", "--label", "all", "--interpolate", "2", "--out", tmp_path / "out", *FAST)
    assert done.code == 0, done.err
    assert "wrote 80 pictures, grid.png, interpolation.png" in done.out
    assert json.loads((tmp_path / "out" / "sample.json").read_text())["labels"] == list("0123456789")


def test_a_classifier_guides_a_model_without_labels(cli: Callable, place: Path, tmp_path: Path) -> None:
    for name, words in (("bare", ()), ("guided", ("--label", "3", "--guidance", "30", "--classifier", place / "classifier"))):
        done = cli("sample", place / "plain", *words, "-n", "2", "--out", tmp_path / name, *FAST)
        assert done.code == 0, done.err
    bare, pulled = (pixels(tmp_path / name / "sample_0000.png") for name in ("bare", "guided"))
    assert np.abs(bare - pulled).max() > 1
    assert json.loads((tmp_path / "guided" / "sample.json").read_text())["classifier"] == str(place / "classifier")


def test_vectors_and_pictures_to_go_by(cli: Callable, tmp_path: Path) -> None:
    degradation = snowmelt.build("noise")
    torch.manual_seed(0)
    restorer = Restorer(degradation, snowmelt.build(NET, "backbone"), (1, 8, 8), conditions=Conditions(vector=2, image=1))
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    snowmelt.save(Model(degradation, restorer, Normal(shape=(1, 8, 8))), tmp_path / "run")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "by.png")
    made, by = {}, ("--condition-image", tmp_path / "by.png")
    for name, words in {"bare": (), "vector": ("--vector", "-0.5,2"), "image": by, "both": ("--vector", "-0.5,2", *by, "--guidance", "2")}.items():
        done = cli("sample", tmp_path / "run", *words, "-n", "2", "--out", tmp_path / name, *FAST)
        assert done.code == 0, done.err
        made[name] = np.stack([pixels(tmp_path / name / f"sample_{i:04d}.png") for i in range(2)])
    assert all(np.abs(made[a] - made[b]).max() > 1 for a, b in itertools.combinations(made, 2))
    noted = json.loads((tmp_path / "both" / "sample.json").read_text())
    assert (noted["vector"], noted["condition_image"], noted["guidance"]) == ([-0.5, 2.0], str(tmp_path / "by.png"), 2.0)
    assert "give 2 numbers with commas between" in cli("sample", tmp_path / "run", "--vector", "1", "--out", tmp_path / "x").error
    assert "no.png" in cli("sample", tmp_path / "run", "--condition-image", "no.png", "--out", tmp_path / "x").error


def test_train_classifier_says_how_well_it_tells_at_each_severity(cli: Callable, place: Path, tmp_path: Path) -> None:
    done = cli("train-classifier", place / "plain", "--images", "64", "--backbone", NET, "--out", tmp_path / "k")
    assert done.code == 0, done.err
    assert "chance 10.0%" in done.out
    assert done.out.count("t in ") == 5
    assert f"--classifier {tmp_path / 'k'}" in done.out
    notes = json.loads((tmp_path / "k" / "classifier.json").read_text())["notes"]
    assert notes["images"] == 64
    assert len(notes["accuracy"]) == 5
    again = ("train-classifier", place / "plain", "--images", "64", "--out", tmp_path / "k")
    assert "holds a classifier: give another directory, or add --overwrite" in cli(*again).error
    assert cli(*again, "--overwrite").code == 0


@pytest.mark.parametrize(
    ("run", "words", "says"),
    [
        ("labels", ("--guidance", "2"), "--guidance 2 has nothing to guide towards: add --label"),
        ("labels", ("--label", "12"), "--label '12' is none of the 10 classes"),
        ("labels", ("--label", "3,3"), "--label 3,3 names a class twice"),
        ("labels", ("--label", "cat"), "numbers from 0 to 9, or all"),
        ("labels", ("--label", "all", "-n", "9"), "--number 9 lies under the 10 labels that share it"),
        ("labels", ("--label", "3", "--guidance", "nan"), "scale = nan is not a finite number"),
        ("labels", ("--label", "3", "--guidance-interval", "0.1,0.8"), "says where --guidance acts: add --guidance"),
        ("labels", ("--label", "3", "--guidance", "2", "--guidance-interval", "0.8,0.1"), "--guidance-interval 0.8,0.1 must rise"),
        ("labels", ("--label", "3", "--guidance", "2", "--guidance-interval", "0.8"), "give 2 numbers with commas between"),
        ("labels", ("--vector", "1,2"), "--vector: this model was trained with label; train one with --model.conditions vector"),
        ("labels", ("--vector", "1,x"), "--vector 1,x: give finite numbers with commas between"),
        ("labels", ("--condition-image", "x.png"), "train one with --model.conditions image"),
        ("plain", ("--label", "3"), "--label: this model was trained without labels: train one with --model.conditions label, or guide"),
        ("plain", ("--classifier", "classifier"), "--classifier guides towards a class: add --label"),
        ("plain", ("--label", "3", "--classifier", "plain"), "plain holds no classifier"),
    ],
)
def test_wishes_that_cannot_be_granted_are_refused_in_one_line(
    cli: Callable, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(place)
    done = cli("sample", run, *words, "--out", tmp_path / "out", *FAST)
    assert done.code == 2, done.err
    assert says in done.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--images", "0"), "--images 0 lies under 1"),
        (("--backbone", "zero"), "the backbone zero has no weights"),
        (("--data", "bundled:photos"), ""),
        (("--out", "letters"), "letters holds something else"),
    ],
)
def test_a_classifier_that_cannot_be_trained_is_refused(cli, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    given = {"--images": "64", "--out": "k", **dict(zip(words[::2], words[1::2], strict=True))}
    done = cli("train-classifier", place / "plain", *(word for pair in given.items() for word in pair))
    assert done.code == 2, done.err
    assert says in done.error
    assert not (tmp_path / "k").exists()


def test_a_classifier_of_a_cold_run_is_refused(cli: Callable, run: Path, tmp_path: Path) -> None:
    done = cli("train-classifier", run, "--images", "64", "--out", tmp_path / "k")
    assert done.code == 2
    assert "with normal z, which gaussian-blur:sigma_px=2 is not: take a model of noise" in done.error


@pytest.mark.parametrize(("number", "labels", "rows"), [(16, 3, [[0, 1], [6, 7], [11, 12]]), (2, 2, [[0], [1]]), (7, 1, [[0, 1]])])
def test_rows_begin_where_their_labels_do(number: int, labels: int, rows: list[list[int]]) -> None:
    granted = Granted(None, {}, number, tuple("abc"[:labels]), {})  # type: ignore[arg-type]
    assert [list(row) for row in granted.shown(2)] == rows
    shared = [i * labels // number for i in range(number)]
    assert [[shared[i] for i in row] for row in rows] == [[k] * len(row) for k, row in enumerate(rows)]
