"""What every verb may be given: plug-ins to load, a device, a number of threads."""

from typing import Annotated, Literal, TypeAlias

from cyclopts import Group, Parameter

from snowmelt.registry import SpecError, load_plugin

_GROUP = Group.create_ordered("Everywhere")
Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
Plugins = Annotated[
    tuple[str, ...],
    Parameter(name="--plugin", group=_GROUP, negative=(), show_default=False, help="A .py file (or module) with parts of your own; may be repeated."),
]
OnDevice = Annotated[Device, Parameter(name="--device", group=_GROUP, help="Where to compute; auto takes a GPU if there is one.")]
Threads = Annotated[int | None, Parameter(name="--threads", group=_GROUP, help="Threads of the CPU; torch's own choice by default.")]


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


def prepare(plugins: tuple[str, ...], device: Device, threads: int | None) -> str:
    """Load plug-ins, set the threads, and say which device is meant.

    Raises:
        ValueError: this machine has no such device, or `threads` is under 1.
        SpecError: see :func:`plug_in`.
    """
    plug_in(plugins)
    import torch

    if threads is not None:
        if threads < 1:
            raise ValueError(f"--threads {threads} lies under 1: leave it out for all cores")
        torch.set_num_threads(threads)
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[device]:
        raise ValueError(f"--device {device}: this machine has none that torch can use; give --device auto, or cpu")
    return device
