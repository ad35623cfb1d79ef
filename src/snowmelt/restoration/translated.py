"""Collections of pictures translated: the same order, journal, errors and files as :func:`snowmelt.restoration.restore_folder`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from snowmelt.data.images import MAX_PIXELS
from snowmelt.model import Model
from snowmelt.pictures.animation import require_playable
from snowmelt.restoration.collection import Collection
from snowmelt.restoration.folder import agree, writable
from snowmelt.restoration.identity import Opened, opened
from snowmelt.restoration.journal import Journal
from snowmelt.restoration.plan import Job, plan, require_pictures
from snowmelt.restoration.tally import Tally
from snowmelt.restoration.translation import Endpoint, check, prepared, walk_for
from snowmelt.restoration.work import Work, with_precision


def translate_folder(
    inputs: str | Path | Sequence[str | Path],
    *,
    model: Model | Opened | str | Path,
    out: str | Path,
    endpoint: Endpoint = "estimated",
    steps: int | None = None,
    noise: float | None = None,
    size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    save_trajectory: bool = False,
    animation: str = "gif",
    shard: tuple[int, int] = (1, 1),
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
    device: str = "cpu",
    bar: bool = False,
    say: Callable[[str], None] | None = None,
    finished: Callable[[Job, dict[str, Any]], None] | None = None,
) -> Tally:
    """Translate pictures in files, and folders of them, into files: see :func:`snowmelt.translate`.

    Args:
        inputs: pictures of the endpoint's kind, and folders of them.
        model: one of ``morph``: a model, a run directory.
        out: the folder to write to.
        endpoint: "estimated" or "fixed".
        steps: calls of the restorer; by default 12, or as many as a tuned model is good for.
        noise: standard deviation of what is added to every picture; None is the model's noise floor.
        size: side in px to which pictures are resized; None does as the training did.
        seed: of the noise; a picture's own depends on the seed and its name.
        overwrite: translate again what is there already.
        save_trajectory: keep every x_t, estimate and endpoint.
        animation: as what they are animated: gif, webp or mp4.
        shard: (i, n), the i-th of n shares of the work.
        batch: pictures of one size that share a call.
        max_pixels: larger pictures are refused.
        device: where to compute.
        bar: show progress on stderr.
        say: told, in words, what is worth knowing now.
        finished: told of every finished picture, with what the journal says of it.

    Raises:
        ValueError: the model translates nothing, an option lies outside its bounds.
        FileNotFoundError: an input or the model does not exist.
        OSError: the output cannot be written, or no longer.
        Stopped: interrupted from the keyboard; what is finished stays.
    """
    given, root = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(one) for one in inputs], Path(out)
    agree(given, None, shard, None, None, 1, None, batch, max_pixels)
    require_playable(animation)
    if size is not None and not 4 <= size <= 8192:
        raise ValueError(f"size = {size} lies outside [4, 8192] px")
    found, name, weights = opened(model)
    require_pictures(found.signal, given, "translate")
    whole = plan(given, root)
    check(found)
    work = Work(found.to(device), name, weights, 1.0, walk_for(found, endpoint, steps), device, seed, trajectory=save_trajectory, colour=True)
    work = replace(work, endpoint=endpoint, noise=noise, max_pixels=max_pixels, animation=animation)
    work = with_precision(replace(work, size=prepared(found) if size is None else (size, size)))
    work.rehearse()
    writable(root)
    collection = Collection(work, whole.share(shard), Journal(root, shard, work.settings(), "translated"), batch, overwrite=overwrite)
    collection.say, collection.finished = say or collection.say, finished
    return collection.run(bar=bar)
