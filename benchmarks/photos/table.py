"""The results of ``run.py`` as Markdown: for each set and damage the best classical rows, the model's row, the gain.

A gain is paired: the mean difference over the pictures that both restored, with its bootstrap interval. It is a win (a loss) where the
interval lies above (below) zero, else a tie. The best row of a form is the one with the highest mean PSNR among those that
restored most pictures; it was chosen by the scores shown, which favours it a little.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from damages import DAMAGES
from record import Record
from scores import interval

Cell = dict[str, Any]
MODEL = "snowmelt"


def best(cells: Sequence[Cell]) -> Cell | None:
    """The cell with the highest mean PSNR among those with the most pictures."""
    most = max((len(cell["pictures"]) for cell in cells), default=0)
    full = [cell for cell in cells if most and len(cell["pictures"]) == most]
    return max(full, key=lambda cell: mean(cell, "psnr"), default=None)


def mean(cell: Cell, name: str, numbers: set[int] | None = None) -> float:
    """The mean of a score over the cell's pictures, or over those of them with one of the numbers."""
    values = zip(cell["pictures"], cell["scores"][name], strict=True)
    return float(np.mean([value for number, value in values if numbers is None or number in numbers]))


def gain(cell: Cell, other: Cell, name: str) -> tuple[float, float, float]:
    """Mean, low and high of the paired difference of two cells, over the pictures that both have."""
    mine, theirs = (dict(zip(c["pictures"], c["scores"][name], strict=True)) for c in (cell, other))
    differences = [mine[number] - theirs[number] for number in sorted(mine.keys() & theirs.keys())]
    return (float(np.mean(differences)), *interval(differences))


def verdict(low: float, high: float) -> str:
    """Win, loss or tie."""
    return "win" if low > 0 else "loss" if high < 0 else "tie"


def rows_of(record: Record, name: str) -> list[dict[str, Any]]:
    """One entry a damage: the title and the cells "degraded", "blind", "non-blind" and "model", None where there is none."""
    out = []
    for damage in DAMAGES:
        cells = [c for c in record.cells.values() if (c["set"], c["damage"]) == (name, damage.key)]
        forms: dict[str, list[Cell]] = {"-": [], "blind": [], "non-blind": []}
        for cell in cells:
            if cell["method"] != MODEL and cell["pictures"]:
                forms[cell["form"]].append(cell)
        model = next((c for c in cells if c["method"] == MODEL and c["pictures"]), None)
        row = {"degraded": best(forms["-"]), "blind": best(forms["blind"]), "non-blind": best(forms["non-blind"]), "model": model}
        if any(row.values()):
            out.append({"title": damage.title, **row})
    return out


def _shown(cell: Cell | None, numbers: set[int], *, named: bool) -> str:
    if cell is None:
        return "-"
    text = f"{mean(cell, 'psnr', numbers):.2f} / {mean(cell, 'ssim', numbers):.3f}"
    if "y_psnr" in cell["scores"]:
        text += f" (Y {mean(cell, 'y_psnr', numbers):.2f} / {mean(cell, 'y_ssim', numbers):.3f})"
    return f"{text} {cell['method']}" if named else text


def _compared(model: Cell | None, other: Cell | None) -> str:
    if model is None or other is None:
        return "-"
    middle, low, high = gain(model, other, "psnr")
    return f"{middle:+.2f} [{low:+.2f}, {high:+.2f}] {verdict(low, high)}"


def table(record: Record, name: str) -> list[str]:
    """The lines of a set's table; the means of a line are over the pictures that all of its rows restored."""
    lines = [f"### {name}", "", "| damage | N | degraded | best blind | best non-blind | snowmelt | over blind, dB | over non-blind, dB |"]
    lines.append("|" + "---|" * 8)
    for row in rows_of(record, name):
        model, blind, told = row["model"], row["blind"], row["non-blind"]
        numbers = set.intersection(*(set(c["pictures"]) for c in (row["degraded"], blind, told, model) if c))
        shown = [row["title"], str(len(numbers)), _shown(row["degraded"], numbers, named=False)]
        shown += [_shown(cell, numbers, named=True) for cell in (blind, told)]
        shown += [_shown(model, numbers, named=False), _compared(model, blind), _compared(model, told)]
        lines.append("| " + " | ".join(shown) + " |")
    return lines


def everything(record: Record, name: str) -> list[str]:
    """Mean PSNR of every method on the pictures that all methods restored, one line a damage and form."""
    lines = [f"### {name}, every method", ""]
    for damage in DAMAGES:
        cells = [c for c in record.cells.values() if (c["set"], c["damage"]) == (name, damage.key) and c["pictures"]]
        if not cells:
            continue
        common = set.intersection(*(set(c["pictures"]) for c in cells))
        for form in ("-", "blind", "non-blind"):
            found = []
            for cell in (c for c in cells if c["form"] == form):
                found.append((mean(cell, "psnr", common), cell["method"]))
            listed = ", ".join(f"{method} {psnr:.2f}" for psnr, method in sorted(found, reverse=True))
            lines += [f"- {damage.title}, {form}, N = {len(common)}: {listed}"] if found else []
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="the JSON file that run.py wrote")
    parser.add_argument("--all", action="store_true", help="also every method, on the pictures that all of them restored")
    options = parser.parse_args(arguments)
    if not options.results.is_file():
        parser.error(f"{options.results} does not exist: run benchmarks/photos/run.py first")
    record = Record(options.results)
    names = sorted({cell["set"] for cell in record.cells.values()})
    print("PSNR in dB / SSIM, means over pictures; gains are paired, with 95 % bootstrap intervals.\n")
    for name in names:
        print("\n".join([*table(record, name), ""]))
        if options.all:
            print("\n".join([*everything(record, name), ""]))
    rows = [row for name in names for row in rows_of(record, name)]
    verdicts = [_compared(row["model"], row[form]).rpartition(" ")[2] for row in rows for form in ("blind", "non-blind")]
    if set(verdicts) != {"-"}:
        print(", ".join(f"{verdicts.count(kind)} {kind}" for kind in ("win", "tie", "loss")))


if __name__ == "__main__":
    main()
