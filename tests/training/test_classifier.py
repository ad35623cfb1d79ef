"""The classifier of degraded pictures: it learns, knows when it cannot know, guides, and is saved whole or not at all."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import snowmelt
from snowmelt.data.dataset import Dataset
from snowmelt.data.labels import Labels
from snowmelt.data.stores import Held
from snowmelt.files import BadFile
from snowmelt.model import Model
from snowmelt.restorers import Restorer
from snowmelt.stopping import Stopped
from snowmelt.training import classifier
from snowmelt.training.classifier import DegradedClassifier, LabelLikelihood, accuracies, fit, load_classifier, save_classifier

NET = "unet:widths=(8,16),groups=4,blocks=1"


def quarters(n: int, split: str = "train", *, labelled: bool = True) -> Dataset:
    """Dark pictures with one light quarter, which is their class."""
    numbers = np.random.default_rng(n).integers(0, 4, n)
    pixels = np.full((n, 8, 8, 1), -0.6, dtype=np.float32)
    for picture, k in zip(pixels, numbers, strict=True):
        picture[4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] = 0.6
    labels = Labels(numbers.astype(np.int64), ("top left", "top right", "bottom left", "bottom right")) if labelled else None
    return Dataset(Held(pixels), split, (1, 8, 8), [str(i) for i in range(n)], [], labels=labels)  # type: ignore[arg-type]


def model(degradation: str = "noise", backbone: str = NET) -> Model:
    D = snowmelt.build(degradation)
    return Model(D, Restorer(D, snowmelt.build(backbone, "backbone"), (1, 8, 8)).eval())


@pytest.fixture(scope="module")
def fitted() -> DegradedClassifier:
    return fit(model(), quarters(300), quarters(200, "validation"), images=4000, batch=32)


def test_it_tells_faint_noise_from_strong_and_says_how_well(fitted: DegradedClassifier) -> None:
    found = fitted.notes["accuracy"]
    assert list(found) == ["0-0.2", "0.2-0.4", "0.4-0.6", "0.6-0.8", "0.8-1"]
    assert found["0-0.2"] > 0.95
    assert found["0.8-1"] < 0.75
    assert fitted.notes["pictures"] == 200
    assert fitted.notes["split"] == "validation"
    noise = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    clean = quarters(50).batch(range(50))["x0"]
    sure = [float(fitted(x, torch.full((50,), t)).softmax(1).amax(1).mean()) for x, t in ((clean, 0.05), (noise, 1.0))]
    assert sure[1] < 0.85 * sure[0], "of pure noise it is less sure"
    assert not any(p.requires_grad for p in fitted.parameters())


def test_it_repeats_itself_and_keeps_the_ambient_generator() -> None:
    one = model()
    state = torch.get_rng_state()
    nets = [fit(one, quarters(40), quarters(0, "validation"), images=96, batch=32, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (torch.cat([p.flatten() for p in net.parameters()]) for net in nets)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert nets[0].notes["split"] == "train", "for want of validation pictures"


def test_its_gradient_raises_the_probability_of_the_label(fitted: DegradedClassifier) -> None:
    x = torch.zeros(4, 1, 8, 8, requires_grad=True)
    t, z = torch.full((4,), 0.3), {"label": torch.tensor([0, 1, 2, -1])}
    value = LabelLikelihood(fitted, 2.0)(x, x, t, z)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(value[:3], 2 * fitted(x, t).log_softmax(1)[torch.arange(3), torch.arange(3)])
    assert float(value[3].detach()) == 0
    assert float(gradient[3].abs().max()) == 0, "an unknown label pulls nowhere"
    after = LabelLikelihood(fitted, 2.0)(x + 0.05 * gradient.sign(), x, t, z)
    assert bool((after > value)[:3].all())
    quarter = gradient[0, 0, :4, :4].mean() - gradient[0, 0, 4:, 4:].mean()
    assert float(quarter) > 0, "towards light in the label's own quarter"


def test_inputs_that_explode_are_brought_to_size() -> None:
    D = snowmelt.build("noise:schedule=ve(sigma_max=50)")
    net = DegradedClassifier(D, snowmelt.build(NET, "backbone"), (1, 8, 8), ("a", "b"))
    seen = []
    net.net.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    net(50 * x, torch.ones(3))
    assert float(seen[0].std()) == pytest.approx(float(x.std()), rel=1e-2)


def test_saved_and_loaded_it_is_the_same(fitted: DegradedClassifier, tmp_path: Path) -> None:
    save_classifier(fitted, tmp_path / "k")
    save_classifier(fitted, tmp_path / "k")  # in place of itself
    again = load_classifier(tmp_path / "k")
    assert len(list((tmp_path / "k").iterdir())) == 2
    x, t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.rand(4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(x, t), fitted(x, t))
    assert (again.classes, again.shape, again.notes, again.degradation) == (fitted.classes, fitted.shape, fitted.notes, fitted.degradation)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 9}, "has format 9"),
        ({"classes": ["a"]}, "1 classes of pictures"),
        ({"classes": ["a", "b", "c"]}, "does not fit the network"),
        ({"shape": [1, 8]}, "are no classifier"),
        ({"shape": [3, 8, 8]}, "does not fit the network"),
        ({"backbone": {"name": "unet", "widths": [4096, 4096], "blocks": 16}}, "does not fit the network"),
        ({"weights": {"file": "../weights.safetensors", "sha256": "0"}}, "no name of a file beside it"),
        ({"notes": 3}, "are no classifier"),
        ({"degradation": None}, "classifier.json"),
    ],
)
def test_a_description_that_lies_is_refused(fitted: DegradedClassifier, tmp_path: Path, change: dict, says: str) -> None:
    save_classifier(fitted, tmp_path)
    info = json.loads((tmp_path / "classifier.json").read_text())
    (tmp_path / "classifier.json").write_text(json.dumps({**info, **change}))
    with pytest.raises(ValueError, match=says):
        load_classifier(tmp_path)


def test_damaged_or_missing_weights_are_refused(fitted: DegradedClassifier, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no classifier: give a directory that 'snowmelt train-classifier"):
        load_classifier(tmp_path)
    save_classifier(fitted, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    tensors = load_file(file)
    tensors["net.out.bias"][0] = torch.nan
    save_file(tensors, file)
    with pytest.raises(BadFile, match="its SHA-256 is not the one in classifier.json"):
        load_classifier(tmp_path)


def test_what_cannot_be_learnt_is_refused() -> None:
    held = quarters(10, "validation")
    with pytest.raises(ValueError, match="the train pictures have no labels: give MNIST-style labels"):
        fit(model(), quarters(20, labelled=False), held)
    with pytest.raises(TypeError, match="which gaussian-blur.* is not"):
        fit(model("gaussian-blur:sigma_px=2"), quarters(20), held)
    with pytest.raises(ValueError, match="the backbone zero has no weights"):
        fit(model(backbone="zero"), quarters(20), held)
    with pytest.raises(ValueError, match="images = 0"):
        fit(model(), quarters(20), held, images=0)
    with pytest.raises(TypeError, match="has no backbone"):
        fit(Model(snowmelt.build("noise"), lambda x, t: x), quarters(20), held)
    with pytest.raises(ValueError, match="scale = inf is not a finite number"):
        LabelLikelihood(DegradedClassifier(snowmelt.build("noise"), snowmelt.build(NET, "backbone"), (1, 8, 8), ("a", "b")), float("inf"))


def test_ctrl_c_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "warm_cosine", lambda *step: os.kill(os.getpid(), signal.SIGINT) or 1e-3)  # asked for in every step
    with pytest.raises(Stopped, match="stopped after 32 of 640 images; nothing was written"):
        fit(model(), quarters(40), quarters(10, "validation"), images=640, batch=32)


def test_accuracies_are_of_the_same_pictures_in_every_band(fitted: DegradedClassifier) -> None:
    data, seen = quarters(20, "validation"), []
    batch = data.batch
    data.batch = lambda indices, generators=None: seen.append(list(indices)) or batch(indices)  # type: ignore[method-assign]
    accuracies(fitted, model(), data, images=15)
    assert seen == [list(range(15))] * 5


def test_pictures_of_other_classes_are_refused_before_any_is_told(fitted: DegradedClassifier) -> None:
    """The same numbers under other names: what is right would be chance."""
    others = quarters(20, "validation")
    others.classes = ("top right", "top left", "bottom left", "bottom right")
    says = "^the classifier tells top left, top right, .*, and these pictures are of top right, top left, .*: take pictures of the same classes$"
    with pytest.raises(ValueError, match=says):
        accuracies(fitted, model(), others)
    with pytest.raises(ValueError, match=says):  # and no hour is spent on a training whose check could not be made
        fit(model(), quarters(40), others, images=10**9)


def test_a_few_images_are_no_whole_batch() -> None:
    assert fit(model(), quarters(20), quarters(10, "validation"), images=10).notes["images"] == 10
