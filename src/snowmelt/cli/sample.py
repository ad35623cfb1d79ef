"""``snowmelt sample``: new pictures from a model that has a prior."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch

_BATCH = 64
_SHOWN = 64


def sample(
    run: Path,
    /,
    *,
    out: Path,
    number: Annotated[int, Parameter(name=("--number", "-n"))] = 16,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    overwrite: Switch = False,
    machine: OnMachine = HERE,
) -> None:
    """Generate new pictures from the model's prior, walking from t = 1 to t = 0.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        out: the folder for the pictures, sample_0000.png and so on, and grid.png.
        number: how many.
        sampler: which walk, as a spec such as ancestral:eta=1; by default that of the degradation.
        steps: calls of the restorer.
        seed: of the prior and of samplers that draw; picture i depends on the seed and i alone.
        overwrite: replace pictures that are already there.
        machine: where to compute.
    """
    if number < 1:
        raise ValueError(f"--number {number} lies under 1")
    if out.is_file():
        raise ValueError(f"{out} is a file: give --out a folder")
    if not overwrite and out.is_dir() and (old := next(out.glob("sample_*.png"), None)):
        raise ValueError(f"{old} exists: choose another --out, or add --overwrite")
    where = machine.prepare()
    import torch

    from snowmelt import files, pictures, registry
    from snowmelt.cli.walks import walk_of
    from snowmelt.data.images import write
    from snowmelt.model import load
    from snowmelt.randomness import generators
    from snowmelt.restoration import generate
    from snowmelt.training.progress import Bar

    model = load(run).to(where)
    walk = walk_of(sampler, steps, model.degradation)
    made = []
    with Bar("sampling", number, unit="pictures") as bar:
        for first in range(0, number, _BATCH):
            numbers = range(first, min(first + _BATCH, number))
            x = generate(model, len(numbers), sampler=walk, generator=generators(seed, "sample", numbers)).cpu()
            for i, picture in zip(numbers, x, strict=True):
                write(out / f"sample_{i:04d}.png", picture)
            made.append(x[: max(_SHOWN - first, 0)])
            bar.advance(len(numbers))
    pictures.save(out / "grid.png", pictures.show(torch.cat(made), samples=8))
    settings = {"run": str(run), "sampler": registry.spec(walk), "number": number, "seed": seed}
    files.write_json(out / "sample.json", settings)
    print(f"wrote {number} pictures and grid.png to {out}")
