"""A small training: what fits features, an estimator of severities, a classifier, beside the one loop that trains restorers.

It is a few minutes long, so it keeps no checkpoint: stopped, it leaves nothing, and the same command begins again. Steps whose loss or gradient is
not finite are skipped; three in a row end it.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from snowmelt.stopping import Stopped, until_asked
from snowmelt.training.progress import Bar
from snowmelt.training.scaling import ROW, Diverged, Scaling

_LOG_EVERY = 20


def descend(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[range], Tensor],
    steps: int,
    batch: int,
    *,
    rate: Callable[[int], float],
    weight_decay: float,
    clip: float | None = None,
    title: str,
    way_out: str,
    unit: str = "images",
) -> None:
    """Move parameters down the gradient of `loss`, with AdamW.

    Args:
        parameters: what is trained.
        loss: of the samples with these numbers, one number.
        steps: how many.
        batch: samples a step, numbered from 0 on.
        rate: of learning, at each step.
        weight_decay: of AdamW.
        clip: largest norm of the gradient; None for any.
        title: of the progress bar.
        way_out: what an interruption means, for the message.
        unit: what the samples are called.

    Raises:
        Stopped: Ctrl-C or SIGTERM came, between two steps.
        Diverged: the loss or its gradient was not finite three steps in a row.
    """
    held = list(parameters)
    scaling = Scaling(held[0].device, enabled=False)
    optimizer = torch.optim.AdamW(held, weight_decay=weight_decay, fused=True)
    with until_asked() as asked, Bar(title, steps * batch, unit=unit) as bar:
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = rate(step)
            value = loss(range(step * batch, (step + 1) * batch))
            optimizer.zero_grad(set_to_none=True)
            scaling.backward(value)
            scaling.step(optimizer, held, math.inf if clip is None else clip, value, step)
            if (step + 1) % _LOG_EVERY == 0 or step + 1 == steps:  # reading the loss waits for the device
                _require_finite(scaling, title)
                bar.advance((step + 1) * batch - bar.done, loss=float(value.detach()))
            if asked.is_set():
                raise Stopped(f"stopped after {(step + 1) * batch:,} of {steps * batch:,} {unit}; {way_out}")


def _require_finite(scaling: Scaling, title: str) -> None:
    bad = scaling.bad()
    if bad.longest >= ROW:
        raise Diverged(
            f"{title}: the loss or its gradient was no finite number in {bad.longest} steps in a row, up to step {bad.steps[-1] + 1}; nothing was "
            "kept. Look for pictures or labels with values that are no numbers"
        )


def warm_cosine(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of a step: it rises over the part `warmup` of all steps to its peak, then falls along a cosine to zero."""
    first = max(round(warmup * steps), 1)
    if step < first:
        return peak * (step + 1) / first
    return peak * 0.5 * (1 + math.cos(math.pi * (step - first) / max(steps - first, 1)))
