"""What was restored and what failed, kept beside the results: restored.jsonl and errors.jsonl.

restored.jsonl is a journal. A line is added when a picture is finished and whole, so a killed run loses nothing but a line that was half
written, which the next run drops; it is never held in memory and never rewritten while pictures come in. Lines of one kind say
the settings, under a short hash of them; lines of the next are pictures, which name that hash; and one line says at the end of a run how fast it was.
errors.jsonl holds one line for each picture that is still to be restored: a line goes when its picture succeeds, and the file with its last line.

A shard writes files of its own (restored.2-of-8.jsonl): processes on several machines then never share one. Every run reads those of all others, to
know what was made how, and :func:`join` makes one of them when all shares are through.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snowmelt import files
from snowmelt.lines import add as _append
from snowmelt.lines import read as _lines


class Journal:
    """The two files of one output folder; a folder of None keeps nothing.

    Args:
        folder: the output folder.
        shard: (i, n).
        settings: what holds for every picture of this run.
        name: of the journal.
    """

    def __init__(self, folder: Path | None, shard: tuple[int, int], settings: Mapping[str, Any], name: str = "restored") -> None:
        ending = "" if shard[1] == 1 else f".{shard[0]}-of-{shard[1]}"
        self.folder = folder
        self.restored = None if folder is None else folder / f"{name}{ending}.jsonl"
        self.errors = None if folder is None else folder / f"errors{ending}.jsonl"
        self.settings = dict(settings)
        self.id = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]
        self.known: dict[str, str] = {}
        self._said = False
        self._errors: dict[str, str] = {}
        self._sources: set[str] = set()
        if folder is not None:
            self._load()

    def done(self, source: Path, target: Path, entry: Mapping[str, Any]) -> None:
        """A picture is finished: its output is whole and in place."""
        self._errors.pop(os.path.abspath(source), None)
        if self.restored is None:
            return
        if not self._said:
            _append(self.restored, {"settings": self.id, "are": self.settings})
            self._said = True
        _append(self.restored, {"input": os.path.abspath(source), "output": os.path.abspath(target), "settings": self.id, **entry})
        self.known[os.path.abspath(target)] = self.id

    def pace(self, table: Mapping[str, Any]) -> None:
        """How fast this run was."""
        if self.restored is not None:
            _append(self.restored, {"run": table, "settings": self.id})

    def made(self, target: Path) -> bool:
        """Whether the journal says that an output was finished with these settings."""
        return self.known.get(os.path.abspath(target)) == self.id

    def kept(self, source: Path, target: Path) -> bool:
        """A picture was there already: its error, if any, is settled. Whether it was made with other settings than these."""
        self._errors.pop(os.path.abspath(source), None)
        return self.known.get(os.path.abspath(target), self.id) != self.id

    def failed(self, source: Path, reason: str) -> None:
        """A picture could not be restored."""
        self._errors[os.path.abspath(source)] = reason
        if self.errors is not None:
            _append(self.errors, {"input": os.path.abspath(source), "reason": reason})

    def close(self) -> None:
        """Leave in errors.jsonl what is still to be restored, each once."""
        if self.folder is None or self.errors is None:
            return
        if self.errors.name == "errors.jsonl":  # a run over everything settles the errors of shards too
            for other in self.folder.glob("errors.*-of-*.jsonl"):
                self._rewrite(other, {name: why for name, why in _errors(other).items() if not self._settled(name)})
        self._rewrite(self.errors, self._errors)

    def _settled(self, name: str) -> bool:
        return name not in self._errors and name in self._sources

    def _load(self) -> None:
        assert self.restored is not None and self.errors is not None  # noqa: S101 - there is a folder
        for left in (*self.restored.parent.glob(f".{self.restored.name}.*.part"), *self.errors.parent.glob(f".{self.errors.name}.*.part")):
            left.unlink(missing_ok=True)
        self._errors = _errors(self.errors)
        for other in _journals(self.restored):
            self.known |= {output: str(line.get("settings")) for output, line in _Entries(_lines(other)[0]).pictures.items()}
        lines, whole = _lines(self.restored)
        found = _Entries(lines)
        self.known |= {output: str(line.get("settings")) for output, line in found.pictures.items()}
        self._said = self.id in found.settings
        if not whole or len(lines) > len(found):
            found.write(self.restored)

    def settle(self, sources: list[Path]) -> None:
        """The pictures that this run takes care of, finished or not: what is not in errors afterwards is settled."""
        self._sources = {os.path.abspath(source) for source in sources}

    @staticmethod
    def _rewrite(path: Path, errors: Mapping[str, str]) -> None:
        if errors:
            files.write_text(path, "".join(json.dumps({"input": name, "reason": why}) + "\n" for name, why in errors.items()))
        else:
            path.unlink(missing_ok=True)


class _Entries:
    """What the lines of a journal say, of every picture the last word."""

    def __init__(self, lines: Sequence[dict[str, Any]] = ()) -> None:
        self.settings: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []
        self.add(lines)

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        self.settings |= {line["settings"]: line for line in lines if "are" in line and isinstance(line.get("settings"), str)}
        self.pictures |= {line["output"]: line for line in lines if isinstance(line.get("output"), str)}
        self.runs += [line for line in lines if "run" in line]

    def __len__(self) -> int:
        return len(self.settings) + len(self.pictures) + len(self.runs)

    def write(self, path: Path) -> None:
        lines = (*self.settings.values(), *self.pictures.values(), *self.runs)
        files.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def join(folder: Path, shares: int, sources: Sequence[Path], name: str = "restored") -> None:
    """Make one journal, and one list of errors, of those of `shares` shares: as one run over everything would have left them.

    What shares of another number have left, because they were stopped or killed, is taken in too. Their errors count only for pictures that
    were none of these shares' affair.

    Args:
        folder: the output folder; no share is at work any more.
        shares: how many there were.
        sources: all pictures, in the order of the plan, those that were refused first.
        name: of the journal.
    """
    place = {os.path.abspath(source): i for i, source in enumerate(sources)}
    parts = {one: [folder / f"{one}.{i}-of-{shares}.jsonl" for i in range(1, shares + 1)] for one in (name, "errors")}
    left = {one: [part for part in sorted(folder.glob(f"{one}.*-of-*.jsonl")) if part not in parts[one]] for one in parts}
    lines = [line for part in (*left[name], *parts[name]) for line in _lines(part)[0]]
    lines.sort(key=lambda line: place.get(str(line.get("input")), len(place)))  # settings and runs stay behind, in a list of their own anyway
    if lines:
        whole = _Entries(_lines(folder / f"{name}.jsonl")[0])
        whole.add(lines)
        whole.write(folder / f"{name}.jsonl")
    old = (folder / "errors.jsonl", *left["errors"])
    errors = {source: why for part in old for source, why in _errors(part).items() if source not in place}
    found = {source: why for part in parts["errors"] for source, why in _errors(part).items()}
    errors |= dict(sorted(found.items(), key=lambda pair: place.get(pair[0], len(place))))
    Journal._rewrite(folder / "errors.jsonl", errors)
    for part in (*parts[name], *parts["errors"], *left[name], *left["errors"]):  # last: what is in two files is the same in both
        part.unlink(missing_ok=True)


def _journals(path: Path) -> list[Path]:
    """The journals of the same kind beside this one, those of other shares or of all of them."""
    kind = path.name.partition(".")[0]
    found = [path.with_name(f"{kind}.jsonl"), *sorted(path.parent.glob(f"{kind}.*-of-*.jsonl"))]
    return [other for other in found if other != path]


def _errors(path: Path) -> dict[str, str]:
    return {str(line["input"]): str(line.get("reason")) for line in _lines(path)[0] if "input" in line}
