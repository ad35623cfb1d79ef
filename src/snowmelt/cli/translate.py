"""``snowmelt translate``: pictures of one kind turned into pictures of another."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from snowmelt.cli.errors import say
from snowmelt.cli.machine import HERE, OnMachine, Switch
from snowmelt.cli.playing import OnAnimation, playing
from snowmelt.cli.shares import joined, share_of


def translate(
    *inputs: Path,
    model: Path,
    out: Path,
    endpoint: Literal["estimated", "fixed"] = "estimated",
    fast: Switch = False,
    steps: int | None = None,
    noise: float | None = None,
    size: int | None = None,
    trajectory: Annotated[Switch, Parameter(name=("--trajectory", "--save-trajectory"))] = False,
    animation: OnAnimation = None,
    shard: str | None = None,
    seed: int = 0,
    overwrite: Switch = False,
    strict: Switch = False,
    batch: int = 1,
    max_pixels: int = 100_000_000,
    machine: OnMachine = HERE,
) -> int:
    """Turn pictures of one kind into pictures of another, with a model of morph: those it was given as --endpoint into those of its --data.

    Results appear as they finish, and the same command goes on where it was stopped. A picture that cannot be translated is
    named, in OUT/errors.jsonl too, and left out, and the others are translated. The exit code is then 1; but damaged files
    are only counted, unless they were given by name, nothing else was there or --strict is given.

    Args:
        inputs: pictures, and folders of pictures.
        model: the directory that 'snowmelt train --degradation morph --out' wrote.
        out: the folder to write to; names and sub-folders stay.
        endpoint: estimated solves the picture to come from anew at every step; fixed keeps the one that was given.
        fast: few calls: the copy that 'snowmelt tune RUN' made for them.
        steps: calls of the restorer; by default 12, or with --fast those of the copy.
        noise: standard deviation of the noise added to each picture, on [-1, 1]; by default that of the training.
        size: side in px of the results; by default that of the training pictures.
        trajectory: keep every x_t, estimate and endpoint as PNG and npz, with a strip and an animation.
        animation: as what it is animated.
        shard: i/n, the i-th of n shares of the work, for several machines or jobs; results are the same.
        seed: of the noise: another one, another answer.
        overwrite: replace files that are already there.
        strict: end with exit code 1 also where all that is left out are damaged files.
        batch: pictures that share a call: faster for small ones; last digits then depend on who shares it.
        max_pixels: refuse larger pictures.
        machine: where to compute.
    """
    if not inputs:
        raise ValueError("translate needs pictures: snowmelt translate INPUT... --model RUN --out DIR")
    played = playing(animation, kept=trajectory)
    where = machine.prepare()
    from snowmelt.cli.restore import summary
    from snowmelt.cli.walks import Calls
    from snowmelt.restoration import translate_folder

    share = share_of(shard)
    tally = translate_folder(
        inputs,
        model=Calls(fast=fast).opened(model),
        out=out,
        endpoint=endpoint,
        steps=steps,
        noise=noise,
        size=size,
        seed=seed,
        overwrite=overwrite,
        save_trajectory=trajectory,
        animation=played,
        shard=share,
        batch=batch,
        max_pixels=max_pixels,
        device=where,
        bar=True,
        say=say,
    )
    joined(tally, inputs, out, "translated")
    return summary(tally, inputs, out, "translated", strict=strict)
