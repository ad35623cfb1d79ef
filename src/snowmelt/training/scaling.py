"""The optimiser's step, which nothing that is not finite gets through; and the scale of gradients under fp16.

A step whose loss or gradient is not finite is *bad*: it is skipped, so that weights, moments and the optimiser's own step counters stay to the
bit what they were, and counted. Its samples are seen, and the learning rate and the moving average go on.

fp16, for processors that have no bf16, ends at 65,504 and, below 6e-8, in zero; gradients are often smaller. So the loss is multiplied by a
scale, the gradients are divided by it before they are clipped, and the scale follows what is seen: where the loss is finite and its gradients are
not, the step is skipped and the scale halved; 2,000 sound steps double it. It begins at 65,536, so that a few of the first steps are skipped:
that is how the right scale is found, and no such step is bad. A loss that is not finite itself is mended by no scale: the step is bad, and the
scale stays.

The scaler of torch.amp is not used: it looks at gradients alone, so a loss that is not finite would halve its scale, and it knows no skipped steps
but those of fp16.

Nothing here waits for the device: what is to be skipped is decided, done and counted on it.

Source: Micikevicius et al. 2018 (arXiv 1710.03740), section 3.2, for the scale.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

_SCALE, _SOUND, _SKIPPED, _ROW = "scale", "sound_steps", "skipped", "skipped_in_a_row"
_BAD, _BAD_ROW, _BAD_LONGEST, _BAD_STEPS = "bad", "bad_in_a_row", "bad_longest", "bad_steps"
_FIRST, _MOST, _GROWS_AFTER = 2.0**16, 2.0**64, 2000
_MOST_SKIPPED = 100  # steps in a row: by then the scale has fallen from 65,536 to 5e-26
_NAMED = 8  # bad steps whose numbers are kept
_NONE = -1

ROW = 3  # bad steps in a row that are no accident


class Diverged(RuntimeError):
    """The loss or its gradients have not been finite numbers for some steps."""


class Bad(NamedTuple):
    """Steps whose loss or gradient was not finite.

    Attributes:
        total: all of the run.
        longest: the longest row of them since the last :meth:`Scaling.forget`.
        steps: the numbers of the last of them since then, up to 8, the newest last.
    """

    total: int
    longest: int
    steps: tuple[int, ...]

    @property
    def row(self) -> tuple[int, ...]:
        """The longest row among `steps`, the last one of equals."""
        rows: list[list[int]] = []
        for step in self.steps:
            if rows and rows[-1][-1] == step - 1:
                rows[-1].append(step)
            else:
                rows.append([step])
        rows.sort(key=len)  # keeps the order of equals
        return tuple(rows[-1]) if rows else ()


class Scaling:
    """An optimiser's step that passes over what is not finite; where `enabled`, with a scaled loss.

    Args:
        device: where the weights are.
        enabled: whether the network computes in fp16.
    """

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.enabled = enabled
        self._begin(device)

    def _begin(self, device: torch.device) -> None:
        self._scale = torch.full((), _FIRST, device=device)
        self._sound, self._total, self._row = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(3))
        self._bad, self._bad_row, self._bad_longest = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(3))
        self._bad_steps = torch.full((_NAMED,), _NONE, device=device)

    @property
    def skipped(self) -> tuple[int, int]:
        """How many steps fp16 skipped to find its scale, in all and the last ones in a row. Waits for the device."""
        return int(self._total), int(self._row)

    @property
    def scale(self) -> float:
        """What the loss is multiplied by. Waits for the device."""
        return float(self._scale) if self.enabled else 1.0

    def bad(self) -> Bad:
        """The steps whose loss or gradient was not finite. Waits for the device."""
        return Bad(int(self._bad), int(self._bad_longest), tuple(n for n in self._bad_steps.tolist() if n != _NONE))

    def forget(self) -> None:
        """Begin a new longest row of bad steps, and a new list of them. Those in all stay, and a row that lasts goes on."""
        self._bad_longest = torch.zeros_like(self._bad_longest)
        self._bad_steps = torch.full_like(self._bad_steps, _NONE)

    def require_scale(self, step: int, lr: float) -> None:
        """Refuse to go on where no scale was found for long. Waits for the device.

        Raises:
            Diverged: none was, up to that step.
        """
        if (lost := self.skipped[1]) >= _MOST_SKIPPED:
            raise Diverged(
                f"the gradients of the last {lost} steps, up to step {step}, were not finite at any scale; the last checkpoint is kept. "
                f"fp16 ends at 65,504: try --training.precision fp32, or a smaller --training.lr (now {lr:g})"
            )

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled loss."""
        (loss * self._scale if self.enabled else loss).backward()  # type: ignore[no-untyped-call]

    def step(
        self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], clip: float, loss: Tensor | None = None, step: int = 0
    ) -> Tensor:
        """One step with gradients of norm `clip` at most, or none if they or the loss are not finite.

        Args:
            optimizer: a fused one, which skips on the device.
            parameters: what it moves, with their gradients.
            clip: largest norm of the gradient; infinity for any.
            loss: of all that is in the gradients, one number on the device, not scaled. None: only the gradients are looked at.
            step: its number, by which a bad step is named.

        Returns:
            The norm of the gradients before they were clipped: one number on the device, finite or not.

        Raises:
            TypeError: the optimiser cannot skip on the device.
        """
        if not getattr(optimizer, "_step_supports_amp_scaling", False):
            raise TypeError(f"{type(optimizer).__name__} is no fused optimiser, and no other skips a step on the device: give it fused=True")
        held = list(parameters)
        if self.enabled:
            torch._foreach_mul_([p.grad for p in held if p.grad is not None], self._scale.reciprocal())
        norm = torch.nn.utils.clip_grad_norm_(held, clip)
        sound = torch.ones_like(norm, dtype=torch.bool) if loss is None else loss.detach().isfinite()
        finite = sound & norm.isfinite()
        optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf  # type: ignore[attr-defined]
        if self.enabled:
            self._follow(overflown=sound & ~finite, finite=finite)
        self._count(~sound if self.enabled else ~finite, step)
        return norm

    def _follow(self, *, overflown: Tensor, finite: Tensor) -> None:
        """Let the scale follow a step: a bad one says nothing about it."""
        self._total = self._total + overflown
        self._row = torch.where(overflown, self._row + 1, torch.where(finite, 0, self._row))
        self._sound = torch.where(overflown, 0, self._sound + finite)
        grown = self._sound >= _GROWS_AFTER
        self._scale = torch.where(overflown, self._scale / 2, torch.where(grown, (self._scale * 2).clamp(max=_MOST), self._scale))
        self._sound = torch.where(grown, 0, self._sound)

    def _count(self, bad: Tensor, step: int) -> None:
        self._bad = self._bad + bad
        self._bad_row = (self._bad_row + 1) * bad
        self._bad_longest = torch.maximum(self._bad_longest, self._bad_row)
        named = torch.cat([self._bad_steps[1:], torch.full((1,), step, device=bad.device)])
        self._bad_steps = torch.where(bad, named, self._bad_steps)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        out = {_BAD: self._bad, _BAD_ROW: self._bad_row, _BAD_LONGEST: self._bad_longest, _BAD_STEPS: self._bad_steps}
        if self.enabled:
            out |= {_SCALE: self._scale.cpu().double(), _SOUND: self._sound, _SKIPPED: self._total, _ROW: self._row}
        return {name: value.cpu() for name, value in out.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what was kept; from the beginning where nothing was.

        Raises:
            KeyError: a part is missing.
            ValueError: the scale is no positive number, or a part has another shape.
        """
        like = self._bad
        self._begin(like.device)
        if _BAD in tensors:
            if tensors[_BAD_STEPS].shape != self._bad_steps.shape:
                raise ValueError(f"{_BAD_STEPS} holds {tuple(tensors[_BAD_STEPS].shape)} numbers, not {_NAMED}")
            self._bad, self._bad_row, self._bad_longest = (tensors[name].reshape(()).to(like) for name in (_BAD, _BAD_ROW, _BAD_LONGEST))
            self._bad_steps = tensors[_BAD_STEPS].to(like)
        if not self.enabled or not tensors.keys() & {_SCALE, _SOUND, _SKIPPED, _ROW}:
            return
        scale = float(tensors[_SCALE])
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale = {scale} lies outside (0, ∞)")
        self._scale = torch.full_like(self._scale, scale)
        self._sound, self._total, self._row = (tensors[name].reshape(()).to(like) for name in (_SOUND, _SKIPPED, _ROW))
