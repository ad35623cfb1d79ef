"""Write docs/results.md from the evaluations kept in docs/results/: no figure on that page is typed by hand.

To add or renew one::

    snowmelt train RECIPE --data.path DIR --out RUN
    snowmelt evaluate RUN
    python scripts/results.py RUN [RUN ...]     # keeps RUN's evaluation and pictures under docs/results/RECIPE

Without arguments only the page is written anew.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from snowmelt.evaluation import BEST, TITLES, Report
from snowmelt.pictures import markdown_table
from snowmelt.recipes.recipe import from_table, load, presets

DOCS = Path(__file__).parents[1] / "docs"
KEPT = ("evaluation.json", "grid.png", "trajectory.png", "loss.svg")
CHARTS = {  # kept where the evaluation drew them
    "curve.svg": "RMSE against the distance of sets over the number of calls",
    "severity.svg": "Error per severity",
    "worst.png": "The pictures that one call restores worst",
    "median.png": "The pictures in the middle",
}
UNPUBLISHED = ("demo", "photo-base", "photo")  # the photo model has a page of its own
INTRODUCTION = """# Results

Every number on this page comes from a recipe in `src/snowmelt/recipes/`, run by the command above its table, and was written here by
`scripts/results.py` from the evaluation it left in `docs/results/`. What has not been run says *pending*.

- *Degraded* is doing nothing; *Linear Wiener* is the best linear restorer, which knows the operator, its draw and the data's mean and
  covariance; *Diagonal Wiener* knows only variances in the basis in which the operator is diagonal;
  *Direct* is one call of the restorer; then the walks. RMSE and SSIM are on [0, 1], RMSE over all pixels of all pictures, as in Bansal et al. 2022.
- *Float* pictures are degraded in floating point, *8-bit* ones are rounded to the grid of a file before they are restored.
- The *measurement error* is the RMSE between the restored picture, degraded again, and what was given. {doc}`evaluate` explains every column.
- The numbers of the paper stand in the text, marked as such: its networks trained for 700,000 steps.
"""
PENDING = """## Pending

These recipes have not been run, so there are no numbers. The commands are those above, with the recipe's name.

| recipe | what it is |
| :--- | :--- |"""
PAPER = {
    "mnist-deblur": "The paper (its table 1, 56.6 M parameters, all 9,999 test pictures): Degraded RMSE .287; Direct RMSE .142, SSIM .757; "
    "Sampled by Algorithm 2 with 20 calls RMSE .154, SSIM .718.",
}


def page() -> str:
    """The whole page."""
    parts, pending = [INTRODUCTION], []
    for name in presets():
        if name in UNPUBLISHED:
            continue
        recipe = from_table(load(name), where=name)
        kept = DOCS / "results" / name / "evaluation.json"
        if not kept.is_file():
            pending.append(f"| {name} | {recipe.about or recipe.degradation} |")
            continue
        commands = f"snowmelt train {name} --data.path DIR --out runs/{name}\nsnowmelt evaluate runs/{name}"
        parts.append(f"## {name}\n\n{recipe.about}.\n\n```\n{commands}\n```\n")
        parts.append(section(name, json.loads(kept.read_text(encoding="utf-8"))))
    if pending:
        parts += [PENDING, *pending, ""]
    return "\n".join(parts)


def section(name: str, kept: dict[str, Any]) -> str:
    """The results of one recipe."""
    report = Report(**kept)
    there = DOCS / "results" / name
    trained = "8bit" if "8 bits" in report.facts["trained for"] else "float"
    order = sorted(report.inputs(), key=lambda title: title != trained)
    tables = [f"Degraded pictures {TITLES[i]}:\n\n{markdown_table(report.table(i), best=BEST, apart=report.apart(i))}" for i in order]
    facts = "; ".join(f"{key}: {value}" for key, value in report.facts.items() if key != "degradation")
    paper = [PAPER[name] + "\n"] if name in PAPER else []
    pictures = f"![Degraded, Direct, Sampled, Clean](results/{name}/grid.png)\n\n![The estimate at each call](results/{name}/trajectory.png)\n"
    curve = f"![Loss against images seen](results/{name}/loss.svg)\n"
    charts = [f"![{words}](results/{name}/{file})\n" for file, words in CHARTS.items() if (there / file).is_file()]
    return "\n".join([" ".join(report.verdict) + "\n", *paper, *tables, f"*{facts}.*\n", *charts, pictures, curve])


def keep(run: Path) -> None:
    """Copy what a run's evaluation left, under the name of its recipe."""
    name = run.name
    if name not in presets():
        raise SystemExit(f"{run} is not named after a recipe ({', '.join(presets())}): train it with --out runs/RECIPE")
    (DOCS / "results" / name).mkdir(parents=True, exist_ok=True)
    for file in (*KEPT, *(file for file in CHARTS if (run / file).is_file())):
        shutil.copyfile(run / file, DOCS / "results" / name / file)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep(Path(argument))
    (DOCS / "results.md").write_text(page(), encoding="utf-8")
