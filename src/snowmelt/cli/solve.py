"""``snowmelt solve``: pictures that an operator degraded, restored by a model of noise that has never seen it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from snowmelt.cli.machine import HERE, OnMachine, Switch
from snowmelt.cli.wishes import NONE, OnWish, Wish

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from snowmelt.degradations import Degradation

_IMAGES = 64


def solve(
    run: Path,
    /,
    *inputs: Path,
    operator: str | None = None,
    severity: float = 1.0,
    method: Literal["ddnm", "diffpir", "pigdm", "dps"] | None = None,
    noise: float = 0.0,
    mask: Path | None = None,
    strength: float | None = None,
    variance: float | None = None,
    degrade: Switch = False,
    compare: Switch = False,
    data: Annotated[str | None, Parameter(name=("--data.path", "--data"))] = None,
    images: int | None = None,
    out: Path | None = None,
    sampler: str = "default",
    steps: int | None = None,
    size: int | None = None,
    seed: int = 0,
    overwrite: Switch = False,
    wish: OnWish = NONE,
    machine: OnMachine = HERE,
) -> int:
    """Restore what a known linear operator left, with a model of noise that has never seen it; or compare all ways to do so in one table.

    Args:
        run: the directory that 'snowmelt train --degradation noise --out' wrote.
        inputs: pictures that are already degraded, and folders of them; none with --compare.
        operator: what degraded them, as a spec: pixelate:levels=2, gaussian-blur:sigma_px=2, grey; with --mask, holes.
        severity: of the operator, in [0, 1].
        method: by default pigdm; it and dps go back through the network, at two to three times the cost of ddnm and diffpir.
        noise: standard deviation of the noise in the pictures, on [-1, 1].
        mask: a picture that is white where the damage is, or a folder of such, one for each picture.
        strength: multiplies the shift of pigdm; lambda of diffpir, zeta of dps; by default 1.
        variance: of the data, on [-1, 1], as pigdm supposes it; by default 1.
        degrade: the pictures are clean: degrade them first.
        compare: take the run's test pictures, degrade them, restore them by all methods, and print the table.
        data: with --compare, where the data lie now, if not where the recipe says.
        images: with --compare, how many test pictures; by default 64.
        out: the folder to write to; by default, with --compare alone, RUN/solve. solve-sheet.png shows the first pictures.
        sampler: the walk, as a spec; by default that of DDPM at 100 calls.
        steps: calls of the restorer.
        size: side in px that pictures are resized to; by default that of the training pictures where these are clean, else none.
        seed: of all draws.
        overwrite: replace files that are already there.
        wish: what the pictures show, as far as it is known; several labels are shared out over them in order.
        machine: where to compute.
    """
    operator = _operator(inputs, operator, mask, data, images, compare=compare, degrade=degrade)
    wish.check()
    if compare:
        _check_compare({"method": method, "strength": strength, "variance": variance, "size": size}, wish, out or run / "solve", overwrite=overwrite)
    where = machine.prepare()
    import dataclasses

    from snowmelt import registry
    from snowmelt.model import load
    from snowmelt.restoration.measurement import check_operator
    from snowmelt.restoration.plan import require_pictures
    from snowmelt.restoration.solving import check_model, walk_for

    model, built = load(run), registry.build(operator)
    require_pictures(model.signal, inputs, "solve")
    check_model(model)
    check_operator(built)
    walk = walk_for(sampler)
    walk = dataclasses.replace(walk, steps=walk.steps if steps is None else steps, snap=walk.snap or model.degradation.knots is not None)
    options: dict[str, Any] = {"noise": noise, "sampler": walk}
    if compare:
        return _compare(run, model, built, severity, options, data, images or _IMAGES, seed, out or run / "solve", where)
    if out is None:
        raise ValueError("--out is missing: give a folder for the pictures")
    if not degrade:
        _check_drawn(built, masked=mask is not None)
    method = method or "pigdm"
    options |= {"method": method, "strength": 1.0 if strength is None else strength, "variance": 1.0 if variance is None else variance}
    from snowmelt.cli.gather import Gathering, Given, stacked_masks

    gathering = Gathering(inputs, out, model, "solve", "restoring", mask, size, as_is=not degrade, overwrite=overwrite)
    granted = wish.granted(model, max(len(gathering.plan.jobs), 1), given=True)
    whole = granted.model.to(where)

    def do(group: list[Given]) -> dict[str, "torch.Tensor"]:
        rows = [one.number for one in group]
        told = {name: value[rows] for name, value in granted.conditions.items()}
        return _solved(whole, built, severity, {**options, "conditions": told}, group, stacked_masks(group), seed, where, degrade=degrade)

    note = {"solved by": run.resolve().name, "operator": registry.spec(built), "t": severity, "method": method, "noise": noise, "seed": seed}
    note |= granted.said
    gathering.each(do, note)
    return gathering.finish("restored")


def _operator(
    inputs: tuple[Path, ...], operator: str | None, mask: Path | None, data: str | None, images: int | None, *, compare: bool, degrade: bool
) -> str:
    """The operator's spec; refuses what contradicts itself before anything is loaded."""
    if compare and (inputs or mask is not None or degrade):
        raise ValueError("--compare takes the run's own test pictures: leave pictures, --mask and --degrade out")
    if not compare and not inputs:
        raise ValueError("solve needs pictures: snowmelt solve RUN PICTURE... --operator SPEC --out DIR, or --compare for a table")
    if not compare and (data is not None or images is not None):
        raise ValueError("--data and --images choose what --compare is measured on: add --compare, or leave them out")
    if images is not None and images < 1:
        raise ValueError(f"--images {images} lies under 1")
    if operator is None and mask is None:
        raise ValueError("what degraded the pictures? Give --operator SPEC, such as pixelate:levels=2, or --mask FILE for holes")
    return operator or "holes"


def _check_compare(given: "Mapping[str, object]", wish: "Wish", out: Path, *, overwrite: bool) -> None:
    """Refuse what --compare would not heed, and files that it would replace."""
    strange = next((name for name, value in given.items() if value is not None), None)
    if strange is not None:
        raise ValueError(f"--compare tries all methods on the training's pictures, each as it is by default: leave --{strange} out")
    if wish != NONE:
        raise ValueError("--compare tells the model nothing of its pictures: leave conditions and guidance out")
    old = next((path for path in (out / f"solve.{ending}" for ending in ("json", "md", "png")) if path.exists()), None)
    if old is not None and not overwrite:
        raise ValueError(f"{old} exists: choose another --out, or add --overwrite")


def _check_drawn(operator: "Degradation", *, masked: bool) -> None:
    """Refuse pictures of strangers where the operator has a draw that nobody told."""
    from snowmelt import registry
    from snowmelt.samplers import entries

    masks = {name for name in operator.given if name.rpartition(".")[2] == "mask"}
    missing = sorted(entries(operator).keys() - (masks if masked else set()))
    if missing:
        way = "add --mask FILE, or --degrade" if set(missing) == masks else "only pictures that --degrade degrades can be restored from it"
        raise ValueError(f"{registry.spec(operator)} cannot be undone while its {', '.join(missing)} is unknown: {way}")


def _solved(
    model: Any,
    operator: "Degradation",
    t: float,
    options: dict[str, Any],
    group: list[Any],
    masks: "torch.Tensor | None",
    seed: int,
    where: str,
    *,
    degrade: bool,
) -> dict[str, "torch.Tensor"]:
    """Pictures of one size, and what became of them."""
    import torch

    from snowmelt.randomness import generator, normal
    from snowmelt.restoration import solve as restored
    from snowmelt.types import severity as severities

    x = torch.stack([one.x for one in group])
    z = dict(operator.draw(x, [generator(seed, f"solve-operator/{one.job.key}") for one in group])) if degrade else {}
    if masks is not None:
        name = next((name for name in operator.given if name.rpartition(".")[2] == "mask"), None)
        if name is None:
            raise ValueError("a mask is of no use to this operator, which is given none: leave --mask out, or take holes")
        z[name] = masks
    y = x
    if degrade:
        y = operator(x, severities(t, x), z)
        y = y + options["noise"] * normal(y, [generator(seed, f"solve-noise/{one.job.key}") for one in group])
    draws = [generator(seed, f"solve/{one.job.key}") for one in group]
    there = {name: value.to(where) for name, value in z.items()}
    out = restored(model, y.to(where), operator, t=t, z=there, generator=draws, **options)
    return {**({"before": x} if degrade else {}), "degraded": y, "after": out}


def _compare(
    run: Path,
    model: Any,
    operator: "Degradation",
    t: float,
    options: dict[str, Any],
    data: str | None,
    images: int,
    seed: int,
    out: Path,
    where: str,
) -> int:
    """The table of all methods, printed and written."""
    from snowmelt.data.sources import open_data
    from snowmelt.recipes.directory import stored
    from snowmelt.recipes.run import with_path
    from snowmelt.restoration.comparing import compare, work
    from snowmelt.training.progress import Bar

    recipe = with_path(stored(run), data)
    test, train = open_data(recipe.data, "test"), open_data(recipe.data, "train")
    images = min(images, len(test))
    with Bar("comparing", work(operator, images, test.shape, noise=options["noise"]), unit="pictures") as bar:
        found = compare(model, operator, test, train, t=t, images=images, seed=seed, device=where, tick=bar.advance, **options)
    found.write(out)
    print(found.markdown())
    print(f"wrote solve.md, solve.json and solve.png to {out}")
    return 0
