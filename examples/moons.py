"""Two moons, hot and cold: four walks from t = 1 to t = 0 in the plane, without any training.

The restorer is exact: E[x0 | x_t] over 1,500 points of the moons. So what one sees is what the samplers do, and nothing that a network has missed.

    python examples/moons.py --out moons
    python examples/moons.py --steps 4 --out few
"""

import argparse
from pathlib import Path

import torch
from moons_plane import Press, distance, drawn, ends, moons
from torch import Tensor

import snowmelt
from snowmelt import pictures
from snowmelt.randomness import generator
from snowmelt.samplers import Ancestral, Naive, TACoS
from snowmelt.testing import empirical


def walks(n: int, steps: int) -> dict[str, Tensor]:
    """The path of n points under each sampler: (steps + 1, n, 2)."""
    data, (new, _) = moons(1500, seed=0)[0], moons(n, seed=1)
    hot, cold, floor = snowmelt.build("noise"), Press(), 0.08
    noisy = snowmelt.Model(hot, empirical(hot, data))
    pressed = snowmelt.Model(cold, empirical(cold, data, noise_floor=floor), noise_floor=floor)
    hots = {"hot: DDPM": (noisy, Ancestral(steps, eta=1.0)), "hot: DDIM": (noisy, Ancestral(steps, eta=0.0))}
    out = {}
    for name, (model, sampler) in {**hots, "cold: Algorithm 2": (pressed, TACoS(steps)), "cold: Algorithm 1": (pressed, Naive(steps))}.items():
        start = model.corrupt(new, 1.0, generator(0, "start"))  # of noise at t = 1 nothing of `new` is left; pressed, its horizontal half
        out[name] = torch.stack([state.x for state in sampler.trajectory(model, start, generator(0, "walk"))])
    return out


def main(out: Path, n: int = 600, steps: int = 40) -> dict[str, Tensor]:
    """Write moons.png and moons.gif to `out`, print how far each sampler ends from fresh moons; the paths."""
    paths = walks(n, steps)
    for name, path in {**paths, "other moons": moons(n, seed=3)[0][None]}.items():
        print(f"{name:17} {distance(path[-1], moons(2000, seed=2)[0]):.4f}")
    colour = {name: ends(path) for name, path in paths.items()}
    frames = [torch.stack([drawn(p[i], colour[name]) for name, p in paths.items()]) for i in range(steps + 1)]
    columns = {f"t = {1 - k / steps:.2g}": frames[k] for k in sorted({round(i * steps / 4) for i in range(5)})}
    columns["paths"] = torch.stack([drawn(p[-1], colour[name], p) for name, p in paths.items()])
    pictures.save(out / "moons.png", pictures.grid(columns, rows=list(paths), scale=1))
    pictures.animate(out / "moons.gif", frames, [f"t = {1 - i / steps:.2f}" for i in range(steps + 1)], ms=100, scale=1)
    return paths


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("moons"))
    parser.add_argument("--steps", type=int, default=40)
    main(parser.parse_args().out, steps=parser.parse_args().steps)
