"""``snowmelt evaluate`` and ``snowmelt demo``: how good a model is, in numbers and pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from snowmelt import processes
from snowmelt.cli.machine import HERE, Compile, OnMachine, Switch


def evaluate(
    run: Path,
    /,
    *,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    images: int | None = None,
    features: str | None = None,
    generate: int | None = None,
    handed: Switch = False,
    input: Literal["float", "8bit"] | None = None,
    part: str | None = None,
    curve: Switch = False,
    calls: str | None = None,
    bits_per_dim: Switch = False,
    steps: int | None = None,
    out: Path | None = None,
    compile: Compile = False,
    machine: OnMachine = HERE,
) -> None:
    """Score a trained model on pictures it never saw: doing nothing, one call and whole walks, side by side.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        data: other data than the recipe's, or where these lie now.
        images: how many test pictures; by default as many as the recipe says.
        features: what sets of pictures (FD, KID) and labels are judged by: mnist-v1, fashion-v1, a directory that 'snowmelt train-features'
            wrote, or a file model.onnx. Without, these are not computed.
        generate: also generate so many pictures from the model's prior, and measure them: 1,000 is a good number.
        handed: also show walks that are handed what nobody could know (noise, flakes of snow), beside the comparison.
        input: only pictures degraded in floating point, or only those rounded to 8 bits; by default as the recipe says, which is both.
        part: of a model of several kinds of damage (choice), the one to undo: snow; by default all of them, mixed as in training.
        curve: instead measure every walk that fits, and the tuned copy RUN/fast, at rising numbers of calls, into curve.md and calls.svg; goes on
            where it was stopped.
        calls: these numbers of calls, with commas: 1,2,8,12,50; by default as the recipe says.
        bits_per_dim: instead bound the bits per dimension of the test pictures, into bound.md: for noise and operators that end in it; no
            other path has them.
        steps: of the chain whose bits are counted; by default as many as its schedule has knots, or 1,000.
        out: where to write evaluation.md, its pictures and report.html; by default the run directory, or RUN/PART.
        compile: whether the network is compiled first; not for --curve and --bits-per-dim, which measure other things.
        machine: where to compute.
    """
    for name, value, least in (("images", images, 1), ("generate", generate, 2), ("steps", steps, 1)):
        if value is not None and value < least:
            raise ValueError(f"--{name} {value} lies under {least}")
    if (curve or bits_per_dim) and not processes.here().alone:
        raise ValueError(f"{'--curve' if curve else '--bits-per-dim'} measures in one process: start it without torchrun, which shares all else")
    if curve:
        others = {"--handed": handed, "--input": input, "--bits-per-dim": bits_per_dim, "--steps": steps}
        _curve(run, data, images, features, generate, part, calls, out, machine, others)
        return
    if calls is not None:
        raise ValueError(f"--calls {calls} are those of the curve: give --curve with it")
    beside_bits = {"--features": features, "--generate": generate, "--handed": handed or None, "--input": input}
    beside = [name for name, value in beside_bits.items() if value is not None]
    if bits_per_dim and beside:
        raise ValueError(f"{beside[0]} has no meaning for --bits-per-dim, which measures the bound and nothing else: give them in two commands")
    if steps is not None and not bits_per_dim:
        raise ValueError(f"--steps {steps} is the length of the chain whose bits are counted: give --bits-per-dim with it")
    where = machine.prepare()
    if bits_per_dim:
        from snowmelt.recipes.run import bits_per_dim as measured

        print(measured(run, path=data, images=images, steps=steps, out=out, part=part, device=where).markdown())
        print(f"wrote {(out or (run / part if part else run)) / 'bound.md'}")
        return
    from snowmelt.recipes import run as runs

    asked = {"features": features, "generate": generate, "handed": handed or None, "inputs": (input,) if input else None}
    report = runs.evaluate(run, path=data, images=images, out=out, part=part, device=where, compiled=compile, **asked)
    print(report.markdown())
    print(f"wrote {(out or (run / part if part else run)) / 'report.html'}")


def _curve(
    run: Path,
    data: str | None,
    images: int | None,
    features: str | None,
    generate: int | None,
    part: str | None,
    calls: str | None,
    out: Path | None,
    machine: OnMachine,
    others: Mapping[str, object],
) -> None:
    """Quality against calls."""
    if beside := next((name for name, value in others.items() if value), None):
        raise ValueError(f"{beside} has no meaning for --curve, which measures walks against calls and nothing else: give them in two commands")
    numbers = None if calls is None else tuple(_number(one) for one in calls.split(","))
    where = machine.prepare()
    from snowmelt.recipes.curving import curve

    asked = {"features": features, "generate": generate, "curve_calls": numbers}
    found = curve(run, path=data, images=images, out=out, part=part, device=where, **asked)
    print(found.markdown())
    place = out or (run / part if part else run)
    print(f"wrote {place / 'curve.md'} and {place / 'calls.svg'}")


def _number(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError(f"--calls: {text!r} is no number of calls: give whole numbers from 1 on with commas, such as 1,2,8,12,50")
    return int(text)


def demo(
    *,
    out: Path | None = None,
    quick: Switch = False,
    fresh: Switch = False,
    machine: OnMachine = HERE,
) -> None:
    """Restore damaged photographs with the model in the package, then train a small restorer of digits and write a report.

    Args:
        out: the run directory; by default runs/demo, with --quick runs/demo-quick, beside a demo in full and not in its place.
        quick: a few seconds of training; its pictures convince nobody.
        fresh: start over.
        machine: where to compute.
    """
    where = machine.prepare()
    from snowmelt.recipes.demo import demo as show
    from snowmelt.recipes.demo import opening
    from snowmelt.recipes.report import OPENING

    out = out if out is not None else Path("runs", "demo-quick" if quick else "demo")
    print("Photographs the shipped model has never seen, damaged and restored:")
    for title, (before, after) in opening(out).items():
        print(f"  {title:24} {before:5.1f} dB -> {after:5.1f} dB")
    print(f"open {out / OPENING}\nNow a training, live: digits, blurred until nobody can read them.")
    print(show(out, quick=quick, fresh=fresh, device=where).summary())
    print(f"\nopen {out / 'report.html'}: all tables, pictures and curves")
