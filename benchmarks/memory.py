"""The memory of a training step: how far it rises above what the process held before its network was made, ours and the peers'.

Each network is measured in a process of its own: `python benchmarks/memory.py NAME fp32|bf16` prints the bytes as JSON. The system keeps
the highest mark of the memory in use (Linux: VmHWM, begun anew after the imports; elsewhere the mark since the process began).
"""

import ctypes
import gc
import json
import resource
import subprocess
import sys
from pathlib import Path

import nets
import torch
from contest import Row, middle, spread
from timing import over

TITLE = "Memory of a training step"
ABOUT = (
    "How far three training steps of 32 pictures of 32 px raise the memory of a process above what it held once everything was imported: "
    "weights, gradients, the optimiser's "
    "moments, what is kept for the way back, and the libraries' buffers. Each in a process of its own; the ratio is theirs over ours in bf16."
)
STEPS, ROUNDS = 3, 1  # a process's memory varies little from one to the next
MB = 1e6


def measure(*, runs: int, quick: bool) -> list[Row]:
    """A row for each network, ours in both precisions."""
    wanted = [(nets.LEAN, "bf16"), (nets.LEAN, "fp32"), *((name, "fp32") for name in nets.MAKERS if name != nets.LEAN)]
    wanted = wanted[:1] if quick else wanted
    rounds = [[of_process(*one, small=quick) for one in wanted] for _ in range(min(runs, ROUNDS))]
    out: list[Row] = []
    for i, (name, precision) in enumerate(wanted):
        found = [(row[i], row[0]) for row in rounds]
        if any(value is None for value, _ in found):
            out.append({"what": f"{name}, {precision}", "skipped": "not installed"})
            continue
        values, first = zip(*found, strict=True)
        out.append({"what": f"{name}, {precision}", "MB": middle(values) / MB, **spread(over(values, first))})
    return out


def of_process(name: str, precision: str, *, small: bool) -> int | None:
    """The bytes that a process of its own reports; None where the network is not installed."""
    command = [sys.executable, str(Path(__file__).resolve()), name, precision, *(["small"] if small else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - this file
    value = json.loads(done.stdout.splitlines()[-1])
    return None if value is None else int(value)


def main(name: str, precision: str, size: str = "") -> None:
    """Measure here, and print."""
    torch.set_num_threads(1)
    small = bool(size)
    if nets.made(name, small=small) is None:  # made once, so that its imports are behind us
        print(json.dumps(None))
        return
    print(json.dumps(rise(lambda: _train(name, precision, small))))


def _train(name: str, precision: str, small: bool) -> None:
    net = nets.made(name, small=small)
    assert net is not None
    x, t = nets.batch(2, 16) if small else nets.batch(32, 32)
    step = nets.step(net, x, t, bf16=precision == "bf16", fused=name == nets.LEAN)
    for _ in range(STEPS):
        step()


def rise(work) -> int:
    """Bytes by which the memory in use rises above what it is now, while `work` runs."""
    gc.collect()
    _give_back()
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    before = _status("VmRSS") or _highest()
    work()
    return max((_status("VmHWM") or _highest()) - before, 1)


def _give_back() -> None:
    """Ask the allocator for what it holds and nobody uses; glibc only."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(key: str) -> int:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:")), 0)


def _highest() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
