"""The training loop: one for hot and cold, for every degradation, parameterization and loss.

A step takes numbered samples, gives each the severity and the draw that belong to its number, and moves the weights down
the gradient of the restoration loss. All randomness is a function of (seed, stream, sample number), so the state of a run
is the step number and tensors: the same command on the same directory goes on where it stopped, to the same weights.

Several processes may share a training (:mod:`snowmelt.training.gradient`). All of them hold the same weights and make the same steps; the first one
validates, writes and speaks.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt import processes
from snowmelt.data.dataset import Dataset
from snowmelt.losses import estimates
from snowmelt.model import Model
from snowmelt.model import save as save_model
from snowmelt.priors import Normal
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler, default_walk
from snowmelt.stopping import Stopped, until_asked
from snowmelt.training import checkpoint, exactness
from snowmelt.training.agreement import agree
from snowmelt.training.ahead import feeding
from snowmelt.training.diary import Diary
from snowmelt.training.ema import Average
from snowmelt.training.feed import Fed, Feed
from snowmelt.training.gradient import Gradient, Plan
from snowmelt.training.objective import Objective, counting
from snowmelt.training.options import TrainingOptions
from snowmelt.training.progress import Bar
from snowmelt.training.scaling import ROW, Diverged, Scaling
from snowmelt.training.validation import samples, validate
from snowmelt.training.waiting import Waiting
from snowmelt.training.wishes import SAMPLE, SAVE, WISHES, Wishes

BEST = "best"
_LOG_EVERY = 20
_FIT_IMAGES, _GRID_ROWS = 20_000, 8
_MOST_ROLLBACKS, _SLOWER, _NAMED = 3, 0.5, 8
_log = logging.getLogger(__name__)


class _Asked(Exception):  # noqa: N818
    """A validation was broken off, for somebody waits for the end."""


class Trainer:
    """One run: model, data, options, directory. ``Trainer(...).run()`` trains, or goes on.

    Args:
        model: its restorer must be a :class:`Restorer`.
        train: clean training samples.
        validation: clean samples for validation; may be empty, then there is none.
        options: the numbers.
        out: the run directory: model, checkpoints, metrics.jsonl, samples/.
        device: where to train.
        sampler: for the sample grids; by default what restore would use.
        workers: threads that prepare batches while the network works on the one before; by default one where the network has a GPU, else none.
            The weights are the same.
        inexact: go on with a run also where this machine, or this share of the work, gives other last digits.
    """

    def __init__(
        self,
        model: Model,
        train: Dataset,
        validation: Dataset,
        options: TrainingOptions,
        out: Path,
        *,
        device: torch.device | str = "cpu",
        sampler: Sampler | None = None,
        workers: int | None = None,
        inexact: bool = False,
    ) -> None:
        if not isinstance(model.restorer, Restorer):
            raise TypeError("only a snowmelt.Restorer can be trained; this model's restorer is a plain callable")
        self.train, self.validation, self.options, self.out = train, validation, options, Path(out)
        self.device, self.process, self.inexact = torch.device(device), processes.here(), inexact
        restorer = model.restorer
        if not list(restorer.parameters()):
            raise ValueError("this backbone has no weights to train: choose another --model.backbone, such as unet")
        agree(model, train, options)
        if isinstance(model.prior, Normal):  # it has only a shape to learn, also when the run is taken up again; others were fitted
            model = dataclasses.replace(model, prior=model.prior.fit([torch.empty(1, *train.shape)]))
        self.restorer = restorer.to(self.device).requires_grad_(True)
        self.restorer.precision = exactness.precision(options.precision, self.device)
        self.restorer.compiled = options.compile
        self.model = dataclasses.replace(model, restorer=self.restorer, estimates=estimates(options.loss, options.gap, options.penalty))
        self.average = Average(self.restorer, options.ema * options.images)
        self.optimizer = torch.optim.AdamW(self.restorer.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
        self.scaling = Scaling(self.device, enabled=self.restorer.precision == "fp16")
        self.sampler = sampler or default_walk(self.model)
        self.workers = int(self.device.type == "cuda" and (os.cpu_count() or 1) > 1) if workers is None else workers
        self.waiting = Waiting(self.device)
        self.feed = Feed(self.model, train, options, self.device)
        self.objective = Objective(self.model, options, self.waiting)
        self.gradient = self._planned(options.shards or exactness.shards_for(options.batch, self.process))
        self._next: Callable[[range], Fed] = self.feed
        self.step, self.wall_s, self._logged_s, self.rollbacks = 0, 0.0, 0.0, 0
        self._owed = False  # a validation, which was broken off
        self._new = True  # nothing has been trained, nor taken up
        self._asked = threading.Event()
        self._advised = ""  # by the last validation
        self.diary = Diary(self.out, keeps=self.process.first)
        granted: dict[str, Callable[[], None]] = {SAVE: functools.partial(self.save, validate=False, regular=False), SAMPLE: self._show}
        self._wishes = Wishes(self.out, granted if self.process.first else {}, tell=self._tell)

    @property
    def averaged(self) -> Model:
        """The model with the moving average of its weights: what validation sees and load returns."""
        return dataclasses.replace(self.model, restorer=self.average.restorer)

    @property
    def exact(self) -> dict[str, Any]:
        """What the last digits depend on, besides the recipe."""
        return exactness.facts(self.gradient.plan, self.restorer.precision, self.device, compiled=self.options.compile)

    def resume(self) -> bool:
        """Take up the newest sound checkpoint in the run directory; False if there is none.

        Raises:
            ValueError: the run was made in a way whose last digits are others, and `inexact` is not set.
            BadFile: no checkpoint is sound, or they belong to another network.
        """
        said = checkpoint.load(self.out, self._held, tell=self._tell)
        if said is not None:
            self._require_exact(said.get("exact", {}))
            self._take_up(said)
        exactness.require_agreement(self.process, self.out, self.step, self.restorer)
        return said is not None

    def run(self) -> Model:
        """Train from where the run stands to its end; the averaged model.

        Raises:
            Stopped: Ctrl-C or SIGTERM came; everything is saved and the same command goes on.
            Diverged: the loss is not finite, or under fp16 no step was for long, whatever was tried; the last checkpoint stays.
            Lost: another process is gone.
        """
        o = self.options
        every = max(o.validate_every // o.step_images, 1)
        ahead = feeding(self.feed, self.gradient.plan.following, self.workers)
        with until_asked() as self._asked, Bar("training", o.steps * o.step_images, done=self.step * o.step_images) as bar, ahead as self._next:
            self._begin(bar)
            while self.step < o.steps:
                self._advance(bar)
                done = self.step == o.steps
                regular = done or self.step % every == 0
                if (regular or self.step % _LOG_EVERY == 0) and self._rolled_back():
                    continue
                if regular:
                    self.save(validate=True, bar=bar)
                self._wishes.look(but=WISHES if done else (SAVE,) if regular else ())
                wished = processes.any_of(self._asked.is_set())
                if wished and not regular:
                    self.save(validate=False, regular=False)
                if wished and not (done and self._validated()):
                    raise self._stopped()
        self._wishes.withdraw()
        return self.averaged

    def _stopped(self) -> Stopped:
        processes.barrier()  # the first one has saved
        self._wishes.withdraw()
        o = self.options
        return Stopped(f"stopped after {self.step * o.step_images:,} of {o.steps * o.step_images:,} images; the same command goes on from there")

    def save(self, *, validate: bool, regular: bool = True, bar: Bar | None = None) -> None:
        """Checkpoint and model; with `validate`, also a line in metrics.jsonl and a sample grid.

        Args:
            validate: whether to look at the validation pictures first.
            regular: whether every run of the recipe saves here, so that a rollback may lead here; not where somebody happened to ask for the end.
            bar: where to say in words how the training goes.
        """
        if not self.process.first:
            return
        if validate:
            self._validate_unless_asked(bar)
        # The models first: should the disk fill up in between, the old checkpoint makes the next run write all of them again.
        ema = self.average.restorer.state_dict()
        save_model(self.model, self.out, ema=ema)
        if self.options.keep_best and self.diary.is_best(self.step):
            save_model(self.model, self.out / BEST, ema=ema)
        self._checkpoint(regular=regular)

    def _begin(self, bar: Bar) -> None:
        """What comes before the next step: at the start the statistics of the data, later a validation that was broken off."""
        if self._new:
            self._prepare()
            if self.process.first:
                self.diary.keep(0, 0)  # nothing of what a run wrote that was killed before it saved anything
                self._validate_unless_asked(None)  # what the others are compared with: a linear part restores before anything is learned
                self._checkpoint(regular=True)  # a rollback may lead to it
            self._new = False
        elif self._owed:
            self.save(validate=True, bar=bar)
        exactness.require_agreement(self.process, self.out, self.step, self.restorer)
        if not self._validated():
            raise self._stopped()

    def _validate_unless_asked(self, bar: Bar | None) -> None:
        """Validate, if there are pictures for it; if the end is asked for meanwhile, that is owed."""
        self._owed = False
        if len(self.validation):
            try:
                self.model = self._noting(self._validate())
            except _Asked:
                self._owed = True
            else:
                if bar is not None and not self.options.gap:  # a tuning is not about distances from the truth
                    self._judge(bar)

    def _judge(self, bar: Bar) -> None:
        """Say whether it learns; what to do about it only where that is not what the last validation had to say."""
        verdict, stop, advice = self.diary.verdict().partition(". ")
        if verdict:
            bar.say(f"{verdict}{stop}{advice}" if advice != self._advised else f"{verdict}{stop}".strip())
        self._advised = advice

    def _validated(self) -> bool:
        """Whether no validation was broken off, as the first process knows and the others learn."""
        self._owed = processes.any_of(self._owed and self.process.first)
        return not self._owed

    def _noting(self, validation: dict[str, Any]) -> Model:
        """The model with what the last validation found."""
        return dataclasses.replace(self.model, notes={**self.model.notes, "validation": validation})

    def _prepare(self) -> None:
        """Statistics of the data, before step 1."""
        indices = range(min(len(self.train), _FIT_IMAGES))

        def batches() -> Iterator[Tensor]:
            for i in range(0, len(indices), 256):
                if self._asked.is_set():
                    raise Stopped("stopped before the first step; the same command begins anew")
                yield self.train.batch(indices[i : i + 256])["x0"]

        self.restorer.fit(batches())
        self.average = Average(self.restorer, self.average.half_life_images)

    def _advance(self, bar: Bar) -> None:
        """One optimiser step. Nothing in it waits for the device, but where a line is written."""
        o, start = self.options, time.monotonic()
        rate = o.rate_at(self.step) * _SLOWER**self.rollbacks
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.restorer.train()
        loss = self.gradient(self.step)
        norm = self.scaling.step(self.optimizer, self.gradient.parameters, o.clip, loss, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.restorer, o.step_images, self.step * o.step_images)
        logs = self.step % _LOG_EVERY == 0 or self.step == o.steps
        values = {"loss": float(loss), "lr": rate, "gradient_norm": float(norm)} if logs else {}
        self.wall_s += time.monotonic() - start  # with waiting for the device, where that was
        if logs:
            self._log(bar, values)

    def _log(self, bar: Bar, values: dict[str, float]) -> None:
        """A line in metrics.jsonl and beside the bar: what of `values` is finite, the speed, and how much of the time since the last was waited."""
        share = round(min(self.waiting.read() / max(self.wall_s - self._logged_s, 1e-9), 1.0), 4)
        self._logged_s, done = self.wall_s, self.step * self.options.step_images
        values |= {"images_per_s": done / self.wall_s, "waiting": share}
        if self.scaling.enabled:
            values |= {"scale": self.scaling.scale, "skipped": self.scaling.skipped[0]}
        values |= {name: n for name, n in (("bad", self.scaling.bad().total), ("rollbacks", self.rollbacks)) if n}
        self._write({name: value for name, value in values.items() if math.isfinite(value)})
        bar.advance(done - bar.done, loss=values["loss"], waits=f"{share:.0%}")

    def _losses(self, numbers: range, pieces: int = 1) -> Iterator[Tensor]:
        """The mean loss of the samples with these numbers, in so many parts that add up to it."""
        with self.waiting:
            fed = self._next(numbers)
        step = numbers.start // self.options.step_images
        if pieces == 1:
            yield self.objective(fed, step).mean()
            return
        for piece in fed.split(pieces):
            yield self.objective(piece, step).sum() / len(numbers)

    def _validate(self) -> dict[str, Any]:
        """Write a line and a sample grid; the line's values are also noted in the model."""
        o = self.options
        kept: dict[str, Any] = {"seed": o.seed, "device": self.device, "tick": self._unless_asked}
        how: dict[str, Any] = {"loss": o.loss, "batch": max(o.batch, 64), "raw": self.model, "counted": counting(o, self.model.signal)}
        result = validate(self.averaged, self.validation, o.validation_images, **how, **kept)
        columns, found = self._samples(), result.table()
        self._write({f"validation_{name}": value for name, value in found.items() if value is not None})
        self.diary.grid(self._place["images"], columns, self.model.signal)
        return {"images": self.step * o.step_images, **found}

    def _samples(self) -> dict[str, Tensor]:
        """What a grid shows: restored validation pictures, or training pictures where there are none."""
        shown = self.validation if len(self.validation) else self.train
        how: dict[str, Any] = {"seed": self.options.seed, "device": self.device, "tick": self._unless_asked}
        return samples(self.averaged, self.sampler, shown, _GRID_ROWS, **how)

    def _show(self) -> None:
        """A sample grid because somebody asked for it; none where the end is asked for meanwhile."""
        with contextlib.suppress(_Asked):
            self.diary.grid(self._place["images"], self._samples(), self.model.signal)

    def _unless_asked(self) -> None:
        if self._asked.is_set():
            raise _Asked

    def _rolled_back(self) -> bool:
        """Go back to the last regular checkpoint, and on more slowly, where the loss was no finite number for some steps in a row; whether it was.

        Asked after the same steps in every run of the recipe, so that an interrupted one rolls back where another does.

        Raises:
            Diverged: that has been tried often enough.
        """
        bad = self.scaling.bad()
        self.scaling.require_scale(self.step, self.options.lr)
        self.scaling.forget()
        if bad.longest < ROW:
            return False
        seen, step = f"the loss or its gradient was no finite number in {bad.longest} steps in a row, up to step {bad.row[-1] + 1}", self.step
        if self.rollbacks == _MOST_ROLLBACKS:
            raise Diverged(
                f"{seen}, and {self.rollbacks} rollbacks with lower rates did not help; the last checkpoint is kept. "
                f"Try a smaller --training.lr (now {self.options.lr:g}) or --training.precision fp32"
            )
        said = checkpoint.load(self.out, self._held, regular=True, tell=self._tell)
        if said is None:
            raise Diverged(f"{seen}, and there is no checkpoint to go back to. Try a smaller --training.lr (now {self.options.lr:g})")
        rollbacks = self.rollbacks + 1
        self._take_up({**said, "rollbacks": rollbacks})
        exactness.require_agreement(self.process, self.out, self.step, self.restorer)  # and nobody reads any more what is written next
        plan = self.gradient.plan
        parts = [(at, numbers) for at in bad.row[-ROW:] for shard in range(plan.shards) for numbers in plan.parts(at, shard)]
        found = list(dict.fromkeys(name for at, numbers in parts for name in self.objective.unsound(self.feed, numbers, at)))[:_NAMED]
        self._write({"rollback_from": step, "rollbacks": rollbacks, "samples": found})
        if self.process.first:
            self._checkpoint(regular=True)
        whose = f"the samples {', '.join(found)} make it so" if found else "no sample alone makes it so"
        self._tell(f"{seen}: back to step {self.step}, at {_SLOWER**rollbacks:g} of the rate; {whose}")
        return True

    @property
    def _place(self) -> dict[str, Any]:
        return {"step": self.step, "images": self.step * self.options.step_images, "wall_s": round(self.wall_s, 3)}

    @property
    def _held(self) -> checkpoint.Held:
        return checkpoint.Held(self.restorer, self.average, self.optimizer, self.scaling)

    def _checkpoint(self, *, regular: bool) -> None:
        said = {**self._place, "regular": regular, "rollbacks": self.rollbacks, "pieces": self.gradient.pieces, "owed": self._owed}
        said |= {"lines": self.diary.count(), "validation": self.model.notes.get("validation"), "exact": self.exact}
        checkpoint.save(self.out, self._held, said, keep=self.options.keep)

    def _take_up(self, said: dict[str, Any]) -> None:
        """Stand where a checkpoint stood, whose tensors are loaded."""
        self.step, self.wall_s, self.rollbacks = said["step"], said["wall_s"], said.get("rollbacks", 0)
        self._owed, self.gradient.pieces = said.get("owed", False), said.get("pieces", 1)
        self._logged_s, self._new = self.wall_s, False
        if said.get("validation"):
            self.model = self._noting(said["validation"])
        self.diary.keep(self.step, said.get("lines"))

    def _planned(self, shards: int) -> Gradient:
        o = self.options
        plan = Plan(o.batch, o.accumulate, shards, o.steps, self.process)
        return Gradient(plan, self.restorer.parameters(), self._losses, self.scaling.backward)

    def _require_exact(self, was: dict[str, Any]) -> None:
        """Refuse to go on in a way that gives other last digits; the number of shards is taken over where nobody asked for one."""
        shards = was.get("shards", 0)
        if not self.options.shards and shards and (shards % self.process.size == 0 or not self.inexact):
            self.gradient = self._planned(shards)
        if not self.inexact:
            exactness.require_same(self.out, was, self.exact)

    def _write(self, values: dict[str, Any]) -> None:
        """One line in metrics.jsonl."""
        self.diary.line(self._place, values)

    def _tell(self, text: str) -> None:
        if self.process.first:
            _log.warning(text)
