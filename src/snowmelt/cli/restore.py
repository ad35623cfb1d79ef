"""``snowmelt restore``: files that are already degraded, made clean; with ``--degrade``, clean ones there and back."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from snowmelt import processes
from snowmelt.cli.errors import say
from snowmelt.cli.machine import HERE, Compile, OnMachine, Switch, compiling
from snowmelt.cli.playing import OnAnimation, playing
from snowmelt.cli.shares import Counts, joined, share_of
from snowmelt.cli.speaking import shown
from snowmelt.cli.walks import ITS_OWN, OnCalls

_LISTED = 5
_CLUSTER = Group.create_ordered("Cluster")
_TABLE = ".parquet"

if TYPE_CHECKING:
    from collections.abc import Mapping

    from snowmelt.restoration import Tally
    from snowmelt.restoration.cluster import Cluster
    from snowmelt.restoration.plan import Job, Kind


def restore(
    *inputs: Path,
    model: str = "photo",
    out: Path | None = None,
    severity: float | None = None,
    strength: str | None = None,
    degrade: Switch = False,
    calls: OnCalls = ITS_OWN,
    mask: Path | None = None,
    samples: int = 1,
    consistent: bool | None = None,
    enlarge: int = 1,
    colour: Switch = False,
    anyway: Switch = False,
    preview: int | None = None,
    shard: str | None = None,
    save_trajectory: Switch = False,
    animation: OnAnimation = None,
    seed: int = 0,
    overwrite: Switch = False,
    strict: Switch = False,
    tile: int | None = None,
    batch: int | Literal["auto"] = 1,
    max_pixels: int = 100_000_000,
    engine: Annotated[Literal["local", "ray"], Parameter(group=_CLUSTER)] = "local",
    workers: Annotated[int | None, Parameter(group=_CLUSTER, show_default=False)] = None,
    compile: Compile = False,
    machine: OnMachine = HERE,
) -> int:
    """Restore pictures that are already degraded, in the way the model was trained for; with a model of sound or of scans, those.

    Results appear as they finish, and the same command goes on where it was stopped. A picture that cannot be restored is
    named, in OUT/errors.jsonl too, and left out, and the others are restored. The exit code is then 1; but damaged files, which every
    large folder has, are only counted, unless they were given by name, nothing else was there or --strict is given.

    Args:
        inputs: pictures, and folders of pictures; recordings (.wav, .flac) or LiDAR scans (.bin, .npy) of a model of these.
        model: the directory that 'snowmelt train --out' wrote, or the name of a model that comes with snowmelt.
        out: the folder to write to; names and sub-folders stay. Without it, a single picture becomes NAME-restored beside itself. That of a single
            recording or scan may also be the file itself, such as clean.wav.
        severity: how degraded the pictures are, in [0, 1]: 1 is the strongest that the model knows.
        strength: the same in the operator's own units, sigma_px=3 for instance ('snowmelt describe' lists them).
        degrade: the pictures are clean: degrade them first, to severity 1 unless told, and score the result.
        calls: how many calls of the restorer.
        mask: a picture that is white where the damage is, or a folder of such, one for each picture.
        samples: restorations a picture; more than one tell where not to trust it: OUT/uncertainty/NAME, and OUT/mean/NAME.
        consistent: whether the result, degraded again, has to agree with the picture.
        enlarge: 2 doubles height and width, for models that learned it, as photo did.
        colour: let pictures without colour get some.
        anyway: restore also pictures that look clean, and those the model is unsure of.
        preview: restore only this many, spread evenly, onto a sheet; say how long all would take, and stop.
        shard: i/n, the i-th of n shares of the work, for several machines or jobs; results are the same.
        save_trajectory: keep every x_t and x0_hat as PNG and npz, with a strip and an animation.
        animation: as what it is animated.
        seed: of what is random.
        overwrite: replace files that are already there.
        strict: end with exit code 1 also where all that is left out are damaged files.
        tile: side in px of the tiles that large pictures are cut into.
        batch: pictures of one size that share a call, or auto, as many as fit: faster for small ones; last digits then depend on who shares it.
        max_pixels: refuse larger pictures.
        engine: ray hands the files out to workers, of the cluster at RAY_ADDRESS or else of this machine; the results are those of
            one process with as many --threads (1 unless told). It also takes .parquet tables with a column of pictures, and writes such.
        workers: how many with --engine ray; by default one for every CPU, or for every --threads of them.
        compile: whether the network is compiled first.
        machine: where to compute.
    """
    _agree(inputs, severity, strength, engine)
    played = playing(animation, kept=save_trajectory)
    calls.check()
    given = {"--preview": preview is not None, "--shard": shard is not None, "--compile": compile}
    _agree_on_engine(engine, workers, inputs, out, given)
    where = machine.prepare()
    cluster = _cluster(workers, machine.threads) if engine == "ray" else None
    from snowmelt.cli.strength import severity_of, unknown_severity
    from snowmelt.degradations import Mixture
    from snowmelt.degradations.scan import Dropping
    from snowmelt.restoration import restore_folder
    from snowmelt.restoration.plan import kind_of, require_kind

    share = share_of(shard)
    if preview is not None:  # a sheet is no work to share: it is the first process's alone
        if not processes.here().first:
            return 0
        share = (1, 1)
    found = calls.opened(model)
    require_kind(inputs, kind_of(found.model.signal))
    compiling(found.model, compile)
    if strength is not None:
        severity = severity_of(found.model.degradation, strength)
    if severity is None and not degrade and found.model.estimator is None and not isinstance(found.model.degradation, Mixture | Dropping):
        raise ValueError(unknown_severity(found.model.degradation, found.model.signal.many))
    walk, together = calls.walk(found.model), None if batch == "auto" else batch
    options: dict[str, Any] = {"model": found, "severity": severity, "sampler": walk, "seed": seed, "overwrite": overwrite, "tile": tile}
    options |= {"consistent": consistent, "enlarge": enlarge, "colour": colour, "anyway": anyway, "batch": together, "max_pixels": max_pixels}
    options |= {"device": where, "cluster": cluster, "bar": True, "say": say}
    if cluster is not None and out is not None and _holds_tables(inputs, out, kind_of(found.model.signal)):
        kept = {"--mask": mask is not None, "--samples": samples > 1, "--save-trajectory": save_trajectory, "--degrade": degrade}
        return _restore_tables(inputs, out, kept, options, strict=strict)
    tally = restore_folder(
        inputs,
        out=out,
        degrade=degrade,
        save_trajectory=save_trajectory,
        animation=played,
        shard=share,
        preview=preview,
        mask=mask,
        samples=samples,
        finished=_tell if len(inputs) > 1 or inputs[0].is_dir() else _tell_all,
        **options,
    )
    if preview is None:
        joined(tally, inputs, out, "restored")
    return summary(tally, inputs, out, strict=strict)


def _tell_all(job: "Job", entry: dict[str, Any]) -> None:
    """What is known of a single picture."""
    if said := [entry[key] for key in ("damage", "spared") if key in entry]:
        print(shown(f"{job.name}: {'; '.join(said)}"))  # a progress bar stands between this and stdout
    _tell(job, entry)


def _tell(job: "Job", entry: dict[str, Any]) -> None:
    if "restored_psnr_db" in entry:
        print(shown(f"{job.name}: degraded {entry['degraded_psnr_db']:.2f} dB, restored {entry['restored_psnr_db']:.2f} dB"))
        return
    for name in [key.removeprefix("degraded_") for key in entry if key.startswith("degraded_") and key.replace("degraded", "restored", 1) in entry]:
        before, after = entry[f"degraded_{name}"], entry[f"restored_{name}"]
        what, unit = (name.removesuffix("_db"), " dB") if name.endswith("_db") else (name, "")
        print(shown(f"{job.name}: {what.replace('_', '-')} degraded {before:.4g}{unit}, restored {after:.4g}{unit}"))


def summary(tally: "Tally", inputs: tuple[Path, ...], out: Path | None, done: str = "restored", *, strict: bool = False) -> int:
    """Say what became of the pictures of all shares, in exact numbers; the exit code."""
    n = Counts.of(tally) if tally.preview is None else Counts.alone(tally)
    code = 1 if n.failed > (0 if strict or n.broken == n.total else n.broken) else 0
    if tally.preview is not None:
        for failure in tally.failed:
            say(f"left out {failure.source}: {failure.reason}")
        print(f"{tally.preview} ({tally.how}); {tally.preview.shown} of them on {tally.preview.path}")
        return code
    place = inputs[0].parent if out is None else out.parent if out.is_file() else out
    count = partial(_count, kind=tally.kind)
    if not processes.here().first:
        return code
    if n.greyed:
        say(f"{count(n.greyed)} in colour turned grey: the model was trained on grey ones")
    if n.kept:
        other = f", {n.elsewise:,} of them {done} with other settings" if n.elsewise else ""
        say(f"{count(n.kept)} already in {place} and left alone{other}: --overwrite replaces what is there")
    for sentence, number in zip(tally.sentences, n.remarks, strict=True):
        if number:
            text = sentence.format(n=count(number))
            for several, single in (("have", "has"), ("are", "is"), ("were", "was")):
                text = text.replace(f" {several} ", f" {single} ", number == 1)
            say(text)
    unsure = "is unlike what the model knows, or too hard to judge"
    for left, of_all, why in ((tally.clean, n.clean, "looks clean"), (tally.unsure, n.unsure, unsure)):
        for source in left[:_LISTED]:
            say(f"{source} {why}, and is left as it is: --anyway restores it all the same")
        if more := of_all - min(len(left), _LISTED):
            say(f"so {'are' if more > 1 else 'is'} {more:,} more; restored.jsonl lists all of them")
    kept = f"; {n.kept:,} already there" if n.kept else ""
    kept += f"; {n.clean:,} clean and {n.unsure:,} unsure, left as they are" if n.clean or n.unsure else ""
    listed = "" if tally.errors is None else f", listed in {tally.errors}"
    failed = f"; {n.failed:,} failed{listed}" if n.failed else ""
    into = str(out) if out is not None else tally.last.name if tally.last else str(place)
    print(f"{done} {count(n.done)} of {n.total:,} into {into}{f' ({tally.how})' if n.done else ''}{kept}{failed}")
    if tally.pace is not None and tally.pace.pictures > 1:
        print(tally.pace)
    return code


def _count(n: int, kind: "Kind") -> str:
    return f"{n:,} {kind.one if n == 1 else kind.many}"


def _agree(inputs: tuple[Path, ...], severity: float | None, strength: str | None, engine: str) -> None:
    """Refuse what contradicts itself before anything is loaded."""
    if not inputs:
        raise ValueError("restore needs pictures: snowmelt restore INPUT... [--model RUN] [--out DIR]")  # or recordings, or scans
    if severity is not None and strength is not None:
        raise ValueError("--severity and --strength say the same thing: give one of them")
    tables = [one for one in inputs if one.suffix.lower() == _TABLE and not one.is_dir()]
    if tables and engine != "ray":
        raise ValueError(f"{tables[0]} is a table of pictures, which a cluster takes, also one of this machine alone: add --engine ray")


def _agree_on_engine(engine: str, workers: int | None, inputs: tuple[Path, ...], out: Path | None, given: "Mapping[str, bool]") -> None:
    """Refuse what the engine cannot do, before anything is loaded."""
    if engine != "ray":
        if workers is not None:
            raise ValueError(f"--workers {workers} is for --engine ray: add it, or leave --workers out (torchrun starts processes without Ray)")
        return
    if asked := next((name for name, there in given.items() if there), None):
        raise ValueError(f"{asked} is for --engine local: a cluster shares out all of the work, and compiles nothing; leave one of the two out")
    if not processes.here().alone:
        raise ValueError("torchrun has started several processes, and --engine ray would share out what they share already: leave one of the two out")
    if out is None or out.is_file() or (len(inputs) == 1 and inputs[0].is_file() and inputs[0].suffix.lower() != _TABLE):
        raise ValueError("--engine ray restores folders into a folder: give it one, with --out DIR; a single file needs no cluster")


def _cluster(workers: int | None, threads: int | None) -> "Cluster":
    from snowmelt.restoration.cluster import Cluster, required

    required()
    return Cluster(workers, 1 if threads is None else threads)


def _holds_tables(inputs: tuple[Path, ...], out: Path, kind: "Kind") -> bool:
    from snowmelt.restoration.tables import holds_tables

    return holds_tables(inputs, out, kind, say)


def _restore_tables(inputs: tuple[Path, ...], out: Path, given: "Mapping[str, bool]", options: dict[str, Any], *, strict: bool) -> int:
    """Tables of pictures, by a cluster."""
    if asked := next((name for name, there in given.items() if there), None):
        raise ValueError(f"{asked} writes or reads further files for every picture, and rows of a table have none: leave it out")
    from snowmelt.restoration.tables import restore_tables

    tally = restore_tables(inputs, out=out, **options)
    return summary(tally, inputs, out, strict=strict)
