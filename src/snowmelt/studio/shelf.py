"""The shelf: the models of a studio by name, opened when somebody first asks for them.

What a model is for can be said from its model.json alone, so that a list of a hundred runs opens none of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt.degradations import Mixture
from snowmelt.files import BadFile, read_json
from snowmelt.model import located, shipped
from snowmelt.recipes.tuning import FAST, tuned_copy
from snowmelt.restoration.identity import Opened, opened
from snowmelt.studio.limits import Unknown

_KEPT = 3  # models in memory
_DEEP = 2  # how far below its folder the shelf looks for runs


@dataclass(frozen=True)
class Entry:
    """What stands on the shelf.

    Attributes:
        name: by which it is asked for.
        path: its directory, or the name of a model that comes with snowmelt.
        degradation: the registered name of what it undoes.
        signal: the name of what it takes: picture, sound, scan.
        prior: whether it can generate.
        labels: the names of its classes; empty if it knows none.
        channels: of its samples, 0 if it does not say.
    """

    name: str
    path: str | Path
    degradation: str
    signal: str
    prior: bool
    labels: tuple[str, ...]
    channels: int

    @property
    def restores(self) -> bool:
        """Whether Restore can use it: any model of pictures but one that begins in another picture."""
        return self.signal == "picture" and self.degradation != "morph"

    @property
    def generates(self) -> bool:
        """Whether Generate can use it."""
        return self.signal == "picture" and self.prior

    @property
    def translates(self) -> bool:
        """Whether Translate can use it."""
        return self.signal == "picture" and self.degradation == "morph"


class Shelf:
    """Models by name: those that come with snowmelt, the runs that were given, and every run below a folder.

    Args:
        runs: directories of models.
        folder: where the studio's own trainings lie; looked through anew each time.
        device: where models compute.

    Raises:
        FileNotFoundError: a run that was given is none.
        BadFile: its model.json is damaged.
        ValueError: two runs that were given cannot be told apart by their names.
    """

    def __init__(self, runs: Sequence[str | Path], folder: Path, device: str = "cpu") -> None:
        self._given = _named(runs)
        self._known: dict[str, str | Path] = {}  # where what was listed last lies
        self._folder, self._device = folder, device
        self._open: OrderedDict[tuple[str, float], Opened] = OrderedDict()
        self._lock = threading.Lock()
        for name, run in self._given.items():
            entry_of(name, run)

    def entries(self, fits: Callable[[Entry], bool] = lambda entry: True) -> list[Entry]:
        """What stands there now: runs that were given, then those of the folder (newest first), then what comes with snowmelt."""
        found = []
        for name, place in self._places().items():
            try:
                found.append(entry_of(name, place))
            except (BadFile, OSError, ValueError):
                continue  # a run that is being made, or damaged: whoever asks for it by name is told
        return [entry for entry in found if fits(entry)]

    def entry(self, name: str) -> Entry:
        """What stands there under a name; no other model is looked at.

        Raises:
            Unknown: nothing does.
            BadFile: it is damaged.
        """
        place = self._known.get(name)
        if place is None or not (located(place) / "model.json").is_file():
            place = self._places().get(name)
        if place is None:
            raise Unknown(f"there is no model {name!r} here: choose one of the list")
        with _called(name, place):
            return entry_of(name, place)

    def opened(self, name: str, *, fast: bool = False) -> Opened:
        """The model with a name, on its device; the last few stay in memory, and one whose files changed is read anew.

        Args:
            name: of the model.
            fast: take its copy that is tuned for few calls; a model that is such a copy, or is blind, is fast itself.

        Raises:
            Unknown: nothing of this name stands there.
            BadFile: it is damaged.
            ValueError: it has no tuned copy; the message holds the command that makes one.
        """
        place = self.entry(name).path
        with _called(name, place):
            found = self._held(name, place)
            if not fast or found.model.gap or isinstance(found.model.degradation, Mixture):
                return found
            return self._held(f"{name}/{FAST}", tuned_copy(place))

    def _held(self, name: str, place: str | Path) -> Opened:
        """The model at a place, from memory where it is there."""
        with self._lock:
            key = (name, (located(place) / "model.json").stat().st_mtime)
            if key not in self._open:
                found = opened(place)
                self._open[key] = found._replace(model=found.model.to(self._device), name=name)
            self._open.move_to_end(key)
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
            return self._open[key]

    def _places(self) -> dict[str, str | Path]:
        """Where everything lies, by name; of two runs of one name, the one of the folder is called by the folder's name too."""
        places: dict[str, str | Path] = dict(self._given)
        held = {Path(run).resolve() for run in self._given.values()}
        for path in _runs_below(self._folder):
            if path.resolve() not in held:
                name = path.relative_to(self._folder).as_posix()
                places.setdefault(name if name not in places else f"{self._folder.resolve().name}/{name}", path)
        for name in shipped():
            places.setdefault(name, name)
        self._known = places
        return places


def entry_of(name: str, place: str | Path) -> Entry:
    """What a model is for, from its model.json alone.

    Raises:
        FileNotFoundError: there is no model.
        BadFile: its model.json is damaged.
    """
    path = located(place)
    if not (path / "model.json").is_file():
        raise FileNotFoundError(f"{place} holds no model (no model.json): give the directory that 'snowmelt train --out' wrote")
    info: dict[str, Any] = read_json(path / "model.json")
    try:
        classes = info.get("notes", {}).get("classes") or ()
        return Entry(
            name=name,
            path=place,
            degradation=str(info["degradation"]["name"]),
            signal=str(info.get("signal", {}).get("name", "picture")),
            prior=info["prior"] is not None,
            labels=tuple(str(word) for word in classes),
            channels=int(info["restorer"]["shape"][0]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise BadFile(f"{path / 'model.json'} does not describe a model: {error!r}") from None


def _named(runs: Sequence[str | Path]) -> dict[str, str | Path]:
    """Runs by the last part of their paths; where that is taken by the last two.

    Raises:
        ValueError: those are taken too.
    """
    found: dict[str, str | Path] = {}
    for run in runs:
        if not Path(run).exists():
            found[str(run)] = run
            continue
        path = Path(run).resolve()
        if any(Path(other).resolve() == path for other in found.values()):
            continue
        name = next((name for name in (path.name, f"{path.parent.name}/{path.name}") if name not in found), None)
        if name is None:
            taken = found[f"{path.parent.name}/{path.name}"]
            raise ValueError(f"{run} and {taken} would have one name, {path.parent.name}/{path.name}: rename one of them, or leave it out")
        found[name] = run
    return found


@contextmanager
def _called(name: str, place: str | Path) -> Iterator[None]:
    """What is wrong with a model is said by its name: where it lies on the disk is nobody's business who asks for it.

    Raises:
        BadFile: it is damaged, or cannot be read.
        ValueError: anything else that it was refused for.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        path = located(place)
        text = f"{name}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
        for one in (path.resolve(), path):
            text = text.replace(str(one), name) if one.is_absolute() else text  # a path from here stands in the commands of the page too
        raise (BadFile if isinstance(error, BadFile | OSError) else ValueError)(text) from None


def _runs_below(folder: Path) -> list[Path]:
    """The directories with a model.json at most two below `folder`, the newest first."""
    found = [path.parent for depth in range(1, _DEEP + 1) for path in folder.glob("/".join(["*"] * depth + ["model.json"]))]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
