"""``snowmelt restore``: files that are already degraded, made clean; with ``--degrade``, clean ones there and back."""

from pathlib import Path

from snowmelt.cli.machine import HERE, OnMachine, Switch


def restore(
    run: Path,
    /,
    *inputs: Path,
    out: Path,
    severity: float | None = None,
    strength: str | None = None,
    degrade: Switch = False,
    faithful: Switch = False,
    best: Switch = False,
    sampler: str | None = None,
    steps: int | None = None,
    save_trajectory: Switch = False,
    seed: int = 0,
    overwrite: Switch = False,
    machine: OnMachine = HERE,
) -> int:
    """Restore pictures that are already degraded, in the way the model was trained for.

    A file that cannot be read is named and left out; the others are restored, and the exit code is 1.

    Args:
        run: the directory that 'snowmelt train --out' wrote.
        inputs: pictures, and folders of pictures.
        out: the folder to write to; names and sub-folders stay.
        severity: how degraded the pictures are, in [0, 1]: 1 is the strongest that the model knows.
        strength: the same in the operator's own units, sigma_px=3 for instance ('snowmelt describe' lists them).
        degrade: the pictures are clean: degrade them first, to severity 1 unless told, and score the result.
        faithful: one call of the restorer, the smallest error on average.
        best: the walk that suits the degradation, more plausible detail.
        sampler: another walk, as a spec: tacos, naive, ancestral:eta=0.5.
        steps: calls of the restorer in a walk.
        save_trajectory: keep every x_t and x0_hat as PNG and npz, with a strip and an animation.
        seed: of what is random.
        overwrite: replace files that are already in the folder.
        machine: where to compute.
    """
    _agree(inputs, severity, strength, faithful=faithful, best=best, sampler=sampler, steps=steps)
    where = machine.prepare()
    from snowmelt.cli.restoring import Work, plan, run_all
    from snowmelt.cli.strength import severity_of, unknown_severity
    from snowmelt.cli.walks import default_of, walk_of
    from snowmelt.model import load

    model = load(run)
    if strength is not None:
        severity = severity_of(model.degradation, strength)
    if severity is None:
        if not degrade:
            raise ValueError(unknown_severity(model.degradation))
        severity = 1.0
    jobs = plan(inputs, out)
    chosen = best or sampler is not None or steps is not None
    walk = None if faithful else walk_of(sampler, steps, model.degradation) if chosen else default_of(model, knows_draw=degrade)
    work = Work(model.to(where), severity, walk, where, seed=seed, degrade=degrade, trajectory=save_trajectory)
    return run_all(work, jobs, out, run=run, overwrite=overwrite)


def _agree(
    inputs: tuple[Path, ...],
    severity: float | None,
    strength: str | None,
    *,
    faithful: bool,
    best: bool,
    sampler: str | None,
    steps: int | None,
) -> None:
    """Refuse what contradicts itself before anything is loaded."""
    if not inputs:
        raise ValueError("restore needs pictures: snowmelt restore RUN INPUT... --out DIR")
    if severity is not None and strength is not None:
        raise ValueError("--severity and --strength say the same thing: give one of them")
    if severity is not None and not 0 <= severity <= 1:
        raise ValueError(f"severity = {severity:g} lies outside [0, 1]: 0 is a clean picture, 1 the strongest this model has seen")
    if faithful + best + (sampler is not None) > 1:
        raise ValueError("--faithful is one call, --best the default walk, --sampler another walk: give one of them")
    if faithful and steps is not None:
        raise ValueError("--faithful is one call of the restorer: --steps belongs to a walk (--best or --sampler)")
