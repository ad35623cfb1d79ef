"""The share of the network: what is timed of a compiled one, and what is not."""

import pytest
import torch
from torch import Tensor, nn

from snowmelt.registry import build
from snowmelt.restoration.throughput import Stopwatch
from snowmelt.restorers import Restorer
from snowmelt.restorers.compilation import Compilation


def test_a_compiled_network_is_timed_outside_of_its_graph_but_for_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    restorer = Restorer(build("pixelate"), build("unet:widths=(8,),patch=1,groups=4", "backbone"), (1, 8, 8)).eval()
    restorer.compiled = True
    restorer._compilation = Compilation(lambda net: torch.compile(net, backend=backend, dynamic=False))
    clock = iter(range(1000))
    monkeypatch.setattr("snowmelt.restoration.throughput.time.perf_counter", lambda: float(next(clock)))
    x, t = torch.zeros(1, 1, 8, 8), torch.ones(1)
    with torch.no_grad(), Stopwatch(restorer, "cpu").watching() as watch:
        seconds = []
        for _ in range(4):
            restorer(x, t)
            seconds.append(watch.seconds)
        with watch.paused():
            restorer(x, t)
    assert seconds == [0, 1, 2, 3], "a clock within the graph would be a constant"
    assert watch.seconds == 3
    assert restorer._compilation.refused is None
    assert graphs, "it was compiled"


def test_a_network_that_is_not_compiled_is_timed_from_the_first_call_on() -> None:
    with Stopwatch(net := nn.Identity(), "cpu").watching() as watch:
        net(torch.zeros(1, 1, 8, 8))
    assert watch.seconds is not None
    assert watch.seconds > 0
