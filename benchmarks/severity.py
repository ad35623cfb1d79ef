"""How well severities are read from pictures nobody labelled: for every degradation an estimator, fitted and scored on photographs.

    python benchmarks/severity.py --data DIR --out benchmarks/results/severity.json     # goes on where it stopped
    python benchmarks/severity.py --page                                                # writes the tables of docs/severity.md anew

Training photographs fit; the validation photographs are parted, photograph by photograph, into one half that calibrates and one half that is
reported. What is scored: single windows of 64 px, and whole photographs read in at most 16 windows.
"""

import argparse
import json
import platform
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.data.stores import Held
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.pictures import between_markers, markdown_table
from snowmelt.recipes.recipe import load
from snowmelt.recipes.report import environment
from snowmelt.restorers.severity import Estimate, Estimator
from snowmelt.training.severity import Damage, fit

ROOT = Path(__file__).parents[1]
KEPT, PAGE = ROOT / "benchmarks" / "results" / "severity.json", ROOT / "docs" / "severity.md"
SIZE, SEED = 64, 1
WINDOWS, WHOLE = 1024, 256
SPECS = {"compose": "gaussian-blur:sigma_px=2+noise:schedule=ve", "mixture": "photo"}  # those that need parts; "photo" is the recipe's
UNREADABLE = {  # name: why no picture shows its severity
    "choice": "it is one of its parts, each of which is measured by itself",
    "morph": "between two sets of pictures: how far is not a kind of damage",
}


def degradations() -> dict[str, str]:
    """Every registered degradation of pictures and the spec it is measured with."""
    of_pictures = (name for name in registry.names("degradation") if any(f.required for f in registry.schema(name)) or not registry.build(name).takes)
    return {name: SPECS.get(name, name) for name in of_pictures} | {"noise-added": "noise:schedule=ve"}


def main() -> None:
    """Measure what is not yet in --out, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a folder of photographs of one size, larger than 64 px")
    parser.add_argument("--out", type=Path, default=KEPT)
    parser.add_argument("--images", type=int, default=20_000, help="crops to learn from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names; by default all that --out does not hold")
    parser.add_argument("--page", action="store_true", help="only write docs/severity.md")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"operators": {}}
    if not options.page:
        if options.data is None:
            parser.error("give --data DIR, a folder of photographs")
        pictures = photographs(options.data)
        found["data"] = facts(pictures)
        for name, spec in degradations().items():
            if (options.only is None and name in found["operators"]) or (options.only is not None and name not in options.only):
                continue
            found["operators"][name] = {"skipped": UNREADABLE[name]} if name in UNREADABLE else measured(spec, pictures, options.images)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.out.resolve() == KEPT and PAGE.is_file():
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


def photographs(path: str) -> dict[str, Dataset]:
    """Crops for training; windows of the two halves of the validation photographs, and the reported half whole."""
    common = {"path": path, "channels": 3, "validation": 0.1, "test": 0.0}
    train = open_data(DataOptions(size=SIZE, fit="crop", flip=True, turn=True, **common), "train")
    held = open_data(DataOptions(**common), "validation")
    x = held.batch(range(len(held)))["x0"]
    calibration, report = x[::2], x[1::2]
    return {"train": train, "calibration": windows(calibration), "report": windows(report), "whole": kept(report)}


def windows(x: Tensor) -> Dataset:
    """Windows side by side, without overlap."""
    rows = x.unfold(2, SIZE, SIZE).unfold(3, SIZE, SIZE)
    return kept(rows.permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], SIZE, SIZE))


def kept(x: Tensor) -> Dataset:
    """Pictures (n, c, h, w) in [-1, 1] as a data set."""
    n, c, h, w = x.shape
    return Dataset(Held(x.movedim(1, -1).contiguous().numpy()), "validation", (c, h, w), [str(i) for i in range(n)], [])


def facts(pictures: dict[str, Dataset]) -> dict[str, Any]:
    """How many of what."""
    side = " x ".join(str(n) for n in reversed(pictures["whole"].shape[1:]))
    each = len(pictures["report"]) // len(pictures["whole"])
    return {
        "training photographs": len(pictures["train"]),
        "calibration photographs": len(pictures["calibration"]) // each,
        "reported photographs": len(pictures["whole"]),
        "photographs, px": side,
        "windows, px": SIZE,
        "reported windows": WINDOWS,
        "reported whole pictures": WHOLE,
        "seed of the reported damage": SEED,
    }


def built(spec: str) -> Degradation:
    """A degradation by its spec, or that of the recipe photo-base."""
    part: Degradation = registry.build(load("photo-base")["degradation"] if spec == "photo" else spec)
    return part


def measured(spec: str, pictures: dict[str, Dataset], images: int) -> dict[str, Any]:
    """Fit an estimator for one degradation and score it."""
    D = built(spec)
    model = Model(D, lambda x, t: x, input="float" if D.noise else "8bit")
    wall, cpu = time.monotonic(), time.process_time()
    estimator = fit(model, pictures["train"], pictures["calibration"], images=images)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    out = {
        "spec": registry.spec(D),
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "environment": {**environment(), "processor": processor()},
        "images": images,
        "parameters": sum(p.numel() for p in estimator.parameters()),
        "fit_wall_s": round(wall, 1),
        "fit_cpu_s": round(cpu, 1),
    }
    for name, count in (("windows", WINDOWS), ("whole", WHOLE)):
        data = pictures["report" if name == "windows" else "whole"]
        out[name] = scores(estimator, Damage(model, data, SEED, "severity-report"), count)
        for row in out[name]["rows"]:
            print(spec, name, row, flush=True)
    return out


def scores(estimator: Estimator, damage: Damage, count: int) -> dict[str, Any]:
    """Every unknown's errors over `count` degraded pictures."""
    found: list[Estimate] = []
    truths = []
    for start in range(0, count, 16):
        x, truth = damage.whole(range(start, min(start + 16, count)))
        found.append(estimator.estimate(x))
        truths.append(truth)
    truth = torch.cat(truths)
    rows = []
    for i, name in enumerate(estimator.unknowns):
        s, std, present = (torch.cat([getattr(e, kind)[name] for e in found]) for kind in ("severity", "std", "present"))
        rows.append({"unknown": name, **row(s, std, present, truth[:, i])})
    return {"count": count, "unsure": float(torch.cat([e.unsure for e in found]).float().mean()), "rows": rows}


def row(s: Tensor, std: Tensor, present: Tensor, truth: Tensor) -> dict[str, float | None]:
    """Scores of one unknown: estimates s ± std and the chances of presence against the truth, each (n,)."""
    error, there = s - truth, truth > 0
    varies = float(truth[there].std()) > 1e-6 if int(there.sum()) > 1 else False
    conditional = s / present.clamp(min=1e-6)
    return {
        "rmse": rms(error),
        "guess_rmse": float(truth.std(correction=0)),
        "spearman": float(spearmanr(s, truth).statistic),
        "within_1_std": float((error.abs() <= std).float().mean()),
        "within_2_std": float((error.abs() <= 2 * std).float().mean()),
        "present": float(there.float().mean()),
        "presence_auc": area(present, there),
        "rmse_if_present": rms((conditional - truth)[there]) if varies else None,
        "guess_rmse_if_present": float(truth[there].std(correction=0)) if varies else None,
    }


def rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


def area(score: Tensor, there: Tensor) -> float | None:
    """The chance that a picture with the damage gets a higher score than one without."""
    n, m = int(there.sum()), int((~there).sum())
    if not n or not m:
        return None
    return float((rankdata(score.double())[there.numpy()].sum() - n * (n + 1) / 2) / (n * m))


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else None
    return named.group(1).strip() if named else platform.processor()


def tables(found: dict[str, Any]) -> str:
    """The Markdown of docs/severity.md that depends on the figures."""
    kept = {name: entry for name, entry in found["operators"].items() if "skipped" not in entry}
    if not found["operators"]:
        return "*Pending*: not measured yet."
    single = [one(name, entry, entry["whole"]["rows"][0], entry["windows"]["rows"][0]) for name, entry in kept.items() if name != "mixture"]
    parts = []
    if single:
        parts.append("One severity, one estimator each:\n\n" + markdown_table(single))
    if "mixture" in kept:
        both = zip(kept["mixture"]["whole"]["rows"], kept["mixture"]["windows"]["rows"], strict=True)
        said = "The mixture of the recipe photo-base, all parts by one estimator; the photo model carries one that was fitted alike to 40,000 crops:"
        parts.append(f"{said}\n\n{markdown_table([part(w, s) for w, s in both])}")
    parts += [f"- {name}: not measured. {entry['skipped']}" for name, entry in found["operators"].items() if "skipped" in entry]
    return "\n\n".join([*parts, *([conditions(found, kept)] if kept else [])])


def one(name: str, entry: dict[str, Any], whole: dict[str, Any], single: dict[str, Any]) -> dict[str, Any]:
    return {
        "degradation": entry["spec"],
        "a guess": f"{whole['guess_rmse']:.3f}",
        "RMSE, 64 px": f"{single['rmse']:.3f}",
        "RMSE, whole": f"{whole['rmse']:.3f}",
        "rank correlation": f"{whole['spearman']:.3f}",
        "within 1 std": f"{whole['within_1_std']:.0%}",
        "within 2 std": f"{whole['within_2_std']:.0%}",
        "unsure": f"{entry['whole']['unsure']:.1%}",
    }


def part(whole: dict[str, Any], single: dict[str, Any]) -> dict[str, Any]:
    shown = {kind: "–" if whole[kind] is None else f"{whole[kind]:.3f}" for kind in ("rmse_if_present", "guess_rmse_if_present", "presence_auc")}
    return {
        "part": whole["unknown"],
        "present": f"{whole['present']:.0%}",
        "AUC of presence, 64 px": f"{single['presence_auc']:.3f}",
        "AUC, whole": shown["presence_auc"],
        "a guess, if present": shown["guess_rmse_if_present"],
        "RMSE, if present": shown["rmse_if_present"],
        "RMSE, all": f"{whole['rmse']:.3f}",
        "within 1 std": f"{whole['within_1_std']:.0%}",
        "within 2 std": f"{whole['within_2_std']:.0%}",
    }


def conditions(found: dict[str, Any], kept: dict[str, Any]) -> str:
    """What the figures were measured on and with."""
    places = {(e["environment"]["processor"], e["environment"]["threads"], e["environment"]["torch"]) for e in kept.values()}
    where = "; ".join(f"{processor}, {threads} thread(s), torch {version}" for processor, threads, version in sorted(places))
    commits, dates = (sorted({e["environment"][key] for e in kept.values()}) for key in ("commit", "date"))
    cpu, images = [e["fit_cpu_s"] for e in kept.values()], sorted({e["images"] for e in kept.values()})
    data = ", ".join(f"{key} {value}" for key, value in found["data"].items())
    return (
        f"Measured on {', '.join(dates)} with commit {', '.join(commits)} (+: with changes) on {where}. "
        f"Each estimator learned from {' or '.join(f'{n:,}' for n in images)} crops in {min(cpu):.0f} to {max(cpu):.0f} s of processor time. {data}."
    )


def filled(page: str, found: dict[str, Any]) -> str:
    """The page with its tables written anew."""
    return between_markers(page, "tables", tables(found))


if __name__ == "__main__":
    main()
