"""Restoring many files: what goes where, in which batches, and what to say of those that cannot be read.

The plan is made before the first picture is touched: two inputs that would become one file, or an output that is an
input, are refused then. Pictures of one size that follow each other share a batch; every random number is keyed by the
picture's place in the plan, so batches change nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt import files, registry
from snowmelt.cli import trajectory
from snowmelt.cli.errors import message, say
from snowmelt.data.images import SUFFIXES, Picture, UnreadableImage, read, to_channels, write
from snowmelt.model import Model
from snowmelt.randomness import generators
from snowmelt.restoration import begin
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler
from snowmelt.training.progress import Bar
from snowmelt.types import State
from snowmelt.types import severity as severities

_BATCH, _BATCH_PIXELS = 64, 250_000
_WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Job:
    """One picture: its place in the plan, where it is, and its path below the output folder."""

    number: int
    source: Path
    name: Path


@dataclass(frozen=True)
class Work:
    """What is done to every picture; a `sampler` of None is one call of the restorer."""

    model: Model
    severity: float
    sampler: Sampler | None
    device: str
    seed: int = 0
    degrade: bool = False
    trajectory: bool = False

    @property
    def channels(self) -> int | None:
        """The channels the model was trained on, if it says."""
        return self.model.restorer.shape[0] if isinstance(self.model.restorer, Restorer) else None

    @torch.no_grad()
    def walk(self, x: Tensor, numbers: Sequence[int]) -> list[State]:
        """The states from the degraded pictures to the restored ones: the first two and the last, or all of them."""
        draws = generators(self.seed, "restore", numbers)
        start = self.model.corrupt(x, self.severity, draws) if self.degrade else begin(self.model, x, self.severity, generator=draws)
        # Noise that was drawn here stays unknown, as it would be for a picture from elsewhere.
        known = {name: value.to(self.device) for name, value in start.z.items() if name not in self.model.degradation.noise}
        start = State(start.x.to(self.device), start.t, known)
        if self.sampler is None:
            estimate = self.model.estimate(start.x, severities(start.t, start.x), start.z)
            return [start, State(estimate, 0.0, start.z, estimate)]
        states: list[State] = []
        for state in self.sampler.trajectory(self.model, start, generators(self.seed, "restore-walk", numbers)):
            if not self.trajectory and len(states) > 1:
                states.pop()
            states.append(state)
        return states

    def spec(self) -> str:
        """The sampler in words."""
        return "one call" if self.sampler is None else registry.spec(self.sampler)


@dataclass
class Tally:
    """What became of the pictures."""

    done: list[dict[str, Any]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    kept: int = 0
    greyed: int = 0


def plan(inputs: Sequence[Path], out: Path) -> list[Job]:
    """One job per picture.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: a folder holds no picture, two inputs have one name, an output would be an input.
    """
    if out.is_file():
        raise ValueError(f"{out} is a file: give --out a folder")
    jobs: list[Job] = []
    for source, name in (pair for given in inputs for pair in _pictures(given, out)):
        suffix = name.suffix if name.suffix.lower() in _WRITTEN else ".png"
        jobs.append(Job(len(jobs), source, name.with_suffix(suffix)))
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = out / job.name
        if target.resolve() == job.source.resolve():
            raise ValueError(f"{job.source} would be overwritten by its own restoration: choose another --out")
        if job.name in taken:
            raise ValueError(f"{taken[job.name]} and {job.source} would both become {target}: restore them into two folders")
        taken[job.name] = job.source
    return jobs


def run_all(work: Work, jobs: Sequence[Job], out: Path, *, run: Path, overwrite: bool) -> int:
    """Restore every job into `out`, and say what became of them; the exit code."""
    tally = Tally()
    with Bar("restoring", len(jobs), unit="pictures") as bar:
        for batch in _batches(work, _readable(jobs, out, tally, bar, overwrite=overwrite), tally):
            _restore(work, batch, out, tally)
            bar.advance(len(batch))
    _summary(work, tally, out, run)
    return 1 if tally.failed else 0


_Loaded = tuple[Job, Picture, Tensor]


def _pictures(given: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    """(file, path below the output folder) of an input; hidden files, and what is in `out`, are left out."""
    if not given.exists():
        raise FileNotFoundError(f"{given} does not exist: give pictures, or folders of pictures")
    if given.is_file():
        yield given, Path(given.name)
        return
    found = [path for path in sorted(given.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    found = [path for path in found if not any(part.startswith(".") for part in path.relative_to(given).parts)]
    inside = out.resolve()
    found = [path for path in found if inside == given.resolve() or not path.resolve().is_relative_to(inside)]
    if not found:
        raise ValueError(f"{given} holds no picture ({', '.join(SUFFIXES)})")
    yield from ((path, path.relative_to(given)) for path in found)


def _readable(jobs: Sequence[Job], out: Path, tally: Tally, bar: Bar, *, overwrite: bool) -> Iterator[tuple[Job, Picture]]:
    """The jobs whose picture can be read and whose output is not there yet."""
    for job in jobs:
        if (out / job.name).exists() and not overwrite:
            tally.kept += 1
            bar.advance(1)
            continue
        try:
            yield job, read(job.source)
        except (OSError, UnreadableImage) as error:
            tally.failed.append(message(error))
            say(f"left out {message(error)}")
            bar.advance(1)


def _batches(work: Work, pictures: Iterator[tuple[Job, Picture]], tally: Tally) -> Iterator[list[_Loaded]]:
    """Runs of pictures of one shape, as many as fit."""
    batch: list[_Loaded] = []
    for job, picture in pictures:
        x = picture.x
        if work.channels in (1, 3) and work.channels is not None:
            tally.greyed += x.shape[0] > work.channels and bool((x != x[:1]).any())
            x = to_channels(x, work.channels)
        full = len(batch) >= _BATCH or (len(batch) + 1) * x[0].numel() > _BATCH_PIXELS
        if batch and (full or batch[0][2].shape != x.shape):
            yield batch
            batch = []
        batch.append((job, picture, x))
    if batch:
        yield batch


def _restore(work: Work, batch: list[_Loaded], out: Path, tally: Tally) -> None:
    x = torch.stack([x for _, _, x in batch])
    states = work.walk(x.to(work.device), [job.number for job, _, _ in batch])
    states = [s._replace(x=s.x.cpu(), x0=None if s.x0 is None else s.x0.cpu()) for s in states]
    for row, (job, picture, clean) in enumerate(batch):
        degraded, restored = states[0].x[row], states[-1].x[row]
        entry: dict[str, Any] = {"input": str(job.source), "output": str(out / job.name)}
        if work.degrade:
            write(out / "degraded" / _lossless(job.name), degraded)
            entry |= {"degraded_psnr_db": _psnr(degraded, clean), "restored_psnr_db": _psnr(restored, clean)}
        if work.trajectory:
            trajectory.save(out / "trajectory" / job.name, states, row)
        _write(out / job.name, restored, picture)
        tally.done.append(entry)
        if work.degrade:
            print(f"{job.name}: degraded {entry['degraded_psnr_db']:.2f} dB, restored {entry['restored_psnr_db']:.2f} dB")


def _write(path: Path, x: Tensor, picture: Picture) -> None:
    """Write at the depth it was read, with its opacity, where the format can hold them."""
    deep = picture.bits == 16 and x.shape[0] == 1 and picture.alpha is None and path.suffix.lower() in (".png", ".tif", ".tiff")
    alpha = picture.alpha if path.suffix.lower() in (".png", ".webp", ".tif", ".tiff") else None
    write(path, x, alpha=alpha, bits=16 if deep else 8)


def _lossless(name: Path) -> Path:
    """The name for a degraded picture: as JPEG it would be degraded twice."""
    return name.with_name(f"{name.name}.png") if name.suffix.lower() in (".jpg", ".jpeg") else name


def _psnr(x: Tensor, clean: Tensor) -> float:
    """PSNR in dB of what is saved, on [-1, 1]; at most 100."""
    square = float((x.clamp(-1, 1) - clean).double().square().mean())
    return min(-10 * float(torch.tensor(max(square, 1e-12) / 4, dtype=torch.float64).log10()), 100.0)


def _summary(work: Work, tally: Tally, out: Path, run: Path) -> None:
    """Say what became of the pictures, and write it with the settings to restore.json."""
    if tally.greyed:
        say(f"{_count(tally.greyed)} in colour turned grey: the model was trained on grey ones")
    if tally.kept:
        say(f"{_count(tally.kept)} already in {out} and left alone: --overwrite replaces what is there")
    if tally.done:
        settings = {"run": str(run), "severity": work.severity, "sampler": work.spec(), "degraded here": work.degrade, "seed": work.seed}
        files.write_json(out / "restore.json", {**settings, "pictures": tally.done, "failed": tally.failed})
    failed = f", {len(tally.failed)} could not be read" if tally.failed else ""
    print(f"restored {_count(len(tally.done))} into {out} ({work.spec()}, from t = {work.severity:.4g}){failed}")


def _count(n: int) -> str:
    return f"{n:,} picture{'' if n == 1 else 's'}"
