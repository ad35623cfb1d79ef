"""Some minutes of a recipe's training on the GPU: begun, or gone on with where the run directory stands.

    python benchmarks/gpu_train.py photo --data photos.npz --run runs/photo --seconds 530 [--images 2000000] [--batch 256]

The clock does what Ctrl-C does: the step under way is finished, everything is saved, and the same command goes on from there.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch

from snowmelt.recipes import recipe as recipes
from snowmelt.recipes.run import train
from snowmelt.stopping import Stopped

_AFTERWARDS_S = 25  # validation, a grid of samples, the checkpoint


def until(seconds: float) -> None:
    """In so many seconds this process gets a SIGTERM, which the training heeds; where it has not begun yet, again a little later."""

    def ask(*_: object) -> None:
        clock = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
        clock.daemon = True
        clock.start()

    signal.signal(signal.SIGTERM, ask)
    clock = threading.Timer(max(seconds, 0.1), os.kill, (os.getpid(), signal.SIGTERM))
    clock.daemon = True
    clock.start()


def main() -> int:
    """Train until the recipe's end or the clock's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a preset, or a .toml")
    parser.add_argument("--data", required=True, help="where the pictures lie")
    parser.add_argument("--run", type=Path, required=True, help="the run directory")
    parser.add_argument("--seconds", type=float, default=530)
    parser.add_argument("--images", type=int, help="in all, if not what the recipe says; the same number each time")
    parser.add_argument("--batch", type=int)
    options = parser.parse_args()
    try:
        import tomli_w  # noqa: F401 - the run directory's recipe is written with it
    except ImportError:
        print("tomli_w is not installed: bring its wheel; nothing is trained", file=sys.stderr)
        return 1
    training = {name: value for name in ("images", "batch") if (value := getattr(options, name)) is not None}
    wishes: dict[str, Any] = {"data": {"path": options.data}, **({"training": training} if training else {})}
    recipe = recipes.from_table(recipes.merged(recipes.load(options.recipe), wishes))
    until(options.seconds - _AFTERWARDS_S)
    try:
        train(recipe, options.run, device="cuda" if torch.cuda.is_available() else "cpu")
    except Stopped as stopped:
        print(stopped)
        return 0
    print("the training is finished")
    return 0


if __name__ == "__main__":
    sys.exit(main())
