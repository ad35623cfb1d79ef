"""``snowmelt train``: from a recipe, or from a folder of pictures and the name of a degradation, to a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from snowmelt.cli.errors import say
from snowmelt.cli.machine import HERE, OnMachine, Switch
from snowmelt.cli.overrides import Given, given
from snowmelt.processes import here


def train(
    recipe: str | None = None,
    /,
    *,
    out: Path | None = None,
    degradation: str | None = None,
    pairs: Annotated[tuple[Path, Path] | None, Parameter(negative=())] = None,
    overrides: Given = None,
    dry_run: Switch = False,
    fresh: Switch = False,
    workers: int | None = None,
    allow_inexact: Switch = False,
    track: str = "",
    machine: OnMachine = HERE,
) -> None:
    """Train a restorer: train RECIPE --out RUN, or train --data DIR --degradation SPEC --out RUN.

    Without a recipe, whatever is not given is chosen from the data and printed with the reason. The same command
    on the same run directory goes on where it stopped.

    Several processes share a training where torchrun starts them: torchrun --nproc-per-node 2 -m snowmelt train ...

    Args:
        recipe: a TOML file or the name of a preset ('snowmelt list recipe').
        out: the run directory: gets the model, the resolved recipe, the log and sample pictures.
        degradation: what is to be undone, as a spec: gaussian-blur:sigma_px=4.
        pairs: two folders of pictures with the same names, the clean ones first: short for --data, --endpoint, --data.pairs and
            --degradation morph:schedule=linear.
        dry_run: measure a few steps and draw the degradation; train nothing.
        overrides: fields of the recipe.
        fresh: start over, deleting the run that is there.
        workers: threads that prepare batches while the network works; by default one where there is a GPU, else none.
        allow_inexact: go on with a run also where other last digits come of it: another number of threads, another processor, other shards.
        track: what else follows the run: tensorboard (in RUN/tensorboard), trackio, wandb; several with commas between them.
        machine: where to compute.
    """
    if out is None and not dry_run:
        raise ValueError("train needs a run directory: add --out RUN (or --dry-run, which trains nothing)")
    if workers is not None and workers < 0:
        raise ValueError(f"--workers {workers} lies under 0: leave it out, or give how many threads shall prepare batches")
    where = machine.prepare()
    from snowmelt.data.options import PREVIOUS
    from snowmelt.recipes import run
    from snowmelt.recipes.recipe import from_table
    from snowmelt.signals import PICTURE
    from snowmelt.training import history, tracking
    from snowmelt.training.prior import noise_at_end

    followed = tracking.named(track)
    tracking.require(followed)
    table, reasons = _table(recipe, _with_pairs(given(overrides, degradation=degradation), pairs))
    resolved = from_table(table, where=recipe or "")
    for line in reasons:
        print(line)
    if dry_run:
        _dry_run(resolved, out, where, fresh=fresh)
        return
    assert out is not None  # noqa: S101 - asked above
    there, before = out.exists(), history.read(out)
    try:
        model = run.train(resolved, out, fresh=fresh, device=where, workers=workers, inexact=allow_inexact, track=followed)
    except BaseException:
        if not there and here().first:  # one of several: two would delete what the other deletes
            _leave_nothing(out)
        raise
    seen = resolved.training.steps * resolved.training.step_images  # whole steps, as they are counted
    print(f"trained {seen:,} images of {resolved.data.path}{_waited(out)}; the model is in {out}.")
    for line in _said(before, history.read(out)) if not resolved.training.gap else ():
        print(f"  {line}")
    print("Next:")
    if model.prior is not None:
        labels = " --label all --guidance 1" if "label" in resolved.model.conditions else ""
        print(f"  snowmelt sample {out} -n {40 if labels else 16}{labels} --out new{_again(machine.plugin)}")
    into, files = resolved.data.endpoint, model.signal.many.upper()
    if into == PREVIOUS:
        print(f"  snowmelt sample {out} --continue {model.signal.one.upper()} -n 5 --out next{_again(machine.plugin)}")
    elif model.signal == PICTURE and into is not None and model.degradation.given:
        print(f"  snowmelt translate {into if Path(into).is_dir() else 'PICTURES'} --model {out} --out translated{_again(machine.plugin)}")
    elif model.signal == PICTURE and noise_at_end(model.degradation) is not None:  # at severity 1 nothing of a picture is left to restore
        print(f"  snowmelt edit {out} PICTURES --severity 0.5 --out edited{_again(machine.plugin)}")
    elif model.prior is None:
        print(f"  snowmelt restore {files} --model {out} --severity 1 --out restored{_again(machine.plugin)}")
    print(f"  snowmelt evaluate {out}{_again(machine.plugin)}")


def _said(before: list[dict[str, Any]], lines: list[dict[str, Any]]) -> list[str]:
    """Whether it learned, in words; of what the last validation has just said to the same reader, the verdict alone."""
    from snowmelt.training.learning import words

    verdict, *others = words(lines) or [""]
    if lines != before and any("validation_loss" in line for line in lines):
        first, stop, _ = verdict.partition(". ")
        verdict = f"{first}{stop}".strip()
    return [verdict, *others] if verdict else others


def _with_pairs(asked: dict[str, Any], pairs: tuple[Path, Path] | None) -> dict[str, Any]:
    """What was asked for, with the fields that --pairs CLEAN DEGRADED stands for."""
    if pairs is None:
        return asked
    data = asked.get("data", {})
    if twice := [name for name in ("path", "endpoint") if name in data]:
        raise ValueError(f"--pairs already says what --data.{twice[0]} says: leave one of them out")
    here = {**data, "path": str(pairs[0]), "endpoint": str(pairs[1]), "pairs": True}
    return {"degradation": "morph:schedule=linear", **asked, "data": here}


def _waited(out: Path) -> str:
    """How much of the time the network waited, where the run's log says it."""
    from snowmelt.training import history
    from snowmelt.training.learning import waited

    share = waited(history.read(out))
    return "" if share is None else f" (the network waited for data and degradation {share:.0%} of the time)"


def _leave_nothing(out: Path) -> None:
    """Remove a new run directory in which no training has happened yet."""
    from snowmelt.recipes import directory

    if out.is_dir() and {path.name for path in out.iterdir()} <= {directory.RECIPE}:
        directory.clear(out)
        out.rmdir()


def _again(plugins: Sequence[str]) -> str:
    return "".join(f" --plugin {plugin}" for plugin in plugins)


def _table(recipe: str | None, asked: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The recipe's table with all that was asked for, and the reasons of what was not."""
    from snowmelt.data.options import DataOptions
    from snowmelt.recipes.defaults import suggest
    from snowmelt.recipes.recipe import from_table, load, merged
    from snowmelt.registry import build

    if recipe is not None:
        return merged(load(recipe), asked), []
    if "path" not in asked.get("data", {}) or "degradation" not in asked:
        raise ValueError("train needs a recipe (train RECIPE --out RUN), or --data DIR and --degradation SPEC; 'snowmelt list' shows both")
    from_table({**asked, "data": {**asked["data"], "fit": "resize"}})  # a wrong value is said before any picture is looked at
    D = build(asked["degradation"])
    if any(name.rpartition(".")[2] == "endpoint" for name in D.needs) and "endpoint" not in asked["data"]:
        raise ValueError(
            f"{asked['degradation']} is trained on two sets of pictures: add --endpoint DIR, the pictures that those of --data turn into"
        )
    source = DataOptions(path=asked["data"]["path"], range=asked["data"].get("range"))
    table, reasons = suggest(source, asked["degradation"], asked)
    return merged(table, asked), reasons


def _dry_run(recipe: Any, out: Path | None, device: str, *, fresh: bool) -> None:
    from snowmelt import pictures
    from snowmelt.recipes import directory
    from snowmelt.recipes.dryrun import measure

    if out is not None and not fresh:
        directory.claim(recipe, out, fresh=False)
    found = measure(recipe, device=device)
    print(found.text())
    path = Path("dry-run.png") if out is None else out.parent / f"{out.name}-dry-run.png"
    pictures.save(path, found.strip)
    print(f"degradation  {path}")
    if out is not None and out.is_dir() and any(out.iterdir()) and not fresh:
        say(f"{out} holds a run of this recipe: training would go on from there")
