"""What a visitor takes along: the files of a result.

Files are written to gradio's own cache, from where it hands them out and which it empties after an hour (:func:`snowmelt.studio.page.blocks.blocks`):
nothing that a visitor has made stays on the disk of a studio.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from snowmelt._version import __version__
from snowmelt.data.images import write
from snowmelt.restoration.identity import Opened
from snowmelt.restoration.sampling import named
from snowmelt.studio.limits import Limits
from snowmelt.studio.surroundings import sweep
from snowmelt.studio.work import bundle

_LONGEST = 100  # signs of a name


def folder_in(cache: str | Path, limits: Limits) -> Path:
    """A new folder for the files of one result; older ones make room where there are too many."""
    sweep(Path(cache), limits.kept_bytes)
    folder = Path(cache) / f"snowmelt-{secrets.token_hex(16)}"
    folder.mkdir(parents=True)
    return folder


def pictures(folder: Path, x: Tensor, model: Opened, how: str, stem: str = "sample") -> list[str]:
    """Every picture of x (n, c, h, w) as a PNG that says how it was made: sample_0000.png and so on, or STEM.png where there is one only."""
    note = {"snowmelt": __version__, "model": model.name, "weights_sha256": model.weights, "how": how}
    paths = []
    for i, one in enumerate(x):
        path = folder / (named(i, len(x)).replace("sample", plain(stem), 1) if len(x) > 1 else f"{plain(stem)}.png")
        write(path, one, note=note)
        paths.append(str(path))
    return paths


def zipped(paths: Sequence[str], name: str) -> str:
    """The files in one zip beside them; the same files make the same zip."""
    target = Path(paths[0]).with_name(f"{plain(name)}.zip")
    target.write_bytes(bundle.zipped((path.name, path.read_bytes()) for path in map(Path, paths)))
    return str(target)


def plain(name: str) -> str:
    """A name that every disk takes."""
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in name)[:_LONGEST].strip(".-") or "picture"
