"""What a run writes down while it goes on: its log, its sample grids, and what other programs follow of both.

metrics.jsonl is the truth (:mod:`~snowmelt.training.history`); a tracker gets the very lines that are in it, and the same grids.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from snowmelt import pictures
from snowmelt.signals import Signal
from snowmelt.training import history
from snowmelt.training.learning import words
from snowmelt.training.tracking import Tracker

SAMPLES = "samples"


class Diary:
    """Of one run; kept by the process that writes.

    Args:
        run: the run directory.
        keeps: whether this process writes; the others' diaries stay empty.
    """

    def __init__(self, run: Path, *, keeps: bool) -> None:
        self.run, self.keeps = run, keeps
        self.tracker = Tracker()

    def line(self, place: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """One line in metrics.jsonl."""
        if self.keeps:
            history.add(self.run, {**place, **values})
            self.tracker.line({**place, **values})

    def grid(self, images: int, columns: Mapping[str, Tensor], signal: Signal) -> None:
        """A sample grid, named by the images seen so far."""
        shown = {name: torch.nan_to_num(x, nan=0.0) for name, x in columns.items()}  # a young model's walk may diverge, its training need not
        sheet: Image.Image = pictures.grid(shown, signal=signal)
        pictures.save(self.run / SAMPLES / f"{images:09d}.png", sheet)
        self.tracker.picture(images, sheet)

    def count(self) -> int:
        """How many lines there are."""
        return len(history.read(self.run))

    def keep(self, step: int, count: int | None) -> None:
        """Keep the first lines; those up to `step` where their number is not known, as in a checkpoint of format 1."""
        if not self.keeps:
            return
        if count is None:
            count = sum(line.get("step", 0) <= step for line in history.read(self.run))
        history.keep(self.run, count)

    def verdict(self) -> str:
        """Whether it learns, in one line; empty while there is nothing to say."""
        return next(iter(words(history.read(self.run))), "")

    def is_best(self, step: int) -> bool:
        """Whether the validation after `step` is the best of all since the training began."""
        seen = [line for line in history.read(self.run) if "validation_degraded_psnr_db" in line and line.get("step")]
        losses = [line.get("validation_loss", math.inf) for line in seen]
        return bool(seen) and seen[-1]["step"] == step and math.isfinite(losses[-1]) and losses[-1] <= min(losses)
