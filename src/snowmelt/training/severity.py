r"""Fit the network that reads severities: damage pictures by amounts one knows, and learn to tell the amounts from the pixels.

The loss of a severity s with its law (p, mu, sigma) is the cross entropy of "s > 0" and, where s > 0, the Gaussian negative log
likelihood, weighted by the predicted deviation itself so that hard windows are not given up early:

.. math:: \ell = -\log P(s > 0 \text{ or } s = 0) + [s > 0]\; \bar\sigma \left(\log\sigma + \frac{(s - \mu)^2}{2\sigma^2}\right),

with the weight not differentiated. One crop in sixteen is left clean, so that an undamaged picture is no stranger. A stranger's picture
carries no noise floor and comes from a file, so half of the crops go without the floor and half are rounded, where the model's own input is not.

Afterwards, on pictures it was not fitted to: the predicted deviations are scaled by the root mean square of the standardised errors and the
odds of presence by the factor of least cross entropy (temperatures), and the limits beyond which a picture counts as unreadable are
taken as quantiles. How alike the errors of two windows of one picture are comes from pairs of crops of training pictures.

Source: Seitzer et al. 2022 (arXiv 2203.09168) for the weight; Guo et al. 2017 (arXiv 1706.04599) for temperatures.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.data.dataset import Dataset
from snowmelt.data.images import quantise
from snowmelt.model import Model
from snowmelt.randomness import fractions, generators, seed, visits
from snowmelt.restorers.severity import GRID, LARGEST_PX, Estimator, Reading, for_degradation
from snowmelt.training.descent import descend, warm_cosine

_CLEAN = 1 / 16
_LR, _WARMUP, _CLIP = 3e-3, 0.05, 5.0
_CHECKED = 1024  # crops for calibration, and pairs of crops for the correlation
_FALSE_ALARM = 0.01
_SCALES = torch.logspace(-1, 0.5, 61)


def fit(
    model: Model,
    train: Dataset,
    validation: Dataset,
    *,
    images: int = 40_000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 32,
) -> Estimator:
    """An estimator of what is unknown of `model.degradation`, fitted and calibrated; the same for the same arguments.

    Args:
        model: its degradation, noise floor and rounding make the pictures; its restorer is not used.
        train: clean pictures.
        validation: others, for the calibration; where there are none, training pictures with new damage.
        images: crops to learn from.
        seed: of everything random.
        device: where to compute.
        batch: crops per step.

    Raises:
        ValueError: nothing of the degradation is unknown, or the numbers make no training.
        Stopped: Ctrl-C or SIGTERM came; nothing is kept.
        Diverged: its loss was not finite three steps in a row.
    """
    if images < 1 or batch < 1:
        raise ValueError(f"severity: images = {images} and batch = {batch} must be at least 1")
    damage = Damage(model, train, seed, "severity-training")
    estimator = _fresh(model, train.shape, seed).to(device)
    steps = max(images // batch, 1)
    count = min(images, _CHECKED)
    for buffer, value in zip((estimator.centre, estimator.spread), _moments(estimator, damage, count, batch), strict=True):
        buffer.copy_(value)

    def loss(numbers: range) -> Tensor:
        x, truth = damage(numbers)
        return negative_log_likelihood(estimator(x.to(device)), truth.to(device))

    descend(
        estimator.parameters(),
        loss,
        steps,
        batch,
        rate=lambda step: warm_cosine(step, steps, _LR, _WARMUP),
        weight_decay=1e-4,
        clip=_CLIP,
        title="reading severities",
        way_out="there is no estimator of severities yet, the same command fits it",
        unit="crops",
    )
    estimator = estimator.rounded().eval().requires_grad_(False).cpu()
    held = validation if len(validation) else train
    calibrate(estimator, Damage(model, held, seed, "severity-calibration"), damage, count, batch)
    return estimator


@dataclass(frozen=True)
class Damage:
    """Numbered crops with known severities; a number's crop, severity and draw are functions of (seed, stream, number).

    Attributes:
        model: how crops are degraded.
        data: clean pictures.
        seed: of the run.
        stream: the name under which all is drawn.
    """

    model: Model
    data: Dataset
    seed: int
    stream: str

    def __call__(self, numbers: range, *, crop: str = "crop") -> tuple[Tensor, Tensor]:
        """Degraded windows of at most 128 px a side and their severities (b, k); another word for `crop` cuts the same pictures elsewhere."""
        x_t, truth = self.whole(numbers, crop=crop)
        if max(x_t.shape[-2:]) > LARGEST_PX:
            x_t = _windows(x_t, *(fractions(self.seed, f"{self.stream}-{crop}-{side}", numbers) for side in ("top", "left")))
        return x_t, truth

    def whole(self, numbers: range, *, crop: str = "crop") -> tuple[Tensor, Tensor]:
        """Degraded pictures (b, c, h, w), as large as the data set gives them, and their severities (b, k)."""
        keyed = functools.partial(fractions, self.seed, indices=numbers)
        cut = generators(self.seed, f"{self.stream}-{crop}", numbers) if self.data.random else None
        item = self.data.batch(self._indices(numbers), cut)
        x0 = item["x0"]
        model = self.model
        z = dict(model.draw(x0, generators(self.seed, f"{self.stream}-draw", numbers), item))
        t = model.degradation.snapped(1 - keyed(f"{self.stream}-severity"), z)
        t = torch.where(keyed(f"{self.stream}-clean") < _CLEAN, 0, t).to(x0)
        truth = torch.stack([value.to(x0) for value in model.degradation.unknowns(t, z).values()], dim=1)
        if "floor" in z:
            z["floor"] = z["floor"] * (keyed(f"{self.stream}-floor") < 0.5).to(x0)[:, None, None, None]
        x_t = model.degrade(x0, t, z)
        if model.input == "float":
            x_t = torch.where((keyed(f"{self.stream}-file") < 0.5)[:, None, None, None], quantise(x_t), x_t)
        if max(x_t.shape[-2:]) > LARGEST_PX:
            x_t = _windows(x_t, *(keyed(f"{self.stream}-{crop}-{side}") for side in ("top", "left")))
        return x_t, truth

    def _indices(self, numbers: range) -> list[int]:
        return visits(self.seed, f"{self.stream}-order", numbers, len(self.data))


def _windows(x: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """One window of at most 128 px a side of every picture, at these fractions (b,) of the room there is, on the blocks of JPEG."""
    h, w = (min(side, LARGEST_PX) for side in x.shape[-2:])
    down, right = x.shape[-2] - h, x.shape[-1] - w
    at = [(int(i * (down + 1)) // GRID * GRID, int(j * (right + 1)) // GRID * GRID) for i, j in zip(top.tolist(), left.tolist(), strict=True)]
    return torch.stack([one[:, i : i + h, j : j + w] for one, (i, j) in zip(x, at, strict=True)])


def negative_log_likelihood(law: tuple[Tensor, Tensor, Tensor], truth: Tensor) -> Tensor:
    """The mean over a batch of the loss of severities (b, k) under (log odds, mean, log std), each (b, k)."""
    logit, mean, log_std = law
    there = (truth > 0).to(truth)
    gauss = log_std + 0.5 * ((truth - mean) * (-log_std).exp()).square()
    return (functional.binary_cross_entropy_with_logits(logit, there, reduction="none") + there * log_std.exp().detach() * gauss).sum(1).mean()


@torch.no_grad()
def calibrate(estimator: Estimator, held: Damage, seen: Damage, count: int, batch: int) -> None:
    """Set temperatures and limits from `count` crops that were held out, and the windows' correlation from pairs of crops that were not."""
    for buffer, value in zip((estimator.usual, estimator.usual_spread), _moments(estimator, seen, count, batch), strict=True):
        buffer.copy_(value)
    found, truth = _readings(estimator, held, count, batch)
    there = truth > 0
    error = torch.where(there, (truth - found.mean) / found.std, 0)
    estimator.std_scale.copy_((error.square().sum(0) / there.sum(0).clamp(min=1)).sqrt().clamp(0.2, 20))
    estimator.std_scale[there.sum(0) < 8] = 1  # too few to say
    for i in range(len(estimator.unknowns)):
        logits, target = found.logit[:, i : i + 1] * _SCALES, there[:, i : i + 1].to(truth).expand(-1, len(_SCALES))
        costs = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(0)
        estimator.logit_scale[i] = _SCALES[costs.argmin()]
    share = ((there.sum(0) + 0.5) / (count + 1)).to(truth)
    estimator.prior.copy_((share / (1 - share)).log())
    if seen.data.random:
        estimator.shared.copy_(_correlation(estimator, seen, count, batch))
    found, _ = _readings(estimator, held, count, batch)
    single = estimator.pooled(Reading(*(value[:, None] for value in found)))
    # Every kind of alarm has its share of the false ones.
    each = 1 - _FALSE_ALARM / (len(estimator.unknowns) + 1)
    estimator.std_limit.copy_(torch.stack([std.quantile(each) for std in single.std.values()]) * (1 + 1e-6))
    estimator.strange_limit.copy_(found.strangeness.quantile(each) * (1 + 1e-6))


def _correlation(estimator: Estimator, seen: Damage, count: int, batch: int) -> Tensor:
    """Of the standardised errors at two places of one picture, between .05 and 1: of severity and of presence, (2, k)."""
    readings = [_readings(estimator, seen, count, batch, crop=crop) for crop in ("crop", "elsewhere")]
    errors, surprises = [], []
    for found, truth in readings:
        there = (truth > 0).to(truth)
        errors.append(there * (truth - found.mean) / found.std)
        p = torch.sigmoid(found.logit)
        surprises.append((there - p) / (p * (1 - p)).sqrt().clamp(min=0.05))
    both = [(a * b).mean(0) / (0.5 * (a.square() + b.square()).mean(0)).clamp(min=1e-9) for a, b in (errors, surprises)]
    return torch.stack(both).clamp(0.05, 1)


def _readings(estimator: Estimator, damage: Damage, count: int, batch: int, *, crop: str = "crop") -> tuple[Reading, Tensor]:
    pairs = []
    for start in range(0, count, batch):
        x, truth = damage(range(start, min(start + batch, count)), crop=crop)
        pairs.append((estimator.read(x), truth))
    return Reading(*(torch.cat(column) for column in zip(*(found for found, _ in pairs), strict=True))), torch.cat([truth for _, truth in pairs])


def _fresh(model: Model, shape: Sequence[int], run: int) -> Estimator:
    """An estimator whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed(run, "severity-weights"))
        return for_degradation(model.degradation, shape)


@torch.no_grad()
def _moments(estimator: Estimator, damage: Damage, count: int, batch: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the statistics over `count` crops."""
    device = estimator.centre.device
    found = torch.cat([estimator.statistics(damage(range(i, min(i + batch, count)))[0].to(device)) for i in range(0, count, batch)])
    return found.mean(0), found.std(0, correction=0).clamp(min=1e-2)
