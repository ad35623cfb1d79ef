"""Trainings that are begun from the studio: processes of their own, which go on when the page closes and when the studio ends.

A training is ``snowmelt train RUN/recipe.toml --out RUN``: the command that anybody could give, in a session of its own, with what it says in
``RUN/train.log``. The studio keeps nothing of it in memory. What there is to say of a run is read from its files, so that another page, or the
studio of tomorrow, sees the same: the recipe says how much is to be done, metrics.jsonl how far it is, the lock whether somebody is at it
(:mod:`~snowmelt.studio.trainings.holding`). To resume is to give the same command again.

One training at a time: a network takes all cores there are, and a second one would take them from the first.
"""

import contextlib
import datetime
import math
import os
import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from snowmelt.files import write_text
from snowmelt.lines import read as read_lines
from snowmelt.locks import HOLDER
from snowmelt.recipes.directory import LOG, MARK, PID, RECIPE, stored
from snowmelt.recipes.recipe import Recipe, to_toml
from snowmelt.studio.limits import Refused
from snowmelt.studio.trainings import holding
from snowmelt.studio.trainings.orders import Order, named
from snowmelt.training import checkpoint, history, wishes
from snowmelt.training.diary import SAMPLES
from snowmelt.training.learning import counted, words

Doing: TypeAlias = Literal["starting", "running", "stopped", "finished", "failed"]
BUSY: tuple[Doing, ...] = ("starting", "running")
CLOSED = "this studio does not train: it was started with --no-train"
_ENDS = ("snowmelt: stopped", "snowmelt: interrupted", "snowmelt: error: ")
_TAIL_BYTES = 20_000
_POINTS = 300
_RECENT = 6  # lines of losses, for the speed now
_RATES = (1e-6, 1e9)  # images per second: what lies outside is no log of a training
_LIST = 50
_REMEMBERED = 8  # files: the recipe and the log of the run that is watched, and of some that others look at
_NICE = 5  # the page stays quick beside it


@dataclass(frozen=True)
class State:
    """What there is to say of a run now.

    Attributes:
        name: of the run.
        doing: whether it runs, and how it ended.
        said: the last words of it, in one line.
        images: seen so far.
        total: to be seen.
        loss: the last one of a step.
        rate: images per second, lately.
        degradation: its spec.
        data: where they are.
        losses: images to loss, of steps and of validations.
        learning: whether it learns, in words.
        grid: the newest sample grid.
        asked: what was asked for and is not done yet.
    """

    name: str
    doing: Doing
    said: str = ""
    images: int = 0
    total: int = 0
    loss: float | None = None
    rate: float | None = None
    degradation: str = ""
    data: str = ""
    losses: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    learning: tuple[str, ...] = ()
    grid: Path | None = None
    asked: tuple[str, ...] = ()

    @property
    def eta_s(self) -> float | None:
        """Seconds until it is done; None if there is no telling."""
        return (self.total - self.images) / self.rate if self.doing == "running" and self.rate else None

    @property
    def resumes(self) -> bool:
        """Whether there is something to go on with."""
        return self.doing in ("stopped", "failed")


@dataclass(frozen=True)
class _Log:
    """What is wanted of a metrics.jsonl, so that no tick of the page has to go through its lines again."""

    images: float = 0.0
    loss: float | None = None
    rate: float | None = None
    losses: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    learning: tuple[str, ...] = ()


class Runs:
    """The trainings in a folder.

    Args:
        folder: where they lie, each in a directory that has its name.
        device: where to compute.
        allowed: whether visitors may start and steer them.
    """

    def __init__(self, folder: Path, device: str = "cpu", *, allowed: bool = True) -> None:
        self.folder, self.device, self.allowed = Path(folder).absolute(), device, allowed
        self._lock, self._reading = threading.Lock(), threading.Lock()
        self._read: OrderedDict[Path, tuple[tuple[int, int], Any]] = OrderedDict()

    def names(self) -> list[str]:
        """Runs by name, those that were begun last first."""
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                with contextlib.suppress(OSError, Refused):
                    found.append(((named(self.folder, path.name) / RECIPE).stat().st_mtime, path.name))
        return [name for _, name in sorted(found, reverse=True)[:_LIST]]

    def busy(self) -> str | None:
        """The name of the directory that is trained in now, a run of the list or any other; None if there is none."""
        with contextlib.suppress(OSError):
            for path in sorted(self.folder.iterdir()):
                with contextlib.suppress(OSError):  # a directory that is closed to us says nothing of the others
                    if any((path / left).exists() for left in (HOLDER, PID)) and _at_it(path):
                        return path.name
        return None

    def state(self, name: str) -> State:
        """What there is to say of a run, from its files alone.

        Raises:
            Refused: there is no such run.
        """
        run = self._run(name)
        try:
            recipe: Recipe = self._kept(run / RECIPE, lambda path: stored(path.parent))
        except (OSError, ValueError) as error:
            return State(name, "failed", said=f"its recipe cannot be read: {self._here(str(error))}")
        log: _Log = self._kept(run / history.NAME, _digest) or _Log()
        total = recipe.training.steps * recipe.training.step_images
        doing, said = self._doing(run, done=log.images > 0 and log.images >= total)
        saved = 0 if doing in BUSY else min(checkpoint.step(run) * recipe.training.step_images, total)  # it may stop between two lines of the log
        return State(
            name=name,
            doing=doing,
            said=self._here(said),
            images=max(round(log.images), saved),
            total=total,
            loss=log.loss,
            rate=log.rate,
            degradation=recipe.degradation,
            data=recipe.data.path,
            losses=log.losses,
            learning=log.learning,
            grid=_newest(run / SAMPLES),
            asked=wishes.asked(run) if doing in BUSY else (),
        )

    def require_free(self, name: str) -> None:
        """Refuse a name that no new run can have, before anything is computed for it.

        Raises:
            Refused: visitors may not start runs, or the name is taken, or no name.
        """
        self._require_allowed()
        run = named(self.folder, name)
        if run.exists():
            raise Refused(f"there is a run {run.name!r} already: choose another name, or resume it")

    def start(self, order: Order, recipe: Recipe | None = None) -> State:
        """Begin a training.

        Args:
            order: what is wanted.
            recipe: the order's, where it is known already.

        Raises:
            Refused: visitors may not, the name is taken or none, or another training runs.
            ValueError: the order cannot be carried out.
        """
        self._require_allowed()
        run = named(self.folder, order.name.strip())
        recipe = recipe or order.recipe()[0]
        with self._lock:
            self._require_alone()
            try:
                run.mkdir(parents=True)
            except FileExistsError:
                raise Refused(f"there is a run {run.name!r} already: choose another name, or resume it") from None
            try:
                write_text(run / RECIPE, to_toml(recipe))
                self._begin(run)
            except BaseException:
                shutil.rmtree(run, ignore_errors=True)  # the name stays free for another try
                raise
        return self.state(run.name)

    def resume(self, name: str) -> State:
        """Go on with a run that was stopped, or that failed: the same command again.

        Raises:
            Refused: visitors may not, it runs or is finished, or another one runs.
        """
        self._require_allowed()
        state = self.state(name)
        with self._lock:
            self._require_alone()
            if not state.resumes:
                raise Refused(f"{name!r} is finished: there is nothing to go on with")
            self._begin(self._run(name))
        return self.state(name)

    def ask(self, name: str, wish: str) -> None:
        """Ask a training that runs to save, or to show samples.

        Raises:
            Refused: visitors may not, or it does not run.
        """
        self._require_allowed()
        run = self._run(name)
        if not _at_it(run):
            raise Refused(f"{name!r} does not run: there is nothing to {wish}")
        wishes.ask(run, wish)

    def stop(self, name: str) -> None:
        """Ask a training that runs to save and end, which it does after the step that it is in.

        Raises:
            Refused: visitors may not, it does not run, or not on this machine.
        """
        self._require_allowed()
        run = self._run(name)
        if holding.stop(run):
            return
        if (host := holding.elsewhere(run)) is not None:
            raise Refused(f"{name!r} is trained on {host}: stop it there")
        raise Refused(f"{name!r} is still starting: try again in a few seconds" if _at_it(run) else f"{name!r} does not run")

    def _run(self, name: str) -> Path:
        run = named(self.folder, name)
        if not run.is_dir():
            raise Refused(f"there is no run {name!r} here: choose one of the list")
        return run

    def _require_allowed(self) -> None:
        if not self.allowed:
            raise Refused(CLOSED)

    def _require_alone(self) -> None:
        if (other := self.busy()) is not None:
            raise Refused(f"{other!r} is being trained, and a second one would take its cores: wait for it, or stop it first")

    def _begin(self, run: Path) -> None:
        """The process: a list of arguments, no shell, nothing of ours open in it but its log."""
        command = [sys.executable, "-P", "-m", "snowmelt", "train", str(run / RECIPE), "--out", str(run), "--device", self.device]
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(run / LOG, flags, 0o666), "ab") as log:
            log.write(f"{MARK}{datetime.datetime.now():%Y-%m-%d %H:%M:%S} snowmelt train\n".encode())
            log.flush()
            said = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200"}
            process = subprocess.Popen(  # noqa: S603 - our own program, on a file of ours
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=said, start_new_session=True
            )
        try:
            with contextlib.suppress(OSError, AttributeError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            write_text(run / PID, f"{process.pid}\n")
            threading.Thread(target=process.wait, name=f"training {run.name}", daemon=True).start()  # so that nothing of it is left when it ends
        except BaseException:
            process.kill()  # nobody could find it again
            process.wait()
            raise

    def _doing(self, run: Path, *, done: bool) -> tuple[Doing, str]:
        """Whether a run is at it, or how it ended, and its last words."""
        last = _last_words(run)
        if _held(run):
            return "running", last[-1] if last else ""
        if not _ended(last) and holding.begins(run):
            return "starting", last[-1] if last else ""
        errors = [line.partition("error: ")[2] for line in last if line.startswith("snowmelt") and "error: " in line]
        if errors:
            return "failed", errors[-1]
        if done:
            return "finished", "all images were seen"
        if _ended(last):
            return "stopped", last[-1].partition(": ")[2].replace("the same command", "Resume")
        goes_on = "Resume goes on from the last checkpoint" if checkpoint.there(run) else "Resume begins anew"
        if (run / LOG).exists() or (run / HOLDER).exists():
            return "failed", f"it ended without a word, as a process does that is killed, for want of memory for instance. {goes_on}."
        return "stopped", goes_on

    def _kept(self, path: Path, read: Callable[[Path], Any]) -> Any:
        """What a file holds, read again only when it has changed; None where there is none."""
        try:
            found = path.stat()
        except OSError:
            return None if path.name != RECIPE else read(path)
        now = (found.st_mtime_ns, found.st_size)
        with self._reading:
            known = self._read.get(path)
        held = known if known is not None and known[0] == now else (now, read(path))
        with self._reading:
            self._read[path] = held
            self._read.move_to_end(path)
            while len(self._read) > _REMEMBERED:
                self._read.popitem(last=False)
        return held[1]

    def _here(self, said: str) -> str:
        """Words without the folder of the server's disk in which the runs lie: a run is called by its name."""
        return said.replace(f"{self.folder}{os.sep}", "")


def _at_it(run: Path) -> bool:
    """Whether a process trains there, or is about to; not one that has said its last words and takes its time to end."""
    return _held(run) or (holding.begins(run) and not _ended(_last_words(run)))


def _held(run: Path) -> bool:
    return holding.holder(run) is not None or holding.elsewhere(run) is not None


def _ended(last: Sequence[str]) -> bool:
    """Whether what a process has said ends with how it ended."""
    return bool(last) and (last[-1].startswith(_ENDS) or any(line.startswith("trained ") for line in last))


def _last_words(run: Path) -> list[str]:
    """The lines that the last process of a run has said, the last ones where they are many."""
    try:
        with (run / LOG).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
            lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
    begun = max((i for i, line in enumerate(lines) if line.startswith(MARK)), default=-1)
    return [line.strip() for line in lines[begun + 1 :] if line.strip()]


def _digest(path: Path) -> _Log:
    """What a log says."""
    lines = counted(read_lines(path)[0])  # a stranger's may hold anything
    steps = [line for line in lines if _number(line, "loss") is not None and "lr" in line]
    return _Log(
        images=next((_number(line, "images") or 0.0 for line in lines[-1:]), 0.0),
        loss=steps[-1]["loss"] if steps else None,
        rate=_rate(steps),
        losses={"training": _points(steps, "loss"), "validation": _points(lines, "validation_loss")},
        learning=tuple(words(lines)),
    )


def _number(line: Mapping[str, Any], name: str) -> Any:
    value = line.get(name)
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _rate(steps: Sequence[Mapping[str, Any]]) -> float | None:
    """Images per second over the last lines; validations and pauses are not counted."""
    recent = [(_number(line, "images"), _number(line, "wall_s")) for line in steps[-_RECENT:]]
    known = [(images, wall) for images, wall in recent if images is not None and wall is not None]
    if len(known) == 1:
        known = [(0, 0), *known] if len(steps) == 1 else []
    if len(known) < 2 or known[-1][1] <= known[0][1] or known[-1][0] <= known[0][0]:
        return None
    rate = float((known[-1][0] - known[0][0]) / (known[-1][1] - known[0][1]))
    return rate if _RATES[0] < rate < _RATES[1] else None


def _points(lines: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """(images, value) of at most some hundred lines, evenly spread, the last one always among them."""
    found = [(float(line["images"]), float(line[name])) for line in lines if None not in (_number(line, "images"), _number(line, name))]
    every = -(-len(found) // _POINTS) or 1
    return found[:: -every][::-1]


def _newest(folder: Path) -> Path | None:
    """The sample grid with the most images behind it."""
    with contextlib.suppress(OSError):
        found = [path for path in folder.glob("*.png") if path.stem.isdecimal() and not path.is_symlink()]
        return max(found, key=lambda path: path.name, default=None)
    return None
