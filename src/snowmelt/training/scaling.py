"""Half precision of 16 bits, fp16, for processors that have no bf16: gradients scaled so that they neither vanish nor overflow.

fp16 ends at 65,504 and, below 6e-8, in zero; gradients are often smaller. So the loss is multiplied by a scale, the gradients are divided by it
before they are clipped, and the scale follows what is seen: a step whose gradients are not finite is skipped, weights and moments staying as they
are, and halves the scale; 2,000 sound steps double it. It begins at 65,536, so that a few of the first steps are skipped: that is how the right
scale is found. A skipped step counts as a step: its samples are seen, the learning rate and the moving average go on.

Nothing here waits for the device; what was skipped is counted on it.

Source: Micikevicius et al. 2018 (arXiv 1710.03740), section 3.2.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_SCALE, _SOUND, _SKIPPED, _ROW = "scale", "sound_steps", "skipped", "skipped_in_a_row"


class Scaling:
    """An optimiser's step with a scaled loss; where `enabled` is false, a step and nothing more.

    Args:
        device: where the weights are.
        enabled: whether the network computes in fp16.
    """

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self.enabled = enabled
        self._scaler = torch.amp.GradScaler(device.type, enabled=enabled)
        self._total, self._row = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))

    @property
    def skipped(self) -> tuple[int, int]:
        """How many steps were skipped, in all and the last ones in a row. Waits for the device."""
        return (int(self._total), int(self._row)) if self.enabled else (0, 0)

    @property
    def scale(self) -> float:
        """What the loss is multiplied by. Waits for the device."""
        return float(self._scaler.get_scale())

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], clip: float) -> Tensor:
        """One step with gradients of norm `clip` at most, or none if they are not finite; returns their norm before that."""
        self._scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
        self._scaler.step(optimizer)
        self._scaler.update()
        if self.enabled:
            lost = (~norm.isfinite()).long()
            self._total, self._row = self._total + lost, (self._row + 1) * lost
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        if not self.enabled:
            return {}
        state = self._scaler.state_dict()
        total, row = self.skipped
        scale = torch.tensor(state["scale"], dtype=torch.float64)
        return {_SCALE: scale, **{name: torch.tensor(n) for name, n in ((_SOUND, state["_growth_tracker"]), (_SKIPPED, total), (_ROW, row))}}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what was kept; from the beginning where nothing was.

        Raises:
            KeyError: a part is missing.
            ValueError: the scale is no positive number.
        """
        if not self.enabled or not tensors:
            return
        scale = float(tensors[_SCALE])
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale = {scale} lies outside (0, ∞)")
        self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": scale, "_growth_tracker": int(tensors[_SOUND])})
        self._total, self._row = (tensors[name].to(self._row) for name in (_SKIPPED, _ROW))
