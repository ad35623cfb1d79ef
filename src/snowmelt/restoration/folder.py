"""Collections: every picture in folders of them, whatever happens to one of them.

For each picture, in the order of the plan: read it (while the one before is computed), restore it, write it whole or not at all, note
it in the journal. So at any moment each output exists once and whole, or not at all, and the same call goes on where the last
one was stopped. One large picture is in flight and one is being read: memory does not grow with the collection.
"""

import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from snowmelt.data.images import MAX_PIXELS, upright
from snowmelt.degradations import Compose, Mixture, Pixelate
from snowmelt.degradations.base import blank
from snowmelt.degradations.scan import Dropping
from snowmelt.model import Model
from snowmelt.pictures.animation import require_playable
from snowmelt.registry import spec
from snowmelt.restoration.cluster import Cluster
from snowmelt.restoration.identity import Opened, opened
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.loading import estimator_of, load
from snowmelt.restoration.loop import Loop
from snowmelt.restoration.picture import Loaded, compute, finished, reason
from snowmelt.restoration.plan import PICTURES, Job, Kind, Plan, kind_of, names_a_file, plan, require_kind
from snowmelt.restoration.preview import preview_of
from snowmelt.restoration.tally import Tally
from snowmelt.restoration.walks import Walk, choose, within
from snowmelt.restoration.work import Work, with_precision, with_tiles
from snowmelt.samplers import Sampler
from snowmelt.signals import Signal
from snowmelt.types import EMPTY, State

_COLLECTIONS = {
    "picture": ("snowmelt.restoration.collection", "Collection"),
    "sound": ("snowmelt.restoration.recordings", "RecordingCollection"),
    "scan": ("snowmelt.restoration.scans", "ScanCollection"),
}


def restore_folder(
    inputs: str | Path | Sequence[str | Path],
    *,
    model: Model | Opened | str | Path = "photo",
    out: str | Path | None = None,
    severity: float | None = None,
    sampler: Walk = "default",
    seed: int = 0,
    degrade: bool = False,
    overwrite: bool = False,
    save_trajectory: bool = False,
    animation: str = "gif",
    shard: tuple[int, int] = (1, 1),
    preview: int | None = None,
    mask: str | Path | None = None,
    samples: int = 1,
    tile: int | None = None,
    consistent: bool | None = None,
    colour: bool = False,
    enlarge: int = 1,
    anyway: bool = False,
    batch: int | None = 1,
    max_pixels: int = MAX_PIXELS,
    device: str = "cpu",
    cluster: Cluster | None = None,
    bar: bool = False,
    say: Callable[[str], None] | None = None,
    finished: Callable[[Job, dict[str, Any]], None] | None = None,
) -> Tally:
    """Restore pictures in files, and folders of them, into files.

    A picture that cannot be restored is named, in the result and in OUT/errors.jsonl, and the others go on. Results appear as
    they finish; what is there already is skipped.

    Args:
        inputs: pictures, and folders of them; of a model of recordings or scans, those.
        model: a model (see also :func:`~snowmelt.restoration.identity.opened`), a run directory, or the name of one in the package.
        out: the folder to write to; None for a single picture, which then gets NAME-restored beside it. A single recording or scan may be given
            the file itself: clean.wav.
        severity: how degraded the pictures are, in [0, 1]; None lets the model estimate it, if it can, or is blind to it.
        sampler: a sampler, its spec, "default", or None for one call.
        seed: of what is random.
        degrade: the pictures are clean: degrade them first, to severity 1 unless told.
        overwrite: restore again what is there already.
        save_trajectory: keep every step of every walk.
        animation: as what it is animated: gif, webp or mp4.
        shard: (i, n), the i-th of n shares of the work; results are those of the whole.
        preview: restore only so many, evenly spread, onto a sheet, and say how long all would take.
        mask: a picture, white where the damage is, or a folder of them.
        samples: walks a picture.
        tile: side of a tile in px.
        consistent: whether the result, degraded again, has to agree with the picture; None is the model's own choice.
        colour: pictures without colour may get some.
        enlarge: 2 doubles height and width.
        anyway: restore also what looks clean, and what the model is unsure of.
        batch: pictures of one size that share a call: faster for small ones, and the last digits depend on who shares it. None takes as many
            as fit in memory, up to a quarter of a megapixel.
        max_pixels: larger pictures are refused.
        device: where to compute.
        cluster: the workers that do it, instead of this process; the files are the same.
        bar: show progress on stderr.
        say: told, in words, what is worth knowing now.
        finished: told of every finished picture, with what the journal says of it.

    Raises:
        ValueError: an option that contradicts another or lies outside its bounds, a plan that cannot be carried out.
        FileNotFoundError: an input or the model does not exist.
        OSError: the output cannot be written, or no longer.
        Stopped: interrupted from the keyboard; what is finished stays.
    """
    given = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(one) for one in inputs]
    agree(given, severity, shard, preview, mask, samples, tile, batch, max_pixels)
    require_playable(animation)
    found, name, weights = opened(model)
    kind = kind_of(found.signal)
    require_kind(given, kind)
    whole = plan(given, None if out is None else Path(out), kind)
    asked = {"mask": mask, "tile": tile, "preview": preview, "save_trajectory": save_trajectory, "colour": colour}
    if kind is not PICTURES:
        of_pictures(kind, {**asked, "enlarge": enlarge if enlarge > 1 else None, "samples": samples if samples > 1 else None})
    further: dict[str, Any] = {"mask": None if mask is None else Path(mask), "samples": samples, "tile": tile, "consistent": consistent}
    further |= {"max_pixels": max_pixels, "colour": colour, "enlarge": enlarge, "anyway": anyway}
    further |= {"trajectory": save_trajectory, "animation": animation}
    work = work_for(Opened(found, name, weights), severity, sampler, device, seed, degrade=degrade, **further)
    work.rehearse()
    root = Path(out) if out is not None and not names_a_file(given, Path(out), kind) else None
    writable(root or (given[0] if out is None else Path(out)).absolute().parent)
    if preview is not None:
        return _preview(work, whole, root or given[0].parent, preview, alone=root is None)
    mine = whole.share(shard)
    collection = collection_of(found.signal)(work, mine, Journal(root, shard, work.settings(), f"{work.verb}ed"), batch, overwrite=overwrite)
    collection.say, collection.finished = say or collection.say, finished
    if cluster is not None:
        cluster.take(collection)
    return collection.run(bar=bar)


def work_for(model: Opened, severity: float | None, sampler: Walk, device: str, seed: int, *, degrade: bool = False, **further: Any) -> Work:
    """What is done to every file, checked: see :func:`restore_folder`.

    Args:
        model: which one.
        severity: how degraded the files are.
        sampler: the walk.
        device: where to compute.
        seed: of what is random.
        degrade: whether they are clean, and degraded first.
        further: other fields of a :class:`~snowmelt.restoration.work.Work`.

    Raises:
        ValueError: an option contradicts another, or the model.
    """
    found, name, weights = model
    kind = kind_of(found.signal)
    if degrade and found.degradation.needs:
        way_out = "translate such pictures instead" if kind is PICTURES else f"it is no draw, but comes with the data; give degraded {kind.many}"
        raise ValueError(f"degrade = True cannot make up what {spec(found.degradation)} turns {kind.many} into: {way_out}")
    if severity is None and (degrade or isinstance(found.degradation, Mixture)):
        severity = 1.0  # of a mixture, 1 is whatever the damage was
    if severity is None and not isinstance(found.degradation, Dropping):  # a scan shows how much of it is missing
        estimator_of(found)
    work = Work(found.to(device), name, weights, severity, meant(found, sampler, knows_draw=degrade), device, seed, degrade)
    work = replace(work, **further)
    _enlarges(work)
    if work.consistent and work.blind and work.mask is None:
        raise ValueError("a mixture says nothing of what was measured: consistent = True can keep what is known only where a mask says what that is")
    if kind is PICTURES:  # what half as many digits do to sound can be heard
        work = with_precision(work if work.tile is None else with_tiles(work, work.tile))
    return work


def collection_of(signal: Signal) -> type[Loop[Any]]:
    """What goes through a plan of files of a signal."""
    module, name = _COLLECTIONS[signal.name]
    found: type[Loop[Any]] = getattr(importlib.import_module(module), name)
    return found


def of_pictures(kind: Kind, asked: Mapping[str, Any]) -> None:
    """Refuse options that mean something for pictures only.

    Raises:
        ValueError: one of them is given; the message names it.
    """
    for name, value in asked.items():
        if value is not None and value is not False:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is for pictures, and this model restores {kind.many}: leave {option} out")


def agree(
    inputs: Sequence[Path],
    severity: float | None,
    shard: tuple[int, int],
    preview: int | None,
    mask: str | Path | None,
    samples: int,
    tile: int | None,
    batch: int | None,
    max_pixels: int,
) -> None:
    """Refuse, with a ValueError or FileNotFoundError, options that nothing can be done with."""
    if not inputs:
        raise ValueError("restore needs pictures, or folders of pictures")
    run = next((one for one in inputs if (one / "model.json").is_file()), None)
    if run is not None:
        raise ValueError(f"{run} holds a model, not pictures to restore: give it as --model {run}")
    if severity is not None:
        within(severity)
    if not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"shard = {shard[0]}/{shard[1]} is not i/n with 1 <= i <= n: 2/8 is the second of eight shares")
    for name, value in {"preview": preview, "samples": samples, "tile": tile, "batch": batch, "max_pixels": max_pixels}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value} lies under 1")
    if mask is not None and not Path(mask).exists():
        raise FileNotFoundError(f"{mask} does not exist: give a mask, or a folder of masks")


def _enlarges(work: Work) -> None:
    """Refuse to enlarge with a model that has not learned it."""
    parts = work.model.degradation.parts if isinstance(work.model.degradation, Mixture | Compose) else (work.model.degradation,)
    most = max((2**part.levels for part in parts if isinstance(part, Pixelate)), default=1)
    if work.enlarge not in (1, *(2**i for i in range(1, 13) if 2**i <= most)):
        learned = f"by 2 to {most}" if most > 1 else "nothing"
        raise ValueError(f"enlarge = {work.enlarge}: this model has learned to enlarge {learned} (pixelate), in powers of 2")


def meant(model: Model, sampler: Walk, *, knows_draw: bool) -> Sampler | None:
    """The sampler of a choice; what is asked of the draw is only which names it has, and what nobody could know it never has."""
    like = blank(model.degradation)
    drawn = model.draw(like, torch.Generator()) if knows_draw else EMPTY
    return choose(model, State(like, 1.0, {name: value for name, value in drawn.items() if name not in model.degradation.hidden}), sampler)


def _preview(work: Work, whole: Plan, folder: Path, n: int, *, alone: bool) -> Tally:
    def one(job: Job) -> tuple[Loaded, list[State]]:
        loaded = load(work, job)
        if work.verdict(loaded.estimate) != "damaged":  # it would be left as it is, in no time
            return loaded, [State(upright(loaded.x, loaded.turn)[None], 0.0)]
        states = compute(work, [loaded])
        return loaded, [states[0]._replace(x=upright(states[0].x, loaded.turn)), states[-1]._replace(x=finished(loaded, states[-1].x[0])[None])]

    path = whole.jobs[0].source.with_name(f"{whole.jobs[0].source.stem}-preview.png") if alone else folder / "preview.png"
    found, failed = preview_of(whole.jobs, one, n, path, reason, max_pixels=work.max_pixels)
    return Tally(len(whole.jobs) + len(whole.refused), work.how(), failed=failed, preview=found)


def writable(folder: Path) -> None:
    """Refuse an output folder in which nothing can be written, before anything is computed; leaves no trace.

    Raises:
        OSError: nothing can.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write into {folder}: {error.strerror or error}; choose another --out") from error
