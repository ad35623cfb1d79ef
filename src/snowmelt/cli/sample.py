"""``snowmelt sample``: new pictures from a model that has a prior."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.model import Model
    from snowmelt.samplers import Sampler

_BATCH = 64
_SHOWN = 64
_MOST_ROWS = 8


def sample(
    run: Path,
    /,
    *,
    out: Path | None = None,
    number: Annotated[int, Parameter(name=("--number", "--n", "-n"))] = 16,
    sampler: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    noise: float | None = None,
    interpolate: int | None = None,
    prior: str | None = None,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    overwrite: Switch = False,
    machine: OnMachine = HERE,
) -> None:
    """Generate new pictures from the model's prior, walking from t = 1 to t = 0.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        out: the folder for the pictures, sample_0000.png and so on, and grid.png; may be left out with --prior alone.
        number: how many.
        sampler: which walk, as a spec such as ancestral:eta=1; by default that of the degradation.
        steps: calls of the restorer.
        seed: of the prior and of samplers that draw; picture i depends on the seed and i alone.
        noise: another standard deviation, on [-1, 1], of the white noise that breaks the symmetry of x at t = 1; 0 leaves it perfect.
        interpolate: also interpolation.png: rows of so many pictures on the way from sample 0 to 1, from 2 to 3, and so on.
        prior: first fit this prior, such as gaussian-mixture:components=4,grid=2, to the run's training pictures, and save it in the model.
        data: with --prior, where the data lie now, if not where the recipe says.
        overwrite: replace pictures that are already there.
        machine: where to compute.
    """
    _check(out, number, noise, interpolate, prior, data, overwrite=overwrite)
    where = machine.prepare()
    from snowmelt import files, registry
    from snowmelt.cli.walks import walk_of
    from snowmelt.model import load
    from snowmelt.priors import GaussianMixture
    from snowmelt.recipes.run import fit_prior

    model = load(run) if prior is None else fit_prior(run, prior, path=data)
    if prior is not None and model.prior is not None:
        held = f"; its grid holds {model.prior.explained:.1%} of the variance of x_1" if isinstance(model.prior, GaussianMixture) else ""
        print(f"saved the prior {registry.spec(model.prior)} in {run}{held}")
    if out is None:
        return
    model = model.to(where)
    walk = walk_of(sampler, steps, model.degradation)
    _write(model, walk, out, number, seed, noise)
    named: dict[str, Any] = {"prior": registry.spec(model.prior)} if model.prior is not None else {}
    settings = {"run": str(run), **named, "noise": noise, "sampler": registry.spec(walk), "number": number, "seed": seed}
    files.write_json(out / "sample.json", settings)
    also = ""
    if interpolate is not None:
        _write_strip(model, walk, out, number, seed, noise, interpolate)
        also = ", interpolation.png"
    print(f"wrote {number} pictures{also} and grid.png to {out}")


def _check(
    out: Path | None, number: int, noise: float | None, interpolate: int | None, prior: str | None, data: str | None, *, overwrite: bool
) -> None:
    """Refuse what could not be done, before anything is loaded."""
    if number < 1:
        raise ValueError(f"--number {number} lies under 1")
    if noise is not None and not 0 <= noise <= 1:
        raise ValueError(f"--noise {noise:g} lies outside [0, 1]")
    if interpolate is not None and interpolate < 2:
        raise ValueError(f"--interpolate {interpolate} lies under 2: a row has at least its two ends")
    if data is not None and prior is None:
        raise ValueError("--data says where the pictures are that a prior is fitted to: add --prior, or leave it out")
    if out is None:
        if prior is None:
            raise ValueError("--out is missing: give a folder for the pictures")
        return
    if out.is_file():
        raise ValueError(f"{out} is a file: give --out a folder")
    if not overwrite and out.is_dir() and (old := next(out.glob("sample_*.png"), None)):
        raise ValueError(f"{old} exists: choose another --out, or add --overwrite")


def _write(model: "Model", walk: "Sampler", out: Path, number: int, seed: int, noise: float | None) -> None:
    """The pictures, a batch at a time, and a sheet of the first of them."""
    import torch

    from snowmelt import pictures
    from snowmelt.data.images import write
    from snowmelt.restoration import generated
    from snowmelt.training.progress import Bar

    made: list[Tensor] = []
    done = 0
    batches: Iterator[Tensor] = generated(model, number, seed=seed, sampler=walk, noise=noise, batch=_BATCH)
    with Bar("sampling", number, unit="pictures") as bar:
        for x in batches:
            for i, picture in enumerate(x):
                write(out / f"sample_{done + i:04d}.png", picture)
            made.append(x[: max(_SHOWN - done, 0)])
            done += len(x)
            bar.advance(len(x))
    pictures.save(out / "grid.png", pictures.show(torch.cat(made), samples=8))


def _write_strip(model: "Model", walk: "Sampler", out: Path, number: int, seed: int, noise: float | None, steps: int) -> None:
    """A row for every two samples, at most eight."""
    import torch

    from snowmelt import pictures
    from snowmelt.restoration import interpolate
    from snowmelt.training.progress import Bar

    rows = max(min(number // 2, _MOST_ROWS), 1)
    made = []
    with Bar("interpolating", rows * steps, unit="pictures") as bar:
        for row in range(rows):
            made.append(interpolate(model, steps, seed=seed, pair=(2 * row, 2 * row + 1), sampler=walk, noise=noise).cpu())
            bar.advance(steps)
    frames = list(torch.stack(made).unbind(1))
    pictures.save(out / "interpolation.png", pictures.strip(frames, [f"{i / (steps - 1):.2g}" for i in range(steps)]))
