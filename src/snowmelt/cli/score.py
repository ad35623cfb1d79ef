"""``snowmelt evaluate`` and ``snowmelt demo``: how good a model is, in numbers and pictures."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch


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
    bits_per_dim: Switch = False,
    steps: int | None = None,
    out: Path | None = None,
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
        bits_per_dim: instead bound the bits per dimension of the test pictures, into bound.md: for noise and operators that end in it; no
            other path has them.
        steps: of the chain whose bits are counted; by default as many as its schedule has knots, or 1,000.
        out: where to write evaluation.md, its pictures and report.html; by default the run directory, or RUN/PART.
        machine: where to compute.
    """
    for name, value, least in (("images", images, 1), ("generate", generate, 2), ("steps", steps, 1)):
        if value is not None and value < least:
            raise ValueError(f"--{name} {value} lies under {least}")
    others = {"--features": features, "--generate": generate, "--handed": handed or None, "--input": input}
    beside = [name for name, value in others.items() if value is not None]
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
    report = runs.evaluate(run, path=data, images=images, out=out, part=part, device=where, **asked)
    print(report.markdown())
    print(f"wrote {(out or (run / part if part else run)) / 'report.html'}")


def demo(
    *,
    out: Path = Path("runs/demo"),
    quick: Switch = False,
    fresh: Switch = False,
    machine: OnMachine = HERE,
) -> None:
    """Restore damaged photographs with the model in the package, then train a small restorer of digits and write a report.

    Args:
        out: the run directory.
        quick: a few seconds of training, in OUT-quick; its pictures convince nobody.
        fresh: start over.
        machine: where to compute.
    """
    where = machine.prepare()
    from snowmelt.recipes.demo import demo as show
    from snowmelt.recipes.demo import opening
    from snowmelt.recipes.report import OPENING

    out = out.with_name(f"{out.name}-quick") if quick else out  # beside a demo in full, not in its place
    print("Photographs the shipped model has never seen, damaged and restored:")
    for title, (before, after) in opening(out).items():
        print(f"  {title:24} {before:5.1f} dB -> {after:5.1f} dB")
    print(f"open {out / OPENING}\nNow a training, live: digits, blurred until nobody can read them.")
    report = show(out, quick=quick, fresh=fresh, device=where)
    print(report.markdown())
    print(f"open {out / 'report.html'}")
