"""The training loop: one for hot and cold, for every degradation, parameterization and loss.

A step takes numbered samples, gives each the severity and the draw that belong to its number, and moves the weights down
the gradient of the restoration loss. All randomness is a function of (seed, stream, sample number), so the state of a run
is the step number and tensors: the same command on the same directory goes on where it stopped, to the same weights.
"""

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from snowmelt import pictures
from snowmelt.data import images
from snowmelt.data.dataset import Dataset
from snowmelt.degradations import Blend
from snowmelt.files import write_text
from snowmelt.losses import consistency_loss, estimates, restoration_loss
from snowmelt.model import Model
from snowmelt.model import save as save_model
from snowmelt.priors import Normal
from snowmelt.randomness import fractions, generators
from snowmelt.restorers import Restorer
from snowmelt.samplers import Sampler, default_walk
from snowmelt.stopping import Stopped, until_asked
from snowmelt.training import checkpoint
from snowmelt.training.agreement import agree
from snowmelt.training.ahead import Ahead
from snowmelt.training.ema import Average
from snowmelt.training.options import TrainingOptions
from snowmelt.training.progress import Bar
from snowmelt.training.scaling import Scaling
from snowmelt.training.validation import samples, validate
from snowmelt.training.waiting import Waiting, timed
from snowmelt.types import Batch, Draw, Severity

_LOG_EVERY = 20
_FIT_IMAGES = 20_000
_GRID_ROWS = 8
_ON_KNOT = 1e-6  # as snowmelt.schedules.knot has it
_MOST_SKIPPED = 100  # steps in a row: by then the scale has fallen from 65,536 to 5e-26


class Fed(NamedTuple):
    """What a batch's loss is computed from, on the device: clean samples (b, *d), severities (b,) and draws."""

    x0: Batch
    t: Severity
    z: Draw


class Diverged(RuntimeError):
    """The loss is no longer a finite number, or its gradients have not been for long."""


class Trainer:
    """One run: model, data, options, directory. ``Trainer(...).run()`` trains, or goes on.

    Args:
        model: its restorer must be a :class:`Restorer`.
        train: clean training samples.
        validation: clean samples for validation; may be empty, then there is none.
        options: the numbers.
        out: the run directory: model, checkpoint, metrics.jsonl, samples/.
        device: where to train.
        sampler: for the sample grids; by default what restore would use.
        ahead: whether a thread prepares each batch while the network works on the one before; by default where the network has a GPU.
            The weights are the same.
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
        ahead: bool | None = None,
    ) -> None:
        if not isinstance(model.restorer, Restorer):
            raise TypeError("only a snowmelt.Restorer can be trained; this model's restorer is a plain callable")
        self.train, self.validation, self.options, self.out = train, validation, options, Path(out)
        self.device = torch.device(device)
        restorer = model.restorer
        if not list(restorer.parameters()):
            raise ValueError("this backbone has no weights to train: choose another --model.backbone, such as unet")
        agree(model, train, options)
        if isinstance(model.prior, Normal):  # it has only a shape to learn, also when the run is taken up again; others were fitted
            model = dataclasses.replace(model, prior=model.prior.fit([torch.empty(1, *train.shape)]))
        self.restorer = restorer.to(self.device).requires_grad_(True)
        self.restorer.precision = precision(options.precision, self.device)
        self.restorer.compiled = options.compile
        self.model = dataclasses.replace(model, restorer=self.restorer, estimates=estimates(options.loss, options.gap))
        self.average = Average(self.restorer, options.ema * options.images)
        self.optimizer = torch.optim.AdamW(self.restorer.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
        self.scaling = Scaling(self.device, enabled=self.restorer.precision == "fp16")
        self.sampler = sampler or default_walk(self.model)
        self.ahead = self.device.type == "cuda" and (os.cpu_count() or 1) > 1 if ahead is None else ahead
        self.waiting = Waiting(self.device)
        self._next: Callable[[range], Fed] = self._fed
        self.step, self.wall_s, self._logged_s = 0, 0.0, 0.0
        self._drawn = bool(self.model.draw(torch.empty(1, *train.shape), torch.Generator()))

    @property
    def averaged(self) -> Model:
        """The model with the moving average of its weights: what validation sees and load returns."""
        return dataclasses.replace(self.model, restorer=self.average.restorer)

    def resume(self) -> bool:
        """Take up the checkpoint in the run directory; False if there is none."""
        if not (self.out / checkpoint.NAME).is_file():
            return False
        self.step, self.wall_s = checkpoint.load(self.out, self.restorer, self.average, self.optimizer, self.scaling)
        self._logged_s = self.wall_s
        self._forget_after(self.step)
        return True

    def run(self) -> Model:
        """Train from where the run stands to its end; the averaged model.

        Raises:
            Stopped: Ctrl-C or SIGTERM came; everything is saved and the same command goes on.
            Diverged: the loss is not finite, or under fp16 no step was for long; the last checkpoint stays.
        """
        o = self.options
        if self.step == 0:
            self._prepare()
        every = max(o.validate_every // o.step_images, 1)
        with until_asked() as asked, Bar("training", o.steps * o.step_images, done=self.step * o.step_images) as bar, self._feeding():
            while self.step < o.steps:
                loss = self._advance(bar)
                done = self.step == o.steps
                if self.step % every == 0 or done or asked.is_set():
                    self._require_finite(loss)
                    self.save(validate=self.step % every == 0 or done)
                if asked.is_set() and not done:
                    raise Stopped(f"stopped after {self.step * o.step_images:,} of {o.images:,} images; the same command goes on from there")
        return self.averaged

    def save(self, *, validate: bool) -> None:
        """Checkpoint and model; with `validate`, also a line in metrics.jsonl and a sample grid."""
        if validate and len(self.validation):
            self.model = dataclasses.replace(self.model, notes={**self.model.notes, "validation": self._validate()})
        # The model first: should the disk fill up in between, the old checkpoint makes the next run write both again.
        save_model(self.model, self.out, ema=self.average.restorer.state_dict())
        checkpoint.save(self.out, self.restorer, self.average, self.optimizer, self.scaling, self.step, self.wall_s)

    def _prepare(self) -> None:
        """Statistics of the data, before step 1."""
        indices = range(min(len(self.train), _FIT_IMAGES))
        batches = (self.train.batch(indices[i : i + 256])["x0"] for i in range(0, len(indices), 256))
        self.restorer.fit(batches)
        self.average = Average(self.restorer, self.average.half_life_images)

    def _advance(self, bar: Bar) -> Tensor:
        """One optimiser step. Nothing in it waits for the device, but where a line is written."""
        o, start = self.options, time.monotonic()
        rate = learning_rate(self.step, o)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = torch.zeros((), device=self.device)
        self.restorer.train()
        for part in range(o.accumulate):
            first = (self.step * o.accumulate + part) * o.batch
            loss = self._loss(range(first, first + o.batch)) / o.accumulate
            self.scaling.backward(loss)
            total += loss.detach()
        norm = self.scaling.step(self.optimizer, self.restorer.parameters(), o.clip)
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.average.update(self.restorer, o.step_images, self.step * o.step_images)
        self.wall_s += time.monotonic() - start
        if self.step % _LOG_EVERY == 0 or self.step == o.steps:
            self._require_finite(total)
            self._log(bar, {"loss": float(total), "lr": rate, "gradient_norm": float(norm)})
        return total

    def _log(self, bar: Bar, values: dict[str, float]) -> None:
        """A line in metrics.jsonl and beside the bar: what of `values` is finite, the speed, and how much of the time since the last was waited."""
        share = min(self.waiting.read() / max(self.wall_s - self._logged_s, 1e-9), 1.0)
        self._logged_s, done = self.wall_s, self.step * self.options.step_images
        values |= {"images_per_s": done / self.wall_s, "waiting": round(share, 4)}
        if self.scaling.enabled:
            values |= {"scale": self.scaling.scale, "skipped": self.scaling.skipped[0]}
        self._write({name: value for name, value in values.items() if math.isfinite(value)})
        bar.advance(done - bar.done, loss=values["loss"], waits=f"{share:.0%}")

    @contextlib.contextmanager
    def _feeding(self) -> Iterator[None]:
        """While this lasts, batches are prepared ahead, if they are to be."""
        if not self.ahead:
            yield
            return
        try:
            with Ahead(self._fed, self.options.steps * self.options.step_images) as self._next:
                yield
        finally:
            self._next = self._fed

    def _fed(self, numbers: range) -> Fed:
        """What the loss of these samples is computed from, a function of their numbers: made on the CPU and sent, waiting for neither."""
        seed, here = self.options.seed, self.device.type != "cuda"
        item = self.train.numbered(seed, numbers, raw=True)
        like = images.floats(item["x0"]) if here else torch.zeros(item["x0"].shape)  # draws read nothing but its shape
        z = self.model.draw(like, generators(seed, "draw", numbers) if self._drawn else None, item)
        t = self._severities(numbers, z).to(like)
        if self.restorer.conditions and self.options.drop_condition:
            z = self.restorer.conditions.dropped(z, fractions(seed, "condition", numbers) < self.options.drop_condition, like)
        x0 = moved(like, self.device) if here else images.floats(moved(item["x0"], self.device))
        return Fed(x0, moved(t, self.device), {name: moved(value, self.device) for name, value in z.items()})

    def _loss(self, numbers: range) -> Tensor:
        """The mean loss of the samples with these numbers."""
        with self.waiting:
            x0, t, z = self._next(numbers)
        o, model = self.options, timed(self.model, self.waiting)
        if gap := o.gap_at(numbers.start // o.step_images):
            return consistency_loss(model, x0, t, self._earlier(gap, t, z), z, loss=o.loss, weight=o.weight).mean()
        return restoration_loss(model, x0, t, z, loss=o.loss, weight=o.weight).mean()

    def _earlier(self, gap: float, t: Tensor, z: Draw) -> Tensor:
        """Severities gap t, as they are or moved down to the next knot, which is moving their negatives up; always below t."""
        s, snapped = gap * t, self.model.degradation.snapped
        if self.options.severities not in ("auto", "knots"):
            return s
        near = s + _ON_KNOT  # what is a knot but for rounding stays there
        down = -snapped(-near, z)
        return torch.where((down == near) | (down >= t), -snapped(-s, z), down)  # equal where there are no knots

    def _severities(self, numbers: range, z: Draw) -> Tensor:
        """The severity of each sample number: uniform in (0, 1], or uniform over the knots 1/T, ..., 1, or of the law that the options name."""
        t = 1 - fractions(self.options.seed, "severity", numbers)
        match self.options.severities:
            case "uniform":
                return t
            case "log-normal":
                assert isinstance(self.model.degradation, Blend)  # noqa: S101 - agree() has seen to that
                return self.model.degradation.schedule.severity_at(self._normal(t).exp())
            case "logit-normal":
                return torch.sigmoid(self._normal(t))
        return self.model.degradation.snapped(t, z)

    def _normal(self, share: Tensor) -> Tensor:
        """Normal numbers of the options' mean and deviation, at those quantiles."""
        quantiles: Tensor = torch.special.ndtri(share.double().clamp(1e-9, 1 - 1e-9))
        return self.options.severity_mean + self.options.severity_std * quantiles

    def _validate(self) -> dict[str, Any]:
        """Write a line and a sample grid; the line's values are also noted in the model."""
        o = self.options
        result = validate(
            self.averaged, self.validation, o.validation_images, loss=o.loss, seed=o.seed, batch=max(o.batch, 64), device=self.device
        )
        found = dataclasses.asdict(result)
        found["bands"] = [None if math.isnan(band) else band for band in result.bands]  # JSON has no NaN
        self._write({f"validation_{name}": value for name, value in found.items()})
        columns = samples(self.averaged, self.sampler, self.validation, _GRID_ROWS, seed=o.seed, device=self.device)
        shown = {name: torch.nan_to_num(x, nan=0.0) for name, x in columns.items()}  # a young model's walk may diverge, its training need not
        pictures.save(self.out / "samples" / f"{self.step * o.step_images:09d}.png", pictures.grid(shown))
        return {"images": self.step * o.step_images, **found}

    def _require_finite(self, loss: Tensor) -> None:
        """Refuse to go on from a loss that is not finite, or from steps that were skipped for long. Waits for the device, which is training time."""
        start = time.monotonic()
        value, skipped = float(loss), self.scaling.skipped[1]
        self.wall_s += time.monotonic() - start
        if skipped >= _MOST_SKIPPED:
            raise Diverged(
                f"the gradients of the last {skipped} steps, up to step {self.step}, were not finite at any scale; the last checkpoint is kept. "
                f"fp16 ends at 65,504: try --training.precision fp32, or a smaller --training.lr (now {self.options.lr:g})"
            )
        if not math.isfinite(value) and not skipped:  # a step that was skipped has changed nothing
            raise Diverged(
                f"the loss became {value} at step {self.step}; the last checkpoint is kept. Try a smaller --training.lr "
                f"(now {self.options.lr:g}) or --training.precision fp32"
            )

    def _write(self, values: dict[str, Any]) -> None:
        """One line in metrics.jsonl."""
        self.out.mkdir(parents=True, exist_ok=True)
        line = {"step": self.step, "images": self.step * self.options.step_images, "wall_s": round(self.wall_s, 3), **values}
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _forget_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl that were written after the checkpoint was."""
        path = self.out / "metrics.jsonl"
        if path.is_file():
            write_text(path, "".join(f"{json.dumps(line)}\n" for line in history(self.out) if line["step"] <= step))


def history(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line that was cut off is left out."""
    path, out = run / "metrics.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            out.append(json.loads(line))
    return out


def learning_rate(step: int, options: TrainingOptions) -> float:
    """Linear warm-up, then a cosine to zero, or what was reached."""
    warmup = max(round(options.warmup * options.steps), 1)
    if step < warmup:
        return options.lr * (step + 1) / warmup
    if options.decay == "none":
        return options.lr
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(options.steps - warmup, 1)))


def precision(choice: Literal["auto", "bf16", "fp16", "fp32"], device: torch.device) -> Literal["bf16", "fp16", "fp32"]:
    """What "auto" means on this device: bf16 where the processor computes in it, fp16 on older GPUs, else fp32."""
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return "bf16" if any(ask is not None and ask() for ask in asks) else "fp32"
    return "fp32"


def moved(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device. A GPU fetches it by itself, from memory that is pinned for it: nobody waits."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
