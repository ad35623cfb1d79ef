"""Fill the tables of docs/reliability.md, promise by promise, from benchmarks/results/reliability.json.

    SNOWMELT_FIGURES=build/ci.json make test
    make soak                # writes build/soak.json
    make mutations           # writes build/mutations.json
    python scripts/reliability.py --ci build/ci.json --soak build/soak.json --mutations build/mutations.json

Each file that is given takes the place of what is kept of that run, with the date, the commit and the machine; without any, the page alone is
written anew. What stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` of the page is written here and nowhere else; what has not been
run is pending.
"""

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
PENDING = "pending"
HEAD = ("promise", "CI", "soak", "test")
PROMISES: dict[str, dict[str, str]] = {
    "resume": {
        "resume-steps": "A training stopped after any of its steps ends in the bits of one that was not.",
        "resume-workers": "So it does with another number of loader workers.",
        "resume-processes": "1, 2 and 4 processes, one thread each, end in the same bits.",
        "resume-moves": "Each goes on from the checkpoint of the others, to the same bits.",
        "resume-kills": "`kill -9` at any moment, also while a checkpoint is written: nothing unreadable, the same bits in the end.",
    },
    "interrupt": {
        "interrupt-train": "Ctrl-C or SIGTERM once: the training saves and stops within 5 s, and no step is lost.",
        "interrupt-evaluate": "An evaluation stops within 5 s.",
        "interrupt-sample": "Sampling stops within 5 s.",
        "interrupt-restore": "Restoring a folder stops within 5 s, and goes on with what is not done.",
        "interrupt-scan": "Reading a folder of training pictures stops within 5 s.",
        "interrupt-twice": "The second signal stops at once.",
        "interrupt-twice-sample": "So it does in everything that is not training.",
        "lock": "A second process on a run directory is refused, and told who is there.",
        "lock-stale": "The lock of a dead process is taken over, with a line that says so.",
        "lock-race": "Two processes never hold a directory at once.",
    },
    "ranks": {
        "ranks-restart": "A rank is killed, torchrun starts all anew: the same hash in the end.",
        "ranks-lost": "A rank is killed and not started anew: every other ends within 30 s and names it.",
        "ranks-exit": "Jobs of two processes end cleanly, without an abort.",
        "share-sample": "Sampling split over processes draws the pictures of one process.",
        "share-restore": "A folder split over processes is restored as by one process.",
        "share-evaluate": "An evaluation split over processes has the numbers of one process.",
    },
    "checkpoints": {
        "checkpoint-flips": "A flipped bit anywhere in a checkpoint is noticed; the one before it is taken, with a message.",
        "checkpoint-cut": "So is a file that was cut off.",
        "checkpoint-kills": "`kill -9` while checkpoints are written, one after the other: what was saved before still loads.",
        "checkpoint-full": "Disk full, quota, a read-only directory: the last good checkpoint stays, the message names path and bytes.",
        "checkpoint-golden": "Files of every format version that ever was still load.",
        "checkpoint-keep": "As many checkpoints stay as were asked for.",
        "model-flips": "A flipped bit in a saved model is refused, or changes no value.",
    },
    "numbers": {
        "numbers-skip": "A step whose loss or gradient is not finite changes nothing, and is counted.",
        "numbers-rollback": "After three in a row: back to the last good checkpoint, a lower rate, the samples named. NaN is never saved.",
        "numbers-memory": "Out of memory: smaller micro-batches, the same gradient.",
        "numbers-worker": "A loader worker that dies is an error within 10 s, and not a wait for ever.",
        "numbers-words": "Training says in words whether it is learning.",
    },
    "pictures": {
        "zoo": "Every kind of picture is read as an independent decoder reads it, within 1/255, or put aside with a reason.",
        "zoo-doors": "Every way in, from the command line to Python, reads them alike.",
        "zoo-broken": "A folder with broken files is worked through: exit 0 and an exact count.",
        "zoo-bomb": "A small file that says it is huge is refused before it is decoded.",
        "zoo-mutated": "Mutated pictures raise nothing that is not expected.",
    },
    "strangers": {
        "strangers-models": "A hostile model directory is refused: nothing is imported, nothing written outside, in under 1 s and 100 MB.",
        "strangers-recipes": "So is a hostile recipe.",
        "strangers-diffusers": "So is a hostile diffusers directory.",
        "strangers-headers": "So is a safetensors file whose header lies.",
        "fuzz-specs": "Random specs are understood or refused in one line.",
        "fuzz-recipes": "Random recipes likewise.",
        "fuzz-headers": "Random safetensors headers likewise.",
    },
    "surroundings": {
        "no-network": "Nothing opens a connection.",
        "no-home": "It works without a home directory.",
        "read-only-package": "It works from a package directory that cannot be written.",
        "locale-c": "It works in the locale C.",
        "odd-paths": "It works below paths of Chinese characters and emoji.",
    },
    "studio": {
        "studio-first-picture": "The first picture is there within 2 s of the page, with no second way for it.",
        "studio-strangers": "Whatever is uploaded is used or refused in words; none of it is an error of the server.",
        "studio-short": "Twenty programs at once for some seconds: served, or told to come again; memory stays where it was.",
        "studio-load": "So do twenty programs for a minute.",
    },
    "tests": {
        "mutations": "Twelve faults planted one at a time: the tests notice at least eleven.",
    },
}


def known() -> set[str]:
    """The ids of all promises."""
    return {promise for group in PROMISES.values() for promise in group}


def parts(kept: dict[str, Any]) -> dict[str, str]:
    """The parts of the page, by the names of their markers."""
    found = {group: _table(HEAD, [_row(promise, words, kept) for promise, words in promises.items()]) for group, promises in PROMISES.items()}
    return {**found, "runs": _runs(kept), "mutations": _faults(kept.get("mutations"))}


def filled(text: str, found: dict[str, str]) -> str:
    """The page with its parts.

    Raises:
        ValueError: it lacks the markers of a part.
    """
    for name, part in found.items():
        place = re.compile(rf"(?<=<!-- begin {name} -->\n).*?(?=<!-- end {name} -->)", re.S)
        if not place.search(text):
            raise ValueError(f"{PAGE} lacks the markers <!-- begin {name} --> and <!-- end {name} -->")
        text = place.sub(lambda _, part=part: f"\n{part}\n\n", text)
    return text


def measured(path: Path) -> dict[str, Any]:
    """A file of SNOWMELT_FIGURES, with what its numbers depend on.

    Raises:
        ValueError: it holds a promise that no table has.
    """
    from snowmelt.recipes.report import environment

    figures = json.loads(path.read_text(encoding="utf-8"))
    if odd := sorted(figures.keys() - known()):
        raise ValueError(f"{path} holds {', '.join(odd)}: add the promise to PROMISES in scripts/reliability.py, or mend the test")
    return {**_machine(environment()), "figures": figures}


def _machine(environment: dict[str, str]) -> dict[str, Any]:
    return {**{name: environment[name] for name in ("commit", "date", "torch", "python")}, "processor": processor(), "cores": os.cpu_count()}


def processor() -> str:
    """The processor's own name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.is_file() else None
    return named[1].strip() if named else "a processor without a name"


def _row(promise: str, words: str, kept: dict[str, Any]) -> tuple[str, ...]:
    ci, soak = ((kept.get(run) or {}).get("figures", {}).get(promise) for run in ("ci", "soak"))
    said = [_said(ci), _said(soak)]
    if promise == "mutations" and (faults := kept.get("mutations")):
        said[1] = f"{sum(row['caught_by'] is not None for row in faults['rows'])} of {len(faults['rows'])} faults caught"
    test = (ci or soak or {}).get("test", "")
    if said[0] == said[1] != PENDING:
        said[1] = "the same"
    return words, *said, f"`{test.partition('::')[0].removeprefix('tests/')}`" if test else PENDING


def _said(found: dict[str, Any] | None) -> str:
    if found is None:
        return PENDING
    return found["figure"] if found["outcome"] == "passed" else f"**failed**: {found['figure']}"


def _runs(kept: dict[str, Any]) -> str:
    names = {"ci": "CI", "soak": "soak", "mutations": "mutation check"}
    rows = []
    for run, name in names.items():
        r = kept.get(run)
        rows.append((name, *(_facts(r) if r else [PENDING] * 4)))
    return _table(("run", "date", "commit", "torch, Python", "machine"), rows)


def _facts(r: dict[str, Any]) -> tuple[str, ...]:
    return r["date"], f"`{r['commit']}`", f"{r['torch']}, {r['python']}", f"{r['processor']}, {r['cores']} cores"


def _faults(kept: dict[str, Any] | None) -> str:
    if not kept:
        return f"*{PENDING.capitalize()}.*"
    rows = []
    for row in kept["rows"]:
        caught = f"`{row['caught_by'].removeprefix('tests/')}`" if row["caught_by"] else "survived"
        rows.append((row["fault"], f"`{row['file'].removeprefix('src/snowmelt/')}`", caught))
    return _table(("fault", "in", "caught by"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines)


def main() -> None:
    """Take in what is given, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for run in ("ci", "soak", "mutations"):
        parser.add_argument(f"--{run}", type=Path)
    o = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for run in ("ci", "soak"):
        if path := getattr(o, run):
            kept[run] = measured(path)
    if o.mutations:
        from snowmelt.recipes.report import environment

        rows = json.loads(o.mutations.read_text(encoding="utf-8"))["rows"]
        kept["mutations"] = {**_machine(environment()), "rows": rows}
    text = filled(PAGE.read_text(encoding="utf-8"), parts(kept))  # the page may refuse, and then nothing is written
    RESULTS.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
