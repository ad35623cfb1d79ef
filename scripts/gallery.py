"""Draw the gallery of docs/degradations.md: every registered degradation on a bundled photograph (chelsea, CC0)."""

import sys
from pathlib import Path

import snowmelt
from snowmelt import pictures
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.randomness import generator
from snowmelt.types import severity

SPECS = [
    "gaussian-blur",
    "recursive-blur:routine=special-6,steps=50",
    "noise",
    "mask",
    "fade-mask:steps=100",
    "fade-mask:kernel_std=0.05,steps=750,reverse=true,towards=colour",
    "pixelate",
    "resample:steps=5",
    "grey",
    "decolour:routine=constant,total=true",
    "jpeg",
    "poisson-noise",
    "motion-blur",
    "holes",
    "snow",
    "morph",
    "mixture:parts=(gaussian-blur(sigma_px=2),noise(schedule=ve(sigma_max=0.3)),jpeg),chances=(1)",
    "gaussian-blur:sigma_px=2+noise:schedule=linear",
]
NAMED = {SPECS[-1]: "composition", "fade-mask:kernel_std=0.05,steps=750,reverse=true,towards=colour": "fade-mask-generation"}
SEVERITIES = [0, 0.2, 0.4, 0.6, 0.8, 1]


def main(out: Path) -> None:
    """One strip a degradation, named after it or in NAMED."""
    x = open_data(DataOptions(path="bundled:photos", size=128), "validation").batch([0])["x0"]
    other = {"endpoint": open_data(DataOptions(path="bundled:photos", size=128), "train").batch([0])["x0"]}
    for spec in SPECS:
        degradation = snowmelt.build(spec)
        z = {**degradation.draw(x, generator(1, "gallery")), **degradation.given_by(other)}
        frames = [degradation(x, severity(t, x), z) for t in SEVERITIES]
        name = NAMED.get(spec, spec.partition(":")[0])
        pictures.save(out / f"{name}.png", pictures.strip(frames, [f"t = {t:g}" for t in SEVERITIES]))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/degradations"))
