"""Sets of pictures against sets: Fréchet and kernel distances in the features of a network, and labels it would give.

The reference is *paired*: the clean test pictures whose degraded forms were restored, N of each. The floor is what as many training pictures
score against them: other pictures of the same source. A method can lie below it, since it was given the very pictures it is compared with. A distance
bears its features' name (FD-mnist-v1). Without a network it is "not computed"; no other number takes its place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import intervals
from snowmelt.evaluation.kept import Kept
from snowmelt.metrics.distribution import RESAMPLES, caveat, frechet, frechet_interval, kid, kid_interval
from snowmelt.metrics.features import Features
from snowmelt.randomness import permutation
from snowmelt.types import Batch

NOT_COMPUTED = "not computed"
ACCURACY = "label accuracy"
_NAMED = 3


def names(network: Features) -> tuple[str, str]:
    """What the Fréchet and the kernel distance in these features are called: ("FD-mnist-v1", "KID-mnist-v1")."""
    return network.score, "KID" if network.score == "FID" else f"KID-{network.name}"


@dataclass(frozen=True)
class Judge:
    """What judges sets of pictures by.

    Attributes:
        network: gives features and labels; None judges nothing.
        clean: features (n, k) of the clean pictures, in the order in which methods restore them; None where they are not known yet.
        truth: the label of every picture of the test set, as numbers in the network's classes, where it has one and the network knows the classes.
        strange: why there is no truth although both have classes; None where there is one, or nothing to read.
        seed: of the bootstrap.
    """

    network: Features | None = None
    clean: Tensor | None = None
    truth: Tensor | None = None
    strange: str | None = None
    seed: int = 0

    def features(self, x: Batch) -> Tensor | None:
        """Features (b, k) of pictures (b, c, h, w), clamped to [-1, 1]."""
        return None if self.network is None else self.network(x)

    def right(self, x: Batch, ids: Sequence[int]) -> Tensor | None:
        """Whether each restored picture is given the label of the clean one: (b,) bool."""
        if self.network is None or self.truth is None:
            return None
        found = self.network.labels(x)
        return None if found is None else found == self.truth[list(ids)]

    def against_clean(self, features: Tensor, *, paired: bool = True) -> tuple[dict[str, float], dict[str, intervals.Interval]]:
        """Both distances of a set to the clean pictures, and their intervals; nothing from a single picture."""
        if self.network is None or self.clean is None or len(features) < 2:
            return {}, {}
        return distances(self.network, features, self.clean, paired=paired, seed=self.seed)

    def caveat(self) -> str | None:
        """What must be said of a Fréchet distance of so few pictures."""
        return None if self.clean is None else caveat(len(self.clean), len(self.clean), self.clean.shape[1])


def distances(
    network: Features, a: Tensor, b: Tensor, *, paired: bool, seed: int
) -> tuple[dict[str, float], dict[str, intervals.Interval]]:
    """Fréchet and kernel distance of features a (n, k) and b (m, k) by name, and their 95 % intervals."""
    fd, kd = names(network)
    sure = {
        fd: frechet_interval(a, b, paired=paired, resamples=RESAMPLES, run=seed),
        kd: kid_interval(a, b, paired=paired, resamples=RESAMPLES, run=seed),
    }
    return {fd: frechet(a, b), kd: kid(a, b, paired=paired)}, sure


def judge_for(
    network: Features | None, test: Dataset, ids: Sequence[int], *, seed: int, batch: int, kept: Kept | None = None
) -> tuple[Judge, Callable[[], Judge]]:
    """The judge of restorations of the pictures `ids` of `test`: as it looks at pictures, and, once all pieces are there, as it judges sets."""
    if network is None:
        return Judge(), Judge
    judge = Judge(network, None, *truth_for(network, test), seed)
    clean = features_of(network, test, ids, batch=batch, kept=kept, name="clean")
    return judge, lambda: replace(judge, clean=clean())


def features_of(
    network: Features, data: Dataset, ids: Sequence[int], *, batch: int = 250, kept: Kept | None = None, name: str = "features"
) -> Callable[[], Tensor]:
    """Features (n, k) of clean pictures, to be had once all pieces are there; `name` tells them from others that are kept."""
    parts = [ids[i : i + batch] for i in range(0, len(ids), batch)]
    found = (kept or Kept()).each(f"features of {name}", parts, lambda part: {"features": network(data.batch(part)["x0"])})
    return lambda: torch.cat([one["features"] for one in found()])


def truth_for(network: Features, data: Dataset) -> tuple[Tensor | None, str | None]:
    """The labels of a data set as numbers in the network's classes, or why they are none; neither where one of them has no classes.

    Classes are matched by name. Where either side has but numbers for names, as idx files have, number i is number i.
    """
    return (None, None) if data.labels is None or data.classes is None else matched(network, data.labels, data.classes)


def matched(network: Features, labels: Tensor, own: Sequence[str]) -> tuple[Tensor | None, str | None]:
    """Labels, numbers in the classes `own`, as numbers in the network's classes; see :func:`truth_for`."""
    known = network.classes
    if known is None:
        return None, None
    if int(labels.max()) < len(own) and set(own) <= set(known):
        return torch.tensor([known.index(one) for one in own])[labels], None
    if not _numbered(known) and not _numbered(own):
        return None, f"the pictures are of {_listed(own)}, and {network.name} tells {_listed(known)}: give features of these classes"
    if int(labels.max()) >= len(known):
        return None, f"the pictures have labels up to {int(labels.max())}, and {network.name} tells {len(known)} classes"
    return labels, None


def _numbered(classes: Sequence[str]) -> bool:
    return all(one.isdecimal() for one in classes)


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes[:_NAMED]) + (f" and {len(classes) - _NAMED} more" if len(classes) > _NAMED else "")


def floor_row(
    network: Features, judge: Callable[[], Judge], train: Dataset, n: int, *, seed: int, batch: int, kept: Kept | None = None
) -> Callable[[], dict[str, Any]]:
    """What training pictures score against the n clean test pictures, as many of them or all there are: the floor of both distances."""
    ids = permutation(seed, "evaluation-floor", 0, len(train))[:n].tolist()
    found = features_of(network, train, ids, batch=batch, kept=kept, name="floor")

    def made() -> dict[str, Any]:
        numbers, sure = judge().against_clean(found(), paired=False)
        return {"method": "Floor: training pictures", "kind": "floor", "calls": 0, "images": len(ids), **numbers, "intervals": sure}

    return made
