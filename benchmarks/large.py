"""What a large photograph costs: seconds per megapixel and peak memory of `snowmelt restore`, for the photo model.

Each size is one run of the command, in a process of its own, on a mosaic of a bundled photograph with noise; the smallest size stands for what
starting costs. Seconds are this machine's, and say so: compare them with the line beside them, not with another file's.

    python benchmarks/large.py --out benchmarks/results/large.json
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import snowmelt
from snowmelt.data import bundled
from snowmelt.data.images import from_uint8, write
from snowmelt.randomness import generator
from snowmelt.recipes.report import environment

SIZES = ((192, 256), (1500, 2000), (3000, 4000))


def picture(h: int, w: int) -> torch.Tensor:
    """A noisy mosaic of the cat, (3, h, w)."""
    tile = from_uint8(bundled.photo("chelsea.png")[None])[0]
    wide = tile.repeat(1, -(-h // tile.shape[1]), -(-w // tile.shape[2]))[None, :, :h, :w]
    noise = snowmelt.build("noise:schedule=ve(sigma_max=0.1)")
    return noise(wide, torch.ones(1), noise.draw(wide, generator(0, "large")))[0]


def measure(h: int, w: int, threads: int) -> dict[str, float]:
    """Seconds and peak memory of one run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "in.png", picture(h, w))
        start = time.perf_counter()
        command = [sys.executable, "-m", "snowmelt", "restore", f"{folder}/in.png", "--threads", str(threads)]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # of the largest so far: sizes rise
    return {"megapixels": h * w / 1e6, "seconds": round(seconds, 1), "peak_gb": round(peak / 1e9, 2)}


def main() -> None:
    """Measure every size, from the smallest on; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [measure(h, w, options.threads) for h, w in SIZES]
    per = (rows[-1]["seconds"] - rows[0]["seconds"]) / (rows[-1]["megapixels"] - rows[0]["megapixels"])
    found = {**environment(), "rows": rows, "seconds_per_megapixel": round(per, 2)}
    print(json.dumps(found, indent=2))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
