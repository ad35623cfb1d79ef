"""A network through ``torch.compile``, where there is a compiler, and as it is where there is none.

Only the network is compiled, not the algebra around it, and the compiled twin stands beside it: names of weights, what is saved and what a
copy holds do not change. What the compiler makes is kept in the user's cache directory, so a second run begins at once.

Training always asks for batches of one size, and gets a twin of that size. All else has batches of any length, and pictures of as many sizes
as there are: the length of a batch is left open, each height and width has a twin of its own, and after a few of those the network itself
does the rest, since a compilation takes many seconds.

Whatever goes wrong while compiling (no C++ compiler, a platform that torch cannot compile for, an operation it does not know) is said in one
line, and the network is used as it is: the results are the same to rounding, only slower.
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt.restorers.tiles import out_of_memory

_log = logging.getLogger(__name__)
_MOST_SIZES = 4
_CACHE = "TORCHINDUCTOR_CACHE_DIR"


class Compilation:
    """The compiled twin of a network, made when it is first called. A copy of it begins anew.

    Args:
        make: what compiles a module.
    """

    def __init__(self, make: Callable[[nn.Module], Callable[..., Tensor]] | None = None) -> None:
        self._make = make or _compile
        self._net: nn.Module | None = None
        self._twin: Callable[..., Tensor] | None = None
        self._met: set[tuple[Any, ...]] = set()
        self.refused: str | None = None  # why it was no use

    def __deepcopy__(self, memo: Any) -> "Compilation":
        return Compilation(self._make)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Compilation, ())

    def call(self, net: nn.Module, *args: Tensor, training: bool = False) -> Tensor:
        """net(*args) by the compiled twin; from the first failure on by `net` itself.

        Raises:
            MemoryError, RuntimeError: what `net` itself raises, and running out of memory.
        """
        if net is not self._net:
            self._net, self._twin, self._met = net, None, set()
        key = (training, args[0].shape[0] if training else args[0].shape[0] == 1, *args[0].shape[1:])
        if self.refused is not None or (key not in self._met and len(self._met) >= _MOST_SIZES):
            return _plain(net, *args)
        try:
            return self._by_twin(net, args, key, training=training)
        except Exception as error:  # noqa: BLE001 - a compiler may fail in any way
            if out_of_memory(error):
                raise  # whoever called takes less at a time
            why = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
        out = _plain(net, *args)  # what the network itself refuses is no fault of the compiler
        self.refused, self._twin = why[:200], None
        _log.warning("the network could not be compiled, and goes on uncompiled: slower, with the same results (%s)", self.refused)
        return out

    def _by_twin(self, net: nn.Module, args: tuple[Tensor, ...], key: tuple[Any, ...], *, training: bool) -> Tensor:
        """The twin's output. At the first training step its way back is gone once, so that a compiler that fails there fails here."""
        if self._twin is None:
            keep_artefacts()
            self._twin = self._make(net)
        if not training and len(args[0]) > 1:
            for value in args:
                torch._dynamo.mark_dynamic(value, 0)
        if training and key not in self._met and (wanted := [p for p in net.parameters() if p.requires_grad]):
            torch.autograd.grad(self._twin(*args).float().sum(), wanted, allow_unused=True)
        self._met.add(key)
        return self._twin(*args)


def cache_directory() -> Path:
    """Where compiled artefacts are kept: in the user's cache directory, of which XDG_CACHE_HOME may say where it is."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():
        return Path(base) / "snowmelt" / "compiled"
    places = {"win32": os.environ.get("LOCALAPPDATA", ""), "darwin": str(Path.home() / "Library" / "Caches")}
    return Path(places.get(sys.platform) or Path.home() / ".cache") / "snowmelt" / "compiled"


def keep_artefacts() -> None:
    """Let torch keep what it compiles in :func:`cache_directory`, unless the user has said where, or it cannot be written."""
    if os.environ.get(_CACHE):
        return
    try:
        place = cache_directory()
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            os.environ[_CACHE] = str(place)
    except (OSError, RuntimeError):  # no home, or one that is read-only: torch then takes a temporary directory
        return


def _compile(net: nn.Module) -> Callable[..., Tensor]:
    twin: Callable[..., Tensor] = torch.compile(net, dynamic=False)  # of fixed sizes, but for what is marked
    return twin


def _plain(net: nn.Module, *args: Tensor) -> Tensor:
    out: Tensor = net(*args)
    return out
