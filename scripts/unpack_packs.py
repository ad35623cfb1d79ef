"""Unpack an "image pack" .npz into a folder of pictures, which is what snowmelt reads.

A pack holds ``blob`` (uint8, encoded pictures one after the other), ``offset`` (n + 1 positions in it) and
columns of n values (``label``, ``name``, ...). JPEG bytes are copied as they are, so nothing is compressed
twice; everything else becomes PNG. Pictures are named by their number; ``--by label`` groups them in folders.

    python scripts/unpack_packs.py photos.npz data/photos/
"""

import argparse
import io
import itertools
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def unpack(source: Path, out: Path, by: str | None = None) -> int:
    """Write every picture of `source` below `out`; returns their number.

    Raises:
        ValueError: `source` is no image pack, or has no column `by`.
    """
    with np.load(source, allow_pickle=False) as pack:
        if not {"blob", "offset"} <= set(pack.files):
            raise ValueError(f"{source} is no image pack: it holds {', '.join(pack.files)}, not blob and offset")
        if by is not None and by not in pack.files:
            raise ValueError(f'{source} has no column "{by}": there are {", ".join(pack.files)}')
        blob, offset = pack["blob"], pack["offset"]
        groups = None if by is None else pack[by]
    if offset[0] < 0 or offset[-1] > len(blob) or (np.diff(offset) <= 0).any():
        raise ValueError(f"{source}: its offsets do not lie in order within its {len(blob)} bytes")
    for i, (start, stop) in enumerate(itertools.pairwise(offset.tolist())):
        # A column is data, not a path: nothing in it may climb out of `out`.
        folder = out if groups is None else out / (re.sub(r"[^\w-]+", "_", str(groups[i])) or "_")
        folder.mkdir(parents=True, exist_ok=True)
        _save(blob[start:stop].tobytes(), folder / f"{i:05d}")
    return len(offset) - 1


def _save(encoded: bytes, stem: Path) -> None:
    with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG", "WEBP")) as image:
        if image.format == "JPEG":
            stem.with_suffix(".jpg").write_bytes(encoded)
        else:
            image.save(stem.with_suffix(".png"))


def main() -> int:
    """Read the command line, unpack, say how many."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="SRC.npz")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--by", metavar="COLUMN", help="one folder per value of this column, such as label")
    arguments = parser.parse_args()
    try:
        count = unpack(arguments.source, arguments.out, arguments.by)
    except (OSError, ValueError) as error:
        print(f"unpack_packs: {error}", file=sys.stderr)
        return 2
    print(f"{count} pictures in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
