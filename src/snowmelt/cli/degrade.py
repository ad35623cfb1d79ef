"""``snowmelt degrade``: see what a degradation does to a picture, a recording or a scan, from t = 0 to t = 1."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from snowmelt.cli.machine import Plugins, plug_in
from snowmelt.cli.overrides import listed

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.degradations import Degradation
    from snowmelt.signals import Signal


def _commas(severities: tuple[float, ...]) -> str:
    return ",".join(f"{t:g}" for t in severities)


Severities = Annotated[tuple[float, ...], listed(item=float, help="Severities in [0, 1], separated by commas.", show_default=_commas)]


def degrade(
    *files: Path,
    degradation: str,
    severities: Severities = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
    out: Path | None = None,
    size: int | None = None,
    sensor: str | None = None,
    endpoint: Path | None = None,
    seed: int = 0,
    plugin: Plugins = (),
) -> None:
    """Draw the strip of a picture, a recording or a LiDAR scan, degraded from clean to prior.

    A recording (.wav, .flac) is drawn as spectrograms, a scan (.bin, .npy) as strips of range. With a folder as --out what was degraded is written,
    too: a .wav or .bin file at every severity, to be listened to or restored.

    Args:
        files: pictures of one size, recordings of one length or scans of one sensor, a row each.
        degradation: what to do to them, as a spec: noise, or gaussian-blur:sigma_px=8.
        severities: in [0, 1].
        out: the PNG to write; by default named after the file, in this folder. Of recordings and scans also a folder for all that is made.
        size: cut a square of so many px from the middle of pictures first.
        sensor: of scans, the LiDAR as text, such as scan:rings=32,up_deg=10,down_deg=-30; by default what the files show.
        endpoint: the picture that a morph ends in, or the other recording of a background.
        seed: of what is random.
        plugin: parts of your own.
    """
    if not files:
        raise ValueError("degrade needs a picture, a recording or a scan: snowmelt degrade FILE --degradation SPEC")
    for t in severities:
        if not 0 <= t <= 1:
            raise ValueError(f"severity {t:g} lies outside [0, 1]: 0 is the clean picture, 1 the strongest degradation")
    if not severities:
        raise ValueError("--severities is empty: give numbers in [0, 1], such as 0,.5,1")
    plug_in(plugin)
    from snowmelt import pictures, registry
    from snowmelt.degradations import Degradation
    from snowmelt.degradations.base import require_taken
    from snowmelt.signals import PICTURE

    D: Degradation = registry.build(degradation)
    x, signal = _rows(files, size, sensor)
    require_taken(D, signal, str(files[0]), "give another file, or another --degradation")
    frames = _degraded(D, x, severities, endpoint, signal, seed)
    strip = pictures.strip(frames, [f"t = {t:g}" for t in severities], signal=signal)
    name = f"{files[0].stem}-{registry.label(type(D))}"
    many = out is not None and signal != PICTURE and (out.is_dir() or not out.suffix)
    if many:
        _named_apart(files)
    path = out / f"{name}.png" if many and out is not None else out or Path(f"{name}.png")
    pictures.save(path, strip)
    if many:
        print(f"wrote {path} and {_write_each(path.parent, files, frames, severities, registry.label(type(D)), signal)} beside it")
    else:
        print(f"wrote {path}")


def _rows(files: Sequence[Path], size: int | None, sensor: str | None) -> tuple["Tensor", "Signal"]:
    """What the files hold, (b, *d), and what it is.

    Raises:
        ValueError: they are of several kinds or sizes.
    """
    from snowmelt.data.door import signal_of

    kinds = {signal_of(path) for path in files}
    if len(kinds) > 1:
        raise ValueError(f"{', '.join(map(str, files[:4]))} are of several kinds: give pictures, recordings or scans alone")
    kind = kinds.pop()
    if sensor is not None and kind != "scan":
        raise ValueError(f"--sensor says which LiDAR made a scan, and {files[0]} is none: leave it out")
    return _pictures(files, size) if kind is None else _samples(files, size, sensor)


def _pictures(files: Sequence[Path], size: int | None) -> tuple["Tensor", "Signal"]:
    import torch

    from snowmelt.data.images import read, to_channels
    from snowmelt.signals import PICTURE

    rows = [_square(read(path).over(), size) for path in files]
    channels = max(row.shape[0] for row in rows)
    rows = [to_channels(row, channels) for row in rows]
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"the pictures have sizes {sorted({(r.shape[2], r.shape[1]) for r in rows})}: add --size, or give one at a time")
    return torch.stack(rows), PICTURE


def _samples(files: Sequence[Path], size: int | None, sensor: str | None) -> tuple["Tensor", "Signal"]:
    import torch

    from snowmelt.data.door import door_for
    from snowmelt.data.options import DataOptions

    door = door_for(files[0])
    if size is not None:
        raise ValueError(f"--size cuts squares from pictures, and {files[0]} holds {door.signal.many}: leave it out")
    door = door.suited(files, DataOptions(path=str(files[0]), sensor=sensor))
    rows = [door.read(path).x for path in files]
    if len({row.shape for row in rows}) > 1:
        raise ValueError(f"the {door.signal.many} have shapes {sorted({tuple(row.shape) for row in rows})}: give one at a time")
    return torch.stack(rows), door.signal


def _degraded(
    D: "Degradation", x: "Tensor", severities: Sequence[float], endpoint: Path | None, signal: "Signal", seed: int
) -> list["Tensor"]:
    """X at every severity, with one draw."""
    from snowmelt import registry
    from snowmelt.randomness import generators
    from snowmelt.types import severity

    given = D.given_by(_ending(endpoint, x, signal))
    if lacking := sorted(set(D.needs) - given.keys()):
        end = "picture" if signal.name == "picture" else signal.one
        raise ValueError(f"{registry.spec(D)} turns {signal.many} into another one, its {', '.join(lacking)}: add --endpoint {end.upper()}")
    try:
        z = {**D.draw(x, generators(seed, "degrade", range(len(x)))), **given}
        return [D(x, severity(t, x), z) for t in severities]
    except (RuntimeError, IndexError, ValueError) as error:
        if D.takes == signal.name or signal.name == "picture":
            raise
        raise ValueError(f"{registry.spec(D)} is made for pictures, and cannot degrade {signal.many} ({error})") from error


def _named_apart(files: Sequence[Path]) -> None:
    """Refuse files whose results would have one name.

    Raises:
        ValueError: two have one stem.
    """
    first: dict[str, Path] = {}
    for path in files:
        if (other := first.setdefault(path.stem, path)) is not path:
            raise ValueError(f"what is made of {other} and of {path} would have one name, {path.stem}: degrade them into two folders")


def _write_each(
    folder: Path, files: Sequence[Path], frames: Sequence["Tensor"], severities: Sequence[float], name: str, signal: "Signal"
) -> str:
    """One file of each sample at each severity; how many, in words."""
    from snowmelt.restoration.outlets import SUFFIXES, write

    for x, t in zip(frames, severities, strict=True):
        for one, path in zip(x, files, strict=True):
            write(folder / f"{path.stem}-{name}-t{t:g}{SUFFIXES[signal.name]}", one, signal)
    n = len(files) * len(severities)
    return f"{n} {signal.one if n == 1 else signal.many}"


def _ending(endpoint: Path | None, x: "Tensor", signal: "Signal") -> dict[str, "Tensor"]:
    """The picture that a morph ends in, made as large as those of x; another recording is repeated or cut to the length of x."""
    if endpoint is None:
        return {}
    if signal.name != "picture":
        from snowmelt.data.door import door_for

        other = door_for(signal).read(endpoint).x
        if signal.name == "sound":
            other = other.repeat(1, -(-x.shape[-1] // other.shape[-1]))[:, : x.shape[-1]]
        return {"endpoint": other.expand_as(x)}
    from snowmelt.data.images import read, resize, to_channels

    y = resize(to_channels(read(endpoint).over(), x.shape[1]), (x.shape[2], x.shape[3]))
    return {"endpoint": y.expand_as(x)}


def _square(x: "Tensor", size: int | None) -> "Tensor":
    """The middle of a picture (c, h, w), enlarged first where it is too small."""
    from snowmelt.data.dataset import fitted

    if size is None:
        return x
    if not 4 <= size <= 8192:
        raise ValueError(f"--size {size} lies outside [4, 8192] px")
    x = fitted(x, size, "crop")
    top, left = (x.shape[1] - size) // 2, (x.shape[2] - size) // 2
    return x[:, top : top + size, left : left + size]
