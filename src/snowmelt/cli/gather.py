"""Pictures from files, made to fit a model, a few at a time; and the results back into files, with a sheet of the first of them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from snowmelt.cli.errors import say
from snowmelt.stopping import Stopped

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.data.images import Picture
    from snowmelt.model import Model
    from snowmelt.restoration.plan import Job

_TOGETHER = 32
_SHOWN = 8
_MANY_PIXELS = 250_000


class Given(NamedTuple):
    """One picture that is ready.

    Attributes:
        number: its place in the plan.
        job: where it is, and where its result goes.
        picture: as it was read.
        x: (c, h, w), as the model takes it.
        mask: (1, h, w), 1 where it is known; None without a mask.
    """

    number: int
    job: "Job"
    picture: "Picture"
    x: "Tensor"
    mask: "Tensor | None"


@dataclass
class Gathering:
    """All pictures of a command, and what became of them.

    Attributes:
        inputs: pictures, and folders of them.
        out: the folder for the results.
        model: whose channels, and whose training size, the pictures take.
        verb: the command, for the name of the sheet.
        doing: what is done, for the progress bar.
        mask: a picture, white where something is to be made anew, or a folder of them.
        size: side in px that pictures are resized to; None does as the training did.
        as_is: without a size, pictures stay as they are: a degraded one that is resized is degraded twice.
        overwrite: whether results that are there already are replaced.
        fitted: the shapes that pictures were given, of those that had another or were transparent.
    """

    inputs: Sequence[Path]
    out: Path
    model: "Model"
    verb: str
    doing: str
    mask: Path | None = None
    size: int | None = None
    as_is: bool = False
    overwrite: bool = False
    failed: int = 0
    done: int = 0
    shown: dict[str, list["Tensor"]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    fitted: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the plan, and refuse what could not be written.

        Raises:
            ValueError: a result is there already, an option lies outside its bounds, or the plan cannot be carried out.
            FileNotFoundError: an input does not exist.
        """
        from snowmelt.restoration.plan import plan

        if self.size is not None and not 4 <= self.size <= 8192:
            raise ValueError(f"--size {self.size} lies outside [4, 8192] px")
        if self.mask is not None and not self.mask.exists():
            raise FileNotFoundError(f"{self.mask} does not exist: give a mask, or a folder of masks")
        run = next((one for one in self.inputs if (one / "model.json").is_file()), None)
        if run is not None:
            raise ValueError(f"{run} holds a model, not pictures: the first argument is the model, pictures follow")
        self.plan = plan(self.inputs, self.out)
        old = next((path for path in (*(job.target for job in self.plan.jobs), self.sheet) if path.exists()), None)
        if old is not None and not self.overwrite:
            raise ValueError(f"{old} exists: choose another --out, or add --overwrite")
        for failure in self.plan.refused:
            self.leave(failure.source, failure.reason)

    @property
    def sheet(self) -> Path:
        """Where the sheet goes."""
        return self.out / f"{self.verb}-sheet.png"

    def leave(self, source: Path, why: str) -> None:
        """Say that a picture is left out."""
        say(f"left out {source}: {why}")
        self.failed += 1

    def each(self, do: Callable[[list[Given]], dict[str, "Tensor"]], note: dict[str, Any]) -> None:
        """Read pictures of one size together, do what is to be done, write the last of what it gives, and keep all of it for the sheet.

        Args:
            do: from pictures of one size to batches by name, in the order of the sheet's columns; the last is the result.
            note: what the files shall say of where they come from.
        """
        from snowmelt.restoration.picture import save
        from snowmelt.restoration.preview import small
        from snowmelt.training.progress import Bar

        with self._stopping(), Bar(self.doing, len(self.plan.jobs), unit="pictures") as bar:
            for group in self._groups():
                columns = {name: x.cpu() for name, x in do(group).items()}
                result = list(columns.values())[-1]
                for row, one in enumerate(group):
                    save(one.job.target, result[row], one.picture._replace(alpha=None), note)
                    if len(self.names) < _SHOWN:
                        self.names.append(one.job.name.as_posix())
                        for name, x in columns.items():
                            self.shown.setdefault(name, []).append(small(x[row]))
                self.done += len(group)
                bar.advance(len(group))

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Say on Ctrl-C how far it came.

        Raises:
            Stopped: interrupted; what is written is whole, and stays.
        """
        try:
            yield
        except KeyboardInterrupt:
            so_far = f"{self.done:,} of {len(self.plan.jobs):,} pictures are done"
            raise Stopped(f"interrupted: {so_far}; with --overwrite the same command begins again") from None

    def finish(self, done: str) -> int:
        """Write the sheet and say what was done; the exit code."""
        from snowmelt import pictures
        from snowmelt.restoration.preview import stacked

        if self.names:
            pictures.save(self.sheet, pictures.grid({name: stacked(x) for name, x in self.shown.items()}, rows=self.names))
        total = self.done + self.failed
        failed = f"; {self.failed} failed" if self.failed else ""
        print(f"{done} {self.done} of {total} picture{'' if total == 1 else 's'} into {self.out}{failed}")
        if self.fitted:
            c, h, w = self.fitted[0]
            more = ", and others" if len(set(self.fitted)) > 1 else ""
            say(f"made to fit the model, {len(self.fitted)} of {total}: {'grey' if c == 1 else 'colour'}, {w} x {h} px, without transparency{more}")
        return 1 if self.failed else 0

    def _groups(self) -> Iterator[list[Given]]:
        """Runs of pictures of one shape, not too many at a time."""
        group: list[Given] = []
        for job in self.plan.jobs:
            try:
                one = self._read(job)
            except (OSError, ValueError) as error:
                self.leave(job.source, getattr(error, "reason", None) or str(error))
                continue
            full = len(group) >= _TOGETHER or (len(group) + 1) * one.x[0].numel() > _MANY_PIXELS
            if group and (full or group[0].x.shape != one.x.shape):
                yield group
                group = []
            group.append(one)
        if group:
            yield group

    def _read(self, job: "Job") -> Given:
        """A picture with its mask, both of the size the model works at."""
        from snowmelt.data.images import read, resize
        from snowmelt.restoration.masks import mask_file, read_mask
        from snowmelt.restoration.translation import prepared, with_channels

        picture, mask = read(job.source, still=True), None
        was = picture.x.shape if picture.alpha is None else None
        if self.mask is not None:
            mask = read_mask(mask_file(self.mask, job.name), (picture.x.shape[1], picture.x.shape[2]))[0]
        x = with_channels(self.model, picture)
        size = (self.size, self.size) if self.size is not None else None if self.as_is else prepared(self.model)
        if size is not None and size != tuple(x.shape[1:]):
            x = resize(x, size)
            mask = None if mask is None else (resize(mask * 2 - 1, size) >= 1 - 1e-3).to(x)  # a pixel with any damage in it is damaged
        if x.shape != was:
            self.fitted.append(tuple(x.shape))
        return Given(job.number, job, picture, x, mask)


def stacked_masks(group: Sequence[Given]) -> "Tensor | None":
    """The masks of pictures of one size: (b, 1, h, w)."""
    import torch

    masks = [one.mask for one in group if one.mask is not None]
    return torch.stack(masks) if masks else None
