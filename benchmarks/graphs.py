"""A walk by a CUDA graph: one call of the restorer and one move, captured once and replayed for every step.

What is captured reads and writes fixed memory, so the state, its severity and the next one are copied in before each replay. On a
machine without CUDA the same step runs without a graph.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from snowmelt.model import Model
from snowmelt.samplers import Sampler
from snowmelt.types import State

_WARM_UP = 3


@torch.no_grad()
def captured(model: Model, sampler: Sampler, start: State) -> Callable[[Tensor, Sequence[float]], Tensor]:
    """walk(x, levels): from x down these severities, for batches of the shape of start.x and the draw of `start`.

    Order 1, and for samplers whose moves draw nothing.

    Raises:
        RuntimeError: a part of the step cannot be captured, a copy to the host for instance.
    """
    x, t, s = start.x.clone(), start.x.new_ones(len(start.x)), start.x.new_zeros(len(start.x))

    def step() -> Tensor:
        return sampler.move(model.degradation, x, model.estimate(x, t, start.z), t, s, start.z, None)[0]

    if x.is_cuda:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # before a capture: what is made at the first call is made now
            for _ in range(_WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = step()

        def replay() -> Tensor:
            graph.replay()
            return result
    else:
        replay = step

    @torch.no_grad()
    def walk(begin: Tensor, levels: Sequence[float]) -> Tensor:
        x.copy_(begin)
        for above, below in pairwise(levels):
            t.fill_(above)
            s.fill_(below)
            x.copy_(replay())
        return x.clone()

    return walk
