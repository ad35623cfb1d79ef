"""What the last digits of a training depend on, besides its recipe, and who agrees on them.

Sums of floating-point numbers depend on their order, and the order on the number of threads, the processor, the version of the library that
computes them and the parts in which a gradient is added. A run that goes on with all of these as they were ends in the same bits as one
that was never interrupted. Where one is another, the result is as good, but not the same: so that is refused, unless it is asked for.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from snowmelt import processes
from snowmelt.processes import Process
from snowmelt.restorers import Restorer
from snowmelt.training.gradient import Plan

_SHARDS = 4
_WAYS = {"threads": "--threads {}", "precision": "--training.precision {}", "shards": "--training.shards {}"}


def facts(plan: Plan, precision: str, device: torch.device, *, compiled: bool) -> dict[str, Any]:
    """What the last digits depend on here, as values for JSON."""
    cpu, each = device.type == "cpu", len(plan.mine)
    return {
        "shards": plan.shards,
        "order": 0 if each & (each - 1) == 0 else plan.process.size,  # 0: that of the tree, whoever takes part
        "threads": torch.get_num_threads() if cpu else 0,
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}" if cpu else _name(device),
        "precision": precision,
        "compiled": compiled,
        "torch": torch.__version__.partition("+")[0],
    }


def require_same(run: Path, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on where a fact is another than it was; what an older checkpoint does not say is no fact.

    Raises:
        ValueError: one is, with the way out.
    """
    other = next((name for name in now if name in was and was[name] != now[name]), None)
    if other is not None:
        way = f"give {_WAYS[other].format(was[other])}" if other in _WAYS else "go on where it was begun"
        raise ValueError(
            f"{run} was trained with {other} = {was[other]}, and here it is {now[other]}, which gives other last digits: "
            f"{way}, or add --allow-inexact"
        )


def require_agreement(process: Process, run: Path, step: int, restorer: Restorer) -> None:
    """Refuse to train together from different places: every process must see one run directory, and the same weights.

    Raises:
        ValueError: one does not.
        Lost: another process is gone.
    """
    if process.alone:
        return
    crc = 0
    for value in restorer.state_dict().values():
        crc = zlib.crc32(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), crc)
    rows = processes.gathered([step, crc])
    for rank, (at, weights) in enumerate(rows):
        if at != rows[0][0]:
            raise ValueError(
                f"rank {rank} finds {run} at step {at:.0f}, rank 0 at step {rows[0][0]:.0f}: it must be one directory that all machines share"
            )
        if weights != rows[0][1]:
            raise ValueError(f"rank {rank} begins with other weights than rank 0: all machines need the same versions and the same data")


def shards_for(batch: int, process: Process) -> int:
    """V, where nobody asked for one: 1 alone; else 4, so that 1, 2 and 4 processes agree, or where that cannot be, as many as there are processes."""
    if process.alone:
        return 1
    return _SHARDS if _SHARDS % process.size == 0 and batch % _SHARDS == 0 else process.size


def precision(choice: Literal["auto", "bf16", "fp16", "fp32"], device: torch.device) -> Literal["bf16", "fp16", "fp32"]:
    """What "auto" means on this device: bf16 where the processor computes in it, fp16 on older GPUs, else fp32."""
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return "bf16" if any(ask is not None and ask() for ask in asks) else "fp32"
    return "fp32"


def _name(device: torch.device) -> str:
    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else device.type
