"""The tables of docs/speed.md from the figures of benchmarks/results/speed.json, and whether two such files agree.

The page has a pair of markers for every section, ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; what stands between them is written
here. A row is a flat dict: "what", columns, and as its figure "ratio" with "low" and "high". What is wanted of a row stands in it:
"goal" (the ratio at least), "limit" (the ratio at most), "limit_s" (the seconds "s" at most).
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from snowmelt.pictures import between_markers

Row = Mapping[str, Any]
WANTED: dict[str, tuple[str, str, Callable[[float, float], bool]]] = {
    "goal": ("ratio", "at least", lambda found, wanted: found >= wanted),
    "limit": ("ratio", "at most", lambda found, wanted: found <= wanted),
    "limit_s": ("s", "at most", lambda found, wanted: found <= wanted),
}
# Goals of columns that a section gives without saying what is wanted: (column, at most).
LIMITS: dict[str, tuple[tuple[str, float], ...]] = {"degrading": (("ratio", 0.05), ("of a sampling step", 0.02))}
UNMEASURED = "Not measured yet: `make bench`."
_HIDDEN = {"low", "high", "skipped", *WANTED}
_AGREE = 0.15


class Goal(NamedTuple):
    """What was wanted, what was found, and whether that is enough; found is None where it could not be measured."""

    what: str
    wanted: str
    found: float | None
    reached: bool


def written(value: object) -> str:
    """A cell: three figures of a measured number, others as they are."""
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0 or abs(value) >= 0.001:
        return f"{value:.3g}"
    return f"{value:.0e}"


def figure(row: Row) -> str:
    """The ratio with its range, or why there is none."""
    if "skipped" in row:
        return str(row["skipped"])
    if "ratio" not in row:
        return ""
    low, high = row.get("low", row["ratio"]), row.get("high", row["ratio"])
    return written(row["ratio"]) + (f" ({written(low)} to {written(high)})" if low != high else "")


def table(rows: Sequence[Row]) -> str:
    """One Markdown table of a section's rows."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in _HIDDEN and key != "ratio"))
    ends = ["ratio", *(["wanted"] if any(key in row for row in rows for key in WANTED) else [])]
    lines = ["| " + " | ".join([*columns, *ends]) + " |", "|" + "---|" * (len(columns) + len(ends))]
    for row in rows:
        cells = [written(row[key]) if key in row else "" for key in columns] + [figure(row)]
        if len(ends) > 1:
            cells.append("; ".join(said(goal) for goal in goals_of(row)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def goals_of(row: Row) -> Iterator[Goal]:
    """What is wanted of a row."""
    for key, (column, words, holds) in WANTED.items():
        if key in row:
            found = row.get(column)
            wanted = f"{words} {written(float(row[key]))}" + (" s" if column == "s" else "")
            yield Goal(row["what"], wanted, found, found is not None and holds(found, row[key]))


def said(goal: Goal) -> str:
    """A goal as a cell."""
    return f"{goal.wanted}: {'not measured' if goal.found is None else 'reached' if goal.reached else '**missed**'}"


def section(kept: Row | None) -> str:
    """What stands between the markers of a section: its words, its table, its figures, and on what it was measured."""
    if kept is None:
        return UNMEASURED
    e = kept["environment"]
    threads = f"{e['threads']} thread{'s' * (e['threads'] != '1')}"
    where = f"*{e['device']}, {threads}, torch {e['torch']}; commit {e['commit']}, {kept['at']}; {kept['runs']} rounds.*"
    pictures = [f"![{words}](images/{file})" for file, words in kept.get("figures", {}).items()]
    return "\n\n".join([kept["about"], table(kept["rows"]), *pictures, where])


def goals(sections: Mapping[str, Row]) -> str:
    """The table of what is wanted next to what was measured; of many rows of which the same is wanted, the worst."""
    lines = ["| section | row | wanted | measured | |", "|---|---|---|---|---|"]
    for name, kept in sections.items():
        found = [goal for row in kept["rows"] for goal in goals_of(row)]
        found += [goal for column, most in LIMITS.get(name, ()) for goal in worst(kept["rows"], column, most)]
        for goal in found:
            verdict = "not measured" if goal.found is None else "reached" if goal.reached else "**missed**"
            lines.append(f"| {kept['title']} | {goal.what} | {goal.wanted} | {'' if goal.found is None else written(goal.found)} | {verdict} |")
    return "\n".join(lines) if len(lines) > 2 else UNMEASURED


def worst(rows: Sequence[Row], column: str, most: float) -> Iterator[Goal]:
    """Of all rows the one with the largest value in a column, and how many are within the limit."""
    known = [row for row in rows if isinstance(row.get(column), float) and "taken" not in row]  # rows of two ways to one result are no shares
    if known:
        top = max(known, key=lambda row: row[column])
        good = sum(row[column] <= most for row in known)
        size = f", {top['px']} px" if "px" in top else ""
        label = "" if column == "ratio" else f", {column}"
        yield Goal(f"worst of {len(known)}: {top['what']}{size}{label} ({good} within)", f"at most {written(most)}", top[column], top[column] <= most)


def page(text: str, sections: Mapping[str, Row]) -> str:
    """The page with everything between its markers written anew; markers of what is not kept say so."""
    for name in re.findall(r"<!-- begin (\S+) -->", text):
        block = goals(sections) if name == "goals" else section(sections.get(name))
        text = between_markers(text, name, block)
    return text


# --- do two runs agree? --------------------------------------------------------------------------------------


def identity(row: Row) -> tuple[object, ...]:
    """What names a row: its words and whole numbers, which are given and not measured."""
    given = {key: value for key, value in row.items() if key not in WANTED and key != "skipped"}
    return tuple(value for value in given.values() if isinstance(value, (str, int)) and not isinstance(value, bool))


def disagreements(one: Mapping[str, Row], other: Mapping[str, Row]) -> list[tuple[float, str]]:
    """For each row that both have a ratio of, how far the ratios are apart (0.1 for 10 %), the largest first."""
    found = []
    for name in one.keys() & other.keys():
        there = {identity(row): row for row in other[name]["rows"] if "ratio" in row}
        for row in one[name]["rows"]:
            if "ratio" in row and identity(row) in there:
                a, b = float(row["ratio"]), float(there[identity(row)]["ratio"])
                found.append((max(a, b) / min(a, b) - 1, f"{name}: {row['what']}: {written(a)} and {written(b)}"))
    return sorted(found, reverse=True)


def alone(one: Mapping[str, Row], other: Mapping[str, Row]) -> list[str]:
    """The sections and rows that only one of two files has measured; what both have skipped is not among them."""
    out = [f"section {name}" for name in sorted(one.keys() ^ other.keys())]
    for name in sorted(one.keys() & other.keys()):
        here, there = ({identity(row): row for row in file[name]["rows"]} for file in (one, other))
        for key, row in (here | there).items():
            if key not in here or key not in there or ("ratio" in here[key]) != ("ratio" in there[key]):
                out.append(f"{name}: {row['what']}")
    return out


def agree(one: Mapping[str, Row], other: Mapping[str, Row], *, within: float = _AGREE) -> tuple[bool, str]:
    """Whether both files have measured the same and all ratios agree, and in words how far the worst is off and what only one of them has."""
    found = disagreements(one, other)
    if not found:
        return False, "the two files have no row in common"
    worst_by, what = found[0]
    beyond = sum(by > within for by, _ in found)
    words = f"{len(found)} ratios; the largest disagreement is {worst_by:.1%} ({what}); {beyond} beyond {within:.0%}"
    single = alone(one, other)
    if single:
        words += f"; {len(single)} in one file only: {', '.join(single)}"
    return beyond == 0 and not single, words
