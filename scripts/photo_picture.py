"""Draw the photo model's picture for the README and its card: damaged, restored and original photographs, scores beside them."""

import sys
from pathlib import Path

import snowmelt
from snowmelt import pictures
from snowmelt.recipes.showcase import sheet


def main(out: Path, model: str) -> None:
    """One sheet, every scene."""
    picture, scores = sheet(snowmelt.load(model))
    pictures.save(out, picture)
    for title, (before, after) in scores.items():
        print(f"{title:24} {before:5.1f} dB -> {after:5.1f} dB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/photo.png"), sys.argv[2] if len(sys.argv) > 2 else "photo")
