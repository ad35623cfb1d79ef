"""Features of pictures: what goes in, what is stored, and how good the shipped ones are."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snowmelt.data import DataOptions, open_data
from snowmelt.files import BadFile
from snowmelt.metrics import load_features
from snowmelt.metrics.classifier import Classifier
from snowmelt.metrics.features import INFO, MAX_BYTES, SHIPPED, ClassifierFeatures, form, save_features, shipped_features
from snowmelt.model import located, shipped
from snowmelt.randomness import generator, uniform
from snowmelt.training.features import RECIPE

ACCURACY = {"mnist-v1": ("mnist", 0.993), "fashion-v1": ("fashion_mnist", 0.92)}


def pictures(b: int, c: int = 1, side: int = 32, index: int = 0) -> Tensor:
    return uniform(torch.empty(b, c, side, side), generator(0, "pictures", index)) * 2 - 1


def small(name: str = "toy", classes: int = 3, shape: tuple[int, int, int] = (1, 32, 32)) -> ClassifierFeatures:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(shape[0], classes, (4, 6, 8), 16, normalised=True)
        net(torch.randn(8, *shape))  # statistics that are not those of a fresh normalisation
    return ClassifierFeatures(net.folded(), name, [f"class {i}" for i in range(classes)], shape)


def test_folding_changes_nothing_but_the_rounding():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Classifier(1, 5, normalised=True)
        for _ in range(5):
            net(torch.randn(16, 1, 32, 32))
    net.eval()
    plain = net.folded()
    x = pictures(8)
    assert not any("norm" in name for name in plain.state_dict())
    assert torch.allclose(plain(x), net(x), atol=5e-3)
    assert sum(2 * p.numel() for p in plain.parameters()) < MAX_BYTES


def test_a_row_does_not_depend_on_its_batch_and_takes_no_gradient():
    features, x = small(), pictures(300)
    rows = features(x)
    alone = torch.cat([features(x[i : i + 1]) for i in (0, 7, 260)])
    assert rows.shape == (300, 16)
    assert rows.dtype == torch.float32
    assert torch.allclose(alone, rows[[0, 7, 260]], atol=1e-5)
    assert torch.equal(features(x.requires_grad_()), rows)
    assert not features(x.requires_grad_()).requires_grad
    assert features(x[:0]).shape == (0, 16)
    assert features.labels(x).tolist() == features.net(x).argmax(1).tolist()


def test_pictures_are_clamped_and_brought_to_the_form_of_the_network():
    features, x = small(), pictures(2)
    assert torch.equal(features(x * 5), features((x * 5).clamp(-1, 1)))
    assert torch.allclose(features(x.expand(-1, 3, -1, -1)), features(x), atol=1e-4)
    assert torch.equal(features(x.double()), features(x))
    grey = form(torch.tensor([1.0, -1.0, -1.0])[None, :, None, None].expand(1, 3, 4, 4), (1, 4, 4))
    assert grey[0, 0, 0, 0].item() == pytest.approx(2 * 0.299 - 1, abs=1e-6)
    assert form(pictures(1, side=28), (3, 32, 32)).shape == (1, 3, 32, 32)
    fine = (torch.arange(64) % 2 * 2.0 - 1).expand(1, 1, 64, 64)  # stripes of one pixel: grey from afar
    assert form(fine, (1, 16, 16)).abs()[..., 2:-2].max() < 0.2


@pytest.mark.parametrize(
    ("x", "word"), [(torch.zeros(1, 2, 8, 8), "c = 1 or 3"), (torch.zeros(8, 8), "b, c, h, w"), (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "uint8")]
)
def test_what_is_no_picture_is_refused(x, word):
    with pytest.raises(ValueError, match=word):
        small()(x)


def test_nan_is_refused():
    x = pictures(3)
    x[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN in 1 of 3 pictures"):
        small()(x)


def test_saved_and_loaded_it_is_the_same_and_is_named_by_its_weights(tmp_path):
    features = small()
    save_features(features, tmp_path)
    again = load_features(tmp_path)
    assert torch.equal(again(pictures(5)), features(pictures(5)))
    assert again.classes == features.classes
    digest = json.loads((tmp_path / INFO).read_text())["weights"]["sha256"]
    assert again.name == f"toy-{digest[:8]}"
    assert again.score == f"FD-toy-{digest[:8]}"
    save_features(small(classes=4), tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # the old weights are gone


def test_a_release_counts_only_in_the_package(tmp_path, monkeypatch):
    shipped_here, elsewhere = tmp_path / "shipped" / "toy-v2", tmp_path / "elsewhere" / "toy-v2"
    for path in (shipped_here, elsewhere):
        save_features(small(), path, release=2)
    digest = json.loads((elsewhere / INFO).read_text())["weights"]["sha256"]
    monkeypatch.setattr("snowmelt.metrics.features.SHIPPED", tmp_path / "shipped")
    assert load_features(elsewhere).score == f"FD-toy-{digest[:8]}"
    assert load_features(shipped_here).score == load_features("toy-v2").score == "FD-toy-v2"


def test_a_name_of_the_package_is_not_taken_over_by_a_directory(tmp_path, monkeypatch):
    name = shipped_features()[0]
    save_features(small(), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert load_features(name).dims == 128
    assert load_features(f"./{name}").dims == 16


def change(path: Path, **entries: object) -> None:
    info = json.loads((path / INFO).read_text())
    (path / INFO).write_text(json.dumps(info | entries))


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ({"format": 9}, "format 9"),
        ({"dims": 17}, "does not fit"),
        ({"dims": "many"}, "no classifier"),
        ({"widths": [4096] * 8, "dims": 4096}, "does not fit"),
        ({"widths": []}, "no classifier"),
        ({"shape": [1, 4096, 4096]}, "at most 512 px"),
        ({"shape": [2, 32, 32]}, "no classifier"),
        ({"classes": ["one"]}, "2 to 1000"),
        ({"classes": 7}, "classes = 7 is not a list of names"),
        ({"classes": "abc"}, "classes = 'abc' is not a list of names; mend the entry"),
        ({"classes": ["a", 2, "c"]}, "is not a list of names"),
        ({"name": None}, "name = None is not text of 1 to 80"),
        ({"name": "toy\nFID"}, r"name = 'toy\\nFID' is not text"),
        ({"release": "x"}, "release = 'x' is not null or a whole number"),
        ({"release": True}, "release = True is not"),
        ({"notes": None}, "notes = None is not an object"),
        ({"weights": 3}, "wrong type"),
        ({"weights": {"file": "weights.safetensors"}}, "missing|lacks"),
    ],
)
def test_a_changed_description_is_refused(tmp_path, entries, word):
    save_features(small(), tmp_path)
    change(tmp_path, **entries)
    with pytest.raises(BadFile, match=word):
        load_features(tmp_path)


def test_changed_weights_are_refused(tmp_path):
    save_features(small(), tmp_path)
    file = next(tmp_path.glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(BadFile, match="SHA-256"):
        load_features(tmp_path)


def test_weights_over_a_megabyte_are_not_written(tmp_path):
    large = ClassifierFeatures(Classifier(1, 10, (64, 256, 256), 128), "large", [str(i) for i in range(10)], (1, 32, 32))
    with pytest.raises(ValueError, match="more than 1000000"):
        save_features(large, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_none_says_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-features"):
        load_features(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="holds no features"):
        load_features(tmp_path)


def test_shipped_features_are_no_models():
    assert "features" not in shipped()
    assert not set(shipped()) & set(shipped_features())
    assert located("mnist-v1") == Path("mnist-v1")


@pytest.mark.parametrize("name", shipped_features())
def test_shipped_features_are_small_and_say_where_they_come_from(name):
    folder, features = SHIPPED / name, load_features(name)
    info = json.loads((folder / INFO).read_text())
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_BYTES
    assert {path.name for path in folder.iterdir()} == {INFO, "README.md", info["weights"]["file"]}
    assert features.name == name
    assert features.score == f"FD-{name}"
    assert features.dims == 128
    card = (folder / "README.md").read_text()
    notes = info["notes"]
    for fact in (info["weights"]["sha256"], notes["trained_with"]["commit"], f"{notes['test_accuracy']:.2%}", "licence"):
        assert fact in card
    assert {key: notes["recipe"][key] for key in RECIPE} == RECIPE, "these weights were not made by the recipe in training/features.py"
    assert notes["test_accuracy"] >= ACCURACY[name][1]


@pytest.mark.parametrize("name", shipped_features())
def test_shipped_features_tell_the_classes_apart(name):
    home = os.environ.get("SNOWMELT_DATA")
    if not home:
        pytest.skip(f"set SNOWMELT_DATA to a folder that holds {ACCURACY[name][0]}/ to check the accuracy of {name}")
    folder, least = ACCURACY[name]
    features = load_features(name)
    for size, slack in ((32, 0.004), (None, 0.01)):  # as they were trained, and as the files are (28 px)
        data = open_data(DataOptions(path=str(Path(home) / folder), size=size), "test")
        some = range(2000)
        right = features.labels(data.batch(some)["x0"]) == data.labels[:2000]
        assert float(right.double().mean()) >= least - slack
        assert data.classes == features.classes
