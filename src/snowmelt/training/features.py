r"""Fit the classifier whose features compare sets of pictures: one recipe, the same for every data set.

Cross entropy over ``epochs`` passes in batches of 128, AdamW under a rate that rises over the first fifth and falls to zero, a fifth of the features
left out. Every picture is moved by up to 2 of 32 px, turned by up to 7 degrees and scaled by up to 7 %, which no digit and no garment minds;
mirrored only when asked, for a mirrored 2 is none. The order and every movement are functions of (seed, sample number). The recipe looks at no test
picture: the accuracy is that of the last step, whatever it is.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.data.dataset import Dataset
from snowmelt.metrics.classifier import Classifier
from snowmelt.metrics.features import MAX_CLASSES, ClassifierFeatures
from snowmelt.randomness import fractions, seed, visits
from snowmelt.signals import PICTURE
from snowmelt.training.descent import descend
from snowmelt.types import Batch

RECIPE = {"batch": 128, "lr": 3e-3, "weight_decay": 1e-2, "rise": 0.2, "drop": 0.2, "shift": 2 / 32, "turn_degrees": 7.0, "scale": 0.07}
EPOCHS = 7


def fit(train: Dataset, name: str, *, epochs: int = EPOCHS, seed: int = 0, flip: bool = False, device: str = "cpu") -> ClassifierFeatures:
    """A classifier of the labelled pictures in `train`, ready to be used and saved; on one machine the same for the same arguments.

    Args:
        train: with labels.
        name: of the data: "mnist".
        epochs: passes over all pictures.
        seed: of everything random.
        flip: mirror half of the pictures left to right.
        device: where to compute.

    Raises:
        ValueError: there are no labels, fewer than two classes or more than 1,000, or too few pictures.
        Stopped: Ctrl-C or SIGTERM came; nothing is kept.
        Diverged: their loss was not finite three steps in a row.
    """
    if train.signal != PICTURE:
        raise ValueError(f"features of {name}: they are learned from pictures, and these are {train.signal.many}: give a folder of pictures")
    labels, classes = labelled(train, name)
    c, h, w = train.shape
    if epochs < 1:
        raise ValueError(f"epochs = {epochs} lies under 1")
    net = _fresh(train, len(classes), seed).to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    n, batch = len(train), min(int(RECIPE["batch"]), len(train))
    steps = epochs * n // batch

    def loss(numbers: range) -> Tensor:
        indices = visits(seed, "features-order", numbers, n)
        x = moved(train.batch(indices)["x0"], seed, numbers, flip=flip)
        logits = net(x.to(device).to(memory_format=torch.channels_last), _kept(seed, numbers, net.dims).to(device))
        return functional.cross_entropy(logits, labels[indices].to(device))

    descend(
        net.parameters(),
        loss,
        steps,
        batch,
        rate=lambda step: _rate(step / steps),
        weight_decay=RECIPE["weight_decay"],
        title=f"features of {name}",
        way_out="nothing was written, the same command begins again",
        unit="pictures",
    )
    if not all(bool(value.isfinite().all()) for value in net.state_dict().values()):  # a skipped step has still moved the running means
        raise ValueError(f"features of {name}: the training diverged (a running mean is not finite); look at the pictures and labels")
    return ClassifierFeatures(net.cpu().folded(), name, classes, (c, h, w))


def accuracy(features: ClassifierFeatures, data: Dataset) -> float:
    """The part of the pictures of `data` whose class is told right.

    Raises:
        ValueError: `data` has no labels, or classes of other names.
    """
    labels, classes = labelled(data, features.name, least=1)
    # Where classes are numbers, a split may lack the last of them.
    if not set(classes) <= set(features.classes or ()) or classes != (features.classes or ())[: len(classes)]:
        known = _some(features.classes or ())
        raise ValueError(f"the classes of the {data.split} pictures ({_some(classes)}) are not those of the features ({known})")
    right = 0
    for start in range(0, len(data), 250):
        some = range(start, min(start + 250, len(data)))
        right += int((features.labels(data.batch(some)["x0"]) == labels[some.start : some.stop]).sum())
    return right / len(data)


def moved(x: Batch, run: int, numbers: range, *, flip: bool) -> Batch:
    """Pictures a little shifted, turned and scaled, each by what its sample number says; the border goes on outside."""
    draw = {word: fractions(run, f"features-{word}", numbers).float() * 2 - 1 for word in ("across", "down", "turn", "scale", "flip")}
    angle, size = draw["turn"] * math.radians(RECIPE["turn_degrees"]), 1 + draw["scale"] * RECIPE["scale"]
    cos, sin = angle.cos() * size, angle.sin() * size
    sign = torch.where(draw["flip"] < 0, -1.0, 1.0) if flip else torch.ones_like(cos)
    # In grid coordinates the picture is 2 wide: a shift of s sides is 2 s.
    rows = [cos * sign, -sin, 2 * RECIPE["shift"] * draw["across"], sin * sign, cos, 2 * RECIPE["shift"] * draw["down"]]
    grid = functional.affine_grid(torch.stack(rows, 1).reshape(-1, 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _kept(run: int, numbers: range, dims: int) -> Tensor:
    """(b, dims): 0 for the features that are left out of each sample, what keeps the mean for the others."""
    draws = fractions(run, "features-drop", range(numbers.start * dims, numbers.stop * dims)).view(len(numbers), dims)
    return (draws >= RECIPE["drop"]).float() / (1 - RECIPE["drop"])


def labelled(data: Dataset, name: str, least: int = 2) -> tuple[Tensor, tuple[str, ...]]:
    """The labels (n,) and classes of data that have at least so many.

    Raises:
        ValueError: they have none, or more than 1,000.
    """
    if data.labels is None or data.classes is None:
        way_out = "give MNIST-style labels beside the images, an array 'label' in the .npz, or one folder per class"
        raise ValueError(f"{name}: the {data.split} pictures have no labels: {way_out}")
    if not least <= len(data.classes) <= MAX_CLASSES or len(data) < 2:
        raise ValueError(f"{name}: {len(data)} {data.split} pictures of {len(data.classes)} classes; a classifier needs 2 to {MAX_CLASSES} classes")
    return data.labels, data.classes


def _some(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")


def _fresh(train: Dataset, classes: int, run: int) -> Classifier:
    """A network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed(run, "features-weights"))
        return Classifier(train.shape[0], classes, normalised=True)


def _rate(done: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    if done < RECIPE["rise"]:
        return RECIPE["lr"] * max(done, 1e-3) / RECIPE["rise"]
    return RECIPE["lr"] * 0.5 * (1 + math.cos(math.pi * (done - RECIPE["rise"]) / (1 - RECIPE["rise"])))
