"""What a walk and a folder of pictures cost beside the network: memory against steps, pictures and megapixels a second, and the network's share.

The folder restorer is measured as a user meets it: files in, files out, the estimator asked, everything flushed to the disk. Memory is that of all
tensors alive at one time, counted as they come and go, so it is the same at every run.
"""

import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import timing
import torch

import snowmelt
from snowmelt.data.images import write
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.restoration import Tally, generated, restore_folder
from snowmelt.restoration.memory import peak_bytes
from snowmelt.restorers import Restorer
from snowmelt.samplers import Ancestral

TITLE = "Walks and folders"
ABOUT = (
    "Folders: the photo model over files of one size, as many together as fit against one at a time, with what the former came to and the network's "
    "share of its time; a picture of 512 px is too large to share a call. Trajectories: the most bytes of tensors alive in a walk of so many steps "
    "against 10 steps; states that the caller keeps grow."
)
FOLDERS = {32: 24, 128: 8, 512: 1}  # pictures by size in px
STEPS = (10, 50, 200)
ROUNDS = 3  # a round of 512 px takes seconds


def measure(*, runs: int, quick: bool) -> list[dict[str, object]]:
    """Rows of both tables."""
    sizes = {32: 4} if quick else FOLDERS
    rows = [folder(side, n, runs=min(runs, 1 if quick else ROUNDS)) for side, n in sizes.items()]
    return rows + trajectories(STEPS[:2] if quick else STEPS)


def folder(side: int, n: int, *, runs: int) -> dict[str, object]:
    """A folder of n noisy pictures of one size: automatic batches against one at a time."""
    model, last = snowmelt.load("photo"), {}
    with tempfile.TemporaryDirectory() as place:
        root, number = Path(place), count()
        for i in range(n):
            write(root / "in" / f"{i:03d}.png", picture(side, i))

        def way(name: str, batch: int | None) -> Callable[[], Tally]:
            def restored() -> Tally:
                last[name] = restore_folder(root / "in", model=model, out=root / f"{next(number)}", anyway=True, batch=batch)
                return last[name]

            return restored

        ratio = timing.interleaved({"one": way("one", 1), "auto": way("auto", None)}, runs=runs)["auto"]
    pace = last["auto"].pace
    assert pace is not None
    found = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
    speed = {"pictures/s": pace.pictures / pace.seconds, "megapixels/s": pace.megapixels / pace.seconds, "network share": pace.share}
    return {"what": f"{n} files of {side} px, automatic batch against one at a time", **found, **speed}


def picture(side: int, number: int) -> torch.Tensor:
    """Soft blobs in noise, (3, side, side)."""
    blobs = torch.rand(1, 3, side // 8, side // 8, generator=generator(0, "blobs", number)) * 1.6 - 0.8
    x = torch.nn.functional.interpolate(blobs, size=(side, side), mode="bilinear")[0]
    return x + 0.1 * torch.randn(x.shape, generator=generator(0, "noise", number))


def trajectories(numbers: tuple[int, ...]) -> list[dict[str, object]]:
    """The memory of a walk, streamed and kept, against that of the shortest."""
    shape, D = (1, 32, 32), build("noise")
    restorer = Restorer(D, build("unet:widths=(32,64,64),patch=2", "backbone"), shape).eval().requires_grad_(False)
    model = Model(D, restorer, Normal(shape=shape))

    def streamed(steps: int) -> int:
        return peak_bytes(lambda: list(generated(model, 2, sampler=Ancestral(steps, eta=1.0), batch=2)))

    def kept(steps: int) -> int:
        start = snowmelt.restoration.beginning(model, 2, generator(0, "start"))
        return peak_bytes(lambda: list(Ancestral(steps, eta=1.0).trajectory(model, start, generator(0, "walk"))))

    streamed(numbers[0])  # what is made once and cached
    rows: list[dict[str, object]] = []
    for name, way in (("a trajectory", streamed), ("a trajectory whose states are kept", kept)):
        first = way(numbers[0])
        for steps in numbers[1:]:
            ratio = way(steps) / first
            rows.append({"what": f"memory of {name}, {steps} steps against {numbers[0]}", "ratio": ratio, "low": ratio, "high": ratio})
    return rows
