r"""What a restorer costs: parameters, operations and memory, counted in a call on one sample and in one on two.

Nothing here is timed, so the figures are the same on every machine. A multiplication and an addition are two operations: a convolution of k x k
taps from c to c' channels costs :math:`2\,k^2\,c\,c'` for each value that it writes, and a matrix product of (n, m) and (m, p) :math:`2\,n\,m\,p`.
Only convolutions, matrix products and attention are counted, as is usual; what else a network does is bound by memory, not by arithmetic.
A training step costs three times a call: backwards there are two products for every one forwards.

Two samples minus one is what a sample costs, the rest is what a call costs whatever its batch: bytes and operations of any batch follow.
"""

import copy
import functools
import math
import os
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from snowmelt.files import shapes_of
from snowmelt.restorers.restorer import Restorer
from snowmelt.restorers.tiles import WHOLE
from snowmelt.types import EMPTY, Batch, Draw, Severity

_COPIES = 5  # weights, gradients, AdamW's two moments, moving average: all in float32
_COUNTED = (1, 2)


@dataclass(frozen=True)
class Cost:
    """What was counted.

    Attributes:
        parameters: that are trained.
        flops: floating-point operations of one call, for each sample.
        weight_bytes: of all that is saved: weights, and statistics of the data.
        call_bytes: the most that a call on `batch` samples holds at once, its input and the weights apart. What a library takes for
            itself within an operation is not seen.
        activation_bytes: what a training step keeps of a batch for its way back.
        batch: samples in that call and that step.
    """

    parameters: int
    flops: float
    weight_bytes: int
    call_bytes: int
    activation_bytes: int
    batch: int

    @property
    def state_bytes(self) -> int:
        """Weights, gradients, the optimiser's moments and the moving average."""
        return 4 * _COPIES * self.parameters

    @property
    def training_bytes(self) -> int:
        """What a training step takes: its state, and what it keeps of the batch."""
        return self.state_bytes + self.activation_bytes

    def said(self) -> dict[str, str]:
        """The figures in words, by name."""
        samples = "a sample" if self.batch == 1 else f"{self.batch} samples"
        return {
            "parameters": f"{self.parameters:,} ({size(self.weight_bytes)})",
            "operations": f"{self.flops / 1e9:.3g} GFLOP a call and sample",
            "memory": f"{size(self.call_bytes)} for a call on {samples}, {size(self.training_bytes)} for a training step",
        }


def cost(restorer: Restorer, shape: tuple[int, ...], batch: int = 1) -> Cost:
    """What `restorer` costs on samples of `shape`, in the precision and on the device it is set to.

    Args:
        restorer: is called, uncompiled and without tiles, on one sample and on two, with and without a way back; it stays as it is.
        shape: (c, h, w).
        batch: samples that share a call or a training step.

    Raises:
        ValueError: `batch` is under 1, or the restorer does not take such samples.
    """
    if batch < 1:
        raise ValueError(f"cost: batch = {batch} lies under 1")
    plain = copy.copy(restorer)  # weights shared
    plain.compiled, plain.training, plain.tiles = False, True, WHOLE
    weights = list(plain.parameters())
    flops, held, kept = [], [], []
    for n in _COUNTED:
        x, t, z = _inputs(plain, n, shape)
        with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter, Peak() as peak:
            plain(x, t, z)
        flops.append(counter.get_total_flops())
        held.append(peak.most)
        with torch.enable_grad():
            kept.append(kept_bytes(functools.partial(plain, x, t, z), weights))
    return Cost(
        parameters=sum(p.numel() for p in weights),
        flops=_of(batch, *flops) / batch,
        weight_bytes=sum(value.nbytes for value in plain.state_dict().values()),
        call_bytes=_of(batch, *held),
        activation_bytes=_of(batch, *kept),
        batch=batch,
    )


def require_memory(described: Callable[[], nn.Module]) -> None:
    """Refuse to train a network that this machine cannot hold, before any of it is made.

    Args:
        described: makes the network.

    Raises:
        ValueError: weights, average, gradients and two moments take more than all memory there is.
    """
    shapes = shapes_of(described)
    if shapes is None or not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return
    wanted, there = 4 * _COPIES * sum(map(math.prod, shapes.values())), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > there:
        sizes = f"{wanted / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f}"
        raise ValueError(f"training this network takes {sizes}: give a smaller model.backbone")


def kept_bytes(forward: Callable[[], Tensor], weights: Iterable[Tensor] = ()) -> int:
    """Bytes of all that autograd keeps of a computation for its way back, each storage counted once, `weights` left out."""
    known = {_storage(weight) for weight in weights}
    seen: dict[int, torch.UntypedStorage] = {}  # held, so that no storage is freed and its place taken by another

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known:
            seen[_storage(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward()
    total = sum(storage.nbytes() for storage in seen.values())
    del out
    return total


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__ has no types
    """Within it, the most bytes that tensors made in it take at once: `most`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.most = 0, 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and watch what is new in its result."""
        before = {_storage(value) for value in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        out = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(out):
            if isinstance(value, Tensor) and _storage(value) not in before | self._alive:
                self._watch(value.untyped_storage())
        return out

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, n = storage._cdata, storage.nbytes()
        self._alive.add(key)
        self.now += n
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, n)

    def _forget(self, key: int, n: int) -> None:
        self._alive.discard(key)
        self.now -= n


def size(n: float) -> str:
    """Bytes as one reads them: MB, or GB from there on."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def _inputs(restorer: Restorer, n: int, shape: tuple[int, ...]) -> tuple[Batch, Severity, Draw]:
    """n samples of noise, halfway degraded, with what the degradation draws for them."""
    device = next((value.device for value in (*restorer.parameters(), *restorer.buffers())), torch.device("cpu"))
    x = torch.empty(n, *shape).normal_(generator=torch.Generator().manual_seed(0))
    z = restorer.degradation.draw(x, torch.Generator().manual_seed(0)) if restorer.degradation.tells else EMPTY
    return x.to(device), torch.full((n,), 0.5, device=device), {name: value.to(device) for name, value in z.items()}


def _of(batch: int, one: int, two: int) -> int:
    """A quantity of `batch` samples, from those of one and of two."""
    return one + (batch - 1) * (two - one)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """Operations of the attention of CPUs, which torch's counter does not know, from the shapes (b, heads, positions, channels)."""
    b, heads, asking, channels = query
    return int(2 * b * heads * asking * key[2] * (channels + value[3]))


_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
