r"""Continuation: the next frame of a sequence, and the next one of that, each made from the one before.

.. math:: x^{(k + 1)} \sim p(x \mid x^{(k)}), \qquad k = 0, 1, \ldots

Two kinds of models know such a law. One *generates* and is told the frame before as a condition (``--model.conditions image`` with
``--data.endpoint previous --data.pairs``); its walk begins in the prior. The other is a ``morph`` whose endpoint is the frame before: its walk
begins there. A new frame is brought to what its file would hold before the next is made of it: returns that are returns or none, ranges that
the sensor can see. So going on from a written frame is the same as going on.

This is a chain of frames that each agree with the last one, no model of motion: errors add up, and nothing remembers what was seen two frames
ago. What it is worth is measured against *repeating the last frame* (:func:`against_repeating`), which is a good guess at ten frames a second.

Source: Ho et al. 2022 (arXiv 2204.03458), "Video diffusion models", for extending a sequence by conditioning on its end.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt import files, pictures, registry
from snowmelt.data.dataset import Dataset
from snowmelt.data.door import Unreadable, door_for
from snowmelt.data.options import PREVIOUS
from snowmelt.degradations import Morph
from snowmelt.metrics.measures import Gathered, measures_for
from snowmelt.model import Model, noted
from snowmelt.randomness import generators
from snowmelt.restoration.generation import beginning
from snowmelt.restoration.identity import Opened
from snowmelt.restoration.outlets import SUFFIXES, write
from snowmelt.restoration.told import device_of
from snowmelt.restoration.translation import start_of, walk_for
from snowmelt.restoration.walks import Walk, choose, walked
from snowmelt.restorers.guidance import conditions_of
from snowmelt.samplers import Sampler
from snowmelt.sensor import decode, encode
from snowmelt.signals import Scan
from snowmelt.training.progress import Bar
from snowmelt.types import Batch

NAME, STRIP, VIEWS, ANIMATION = "continuation.json", "strip.png", "birds-eye.png", "frames.gif"
REPEATED = "Repeat the last frame"
_STREAM = "continuation"
_SHOWN = 12


def continued(model: Model, x: Batch, n: int, *, sampler: Walk = "default", seed: int = 0, noise: float | None = None) -> Tensor:
    """The n frames after x (b, *d): (b, n, *d), on the CPU; see :func:`continuing`."""
    return torch.stack(list(continuing(model, x, n, sampler=sampler, seed=seed, noise=noise)), 1)


def continuing(model: Model, x: Batch, n: int, *, sampler: Walk = "default", seed: int = 0, noise: float | None = None) -> Iterator[Batch]:
    """The n frames after x, one after the other, (b, *d) each, on the CPU.

    Args:
        model: one that was trained on pairs of a frame and the one before it.
        x: the last known frame of each sequence, (b, *d).
        n: how many frames.
        sampler: a sampler, its spec, "default", or None for one call.
        seed: frame k of sequence j is drawn by (seed, k, j) alone.
        noise: another broken symmetry than the prior's own; of a morph, what is added to the frame before.

    Raises:
        ValueError: the model was not trained so, x is of another shape than its samples, or n lies under 1.
    """
    require(model)
    if n < 1:
        raise ValueError(f"n = {n} frames: give at least 1")
    shape = getattr(model.restorer, "shape", tuple(x.shape[1:]))
    if tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"the last frame has shape {tuple(x.shape[1:])}, and this model makes {tuple(shape)}: give a {model.signal.one} of its kind")
    for k in range(1, n + 1):
        own = generators(seed, f"{_STREAM}-{k}", range(len(x)))
        x = _as_read(_next(model, x, own, sampler, noise).cpu(), model)
        yield x


def require(model: Model) -> None:
    """Refuse a model that does not know what follows a frame.

    Raises:
        ValueError: it does not; the message says how one is trained that does.
    """
    known, told = conditions_of(model.restorer), noted(model.notes, "recipe", "data", "endpoint")
    way_out = "train one with --data.endpoint previous --data.pairs and --model.conditions image (or --degradation morph)"
    if not isinstance(model.signal, Scan):
        raise ValueError(f"this model makes {model.signal.many}, and only LiDAR scans have a next frame here: {way_out} on a folder of scans")
    if not isinstance(model.degradation, Morph) and (known is None or not known.image):
        raise ValueError(f"this model was not told the frame before, so it cannot make the next one: {way_out}")
    if told is not None and told != PREVIOUS:
        raise ValueError(f"this model was trained with data.endpoint = {told}, not with the frame before: {way_out}")


def against_repeating(
    model: Model, data: Dataset, count: int | None = None, *, sampler: Walk = "default", seed: int = 0, batch: int = 8
) -> list[dict[str, Any]]:
    """How far the model's next frame lies from the true one, and how far the last frame does: a row each, by the measures of the signal.

    Args:
        model: one that :func:`require` lets pass.
        data: pairs of a frame and the one before it (data.endpoint = "previous").
        count: how many pairs; by default all.
        sampler: as in :func:`continuing`.
        seed: of the draws.
        batch: frames computed together.

    Raises:
        ValueError: the data have no frame before, or the model was not trained so.
    """
    require(model)
    if "endpoint" not in data.keys:
        raise ValueError('the data have no frame before each: open them with data.endpoint = "previous" and data.pairs')
    measures = measures_for(model.signal)
    found = {"Next frame": Gathered(measures), REPEATED: Gathered(measures)}
    count = len(data) if count is None else min(count, len(data))
    for first in range(0, count, batch):
        numbers = range(first, min(first + batch, count))
        item = data.batch(numbers)
        own = generators(seed, f"{_STREAM}-1", numbers)
        made = _as_read(_next(model, item["endpoint"], own, sampler, None).cpu(), model)
        found["Next frame"].update(made, item["x0"])
        found[REPEATED].update(item["endpoint"], item["x0"])
    return [{"method": name, "N": count, **scores.compute()} for name, scores in found.items()]


def roll_out(
    model: Opened, source: Path, out: Path, n: int, *, sampler: Walk = "default", seed: int = 0, noise: float | None = None, overwrite: bool = False
) -> list[str]:
    """Write the n frames after the scan in `source` to `out`: 0001.bin and so on, with pictures of them; the names of the pictures.

    Args:
        model: what makes them.
        source: a scan of the sensor that the model was trained on.
        out: the folder.
        n: how many frames.
        sampler: as in :func:`continuing`.
        seed: as in :func:`continuing`.
        noise: as in :func:`continuing`.
        overwrite: whether frames that an earlier continuation wrote, as `out`/continuation.json says, are replaced; no other file ever is.

    Raises:
        ValueError: the model was not trained so, the scan is of another sensor, `out` is its folder, or there are frames already, or other scans.
    """
    require(model.model)
    signal, suffix = model.model.signal, SUFFIXES[model.model.signal.name]
    old = _replaceable(source, out, suffix, overwrite=overwrite)
    x = last_frame(model.model, source)
    digits = max(4, len(str(n)))
    new = [f"{k:0{digits}d}{suffix}" for k in range(1, n + 1)]
    said = {"run": model.name, "weights_sha256": model.weights, "after": source.name, "number": n, "seed": seed, "noise": noise}
    spec = registry.spec(sampler) if isinstance(sampler, Sampler) else sampler
    said |= {"signal": registry.spec(signal), "sampler": spec}
    files.write_json(out / NAME, {**said, "frames": sorted({*old, *new})})  # stopped half-way, both are still known
    frames = [x]
    with Bar("continuing", n, unit="frames") as bar:
        for k, made in enumerate(continuing(model.model, x, n, sampler=sampler, seed=seed, noise=noise), 1):
            write(out / new[k - 1], made[0], signal)
            frames.append(made)
            bar.advance(1)
    for name in set(old) - set(new):  # not before the new ones are there
        (out / name).unlink(missing_ok=True)
    files.write_json(out / NAME, {**said, "frames": new})
    assert isinstance(signal, Scan)  # noqa: S101 - see require
    _draw(frames[: _SHOWN + 1], signal, out)
    return [STRIP, VIEWS, ANIMATION]


def _replaceable(source: Path, out: Path, suffix: str, *, overwrite: bool) -> list[str]:
    """The frames in `out` that an earlier continuation wrote, by its own account, and that this one may replace.

    Raises:
        ValueError: `out` is the folder of the given scan, there are frames and they are not to be replaced, or scans that no continuation wrote.
    """
    if out.resolve() == source.resolve().parent:
        raise ValueError(f"{out} is the folder of {source.name}, and frames made are not to lie among those measured: choose another --out")
    there = sorted(path.name for path in out.glob(f"[0-9]*{suffix}") if path.stem.isdigit()) if out.is_dir() else []
    if there and not overwrite:
        raise ValueError(f"{out / there[0]} exists: choose another --out, or add --overwrite")
    own = files.read_json(out / NAME) if there and (out / NAME).is_file() else {}
    listed = own.get("frames") if isinstance(own, dict) else None
    if foreign := [name for name in there if name not in (listed if isinstance(listed, list) else ())]:
        raise ValueError(f"{out / foreign[0]} exists, and no continuation wrote it ({NAME} does not name it), so it is kept: choose another --out")
    return there


def last_frame(model: Model, source: Path) -> Batch:
    """The scan in a file as a model of scans takes it, (1, 3, h, w).

    Raises:
        ValueError: it is of another sensor than those the model was trained on, or cannot be read.
    """
    try:
        return door_for(model.signal).read(source).x[None]
    except Unreadable as error:
        own = registry.spec(model.signal)
        raise ValueError(f"{source} is no scan of the sensor that this model was trained on, {own}: {error.reason}") from error


def _next(model: Model, x: Batch, own: list[torch.Generator], sampler: Walk, noise: float | None) -> Batch:
    """The frames after x (b, *d)."""
    x = x.to(device_of(model, x))
    if isinstance(model.degradation, Morph):
        start = start_of(model, x, noise, own)
        walk = walk_for(model, "estimated") if sampler == "default" else choose(model, start, sampler)
    else:
        start = beginning(model, len(x), own, noise=noise, conditions={"image": x})
        walk = choose(model, start, sampler)
    return walked(model, start, walk, own)


def _as_read(x: Batch, model: Model) -> Batch:
    """Scans (b, 3, h, w) as their files would give them back.

    Raises:
        ValueError: the walk diverged.
    """
    if not bool(x.isfinite().all()):
        raise ValueError("the next frame holds NaN or infinity: the model has diverged; try another sampler, or fewer frames")
    assert isinstance(model.signal, Scan)  # noqa: S101 - see require
    scan = model.signal
    return torch.stack([encode(r, light, scan) for r, light, _ in (decode(one, scan) for one in x)])


def _draw(frames: Sequence[Batch], scan: Scan, out: Path) -> None:
    """The given frame and those after it: strips, bird's-eye views, and all there is to see in motion."""
    labels = ["given", *(f"next {k}" for k in range(1, len(frames)))]
    pictures.save(out / STRIP, pictures.strip(frames, labels, signal=scan))
    pictures.save(out / VIEWS, pictures.strip([pictures.birds_eye(x, scan) for x in frames], labels, scale=1))
    pictures.animate(out / ANIMATION, [pictures.portraits(x, scan) for x in frames], labels, ms=400, hold_ms=1200, scale=1)
