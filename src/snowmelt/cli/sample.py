"""``snowmelt sample``: new pictures from a model that has a prior."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from snowmelt import processes
from snowmelt.cli.machine import HERE, Compile, OnMachine, Switch, compiling
from snowmelt.cli.shares import in_turn, share_of, summed
from snowmelt.cli.walks import ITS_OWN, OnCalls
from snowmelt.cli.wishes import NONE, OnWish

if TYPE_CHECKING:
    from snowmelt.cli.walks import Calls
    from snowmelt.cli.wishes import Granted
    from snowmelt.restoration import Sampled
    from snowmelt.restoration.identity import Opened
    from snowmelt.restoration.walks import Walk
    from snowmelt.samplers import Sampler

_SHOWN = 64
_MOST_ROWS = 8
_ACROSS = 8
_FRAMES = 5


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
    after: Annotated[Path | None, Parameter(name="--continue")] = None,
    prior: str | None = None,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    shard: str | None = None,
    batch: int | None = None,
    npz: Switch = False,
    overwrite: Switch = False,
    wish: OnWish = NONE,
    compile: Compile = False,
    machine: OnMachine = HERE,
) -> None:
    """Generate new pictures from the model's prior, walking from t = 1 to t = 0.

    Pictures appear as they are made, and the same command goes on where it was stopped.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        out: the folder for the pictures, sample_0000.png and so on, and grid.png; may be left out with --prior alone. A model of sound writes
            sample_0000.wav and so on, and also grid.html, to listen to all of them; a model of scans sample_0000.bin, points as KITTI has them.
        number: how many; by default 16, or 8 for each of several labels; with --continue 5.
        calls: how many calls of the restorer.
        seed: of the prior and of samplers that draw; picture i depends on the seed and i alone.
        noise: another standard deviation, on [-1, 1], of the white noise that breaks the symmetry of x at t = 1; 0 leaves it perfect.
        interpolate: also interpolation.png: rows of so many pictures on the way from sample 0 to 1, from 2 to 3, and so on.
        after: a LiDAR scan to go on from, for models that were trained with --data.endpoint previous: the next frame is made from it, the one after
            from that, and so on. Writes 0001.bin and so on, strip.png, birds-eye.png and frames.gif.
        prior: first fit this prior, such as gaussian-mixture:components=4,grid=2, to the run's training pictures, and save it in the model.
        data: with --prior, where the data lie now, if not where the recipe says.
        shard: i/n, the i-th of n shares of the work, for several machines or jobs with one --out; pictures are the same.
        batch: pictures computed together; by default what fits in memory and is fast.
        npz: also samples.npz once all are there: one array, arr_0, uint8 (n, h, w, c), which tools that score sets of pictures read;
            of sound and scans float32 (n, c, ...).
        overwrite: delete the pictures that are already there and begin anew; with --continue only frames that an earlier one wrote.
        wish: what they should show.
        compile: whether the network is compiled first.
        machine: where to compute.
    """
    _check(out, number, noise, interpolate, prior, data)
    wish.check()
    _walks(calls)
    where = machine.prepare()
    from snowmelt import registry
    from snowmelt.model import load, located, weights_of
    from snowmelt.priors import GaussianMixture
    from snowmelt.recipes.run import fit_prior
    from snowmelt.restoration.identity import Opened
    from snowmelt.restoration.sampling import begun, check
    from snowmelt.samplers import Sampler, default_walk

    if after is not None and out is not None:
        _alone(shard=shard, interpolate=interpolate, prior=prior, batch=batch, npz=npz or None, wish=None if wish == NONE else wish)
        place = calls.place(run)
        opened = Opened(load(place).to(where), Path(place).name, weights_of(located(place)))
        compiling(opened.model, compile)
        _go_on(opened, after, out, number or _FRAMES, calls.walk(opened.model), seed=seed, noise=noise, overwrite=overwrite)
        return
    share = share_of(shard)
    if out is not None:
        check(out, number or 1, (1, 1) if shard is None else share, batch, overwrite=overwrite)
    place = calls.place(run)
    model = load(place) if prior is None else in_turn(lambda: fit_prior(place, prior, path=data), lambda: load(place))
    compiling(model, compile)
    if prior is not None and model.prior is not None:
        held = f"; its grid holds {model.prior.explained:.1%} of the variance of x_1" if isinstance(model.prior, GaussianMixture) else ""
        print(f"saved the prior {registry.spec(model.prior)} in {place}{held}")
    if out is None:
        return
    granted = wish.granted(model, number)
    granted = granted._replace(model=granted.model.to(where))
    asked = calls.walk(model)
    walk = asked if isinstance(asked, Sampler) else default_walk(model)
    options: dict[str, Any] = {"sampler": walk, "seed": seed, "noise": noise, "conditions": granted.conditions, "said": granted.said}
    options |= {"n": granted.number, "shard": share, "batch": batch, "device": where}
    begin = functools.partial(begun, Opened(granted.model, str(place), weights_of(located(place))), out, **options)
    made = in_turn(lambda: begin(overwrite=overwrite), begin).run(bar=True)
    done, there = summed(made.done, made.kept)
    if not processes.here().first:
        return
    also = _further(made, granted, npz=npz)
    if interpolate is not None and share[0] == 1:
        _write_strip(granted, walk, out, seed, noise, interpolate)
        also += ", interpolation.png"
    kept = f"; {there:,} already there" if there else ""
    print(f"wrote {done:,} {model.signal.one if done == 1 else model.signal.many}{also} to {out} ({made.sampler}, {made.batch} at a time){kept}")


def _alone(**others: object) -> None:
    """Refuse what means nothing for the next frames of one scan."""
    for name, value in others.items():
        if value is not None:
            flag = "what it should show" if name == "wish" else f"--{name}"
            raise ValueError(f"--continue makes the next frames of one scan, one after the other, and has no use for {flag}: leave it out")


def _go_on(model: "Opened", after: Path, out: Path, number: int, walk: "Walk", **how: Any) -> None:
    """Write the frames after a scan."""
    from snowmelt.restoration.continuation import roll_out

    if not processes.here().first:
        return
    also = roll_out(model, after, out, number, sampler=walk, **how)
    print(f"wrote {number:,} frame{'' if number == 1 else 's'} after {after}, {', '.join(also)} to {out}")


def _walks(calls: "Calls") -> None:
    """Refuse what contradicts itself, and one call, which makes no pictures of its own."""
    calls.check()
    if calls.faithful:
        raise ValueError(
            "--faithful is one call, and from the prior that is the mean of all pictures that could be meant, a blur of them: "
            "leave it out, or take --best or --fast (--sampler naive --steps 1 shows that mean)"
        )


def _check(out: Path | None, number: int | None, noise: float | None, interpolate: int | None, prior: str | None, data: str | None) -> None:
    """Refuse what could not be done, before anything is loaded."""
    if number is not None and number < 1:
        raise ValueError(f"--number {number} lies under 1")
    if noise is not None and not 0 <= noise <= 1:
        raise ValueError(f"--noise {noise:g} lies outside [0, 1]")
    if interpolate is not None and interpolate < 2:
        raise ValueError(f"--interpolate {interpolate} lies under 2: a row has at least its two ends")
    if data is not None and prior is None:
        raise ValueError("--data says where the pictures are that a prior is fitted to: add --prior, or leave it out")
    if out is None and prior is None:
        raise ValueError("--out is missing: give a folder for the pictures")


def _further(made: "Sampled", granted: "Granted", *, npz: bool) -> str:
    """What is made of the pictures once all of them are there, whichever share was the last; its names, for the message."""
    if missing := made.missing():
        return f" ({missing:,} of {made.number:,} are still to be made by other shares)"
    from snowmelt.restoration.sheet import write_sheets

    rows = granted.shown(_ACROSS) if len(granted.labels) > 1 else [range(min(_SHOWN, granted.number))]
    also = ", ".join(write_sheets(made, rows, granted.labels))
    if not npz:
        return f", {also}"
    from snowmelt.restoration.sampling import pack

    pack(made)
    return f", {also}, samples.npz"


def _write_strip(granted: "Granted", walk: "Sampler", out: Path, seed: int, noise: float | None, steps: int) -> None:
    """A row for every two samples, at most eight; what the first of them was to show is shown all along."""
    import torch

    from snowmelt import pictures
    from snowmelt.restoration import interpolate
    from snowmelt.training.progress import Bar

    rows = max(min(granted.number // 2, _MOST_ROWS), 1)
    made = []
    signal = granted.model.signal
    with Bar("interpolating", rows * steps, unit=signal.many) as bar:
        for row in range(rows):
            pair = (2 * row, 2 * row + 1)
            same = {name: value[[pair[0]]].expand(steps, *value.shape[1:]) for name, value in granted.conditions.items()}
            settings: dict[str, Any] = {"seed": seed, "pair": pair, "sampler": walk, "noise": noise, "conditions": same}
            made.append(interpolate(granted.model, steps, **settings).cpu())
            bar.advance(steps)
    frames = list(torch.stack(made).unbind(1))
    pictures.save(out / "interpolation.png", pictures.strip(frames, [f"{i / (steps - 1):.2g}" for i in range(steps)], signal=signal))
