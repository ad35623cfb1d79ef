"""What a verb may be given besides its own: plug-ins to load, a device, a number of threads."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from snowmelt.cli.allocator import settle
from snowmelt.registry import SpecError, load_plugin

if TYPE_CHECKING:
    from snowmelt.model import Model

_GROUP = Group.create_ordered("Everywhere")
_PLUGIN_HELP = "A .py file (or a module) with parts of your own; may be repeated."
Plugins = Annotated[tuple[str, ...], Parameter(name="--plugin", group=_GROUP, negative=(), show_default=False, help=_PLUGIN_HELP)]


@dataclass(frozen=True)
class Machine:
    """Where and with what to compute.

    Attributes:
        plugin: files or modules whose parts are to be known by name.
        device: auto takes a GPU if there is one.
        threads: of the CPU; torch's own choice by default.
    """

    plugin: Plugins = ()
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Parameter(name="--device", group=_GROUP)] = "auto"
    threads: Annotated[int | None, Parameter(name="--threads", group=_GROUP)] = None

    def prepare(self) -> str:
        """Settle the allocators, load the plug-ins, set the threads, and say which device is meant.

        Raises:
            ValueError: this machine has no such device, or `threads` is under 1.
            SpecError: see :func:`plug_in`.
        """
        settle()  # before torch allocates
        plug_in(self.plugin)
        import torch

        if self.threads is not None:
            if self.threads < 1:
                raise ValueError(f"--threads {self.threads} lies under 1: leave it out for all cores")
            torch.set_num_threads(self.threads)
        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        if self.device == "auto":
            return next(name for name, found in there.items() if found)
        if not there[self.device]:
            raise ValueError(f"--device {self.device}: this machine has none that torch can use; give --device auto, or cpu")
        return self.device


Switch = Annotated[bool, Parameter(negative=(), show_default=False)]
HERE = Machine()
_COMPILE_HELP = "Compile the network first: takes up to a minute, then calls are faster; kept for the next time."
Compile = Annotated[bool, Parameter(name="--compile", group=_GROUP, negative=(), show_default=False, help=_COMPILE_HELP)]
OnMachine = Annotated[Machine, Parameter(name="*")]


def compiling(model: "Model", wanted: bool) -> None:
    """Let the model's network run compiled, if that is wanted and it is a network of ours."""
    from snowmelt.restorers import Restorer

    if wanted and isinstance(model.restorer, Restorer):
        model.restorer.compiled = True


def plug_in(plugins: tuple[str, ...]) -> None:
    """Load plug-ins, so that the parts in them are known by name.

    Raises:
        SpecError: a plug-in does not exist, or raises while it is imported.
    """
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(f"plug-in {plugin} failed to load: {type(error).__name__}: {error}") from error
