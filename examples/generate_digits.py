"""New digits out of noise, after a training of some seconds on one core, along rectified flow's straight path.

    python examples/generate_digits.py

Writes generate_digits.png (16 new digits), generate_digits.html (move through their making by hand), and the run to generate_digits/.
So short a training convinces nobody: try --images 200000.
"""

import argparse
from pathlib import Path

import torch

from snowmelt import pictures
from snowmelt.pictures import page, scrubber
from snowmelt.recipes.recipe import from_table
from snowmelt.recipes.run import train
from snowmelt.restoration.generation import beginning
from snowmelt.samplers import default_walk

SPEC = "noise:schedule=linear"


def main(images: int = 9_600, out: Path = Path("generate_digits")) -> None:
    """Train, generate, show."""
    recipe = from_table(
        {
            "degradation": SPEC,
            "data": {"path": "bundled:digits", "size": 8},
            "model": {"backbone": "unet:widths=(32,48),patch=1,groups=4,blocks=1"},
            "training": {"images": images, "batch": 64, "lr": 2e-3, "validate_every": images, "validation_images": 64},
        }
    )
    model = train(recipe, out, fresh=True)
    start = beginning(model, 16, torch.Generator().manual_seed(0))  # nothing but noise; snowmelt.generate(model, 16) does all of this
    walk = list(default_walk(model).trajectory(model, start))
    new = walk[-1].x
    pictures.save(out.with_suffix(".png"), pictures.show(new, samples=4))
    moving = scrubber([state.x for state in walk], [f"t = {float(state.t):.2f}" for state in walk])
    out.with_suffix(".html").write_text(page.page("Digits out of noise", [moving]), encoding="utf-8")
    print(f"16 new digits after {images:,} pictures, values from {new.min():.2f} to {new.max():.2f}: {out.with_suffix('.png')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=9_600)
    main(parser.parse_args().images)
