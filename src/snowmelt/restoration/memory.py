r"""How many samples at a time: what fits in memory, and on a CPU no more than is fastest.

The cost of a sample is measured, not guessed: a walk begins with one sample and with two, a few moves each, and every tensor that comes into being is
counted until it is freed. The difference of the two peaks is what a sample takes; weights and tables, which both have, drop out of it. So

.. math:: B = 2^k \le \min\Bigl(\frac{s\,M}{c},\; B_{most}\Bigr),

with M the memory that is free, of which s = 1/2 is left to what is not counted (work space of convolutions, fragments, others on the machine), and c
the bytes of a sample. On a CPU s M is also at most 32 MB: measured on nets from 0.03 to 3.5 million weights at 8 to 256 px, samples per second rise
with the batch up to 12 to 40 MB of live tensors and stay level or fall beyond, where caches no longer hold them; and a small batch is sooner
finished and saved.

B is a power of two that depends on the model, the size and, only where it is scarce, the memory; never on a clock. The last digits of a
convolution depend on its batch, so a number that came from timing would give other files in the next run.

Memory may run out all the same, when others take it: then :class:`Fitting` goes on with half.
"""

import contextlib
import functools
import itertools
import logging
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from snowmelt.model import Model
from snowmelt.restorers.tiles import out_of_memory
from snowmelt.samplers import Sampler
from snowmelt.types import Batch, State, severity

UNMEASURED = 64  # of a plain function, which may be anything: it is not called to no purpose
_MOST = {"cpu": 256, "cuda": 1024}
_SHARE = 0.5
_CPU_BYTES = 32 * 2**20
_UNKNOWN_BYTES = 2 * 2**30  # where nobody says what is free
_MOVES = 2  # an order 2 holds an estimate more from the second on, a corrector its second call
_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_log = logging.getLogger(__name__)


def batch_for(
    model: Model,
    shape: tuple[int, ...],
    *,
    walk: Sampler | None,
    device: torch.device | str,
    start: Callable[[int], State] | None = None,
) -> int:
    """How many samples of a shape fit in memory at a time, a power of two: at most 256 on a CPU, 1024 on a GPU.

    Args:
        model: with its weights on `device`; of a restorer that is a plain function nothing is measured, and the answer is 64.
        shape: (*d) of one sample.
        walk: the sampler; None for one call.
        device: where it computes.
        start: makes the state in which a walk of so many samples starts; by default grey ones at t = 1, with what the degradation draws.
    """
    if not isinstance(model.restorer, nn.Module):
        return UNMEASURED
    place = torch.device(device)
    begin = start or functools.partial(_begun, model, shape, place)
    one, two = (peak_bytes(functools.partial(_walk, model, walk, begin, n)) for n in (1, 2))
    return fitting(max(two - one, 1), place)


def fitting(cost: int, device: torch.device) -> int:
    """The largest power of two of samples of `cost` bytes each that fit on a device, at least 1."""
    free = _SHARE * available(device)
    if device.type == "cpu":
        free = min(free, _CPU_BYTES)
    most = min(int(free / cost), _MOST.get(device.type, _MOST["cpu"]))
    return 1 << max(most.bit_length() - 1, 0)


def available(device: torch.device | str) -> int:
    """The bytes that are free: on a GPU by its driver, with what torch keeps unused; on a CPU what the system and its cgroups leave."""
    place = torch.device(device)
    if place.type == "cuda":
        return int(torch.cuda.mem_get_info(place)[0] + torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place))
    if place.type != "cpu":
        return _UNKNOWN_BYTES
    found = [bound for bound in (_system(), *_cgroups()) if bound is not None]
    return max(min(found), 0) if found else _UNKNOWN_BYTES


def peak_bytes(do: Callable[[], object]) -> int:
    """The most bytes that tensors made while `do` runs take at one time; on any device, the same at every run."""
    with _Live() as live:
        do()
    return int(live.peak)


class Fitting:
    """Samples made as many at a time as memory allows: whenever it runs out, half as many from then on, said each time the number falls.

    Attributes:
        most: how many at a time, now.
    """

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, numbers: range, make: Callable[[range], Batch]) -> Batch:
        """What `make` gives for `numbers`, one row each, put together; it is called again where it failed, so it has to begin anew each time.

        Raises:
            MemoryError, RuntimeError: there is no memory even for one.
        """
        parts, first = [], 0
        while first < len(numbers):
            part = numbers[first : first + self.most]
            made = self._tried(part, make)
            if made is not None:
                parts.append(made)
                first += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _tried(self, numbers: range, make: Callable[[range], Batch]) -> Batch | None:
        """The samples; None where memory ran out, once `most` is smaller."""
        try:
            return make(numbers)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or len(numbers) == 1:
                raise
        # Beyond the except clause, whose traceback keeps alive what was computed.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.most = max(len(numbers) // 2, 1)
        _log.warning("out of memory for %d samples at a time: going on with %d", len(numbers), self.most)
        return None


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages from the operation that made them to their end. What is handed in (weights) counts once a view is taken."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._held: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._held:
            return
        self._held[key] = weakref.ref(storage, lambda _: self._drop(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _drop(self, key: int, size: int) -> None:
        if self._held.pop(key, None) is not None:
            self.now -= size


def _walk(model: Model, walk: Sampler | None, begin: Callable[[int], State], n: int) -> None:
    """The first moves of a walk, or one call, as they will be made but uncompiled: what a compiled network takes cannot be counted."""
    with uncompiled(model.restorer), torch.no_grad():
        state = begin(n)
        if walk is None:
            model.estimate(state.x, severity(state.t, state.x), state.z)
            return
        for _ in itertools.islice(walk.trajectory(model, state, torch.Generator().manual_seed(0)), _MOVES + 1):
            pass


def _begun(model: Model, shape: tuple[int, ...], device: torch.device, n: int) -> State:
    x = torch.zeros(n, *shape)
    z = model.draw(x, torch.Generator().manual_seed(0))
    return State(x.to(device), 1.0, {name: value.to(device) for name, value in z.items()})


@contextlib.contextmanager
def uncompiled(restorer: object) -> Iterator[None]:
    """The restorer, and what it wraps, without torch.compile for a while."""
    parts = [part for part in restorer.modules() if getattr(part, "compiled", False) is True] if isinstance(restorer, nn.Module) else []
    for part in parts:
        part.compiled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for part in parts:
            part.compiled = True  # type: ignore[assignment]


def _system() -> int | None:
    """MemAvailable of Linux, in bytes; None elsewhere."""
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _cgroups() -> Iterator[int | None]:
    """What the limits of this process's cgroup, of version 1 or 2, and of all above it leave, in bytes."""
    for root, path, limit, used in _groups():
        place = root / path.lstrip("/")
        for folder in (place, *place.parents):
            if not folder.is_relative_to(root):
                break
            most, now = _number(folder / limit), _number(folder / used)
            if most is not None and now is not None:
                yield most - max(now - _reclaimable(folder), 0)


def _groups() -> Iterator[tuple[Path, str, str, str]]:
    """(root, path below it, file of the limit, file of the use) of each."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield _CGROUPS, path, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                yield _CGROUPS / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes"


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none, or it says "max"."""
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return None


def _reclaimable(folder: Path) -> int:
    """What of a cgroup's use is files that the system can drop."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith(("inactive_file ", "total_inactive_file ")):
                return int(line.split()[1])
    return 0
