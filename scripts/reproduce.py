"""Reproduce a row: train a recipe, evaluate it, keep what came of it under docs/reproductions/, and write the pages there.

    python scripts/reproduce.py mnist-four --data DIR     # DIR holds the data sets under the names that the recipes use: DIR/mnist, DIR/faces, ...
    python scripts/reproduce.py                           # only the pages

Everything resumes: a training goes on where it stopped, and a part that has been evaluated is not evaluated again unless --again is given.
No figure on the pages is typed by hand, but those of the paper.
"""

import argparse
import json
import math
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from snowmelt import pictures
from snowmelt.data.options import PREVIOUS
from snowmelt.data.sources import open_data
from snowmelt.degradations import Choice, Degradation, Morph
from snowmelt.evaluation import BEST, Report
from snowmelt.evaluation.bits import Bits
from snowmelt.evaluation.curve import NAME as CURVE
from snowmelt.evaluation.methods import compared
from snowmelt.evaluation.report import generated_rows, walk_rows
from snowmelt.evaluation.scoring import MEASUREMENT
from snowmelt.files import write_text
from snowmelt.metrics import measures_for
from snowmelt.model import Model, alone, weights_of
from snowmelt.pictures import markdown_table, sheets
from snowmelt.priors.base import Learned
from snowmelt.recipes import curving, tuning
from snowmelt.recipes import run as runs
from snowmelt.recipes.recipe import Recipe, from_table, load, merged, presets
from snowmelt.recipes.report import environment
from snowmelt.restoration import generate, guided, interpolate, translation
from snowmelt.restoration.comparing import compare
from snowmelt.signals import PICTURE, Picture

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "reproductions"
REPORT = "evaluation.json"
BITS = "bound.json"
CURVED = ("mnist-blur", "fashion-blur", "cifar10-blur")  # tuned for few calls too, and measured against calls
FIGURES = {
    "grid.png": "Degraded, Direct, Sampled, Clean",
    "trajectory.png": "The estimate at each call",
    "curve.svg": "RMSE against the distance of sets, over the number of calls",
    "severity.svg": "Error per severity",
    "birds-eye.png": "From above",
    "worst.png": "The pictures that one call restores worst",
    "median.png": "The pictures in the middle",
    "generated.png": "Generated",
    "nearest.png": "Generated, beside the nearest training picture",
    "walks.png": "Walks that generate, one a row; a column is one start",
    "classes.png": "Asked for class by class, at the largest scale of guidance above",
    "bound.svg": "What each step of the chain costs",
    "calls.svg": "Every measure against the number of calls",
    "perfect.png": "Perfect symmetry: the prior's few numbers, and the noise floor where the model has one",
    "broken.png": "Broken symmetry: the same starts, with white noise on them",
    "interpolation.png": "From one draw of the prior to another, the noise held",
    "translated.png": "Given, the estimates on the way of a walk that estimates its endpoint, its end, and the end where the endpoint is fixed",
    "loss.svg": "Loss against images seen",
}
HEAVY = ("trajectory.png", "worst.png", "median.png", "nearest.png")  # of sound and scans; the run's own report has them
SOLVED = {"fashion-flow": ("pixelate:levels=2", "gaussian-blur:sigma_px=2", "mask")}
UNPUBLISHED = ("demo", "photo-base", "photo")  # the photo model has a page of its own
LONG = 100  # knots from which a walk of all of them is pending
SHOWN = 64
PER_CLASS = 8
SEED = 0


def reproduce(row: str, data: Path, out: Path, *, again: bool, images: int | None) -> None:
    """Train, evaluate and keep one row."""
    table = load(row)
    paths = {name: str(data / path) for name, path in table["data"].items() if name in ("path", "endpoint") and path != PREVIOUS}
    recipe = from_table(merged(table, {"data": paths}), where=row)
    model = runs.train(recipe, out)
    kept = KEPT / row
    for operator in SOLVED.get(row, ()):
        _solve(model, recipe, operator, out, kept, again=again)
    for part in _parts(model.degradation):
        place, to = (out / part, kept / part) if part else (out, kept)
        if again or _stale(place / REPORT, out, images or recipe.evaluation.images):
            runs.evaluate(out, part=part, images=images, **(_options(alone(model, part).degradation) if part else {}))
        _show(model, recipe, place)
        if row in CURVED:
            tuning.tune(out)
            curving.curve(out, part=part, images=images)
        _keep(place, to, without=("loss.svg",) if part else ())
    shutil.copyfile((out / part if part else out) / "loss.svg", kept / "loss.svg")  # one training, one curve


def _solve(model: Model, recipe: Recipe, operator: str, run: Path, kept: Path, *, again: bool) -> None:
    """What a model of noise makes of an operator it was never trained for, in every way."""
    file = kept / f"solve-{operator.partition(':')[0]}.json"
    if file.is_file() and not again:
        return
    found = compare(model, operator, open_data(recipe.data, "test"), open_data(recipe.data, "train"), seed=SEED)
    facts = {**found.facts, "weights": weights_of(run)[:12], **environment()}
    write_text(file, json.dumps({"operator": operator, "rows": found.rows, "facts": facts}, indent=2) + "\n")
    pictures.save(file.with_suffix(".png"), pictures.grid(found.shown))


def _solved(name: str) -> list[str]:
    """The tables of one row."""
    out = []
    for file in sorted((KEPT / name).glob("solve-*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        facts = "; ".join(f"{key}: {value}" for key, value in found["facts"].items())
        table = markdown_table(found["rows"], best={MEASUREMENT: "low"})
        picture = f"![The clean picture, and what every way makes of it]({name}/{file.stem}.png)"
        out.append(f"## Without training: {found['operator']}\n\n{table}\n*{facts}.*\n\n{picture}\n")
    return out


def _stale(report: Path, run: Path, images: int) -> bool:
    """Whether a run's weights, or how many pictures are asked for, are no longer those of an evaluation."""
    if not report.is_file():
        return True
    found = Report.read(report)
    facts = found.facts
    seen, there = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+\d|\d", facts[f"test {found.signal.many}"])[:2])
    return facts.get("weights") != weights_of(run)[:12] or seen != min(images, there)


def _parts(degradation: Degradation) -> list[str | None]:
    return list(degradation.names) if isinstance(degradation, Choice) else [None]


def _options(degradation: Degradation) -> dict[str, Any]:
    """The walks of a part of a choice: the paper's two algorithms on all T knots, unless they are many, and on a quarter of them with ours beside."""
    knots = degradation.knots
    if knots is None:
        return {}
    few = math.ceil(knots / 4)
    walks = [f"{walk},steps={n}" for n in ((few,) if knots > LONG else (knots, few)) for walk in ("naive:order=1", "tacos:order=1")]
    walks.append(f"tacos:order=2,steps={few}")
    return {"samplers": tuple(f"{walk},snap=true" for walk in walks)}


def _show(model: Model, recipe: Recipe, place: Path) -> None:
    """Pictures that an evaluation does not make: what the prior gives, what a picture turns into."""
    if model.signal != PICTURE:
        return
    if model.prior is not None and recipe.evaluation.generate and not (place / "interpolation.png").is_file():
        walk = recipe.evaluation.walk or "default"
        for name, noise in (("perfect", 0.0), ("broken", None)) if isinstance(model.prior, Learned) else ():
            made = generate(model, SHOWN, sampler=walk, seed=SEED, noise=noise)
            pictures.save(place / f"{name}.png", pictures.show(made, samples=SHOWN))
        frames = [interpolate(model, 8, seed=SEED, pair=(2 * i, 2 * i + 1), sampler=walk) for i in range(4)]
        pictures.save(place / "interpolation.png", pictures.strip(list(torch.stack(frames).unbind(1)), [""] * 8))
    scales, classes = recipe.evaluation.guidance, model.notes.get("classes", [])
    if scales and not (place / "classes.png").is_file():
        labels = torch.arange(len(classes)).repeat_interleave(PER_CLASS)
        made = generate(guided(model, scales[-1]), len(labels), sampler=recipe.evaluation.walk or "default", seed=SEED, conditions={"label": labels})
        rows = list(made.unflatten(0, (len(classes), PER_CLASS)).unbind(1))
        pictures.save(place / "classes.png", pictures.strip(rows, [""] * PER_CLASS, rows=classes))
    if isinstance(model.degradation, Morph) and not (place / "translated.png").is_file():
        given = open_data(recipe.data, "test").batch(range(8))["endpoint"]
        states = list(translation(model, given, steps=model.degradation.knots or 50))
        chosen = sheets.evenly(states[1:], 6)
        *_, kept = translation(model, given, endpoint="fixed", steps=model.degradation.knots or 50)
        frames = [given, *(state.x0 for state in chosen if state.x0 is not None), states[-1].x, kept.x]
        labels = ["given", *(sheets.severity_label(state.t) for state in chosen), "estimated", "fixed"]
        pictures.save(place / "translated.png", pictures.strip(frames, labels))


def _keep(place: Path, kept: Path, *, without: Collection[str] = ()) -> None:
    """Copy what an evaluation left."""
    kept.mkdir(parents=True, exist_ok=True)
    light = Report.read(place / REPORT).signal != Picture  # spectrograms and strips are large, and drawn in few colours
    for file in (REPORT, BITS, CURVE, *FIGURES):
        if file in without or not (place / file).is_file() or (light and file in HEAVY):
            continue
        if light and file.endswith(".png"):
            with Image.open(place / file) as image:
                image.convert("RGB").quantize(64).save(kept / file, optimize=True)
        else:
            shutil.copyfile(place / file, kept / file)


# --- the pages -------------------------------------------------------------------------------------------------------


INTRODUCTION = """# Reproductions

What snowmelt's recipes score, and beside them what Bansal et al. 2022 (arXiv 2208.09392) printed. Every number comes from a recipe in
`src/snowmelt/recipes/` by one command,

```
make reproduce ROW=mnist-four DATA=data
```

where `DATA` is a folder that holds the data sets under the names the recipes use (`data/mnist`, `data/faces`, ...). It trains, evaluates, keeps
what came of it here and writes these pages; it goes on where it was stopped. Rows that have not been run are *pending*, and listed at the end.

The paper's networks have 36 to 57 million weights and saw 44.8 million pictures on accelerators; each page here states the pictures seen, the
minutes and the device. So what can be compared is *methods in one harness*, at equal networks, pictures seen and hardware.
{doc}`../evaluate` explains every column.
"""
FAIR = """The same network, told which damage it is (and nothing of where a mask or flakes are), trained three times on equally many pictures.
*Paper, cut short*: its loss (L1), target, rate, average and sampler, 3,125 steps of its 700,000; at its small rate that is the beginning of a
training, not its end, and not to be read as the paper's result. *Paper, our optimiser*: its loss, target and sampler with a rate, warm-up and
average that get as far as the pictures allow; the one to compare with. *Ours*: the squared error, a residual target, order 2 at a quarter of the
calls. Rows in italics stand beside the comparison: a walk through snow is handed the flakes that fell, which nobody could know of a stranger's
picture; a walk of all 200 steps of the snow is pending."""
HOT = """Small networks, one core, some minutes each; the page of a row has its pictures, and says how many pictures were seen. Every walk of
a row starts from the same draws of the prior. Distances compare at equal N and equal features only; the row of training pictures is what real
pictures score. Bits per dimension are upper bounds for the row's model, whatever walks through it; of rows with guidance, given the label.
{doc}`../hot` explains the choices."""
FOUR = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
CHOICES = {
    "bansal2022-{}-four": "paper, cut short",
    "{}-four-l1": "paper, our optimiser",
    "{}-four": "ours",
}
TASKS = {"recursive-blur": "deblur", "fade-mask": "inpaint", "resample": "super-resolution", "snow": "snow"}
PAPER = {
    ("mnist", ""): "table 1, 56.6 M parameters, 9,999 test pictures: Degraded RMSE .287; Direct RMSE .142; Algorithm 2, 20 calls: RMSE .154",
    ("mnist", "recursive-blur"): "Degraded RMSE .287; Direct RMSE .142, SSIM .757; Algorithm 2, 20 calls: RMSE .154, SSIM .718",
    ("mnist", "fade-mask"): "Degraded RMSE .262, SSIM .490; Direct RMSE .060, SSIM .948; Algorithm 2, 50 calls: RMSE .068, SSIM .941",
    ("cifar10", "recursive-blur"): "Degraded RMSE .136, SSIM .315; Direct RMSE .071, SSIM .775; Algorithm 2, 50 calls: RMSE .075, SSIM .773",
    ("cifar10", "fade-mask"): "Degraded RMSE .143, SSIM .615; Direct RMSE .063, SSIM .869; Algorithm 2, 50 calls: RMSE .068, SSIM .859",
    ("cifar10", "resample"): "Degraded RMSE .146, SSIM .279 (plain means); Direct RMSE .152, SSIM .420; Algorithm 2, 3 calls: RMSE .155, SSIM .411",
    ("mnist", "resample"): "Degraded RMSE .231, SSIM .178 (plain means); Direct RMSE .114, SSIM .823; Algorithm 2, 3 calls: RMSE .115, SSIM .820",
}


def pages() -> dict[str, str]:
    """The index and one page for every row that has been kept, by file name."""
    there = [name for name in presets() if name not in UNPUBLISHED and any((KEPT / name).glob(f"**/{REPORT}"))]
    pending = [f"| `{name}` | {_about(name)} |" for name in presets() if name not in (*UNPUBLISHED, *there)]
    heard = [f"## Sound and LiDAR\n\n{SIGNALS}\n\n{table}"] if (table := signals()) else []
    parts = [INTRODUCTION, *heard, *_generators(), *(_four(data) for data in FOUR), *_algorithms()]
    parts.append("## All rows\n\n" + "\n".join(f"- {{doc}}`{name}`: {_about(name)}" for name in there) + "\n")
    if pending:
        table = "\n".join(["| row | what it is |", "| :--- | :--- |", *pending])
        parts.append(f"## Pending\n\nNot run, so there are no numbers. The command is the same.\n\n{table}\n")
    parts.append("```{toctree}\n:hidden:\n\n" + "\n".join(there) + "\n```\n")
    return {"index.md": "\n".join(parts), **{f"{name}.md": page(name) for name in there}}


def page(name: str) -> str:
    """The page of one row."""
    recipe = from_table(load(name), where=name)
    out = [f"# {name}\n\n{_about(name)}.\n\n```\nmake reproduce ROW={name} DATA=data\n```\n"]
    if (KEPT / name / REPORT).is_file():
        out += [f"The paper printed: {PAPER[_data(name), '']}.\n"] if "deblur" in name and (_data(name), "") in PAPER else []
        out.append(_section(name, Report.read(KEPT / name / REPORT)))
    for folder in sorted(path.parent.name for path in (KEPT / name).glob(f"*/{REPORT}")):
        paper = PAPER.get((_data(name), folder))
        out.append(f"## {TASKS.get(folder, folder)}\n")
        out += [f"The paper printed: {paper}.\n"] if paper else []
        out.append(_section(f"{name}/{folder}", Report.read(KEPT / name / folder / REPORT)))
    out += _solved(name)
    loss = KEPT / name / "loss.svg"
    if loss.is_file() and not (KEPT / name / REPORT).is_file():
        out.append(f"![{FIGURES['loss.svg']}]({name}/loss.svg)\n")
    out.append(f"The recipe: `{recipe.degradation}`.\n")
    return "\n".join(out)


def _section(place: str, report: Report) -> str:
    """Verdict, tables, facts and pictures of one evaluation."""
    order = sorted(report.inputs(), key=lambda name: name != report.main)
    many = report.signal.many
    tables = [report.comparison(name) for name in order]  # under the heading that the run's own report has
    made = [f"Generated {many}:\n\n{markdown_table(generated_rows(report.generated))}"] if report.generated else []
    made += [f"Walks that generate, beside each other:\n\n{markdown_table(walk_rows(report.walks), mark=False)}"] if report.walks else []
    if (KEPT / place / BITS).is_file():
        bits = Bits.read(KEPT / place / BITS)
        made.append(f"{bits.headline()}\n\n{markdown_table(bits.rows(), mark=False)}")
    facts = "; ".join(f"{key}: {value}" for key, value in report.facts.items() if key != "degradation")
    shown = [f"![{words}]({place}/{file})\n" for file, words in FIGURES.items() if (KEPT / place / file).is_file()]
    said = dict.fromkeys([*report.verdict, *report.generated.get("verdict", [])])
    return "\n".join([" ".join(said) + "\n", *tables, *made, f"*{facts}.*\n", *shown])


SIGNALS = """Recordings of spoken digits by a speaker whom no training heard, and LiDAR scans of a drive apart: small networks, some
minutes of one core each, one seed, 95 % intervals on the pages. *Without a network* is the best classical method of the row by that
measure, tuned on validation samples; *Direct* is one call; *Sampled* the best walk of the row, and so a little flattered. Of `kitti-next`,
*Degraded* is the last frame again."""
SHOWN_OF = {"sound": ("si_sdr", "lsd"), "scan": ("mae_m", "rmse_m", "chamfer_m")}
CHINESE = ("条目", "指标", "退化 Degraded", "不用网络", "一次调用 Direct", "轨迹 Sampled")
READMES = {"README.md": (), "README.zh.md": CHINESE}  # the words over the table of signals; the names of methods are those of the reports


def signals(*, measures: int | None = None, heads: Sequence[str] = ()) -> str:
    """What sound and scans score, every measure (or the first so many) a row, under `heads` if given; empty where nothing has been kept."""
    rows = []
    for path in sorted(KEPT.glob(f"*/{REPORT}")):
        report = Report.read(path)
        signal = report.signal()
        if signal == PICTURE or report.generated:
            continue
        found = [row for row in report.of(report.main) if compared(row)]
        for column in measures_for(signal).columns:
            if column.name not in SHOWN_OF[signal.name][:measures]:
                continue
            sign = 1 if column.better == "high" else -1
            cells: dict[str, Any] = {"row": path.parent.name, "measure": f"{column.header} {'↑' if sign > 0 else '↓'}"}
            for title, kind in (("Degraded", "degraded"), ("without a network", "filter"), ("Direct", "direct"), ("Sampled", "walk")):
                known = [row for row in found if row["kind"] == kind and isinstance(row.get(column.name), float)]
                best = max(known, key=lambda row: sign * row[column.name], default=None)
                cells[title] = "–" if best is None else f"{best[column.name]:.3g}" + (f" ({best['method']})" if kind == "filter" else "")
            rows.append(cells)
    table: str = markdown_table([dict(zip(heads or row, row.values(), strict=True)) for row in rows], mark=False) if rows else ""
    return table


def _generators() -> list[str]:
    """Walks that generate, of all rows that compare some, one table for each kind of features."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(KEPT.glob(f"*/{REPORT}")):
        report, row = Report.read(path), path.parent.name
        name = next((one for walk in report.walks for one in walk if one.startswith("FD-")), None)
        bits = Bits.read(path.with_name(BITS)) if path.with_name(BITS).is_file() else None
        for walk in report.walks if name else []:
            floor = walk["method"].startswith("Floor")
            if floor and any(known["row"] == "–" and known["N"] == walk["N"] for known in found.get(str(name), [])):
                continue
            cells = {"row": "–" if floor else row, "walk": walk["method"], "calls": walk["calls"], "guidance": walk.get("guidance", math.nan)}
            sure = tuple(walk["intervals"].get(name, ())) or "–"
            cells |= {"N": walk["N"], str(name): walk.get(name, math.nan), "95 %": sure, "recall": walk.get("recall", math.nan)}
            cells |= {"label accuracy": walk.get("label accuracy", math.nan), "bits/dim": math.nan if floor or bits is None else bits.best.total}
            found.setdefault(str(name), []).append(cells)
    tables = [f"### {name}\n\n{markdown_table(sorted(rows, key=lambda one: one['row'] == '–'), mark=False)}" for name, rows in sorted(found.items())]
    return ["\n".join([f"## The hot family: walks that generate\n\n{HOT}\n", _few_calls(found), *tables])] if tables else []


def _few_calls(found: dict[str, list[dict[str, Any]]]) -> str:
    """In how many rows 12 calls of order 2 come closer than 50 of DDIM."""
    pairs = []
    for name, rows in found.items():
        by_row: dict[str, dict[tuple[str, int], float]] = {}
        for one in rows:
            by_row.setdefault(one["row"], {})[one["walk"], one["calls"]] = one[name]
        pairs += [(w["DDIM, order 2", 12], w["DDIM", 50]) for w in by_row.values() if {("DDIM, order 2", 12), ("DDIM", 50)} <= w.keys()]
    fewer = sum(few < many for few, many in pairs)
    return f"12 calls of order 2 have the lower distance than 50 of DDIM in {fewer} of the {len(pairs)} rows that have both.\n" if pairs else ""


def _four(data: str) -> str:
    """One table for each kind of damage: what every method makes of it."""
    parts = [f"## {FOUR[data]}: one network, four kinds of damage\n\n{FAIR}\n"]
    for task in TASKS:
        rows, apart, sentence = _compared(data, task)
        if not rows:
            continue
        paper = PAPER.get((data, task))
        parts.append(f"### {TASKS[task]}\n\n{markdown_table(rows, best=BEST, apart=apart)}")
        parts += [f"The paper printed: {paper}.\n"] if paper else []
        parts += [sentence + "\n"] if sentence else []
    return "\n".join(parts if len(parts) > 1 else [*parts, "*Pending.*\n"])


def _compared(data: str, task: str) -> tuple[list[dict[str, Any]], list[int], str]:
    """The rows of the three trainings side by side, which of them stand beside the comparison, and what the others say."""
    found = {pattern: _report(pattern.format(data), task) for pattern in CHOICES}
    kept = [report for report in found.values() if report is not None]
    if not kept:
        return [], [], ""
    rows, apart = [_cells("–", _row(kept[0], "degraded"))], []
    best: dict[str, dict[str, Any]] = {}
    for pattern, words in CHOICES.items():
        report = found[pattern]
        if report is None:
            rows.append({"training": words, "method": "pending"})
            continue
        walks = [row for row in report.of(report.main) if row["kind"] in ("walk", "handed")]
        most = max(row["calls"] for row in walks)
        ours = pattern == "{}-four"
        chosen = [row for row in walks if ("order 2" in row["method"]) == ours and "Algorithm 2" in row["method"] and (ours or row["calls"] == most)]
        for row in (_row(report, "direct"), *chosen):
            apart += [] if compared(row) else [len(rows)]
            rows.append(_cells(words, row))
        best[pattern] = {"direct": _row(report, "direct"), "walk": chosen[0]}
    floor = next((row for row in kept[0].of(kept[0].main) if row["kind"] == "floor"), None)
    if floor:
        apart.append(len(rows))
        rows.append(_cells("–", floor))
    return rows, apart, _gate(best)


def _gate(best: dict[str, dict[str, Any]]) -> str:
    """Ours at a quarter of the calls against the better of the paper's two rows; one call alone where walks are handed the draw."""
    if len(best) < len(CHOICES):
        return ""
    *theirs, ours = (best[pattern] for pattern in CHOICES)
    said, fair = [], compared(ours["walk"])
    walked = "walk" if fair else "direct"
    for name, kind in (("FD", walked), ("rmse", "direct"), ("measurement error", walked)):
        mine, others = _value(ours[kind], name), [value for one in theirs if (value := _value(one[kind], name)) is not None]
        if mine is None or not others or min(others) <= 0:
            continue
        change = mine / min(others) - 1
        what = {"FD": "the distance of sets", "rmse": "the RMSE of one call"}.get(name, f"the {name}")
        said.append(f"{what} is {abs(change):.0%} {'lower' if change < 0 else 'higher'}")
    few = ours["walk"]["calls"]
    calls = f"{few} call{'s' if few > 1 else ''} against {theirs[0]['walk']['calls']}" if fair else "one call each"
    return f"Ours against the better of the paper's two rows ({calls}): {'; '.join(said)}."


def _algorithms() -> list[str]:
    """Algorithm 1 against Algorithm 2, wherever both were run with as many calls."""
    rows = []
    for path in sorted(KEPT.glob(f"**/{REPORT}")):
        report = Report.read(path)
        walks = {(row["method"], row["calls"]): row for row in report.of(report.main) if row.get("kind") in ("walk", "handed")}
        for (method, calls), one in walks.items():
            two = walks.get((method.replace("Algorithm 1 (naive)", "Algorithm 2 (TACoS)"), calls))
            if method.startswith("Algorithm 1") and two is not None and calls > 1:
                distance = next((name for name in report.distances() if name.startswith("FD")), None)
                where = path.parent.relative_to(KEPT).as_posix() + ("" if compared(one) else ", handed the draw")
                row = {"row": where, "input": report.main, "calls": calls, "RMSE, Algorithm 1": one["rmse"], "RMSE, Algorithm 2": two["rmse"]}
                if distance is not None:
                    row |= {"FD, Algorithm 1": one[distance], "FD, Algorithm 2": two[distance]}
                rows.append({name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()})
    if not rows:
        return []
    words = "The paper shows their difference in pictures and gives no numbers. These are the ends of the walks, x at t = 0."
    return [f"## Algorithm 1 against Algorithm 2\n\n{words}\n\n{markdown_table(rows, mark=False)}"]


def _cells(training: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of the comparison."""
    named = {name: row[name] for name in row if name.startswith(("FD-", "KID-"))}
    plain = {name: row[name] for name in ("rmse", "ssim", "measurement error", "label accuracy") if isinstance(row.get(name), float)}
    return {"training": training, "method": row["method"], "calls": row["calls"], **plain, **named}


def _value(row: dict[str, Any], name: str) -> float | None:
    """A measure of a row, a distance under whatever features it was computed."""
    return next((float(value) for key, value in row.items() if (key == name or key.startswith(f"{name}-")) and isinstance(value, float)), None)


def _row(report: Report, kind: str) -> dict[str, Any]:
    return next(row for row in report.of(report.main) if row["kind"] == kind)


def _report(name: str, part: str) -> Report | None:
    path = KEPT / name / part / REPORT
    return Report.read(path) if path.is_file() else None


def _data(name: str) -> str:
    return next((data for data, _ in PAPER if data in name), "")


def _about(name: str) -> str:
    recipe = from_table(load(name), where=name)
    return recipe.about or recipe.degradation


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", nargs="?", help="the name of a recipe; without one, only the pages are written")
    parser.add_argument("--data", type=Path, default=Path("data"), help="a folder that holds the data sets")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where trainings are kept")
    parser.add_argument("--images", type=int, help="test pictures, if not as many as the recipe says")
    parser.add_argument("--again", action="store_true", help="evaluate again what has been evaluated")
    options = parser.parse_args()
    if options.row is not None:
        if options.row not in presets():
            parser.error(f"there is no recipe {options.row}: {', '.join(presets())}")
        reproduce(options.row, options.data, options.runs / options.row, again=options.again, images=options.images)
    for name, text in pages().items():
        (KEPT / name).write_text(text, encoding="utf-8")
    for readme, heads in ((ROOT / name, heads) for name, heads in READMES.items()):
        table = signals(measures=1, heads=heads).strip()
        readme.write_text(pictures.between_markers(readme.read_text(encoding="utf-8"), "signals", table), encoding="utf-8")
    import calls_page  # beside this script

    calls_page.main()


if __name__ == "__main__":
    main()
