"""How fast a collection went, and how much of that was the network: what is not, is reading, walking and writing.

The network is watched by hooks on the module itself, so tiles, every call of a walk and whatever is computed beside them count as what they are. On a
CPU a clock does; on a GPU, where calls return before they are done, the events of its own queue do, and nothing waits for them before the
pictures themselves are fetched. On any other device calls are not timed. The first call of a compiled network at a size is left out, for it compiles.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from snowmelt.restorers import Restorer


@dataclass(frozen=True)
class Pace:
    """What a run over a collection took.

    Attributes:
        pictures: that went through it, or other files.
        megapixels: of them together, as written; or what else they are measured in.
        seconds: from the first to the last.
        network_s: of these, in the network; None where that is not known, as of a plain function.
        many: what the files are called.
        amount: what they are measured in, as one word for the journal.
    """

    pictures: int
    megapixels: float
    seconds: float
    network_s: float | None = None
    many: str = "pictures"
    amount: str = "megapixels"

    @property
    def share(self) -> float | None:
        """The share of the time in the network, 0 to 1."""
        return None if self.network_s is None or not self.seconds else min(self.network_s / self.seconds, 1.0)

    def table(self) -> dict[str, Any]:
        """Its numbers, for the journal."""
        return {
            self.many: self.pictures,
            self.amount: round(self.megapixels, 6),
            "seconds": round(self.seconds, 3),
            f"{self.many}_per_s": round(self.pictures / self.seconds, 3) if self.seconds else None,
            f"{self.amount}_per_s": round(self.megapixels / self.seconds, 6) if self.seconds else None,
            "network_share": None if self.share is None else round(self.share, 3),
        }

    def __str__(self) -> str:
        if not self.seconds:
            return f"{self.pictures:,} {self.many}"
        share = "" if self.share is None else f"; {self.share:.0%} of the time in the network"
        measured = f"{self.megapixels / self.seconds:,.3g} {self.amount.replace('_', ' ')}/s"
        return f"{self.pictures / self.seconds:,.3g} {self.many}/s, {measured}{share}"


class Stopwatch:
    """The time that a restorer's network takes, in all calls while it is watched.

    Args:
        restorer: a :class:`~snowmelt.restorers.Restorer`, of which the network is watched, any other module, or a plain function, which cannot be.
        device: where it computes.
    """

    def __init__(self, restorer: object, device: str) -> None:
        net = restorer.net if isinstance(restorer, Restorer) else restorer
        kind = torch.device(device).type
        self._net = net if isinstance(net, nn.Module) and kind in ("cpu", "cuda") else None
        self._events = kind == "cuda"
        self._seconds = 0.0
        self._start: Any = None
        self._paused = False
        self._compiled = getattr(restorer, "compiled", False) is True
        self._met: set[tuple[Any, ...]] = set()
        self._pairs: list[tuple[Any, Any]] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator["Stopwatch"]:
        """Watch, until the block ends."""
        if self._net is None:
            yield self
            return
        hooks = self._net.register_forward_pre_hook(self._begin), self._net.register_forward_hook(self._end)
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is called until the block ends."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    @property
    def seconds(self) -> float | None:
        """So far; None where it is not known. On a GPU this waits for the last call."""
        if self._net is None:
            return None
        for begin, end in self._pairs:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1000
        self._pairs.clear()
        return self._seconds

    def _now(self) -> Any:
        if not self._events:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    # Outside of the graph: what a compiler makes of a clock is a constant.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _begin(self, _: object, given: tuple[Any, ...]) -> None:
        self._start = None if self._paused or self._compiles(given) else self._now()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _end(self, *_: object) -> None:
        if self._start is None:
            return
        if self._events:
            self._pairs.append((self._start, self._now()))
        else:
            self._seconds += self._now() - self._start

    def _compiles(self, given: tuple[Any, ...]) -> bool:
        """Whether a call is the first of a compiled network with pictures of this size, one or several."""
        if not self._compiled:
            return False
        key = (len(given[0]) == 1, *given[0].shape[1:])
        first = key not in self._met
        self._met.add(key)
        return first
