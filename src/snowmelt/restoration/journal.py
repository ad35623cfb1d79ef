"""What was restored and what failed, kept beside the results: restored.jsonl and errors.jsonl.

restored.jsonl is a journal. A line is added when a picture is finished and whole, so a killed run loses nothing but a line that was half
written, which the next run drops; it is never held in memory and never rewritten while pictures come in. Lines of one kind say
the settings, under a short hash of them; lines of the next are pictures, which name that hash; and one line says at the end of a run how fast it was.
errors.jsonl holds one line for each picture that is still to be restored: a line goes when its picture succeeds, and the file with its last line.

A shard writes files of its own (restored.2-of-8.jsonl): processes on several machines then never share one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snowmelt import files


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
        lines, whole = _lines(self.restored)
        pictures = {line["output"]: line for line in lines if isinstance(line.get("output"), str)}
        settings = {line["settings"]: line for line in lines if "are" in line}
        runs = [line for line in lines if "run" in line]
        self.known = {output: str(line.get("settings")) for output, line in pictures.items()}
        self._said = self.id in settings
        if not whole or len(lines) > len(pictures) + len(settings) + len(runs):
            text = "".join(json.dumps(line) + "\n" for line in (*settings.values(), *pictures.values(), *runs))
            files.write_text(self.restored, text)

    def settle(self, sources: list[Path]) -> None:
        """The pictures that this run takes care of, finished or not: what is not in errors afterwards is settled."""
        self._sources = {os.path.abspath(source) for source in sources}

    @staticmethod
    def _rewrite(path: Path, errors: Mapping[str, str]) -> None:
        if errors:
            files.write_text(path, "".join(json.dumps({"input": name, "reason": why}) + "\n" for name, why in errors.items()))
        else:
            path.unlink(missing_ok=True)


def _append(path: Path, value: Mapping[str, Any]) -> None:
    """One line in one write: a reader, or the next run after a kill, sees it whole or cut, never mixed with another."""
    data = (json.dumps(value, allow_nan=False) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)


def _errors(path: Path) -> dict[str, str]:
    return {str(line["input"]): str(line.get("reason")) for line in _lines(path)[0] if "input" in line}


def _lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects in a file of lines, and whether every line was one."""
    if not path.is_file():
        return [], True
    found, whole = [], True
    with path.open(encoding="utf-8", errors="replace") as stream:
        for text in stream:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict) and text.endswith("\n"):
                found.append(value)
            else:
                whole = False
    return found, whole
