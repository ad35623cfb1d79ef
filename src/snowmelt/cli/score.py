"""``snowmelt evaluate`` and ``snowmelt demo``: how good a model is, in numbers and pictures."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch


def evaluate(
    run: Path,
    /,
    *,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    images: int | None = None,
    out: Path | None = None,
    machine: OnMachine = HERE,
) -> None:
    """Score a trained model on pictures it never saw: doing nothing, one call and whole walks, side by side.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        data: where the data lie now, if not where the recipe says.
        images: how many test pictures; by default as many as the recipe says.
        out: where to write evaluation.md, its pictures and report.html; by default the run directory.
        machine: where to compute.
    """
    if images is not None and images < 1:
        raise ValueError(f"--images {images} lies under 1")
    where = machine.prepare()
    from snowmelt.recipes import run as runs

    report = runs.evaluate(run, path=data, images=images, out=out, device=where)
    print(report.markdown())
    print(f"wrote {(out or run) / 'report.html'}")


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
