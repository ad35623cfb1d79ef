r"""Scans: the files of a LiDAR as range images, and range images as files.

====================================  ===========================================================================
.bin                                  KITTI's: float32, x, y, z in metres and reflectance in [0, 1], point after point
.npy of shape (n, 3) or (n, 4)        the same points as an array; without reflectance it is 0
.npy of shape (rings, azimuths, 2)    a range image: metres (0: no return) and reflectance; a third number a cell says where something came back
====================================  ===========================================================================

Which sensor it was, no file says: ``data.sensor`` names or spells it, else points are taken for those of an HDL-64E, and a range image
for one of the known sensor with as many rings (:mod:`snowmelt.sensor`). A description that does not fit is refused. Of a cloud, what lies behind
another point of its cell is not in the image, but stays with what was read: written again, an unchanged cell has all its points, bit for bit.

Source: Geiger et al. 2013, "Vision meets robotics: the KITTI dataset", section 3, for .bin files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data.checks import Check, unchecked
from snowmelt.data.door import Door, Reading, Unreadable, opened_file, picture_only
from snowmelt.data.options import DataOptions
from snowmelt.disk import replacing
from snowmelt.sensor import HDL_64E, SENSORS, Misfit, Projected, decode, encode, returns, sensor, to_image, to_points
from snowmelt.signals import Scan, Signal

if TYPE_CHECKING:
    from snowmelt.data.dataset import Dataset
    from snowmelt.data.pools import FilePool
    from snowmelt.data.splits import Split

MAX_POINTS = 20_000_000
_POINT_BYTES = 16
_NUSCENES_BYTES = 20
_MOST_HEADER_BYTES = 10_000
_BY_RINGS = {64: "hdl-64e", 32: "hdl-32e", 16: "vlp-16", 128: "os1-128"}


@dataclass(frozen=True, eq=False)
class Cloud(Reading):
    """A scan and what it was stored as.

    Attributes:
        projected: where every point is, of a file of points.
        stored: the values (rings, azimuths, 2 or 3) of a file that holds a range image, in the rows of the sensor.
        columns: numbers a point, 3 or 4, or a cell, 2 or 3.
    """

    projected: Projected | None = None
    stored: NDArray[np.float32] | None = None
    columns: int = 4

    @property
    def rows(self) -> Tensor:
        """Which rings have any return: (rings,), bool."""
        return returns(self.x).any(1)


@dataclass(frozen=True)
class ScanDoor(Door):
    """Files of points or range images, as one sensor sees them."""

    signal: Signal = HDL_64E
    suffixes: ClassVar[tuple[str, ...]] = (".bin", ".npy")
    written: ClassVar[tuple[str, ...]] = (".bin", ".npy")

    @property
    def scan(self) -> Scan:
        """The sensor."""
        if not isinstance(self.signal, Scan):
            raise TypeError(f"a door of scans has no use for the signal {self.signal.name}")
        return self.signal

    def probe(self, path: Path) -> tuple[int, ...]:
        """See :meth:`Door.probe`."""
        path = Path(path)
        with opened_file(path) as stream:
            if path.suffix.lower() == ".npy":
                _kind(path, _header(path, stream)[0], self.scan)
            else:
                _count(path, stream)
        return 3, self.scan.rings, self.scan.azimuths

    def read(self, path: Path) -> Cloud:
        """See :meth:`Door.read`."""
        path = Path(path)
        with opened_file(path) as stream:
            if path.suffix.lower() == ".npy":
                shape, fortran, dtype = _header(path, stream)
                form = _kind(path, shape, self.scan)
                flat = np.frombuffer(stream.read(int(np.prod(shape)) * dtype.itemsize), dtype)
                values = _single(path, flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape))
            else:
                form = "points"
                values = np.frombuffer(stream.read(_count(path, stream) * _POINT_BYTES), "<f4").astype(np.float32).reshape(-1, 4)
        return _of_points(path, values, self.scan) if form == "points" else _of_image(path, values, self.scan)

    def write(self, path: Path, x: Tensor, like: Any = None) -> None:
        """See :meth:`Door.write`: as the kind of file it was, and what is as it was bit for bit; made of none, .npy holds the range image."""
        path, x = Path(path), x.detach().to("cpu", torch.float32)
        if path.suffix.lower() not in self.written:
            raise ValueError(f'{path}: scans cannot be written as "{path.suffix}": use one of {", ".join(self.written)}')
        if tuple(x.shape) != (3, self.scan.rings, self.scan.azimuths):
            raise ValueError(f"{path}: a scan of this sensor has shape (3, {self.scan.rings}, {self.scan.azimuths}), not {tuple(x.shape)}")
        if bool(x.isnan().any()):
            raise ValueError("a scan holds NaN, which is no distance: the model or sampler that made it has diverged")
        flat = path.suffix.lower() == ".bin"
        if flat or (like is not None and like.projected is not None):
            values = points_of(x, self.scan, like).numpy()
            values = values if flat or like is None else values[:, : like.columns]
        else:
            values = _image(x, self.scan, like)
        with replacing(path, wanted=values.nbytes) as temporary, temporary.open("wb") as file:
            if flat:
                file.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
            else:
                np.save(file, values, allow_pickle=False)

    def suited(self, paths: Sequence[Path], options: DataOptions, check: Check = unchecked) -> Self:
        """See :meth:`Door.suited`."""
        picture_only(options, self.signal, "flip", "turn", "sensor")
        if options.channels is not None:
            raise ValueError(f"data.channels = {options.channels} means nothing for scans: leave it out")
        return replace(self, signal=sensor(options.sensor) if options.sensor else _shown(paths, check))

    def dataset(self, files: "FilePool", chosen: Sequence[int], split: "Split", options: DataOptions) -> "Dataset":
        """See :meth:`Door.dataset`."""
        from snowmelt.data.turning import Scans  # what is made of pools is above doors

        return Scans(files, chosen, split, options, self.scan)


def points_of(x: Tensor, scan: Scan, like: Cloud | None = None) -> Tensor:
    """The points (m, 4) of an image x (3, rings, azimuths): those of the file it was made of, bit for bit, from all cells that are as they were."""
    if like is None or like.projected is None:
        return to_points(x, scan)
    return like.projected.points(x, behind=True)


def _single(path: Path, values: NDArray[Any]) -> NDArray[np.float32]:
    """Floats of any precision as float32; what is infinite or NaN in the file stays so."""
    with np.errstate(over="ignore"):
        found = np.array(values, dtype=np.float32, order="C")
    if bool((beyond := np.isinf(found) & np.isfinite(values)).any()):
        most = float(np.abs(values[beyond]).max())
        raise Unreadable(path, f"its numbers go up to {most:.3g}, beyond float32, and they are metres and reflectances: is the file damaged?")
    return found


def _of_points(path: Path, values: NDArray[np.float32], scan: Scan) -> Cloud:
    if values.shape[1] == 4 and len(values) and (top := float(np.nanmax(np.where(np.isfinite(values[:, 3]), values[:, 3], 0)))) > 1.001:
        raise Unreadable(path, f"its reflectances go up to {top:g}, and they lie in [0, 1]: divide them by the largest the sensor gives (often 255)")
    try:
        found = to_image(torch.from_numpy(values), scan)
    except Misfit as error:
        raise Unreadable(path, str(error)) from None
    if not bool(found.rows.any()):
        left = f"{found.invalid:,} are NaN or the origin, {found.far:,} lie beyond {scan.farthest_m:g} m, {found.outside:,} above or below all beams"
        raise Unreadable(path, f"none of its {len(values):,} points can be used: {left}")
    return Cloud(found.x, found, None, values.shape[1])


def _of_image(path: Path, values: NDArray[np.float32], scan: Scan) -> Cloud:
    rows, w, columns = values.shape
    stored = np.zeros((scan.rings, w, columns), np.float32)
    stored[:: scan.rings // rows] = values
    r, light = torch.from_numpy(stored[..., 0]), torch.from_numpy(stored[..., 1])
    if columns == 3:
        r = torch.where(torch.from_numpy(stored[..., 2]) > 0, r, 0)
    if bool((light.nan_to_num() > 1.001).any()):
        raise Unreadable(path, f"its reflectances go up to {float(light.nan_to_num().max()):g}, and they lie in [0, 1]: divide them")
    x = encode(r, light, scan)
    if not bool(returns(x).any()):
        raise Unreadable(path, f"it has no return between 0 and {scan.farthest_m:g} m: is its first number the range in metres?")
    return Cloud(x, None, stored, columns)


def _image(x: Tensor, scan: Scan, like: Cloud | None) -> NDArray[np.float32]:
    """The range image (rings, azimuths, 2 or 3) in metres."""
    r, light, valid = decode(x, scan)
    columns = 2 if like is None else like.columns
    values: NDArray[np.float32] = torch.stack([r, light, valid.float()][:columns], -1).numpy()
    if like is not None and like.stored is not None:
        values = np.where((x == like.x).all(0).numpy()[..., None], like.stored, values)
    return values


def _shown(paths: Sequence[Path], check: Check) -> Scan:
    """The sensor that the first file which can be read shows: by its rings, if it is a range image."""
    for path in paths:
        check()
        try:
            with opened_file(Path(path)) as stream:
                if Path(path).suffix.lower() != ".npy":
                    return HDL_64E
                shape = _header(Path(path), stream)[0]
        except (OSError, Unreadable):
            continue
        if len(shape) != 3:
            return HDL_64E
        if shape[0] not in _BY_RINGS:
            known = ", ".join(f"{rings} ({name})" for rings, name in sorted(_BY_RINGS.items()))
            raise ValueError(
                f"{path}: a range image of {shape[0]} rings, and known sensors have {known}: describe yours, "
                f'data.sensor = "scan:rings={shape[0]},azimuths={shape[1]},up_deg=...,down_deg=..."'
            )
        return replace(SENSORS[_BY_RINGS[shape[0]]].scan, azimuths=shape[1])
    return HDL_64E


def _size(stream: IO[bytes]) -> int:
    here = stream.tell()
    size = stream.seek(0, 2)
    stream.seek(here)
    return size


def _count(path: Path, stream: IO[bytes]) -> int:
    """How many points a .bin file has."""
    size = _size(stream)
    if size == 0:
        raise Unreadable(path, "the file is empty: it has no points")
    if size % _POINT_BYTES:
        five = "; with 5 numbers a point, as nuScenes has them, save the first 4" if size % _NUSCENES_BYTES == 0 else ""
        raise Unreadable(path, f"its {size:,} bytes are no multiple of {_POINT_BYTES}, 4 float32 a point (x, y, z, reflectance){five}")
    if size // _POINT_BYTES > MAX_POINTS:
        raise Unreadable(path, f"{size // _POINT_BYTES:,} points are more than {MAX_POINTS:,}: a scan is one turn, split the file", broken=False)
    return size // _POINT_BYTES


def _header(path: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, the order and the type of an array that is really there; the stream stands at its first value."""
    size = _size(stream)
    if size == 0:
        raise Unreadable(path, "the file is empty: it has no points")
    try:
        version = npy.read_magic(stream)
        length = int.from_bytes(stream.read(2 * version[0]), "little") if version in ((1, 0), (2, 0)) else _MOST_HEADER_BYTES + 1
        if length > _MOST_HEADER_BYTES:
            raise ValueError(f"version {version}, or a header of more than {_MOST_HEADER_BYTES} bytes")
        stream.seek(-2 * version[0], 1)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except Exception as error:  # numpy parses the header as Python text: anything may come of that
        raise Unreadable(path, f"not a .npy array ({error})") from error
    if dtype.kind != "f" or min(shape, default=0) < 1:
        raise Unreadable(path, f"a {dtype} array of shape {shape} holds no scan: metres are floats (and objects, pickles, are never read)")
    count = 1
    for n in shape:
        count *= n
    if count > 5 * MAX_POINTS:
        raise Unreadable(path, f"an array of {count:,} values is no single scan: save one turn a file", broken=False)
    if size - stream.tell() < count * dtype.itemsize:
        raise Unreadable(path, f"truncated: its header promises {dtype} {shape}, its {size:,} bytes cannot hold that")
    return shape, fortran, dtype


def _kind(path: Path, shape: tuple[int, ...], scan: Scan) -> str:
    """Points or image: what an array of that shape is to this sensor."""
    if len(shape) == 2 and shape[1] in (3, 4):
        return "points"
    if len(shape) != 3 or shape[2] not in (2, 3):
        raise Unreadable(path, f"shape {shape} is neither points (n, 3 or 4) nor a range image (rings, azimuths, 2 or 3)")
    if shape[1] != scan.azimuths or scan.rings % shape[0]:
        ours = f"{scan.rings} x {scan.azimuths}"
        raise Unreadable(path, f"a range image of {shape[0]} rings x {shape[1]} azimuths, and the sensor has {ours}: give its own (data.sensor)")
    return "image"


__all__ = ["MAX_POINTS", "Cloud", "ScanDoor", "points_of"]
