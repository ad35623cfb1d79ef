r"""How far may a restored picture be off, and where? Two sound ways to say, chosen by the walk.

**walks**. A walk that renews its noise (:class:`~snowmelt.samplers.Ancestral` with eta > 0) ends somewhere else every time: N ends are N samples of
the clean pictures that x may come from, as far as the restorer knows them. Reported are their mean and standard deviation. With few steps, or blur
before the noise, they are that only approximately.

**bootstrap**. A restorer that always gives one answer is asked again about pictures like this one. Take its answer
:math:`\hat x = R(x)` for the truth, damage it N times as x was damaged, each time with fresh noise, and restore each:
:math:`x_k = R(D(\hat x, s, z_k))`. How far these miss what they come from,

.. math:: \sqrt{\frac1N \sum_k (x_k - \hat x)^2},

is the parametric bootstrap's estimate of how far :math:`\hat x` misses the truth. Reported as mean is :math:`\hat x` itself:
the mean of the :math:`x_k` has been smoothed twice. It shows where noise gets through, where edges move, what a restorer
guesses anew each time. It *cannot* show what the first restoration averaged away: :math:`\hat x` has no more texture to lose,
so where x lost texture the figure is too small. It is a map of where to look, hardly ever a bound: how well a map predicts
errors is measured by :func:`rank_correlation` and :func:`sparsification`.

Both are root mean squares over the channels.

Source: Efron 1979, "Bootstrap methods: another look at the jackknife"; Efron and Tibshirani 1993, section 6.5 (the parametric bootstrap); for images,
Tachella and Pereyra 2023 (arXiv 2310.11838). Ilg et al. 2018 (arXiv 1802.07095), section 5.1, for sparsification.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation, Mixture
from snowmelt.degradations.base import blank
from snowmelt.model import Model
from snowmelt.restoration.consistency import known_pixels
from snowmelt.restoration.walks import Walk, choose, restore, severity_of
from snowmelt.samplers import Ancestral, Sampler
from snowmelt.types import EMPTY, Batch, Draw, Generators, State
from snowmelt.types import severity as severities

_CALLS = 25
_LIKELY = 0.5


@dataclass(frozen=True, eq=False)
class Spread:
    """What is restored, and how far it may be off.

    Attributes:
        mean: the mean of the walks, or the restored picture itself: (b, *d).
        std: how far it may be off, one figure a pixel: (b, 1, h, w).
        samples: the walks' ends, or the pictures restored again: (n, b, *d).
        method: which of the two it was.
    """

    mean: Batch
    std: Tensor
    samples: Tensor
    method: Literal["walks", "bootstrap"]


def spread(
    model: Model,
    x: Batch,
    *,
    severity: float | Tensor | None = None,
    samples: int = 8,
    sampler: Walk = "default",
    z: Draw = EMPTY,
    consistent: bool | None = None,
    generator: Generators = None,
) -> Spread:
    """Restore x (b, c, h, w) and say where the result may be wrong.

    Args:
        model: as for :func:`snowmelt.restore`.
        x: degraded pictures.
        severity: how degraded they are; None lets the model tell.
        samples: walks, or pictures restored again; at least 2.
        sampler: as for restore; "default" walks with renewed noise, 25 calls, where the model has noise that can be solved for and the rest
            of the draw is known, and else takes restore's.
        z: what is known of the draw. Of a mixture it may hold the severities of the parts ("3.severity", (b,)), which the model's
            estimator tells otherwise. What is not known is drawn anew for every sample, and a mask that is not known is none.
        consistent: as for restore.
        generator: of all that is random, one sample after the other.

    Raises:
        ValueError: fewer than 2 samples, nothing that could differ from sample to sample, severities that nobody tells, an endpoint that
            nobody gives; and as restore.
    """
    if samples < 2:
        raise ValueError(f"samples = {samples} lies outside [2, inf): the spread of one is not known")
    if severity is None:
        severity, consistent = severity_of(model, x), bool(consistent)  # a guess is nothing to be consistent with, unless one insists
    d, walk = model.degradation, _walk(model, x, sampler, z)
    settings: dict[str, Any] = {"severity": severity, "sampler": walk, "z": z, "consistent": consistent, "generator": generator}
    if walk is not None and walk.random and d.noise:
        ends = torch.stack([restore(model, x, **settings) for _ in range(samples)])
        return Spread(ends.mean(0), _off(ends, ends.mean(0), samples - 1), ends, "walks")
    fixed = _damage(model, x, z)
    if lacking := sorted(set(d.needs) - fixed.keys()):
        what = f"{registry.spec(d)} cannot damage a picture again while its {', '.join(lacking)} is unknown"
        raise ValueError(f"{what}: give it in z, or leave samples out")
    _varies(model, fixed)
    restored = restore(model, x, **settings)
    again = []
    for _ in range(samples):
        damaged = d(restored, severities(severity, restored), {**d.draw(restored, generator), **fixed})
        again.append(restore(model, model.finish(damaged, EMPTY), **settings))
    off, mask = _off(torch.stack(again), restored, samples), known_pixels(d, z) if consistent else None
    return Spread(restored, off if mask is None else off * (1 - mask.to(off)), torch.stack(again), "bootstrap")


def rank_correlation(spread: Tensor, error: Tensor) -> Tensor:
    """Spearman's correlation over the pixels of each picture, of two maps (b, ...): (b,), 1 where large errors are where they are expected.

    Source: Spearman 1904; ties share the mean of their ranks.
    """
    ranks = [torch.stack([_ranks(row) for row in kind.flatten(1).double()]) for kind in (spread, error)]
    a, b = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt().clamp(min=1e-30)


def sparsification(spread: Tensor, error: Tensor) -> Tensor:
    """What is lost by leaving out pixels in the order of the map and not of their true errors: (b,), 0 as good as the truth, 1 as bad as chance.

    Pixels are left out from the most uncertain on; the mean error of those that remain is a curve over the share left out, and the area between it
    and the curve of the true order is divided by the area between chance, a level line, and the curve of the true order.
    """
    out = []
    for expected, e in zip(spread.flatten(1), error.flatten(1).double(), strict=True):
        by_map, by_truth = (_remaining(e[order.argsort(stable=True)]) for order in (expected, e))
        chance = (e.mean() - by_truth).mean()
        out.append((by_map - by_truth).mean() / chance if chance > 0 else torch.zeros_like(chance))
    return torch.stack(out)


def _off(samples: Tensor, centre: Tensor, n: int) -> Tensor:
    """The root of the mean square over samples (n of them count) and channels: (b, 1, h, w)."""
    return ((samples - centre).square().sum(0) / n).mean(1, keepdim=True).sqrt()


def _walk(model: Model, x: Batch, sampler: Walk, z: Draw) -> Sampler | None:
    """The sampler that is meant; None for one call."""
    d = model.degradation
    if sampler == "default" and d.noise:
        random = Ancestral(steps=_CALLS, snap=d.knots is not None)
        if random.reads(d) <= z.keys():
            return random
    return choose(model, State(x, 1.0, z), sampler)


def _damage(model: Model, x: Batch, z: Draw) -> dict[str, Tensor]:
    """What is fixed of the draw that damages a restored picture again: what is known, and of a mixture all severities."""
    d, fixed = model.degradation, dict(z)
    if not isinstance(d, Mixture):
        return fixed
    found: Mapping[str, Tensor] | None = None
    for i, (name, part) in enumerate(zip(d.names, d.parts, strict=True)):
        key = f"{i}.severity"
        if any(f"{i}.{entry}" not in z for entry in part.tells):
            fixed[key] = x.new_zeros(len(x))  # nobody says where, so a restorer is told that there is none
        elif key not in z and part.tells:
            fixed[key] = x.new_ones(len(x))  # where it is is known, and so is that it is there
        elif key not in z:
            found = found or _estimated(model, x)
            fixed[key] = _on_knots(found[name].to(x), part)
    return fixed


def _estimated(model: Model, x: Batch) -> dict[str, Tensor]:
    """The severities of a mixture's parts, of each as strong as it is if it is there, and 0 if it probably is not: each (b,)."""
    if model.estimator is None:
        raise ValueError(
            f"a model of {registry.spec(model.degradation)} restores whatever the damage was, but to damage a picture again it has to be known: "
            "fit an estimator (snowmelt.training.severity.fit), or give the severities in z ('0.severity', ...)"
        )
    e = model.estimator.estimate(x)
    return {name: torch.where(e.present[name] >= _LIKELY, s / e.present[name].clamp(min=_LIKELY), 0).clamp(max=1) for name, s in e.severity.items()}


def _on_knots(s: Tensor, part: Degradation) -> Tensor:
    return s if part.knots is None or part.recovers else (s * part.knots).round() / part.knots


def _varies(model: Model, fixed: Draw) -> None:
    """Whether damaging a picture twice gives two pictures.

    Raises:
        ValueError: it does not.
    """
    drawn = model.draw(blank(model.degradation), torch.Generator()).keys()
    if not drawn - fixed.keys():
        raise ValueError(
            f"nothing about {registry.spec(model.degradation)} is random once its draw is known, so that every restoration would be the same: "
            "a model with noise, or with a noise floor, can tell how far it may be off"
        )


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(0)
    ranks: Tensor = (last - (counts.double() + 1) / 2)[inverse]
    return ranks


def _remaining(errors: Tensor) -> Tensor:
    """The mean of the first k of errors in order of rising uncertainty, for k = all down to 1."""
    means: Tensor = errors.cumsum(0) / torch.arange(1, len(errors) + 1, device=errors.device)
    return means.flip(0)
