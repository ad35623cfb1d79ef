"""``snowmelt edit``: your own pictures, degraded as far as you like and made anew; or a hole in them filled."""

from pathlib import Path

from snowmelt.cli.machine import HERE, OnMachine, Switch
from snowmelt.cli.wishes import NONE, OnWish


def edit(
    run: Path,
    /,
    *inputs: Path,
    out: Path,
    severity: float | None = None,
    mask: Path | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    again: int = 1,
    size: int | None = None,
    seed: int = 0,
    overwrite: Switch = False,
    wish: OnWish = NONE,
    machine: OnMachine = HERE,
) -> int:
    """Degrade your own pictures to a severity of your choice and walk back: the rest is made anew, as the training pictures have it.

    With --mask, what is white in it is made anew and all else stays to the last bit, which takes a model of noise. First, pictures
    take the model's channels and, unless --size says otherwise, its size, and lose their transparency.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        inputs: pictures, and folders of pictures.
        out: the folder to write to; names and sub-folders stay. edit-sheet.png shows the first of them before, degraded and after.
        severity: in (0, 1]: how much is made anew; .3 touches up, .8 keeps the coarse. With a mask 1, holes start as noise alone.
        mask: a picture that is white where something is to be made anew, or a folder of such, one for each picture.
        sampler: which walk, as a spec such as ancestral:eta=1; by default that of the degradation, with a mask that of DDPM.
        steps: calls of the restorer.
        again: how often every move of the walk is made (RePaint): each lets what is made anew and what is there agree, at as many times the cost.
        size: side in px that pictures are resized to; by default that of the training pictures.
        seed: of all draws: another one, another picture.
        overwrite: replace files that are already there.
        wish: what they should show; several labels are shared out over the pictures in order.
        machine: where to compute.
    """
    if not inputs:
        raise ValueError("edit needs pictures: snowmelt edit RUN PICTURE... --severity .6 --out DIR")
    if severity is None and mask is None:
        raise ValueError("how much is to be made anew? Give --severity in (0, 1], or --mask for a hole that is to be filled")
    if not 1 <= again <= 1000:
        raise ValueError(f"--again {again} lies outside [1, 1000]")
    wish.check()
    where = machine.prepare()
    import torch

    from snowmelt.cli.gather import Gathering, Given, stacked_masks
    from snowmelt.cli.walks import walk_of
    from snowmelt.model import load
    from snowmelt.randomness import generator
    from snowmelt.restoration.editing import CALLS, check, editing
    from snowmelt.restoration.plan import require_pictures
    from snowmelt.restoration.walks import within
    from snowmelt.samplers import Ancestral

    if severity is not None:
        within(severity)
    model = load(run)
    require_pictures(model.signal, inputs, "edit")
    check(model.degradation, masked=mask is not None)
    gathering = Gathering(inputs, out, model, "edit", "editing", mask, size, overwrite=overwrite)
    granted = wish.granted(model, max(len(gathering.plan.jobs), 1), given=True)
    whole = granted.model.to(where)
    ancestral = sampler is None and (mask is not None or again > 1)
    walk = Ancestral(steps=steps or CALLS, snap=model.degradation.knots is not None) if ancestral else walk_of(sampler, steps, model)

    def do(group: list[Given]) -> dict[str, torch.Tensor]:
        x, masks = torch.stack([one.x for one in group]), stacked_masks(group)
        rows = torch.tensor([one.number for one in group])
        z = {name: value[rows].to(where) for name, value in granted.conditions.items()}
        draws = [generator(seed, f"edit/{one.job.key}") for one in group]
        known = None if masks is None else masks.to(where)
        states = editing(whole, x.to(where), severity, mask=known, sampler=walk, again=again, z=z, generator=draws)
        first = next(states)
        *_, last = states
        return {"before": x, "degraded": first.x, "after": last.x}

    level = 1.0 if severity is None else severity
    gathering.each(do, {"edited by": run.resolve().name, "severity": level, "again": again, "seed": seed, **granted.said})
    return gathering.finish("edited")
