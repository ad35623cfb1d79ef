"""Bits per dimension as a report: the table of the terms, the cost of the steps, facts; as JSON, Markdown and a curve."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from snowmelt.evaluation.bound import Bound
from snowmelt.files import BadFile, read_json, write_text
from snowmelt.pictures import curve_svg, markdown_table

WRITTEN = ("bound.json", "bound.md", "bound.svg")
_TOLD = {
    "small": "small: that of the true posterior",
    "large": "large: beta, that of the step forwards",
    "learned": "learned, between the two",
}


@dataclass(frozen=True)
class Bits:
    """What was measured.

    Attributes:
        bounds: by the variance of the model's steps.
        facts: what it was measured on: data, model, seed, versions.
    """

    bounds: Mapping[str, Bound]
    facts: Mapping[str, Any]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """What a bound.json holds.

        Raises:
            BadFile: the file is damaged, or holds something else.
        """
        found = read_json(path)
        try:
            return cls({name: _restored(one) for name, one in found["bounds"].items()}, dict(found["facts"]))
        except (TypeError, KeyError, AttributeError, ValueError):
            raise BadFile(f"{path} holds no bits per dimension: measure them anew with 'snowmelt evaluate --bits-per-dim'") from None

    @property
    def best(self) -> Bound:
        """The lowest of the bounds: all of them hold."""
        return min(self.bounds.values(), key=lambda one: one.total)

    def headline(self) -> str:
        """The result in one sentence."""
        one = self.best
        sure = f" (95 %: {one.interval[0]:.3f} to {one.interval[1]:.3f})" if one.interval else ""
        said = f"At most {one.total:.3f} bits per dimension{sure}, with the {one.variance} variance"
        given = f" of pictures whose {told} is told" if (told := self.facts.get("conditioned on")) else ""
        return f"{said}: the mean over {one.images:,} pictures, in {one.grid:,} steps{', ' + given[1:] if given else ''}."

    def rows(self) -> list[dict[str, object]]:
        """The terms, ready for a table: one row a variance."""
        return [
            {
                "variance of a step": _TOLD.get(name, name),
                "L_T, prior": f"{one.prior:.4f}",
                "L_1 ... L_{T-1}, steps": f"{one.steps:.4f}",
                "L_0, decoder": f"{one.decoder:.4f}",
                "bits per dimension": f"{one.total:.4f}",
                "95 % interval": f"{one.interval[0]:.4f} to {one.interval[1]:.4f}" if one.interval else "–",
            }
            for name, one in self.bounds.items()
        ]

    def band_rows(self, n: int = 10) -> list[dict[str, object]]:
        """What the steps cost, band by band, ready for a table."""
        bands = {name: one.bands(n) for name, one in self.bounds.items()}
        some = next(iter(bands.values()))
        return [
            {"steps that end in t": f"{low:.3f} to {high:.3f}", **{f"{name}, bits per dimension": f"{b[i][2]:.4f}" for name, b in bands.items()}}
            for i, (low, high, _) in enumerate(some)
        ]

    def curve(self) -> str:
        """The cost of each step against the severity it ends at, as SVG."""
        lines = {name: [((i + 1) / one.grid, cost) for i, cost in enumerate(one.per_step)] for name, one in self.bounds.items()}
        return curve_svg(lines, title="What each step costs", x_label="severity at which the step ends", y_label="bits per dimension", log_y=True)

    def markdown(self) -> str:
        """The report as Markdown."""
        tables = [markdown_table(rows, mark=False).rstrip("\n") for rows in (self.rows(), self.band_rows())]
        facts = "\n".join(f"- {key}: {value}" for key, value in self.facts.items())
        return "\n\n".join([self.headline(), *tables, facts]) + "\n"

    def write(self, out: Path) -> None:
        """The files of :data:`WRITTEN` in the directory `out`."""
        kept = {"bounds": {name: dataclasses.asdict(one) for name, one in self.bounds.items()}, "facts": dict(self.facts)}
        write_text(out / "bound.json", json.dumps(kept, indent=2) + "\n")
        write_text(out / "bound.md", self.markdown())
        write_text(out / "bound.svg", self.curve())


def _restored(found: Mapping[str, Any]) -> Bound:
    sure = found["interval"]
    low_high = None if sure is None else (float(sure[0]), float(sure[1]))
    return Bound(**{**found, "interval": low_high, "per_step": tuple(float(one) for one in found["per_step"])})
