"""What the numbers say, in sentences a person can check against the table; bad news stands first."""

from collections.abc import Mapping, Sequence

from snowmelt.evaluation import rivals
from snowmelt.evaluation.methods import compared
from snowmelt.evaluation.rivals import Row, chosen, lies
from snowmelt.evaluation.scoring import LAST
from snowmelt.evaluation.sets import ACCURACY
from snowmelt.metrics import measures_for
from snowmelt.signals import PICTURE, Signal

_FILTERS = ("Linear Wiener", "Diagonal Wiener")
_KNOWN = 0.5  # of clean pictures, as many labels must be read rightly


def verdict(rows: Sequence[Row], signal: Signal = PICTURE) -> list[str]:
    """What the rows of one input say; the first sentence is the headline, and says it when a restorer disappoints.

    Rows beside the comparison, walks that are handed the draw above all, have no say.

    Args:
        rows: of one input.
        signal: what the samples are; others than pictures are judged by their main measure, see :func:`~.rivals.verdict`.
    """
    if signal != PICTURE:
        return rivals.verdict([row for row in rows if compared(row)], measures_for(signal), signal)
    beside = {str(row.get("kind")): row for row in rows if not compared(row)}
    rows = [row for row in rows if compared(row)]
    by_name = {row["method"]: row for row in rows}
    direct = by_name["Direct"]
    walks = [row for row in rows if LAST in row]
    out = [_headline(by_name)]
    if walks:
        out += [_walks(walks, direct), *_sets(walks, rows, direct, beside.get("floor")), *lies(walks, direct, PICTURE)]
    return out + _labels(rows, beside.get("clean"))


def _headline(by_name: Mapping[str, Row]) -> str:
    direct, degraded = by_name["Direct"], by_name["Degraded"]
    linear = min((by_name[name] for name in _FILTERS if name in by_name), key=lambda row: float(row["rmse"]), default=None)
    gain = direct["psnr"] - degraded["psnr"]
    against = "" if linear is None else f", {level(direct['psnr'] - linear['psnr'])} the best linear filter"
    headline = f"One call of the restorer lies {level(gain)} the degraded pictures{against}."
    if gain < 3 or (linear is not None and direct["rmse"] >= linear["rmse"]):
        return "Not convincing: " + headline[0].lower() + headline[1:]
    return headline


def level(db: float) -> str:
    """How a PSNR lies to another, `db` lower: a number without a sign, and a word, as one says it."""
    return "level with" if abs(db) < 0.005 else f"{abs(db):.2f} dB {'above' if db > 0 else 'below'}"


def _walks(walks: Sequence[Row], direct: Row) -> str:
    best = min(walks, key=lambda row: float(row["rmse"]))
    lower = best["rmse"] < direct["rmse"]
    worse = sum(row["rmse"] > direct["rmse"] for row in walks)
    which = f"{chosen(best, walks)} has an RMSE of {best['rmse']:.3f}"
    first = f"{which}, {'lower' if lower else 'higher'} than one call's {direct['rmse']:.3f}"
    if not lower:
        return f"{first}. A walk trades distortion for detail: look at the pictures."
    return f"{first}; {worse} of {len(walks)} walks are worse than one call." if worse else f"{first}."


def _sets(walks: Sequence[Row], rows: Sequence[Row], direct: Row, floor: Row | None) -> list[str]:
    """Which walk comes closest to clean pictures as a set, and whether that is more than chance."""
    name = next((key for row in rows for key, value in row.items() if key.startswith(("FD-", "FID")) and isinstance(value, float)), None)
    if name is None or name not in direct:
        return []
    best = min((row for row in walks if name in row), key=lambda row: float(row[name]))
    against = f"one call scores {direct[name]:.3g}" + ("" if floor is None else f", training pictures {floor[name]:.3g}")
    if best[name] >= direct[name]:
        said = "As sets of pictures, no walk comes closer to the clean ones than one call"
        return [f"{said}: {name} {best[name]:.3g} for {chosen(best, walks).rstrip(',')}; {against}."]
    apart = _apart(best, direct, name)
    return [
        f"As a set of pictures, {chosen(best, walks)} comes closest to the clean ones: {name} {best[name]:.3g}; {against}."
        + ("" if apart else " The intervals of walk and call overlap: the difference may be chance.")
    ]


def _labels(rows: Sequence[Row], clean: Row | None) -> list[str]:
    scored = [row for row in rows if isinstance(row.get(ACCURACY), float)]
    if not scored:
        return []
    if clean and isinstance(clean.get(ACCURACY), float) and clean[ACCURACY] < _KNOWN:
        return ["The features do not know these pictures: label accuracy says nothing."]
    best = max(scored, key=lambda row: float(row[ACCURACY]))
    ceiling = f"; on clean pictures it is right for {clean[ACCURACY]:.1%}" if clean and isinstance(clean.get(ACCURACY), float) else ""
    degraded = next((f" ({row[ACCURACY]:.1%} as degraded)" for row in scored if row["method"] == "Degraded"), "")
    after = chosen(best, scored, "methods").rstrip(",")
    return [f"A classifier reads {best[ACCURACY]:.1%} of the pictures rightly after {after}{degraded}{ceiling}."]


def _apart(a: Row, b: Row, name: str) -> bool:
    """Whether the intervals of two rows do not meet."""
    first, second = a.get("intervals", {}).get(name), b.get("intervals", {}).get(name)
    return first is None or second is None or first[1] < second[0] or second[1] < first[0]
