"""Photographs into digits: a degradation whose end is a picture of another kind, walked back from one. Some seconds of training on one core.

    python examples/translate.py

Writes translate.png (photographs, and what became of them), translate.html (move through the walk by hand), and the run to translate/.
So short a training gives strokes rather than digits: try --images 200000.
"""

import argparse
from pathlib import Path

import torch

from snowmelt import pictures
from snowmelt.data import DataOptions, open_data
from snowmelt.pictures import page, scrubber
from snowmelt.recipes.recipe import from_table
from snowmelt.recipes.run import train
from snowmelt.restoration.translation import translation


def main(images: int = 9_600, out: Path = Path("translate")) -> None:
    """Train, translate photographs that training has not seen, show."""
    recipe = from_table(
        {
            "degradation": "morph",
            "data": {"path": "bundled:digits", "endpoint": "bundled:photos", "size": 16, "channels": 1},
            "model": {"backbone": "unet:widths=(24,32),patch=2,groups=4,blocks=1"},
            "training": {"images": images, "batch": 64, "lr": 2e-3, "validate_every": images, "validation_images": 64},
        }
    )
    model = train(recipe, out, fresh=True)
    photos = open_data(DataOptions(path="bundled:photos", size=64, channels=1), "test").batch(range(0, 32, 4))["x0"]
    small = photos.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))  # 16 px, as in training
    walk = list(translation(model, small))
    sheet = pictures.strip(list(torch.stack([small, walk[-1].x], 1)), [""] * len(small), rows=["Photograph", "Digit"])
    pictures.save(out.with_suffix(".png"), sheet)
    moving = scrubber([state.x for state in walk], [f"t = {float(state.t):.2f}" for state in walk], caption="From photographs to digits.")
    out.with_suffix(".html").write_text(page.page("Photographs into digits", [moving]), encoding="utf-8")
    print(f"{len(small)} photographs translated in {len(walk) - 1} steps: {out.with_suffix('.png')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=9_600)
    main(parser.parse_args().images)
