"""``make bench``: what snowmelt costs beside other libraries, measured in turn in one run; seconds drift between machines, ratios much less.

Every section is a module of this folder with a TITLE, words ABOUT it and ``measure(runs, quick)``, which gives rows. They are printed as they
come, kept in benchmarks/results/speed.json with date, commit, device and threads, and written into the tables of docs/speed.md. A section
that fails says so, and the others go on.

    python benchmarks/run.py                              all, on one thread; about ten minutes on a quiet machine
    python benchmarks/run.py --only training_step         one of them; the others' figures stay as they were kept
    python benchmarks/run.py --quick                      whether everything runs; nothing is kept unless --out says where
    python benchmarks/run.py --agree A.json B.json        how far two runs are apart; exit status 1 beyond 15 %, or where one lacks a row
    python benchmarks/run.py --tables                     the page again, from what is kept
"""

import argparse
import importlib
import json
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tables
import torch

from snowmelt.files import write_text
from snowmelt.recipes.report import environment

SECTIONS = (
    "training_step",
    "network_call",
    "whole_walks",
    "closed_form",
    "degrading",
    "sampling",
    "exporting",
    "allocator",
    "memory",
    "starting",
    "scaling",
)
ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results" / "speed.json"
GPU = KEPT.with_name("gpu.json")  # written by gpu.py, from another machine
PAGE = ROOT / "docs" / "speed.md"


def measured(name: str, *, runs: int, quick: bool) -> dict[str, Any]:
    """One section: its words, where and when, and its rows, printed."""
    module = importlib.import_module(name)
    print(f"\n{module.TITLE}", flush=True)
    start = time.monotonic()
    rows = [_plain(row) for row in module.measure(runs=runs, quick=quick)]
    for row in rows:
        print(f"  {row['what']}: " + ", ".join(f"{k} {tables.written(v)}" for k, v in row.items() if k not in ("what", "low", "high")))
    at = f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}"
    found = {"title": module.TITLE, "about": module.ABOUT, "at": at, "environment": environment(), "runs": runs, "rows": rows}
    if hasattr(module, "draw") and not quick:
        for file, svg in module.draw(rows).items():
            write_text(PAGE.parent / "images" / file, svg + "\n")
        found["figures"] = module.FIGURES
    print(f"  {time.monotonic() - start:.0f} s", flush=True)
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON holds it, four figures of every measured number."""
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}


def read(path: Path) -> dict[str, Any]:
    """The sections kept in a file; none where there is no file."""
    return dict(json.loads(path.read_text(encoding="utf-8"))["sections"]) if path.is_file() else {}


def keep(path: Path, sections: dict[str, Any]) -> None:
    """Write the sections, in the order they are measured in."""
    ordered = {name: sections[name] for name in SECTIONS if name in sections}
    write_text(path, json.dumps({"sections": ordered}, indent=2) + "\n")


def write_page() -> None:
    """The tables of the page, from what is kept."""
    write_text(PAGE, tables.page(PAGE.read_text(encoding="utf-8"), {**read(KEPT), **read(GPU)}))


def run(names: Sequence[str], *, runs: int, quick: bool, out: Path | None) -> list[str]:
    """Measure these sections and keep them; the names of those that failed."""
    failed, kept = [], {} if out is None else read(out)
    for name in names:
        try:
            kept[name] = measured(name, runs=runs, quick=quick)
        except Exception:  # whatever it was: the other sections are still worth their time
            traceback.print_exc()
            failed.append(name)
            continue
        if out is not None:
            keep(out, kept)
    if out == KEPT:
        write_page()
    return failed


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="a section; may be given several times")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round")
    parser.add_argument("--runs", type=int, help="rounds of every ratio; 5, or 1 with --quick")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help=f"where to keep the figures; {KEPT.relative_to(ROOT)} without --quick")
    parser.add_argument("--agree", type=Path, nargs=2, metavar="FILE", help="compare two kept files instead")
    parser.add_argument("--tables", action="store_true", help="write the page from what is kept instead")
    options = parser.parse_args()
    if options.runs is not None and options.runs < 1:
        parser.error(f"--runs {options.runs}: at least 1 is needed")
    return options


def main() -> int:
    """Measure, compare or write; the exit status."""
    options = arguments()
    if options.agree:
        for path in options.agree:
            if not path.is_file():
                print(f"{path} is not there: measure first, with --out {path}", file=sys.stderr)
                return 2
        good, words = tables.agree(*(read(path) for path in options.agree))
        print(words)
        return 0 if good else 1
    if options.tables:
        write_page()
        return 0
    torch.set_num_threads(options.threads)
    runs = options.runs or (1 if options.quick else 5)
    out = options.out.resolve() if options.out else None if options.quick else KEPT
    failed = run(options.only or SECTIONS, runs=runs, quick=options.quick, out=out)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
