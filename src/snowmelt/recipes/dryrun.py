"""A dry run: what a recipe will cost, from a few real steps, before anything is trained or written."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from snowmelt.data.checks import Check, unchecked
from snowmelt.randomness import fractions, generators
from snowmelt.recipes.recipe import Recipe
from snowmelt.recipes.report import degradation_strip
from snowmelt.recipes.run import make_trainer
from snowmelt.restorers.cost import cost, kept_bytes, size
from snowmelt.training.feed import Fed
from snowmelt.training.loop import Trainer

_WARM = 2  # the first steps choose algorithms and fetch memory
_MOST = 20
_ENOUGH_S = 2.0


@dataclass(frozen=True)
class Cost:
    """What was measured.

    Attributes:
        parameters: of the network.
        flops: operations of one call of the restorer on one sample.
        state_bytes: weights, gradients, the optimiser's moments and the moving average.
        activation_bytes: what one batch keeps for its backward pass.
        peak_bytes: the most the device held at once; None where it does not say.
        step_s: median seconds of an optimiser step.
        waiting: share of the time in which the network waits for data and degradation.
        steps: in all.
        images: seen in all.
        shape: of a sample, (c, h, w) or (c, n).
        pictures: in the training split.
        many: the word for them.
        strip: the degradation from t = 0 to t = 1.
    """

    parameters: int
    flops: float
    state_bytes: int
    activation_bytes: int
    peak_bytes: int | None
    step_s: float
    waiting: float
    steps: int
    images: int
    shape: tuple[int, ...]
    pictures: int
    many: str
    strip: Image.Image

    def text(self) -> str:
        """The lines that the command line prints."""
        minutes = self.step_s * self.steps / 60
        memory = f"{size(self.state_bytes)} of weights and optimiser, {size(self.activation_bytes)} for a batch"
        peak = "" if self.peak_bytes is None else f", measured peak {size(self.peak_bytes)}"
        reached = 3 * self.flops * self.images / self.steps / self.step_s  # backwards there are two products for every one forwards
        return "\n".join(
            [
                f"data         {self.pictures:,} training {self.many} of {' x '.join(map(str, self.shape))}",
                f"parameters   {self.parameters:,}",
                f"operations   {self.flops / 1e9:.3g} GFLOP a call and sample; training does {reached / 1e9:.0f} GFLOP/s here",
                f"memory       {size(self.state_bytes + self.activation_bytes)}: {memory}{peak}",
                f"time         {1e3 * self.step_s:.0f} ms a step, {self.steps:,} steps for {self.images:,} images",
                f"waiting      {self.waiting:.0%} of that: the network waits for data and degradation",
                f"ETA          {minutes:.1f} minutes" if minutes < 120 else f"ETA          {minutes / 60:.1f} hours",
            ]
        )


def measure(recipe: Recipe, *, device: torch.device | str = "cpu", check: Check = unchecked) -> Cost:
    """Run a few optimiser steps of a recipe on its data; nothing is written.

    Args:
        recipe: what is to be trained.
        device: where to compute.
        check: is called before every batch, and may raise to end it: a step of a large network takes long.
    """
    check()
    trainer = make_trainer(recipe, Path(), device=device, check=check)
    o, data = recipe.training, trainer.train
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    check()
    trainer.restorer.fit([data.batch(range(min(len(data), 256)))["x0"]])
    counted = cost(trainer.restorer, data.shape)
    check()
    kept = kept_bytes(lambda: _loss(trainer, 0), trainer.restorer.parameters())
    times: list[float] = []
    waited: list[float] = []
    while len(times) <= _WARM or (len(times) < _MOST and sum(times) < _ENOUGH_S):
        start = time.monotonic()
        for part in range(o.accumulate):
            check()
            trainer.scaling.backward(_loss(trainer, len(times) * o.accumulate + part) / o.accumulate)
        trainer.scaling.step(trainer.optimizer, trainer.restorer.parameters(), o.clip)
        trainer.optimizer.zero_grad(set_to_none=True)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
        waited.append(trainer.waiting.read())
    return Cost(
        parameters=counted.parameters,
        flops=counted.flops,
        state_bytes=counted.state_bytes,
        activation_bytes=kept,
        peak_bytes=torch.cuda.max_memory_allocated() if trainer.device.type == "cuda" else None,
        step_s=statistics.median(times[_WARM:]),
        waiting=min(sum(waited[_WARM:]) / sum(times[_WARM:]), 1.0),
        steps=o.steps,
        images=o.steps * o.step_images,
        shape=data.shape,
        pictures=len(data),
        many=data.signal.many,
        strip=degradation_strip(trainer.model, data.batch(range(min(len(data), 3)))),
    )


def _loss(trainer: Trainer, step: int) -> torch.Tensor:
    """The loss of one batch, as in training."""
    o, data, model = trainer.options, trainer.train, trainer.model
    numbers = range(step * o.batch, (step + 1) * o.batch)
    with trainer.waiting:
        keyed = generators(o.seed, "dry-run", numbers)
        item = data.batch([i % len(data) for i in numbers], keyed if data.random else None)
        t, z = fractions(o.seed, "dry-run", numbers), model.draw(item["x0"], keyed, item)
        x0, t = item["x0"].to(trainer.device), t.to(trainer.device, item["x0"].dtype)
        z = {name: value.to(trainer.device) for name, value in z.items()}
    return trainer.objective(Fed(x0, t, z), step * o.batch // o.step_images).mean()
