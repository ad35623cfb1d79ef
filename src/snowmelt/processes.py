"""Several processes that share one piece of work: who they are, how they meet, and sums that are the same whoever takes part.

``torchrun --nproc-per-node N -m snowmelt VERB ...`` starts N processes of one command and tells each its number, its *rank*, in the
environment. All of them compute the same thing but for their share of the samples. One process alone is the case N = 1, and needs nothing.

Floating-point sums depend on their order, so a sum over processes that leaves the order to the network gives other weights for every N.
:func:`summed` adds the parts pairwise in a tree that is fixed by their numbers,

.. math:: ((g_0 + g_1) + (g_2 + g_3)) + ((g_4 + g_5) + (g_6 + g_7)),

and :class:`Tree` adds the parts of one process in the same way. So if V parts are shared out evenly to N processes and V / N is a power of
two, the sum has the same bits for every such N, N = 1 included. Each process adds one Nth of the numbers and passes that on: twice the size
of the gradient travels, as in a ring, whatever N.

Nothing here imports torch before there are two processes.
"""

import contextlib
import datetime
import gc
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

_LAST_WORDS_S = 3.0
_MEETING, _WORK = datetime.timedelta(minutes=5), datetime.timedelta(days=30)


class Lost(RuntimeError):
    """Another process is gone, and the work cannot go on without it; the message names it."""


@dataclass(frozen=True)
class Process:
    """One of the processes that share a piece of work; by default one that is alone.

    Attributes:
        rank: its number, in [0, size).
        size: how many there are.
        local: its number among those of its machine.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that writes and speaks for all."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    @property
    def share(self) -> tuple[int, int]:
        """(i, n): it has the i-th of n shares, counted from 1."""
        return self.rank + 1, self.size


ALONE = Process()


def here() -> Process:
    """This process, by what torchrun has said in the environment; one alone where it has said nothing.

    Raises:
        ValueError: the environment contradicts itself.
    """
    said = {name: os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))}
    try:
        rank, size, local = (int(value) for value in said.values())
    except ValueError:
        rank, size, local = 0, 0, 0
    if not 0 <= rank < size or local < 0:
        shown = ", ".join(f"{name}={value}" for name, value in said.items())
        raise ValueError(f"the environment says {shown}, which is no process of a group: start with torchrun, or unset them")
    return Process(rank, size, local)


def cores() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Known(NamedTuple):
    """What stays when the connections are gone: where all can leave a word, and what each is called."""

    store: Any
    names: list[str]


_known: list[_Known] = []  # one, once the processes have met


@contextlib.contextmanager
def joined() -> Iterator[Process]:
    """While this lasts, the processes of the group can speak with each other.

    A process that ends well waits for the others; one that fails leaves, and the others find it gone.

    Raises:
        Lost: another process is gone, or never came.
    """
    process = here()
    if process.alone or _met():
        yield process
        return
    _meet(process)
    try:
        yield process
        barrier()
    finally:
        _part()


def _meet(process: Process) -> None:
    import torch
    from torch import distributed

    if torch.cuda.is_available():
        torch.cuda.set_device(process.local % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(distributed.rendezvous("env://", timeout=_MEETING))  # type: ignore[attr-defined]
        # torchrun keeps its store when it starts all anew, with the addresses of the dead in it. How often it has is its machine's own count.
        if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = distributed.PrefixStore(f"attempt-{attempt}", store)  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_MEETING)
        # A connection that breaks is noticed at once. One that waits must not give up before another has done its share.
        distributed.distributed_c10d._set_pg_timeout(_WORK)
        store.set(f"snowmelt/name/{rank}", f"process {os.getpid()} on {socket.gethostname()}")
        _known[:] = [_Known(store, [store.get(f"snowmelt/name/{other}").decode() for other in range(size)])]  # while all of them live
    except (RuntimeError, ValueError, OSError) as error:
        raise Lost(f"the {process.size} processes did not find each other: {str(error).splitlines()[0][:200]}") from error


def _part() -> None:
    """Close all connections; who waits at one of them learns it at once. The interpreter, left to do that at its end, aborted now and then."""
    from torch import distributed

    with contextlib.suppress(Exception):
        distributed.destroy_process_group()
    gc.collect()


def barrier() -> None:
    """Wait until every process has come here."""
    any_of(False)


def any_of(said: bool) -> bool:
    """Whether any process says so; all of them learn it. Of a GPU nothing is waited for.

    Raises:
        Lost: another process is gone.
    """
    if here().alone:
        return said
    _require_met()
    import torch
    from torch import distributed

    total = torch.tensor([int(said)])  # on the CPU: there a broken connection is an error at once
    _together(distributed.all_reduce, total)
    return bool(total > 0)


def summed(flat: "Tensor") -> "Tensor":
    """The sum of what all processes give, vectors (n,) of one length, on all of them with the same bits: their parts in the order of a tree.

    Raises:
        Lost: another process is gone.
    """
    process = here()
    if process.alone:
        return flat
    _require_met()
    from torch import distributed

    n, length = process.size, flat.numel()
    each = -(-length // n)
    padded = flat.new_zeros(n * each)
    padded[:length] = flat
    parts = flat.new_empty(n * each)
    _together(distributed.all_to_all_single, parts, padded)  # row r: what process r has of our Nth
    tree = Tree()
    for part in parts.view(n, each):
        tree.add(part)
    _together(distributed.all_gather, list(padded.view(n, each).unbind()), tree.total())
    return padded[:length]


def gathered(numbers: Sequence[float]) -> list[list[float]]:
    """The numbers of every process, in its row, for all of them, in double precision.

    Raises:
        Lost: another process is gone.
    """
    process = here()
    if process.alone:
        return [list(numbers)]
    import torch

    table = torch.zeros(process.size, len(numbers), dtype=torch.float64)
    table[process.rank] = torch.tensor(numbers, dtype=torch.float64)
    return [[float(x) for x in row] for row in summed(table.flatten()).view(table.shape)]


class Tree:
    """A sum of vectors in an order that depends on their number alone: pairs, then pairs of pairs; log2(n) of them are held at most.

    Example:
        >>> import torch
        >>> tree = Tree()
        >>> for value in (1.0, 2.0, 3.0):
        ...     tree.add(torch.tensor([value]))
        >>> tree.total()
        tensor([6.])
    """

    def __init__(self) -> None:
        self._held: list[tuple[int, Tensor]] = []

    def add(self, vector: "Tensor") -> None:
        """One more; it is kept, and never changed."""
        size = 1
        while self._held and self._held[-1][0] == size:
            vector, size = self._held.pop()[1] + vector, 2 * size
        self._held.append((size, vector))

    def total(self) -> "Tensor":
        """The sum of all that were added.

        Raises:
            IndexError: none was.
        """
        total = self._held[-1][1]
        for _, vector in reversed(self._held[:-1]):
            total = vector + total
        return total


def _together(call: Callable[..., object], *given: object) -> None:
    """Do what all do at once. Where it fails because one is gone, that one is named."""
    try:
        call(*given)
        return
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise
        why = str(error).splitlines()[0][:120]
    _part()  # only now that no traceback holds the connections any more: those who wait for us are to learn it
    raise Lost(f"{_missing()}; the others have stopped too ({why})")


def _missing() -> str:
    """Which processes do not answer any more, as far as can be found out in some seconds."""
    process, begun = here(), time.monotonic()
    (known,), silent = _known, set(range(process.size))
    try:
        known.store.set(f"snowmelt/left/{process.rank}", "yes")
        while silent and time.monotonic() < begun + _LAST_WORDS_S:
            silent -= {rank for rank in silent if known.store.check([f"snowmelt/left/{rank}"])}
            time.sleep(0.05)
    except RuntimeError:  # the store is gone, with the process that held it
        return f"another of the {process.size} processes is gone"
    if process.first:  # which may hold the store: the others want to ask it, too
        time.sleep(_LAST_WORDS_S)
    if not silent:
        return "the connection between the processes broke"
    return f"{', '.join(f'rank {rank} of {process.size} ({known.names[rank]})' for rank in sorted(silent))} is gone"


def _require_met() -> None:
    if not _met():
        raise RuntimeError(f"{here().size} processes are to share this, and have not met: do it within snowmelt.processes.joined()")


def _met() -> bool:
    """Whether the processes have met; asking must not import torch."""
    import sys

    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()
