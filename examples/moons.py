"""Two moons, hot and cold: four walks from t = 1 to t = 0 in the plane, without any training.

The restorer is exact: E[x0 | x_t] over 1,500 points of the moons. So what one sees is what the samplers do, and nothing that a network has missed.

    python examples/moons.py --out moons
    python examples/moons.py --steps 4 --out few
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import make_moons
from torch import Tensor

import snowmelt
from snowmelt import pictures
from snowmelt.randomness import generator
from snowmelt.samplers import Ancestral, Naive, TACoS
from snowmelt.testing import empirical

COLOURS = ((0, 114, 178), (213, 94, 0))  # of the moon at which a walk ends


@snowmelt.register("press")
@dataclass(frozen=True)
class Press(snowmelt.Degradation):
    """Press the plane flat onto its horizontal axis: at t = 1 the height is gone."""

    def degrade(self, x: Tensor, t: Tensor, z: snowmelt.Draw) -> Tensor:
        """The second coordinate shrinks by 1 - t."""
        return torch.cat([x[:, :1], (1 - t) * x[:, 1:]], 1)


def moons(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n points (n, 2) about the origin, and the moon that each belongs to."""
    points, moon = make_moons(n, noise=0.06, random_state=seed)
    return torch.from_numpy((points - (0.5, 0.25)) / 0.75), torch.from_numpy(moon)


def walks(n: int, steps: int) -> dict[str, Tensor]:
    """The path of n points under each sampler: (steps + 1, n, 2)."""
    data, (new, _) = moons(1500, seed=0)[0], moons(n, seed=1)
    hot, cold, floor = snowmelt.build("noise"), Press(), 0.08
    noisy = snowmelt.Model(hot, empirical(hot, data))
    pressed = snowmelt.Model(cold, empirical(cold, data, noise_floor=floor), noise_floor=floor)
    shown = {
        "hot: DDPM": (noisy, Ancestral(steps, eta=1.0)),
        "hot: DDIM": (noisy, Ancestral(steps, eta=0.0)),
        "cold: Algorithm 2": (pressed, TACoS(steps)),
        "cold: Algorithm 1": (pressed, Naive(steps)),
    }
    out = {}
    for name, (model, sampler) in shown.items():
        start = model.corrupt(new, 1.0, generator(0, "start"))  # of noise at t = 1 nothing of `new` is left; pressed, its horizontal half
        out[name] = torch.stack([state.x for state in sampler.trajectory(model, start, generator(0, "walk"))])
    return out


def ends(path: Tensor) -> Tensor:
    """The moon (n,) that each walk comes closest to in the end."""
    points, moon = moons(1500, seed=0)
    return moon[torch.cdist(path[-1], points).argmin(1)]


def drawn(x: Tensor, moon: Tensor, path: Tensor | None = None, side: int = 168) -> Tensor:
    """Points (n, 2), or some of their paths, as a picture (3, side, side) in [-1, 1]."""
    image = Image.new("RGB", (side * 2, side * 2), "white")
    draw, pixels = ImageDraw.Draw(image), lambda p: [((a + 2.6) / 5.2 * 2 * side, (2.6 - b) / 5.2 * 2 * side) for a, b in p.tolist()]
    for i in range(0 if path is None else 60):
        draw.line(pixels(path[:, i]), fill=COLOURS[moon[i]], width=1)
    for (a, b), which in zip(pixels(x), moon.tolist(), strict=True):
        draw.ellipse((a - 2, b - 2, a + 2, b + 2), fill=COLOURS[which])
    small = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    return torch.tensor(small).permute(2, 0, 1) / 127.5 - 1


def distance(a: Tensor, b: Tensor) -> float:
    """The energy distance of two clouds: 0 for the same law."""
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def main(out: Path, n: int = 600, steps: int = 40) -> dict[str, Tensor]:
    """Write moons.png and moons.gif to `out`, print how far each sampler ends from fresh moons; the paths."""
    paths = walks(n, steps)
    for name, path in {**paths, "other moons": moons(n, seed=3)[0][None]}.items():
        print(f"{name:17} {distance(path[-1], moons(2000, seed=2)[0]):.4f}")
    colour = {name: ends(path) for name, path in paths.items()}
    at = {f"t = {1 - k / steps:.2g}": k for k in sorted({round(i * steps / 4) for i in range(5)})}
    columns = {label: torch.stack([drawn(p[i], colour[name]) for name, p in paths.items()]) for label, i in at.items()}
    columns["paths"] = torch.stack([drawn(p[-1], colour[name], p) for name, p in paths.items()])
    pictures.save(out / "moons.png", pictures.grid(columns, rows=list(paths), scale=1))
    frames = [torch.stack([drawn(p[i], colour[name]) for name, p in paths.items()]) for i in range(steps + 1)]
    pictures.gif(out / "moons.gif", frames, [f"t = {1 - i / steps:.2f}" for i in range(steps + 1)], ms=100, scale=1)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("moons"))
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    main(given.out, steps=given.steps)
