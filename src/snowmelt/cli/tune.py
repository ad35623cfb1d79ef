"""``snowmelt tune``: a copy of a finished run that needs few calls."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch


def tune(
    run: Path,
    /,
    *,
    gap: float = 0.94,
    images: int | None = None,
    lr: float | None = None,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    out: Path | None = None,
    fresh: Switch = False,
    machine: OnMachine = HERE,
) -> None:
    """Tune a copy of a finished run so that one or two calls do what its walks of many do; restore and sample take it with --fast.

    The run itself stays as it is. The same command goes on where it stopped.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        gap: how far estimates are pulled towards those of clean pictures, in [0.01, 0.99]: 0.94 suits two calls, 0.97 one, 0.75 eight.
        images: to see in all; by default 500 steps for each stage, in which the gap grows from 1/2.
        lr: peak learning rate; by default a twentieth of the run's.
        data: where the pictures lie now, if not where the recipe says.
        out: the directory for the copy; by default RUN/fast, where --fast finds it.
        fresh: start over, deleting an earlier copy.
        machine: where to compute.
    """
    if images is not None and images < 1:
        raise ValueError(f"--images {images} lies under 1")
    where = machine.prepare()
    from snowmelt.recipes import tuning

    model = tuning.tune(run, gap, images=images, lr=lr, path=data, out=out, fresh=fresh, device=where)
    place, most = out or run / tuning.FAST, model.most_calls
    print(f"tuned {run} for walks of {most} call{'s' if most != 1 else ''}; the copy is in {place}. Next:")
    where_to = f"{run} --fast" if out is None else str(out)
    print(f"  snowmelt {f'sample {where_to} -n 16' if model.prior is not None else f'restore PICTURES --severity 1 --model {where_to}'} --out new")
    if out is None:  # the curve compares a run with the copy in it
        print(f"  snowmelt evaluate {run} --curve")
