"""What the numbers say of sound and scans: whether the model beats doing nothing and the best without a network, by how much, how surely.

The main measure of the signal decides. Its gains over others are paired, sample by sample, so that their intervals are narrower than those of the
numbers themselves; a gain whose interval holds 0 may be chance, and does not convince. Where the network is worse by another measure, that is
said, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from snowmelt.evaluation.scoring import GAINS, LAST, MEASUREMENT
from snowmelt.metrics import Column, Measures
from snowmelt.signals import Signal

Row = Mapping[str, Any]


def verdict(rows: Sequence[Row], measures: Measures, signal: Signal) -> list[str]:
    """What the rows that take part in the comparison say; the first sentence is the headline."""
    main, by_name = measures.first, {str(row["method"]): row for row in rows}
    direct, walks = by_name["Direct"], [row for row in rows if LAST in row]
    if not isinstance(direct.get(main.name), float):
        return [f"No {signal.one} among these has a {main.title}: nothing can be said of the restorer."]
    others = [row for row in rows if row.get("kind") in ("degraded", "filter")]
    out = [_headline(direct, others, main, signal), *_worse(direct, others, measures)]
    if walks:
        out += [_walks(walks, direct, others, main, signal), *lies(walks, direct, signal)]
    return out


def lies(walks: Sequence[Row], direct: Row, signal: Signal) -> list[str]:
    """A walk whose samples no longer fit what was given."""
    worst = max((row for row in walks if MEASUREMENT in row), key=lambda row: float(row[MEASUREMENT]), default=None)
    if worst is None or MEASUREMENT not in direct or worst[MEASUREMENT] < 2 * direct[MEASUREMENT] or worst[MEASUREMENT] < 0.005:
        return []
    times = worst[MEASUREMENT] / max(direct[MEASUREMENT], 1e-9)
    ratio = f", {times:.1f} times that of one call" if times < 100 else ""
    missed = f"Degraded again, the {signal.many} of {named(worst)} miss what was given by {worst[MEASUREMENT]:.3g}{ratio}"
    return [f"{missed}: detail that the measurement does not support."]


def named(row: Row) -> str:
    """A method with its calls."""
    return f"{row['method']} with {row['calls']} calls" if row["calls"] > 1 else str(row["method"])


def chosen(best: Row, among: Sequence[Row], what: str = "walks", many: str = "pictures") -> str:
    """A row that was picked among several by the very samples it is scored on: on others the same choice scores a little worse."""
    return named(best) if len(among) < 2 else f"{named(best)}, the best of these {len(among)} {what} on these {many},"


def _headline(direct: Row, others: Sequence[Row], main: Column, signal: Signal) -> str:
    filters = [row for row in others if row["kind"] == "filter"]
    best = _best(filters, main)
    said = [f"{_gain(direct, 'Degraded', main)} than the degraded {signal.many}{_sure(direct, 'Degraded', main)}"]
    if best is not None:
        which = f"{named(best)}, the best of {len(filters)} methods without a network" if len(filters) > 1 else f"{named(best)}, without a network"
        said.append(f"{_gain(direct, str(best['method']), main)} than {which}{_sure(direct, str(best['method']), main)}")
    names = ["Degraded"] + ([] if best is None else [str(best["method"])])
    first = f"{main.title} {_number(direct[main.name], main)} after one call of the restorer{_interval(direct, main)}"
    poor = "" if all(_surely(direct, name) for name in names) else "Not convincing: "
    return f"{poor}{first}: {', and '.join(said)}."


def _walks(walks: Sequence[Row], direct: Row, others: Sequence[Row], main: Column, signal: Signal) -> str:
    best = _best(walks, main)
    assert best is not None  # noqa: S101 - walks have a number where one call has one
    sign = 1 if main.better == "high" else -1
    better = sign * best[main.name] > sign * direct[main.name]
    worse = sum(sign * row[main.name] < sign * direct[main.name] for row in walks)
    said = f"{chosen(best, walks, many=signal.many).rstrip(',')}: {main.title} {_number(best[main.name], main)}{_interval(best, main)}"
    than = f"{'better' if better else 'no better'} than one call's {_number(direct[main.name], main)}"
    rest = f"; {worse} of {len(walks)} walks are worse than one call" if better and worse else ""
    rival = _best([row for row in others if row["kind"] == "filter"], main)
    against = f"; {_gain(best, str(rival['method']), main)} than {named(rival)}{_sure(best, str(rival['method']), main)}" if better and rival else ""
    return f"{said}, {than}{rest}{against}."


def _worse(direct: Row, others: Sequence[Row], measures: Measures) -> list[str]:
    """By which other measures something without a network is better."""
    found = []
    for one in measures.columns:
        best = _best([row for row in others], one)
        if one.name == measures.main or best is None or not isinstance(direct.get(one.name), float):
            continue
        sign = 1 if one.better == "high" else -1
        if sign * direct[one.name] < sign * best[one.name]:
            found.append(f"{one.title} ({_number(direct[one.name], one)}; {named(best)} {_number(best[one.name], one)})")
    return [f"One call is worse than what needs no network in: {', '.join(found)}."] if found else []


def _best(rows: Sequence[Row], column: Column) -> Row | None:
    there = [row for row in rows if isinstance(row.get(column.name), float)]
    return (max if column.better == "high" else min)(there, key=lambda row: float(row[column.name]), default=None)


def _number(value: float, column: Column) -> str:
    return f"{value:.{column.decimals}f}" + (f" {column.unit}" if column.unit else "")


def _interval(row: Row, column: Column) -> str:
    found = row.get("intervals", {}).get(column.name)
    return "" if found is None else f" (95 %: {found[0]:.{column.decimals}f} to {found[1]:.{column.decimals}f})"


def _gain(row: Row, other: str, column: Column) -> str:
    by = row[GAINS][other]["by"]
    return f"{_number(abs(by), column)} {'better' if by >= 0 else 'worse'}"


def _sure(row: Row, other: str, column: Column) -> str:
    """The interval of a gain; of a loss the same, as it is, below 0."""
    found = row[GAINS][other]["interval"]
    return "" if found is None else f" (95 % of the gain: {found[0]:+.{column.decimals}f} to {found[1]:+.{column.decimals}f})"


def _surely(row: Row, other: str) -> bool:
    found = row[GAINS][other]
    return bool(found["by"] > 0 and (found["interval"] is None or found["interval"][0] > 0))
