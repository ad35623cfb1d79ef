"""What is done to every picture of a collection, as one frozen value: model, walk, seed, and what the user asked for besides.

Random numbers are keyed by the seed and the picture's path below its input. So neither the batch, the shard, what is finished
already, nor a picture that joins the folder later changes what becomes of the others.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt._version import __version__
from snowmelt.data.images import MAX_PIXELS
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.restoration.walks import begin
from snowmelt.restorers import Restorer
from snowmelt.restorers.tiles import Tiles, least
from snowmelt.samplers import Sampler
from snowmelt.types import State
from snowmelt.types import severity as severities

_FIRST_TILE_PX = 512


@dataclass(frozen=True)
class Work:
    """What is done to every picture.

    Attributes:
        model: on the device where it computes.
        name: of the model, and with `weights` what the results say of where they come from.
        weights: the SHA-256 of its weights.
        severity: how degraded the pictures are; None where each is estimated.
        sampler: None is one call of the restorer.
        device: where to compute.
        seed: of what is random.
        degrade: the pictures are clean, and degraded first.
        trajectory: keep every step.
        mask: the user's mask, or folder of masks.
        samples: how many walks a picture; above 1, their mean and spread are written too.
        tile: the side of a tile in px.
        consistent: whether the result, degraded again, has to agree with the picture; None is the model's own choice.
        max_pixels: larger pictures are refused.
    """

    model: Model
    name: str
    weights: str
    severity: float | None
    sampler: Sampler | None
    device: str = "cpu"
    seed: int = 0
    degrade: bool = False
    trajectory: bool = False
    mask: Path | None = None
    samples: int = 1
    tile: int | None = None
    consistent: bool | None = None
    max_pixels: int = MAX_PIXELS

    @property
    def channels(self) -> int | None:
        """The channels the model was trained on, if it says."""
        return self.model.restorer.shape[0] if isinstance(self.model.restorer, Restorer) else None

    def spec(self) -> str:
        """The sampler in words."""
        return "one call" if self.sampler is None else registry.spec(self.sampler)

    def how(self) -> str:
        """The walk and where it starts, in words."""
        return f"{self.spec()}, from {'an estimated t' if self.severity is None else f't = {self.severity:.4g}'}"

    def settings(self) -> dict[str, Any]:
        """What holds for every picture, for the journal and for the files themselves."""
        further = {
            "degraded here": self.degrade or None,
            "mask": None if self.mask is None else str(self.mask),
            "samples": self.samples if self.samples > 1 else None,
            "tile": self.tile,
            "consistent": self.consistent,
        }
        return {
            "snowmelt": __version__,
            "model": self.name,
            "weights_sha256": self.weights,
            "severity": self.severity,
            "sampler": self.spec(),
            "seed": self.seed,
            **{name: value for name, value in further.items() if value is not None},
        }

    @torch.no_grad()
    def walk(self, x: Tensor, severity: float | Tensor, keys: Sequence[str], mask: Tensor | None = None) -> list[State]:
        """The states from the degraded pictures to the restored ones: the first two and the last, or all of them.

        Args:
            x: pictures (b, c, h, w), clean where `degrade`.
            severity: one number, or one a picture (b,).
            keys: what each picture's random numbers are keyed by.
            mask: (b, 1, h, w), 1 where the picture is known.
        """
        draws = [generator(self.seed, f"restore/{key}") for key in keys]
        start = self.model.corrupt(x, severity, draws) if self.degrade else begin(self.model, x, severity, generator=draws)
        # Noise that was drawn here stays unknown, as it would be for a picture from elsewhere.
        known = {name: value.to(self.device) for name, value in start.z.items() if name not in self.model.degradation.noise}
        start = State(start.x.to(self.device), start.t, known)
        if mask is not None:
            start = with_mask(self, start, mask.to(self.device))
        if self.sampler is None:
            estimate = self.model.estimate(start.x, severities(start.t, start.x), start.z)
            return [start, State(estimate, 0.0, start.z, estimate)]
        states: list[State] = []
        further = [generator(self.seed, f"restore-walk/{key}") for key in keys]
        for state in self.sampler.trajectory(self.model, start, further):
            if not self.trajectory and len(states) > 1:
                states.pop()
            states.append(state)
        return states

    def rehearse(self) -> None:
        """One call on a grey picture of the size the model was trained on: what can never work fails here, before any picture.

        Raises:
            ValueError, TypeError: the sampler or the restorer lacks what it needs.
        """
        if isinstance(self.model.restorer, Restorer):
            like = torch.zeros(1, *self.model.restorer.shape, device=self.device)
            mask = None if self.mask is None else like.new_ones(1, 1, *like.shape[2:])
            walk = None if self.sampler is None else dataclasses.replace(self.sampler, steps=1, snap=False)
            short, severity = dataclasses.replace(self, sampler=walk), 1.0 if self.severity is None else self.severity
            short.walk(like, severity, [""], mask)
            if self.samples > 1:
                several(dataclasses.replace(short, samples=2), like, severity, "", mask)


def with_mask(work: Work, start: State, mask: Tensor) -> State:
    """The start of a walk that is told where the picture is damaged: mask (b, 1, h, w), 1 known, 0 hole.

    Raises:
        ValueError: the model cannot be told.
    """
    raise ValueError(f"a mask is of no use to a model of {registry.spec(work.model.degradation)}: leave --mask out")


def with_consistency(work: Work) -> Work:
    """The work with data consistency switched on or off, as `work.consistent` says.

    Raises:
        ValueError: it cannot be switched.
    """
    if work.consistent is None:
        return work
    raise ValueError(f"consistency cannot be switched for a model of {registry.spec(work.model.degradation)}: leave --consistent out")


def several(work: Work, x: Tensor, severity: float | Tensor, key: str, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean (b, c, h, w) of `work.samples` walks and their spread (b, 1, h, w), which is written as NAME-uncertainty.

    Raises:
        ValueError: every walk would end in the same place.
    """
    label = "one call" if work.sampler is None else registry.label(type(work.sampler))
    raise ValueError(f"--samples: {label} draws nothing, so that all would be alike; leave --samples out")


def with_tiles(work: Work, px: int) -> Work:
    """The work with tiles of `px`; its weights are shared.

    Raises:
        ValueError: the restorer is a plain function.
    """
    if not isinstance(work.model.restorer, Restorer):
        raise ValueError("tiles are cut by a snowmelt.Restorer; this model's restorer is a plain function: leave the tile out")
    restorer = copy.copy(work.model.restorer)
    restorer.tiles = Tiles(px, min(64, px // 4))
    return dataclasses.replace(work, model=dataclasses.replace(work.model, restorer=restorer))


def with_smaller_tiles(work: Work) -> Work | None:
    """The work with tiles of half the side; None where they would be too small to be of use."""
    restorer = work.model.restorer
    if not isinstance(restorer, Restorer):
        return None
    px = (restorer.tiles.size if restorer.tiles else _FIRST_TILE_PX) // 2
    return with_tiles(work, px) if px >= least(restorer.net) else None
