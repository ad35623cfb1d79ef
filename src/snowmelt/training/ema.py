"""The moving average of a restorer, weights and buffers alike.

An exponential average with a half-life in images seen, so that it means the same at every batch size; early on
the half-life is a tenth of what has been seen, so that the random start is soon forgotten. Half-life rather than
decay rate: Karras et al. 2022 (arXiv 2206.00364), appendix F.
"""

import copy

import torch

from snowmelt.restorers import Restorer

_RAMP = 0.1


class Average:
    """A copy of `restorer` that follows it: ``average.restorer`` is the averaged model."""

    def __init__(self, restorer: Restorer, half_life_images: float) -> None:
        self.restorer = copy.deepcopy(restorer).eval().requires_grad_(False)
        self.restorer.compiled = False  # its few calls are not worth a compilation of their own
        self.half_life_images = half_life_images

    @torch.no_grad()
    def update(self, restorer: Restorer, step_images: int, images_seen: int) -> None:
        """Move towards `restorer` after a step of `step_images`; `images_seen` counts from the start of the run."""
        half_life = min(self.half_life_images, images_seen * _RAMP)
        keep = 0.5 ** (step_images / max(half_life, 1e-8))
        ours, theirs = self.restorer.state_dict(), restorer.state_dict()
        floats = [name for name in ours if ours[name].is_floating_point()]
        torch._foreach_lerp_([ours[n] for n in floats], [theirs[n] for n in floats], 1 - keep)
        for name in ours.keys() - set(floats):
            ours[name].copy_(theirs[name])
