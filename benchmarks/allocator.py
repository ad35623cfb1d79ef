"""A section of ``make bench``: the network with glibc's allocator as it comes, and as the command line sets it.

An allocator cannot be changed back within a process, so each way is a process of its own, one after the other in turn; each times the same call.
"""

import json
import subprocess
import sys
import time

from timing import over

TITLE = "Allocator settings"
ABOUT = (
    "How many times as fast a call and a training step are with the settings of the command line (freed pages are kept) as without; each way in "
    "processes of its own, in turn."
)
_SIDE, _BATCH, _WARM = 32, 64, 2


def measure(*, runs: int, quick: bool) -> list[dict[str, object]]:
    """Rows for a call and a step of unet:size=xs, or of a tiny net with `quick`, in fp32 on colour pictures of 32 px."""
    repeats = 2 if quick else 6
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for _ in range(1 if quick else runs):
        for settled in found:
            found[settled].append(_child(settled=settled, repeats=repeats, quick=quick))
    if not all(one["settled"] for one in found[True]):
        return [{"what": "call and training step", "skipped": "these settings are glibc's, or the environment sets its own"}]
    rows: list[dict[str, object]] = []
    for what in ("call", "training step"):
        seconds = {settled: [one[what] for one in values] for settled, values in found.items()}
        ratio = over(seconds[False], seconds[True])
        faults = over(*([one[f"{what} faults"] + 1 for one in found[settled]] for settled in (False, True)))
        title = f"{what}, unet {'tiny' if quick else 'xs'}, {_BATCH} x 3 x {_SIDE} x {_SIDE}, fp32"
        rows.append({"what": title, "ratio": ratio.median, "low": ratio.low, "high": ratio.high, "page faults, times fewer": faults.median})
    return rows


def _child(*, settled: bool, repeats: int, quick: bool) -> dict[str, float]:
    """One process's seconds."""
    words = [sys.executable, __file__, "settled" if settled else "plain", str(repeats), "tiny" if quick else "xs"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """As a child: the median seconds and the page faults of a call and of a step, as JSON."""
    way, repeats, size = sys.argv[1:]
    from snowmelt.cli.allocator import settle

    kept = settle() if way == "settled" else False  # before torch is there, as in the command line
    import torch

    from snowmelt.restorers import UNet

    net = (UNet(widths=(16, 16), blocks=1) if size == "tiny" else UNet(size=size)).build(3, 3).to(memory_format=torch.channels_last)
    x, t = torch.randn(_BATCH, 3, _SIDE, _SIDE), torch.rand(_BATCH)

    def call() -> None:
        with torch.no_grad():
            net(x, t)

    def step() -> None:
        net(x, t).square().mean().backward()

    found: dict[str, float] = {"settled": kept}
    for what, work in (("call", call), ("training step", step)):
        for _ in range(_WARM):
            work()
        seconds, before = [], _faults()
        for _ in range(int(repeats)):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        found |= {what: sorted(seconds)[len(seconds) // 2], f"{what} faults": (_faults() - before) / int(repeats)}
    print(json.dumps(found))


def _faults() -> int:
    """Pages that this process has been given so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


if __name__ == "__main__":
    main()
