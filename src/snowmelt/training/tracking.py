"""Following a run with other programs: TensorBoard, trackio, Weights & Biases.

Each gets the lines of metrics.jsonl as they are written, over the images seen: ``loss`` as ``train/loss``, ``validation_loss`` as
``validation/loss``, and the sample grids. metrics.jsonl stays the truth: what follows a run is no part of what comes of it, so it is said with the
command (``snowmelt train --track tensorboard``) and not in the recipe, and a tracker that fails is told of once and left out, while the training
goes on.

A run that is taken up again goes on in the same place. ``RUN/tracking.json`` keeps its name there, which trackers were told of the run, and which of
them failed since and lack lines: one of these that comes again, like one that comes later, is first told the lines that there are. So, and of a run
that was killed, some lines are told twice, with the same values. Nothing is sent anywhere unless a tracker's own settings (``TRACKIO_SPACE_ID``,
``WANDB_MODE``) say so.
"""

import contextlib
import importlib.util
import json
import logging
import math
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from snowmelt.disk import as_text
from snowmelt.fields import nearest
from snowmelt.files import BadFile, read_json, write_text
from snowmelt.training import history

NAME = "tracking.json"
FOLDERS = ("tensorboard", "wandb")  # in the run directory, what each of these two keeps there
_PROJECT, _GRID = "snowmelt", "samples/grid"
_PIP = {
    "tensorboard": ("tensorboard", "pip install 'snowmelt[track]'"),
    "trackio": ("trackio", "pip install 'snowmelt[track]'"),
    "wandb": ("wandb", "pip install wandb"),
}
NAMES = tuple(_PIP)
_log = logging.getLogger(__name__)


class Tracker:
    """Where the lines of a run also go; this one forgets them."""

    def line(self, values: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl, with "images" and "step" in it."""

    def picture(self, images: int, sheet: Image.Image) -> None:
        """A sample grid, after so many images."""

    def close(self) -> None:
        """No more will come."""


class Story(NamedTuple):
    """What a tracker is told of a run before it begins.

    Attributes:
        run: the run directory.
        id: what tells it from other runs, however they are called.
        images: how many it has seen so far.
        recipe: its recipe, as a table.
    """

    run: Path
    id: str
    images: int
    recipe: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Its name among other runs."""
        return f"{as_text(self.run.resolve().name)}-{self.id}"


def named(text: str) -> tuple[str, ...]:
    """The trackers in "tensorboard,trackio", each once.

    Raises:
        ValueError: there is none of that name.
    """
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for name in names:
        if name not in NAMES:
            raise ValueError(f"--track {name!r}: there is no such tracker{nearest(name, NAMES)}; there are {', '.join(NAMES)}")
    return names


def require(names: Sequence[str]) -> None:
    """Refuse to begin without a package that is asked for.

    Raises:
        ValueError: it is not installed, with the line that installs it; or there is no such tracker.
    """
    for name in named(",".join(names)):
        package, line = _PIP[name]
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"--track {name} needs the package {package}, which is not installed: {line}, or leave it out")


@contextlib.contextmanager
def following(names: Sequence[str], run: Path, images: int, recipe: Mapping[str, Any]) -> Iterator[Tracker]:
    """While this lasts, what the tracker is given goes to all that are named. None of them ever stops the run: the first error of each is told.

    Args:
        names: of :data:`NAMES`; none of them is the usual case.
        run: the run directory; gets tracking.json.
        images: how many the run has seen so far.
        recipe: its recipe, as a table.
    """
    if not names:
        yield Tracker()
        return
    known = _known(run) if images else {}
    story = Story(run, known.get("id") or uuid.uuid4().hex[:8], images, recipe)  # a name, of which no number of the run depends
    told, lacks = set(known.get("told", ())), set(known.get("lacks", ()))

    def note() -> None:
        with contextlib.suppress(OSError):
            write_text(run / NAME, json.dumps({"id": story.id, "told": sorted(told), "lacks": sorted(lacks & told)}) + "\n")

    def left(name: str) -> None:
        lacks.add(name)
        note()

    several = _Several(left)
    for name in names:
        several.add(name, story, told=name in told - lacks)
    told |= several.trackers.keys()
    lacks -= several.trackers.keys()
    note()
    try:
        yield several
    finally:
        several.close()


def _known(run: Path) -> dict[str, Any]:
    """What tracking.json says, as far as it can be believed."""
    try:
        said = read_json(run / NAME)
    except (OSError, BadFile, ValueError):
        return {}
    if not isinstance(said, dict):
        return {}
    found: dict[str, Any] = {}
    for key in ("told", "lacks"):
        listed = said.get(key)
        found[key] = [name for name in NAMES if isinstance(listed, list) and name in listed]
    own = said.get("id")
    return found | ({"id": own} if isinstance(own, str) and own.isalnum() and own.isascii() and len(own) <= 32 else {})


class _Several(Tracker):
    """Trackers that may fail one by one; `left` gets the name of each that did."""

    def __init__(self, left: Callable[[str], None]) -> None:
        self.trackers: dict[str, Tracker] = {}
        self._left = left

    def add(self, name: str, story: Story, *, told: bool) -> None:
        """Open one; one that does not know the run yet is told its lines so far."""
        try:
            self.trackers[name] = _OPENED[name](story)
            for line in () if told or not story.images else history.read(story.run):
                self.trackers[name].line(line)
        except Exception as error:  # whatever another program raises
            self._leave(name, error)

    def line(self, values: Mapping[str, Any]) -> None:
        self._each(lambda tracker: tracker.line(values))

    def picture(self, images: int, sheet: Image.Image) -> None:
        self._each(lambda tracker: tracker.picture(images, sheet))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def _each(self, work: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                work(tracker)
            except Exception as error:
                self._leave(name, error)

    def _leave(self, name: str, error: Exception) -> None:
        self.trackers.pop(name, None)
        self._left(name)
        why = " ".join(str(error).split())[:300] or type(error).__name__
        _log.warning("%s failed and follows this run no longer, which goes on; metrics.jsonl has everything: %s", name, why)


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line by their names in a tracker: train/loss, validation/loss, validation/bands/0; what is no finite number is left out."""
    found: dict[str, float] = {}
    for key, value in line.items():
        if key == "images":
            continue
        group, name = ("validation", key.removeprefix("validation_")) if key.startswith("validation_") else ("train", key)
        several = {f"{name}/{i}": one for i, one in enumerate(value)} if isinstance(value, list) else {name: value}
        for each, one in several.items():
            if isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one):
                found[f"{group}/{each}"] = float(one)
    return found


class _TensorBoard(Tracker):
    """Event files in RUN/tensorboard: ``tensorboard --logdir RUN``."""

    def __init__(self, story: Story) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = {"purge_step": story.images + 1} if story.images else {}  # what a killed run wrote after its checkpoint is not shown
        self._writer: Any = SummaryWriter(story.run / FOLDERS[0], flush_secs=10, **purge)
        if not story.images:
            self._writer.add_text("recipe", f"```\n{json.dumps(story.recipe, indent=1)}\n```", 0)

    def line(self, values: Mapping[str, Any]) -> None:
        for name, value in numbers(values).items():
            self._writer.add_scalar(name, value, int(values["images"]))

    def picture(self, images: int, sheet: Image.Image) -> None:
        import numpy as np

        self._writer.add_image(_GRID, np.asarray(sheet.convert("RGB")), images, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Trackio(Tracker):
    """trackio's own place on this machine (TRACKIO_DIR): ``trackio show --project snowmelt``."""

    def __init__(self, story: Story) -> None:
        with contextlib.redirect_stdout(sys.stderr):  # what is said there is not what the command found
            import trackio

            self._package = trackio
            self._run: Any = trackio.init(
                _PROJECT,
                name=story.title,
                config=dict(story.recipe),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def line(self, values: Mapping[str, Any]) -> None:
        self._run.log(numbers(values), step=int(values["images"]))

    def picture(self, images: int, sheet: Image.Image) -> None:
        self._run.log({_GRID: self._package.Image(sheet, caption=f"{images:,} images")}, step=images)

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._package.finish()


class _Wandb(Tracker):
    """Weights & Biases, with the settings of whoever is logged in there."""

    def __init__(self, story: Story) -> None:
        import wandb

        self._package: Any = wandb
        self._run: Any = wandb.init(
            project=_PROJECT, id=story.id, name=story.title, dir=str(story.run), config=dict(story.recipe), resume="allow"
        )
        self._run.define_metric("images")
        self._run.define_metric("*", step_metric="images")  # its own steps only ever rise, those of a run may go back

    def line(self, values: Mapping[str, Any]) -> None:
        self._run.log({"images": int(values["images"]), **numbers(values)})

    def picture(self, images: int, sheet: Image.Image) -> None:
        self._run.log({"images": images, _GRID: self._package.Image(sheet)})

    def close(self) -> None:
        self._run.finish()


_OPENED: dict[str, Callable[[Story], Tracker]] = {"tensorboard": _TensorBoard, "trackio": _Trackio, "wandb": _Wandb}
