"""Quality against calls as a report: the rows of all walks, what they say of the claims made for few calls, as JSON, Markdown and a picture.

Two claims are checked in words: that 12 calls of order 2 lie within 2 % of 50 calls of Algorithm 2 (DDIM where noise has to be solved for), and
that the tuned copy's own walk, of two calls for most, is at least as good as eight calls of the model it was tuned from. Where a claim does not
hold, the sentence says so, with the numbers.

A perfect sample of the posterior has the root of 2 times the RMSE of its mean, which one call returns, because truth and sample are then two
independent draws of one law. So a walk that ends at that line pays exactly what plausible detail costs (Blau and Michaeli 2018, arXiv 1711.06077).
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from snowmelt.evaluation.calls import FIRST, ONCE, SECOND, TUNED, WALKS
from snowmelt.evaluation.scoring import MEASUREMENT
from snowmelt.files import BadFile, read_json, write_text
from snowmelt.pictures import Level, Panel, markdown_table, panels_svg

NAME = "curve.json"
WRITTEN = (NAME, "curve.md", "calls.svg")  # curve.svg is a picture of an evaluation
RESTORED, GENERATED = "restored", "generated"
FEW, MANY, WITHIN = 12, 50, 0.02
UNTUNED_CALLS = 8
_BESIDE = ("degraded", "clean", "floor")


@dataclass(frozen=True)
class Curve:
    """What was measured.

    Attributes:
        rows: one mapping a walk and number of calls: of, "restored" or "generated" pictures; walk, calls, sampler, images (or N), rmse, psnr, ssim,
            measurement error, the distances of sets under their own names, "intervals", or the share "diverged"; "weights" and "commit" of what made
            it. The walks "degraded", "clean" and "floor" have 0 calls.
        settings: all that a row depends on beside its walk and weights.
        facts: what it was measured on, for readers; of these, "knots" of a table and the "tuned walk" count in what is said.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """What a curve.json holds.

        Raises:
            BadFile: the file is damaged, or holds something else.
        """
        found = read_json(path)
        try:
            rows = [dict(row) for row in found["rows"]]
            if not all(isinstance(row["walk"], str) and isinstance(row["calls"], int) for row in rows):
                raise TypeError
            return cls(rows, dict(found["settings"]), dict(found["facts"]))
        except (TypeError, KeyError, AttributeError, ValueError):
            raise BadFile(f"{path} holds no quality against calls: measure it anew with 'snowmelt evaluate --curve'") from None

    def valid(self, settings: Mapping[str, Any], weights: Iterable[str], images: Mapping[str, int]) -> "Curve":
        """What of it holds for these settings, weights and numbers of restored and generated pictures: nothing where the settings are others."""
        known, same = set(weights), json.loads(json.dumps(dict(settings))) == dict(self.settings)
        kept = [row for row in self.rows if same and row["weights"] in known and row["images"] == images.get(row["of"])]
        return Curve(kept, settings, self.facts)

    def row(self, walk: str, calls: int, of: str = RESTORED) -> dict[str, Any] | None:
        """The row of a walk at a number of calls, if there is one."""
        return next((row for row in self.rows if (row["of"], row["walk"], row["calls"]) == (of, walk, calls)), None)

    def ordered(self, of: str) -> list[dict[str, Any]]:
        """The rows of restored or of generated pictures, walk by walk, by rising calls; tuned walks after those, what stands beside them last."""
        rows = [row for row in self.rows if row["of"] == of]
        order = {name: i for i, name in enumerate((*WALKS, *sorted({row["walk"] for row in rows} - {*WALKS, *_BESIDE}), *_BESIDE))}
        return sorted(rows, key=lambda row: (order[row["walk"]], row["calls"]))

    def distance(self, of: str = RESTORED) -> str | None:
        """The name of the Fréchet distance that was computed; None where none was."""
        rows = (row for row in self.rows if row["of"] == of)
        return next((name for row in rows for name, value in row.items() if name.startswith(("FD-", "FID")) and isinstance(value, float)), None)

    def verdict(self) -> list[str]:
        """Whether more calls than one are worth it at all, and what the rows say of the two claims."""
        out = []
        for of in (RESTORED, GENERATED):
            if any(row["of"] == of and row["walk"] not in _BESIDE for row in self.rows):
                out += [said for said in (_of_calls(self, of), _of_order(self, of), _of_tuning(self, of)) if said]
        return list(dict.fromkeys(out))

    def table(self, of: str) -> list[dict[str, Any]]:
        """The rows of one kind, ready for a table."""
        keep = ("walk", "calls", "rmse", "psnr", "ssim", MEASUREMENT)
        out = []
        for row in self.ordered(of):
            sets = {name: row[name] for name in row if name.split("-")[0] in ("FD", "FID", "KID") and isinstance(row[name], float)}
            fd = next((name for name in sets if not name.startswith("KID")), None)
            sure = {"95 %": tuple(found)} if fd and (found := row.get("intervals", {}).get(fd)) else {}
            out.append({name: row[name] for name in keep if name in row} | sets | sure)
        columns = list(dict.fromkeys(name for row in out for name in row))
        return [{name: row.get(name, math.nan) for name in columns} for row in out]

    def markdown(self) -> str:
        """The report as Markdown."""
        parts = ["\n".join(self.verdict())]
        for of in (RESTORED, GENERATED):
            if rows := self.table(of):
                apart = [i for i, row in enumerate(rows) if row["walk"] in _BESIDE]
                parts.append(f"{of.capitalize()} pictures, by walk and calls:\n\n{markdown_table(rows, best={MEASUREMENT: 'low'}, apart=apart)}")
        parts.append("\n".join(f"- {key}: {value}" for key, value in self.facts.items()))
        return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"

    def figure(self) -> str:
        """Every measure against the calls, as SVG."""
        panels = [panel for of in (RESTORED, GENERATED) for panel in self._panels(of)]
        return panels_svg(panels or [Panel("", {}, "calls", "")], title=self.facts.get("title", "Quality against the number of calls"))

    def _panels(self, of: str) -> list[Panel]:
        rows = self.ordered(of)
        fd = self.distance(of)
        real = _value(self.row("floor", 0, of), fd)
        once, truth = _value(self.row(ONCE, 1, of), "rmse"), _value(self.row("clean", 0, of), MEASUREMENT)
        mean = self.facts.get("estimates") == "mean"
        levels = {
            "rmse": [Level("√2 × one call: a sample of the posterior", math.sqrt(2) * once)] if once and mean else [],
            fd: [Level("training pictures", real)] if real else [],
            MEASUREMENT: [Level("the truth itself", truth)] if truth else [],
        }
        told = {"rmse": "RMSE: distance from the truth", fd: f"{fd}: distance from clean pictures, as a set", MEASUREMENT: MEASUREMENT}
        out = []
        for name, level in levels.items():
            lines: dict[str, list[tuple[float, float]]] = {}
            for row in rows:
                if row["walk"] not in _BESIDE and name is not None and _value(row, name) is not None:
                    lines.setdefault(row["walk"], []).append((row["calls"], row[name]))
            if lines:
                out.append(Panel(f"{of.capitalize()}: {told[name]}", lines, "calls of the restorer", "RMSE" if name == "rmse" else str(name), level))
        return out

    def keep(self, out: Path) -> None:
        """The file of all rows in the directory `out`, replaced as a whole."""
        write_text(out / NAME, json.dumps({**dataclasses.asdict(self), "verdict": self.verdict()}, indent=2) + "\n")

    def write(self, out: Path) -> None:
        """The files of :data:`WRITTEN` in the directory `out`."""
        self.keep(out)
        write_text(out / "curve.md", self.markdown())
        write_text(out / "calls.svg", self.figure())


def _of_calls(curve: Curve, of: str) -> str | None:
    """Which walk comes closest to clean pictures, as a set, against one call."""
    once, name = curve.row(ONCE, 1, of), curve.distance(of)
    walks = [row for row in curve.ordered(of) if row["walk"] not in (ONCE, *_BESIDE) and _value(row, name) is not None]
    if once is None or name is None or _value(once, name) is None or not walks:
        return None
    best = min(walks, key=lambda row: float(row[name]))
    which = f"{_calls(best)} of {best['walk']}, the best of {len(walks)} rows, chosen on these very pictures,"
    helps = "come closer to clean pictures, as a set, than one call" if best[name] < once[name] else "come no closer to clean pictures, as a set"
    error = f"; their RMSE is {best['rmse'] / once['rmse']:.2f} times that of one call" if _value(best, "rmse") and _value(once, "rmse") else ""
    return f"{of.capitalize()}: {which} {helps}: {_compared(best, once, name, None)}{error}."


def _of_order(curve: Curve, of: str) -> str | None:
    """Whether few calls of order 2 do what many of order 1 do."""
    most = min(MANY, curve.facts.get("knots", MANY))  # a table of fewer knots has no longer walk
    few, first = curve.row(SECOND, FEW, of), [row for row in (curve.row(walk, most, of) for walk in FIRST) if row is not None]
    many = first[-1] if first else None
    if few is None or many is None:
        missing = f"{FEW} calls of order 2" if few is None else f"{most} calls of Algorithm 2 or DDIM"
        return f"{of.capitalize()}: {missing} were not measured, so nothing is said of the two." if many or few else None
    both = f"{of.capitalize()}: {FEW} calls of order 2 against {many['calls']} of {many['walk']}"
    names = [name for name in (curve.distance(of), MEASUREMENT) if name is not None and _value(few, name) is not None and _value(many, name)]
    if not names:
        return f"{both}: no distance of sets was computed (--features), so nothing is said of the two."
    truth = {name: _value(curve.row("clean", 0, of), name) for name in names}
    held = all(few[name] <= (1 + WITHIN) * many[name] or _beneath(few, many, name, truth[name]) for name in names)
    said = "; ".join(_compared(few, many, name, truth[name]) for name in names)
    return f"{both}: {'within' if held else 'NOT within'} {WITHIN:.0%}: {said}."


def _of_tuning(curve: Curve, of: str) -> str | None:
    """Whether the few calls that a tuned copy takes when nothing is said do what more untuned ones do."""
    if "tuned" not in curve.facts:
        return "There is no tuned copy to compare with: 'snowmelt tune RUN' makes one."
    tuned, usual = [row for row in curve.ordered(of) if row["walk"].startswith(TUNED)], curve.facts.get("tuned walk")
    few, name = next((row for row in tuned if (row.get("sampler") or ONCE) == usual), None), curve.distance(of)
    if few is None:
        return f"{of.capitalize()}: the tuned copy's own walk was not measured, so nothing is said of it." if tuned else None
    several = [row for walk in (SECOND, *FIRST) if (row := curve.row(walk, UNTUNED_CALLS, of)) is not None and (name is None or _value(row, name))]
    both = f"{of.capitalize()}: {_calls(few)} of the tuned copy ({few['walk']}) against {UNTUNED_CALLS} untuned ones"
    if name is not None and few.get("diverged"):
        return f"{both}: NOT as good: it diverged in {few['diverged']:.0%} of the pictures."
    if name is None or not several or _value(few, name) is None:
        why = "no distance of sets was computed (--features)" if name is None else "these were not measured"
        return f"{both}: {why}, so nothing is said of the two."
    beaten = [row for row in several if few[name] <= row[name]]
    held = "at least as good" if len(beaten) == len(several) else "NOT as good as all of them" if beaten else "NOT as good"
    said = "; ".join(f"{row['walk']}: {_compared(few, row, name, None)}" for row in several)
    return f"{both}: {held}: {said}."


def _compared(few: Mapping[str, Any], many: Mapping[str, Any], name: str, truth: float | None) -> str:
    """Two numbers, how far they are apart, and what of that may be chance or noise."""
    change = few[name] / many[name] - 1
    out = f"{name} {few[name]:.3g} against {many[name]:.3g} ({change:+.1%}"
    if _beneath(few, many, name, truth):
        return f"{out}; both below the truth's own {truth:.3g})"
    first, second = (row.get("intervals", {}).get(name) for row in (few, many))
    return f"{out}; their 95 % intervals overlap)" if first and second and _meet(first, second) else f"{out})"


def _beneath(few: Mapping[str, Any], many: Mapping[str, Any], name: str, truth: float | None) -> bool:
    """Whether both numbers are no more than noise makes of the truth itself."""
    return truth is not None and max(few[name], many[name]) <= truth


def _calls(row: Mapping[str, Any]) -> str:
    return f"{row['calls']} call{'' if row['calls'] == 1 else 's'}"


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def _value(row: Mapping[str, Any] | None, name: str | None) -> float | None:
    value = None if row is None or name is None else row.get(name)
    return value if isinstance(value, float) and math.isfinite(value) else None
