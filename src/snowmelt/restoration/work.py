"""What is done to every picture of a collection, as one frozen value: model, walk, seed, and what the user asked for besides.

Random numbers are keyed by the seed and the picture's path below its input. So neither the batch, the shard, what is finished
already, nor a picture that joins the folder later changes what becomes of the others.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt._version import __version__
from snowmelt.data.images import MAX_PIXELS
from snowmelt.degradations import Mixture
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.restoration.consistency import Consistency, consistency_for, keep
from snowmelt.restoration.spread import spread
from snowmelt.restoration.translation import Endpoint, start_of
from snowmelt.restoration.walks import begin
from snowmelt.restorers import Estimate, Restorer
from snowmelt.restorers.severity import PRESENT
from snowmelt.restorers.tiles import Tiles, least
from snowmelt.samplers import Sampler
from snowmelt.signals import PICTURE
from snowmelt.training.exactness import precision
from snowmelt.types import Draw, State
from snowmelt.types import severity as severities

_FIRST_TILE_PX = 512
_WHITE = 0.2  # an error that is drawn white, on [-1, 1]


def _unseen(state: State) -> None:
    """Nobody looks on."""


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
        colour: pictures that came without colour may get some.
        enlarge: 2 doubles height and width.
        anyway: restore also what looks clean, and what the model is unsure of.
        max_pixels: larger pictures are refused.
        endpoint: the pictures are translated, with this endpoint.
        noise: standard deviation of what is added to a picture that is translated; None is the model's noise floor.
        size: (h, w) in px that every picture is resized to.
        animation: as what a walk that is kept is animated: gif, webp or mp4.
        seen: told every state of a walk as it comes, the start first.
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
    colour: bool = False
    enlarge: int = 1
    anyway: bool = False
    max_pixels: int = MAX_PIXELS
    endpoint: Endpoint | None = None
    noise: float | None = None
    size: tuple[int, int] | None = None
    animation: str = "gif"
    seen: Callable[[State], None] = field(default=_unseen, compare=False, repr=False)

    @property
    def verb(self) -> str:
        """What is done, with -ing or -ed to come."""
        return "restor" if self.endpoint is None else "translat"

    @property
    def channels(self) -> int | None:
        """The channels the model was trained on, if it says."""
        return self.model.restorer.shape[0] if isinstance(self.model.restorer, Restorer) else None

    def spec(self) -> str:
        """The sampler in words."""
        return "one call" if self.sampler is None else registry.spec(self.sampler)

    def how(self) -> str:
        """The walk and where it starts, in words."""
        if self.blind and not self.degrade:
            return f"{self.spec()}, blind"  # its severity 1 is whatever the damage was
        return f"{self.spec()}, from {'an estimated t' if self.severity is None else f't = {self.severity:.4g}'}"

    def settings(self) -> dict[str, Any]:
        """What holds for every picture, for the journal and for the files themselves."""
        further = {
            "degraded here": self.degrade or None,
            "mask": None if self.mask is None else self.mask.name,
            "samples": self.samples if self.samples > 1 else None,
            "tile": self.tile,
            "consistent": self.consistent,
            "colour": self.colour or None,
            "enlarge": self.enlarge if self.enlarge > 1 else None,
            "anyway": self.anyway or None,
            "endpoint": self.endpoint,
            "noise": self.noise,
            "size": None if self.size is None else list(self.size),
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

    @property
    def blind(self) -> bool:
        """Whether the model was trained on a mixture: its severity 1 is whatever the damage was."""
        return isinstance(self.model.degradation, Mixture)

    @property
    def keeps(self) -> bool:
        """Whether known pixels stay as they came: with a blind model, a mask and nothing else asked of the rest."""
        return self.blind and self.mask is not None and self.consistent is not False and self.enlarge == 1

    @property
    def spared(self) -> str:
        """What a blind model leaves of the damage that it sees, in words; "" for nothing."""
        if self.blind and self.enlarge > 1:
            return "it is enlarged as it is"
        return "the mask alone is filled" if self.keeps else ""

    @property
    def shows(self) -> bool:
        """Whether files themselves show what of them is missing, to a model that is told: recordings and scans do, pictures need a mask."""
        masked = any(name.rpartition(".")[2] == "mask" for name in self.model.degradation.given)
        return masked and not self.degrade and self.model.signal != PICTURE

    def verdict(self, estimate: Estimate | None) -> Literal["damaged", "clean", "unsure"]:
        """Whether a blind model should touch a picture: do no harm to what is sound, and do not beautify what it cannot judge.

        Only damage that the estimator can see counts: a mask is told, and the loss of colour is asked for.
        """
        if estimate is None or not self.blind or self.anyway or self.degrade or self.mask is not None or self.enlarge > 1 or self.colour:
            return "damaged"
        if bool(estimate.unsure[0]):
            return "unsure"
        return "damaged" if float(estimate.damaged[0]) >= PRESENT else "clean"

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
        if self.endpoint is not None:
            start = start_of(self.model, x, self.noise, draws)
        else:
            start = self.model.corrupt(x, severity, draws) if self.degrade else begin(self.model, x, severity, generator=draws)
        # What was drawn here and nobody could know stays unknown, as it would be for a picture from elsewhere.
        known = {name: value.to(self.device) for name, value in start.z.items() if name not in self.model.degradation.hidden}
        start = State(start.x.to(self.device), start.t, known)
        if mask is not None:
            start = with_mask(self, start, mask.to(self.device))
        measured = start.x if self.degrade and self.model.noise_floor == 0 else x.to(start.x)
        post = self._consistency(measured, severity, start.z)
        if self.sampler is None:
            estimate = self.model.estimate(start.x, severities(start.t, start.x), start.z)
            states = [start, State(estimate, 0.0, start.z, estimate)]
        else:
            states = []
            further = [generator(self.seed, f"restore-walk/{key}") for key in keys]
            for state in self.sampler.trajectory(self.model, start, further, post=post):
                if not self.trajectory and len(states) > 1:
                    states.pop()
                states.append(state)
                self.seen(state)
        end = states[-1].x
        if mask is not None and self.keeps:
            end = keep(measured.to(end), end, mask.to(end))
        elif post is not None:
            end = post.settle(end)
        return [*states[:-1], states[-1]._replace(x=end)]

    def _consistency(self, measured: Tensor, severity: float | Tensor, z: Draw) -> Consistency | None:
        """What keeps a walk true to what was measured; a picture that is degraded here under a noise floor is no measurement."""
        if self.blind or (self.degrade and self.model.noise_floor > 0 and not self.consistent):
            return None
        return consistency_for(self.model, measured, severity, z, wanted=self.consistent, guessed=self.severity is None)

    def rehearse(self) -> None:
        """One call on a grey picture of the size the model was trained on: what can never work fails here, before any picture.

        Raises:
            ValueError, TypeError: the sampler or the restorer lacks what it needs.
        """
        if isinstance(self.model.restorer, Restorer):
            like = torch.zeros(1, *self.model.restorer.shape, device=self.device)
            mask = None if self.mask is None and not self.shows else like.new_ones(1, 1, *like.shape[2:])
            walk = None if self.sampler is None else dataclasses.replace(self.sampler, steps=1, snap=False, times=())
            short, severity = dataclasses.replace(self, sampler=walk), 1.0 if self.severity is None else self.severity
            states = short.walk(like, severity, [""], mask)
            if self.samples > 1:
                several(dataclasses.replace(short, samples=2), like, states[0], "", mask)


def with_mask(work: Work, start: State, mask: Tensor) -> State:
    """The start of a walk that is told where the picture is damaged: mask (b, 1, h, w), 1 known, 0 hole.

    Raises:
        ValueError: the model cannot be told.
    """
    name = next((name for name in work.model.degradation.given if name.rpartition(".")[2] == "mask"), None)
    if name is None:
        raise ValueError(f"a mask is of no use to a model of {registry.spec(work.model.degradation)}: leave --mask out")
    drawn = f"{name.rpartition('.')[0]}.severity"  # of a mask that was drawn, if there was one: the user's is there
    x = start.x if work.model.signal.name == "scan" else start.x * mask  # where nothing came back a scan is -1 already
    return State(x, start.t, {**{k: v for k, v in start.z.items() if k != drawn}, name: mask.to(start.x)})


def several(work: Work, x: Tensor, start: State, key: str, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean (b, c, h, w) of `work.samples` restorations of x, and how far it may be off (b, 1, h, w): white is a tenth of the range.

    Args:
        work: what is done.
        x: the pictures (b, c, h, w), before the noise floor.
        start: where their walk started.
        key: what the random numbers are keyed by.
        mask: (b, 1, h, w), 1 where the picture is known.

    Raises:
        ValueError: every restoration would be the same.
    """
    known = {name: value for name, value in start.z.items() if name != "floor"}
    found = spread(
        work.model,
        x if mask is None else x * mask,
        severity=start.t,
        samples=work.samples,
        sampler=work.sampler if work.sampler is None or work.sampler.random else "default",
        z=known,
        consistent=None if work.blind else work.consistent,
        generator=generator(work.seed, f"restore-samples/{key}"),
    )
    mean, off = found.mean, found.std
    if mask is not None and work.keeps:
        mean, off = keep(x, mean, mask), off * (1 - mask)
    return mean, (off / _WHITE * 2).clamp(max=2) - 1


def with_precision(work: Work) -> Work:
    """The work in bf16 where the processor computes in it: two to three times as fast, and far below a level of an 8-bit file away."""
    if not isinstance(work.model.restorer, Restorer):
        return work
    restorer = copy.copy(work.model.restorer)
    restorer.precision = precision("auto", torch.device(work.device))
    return dataclasses.replace(work, model=dataclasses.replace(work.model, restorer=restorer))


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
