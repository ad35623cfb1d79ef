"""``snowmelt sample``: new pictures from a model that has a prior."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch
from snowmelt.cli.walks import ITS_OWN, OnCalls
from snowmelt.cli.wishes import NONE, OnWish

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.cli.walks import Calls
    from snowmelt.cli.wishes import Granted
    from snowmelt.samplers import Sampler

_BATCH = 64
_SHOWN = 64
_MOST_ROWS = 8
_ACROSS = 8


def sample(
    run: Path,
    /,
    *,
    out: Path | None = None,
    number: Annotated[int | None, Parameter(name=("--number", "--n", "-n"))] = None,
    calls: OnCalls = ITS_OWN,
    seed: int = 0,
    noise: float | None = None,
    interpolate: int | None = None,
    prior: str | None = None,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    overwrite: Switch = False,
    wish: OnWish = NONE,
    machine: OnMachine = HERE,
) -> None:
    """Generate new pictures from the model's prior, walking from t = 1 to t = 0.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        out: the folder for the pictures, sample_0000.png and so on, and grid.png; may be left out with --prior alone.
        number: how many; by default 16, or 8 for each of several labels.
        calls: how many calls of the restorer.
        seed: of the prior and of samplers that draw; picture i depends on the seed and i alone.
        noise: another standard deviation, on [-1, 1], of the white noise that breaks the symmetry of x at t = 1; 0 leaves it perfect.
        interpolate: also interpolation.png: rows of so many pictures on the way from sample 0 to 1, from 2 to 3, and so on.
        prior: first fit this prior, such as gaussian-mixture:components=4,grid=2, to the run's training pictures, and save it in the model.
        data: with --prior, where the data lie now, if not where the recipe says.
        overwrite: replace pictures that are already there.
        wish: what they should show.
        machine: where to compute.
    """
    _check(out, number, noise, interpolate, prior, data, overwrite=overwrite)
    wish.check()
    _walks(calls)
    where = machine.prepare()
    from snowmelt import files, registry
    from snowmelt.model import load
    from snowmelt.priors import GaussianMixture
    from snowmelt.recipes.run import fit_prior
    from snowmelt.samplers import Sampler, default_walk

    place = calls.place(run)
    model = load(place) if prior is None else fit_prior(place, prior, path=data)
    if prior is not None and model.prior is not None:
        held = f"; its grid holds {model.prior.explained:.1%} of the variance of x_1" if isinstance(model.prior, GaussianMixture) else ""
        print(f"saved the prior {registry.spec(model.prior)} in {run}{held}")
    if out is None:
        return
    granted = wish.granted(model, number)
    granted = granted._replace(model=granted.model.to(where))
    asked = calls.walk(model)
    walk = asked if isinstance(asked, Sampler) else default_walk(model)
    _write(granted, walk, out, seed, noise)
    named: dict[str, Any] = {"prior": registry.spec(model.prior)} if model.prior is not None else {}
    settings = {"run": str(run), **named, "noise": noise, "sampler": registry.spec(walk), "number": granted.number, "seed": seed, **granted.said}
    files.write_json(out / "sample.json", settings)
    also = ""
    if interpolate is not None:
        _write_strip(granted, walk, out, seed, noise, interpolate)
        also = ", interpolation.png"
    print(f"wrote {granted.number} pictures{also} and grid.png to {out}")


def _walks(calls: "Calls") -> None:
    """Refuse what contradicts itself, and one call, which makes no pictures of its own."""
    calls.check()
    if calls.faithful:
        raise ValueError(
            "--faithful is one call, and from the prior that is the mean of all pictures that could be meant, a blur of them: "
            "leave it out, or take --best or --fast (--sampler naive --steps 1 shows that mean)"
        )


def _check(
    out: Path | None, number: int | None, noise: float | None, interpolate: int | None, prior: str | None, data: str | None, *, overwrite: bool
) -> None:
    """Refuse what could not be done, before anything is loaded."""
    if number is not None and number < 1:
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


def _write(granted: "Granted", walk: "Sampler", out: Path, seed: int, noise: float | None) -> None:
    """The pictures, a batch at a time, and a sheet of the first of them: of several labels a row each."""
    import torch

    from snowmelt import pictures
    from snowmelt.data.images import write
    from snowmelt.restoration import generated
    from snowmelt.training.progress import Bar

    rows = granted.shown(_ACROSS) if len(granted.labels) > 1 else [range(min(_SHOWN, granted.number))]
    wanted = {i for row in rows for i in row}
    made: dict[int, Tensor] = {}
    done = 0
    settings: dict[str, Any] = {"seed": seed, "sampler": walk, "noise": noise, "batch": _BATCH, "conditions": granted.conditions}
    batches: Iterator[Tensor] = generated(granted.model, granted.number, **settings)
    with Bar("sampling", granted.number, unit="pictures") as bar:
        for x in batches:
            for i, picture in enumerate(x, start=done):
                write(out / f"sample_{i:04d}.png", picture)
                if i in wanted:
                    made[i] = picture
            done += len(x)
            bar.advance(len(x))
    if len(rows) == 1:
        sheet = pictures.show(torch.stack([made[i] for i in rows[0]]), samples=8)
    else:
        columns = [torch.stack([made[i] for i in column]) for column in zip(*rows, strict=True)]
        sheet = pictures.strip(columns, [""] * len(columns), rows=granted.labels)
    pictures.save(out / "grid.png", sheet)


def _write_strip(granted: "Granted", walk: "Sampler", out: Path, seed: int, noise: float | None, steps: int) -> None:
    """A row for every two samples, at most eight; what the first of them was to show is shown all along."""
    import torch

    from snowmelt import pictures
    from snowmelt.restoration import interpolate
    from snowmelt.training.progress import Bar

    rows = max(min(granted.number // 2, _MOST_ROWS), 1)
    made = []
    with Bar("interpolating", rows * steps, unit="pictures") as bar:
        for row in range(rows):
            pair = (2 * row, 2 * row + 1)
            same = {name: value[[pair[0]]].expand(steps, *value.shape[1:]) for name, value in granted.conditions.items()}
            settings: dict[str, Any] = {"seed": seed, "pair": pair, "sampler": walk, "noise": noise, "conditions": same}
            made.append(interpolate(granted.model, steps, **settings).cpu())
            bar.advance(steps)
    frames = list(torch.stack(made).unbind(1))
    pictures.save(out / "interpolation.png", pictures.strip(frames, [f"{i / (steps - 1):.2g}" for i in range(steps)]))
