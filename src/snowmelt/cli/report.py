"""``snowmelt report``: one page of a run, from what there is of it."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine


def report(
    run: Path,
    /,
    *,
    out: Path | None = None,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    machine: OnMachine = HERE,
) -> None:
    """Write a page of a run: what it is, how it trains, a walk to move through, what it scored, recipe and machine.

    One HTML file that asks the network for nothing. It trains and evaluates nothing, changes nothing of the run, and may be called while
    the run is training.

    Args:
        run: the directory that 'snowmelt train --out' writes.
        out: the file to write; by default RUN/report.html, in place of that of the last evaluation, whose numbers it holds too.
        data: where the data lie now, if not where the recipe says.
        machine: where to compute the walk that is shown.
    """
    where = machine.prepare()
    from snowmelt.recipes.overview import overview

    page = overview(run, out=out, path=data, device=where)
    for line in page.lacks:
        print(f"snowmelt: {line}", file=sys.stderr)
    if page.shows:
        print(f"snowmelt: the page shows samples of {', '.join(page.shows)}, as the run's recipe names them", file=sys.stderr)
    print(f"wrote {page.path} ({page.path.stat().st_size / 1e6:.1f} MB), one file for any browser: {page.path.resolve().as_uri()}")
