"""What is measured, kept so that a run can stop anywhere and go on: a JSON file with one cell a line.

A *cell* is one method with its parameters on one damage and one set, with the numbers of the pictures done and one list per score. It is used
again as long as damage, parameters and the damaged pictures themselves are the same. The last are known by their *marks*, a few
numbers that another draw, operator or photograph changes, and another processor's last bit does not.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from snowmelt import files

DECIMALS = 4
_APART = 0.002  # a pixel that rounds the other way moves a mark by far less, another draw of the noise by more


def mark(x: Tensor, clean: Tensor) -> list[float]:
    """What a damaged picture (c, h, w) in [-1, 1] is known by: its PSNR in dB (100 if nothing is lost), its mean and deviation in levels."""
    lost = float(((x - clean) / 2).double().square().mean())
    return [round(v, DECIMALS) for v in (-10 * np.log10(max(lost, 1e-10)), float(x.mean()) * 127.5, float(x.std()) * 127.5)]


def same(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether two marks stand for the same pictures."""
    return len(ours) == len(theirs) and all(abs(a - b) <= _APART for a, b in zip(ours, theirs, strict=True))


class Record:
    """The results file, in memory.

    Attributes:
        facts: environment, score settings, sets.
        tuning: what was chosen, by "family | form | method".
        inputs: by "set | damage", the marks of the damaged pictures by number.
        cells: by "set | damage | form | method".
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = files.read_json(path) if path.exists() else {}
        self.facts: dict[str, Any] = found.get("facts", {})
        self.tuning: dict[str, dict[str, Any]] = found.get("tuning", {})
        self.inputs: dict[str, dict[str, list[float]]] = found.get("inputs", {})
        self.cells: dict[str, dict[str, Any]] = {}
        for cell in found.get("cells", []):
            self.cells[" | ".join((cell["set"], cell["damage"], cell["form"], cell["method"]))] = cell

    def cell(self, name: str, damage: str, spec: str, form: str, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """The cell of that key, empty if it was never begun or was measured with another spec or other parameters."""
        key = " | ".join((name, damage, form, method))
        known = {"set": name, "damage": damage, "spec": spec, "form": form, "method": method, "parameters": parameters}
        old = self.cells.get(key)
        if old is None or any(old[k] != v for k, v in json.loads(json.dumps(known)).items()):
            self.cells[key] = known | {"seconds": 0.0, "pictures": [], "scores": {}}
        return self.cells[key]

    def same_input(self, name: str, damage: str, number: int, found: list[float]) -> None:
        """Note the mark of a damaged picture; if it was another one, forget all that was measured on that set and damage."""
        seen = self.inputs.setdefault(f"{name} | {damage}", {})
        if not same(seen.get(str(number), found), found):
            kept = {key: cell for key, cell in self.cells.items() if (cell["set"], cell["damage"]) != (name, damage)}
            if len(kept) < len(self.cells):
                print(f"{name}, {damage}: the damaged pictures are not those of {self.path.name}; measuring anew")
            self.cells = kept
        seen[str(number)] = found

    def add(self, cell: dict[str, Any], number: int, scores: dict[str, float], seconds: float) -> None:
        """One more picture of a cell."""
        cell["pictures"].append(number)
        cell["seconds"] = round(cell["seconds"] + seconds, 3)
        for name, value in scores.items():
            cell["scores"].setdefault(name, []).append(round(value, DECIMALS))

    def save(self) -> None:
        """Write it all, whole or not at all."""
        lines = {key: [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in getattr(self, key).items()] for key in ("tuning", "inputs")}
        parts = [f'"facts": {json.dumps(self.facts, indent=2)}']
        parts += [f'"{key}": {{\n' + ",\n".join(rows) + "\n}" for key, rows in lines.items()]
        parts.append('"cells": [\n' + ",\n".join(json.dumps(cell) for cell in self.cells.values()) + "\n]")
        files.write_text(self.path, "{\n" + ",\n".join(parts) + "\n}\n")
