r"""The gradient of a step: in parts, by several processes, and with the same bits whoever takes part.

A step sees A batches of B samples (`accumulate`, `batch`). Each batch is cut into V equal shares, the *virtual shards*; a process of N has
V / N of them, one after the other. The gradients of the shares are added in a tree that their numbers fix (:mod:`snowmelt.processes`),

.. math:: \nabla = \frac{1}{A V} \bigl((\nabla_0 + \nabla_1) + (\nabla_2 + \nabla_3)\bigr), \qquad V = 4,

so one, two and four processes find the same weights, bit for bit, where each has as many threads. V = 1 is a training as everybody knows
it.

Where memory runs out, the batches of a share are computed in pieces, twice as many as before, from then on. The mean is the same, the last
digits are not.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snowmelt import processes
from snowmelt.processes import ALONE, Process, Tree
from snowmelt.restorers.tiles import out_of_memory

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Which samples are whose.

    Attributes:
        batch: B, samples in a batch.
        accumulate: A, batches in a step.
        shards: V, shares of a batch.
        steps: in all.
        process: whose plan this is.
    """

    batch: int
    accumulate: int
    shards: int
    steps: int
    process: Process = ALONE

    def __post_init__(self) -> None:
        """Refuse shares that are not equal.

        Raises:
            ValueError: they are not.
        """
        if self.batch % self.shards:  # of shards that nobody named
            raise ValueError(f"{self.shards} processes do not divide training.batch = {self.batch}: give another number of either")
        if self.shards % self.process.size:
            raise ValueError(
                f"{self.process.size} processes cannot share the {self.shards} shards of a batch evenly: start as many as divide {self.shards}, "
                f"or begin a run with --training.shards {self.process.size}"
            )

    @property
    def mine(self) -> range:
        """The shares of this process."""
        each = self.shards // self.process.size
        return range(self.process.rank * each, (self.process.rank + 1) * each)

    @property
    def length(self) -> int:
        """Samples in one share of a batch."""
        return self.batch // self.shards

    def parts(self, step: int, shard: int) -> list[range]:
        """The sample numbers of a share, batch by batch."""
        firsts = ((step * self.accumulate + part) * self.batch + shard * self.length for part in range(self.accumulate))
        return [range(first, first + self.length) for first in firsts]

    def following(self, numbers: range) -> range | None:
        """What this process computes after the samples with these numbers; None at the end."""
        batch, place = divmod(numbers.start, self.batch)
        step, part = divmod(batch, self.accumulate)
        shard = place // self.length
        if part + 1 < self.accumulate:
            return self.parts(step, shard)[part + 1]
        step, shard = (step, shard + 1) if shard + 1 in self.mine else (step + 1, self.mine.start)
        return self.parts(step, shard)[0] if step < self.steps else None


class Gradient:
    """The gradient of a step, left in every parameter's ``grad``.

    Args:
        plan: which samples are whose.
        parameters: the weights.
        losses: of sample numbers and a number of pieces, the loss of each piece, one after the other, which add up to the mean over the samples.
        backward: adds a loss's gradients.

    Attributes:
        pieces: how many times a share's batches are cut, since memory ran out.
    """

    def __init__(
        self,
        plan: Plan,
        parameters: Iterable[nn.Parameter],
        losses: Callable[[range, int], Iterator[Tensor]],
        backward: Callable[[Tensor], None],
    ) -> None:
        self.plan, self.parameters, self.pieces = plan, list(parameters), 1
        self._losses, self._backward = losses, backward

    def __call__(self, step: int) -> Tensor:
        """Compute it. The step's mean loss, a number () on the device, the same in every process.

        Raises:
            Lost: another process is gone.
            OutOfMemoryError: one sample at a time does not fit, either.
        """
        if self.plan.shards == 1:
            return self._share(step, 0)
        tree = Tree()
        for shard in self.plan.mine:
            loss = self._share(step, shard)
            tree.add(torch.cat([*(_of(p).flatten() for p in self.parameters), loss[None]]))
            if shard != self.plan.mine[-1]:
                self._forget()
        whole = processes.summed(tree.total())
        sizes = [p.numel() for p in self.parameters]
        for p, part in zip(self.parameters, torch.split(whole[:-1], sizes), strict=True):
            p.grad = torch.empty_like(p) if p.grad is None else p.grad  # which lies in memory as the weight does: fused optimisers rely on it
            p.grad.copy_(part.view(p.shape))
        return whole[-1]

    def _share(self, step: int, shard: int) -> Tensor:
        """Add the gradients of one share to what is there, which is nothing; its part of the loss."""
        while True:
            try:
                return self._computed(step, shard)
            except Exception as error:
                if not out_of_memory(error) or self.pieces >= self.plan.length:
                    raise
            self._forget()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.pieces = min(2 * self.pieces, self.plan.length)
            _log.warning("memory ran out at step %d: from now on %d samples at a time", step + 1, -(-self.plan.length // self.pieces))

    def _computed(self, step: int, shard: int) -> Tensor:
        total = torch.zeros((), device=self.parameters[0].device)
        for numbers in self.plan.parts(step, shard):
            for loss in self._losses(numbers, self.pieces):
                part = loss / (self.plan.accumulate * self.plan.shards)
                self._backward(part)
                total += part.detach()
        return total

    def _forget(self) -> None:
        for p in self.parameters:
            p.grad = None


def _of(p: nn.Parameter) -> Tensor:
    """Its gradient, zero where it took no part."""
    return torch.zeros_like(p) if p.grad is None else p.grad
