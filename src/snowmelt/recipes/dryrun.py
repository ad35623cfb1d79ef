"""A dry run: what a recipe will cost, from a few real steps, before anything is trained or written."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from snowmelt.losses import restoration_loss
from snowmelt.randomness import fractions, generators
from snowmelt.recipes.recipe import Recipe
from snowmelt.recipes.report import degradation_strip
from snowmelt.recipes.run import make_trainer
from snowmelt.training.loop import Trainer

_WARM = 2  # the first steps choose algorithms and fetch memory
_MOST = 20
_ENOUGH_S = 2.0
_COPIES = 5  # weights, gradients, two moments, moving average


@dataclass(frozen=True)
class Cost:
    """What was measured.

    Attributes:
        parameters: of the network.
        state_bytes: weights, gradients, the optimiser's moments and the moving average.
        activation_bytes: what one batch keeps for its backward pass.
        peak_bytes: the most the device held at once; None where it does not say.
        step_s: median seconds of an optimiser step.
        steps: in all.
        images: seen in all.
        shape: of a sample, (c, h, w).
        pictures: in the training split.
        strip: the degradation from t = 0 to t = 1.
    """

    parameters: int
    state_bytes: int
    activation_bytes: int
    peak_bytes: int | None
    step_s: float
    steps: int
    images: int
    shape: tuple[int, ...]
    pictures: int
    strip: Image.Image

    def text(self) -> str:
        """The lines that the command line prints."""
        minutes = self.step_s * self.steps / 60
        memory = f"{_size(self.state_bytes)} of weights and optimiser, {_size(self.activation_bytes)} for a batch"
        peak = "" if self.peak_bytes is None else f", measured peak {_size(self.peak_bytes)}"
        return "\n".join(
            [
                f"data         {self.pictures:,} training pictures of {' x '.join(map(str, self.shape))}",
                f"parameters   {self.parameters:,}",
                f"memory       {_size(self.state_bytes + self.activation_bytes)}: {memory}{peak}",
                f"time         {1e3 * self.step_s:.0f} ms a step, {self.steps:,} steps for {self.images:,} images",
                f"ETA          {minutes:.1f} minutes" if minutes < 120 else f"ETA          {minutes / 60:.1f} hours",
            ]
        )


def measure(recipe: Recipe, *, device: torch.device | str = "cpu") -> Cost:
    """Run a few optimiser steps of a recipe on its data; nothing is written."""
    trainer = make_trainer(recipe, Path(), device=device)
    o, data = recipe.training, trainer.train
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer.restorer.fit([data.batch(range(min(len(data), 256)))["x0"]])
    parameters = sum(p.numel() for p in trainer.restorer.parameters())
    kept = _kept(trainer)
    times: list[float] = []
    while len(times) <= _WARM or (len(times) < _MOST and sum(times) < _ENOUGH_S):
        start = time.monotonic()
        for part in range(o.accumulate):
            (_loss(trainer, len(times) * o.accumulate + part) / o.accumulate).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trainer.restorer.parameters(), o.clip)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
    return Cost(
        parameters=parameters,
        state_bytes=4 * _COPIES * parameters,
        activation_bytes=kept,
        peak_bytes=torch.cuda.max_memory_allocated() if trainer.device.type == "cuda" else None,
        step_s=statistics.median(times[_WARM:]),
        steps=o.steps,
        images=o.steps * o.step_images,
        shape=data.shape,
        pictures=len(data),
        strip=degradation_strip(trainer.model, data.batch(range(min(len(data), 3)))),
    )


def _loss(trainer: Trainer, step: int) -> Tensor:
    """The loss of one batch, as in training."""
    o, data, model = trainer.options, trainer.train, trainer.model
    numbers = range(step * o.batch, (step + 1) * o.batch)
    keyed = generators(o.seed, "dry-run", numbers)
    item = data.batch([i % len(data) for i in numbers], keyed if data.random else None)
    x0 = item["x0"]
    t, z = fractions(o.seed, "dry-run", numbers), model.draw(x0, keyed, item)
    z = {name: value.to(trainer.device) for name, value in z.items()}
    return restoration_loss(model, x0.to(trainer.device), t.to(trainer.device, x0.dtype), z, loss=o.loss).mean()


def _kept(trainer: Trainer) -> int:
    """Bytes of all that autograd keeps of one batch, each storage counted once, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in trainer.restorer.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = _loss(trainer, 0)
    total = sum(seen.values())
    del loss
    return total


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"
