"""How a restorer is trained: the numbers of a recipe, all in images seen, never in minutes.

Text and numbers only: the command line reads this to print ``--help``, so nothing here imports torch.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

_GAPS = (0.01, 0.99)


@dataclass(frozen=True)
class TrainingOptions:
    """The optimiser's side of a recipe.

    Attributes:
        images: images seen in all.
        batch: images in a batch; what fits in memory at once.
        accumulate: batches per optimiser step.
        shards: equal parts of a batch whose gradients are computed apart and added in a fixed order, so that as many processes may share the work and
            end in the same weights; 0 takes 1 for one process, 4 for two or four.
        lr: peak learning rate of AdamW, after warm-up.
        warmup: part of the training spent in warm-up.
        decay: cosine takes the rate from its peak to 0, none leaves it there.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        ema: half-life of the moving average of the weights, as a part of the images seen.
        loss: l2 (posterior mean), l1 (median, the paper's), charbonnier or pseudo-huber.
        weight: of the severities: uniform, output (the error of what the network itself returns), min-output (its mean, bounded),
            snr, min-snr or bound (see snowmelt.losses).
        severities: uniform in t, or the knots i/T of an operator that has them; auto takes the knots if there are any. Under noise also
            log-normal (noise over signal: EDM) or logit-normal (t).
        severity_mean: of the normal law behind log-normal and logit-normal.
        severity_std: its standard deviation.
        drop_condition: how often a condition is made unknown, so that the model learns to do without, which guidance needs.
        precision: of the network: bf16, fp16 (with scaled gradients) or fp32; auto takes bf16 where the processor has it, on other GPUs fp16.
        compile: whether the network is compiled first, which takes a minute and makes long runs faster; without a compiler it says so and goes on.
        seed: of everything random.
        validate_every: images between validations, sample grids and checkpoints.
        validation_images: how many validation pictures, always the same ones.
        keep: how many checkpoints stay, the newest ones: should the last be damaged, the one before is taken.
        keep_best: whether the model with the smallest validation loss so far is kept too, in RUN/best.
        gap: g of consistency tuning: the estimate at severity t is pulled to that at s = g t of the same sample, so that few calls are enough; it
            grows to g in stages, 1/2, 3/4, 7/8, ... For a restorer that is trained already (snowmelt tune); 0 for a training proper.
        unfold: whether every sample is restored twice, the second time from where a step of a walk leads, so that the restorer meets its own errors;
            a step costs twice as much.
        penalty: added to the loss: gradient (differences of neighbours), frequency (log-magnitudes of short-time spectra),
            squares (beside l1), or none.
        penalty_weight: its weight.
        counted: which values of a sample count: all, or of scans the returns: range and reflectance only where something came back, for where nothing
            did there is no range to be wrong about. A restorer then says how far it would be, and apart from that whether anything is there.
            metres: these, and errors of range as they are in tens of metres, not in the logarithm.
        severity_images: crops from which, after the training, an estimator learns to read severities; 0 for none.
            It may be asked for later: it changes nothing of the restorer.
    """

    images: int = 200_000
    batch: int = 64
    accumulate: int = 1
    shards: int = 0
    lr: float = 1e-3
    warmup: float = 0.03
    decay: Literal["cosine", "none"] = "cosine"
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.03
    loss: Literal["l2", "l1", "charbonnier", "pseudo-huber"] = "l2"
    weight: Literal["uniform", "output", "min-output", "snr", "min-snr", "bound"] = "uniform"
    severities: Literal["auto", "uniform", "knots", "log-normal", "logit-normal"] = "auto"
    severity_mean: float = -1.2
    severity_std: float = 1.2
    drop_condition: float = 0.1
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    compile: bool = False
    seed: int = 0
    validate_every: int = 50_000
    validation_images: int = 256
    keep: int = 2
    keep_best: bool = False
    severity_images: int = 0
    gap: float = 0.0
    unfold: bool = False
    penalty: Literal["none", "gradient", "frequency", "squares"] = "none"
    penalty_weight: float = 0.1
    counted: Literal["all", "returns", "metres"] = "all"

    def __post_init__(self) -> None:
        """Refuse numbers no training could use.

        Raises:
            ValueError: naming the field, its value and the bound.
        """
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is Literal and getattr(self, name) not in get_args(hint):
                raise ValueError(f"training.{name} = {getattr(self, name)!r} is none of {', '.join(get_args(hint))}")
        for name in ("images", "batch", "accumulate", "validate_every", "validation_images", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} = {getattr(self, name)} lies outside [1, ∞)")
        for name in ("severity_images", "shards"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} = {getattr(self, name)} lies outside [0, ∞)")
        if self.shards and self.batch % self.shards:
            raise ValueError(f"training.shards = {self.shards} does not divide training.batch = {self.batch}: give another number of either")
        if self.gap and (self.unfold or self.penalty != "none" or self.counted != "all"):
            raise ValueError("training.gap tunes a restorer that is trained already: leave training.unfold, penalty and counted out")
        for name, high in (("lr", 1.0), ("clip", 1e9), ("ema", 1.0), ("penalty_weight", 1e6)):
            if not 0 < getattr(self, name) <= high:
                raise ValueError(f"training.{name} = {getattr(self, name)} lies outside (0, {high:g}]")
        if self.gap != 0 and not _GAPS[0] <= self.gap <= _GAPS[1]:
            raise ValueError(f"training.gap = {self.gap} lies outside [{_GAPS[0]}, {_GAPS[1]}], and 0 tunes nothing")
        if not 0 < self.severity_std < float("inf"):
            raise ValueError(f"training.severity_std = {self.severity_std} lies outside (0, ∞)")
        if not abs(self.severity_mean) < float("inf"):
            raise ValueError(f"training.severity_mean = {self.severity_mean} is not a finite number")
        for name in ("warmup", "weight_decay", "drop_condition"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"training.{name} = {getattr(self, name)} lies outside [0, 1]")

    @property
    def step_images(self) -> int:
        """Images per optimiser step."""
        return self.batch * self.accumulate

    @property
    def gaps(self) -> tuple[float, ...]:
        """The stages of a consistency tuning, equal in steps: 1/2, 3/4, 7/8, ... up to `gap`; (0,) for a training proper."""
        halvings = range(1, round(math.log2(1 / (1 - self.gap))))
        return (*(1 - 0.5**k for k in halvings), self.gap)

    def gap_at(self, step: int) -> float:
        """The gap of an optimiser step."""
        stages = self.gaps
        return stages[min(step * len(stages) // self.steps, len(stages) - 1)]

    def rate_at(self, step: int) -> float:
        """The learning rate of an optimiser step: linear warm-up, then a cosine to zero, or what was reached."""
        warmup = max(round(self.warmup * self.steps), 1)
        if step < warmup:
            return self.lr * (step + 1) / warmup
        if self.decay == "none":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(self.steps - warmup, 1)))

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return max(self.images // self.step_images, 1)
