"""What the tests of strangers' files share: directories that are spoiled, and the judge of what came of opening them."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from snowmelt.files import sha256

Found = dict[str, Any]
Opener = Callable[[dict[str, Any]], list[Found]]
SECONDS, BYTES, LETTERS = 1.0, 100e6, 3000
SHAPE = (1, 8, 8)
FILES = ("recipe", "tensors", "report", "data")  # kinds that are one file
PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "model.pkl", "weights.pickle", "optimizer.bin", "data.npy.pkl")


class Evil:
    """What runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Cases:
    """What is to be opened, each a copy of something sound that was then changed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sound, self.cases, self.harmless = folder, list[tuple[str, str]](), list[tuple[str, str, str]](), set[str]()

    def add(self, name: str, kind: str, change: Callable[[Path], object], *, of: Path | None = None, file: str = "", used: bool = False) -> None:
        """A directory (or a file in it) of a kind, which `change` makes hostile; `used` where it is to be used all the same."""
        place = self.folder / f"{len(self.cases):03d}-{kind}" / "theirs"
        if of is not None:
            shutil.copytree(of, place, symlinks=True)
        else:
            place.mkdir(parents=True)
        for module in ("evil.py", "evil_module.py", "torch_evil.py"):
            (place / module).write_text("import os\nos.system('touch pwned')\nclass Network: ...\n")
        change(place)
        self.cases.append((name, kind, str(place / file) if file else str(place)))
        if used:
            self.harmless.add(name)

    def opened(self, opener: Opener, attempts: int = 2) -> list[Found]:
        """What came of each; a case that took too long is tried once more, for others may be at work on this machine."""
        found: dict[str, Found] = {}
        wanted, root = self.cases, self.folder.parent
        for _ in range(attempts):
            before = snapshot(root)
            for one in opener({"sound": self.sound, "cases": wanted}):
                found[one["name"]] = one
            assert snapshot(root) == before, "something was written"
            wanted = [case for case in self.cases if found[case[0]]["cpu_s"] > SECONDS]
            if not wanted:
                break
        return list(found.values())

    def judged(self, opener: Opener, attempts: int = 2) -> str:
        """The figure, after every case was found to be what it has to be."""
        found = self.opened(opener, attempts)
        assert len(found) == len(self.cases)
        wrong = [self.told(one) for one in found if not self.right(one)]
        assert not wrong, "\n".join(wrong)
        refused = len(found) - len(self.harmless)
        worst, most = max(one["cpu_s"] for one in found), max(one["bytes"] for one in found)
        events = sum(len(one["events"]) for one in found)
        used = f", {len(self.harmless)} used" if self.harmless else ""
        return f"{refused} refused{used}; at worst {worst:.2f} s and {most / 1e6:.0f} MB; {events} imports, runs or writes"

    def right(self, one: Found) -> bool:
        """Whether a case was used or refused as it should be, and did nothing else."""
        cheap = one["cpu_s"] < SECONDS and one["wall_s"] < 20 * SECONDS and one["bytes"] < BYTES
        if one["events"] or not cheap or one["name"] in self.harmless:
            return cheap and not one["events"] and not one["raised"]
        place = Path(one["path"]).parent if one["kind"] in FILES else Path(one["path"])
        named = str(place) in one["said"] or one["kind"] == "recipe"  # of a recipe that was read, the part is named
        line = "\n" not in one["said"] and len(one["said"]) < LETTERS and named
        return line and one["raised"] in ("BadFile", "SpecError", "UnknownName", "ValueError", "FileNotFoundError")

    @staticmethod
    def told(one: Found) -> str:
        said = f"{one['raised'] or 'used'} {one['said'][:800]!r}"
        return f"{one['name']!r:.80} ({one['kind']}): {said}, {one['cpu_s']:.2f} s, {one['bytes'] / 1e6:.0f} MB, {one['events']}"


def snapshot(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def change(path: Path, **entries: Any) -> None:
    """Replace entries of a JSON file, by dotted names with __ for the dots; no seal is left."""
    table = json.loads(path.read_text())
    table.pop("seal", None)
    for name, value in entries.items():
        inner, *keys = table, *name.split("__")
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
    path.write_text(json.dumps(table))


def changed(name: str, **entries: Any) -> Callable[[Path], None]:
    return lambda place: change(place / name, **entries)


def rehashed(group: str, spoil: Callable[[Path], object], name: str = "model.json") -> Callable[[Path], None]:
    """Change the file of a group of tensors, and say its new hash in the description."""

    def do(place: Path) -> None:
        table = json.loads((place / name).read_text())
        table.pop("seal", None)
        entry = table["weights"] if "weights" in table else table["files"][group]
        spoil(place / entry["file"])
        entry["sha256"] = sha256(place / entry["file"])
        (place / name).write_text(json.dumps(table))

    return do


def repacked(**tensors: torch.Tensor) -> Callable[[Path], None]:
    return lambda path: save_file(tensors, path)


def scaled(value: float) -> Callable[[Path], None]:
    """The same names and shapes, every value the same."""
    from safetensors.torch import load_file

    return lambda path: save_file({name: torch.full_like(tensor, value) for name, tensor in load_file(path).items()}, path)


def pickled(name: str, mark: Path) -> Callable[[Path], None]:
    return lambda place: (place / name).write_bytes(pickle.dumps(Evil(mark)))


def link(name: str, target: str) -> Callable[[Path], None]:
    def do(place: Path) -> None:
        found = next(place.glob(name))
        found.unlink()
        found.symlink_to(target)

    return do


def moved_out(name: str) -> Callable[[Path], None]:
    """The file itself lies outside, and a link to it inside."""

    def do(place: Path) -> None:
        found = next(place.glob(name))
        found.rename(place.parent / found.name)
        found.symlink_to(place.parent / found.name)

    return do


def text(name: str, data: str | bytes) -> Callable[[Path], None]:
    return lambda place: (place / name).write_bytes(data.encode() if isinstance(data, str) else data)


