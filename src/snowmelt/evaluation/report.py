"""What was measured: rows, facts and a verdict, as JSON and as Markdown.

A report is plain values, so that one from an earlier version still loads: what it lacks is empty, and the names its columns had then
are read as those they have now.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from snowmelt.evaluation.methods import compared
from snowmelt.evaluation.scoring import LAST, MEASUREMENT
from snowmelt.evaluation.sets import ACCURACY, NOT_COMPUTED
from snowmelt.files import BadFile, read_json, write_text
from snowmelt.metrics.distortion import Pictures
from snowmelt.metrics.scans import Scans
from snowmelt.metrics.sound import Recordings
from snowmelt.pictures import markdown_table
from snowmelt.signals import PICTURE, Picture, Scan, Signal, Sound

Input = Literal["float", "8bit"]
INPUTS: tuple[Input, ...] = ("float", "8bit")
TITLES: dict[Input, str] = {"float": "in floating point", "8bit": "rounded to 8 bits, as in a file"}
SIGNAL = "signal"  # the fact that says what samples are, of others than pictures
_WORDS: dict[str, type[Signal]] = {"picture": Picture, "sound": Sound, "scan": Scan}
_COLUMNS = tuple(dict.fromkeys(one for kind in (Pictures, Recordings, Scans) for one in kind.columns))
BEST: dict[str, Literal["low", "high"]] = {**{one.name: one.better for one in _COLUMNS}, MEASUREMENT: "low", ACCURACY: "high", LAST: "low"}
_ONCE = {"inconsistency": MEASUREMENT}  # what a column was called before
_DISTANCES = ("FD", "FID", "KID")
_FROM_ABOVE = ("JSD", "MMD")


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        rows: one mapping per method and input: method, kind, input, calls, images, rmse, psnr, ssim (of other signals than pictures their own
            measures), measurement error, the distances of
            sets under their own names, label accuracy, RMSE of last estimate; under "intervals" their 95 % intervals, under "last
            estimate" the same measures of the last estimate of a walk; of other signals under "gains" by how much the main measure is better than
            that of each row without a network; under "left out" how many samples have no such number.
        facts: what it was measured on: data, model, seed, versions.
        verdict: what the numbers say, in sentences; the first one is the headline.
        severities: RMSE of Degraded and of Direct at rising severities, with intervals.
        extremes: the samples that one call restores worst, and those in the middle: number, name, PSNR or whatever their main measure is.
        generated: what was measured of generated pictures; empty where none were.
        walks: what walks that generate score beside each other, a row each; empty where none were compared.
    """

    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    verdict: list[str]
    severities: list[dict[str, Any]] = field(default_factory=list)
    extremes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    generated: dict[str, Any] = field(default_factory=dict)
    walks: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the names of earlier versions as today's."""
        for row in self.rows:
            for old, new in _ONCE.items():
                if old in row:
                    row[new] = row.pop(old)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The report kept in an evaluation.json; entries of later versions are left out.

        Raises:
            BadFile: the file is damaged, or no report.
        """
        found = read_json(path)
        _check(found, path)
        known = {one.name for one in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in found.items() if name in known})

    def of(self, input: Input) -> list[dict[str, Any]]:
        """The rows of one input, whole."""
        return [row for row in self.rows if row["input"] == input]

    @property
    def signal(self) -> type[Signal]:
        """What was scored, for the words for it: that of the facts, pictures where they say nothing."""
        return _WORDS.get(str(self.facts.get(SIGNAL, "picture")).split(":")[0], Picture)

    def inputs(self) -> list[Input]:
        """The inputs there are rows of."""
        return [name for name in INPUTS if self.of(name)]

    @property
    def main(self) -> Input:
        """The input the model was trained for, where it was scored, else the first one that was."""
        own: Input = "8bit" if "8 bits" in str(self.facts.get("trained for")) else "float"
        return own if own in self.inputs() else self.inputs()[0]

    def distances(self) -> list[str]:
        """The names of the distances of sets that were computed, the Fréchet distance first."""
        found = dict.fromkeys(name for row in self.rows for name, value in row.items() if _is_distance(name) and isinstance(value, float))
        return list(found)

    def table(self, input: Input) -> list[dict[str, Any]]:
        """The rows of one input, ready for a table."""
        rows = self.of(input)
        keep = ("method", "calls", *_measures(rows))
        there = [name for name in keep if any(name in row for row in rows)]
        return [_merged({name: row.get(name, math.nan) for name in there}) for row in rows]  # nan is written as a gap

    def apart(self, input: Input) -> list[int]:
        """The numbers of the rows in :meth:`table` that stand beside the comparison."""
        return [i for i, row in enumerate(self.of(input)) if not compared(row)]

    def certainty(self, input: Input) -> list[dict[str, Any]]:
        """The 95 % intervals of the rows of one input, ready for a table."""
        rows, out = self.of(input), []
        measures = _measures(rows)
        for row in rows:
            found = row.get("intervals", {})
            sure = {name: tuple(found[name]) for name in measures if found.get(name) is not None}
            if sure:
                out.append({"method": row["method"], "calls": row["calls"], "N": row["images"], **sure})
        return out

    def summary(self) -> str:
        """The verdict, and the comparison that it speaks of, as Markdown."""
        return "\n\n".join(["\n".join(self.verdict), self.comparison(self.main)])

    def comparison(self, name: Input) -> str:
        """Every method on the samples of one input, as Markdown."""
        table = markdown_table(self.table(name), best=BEST, apart=self.apart(name))
        return f"Degraded {self.signal.many} at t = 1, {TITLES[name]}:\n\n{table}"

    def markdown(self) -> str:
        """The report as Markdown."""
        parts, many = ["\n".join(self.verdict)], self.signal.many
        for name in self.inputs():
            parts.append(self.comparison(name))
        for name in self.inputs():
            if sure := self.certainty(name):
                parts.append(f"95 % intervals, degraded {many} {TITLES[name]}:\n\n{markdown_table(sure, best=BEST, mark=False)}")
        if self.severities:
            parts.append(f"Error per severity:\n\n{markdown_table(severity_rows(self.severities), mark=False)}")
        if self.generated:
            parts.append(f"Generated {many}:\n\n{markdown_table(generated_rows(self.generated, many))}")
        if self.walks:
            parts.append(f"Walks that generate, beside each other:\n\n{markdown_table(walk_rows(self.walks), mark=False)}")
        parts.append("\n".join(f"- {key}: {value}" for key, value in self.facts.items()))
        return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"

    def write(self, out: Path) -> None:
        """evaluation.json and evaluation.md in the directory `out`."""
        write_text(out / "evaluation.json", json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        write_text(out / "evaluation.md", self.markdown())


def _check(found: Any, path: str | Path) -> None:
    """Refuse what is no report, in one line."""
    wanted = {"rows": list, "facts": dict, "verdict": list}
    may_lack = {"severities": list, "extremes": dict, "generated": dict, "walks": list}
    called = {list: "a list", dict: "an object"}
    way_out = "evaluate the run anew with 'snowmelt evaluate'"
    if not isinstance(found, dict):
        raise BadFile(f"{path} holds no report but {ascii(found)[:40]}: {way_out}")
    for name, kind in (wanted | may_lack).items():
        if name not in found and name in wanted:
            raise BadFile(f"{path} lacks the entry '{name}' of a report: {way_out}")
        if not isinstance(found.get(name, kind()), kind):
            raise BadFile(f"{path}: {name} = {ascii(found[name])[:40]} is not {called[kind]}: {way_out}")
    for i, row in enumerate(found["rows"]):
        if not isinstance(row, dict) or not isinstance(row.get("method"), str) or row.get("input") not in INPUTS:
            raise BadFile(f"{path}: row {i} is {ascii(row)[:40]}, and a row has a method, and an input that is float or 8bit: {way_out}")
    strange = next((one for one in found["verdict"] if not isinstance(one, str)), None)
    if strange is not None:
        raise BadFile(f"{path}: the verdict holds {ascii(strange)[:40]}, which is no sentence: {way_out}")


def severity_rows(severities: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The error per severity, ready for a table."""
    return [{"t": point["t"], "Degraded, RMSE": point["degraded"], "Direct, RMSE": point["direct"]} for point in severities]


def inputs_for(signal: Signal) -> tuple[Input, ...]:
    """How samples are degraded where nothing is said: 8 bits are those of a picture file."""
    return INPUTS if signal == PICTURE else ("float",)


def generated_rows(generated: dict[str, Any], many: str = "pictures") -> list[dict[str, Any]]:
    """What was measured of generated samples, `many` of which are so called, ready for a table: one row a measure, beside what real ones score."""
    sure = generated.get("intervals", {})
    out = []
    for name, (value, real) in generated["measures"].items():
        low_high = sure.get(name)
        out.append({"measure": name, "generated": value, "95 % interval": tuple(low_high) if low_high else "–", f"real {many}": real})
    return out


def walk_rows(walks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Walks that generate, ready for a table: every distance of sets with its interval."""
    out = []
    for row in walks:
        sure = row.get("intervals", {})
        cells: dict[str, Any] = {}
        for name, value in row.items():
            if name not in ("intervals", "sampler"):
                cells[name] = value
            if name in sure and _is_distance(name) and not name.startswith(("KID", "MMD")):
                cells["95 %"] = tuple(sure[name])
        out.append(cells)
    columns = list(dict.fromkeys(name for row in out for name in row))
    return [{name: row.get(name, math.nan) for name in columns} for row in out]


def _measures(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The measures of a table, in the order in which they are read."""
    sets = dict.fromkeys(name for row in rows for name in row if _is_distance(name))
    return [*(one.name for one in _COLUMNS), MEASUREMENT, *sets, ACCURACY, LAST]


def _merged(row: dict[str, Any]) -> dict[str, Any]:
    """Both distances in one column where neither was computed."""
    if "FD" not in row:
        return row
    empty = NOT_COMPUTED if row["FD"] == NOT_COMPUTED else math.nan
    return {("FD, KID" if name == "FD" else name): (empty if name == "FD" else value) for name, value in row.items() if name != "KID"}


def _is_distance(name: str) -> bool:
    return name.split("-")[0] in _DISTANCES or name.startswith(_FROM_ABOVE)
