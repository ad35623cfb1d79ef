"""Good defaults for sound and scans: a network, a window and numbers, each with its reason.

As for pictures, nothing is guessed from a name: lengths, rates and rings are those of the files' headers, and what an operator says of itself decides
the rest.
"""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from snowmelt.data.options import PREVIOUS
from snowmelt.data.readings import DoorPool
from snowmelt.degradations import Degradation
from snowmelt.signals import Sound
from snowmelt.training.prior import noise_at_end

Choice: TypeAlias = tuple[str, Any, str]  # dotted name, value, reason

_WINDOWS = (256, 8192)
_VIEWS = 100
_RECORDINGS = (24_000, 100_000)
_SCANS = (6_000, 12_000)


def choices(pool: DoorPool, D: Degradation, given: Mapping[str, Any]) -> Iterator[Choice]:
    """Every choice for these files and this degradation; later ones follow from what earlier ones, or the user, said."""
    sound = isinstance(pool.door.signal, Sound)
    yield from _sound(pool, D) if sound else _scans(D, given.get("data", {}))
    if noise_at_end(D) is not None:
        yield "model.parameterization", "v", "at t = 1 nothing of the clean sample is there, at t = 0 all of it: the network gives what is missing"
    yield "model.input", "float", f"{pool.door.signal.many} are not stored in 8 bits"
    low, high = _RECORDINGS if sound else _SCANS
    images = min(max(_VIEWS * len(pool.paths), low), high)
    why = f"there are {len(pool.paths):,} {pool.door.signal.many}; some minutes on a CPU, and enough for a first model"
    images = given.get("training", {}).get("images", images)
    yield "training.images", images, why
    yield "training.batch", 16 if sound else 4, "small batches make the most of few samples"
    yield "training.lr", 2e-3, "what the presets for nets of this size use"
    yield "training.validate_every", max(images // 8, 1), "eight validations and checkpoints in all"


def _sound(pool: DoorPool, D: Degradation) -> Iterator[Choice]:
    rate, typical = pool.door.signal.rate_hz, round(statistics.median(shape[-1] for shape in pool.shapes))  # type: ignore[attr-defined]
    window = 2 ** (min(max(typical, _WINDOWS[0]), _WINDOWS[1]).bit_length() - 1)
    said = f"{window / rate:.2g} s at {rate:,} Hz, cut from recordings of about {typical / rate:.2g} s; restoring takes any length"
    yield "data.window", window, said
    if any(name.endswith("mask") for name in D.tells):
        yield "model.backbone", "gap-unet", "gaps begin with what linear prediction puts there"
    else:
        yield "model.backbone", "stft-unet", "noise and bands lie apart in a spectrum over time"
    if D.recovers and not D.noise:
        yield "training.unfold", True, "the restorer meets its own errors, as it will on a walk"
    elif not D.noise and not D.tells:
        yield "training.penalty", "frequency", "a mean of what a lost band may have been is silence: this asks for its energy"
        yield "training.penalty_weight", 0.02, "about as much as the squared error at the end"


def _scans(D: Degradation, asked: Mapping[str, Any]) -> Iterator[Choice]:
    if asked.get("endpoint") == PREVIOUS:
        yield "data.turn", False, "what comes next depends on where ahead is"
    else:
        yield "data.turn", True, "a scan that is turned about its axis is a scan"
    yield "data.flip", True, "a mirrored street is a street"
    fills = any(name.endswith("mask") for name in D.tells)
    if fills:
        reason = "columns close to a circle, and lost cells begin with what their neighbours say"
        yield "model.backbone", "ring-unet:widths=(32,64,64),columns=2,fill=true", reason
    else:
        yield "model.backbone", "ring-unet", "columns close to a circle"
    if not D.noise:
        yield "training.counted", "metres", "ranges are wanted in metres, and where nothing came back there is none to be wrong about"
        yield "training.loss", "l1", "at an edge there is near or far and nothing between: a median takes sides, a mean does not"
