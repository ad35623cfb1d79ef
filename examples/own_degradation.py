"""A degradation of your own in seven lines: check that it keeps the contract, then look at it.

    python examples/own_degradation.py
    snowmelt train --data bundled:photos --degradation sepia --plugin examples/own_degradation.py --out runs/sepia

Writes own_degradation.png: two photographs from t = 0 to t = 1.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

import snowmelt
from snowmelt import pictures
from snowmelt.data import DataOptions, open_data
from snowmelt.testing import check_degradation, examine


@snowmelt.register("sepia")
@dataclass(frozen=True)
class Sepia(snowmelt.Degradation):
    """Fade to the brown of an old photograph."""

    def degrade(self, x: torch.Tensor, t: torch.Tensor, z: snowmelt.Draw) -> torch.Tensor:
        brown = x.new_tensor([1.0, 0.8, 0.55])[:, None, None] * (x.mean(1, keepdim=True) + 1) - 1
        return (1 - t) * x + t * brown


def main(out: Path = Path()) -> None:
    """Check it, say what is known of it, and show it."""
    D = Sepia()
    check_degradation(D)  # raises at the first clause of the contract that does not hold
    for finding in examine(D):
        print(f"{finding.name}: {finding.seen}")
    x = open_data(DataOptions(path="bundled:photos", size=64), "test").batch([0, 8])["x0"]
    severities = [0.0, 0.25, 0.5, 0.75, 1.0]
    frames = [D(x, torch.full((2,), t), D.draw(x)) for t in severities]
    pictures.save(out / "own_degradation.png", pictures.strip(frames, [f"t = {t:g}" for t in severities]))


if __name__ == "__main__":
    main()
