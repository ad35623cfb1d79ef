"""The recipe of the classifiers: it learns, it repeats itself, it refuses what has no labels."""

import signal

import pytest
import torch

from snowmelt.data import DataOptions, open_data
from snowmelt.randomness import permutation
from snowmelt.stopping import Stopped
from snowmelt.training import features
from snowmelt.training.features import accuracy, fit, moved


@pytest.fixture(scope="module")
def digits():
    return {split: open_data(DataOptions(size=16, validation=0.0, limit=600), split) for split in ("train", "test")}


def test_it_learns_digits_and_repeats_itself(digits):
    found, again, other = (fit(digits["train"], "digits", epochs=6, seed=seed) for seed in (0, 0, 1))
    assert accuracy(found, digits["test"]) > 0.85
    x = digits["test"].batch(range(20))["x0"]
    assert torch.equal(found(x), again(x))
    assert not torch.equal(found(x), other(x))
    assert found.classes == tuple("0123456789")
    assert found.shape == (1, 16, 16)
    assert all(torch.equal(p, p.half().float()) for p in found.net.parameters())


def test_pictures_are_visited_in_the_order_of_the_seed(digits, monkeypatch):
    train, seen = digits["train"], []
    batch = train.batch
    monkeypatch.setattr(train, "batch", lambda indices: seen.extend(indices) or batch(indices))
    fit(train, "digits", epochs=2, seed=5)
    orders = [permutation(5, "features-order", epoch, len(train)).tolist() for epoch in range(2)]
    assert len(seen) > len(train)
    assert seen == sum(orders, [])[: len(seen)]


def test_movements_are_small_and_functions_of_the_sample_number():
    x = torch.zeros(4, 1, 33, 33)
    x[:, :, 14:19, 14:19] = 1
    numbers = range(100, 104)
    out = moved(x, 0, numbers, flip=False)
    assert torch.allclose(out[2:3], moved(x[2:3], 0, range(102, 103), flip=False), atol=1e-6)
    assert not torch.equal(out[0], out[1])
    place = torch.arange(33.0) - 16
    for axis in (2, 3):
        mass = out.sum(dim=(1, 5 - axis))
        centre = (mass * place).sum(1) / mass.sum(1)
        assert centre.abs().max() <= 2 * 33 / 32 + 0.2
    assert not torch.equal(moved(x, 1, numbers, flip=False), out)


def test_only_flipping_mirrors(monkeypatch):
    for word in ("shift", "turn_degrees", "scale"):
        monkeypatch.setitem(features.RECIPE, word, 0.0)
    x = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(moved(x, 0, range(64), flip=False), x, atol=1e-5)
    out = moved(x, 0, range(64), flip=True)
    same, mirrored = ((out - other).abs().amax((1, 2, 3)) < 1e-5 for other in (x, x.flip(-1)))
    assert bool((same | mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_ctrl_c_stops_between_two_steps(digits, monkeypatch):
    steps = []

    def once(*arguments: object, **kept: object) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        return moved(*arguments, **kept)

    monkeypatch.setattr(features, "moved", once)
    with pytest.raises(Stopped, match="nothing was written"):
        fit(digits["train"], "digits", epochs=6)
    assert len(steps) == 2


def test_what_cannot_be_learnt_is_refused(digits):
    photos = open_data(DataOptions(path="bundled:photos", size=16, limit=4), "train")
    with pytest.raises(ValueError, match="have no labels: give MNIST-style labels"):
        fit(photos, "photos")
    with pytest.raises(ValueError, match="epochs = 0"):
        fit(digits["train"], "digits", epochs=0)


def test_accuracy_is_of_the_same_classes(digits):
    found = fit(digits["train"], "digits", epochs=1)
    found.classes = tuple("abcdefghij")
    with pytest.raises(ValueError, match=r"classes of the test pictures \(0, 1, 2, 3, 4, …\) are not those of the features \(a, b"):
        accuracy(found, digits["test"])
