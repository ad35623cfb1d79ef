"""Fill the measured parts of docs/calls.md: from benchmarks/results/few-calls.json and the curve.json of every reproduction that has one.

    python scripts/calls_page.py

What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` is written here and nowhere else; what has not been measured is said to be
pending.
"""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from snowmelt.evaluation.curve import GENERATED, NAME, RESTORED, Curve
from snowmelt.evaluation.scoring import MEASUREMENT
from snowmelt.pictures import between_markers, markdown_table
from snowmelt.recipes.recipe import from_table, load

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "calls.md"
KEPT = ROOT / "docs" / "reproductions"
TOY = ROOT / "benchmarks" / "results" / "few-calls.json"
EXPECTED = ("mnist-blur", "fashion-blur", "cifar10-blur")
SHOWN = {"one call": (1,), "Algorithm 1": (8, 50), "Algorithm 2": (8, 12, 50), "DDIM": (8, 12, 50), "order 2": (4, 8, 12, 50)}
PENDING = "*Pending: not measured yet.*"


def parts() -> dict[str, str]:
    """The parts of the page, by the names of their markers."""
    toy = json.loads(TOY.read_text(encoding="utf-8")) if TOY.is_file() else None
    return {**_toy(toy), "pictures": "\n\n".join(_row(name) for name in rows())}


def rows() -> list[str]:
    """The reproductions with a curve, those that are expected first."""
    there = sorted(path.parent.relative_to(KEPT).as_posix() for path in KEPT.glob(f"**/{NAME}"))
    return list(dict.fromkeys((*EXPECTED, *there)))


def filled(text: str, found: dict[str, str]) -> str:
    """The page with its parts.

    Raises:
        ValueError: it lacks the markers of a part.
    """
    for name, part in found.items():
        text = between_markers(text, name, part)
    return text


def _toy(found: dict[str, Any] | None) -> dict[str, str]:
    if found is None:
        return dict.fromkeys(("exact", "tuned", "claims"), PENDING)
    bench = _benchmark("few_calls")
    tables = [f"{path}:\n\n{bench.tuned_table(found['tuned'], path)}" for path in dict.fromkeys(row["path"] for row in found["tuned"])]
    facts = f"*Commit {found['commit']}, {found['device']}, {found['date']}; {found['rows at other calls']}.*"
    return {
        "exact": f"![Distance from the data against calls](images/few-calls.svg)\n\n{bench.exact_table(found['exact'], found['floor'])}\n\n{facts}",
        "tuned": "\n\n".join(tables),
        "claims": "\n".join(f"- {said}" for said in found["claims"]),
    }


def _benchmark(name: str) -> ModuleType:
    """A module of benchmarks/."""
    place = str(ROOT / "benchmarks")
    if place not in sys.path:
        sys.path.insert(0, place)
    return importlib.import_module(name)


def _row(name: str) -> str:
    """One set of pictures: what the numbers say, those that say it, and the picture of all."""
    path = KEPT / name / NAME
    head = f"### {name}\n\n{_about(name)}"
    if not path.is_file():
        return f"{head}\n\n{PENDING} `make reproduce ROW={name} DATA=data`"
    curve = Curve.read(path)
    out = [head, "\n".join(f"- {said}" for said in curve.verdict())]
    for of in (RESTORED, GENERATED):
        table = [row for row in curve.table(of) if row["walk"] not in ("degraded", "clean") and _is_shown(row)]
        if table:
            apart = [i for i, row in enumerate(table) if row["walk"] == "floor"]
            out.append(f"{of.capitalize()}:\n\n{markdown_table(table, best={MEASUREMENT: 'low'}, apart=apart)}".rstrip())
    if (path.parent / "calls.svg").is_file():
        out.append(f"![Every measure against the calls](reproductions/{name}/calls.svg)")
    facts = "; ".join(f"{key}: {value}" for key, value in curve.facts.items() if key not in ("title", "snowmelt", "python"))
    return "\n\n".join([*out, f"*{facts}.*"])


def _is_shown(row: dict[str, Any]) -> bool:
    return row["walk"] not in ("Algorithm 1, fresh noise", "Heun", "DDPM") and row["calls"] in SHOWN.get(row["walk"], (row["calls"],))


def _about(name: str) -> str:
    recipe = from_table(load(name.partition("/")[0]), where=name)
    return f"{recipe.about or recipe.degradation}."


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts()), encoding="utf-8")


if __name__ == "__main__":
    main()
