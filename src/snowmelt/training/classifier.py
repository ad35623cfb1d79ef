r"""A classifier of degraded pictures, p(label | x_t, t): what guides a model of noise that was trained without labels.

Any backbone is a classifier: its output channels are the classes, and the mean over all positions is the logit,

.. math:: \log p(y | x_t) = \mathrm{log\,softmax}_y\; \overline{F\left(x_t / \sqrt{\alpha_t^2 + \sigma_t^2},\, t\right)}.

It is trained with the cross entropy on pictures degraded by the model's own degradation to severities between 0 and 1, each picture's order, cut,
severity and draw a function of (seed, sample number). At high severities nobody can tell a class, and it has to learn to say so: the
gradient of an ordinary classifier, which has seen no noise, points anywhere.

Saved, it is a directory: ``classifier.json`` says everything in words and numbers, a safetensors file holds the weights, with its SHA-256 in
classifier.json, which is written last.

Source: Dhariwal and Nichol 2021 (arXiv 2105.05233), section 4.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snowmelt import registry
from snowmelt._version import __version__
from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Degradation
from snowmelt.files import BadFile, described_by, read_hashed, read_info, require_inside, sweep_hashed, write_hashed, write_json
from snowmelt.metrics.features import MAX_CLASSES
from snowmelt.model import Model
from snowmelt.randomness import fractions, generators, seed
from snowmelt.restorers import Backbone
from snowmelt.restorers.guidance import gaussian
from snowmelt.training.descent import descend, warm_cosine
from snowmelt.training.features import labelled
from snowmelt.types import EMPTY, Batch, Draw, Severity, expand

FORMAT = 1
INFO = "classifier.json"
BANDS = 5
IMAGES = 60_000
_LR, _WARMUP, _DECAY, _CLIP = 3e-3, 0.05, 1e-2, 1.0
_CHECKED = 1000
_MAX_SIDE = 65_536


class DegradedClassifier(nn.Module):
    """Pictures (b, c, h, w) degraded to severities t (b,) in [0, 1], to logits (b, classes).

    Args:
        degradation: Gaussian noise with a schedule: any other leaves no gradient to guide by.
        backbone: builds F.
        shape: (c, h, w) of the training samples.
        classes: one name per class.
        notes: what else is known: accuracies, the run it was trained for.

    Raises:
        TypeError: the degradation is not Gaussian noise.
        ValueError: the backbone has no weights.
    """

    def __init__(
        self, degradation: Degradation, backbone: Backbone, shape: Sequence[int], classes: Sequence[str], notes: Mapping[str, Any] = EMPTY
    ) -> None:
        super().__init__()
        self.degradation, self.backbone = gaussian(degradation), backbone
        self.shape, self.classes, self.notes = tuple(shape), tuple(classes), dict(notes)
        net = backbone.build(self.shape[0], len(self.classes))
        if not list(net.parameters()):
            raise ValueError(f"the backbone {registry.spec(backbone)} has no weights, so it classifies nothing: give --backbone unet")
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x_t: Batch, t: Severity) -> Tensor:
        """The logits (b, classes), float32, differentiable in x_t."""
        x_t, t = x_t.float(), t.float()
        alpha, sigma = self.degradation.schedule(t)
        logits: Tensor = self.net(x_t * expand((alpha.square() + sigma.square()).rsqrt(), x_t), t).mean((2, 3))
        return logits


class LabelLikelihood(nn.Module):
    """scale log p(z["label"] | x_t), for :class:`~snowmelt.restorers.guidance.ByGradient`: a module, so that it moves with the restorer.

    Args:
        classifier: of x_t.
        scale: any finite number; 1 is Bayes' rule.

    Raises:
        ValueError: the scale is not finite.
    """

    def __init__(self, classifier: DegradedClassifier, scale: float = 1.0) -> None:
        super().__init__()
        if not math.isfinite(scale):
            raise ValueError(f"guidance.scale = {scale} is not a finite number: 1 is Bayes' rule")
        self.classifier, self.scale = classifier, float(scale)

    def forward(self, x_t: Batch, x0: Batch, t: Severity, z: Draw) -> Tensor:
        """One number a sample (b,), differentiable in x_t; 0 where the label is unknown. The estimate x0 is not read."""
        logs = self.classifier(x_t, t).log_softmax(1)
        label = z["label"].long() if "label" in z else torch.full_like(t, -1, dtype=torch.long)
        told = logs.gather(1, label.clamp(min=0)[:, None])[:, 0]
        return self.scale * torch.where(label >= 0, told, 0)


def fit(
    model: Model,
    train: Dataset,
    validation: Dataset,
    *,
    images: int = IMAGES,
    batch: int = 64,
    backbone: Backbone | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> DegradedClassifier:
    """A classifier of pictures degraded as `model` degrades them, with its accuracy by severity; the same for the same arguments.

    Args:
        model: its degradation and noise floor make the pictures; its restorer is used only for its backbone's sizes.
        train: clean pictures with labels.
        validation: others, for the accuracies; where there are none, training pictures with new noise.
        images: pictures to learn from.
        batch: pictures per step.
        backbone: the network; by default one of the sizes of the restorer's.
        seed: of everything random.
        device: where to compute.

    Raises:
        ValueError: there are no labels, or others than in training, or the numbers make no training.
        Diverged: its loss was not finite three steps in a row.
        TypeError: the degradation is not Gaussian noise, or the restorer has no backbone.
        Stopped: Ctrl-C or SIGTERM came; nothing is kept.
    """
    if images < 1 or batch < 1:
        raise ValueError(f"classifier: images = {images} and batch = {batch} must be at least 1")
    batch = min(batch, images)
    _, classes = labelled(train, "classifier")
    held = validation if len(validation) else train
    _same(held, classes)
    net = _fresh(model, backbone or _backbone_of(model), train.shape, classes, seed).to(device).train()

    def loss(numbers: range) -> Tensor:
        item = train.numbered(seed, numbers)
        t = 1 - fractions(seed, "classifier-severity", numbers)
        x_t, t = _degraded(model, item["x0"], t, seed, "classifier-draw", numbers)
        return functional.cross_entropy(net(x_t.to(device), t.to(device)), item["label"].to(device))

    steps = images // batch
    descend(
        net.parameters(),
        loss,
        steps,
        batch,
        rate=lambda step: warm_cosine(step, steps, _LR, _WARMUP),
        weight_decay=_DECAY,
        clip=_CLIP,
        title="classifier",
        way_out="nothing was written, the same command begins again",
    )
    net.eval().requires_grad_(False)
    found = accuracies(net, model, held, seed=seed)
    net.notes = {"images": steps * batch, "seed": seed, "accuracy": found, "pictures": min(len(held), _CHECKED), "split": held.split}
    return net.cpu()


@torch.no_grad()
def accuracies(classifier: DegradedClassifier, model: Model, data: Dataset, *, images: int = _CHECKED, seed: int = 0) -> dict[str, float]:
    """The part of the pictures whose class is told right, in each fifth of the severities: {"0-0.2": 0.98, ...}.

    Args:
        classifier: on any device.
        model: degrades.
        data: clean pictures with labels; the same ones in every band.
        images: at most so many of them.
        seed: of the severities and draws.

    Raises:
        ValueError: `data` has no labels, or others than the classifier's.
    """
    labels = _same(data, classifier.classes)
    device, count = next(classifier.parameters()).device, min(images, len(data))
    found = {}
    for band in range(BANDS):
        right = 0
        for start in range(0, count, 250):
            numbers = range(start, min(start + 250, count))
            stream = f"classifier-check-{band}"
            t = (band + 1 - fractions(seed, f"{stream}-severity", numbers)) / BANDS
            x_t, t = _degraded(model, data.batch(numbers)["x0"], t, seed, f"{stream}-draw", numbers)
            told = classifier(x_t.to(device), t.to(device)).argmax(1).cpu()
            right += int((told == labels[numbers.start : numbers.stop]).sum())
        found[f"{band / BANDS:g}-{(band + 1) / BANDS:g}"] = round(right / count, 4)
    return found


def _same(data: Dataset, classes: tuple[str, ...]) -> Tensor:
    """The labels of data of just these classes: the numbers of others would mean something else.

    Raises:
        ValueError: there are none, or they are of other classes.
    """
    labels, found = labelled(data, "classifier", least=1)
    if tuple(found) != tuple(classes):
        ours, theirs = (", ".join(names[:5]) for names in (classes, found))
        raise ValueError(f"the classifier tells {ours}, and these pictures are of {theirs}: take pictures of the same classes")
    return labels


def save_classifier(classifier: DegradedClassifier, path: str | Path) -> None:
    """Write a classifier to the directory `path`; a reader sees the old one or the new one, never a mixture.

    Raises:
        OSError: the disk is full or the directory cannot be written.
    """
    path = Path(path)
    weights = write_hashed(path, "weights", classifier.state_dict())
    info = {
        "format": FORMAT,
        "snowmelt": __version__,
        "degradation": registry.table(classifier.degradation),
        "backbone": registry.table(classifier.backbone),
        "shape": list(classifier.shape),
        "classes": list(classifier.classes),
        "weights": weights,
        "notes": classifier.notes,
    }
    write_json(path / INFO, info)
    sweep_hashed(path, {weights["file"]}, "weights")


def load_classifier(path: str | Path) -> DegradedClassifier:
    """The classifier saved in the directory `path`, ready to use on the CPU.

    Raises:
        FileNotFoundError: there is none at `path`.
        BadFile: a file is damaged, or was written by a later format.
        SpecError: its backbone is not registered here; load its plug-in first.
    """
    path = Path(path)
    if not (path / INFO).is_file():
        raise FileNotFoundError(f"{path} holds no classifier: give a directory that 'snowmelt train-classifier RUN --out DIR' wrote")
    require_inside(path, path / INFO)
    info = read_info(path / INFO, FORMAT)
    with described_by(path / INFO):
        return _rebuild(info, path)


def _rebuild(info: Mapping[str, Any], path: Path) -> DegradedClassifier:
    shape, classes = info["shape"], info["classes"]
    sound = len(shape) == 3 and all(type(n) is int and 1 <= n <= _MAX_SIDE for n in shape)
    if not sound or not 2 <= len(classes) <= MAX_CLASSES or not all(isinstance(one, str) for one in classes) or not isinstance(info["notes"], dict):
        raise BadFile(f"{path / INFO}: {len(classes)} classes of pictures {shape} are no classifier: write it anew with 'snowmelt train-classifier'")
    parts = (registry.build(info["degradation"]), registry.build(info["backbone"], "backbone"), shape, classes, info["notes"])
    tensors = read_hashed(path, info["weights"], INFO, lambda: DegradedClassifier(*parts))
    if not all(bool(value.isfinite().all()) for value in tensors.values()):
        raise BadFile(f"the weights in {path} hold NaN or infinity: they are no network")
    with torch.random.fork_rng(devices=[]):  # the weights it is built with are thrown away, and cost the caller no random numbers
        net = DegradedClassifier(*parts)
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def _degraded(model: Model, x0: Batch, t: Tensor, run: int, stream: str, numbers: range) -> tuple[Batch, Severity]:
    """Pictures x0 as the model degrades them to t (b,), and these severities, moved to knots if there are any."""
    z = model.draw(x0, generators(run, stream, numbers))
    t = model.degradation.snapped(t, z).to(x0)
    return model.degrade(x0, t, z), t


def _backbone_of(model: Model) -> Backbone:
    """The sizes of the restorer's network.

    Raises:
        TypeError: it has none.
    """
    backbone = getattr(model.restorer, "backbone", None)
    if not isinstance(backbone, Backbone):
        raise TypeError("classifier: this model's restorer has no backbone to take the sizes of: give one")
    return backbone


def _fresh(model: Model, backbone: Backbone, shape: Sequence[int], classes: Sequence[str], run: int) -> DegradedClassifier:
    """A classifier whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed(run, "classifier-weights"))
        return DegradedClassifier(model.degradation, backbone, shape, classes)
