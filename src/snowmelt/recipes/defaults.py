"""Good defaults: a recipe for a folder of pictures and a degradation, with a reason for every number.

Nothing is guessed from a name. Sizes and channels are read from the files' headers, colour from the pixels of a few of
them. The choices are what worked on small nets in minutes on a CPU; whatever the user gives wins, and is neither
repeated nor explained.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt import registry
from snowmelt.data.checks import Check, unchecked
from snowmelt.data.images import UnreadableImage, read
from snowmelt.data.options import DataOptions
from snowmelt.data.pools import FilePool
from snowmelt.data.readings import DoorPool
from snowmelt.data.sources import open_data, source
from snowmelt.degradations import Degradation
from snowmelt.disk import as_path
from snowmelt.recipes import signals
from snowmelt.restorers import V
from snowmelt.training.prior import noise_at_end

_TWO_LEVELS_PX = 32  # the largest side for which two levels see far enough
_PHOTO_PX = 96  # a shorter side from here on is a photograph to cut from, not an icon to resize
_MIRRORED_PX = 64  # smaller ones may well be coloured digits
_LARGEST_KEPT_PX = 96
_SIZES = (64, 32, 16, 8)
_LOOKED_AT = 12
_IMAGES = (20_000, 200_000)
_VIEWS = 100
_NOISE_FLOOR = 0.02
_SEVERITY_IMAGES = 20_000


@dataclass(frozen=True)
class Survey:
    """What the pictures are like.

    Attributes:
        shapes: (c, h, w) of every picture, or of one where all are equal.
        count: how many pictures.
        colour: whether any of those looked at has a colour.
    """

    shapes: Sequence[tuple[int, ...]]
    count: int
    colour: bool

    @property
    def equal(self) -> bool:
        """Whether all have one height and width."""
        return len({shape[1:] for shape in self.shapes}) == 1

    @property
    def side(self) -> int:
        """The median of the shorter sides, in px."""
        return round(statistics.median(min(shape[1:]) for shape in self.shapes))

    @property
    def sizes(self) -> str:
        """The sizes in words."""
        small, large = (tuple(f(s[axis] for s in self.shapes) for axis in (2, 1)) for f in (min, max))
        text = " x ".join(map(str, small))
        return f"{text} px" if small == large else f"{text} to {' x '.join(map(str, large))} px"


def suggest(data: DataOptions, degradation: str, given: Mapping[str, Any], check: Check = unchecked) -> tuple[dict[str, Any], list[str]]:
    """A recipe's table for these pictures and this degradation, and one line of reason for every choice.

    Args:
        data: where the pictures are; of its other fields only range is read.
        degradation: the spec.
        given: the nested table of what the user gave; those fields are left out.
        check: is called for every folder and every file that is looked into; it may raise to end the work.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: no pictures, or an unknown degradation.
    """
    D: Degradation = registry.build(degradation)
    pool = source(data, check)
    found = signals.choices(pool, D, given) if isinstance(pool, DoorPool) else _choices(survey(data, check), D, given)
    table: dict[str, Any] = {"degradation": degradation, "data": {"path": data.path}}
    reasons = []
    for name, value, reason in found:
        section, _, field = name.partition(".")
        if field in given.get(section, {}):
            continue
        table.setdefault(section, {})[field] = value
        shown = f"{value:,}" if type(value) is int else str(value).lower() if isinstance(value, bool) else value
        reasons.append(f"{name} = {shown}: {reason}")
    return table, reasons


def survey(data: DataOptions, check: Check = unchecked) -> Survey:
    """Look at a source without decoding all of it; `check` is as in :func:`suggest`."""
    folder = as_path(data.path)
    pool = _pool(folder, check) if not data.path.startswith("bundled:") and folder.is_dir() else None
    if pool is None:
        bare = open_data(DataOptions(path=data.path, range=data.range), "train", check)
        return Survey([bare.shape], len(bare), bare.shape[0] == 3)
    return Survey(pool.shapes, len(pool.paths), any(shape[0] == 3 for shape in pool.shapes) and _has_colour(pool))


def _pool(folder: Path, check: Check) -> FilePool | None:
    """The pictures below a folder; None if it holds none, but may hold an array."""
    try:
        return FilePool.scan(folder, check=check)
    except ValueError as error:
        if "holds no picture" in str(error):
            return None
        raise


def _has_colour(pool: FilePool) -> bool:
    """Whether a few files, evenly spaced, hold any colour: grey pictures are often saved as RGB."""
    step = max(len(pool.paths) // _LOOKED_AT, 1)
    for path in pool.paths[::step]:
        pool.check()
        try:
            x = read(path).over()
        except UnreadableImage:
            continue
        if x.shape[0] == 3 and float((x - x.mean(0, keepdim=True)).abs().max()) > 0.05:
            return True
    return False


_Choice = tuple[str, Any, str]


def _choices(seen: Survey, D: Degradation, given: Mapping[str, Any]) -> Iterator[_Choice]:
    """Every choice as (dotted name, value, reason); later ones follow from what earlier ones, or the user, said."""
    asked = given.get("data", {})
    morphs = bool(D.needs) and not asked.get("pairs", False)
    size, fit, why = _whole(seen) if morphs else _size(seen)
    channels = asked.get("channels", 3 if seen.colour else 1)
    photo = seen.side >= _PHOTO_PX
    side = asked.get("size", size)
    if side != size:
        fit = "crop" if seen.side > side and photo and not morphs else "resize"
    yield "data.size", size, why
    yield "data.channels", channels, "the pictures have colour" if channels == 3 else "the pictures are grey"
    yield (
        "data.fit",
        fit,
        f"cut from pictures larger than {side} px, which keeps their scale" if fit == "crop" else "the whole picture is shown",
    )
    flip = seen.side >= _MIRRORED_PX and channels == 3
    yield (
        "data.flip",
        flip,
        "a mirrored photograph is a photograph" if flip else "only photographs in colour are mirrored: a mirrored digit or letter is none",
    )
    backbone, why = _backbone(side)
    yield "model.backbone", backbone, why
    if morphs and _keeps_variance(D):
        yield "model.parameterization", "v", "at t = 1 nothing of the clean picture is there, at t = 0 all of it: the network gives what is missing"
    generates = noise_at_end(D) is not None
    if generates:
        reason = "the network gives what the best linear restorer lacks; eps, v, x0, flow and edm are those of their papers"
        yield "model.parameterization", "wiener", reason
    if D.noise:
        yield "model.input", "float", "the noise reaches beyond what an 8-bit file holds"
    else:
        yield "model.input", "8bit", "pictures that are already degraded come in 8-bit files"
    if D.noise:
        yield "model.noise_floor", 0.0, "the degradation ends in noise of its own"
    else:
        yield "model.noise_floor", _NOISE_FLOOR, "a little noise on top keeps walks of many calls from drifting"
    images, why = _images(seen, side, fit)
    images = given.get("training", {}).get("images", images)
    yield "training.images", images, why
    batch = 64
    yield "training.batch", batch, "small batches make the most of few images"
    if side <= _TWO_LEVELS_PX:
        yield "training.lr", 2e-3, "what the presets for nets of this size use"
    else:
        yield "training.lr", 1e-3, "at twice that, networks of three levels were seen to learn nothing of photographs"
    severities = "auto" if D.knots is None else "knots"
    reason = "uniform in (0, 1]: one model restores every strength" if D.knots is None else f"the {D.knots} knots of the operator"
    yield "training.severities", severities, reason
    yield "training.validate_every", max(images // 8, 1), "eight validations and checkpoints in all"
    if D.needs or generates:
        return  # such walks begin at t = 1, or where one says: there is no severity to read
    reason = "afterwards a small network learns to read severities, 1 to 2 ms of one core a crop, so that nobody need guess them"
    yield "training.severity_images", min(_SEVERITY_IMAGES, images), reason


def _keeps_variance(D: Degradation) -> bool:
    """Whether the parameterization v fits."""
    try:
        V().check(D)
    except registry.SpecError:
        return False
    return True


def _whole(seen: Survey) -> tuple[int, str, str]:
    """Side, fit and reason where one kind of picture turns into another: parts of them would not match."""
    size = next((s for s in _SIZES if s <= seen.side), 8)
    return size, "resize", f"pictures are {seen.sizes}; all of them are morphed, so all of them are shown"


def _size(seen: Survey) -> tuple[int, str, str]:
    """Side, fit and the reason of the side."""
    if seen.side >= _PHOTO_PX and not (seen.equal and seen.side <= _LARGEST_KEPT_PX):
        return 64, "crop", f"pictures are {seen.sizes}; training on 64 px crops, restoring takes any size"
    square = seen.equal and seen.shapes[0][1] == seen.shapes[0][2]
    if square:
        return seen.side, "resize", f"pictures are {seen.sizes}; kept as they are"
    size = next((s for s in _SIZES if s <= seen.side), 8)
    return size, "resize", f"pictures are {seen.sizes}; the nearest sensible square below"


def _backbone(side: int) -> tuple[str, str]:
    """The network for squares of `side` px: the stem's patches leave at least 8 x 8 positions."""
    if side <= 8:
        return "unet:widths=(32,64),patch=1", "pictures this small need every pixel"
    if side <= 16:
        return "unet:widths=(48,64),patch=2", "two levels for pictures up to 16 px"
    if side <= _TWO_LEVELS_PX:
        return "unet:widths=(64,96),patch=4", f"two levels for pictures up to {_TWO_LEVELS_PX} px; fast on a CPU"
    if side <= 64:
        return "unet:widths=(32,64,96),patch=2", "three levels see far enough at this size, and a fine stem keeps detail"
    return "unet:widths=(64,96,128),patch=4", "three levels see far enough at this size; fast on a CPU"


def _images(seen: Survey, side: int, fit: str) -> tuple[int, str]:
    """How many images to see: each part of each picture about a hundred times, within bounds."""
    parts = 1 if fit == "resize" else max(min((s[1] // side) * (s[2] // side) for s in seen.shapes), 1)
    low, high = _IMAGES
    different = seen.count * parts
    wanted = round(_VIEWS * different, -3)
    if wanted >= high:
        return high, "some minutes on a CPU, and enough for a first model"
    images = max(wanted, low)
    what = f"{seen.count:,} pictures" if parts == 1 else f"{seen.count:,} pictures, {different:,} crops that do not overlap"
    return images, f"there are {what}; more than {round(images / different):,} times each would learn them by heart"
