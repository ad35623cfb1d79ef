"""What somebody orders to be trained, looked through before anything begins: a recipe with reasons, and what it will cost."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snowmelt.data.checks import Check, unchecked
from snowmelt.data.options import DataOptions
from snowmelt.disk import as_path
from snowmelt.recipes.defaults import suggest
from snowmelt.recipes.recipe import Recipe, from_table, merged
from snowmelt.registry import build
from snowmelt.studio.limits import Refused, require_short

BUNDLED = "bundled:"
_NAME = re.compile(r"[^\W_]([\w -]{0,58}[^\W_])?")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)  # names that a system keeps for itself
_MOST_PX, _MOST_IMAGES = 256, 100_000_000


@dataclass(frozen=True)
class Order:
    """A training that is wanted.

    Attributes:
        name: of the run.
        data: a bundled set, or a folder of this machine.
        degradation: what is to be undone, as a spec.
        size: side in px of the pictures; None leaves it to the data.
        images: to be seen in all; None leaves it to the data.
    """

    name: str
    data: str
    degradation: str
    size: int | None = None
    images: int | None = None

    def recipe(self, check: Check = unchecked) -> tuple[Recipe, list[str]]:
        """The whole recipe, and the reason of everything that was not ordered. Looks at the data.

        Args:
            check: is called for every folder and every file of the data; it may raise to end the look.

        Raises:
            Refused: something is missing, or too much for a page.
            ValueError: there are no such data, or no such degradation.
        """
        require_short(self.degradation)
        if not self.data.strip() or not self.degradation.strip():
            raise Refused("say which pictures, and what is to be undone: a set that comes with snowmelt or a folder, and a degradation")
        if self.size is not None and not 4 <= self.size <= _MOST_PX:
            raise Refused(f"a size of {self.size} px is outside 4 to {_MOST_PX}: larger networks are trained from the command line")
        if self.images is not None and not 1 <= self.images <= _MOST_IMAGES:
            raise Refused(f"{self.images:,} images are outside 1 to {_MOST_IMAGES:,}")
        data: dict[str, Any] = {"path": self._path(), **({} if self.size is None else {"size": self.size})}
        asked: dict[str, Any] = {"data": data, "degradation": self.degradation.strip()}
        if self.images is not None:
            asked["training"] = {"images": self.images}
        if build(asked["degradation"]).needs:
            raise Refused(f"{asked['degradation']} turns one set of pictures into another: 'snowmelt train --data A --endpoint B' trains that")
        try:
            table, reasons = suggest(DataOptions(path=data["path"]), asked["degradation"], asked, check)
        except (OSError, ValueError) as error:
            raise Refused(self._as_written(str(error), data["path"])) from error
        return from_table(merged(table, asked)), reasons

    def _path(self) -> str:
        """Where the data are, whatever folder a process begins in."""
        data = self.data.strip()
        if data.startswith(BUNDLED):
            return data
        try:
            path = as_path(data).expanduser().resolve()
            there = path.exists()
        except (OSError, ValueError, RuntimeError):  # a NUL, a name that is too long, a user who is not known
            there = False
        if not there:
            raise Refused(f"there is no folder or file {data[:200]!r} on this machine: give its whole path")
        return str(path)

    def _as_written(self, said: str, path: str) -> str:
        """An error with the path as it was ordered: where that lies on this machine's disk is no news to whoever may know."""
        if not Path(path).name:  # the root: it is in every path
            return said
        written = self.data.strip()
        return re.sub(rf"(?<![\w./~-]){re.escape(path)}(?![\w-])", lambda _: written, said)


def short(data: str) -> str:
    """A bundled set as it is called; of a folder its last name: the page need not tell whose disk it lies on."""
    return data if data.startswith(BUNDLED) else Path(data).name


def named(folder: Path, name: str) -> Path:
    """Where the run of a name lies: always right in `folder`.

    Raises:
        Refused: the name is more than plain words, or a link leads out.
    """
    if not _NAME.fullmatch(name) or len(name.encode()) > 120 or _DEVICES.fullmatch(name):
        raise Refused(f"{name[:60]!r} is no name for a run: take letters, digits, - and blanks, 60 at most")
    path = folder / name
    if path.is_symlink():
        raise Refused(f"{name!r} is a link to another place: choose another name")
    return path
