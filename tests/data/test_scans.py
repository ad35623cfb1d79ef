"""The door of scans: files of points and range images, hostile ones too, and data sets of them."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.room import cloud

from snowmelt.data import DataOptions, open_data
from snowmelt.data.door import Unreadable, door_for
from snowmelt.data.scans import ScanDoor
from snowmelt.sensor import HDL_64E, decode, returns, sensor, to_image, to_points
from snowmelt.signals import Scan

SMALL = Scan(16, 64, 15.0, -15.0)
SPEC = "scan:rings=16,azimuths=64,up_deg=15,down_deg=-15"


def _saved(path, array):
    np.save(path, array)
    return path


def _bin(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    points.numpy().astype("<f4").tofile(path)
    return path


def _image(scan=SMALL, **room):
    r, light, there = decode(to_image(cloud(scan, **room), scan).x, scan)
    return torch.stack([r, light, there.float()], -1).numpy()


def _rows(path):
    return sorted(row.tobytes() for row in np.fromfile(path, "<f4").reshape(-1, 4))


@pytest.fixture
def door():
    return ScanDoor(SMALL)


def test_a_bin_file_comes_back_bit_for_bit_without_what_is_no_point(tmp_path, door):
    points = torch.cat([cloud(SMALL, jitter=0.45), torch.tensor([[np.nan, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.float32)])
    path = _bin(tmp_path / "a.bin", points)
    found = door.read(path)
    assert found.x.shape == door.probe(path) == (3, 16, 64)
    assert found.projected.invalid == 2
    door.write(tmp_path / "b.bin", found.x, found)
    assert _rows(tmp_path / "b.bin") == sorted(row.tobytes() for row in points[:-2].numpy())


def test_points_that_share_a_cell_are_written_with_it_and_go_with_it(tmp_path):
    coarse = Scan(16, 16, 15.0, -15.0)
    door, points = ScanDoor(coarse), cloud(SMALL)
    found = door.read(_bin(tmp_path / "a.bin", points))
    assert found.projected.collisions > 100
    door.write(tmp_path / "b.bin", found.x, found)
    assert _rows(tmp_path / "b.bin") == sorted(row.tobytes() for row in points.numpy())
    x = found.x.clone()
    x[:, 8:] = -1  # what is gone from the image is gone from the file, with all that shared its cells
    door.write(tmp_path / "c.bin", x, found)
    lower = found.projected.cells // 16 >= 8
    assert _rows(tmp_path / "c.bin") == sorted(row.tobytes() for row in points[~lower].numpy())


@pytest.mark.parametrize("columns", [3, 4])
def test_an_array_of_points_comes_back_as_one(tmp_path, door, columns):
    points = cloud(SMALL)[:, :columns].numpy()
    found = door.read(_saved(tmp_path / "a.npy", points))
    door.write(tmp_path / "b.npy", found.x, found)
    back = np.load(tmp_path / "b.npy")
    assert back.shape == points.shape
    assert sorted(map(bytes, back)) == sorted(map(bytes, points))
    as_fortran = door.read(_saved(tmp_path / "f.npy", np.asfortranarray(points.astype(np.float64))))
    assert torch.equal(as_fortran.x, found.x)


@pytest.mark.parametrize("columns", [2, 3])
def test_a_range_image_comes_back_bit_for_bit(tmp_path, door, columns):
    image = _image()[..., :columns]
    image[0, 0] = 7.123456, 0.123456, *(1.0,) * (columns - 2)  # on no grid
    found = door.read(_saved(tmp_path / "a.npy", image))
    door.write(tmp_path / "b.npy", found.x, found)
    assert np.array_equal(np.load(tmp_path / "b.npy"), image)
    x = found.x.clone()
    x[:, 0, 0] = -1
    door.write(tmp_path / "c.npy", x, found)
    image[0, 0] = 0
    assert np.array_equal(np.load(tmp_path / "c.npy"), image)


def test_a_range_image_of_every_fourth_ring_is_put_into_those_rings(tmp_path, door):
    image = _image()
    found = door.read(_saved(tmp_path / "a.npy", image[::4, :, :2]))
    assert found.rows.nonzero().flatten().tolist() == [0, 4, 8, 12]
    assert torch.equal(found.x[:, ::4], door.read(_saved(tmp_path / "b.npy", image[..., :2])).x[:, ::4])


def test_a_sample_without_a_file_is_written_as_points_or_as_an_image(tmp_path, door):
    x = to_image(cloud(SMALL), SMALL).x
    door.write(tmp_path / "a.bin", x)
    assert torch.equal(door.read(tmp_path / "a.bin").x, x)
    door.write(tmp_path / "a.npy", x)
    assert np.load(tmp_path / "a.npy").shape == (16, 64, 2)
    assert torch.allclose(door.read(tmp_path / "a.npy").x, x, atol=1e-5)
    with pytest.raises(ValueError, match=r'scans cannot be written as ".ply": use one of .bin, .npy'):
        door.write(tmp_path / "a.ply", x)
    with pytest.raises(ValueError, match="holds NaN, which is no distance"):
        door.write(tmp_path / "n.bin", x * torch.nan)
    with pytest.raises(ValueError, match=r"shape \(3, 16, 64\), not \(3, 8, 64\)"):
        door.write(tmp_path / "n.bin", x[:, :8])
    assert not (tmp_path / "n.bin").exists()


def _header(text):
    raw = text.encode()
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw


def _pickle():
    out = io.BytesIO()
    np.save(out, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return out.getvalue()


def _npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.bin", b"", "the file is empty: it has no points"),
        ("a.npy", b"", "the file is empty: it has no points"),
        ("a.bin", b"\0" * 50, "its 50 bytes are no multiple of 16"),
        ("a.bin", b"\0" * 60, "with 5 numbers a point, as nuScenes has them, save the first 4"),
        ("a.bin", b"\0" * 64, "none of its 4 points can be used: 4 are NaN or the origin"),
        ("a.bin", np.full((3, 4), np.nan, "<f4").tobytes(), "none of its 3 points can be used: 3 are NaN"),
        ("a.bin", np.full((3, 4), [500, 0, 0, 0.5], "<f4").tobytes(), "0 are NaN or the origin, 3 lie beyond 80 m"),
        ("a.bin", np.full((3, 4), [5, 0, 50, 0.5], "<f4").tobytes(), "3 of 3 points lie above or below all beams"),
        ("a.bin", np.full((3, 4), [5, 0, 0, 200], "<f4").tobytes(), "its reflectances go up to 200, and they lie in [0, 1]: divide"),
        ("a.npy", b"\x93NUMPY\x09\x00junk", "not a .npy array"),
        ("a.npy", b"not an array at all", "not a .npy array"),
        ("a.npy", _pickle(), "objects, pickles, are never read"),
        ("a.npy", _header("{'descr': '<f4', 'fortran_order': False, 'shape': (4000000, 4), }" + " " * 20 + "\n"), "truncated: its header promises"),
        ("a.npy", _header("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 4), }" + " " * 20 + "\n"), "is no single scan"),
        ("a.npy", _npy(np.zeros((4, 4), np.int32)), "holds no scan: metres are floats"),
        ("a.npy", _npy(np.zeros((4, 5), np.float32)), "is neither points (n, 3 or 4) nor a range image"),
        ("a.npy", _npy(np.zeros((16, 64, 2), np.float32)), "it has no return between 0 and 80 m"),
        ("a.npy", _npy(np.ones((16, 32, 2), np.float32)), "a range image of 16 rings x 32 azimuths, and the sensor has 16 x 64"),
        ("a.npy", _npy(np.full((16, 64, 2), 9, np.float32)), "its reflectances go up to 9, and they lie in [0, 1]"),
    ],
)
def test_hostile_files_are_named_with_a_reason(tmp_path, door, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Unreadable) as caught:
        door.read(path)
    assert reason in caught.value.reason
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_folders_and_missing_files_are_no_scans(tmp_path, door):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(Unreadable, match="a folder, not a file"):
        door.probe(tmp_path / "a.bin")
    with pytest.raises(FileNotFoundError):
        door.read(tmp_path / "none.bin")


def _folder(tmp_path, n=6):
    for i in range(n):
        _bin(tmp_path / "scans" / f"{i:02d}.bin", cloud(SMALL, half_m=(6.0 + i, 9.0)))
    return str(tmp_path / "scans")


def test_a_folder_of_scans_is_a_data_set_of_the_sensor_that_is_named(tmp_path):
    data = open_data(DataOptions(path=_folder(tmp_path), sensor=SPEC, validation=0, test=0), "train")
    assert data.signal == SMALL
    assert data.shape == (3, 16, 64)
    assert len(data) == 6
    x = data.batch([3])["x0"]
    assert x.dtype == torch.float32
    assert torch.equal(x[0], to_image(cloud(SMALL, half_m=(9.0, 9.0)), SMALL).x)
    assert not data.random


def test_without_a_sensor_points_are_a_64_rings_sensors_and_images_go_by_their_rings(tmp_path):
    assert ScanDoor().suited([_bin(tmp_path / "a.bin", cloud(HDL_64E))], DataOptions()).signal == HDL_64E
    image = _saved(tmp_path / "a.npy", _image(Scan(32, 128, 10.67, -30.67)))
    assert ScanDoor().suited([image], DataOptions()).signal == sensor("scan:rings=32,azimuths=128,up_deg=10.67,down_deg=-30.67")
    odd = _saved(tmp_path / "odd.npy", np.ones((24, 64, 2), np.float32))
    with pytest.raises(ValueError, match=r'a range image of 24 rings.*16 \(vlp-16\).*data.sensor = "scan:rings=24,azimuths=64'):
        ScanDoor().suited([odd], DataOptions())


def test_the_options_of_pictures_are_refused(tmp_path):
    for options in ({"size": 32}, {"channels": 3}, {"window": 100}, {"rate_hz": 8000}):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"data.{name} = .* means nothing for scans: leave it out"):
            ScanDoor().suited([], DataOptions(**options))


def test_training_scans_are_turned_and_mirrored_without_loss(tmp_path):
    path = _folder(tmp_path)
    plain = open_data(DataOptions(path=path, sensor=SPEC, validation=0, test=0), "train").batch(range(6))["x0"]
    turned = open_data(DataOptions(path=path, sensor=SPEC, validation=0, test=0, turn=True), "train")
    mirrored = open_data(DataOptions(path=path, sensor=SPEC, validation=0, test=0, flip=True), "train")
    seen = turned.numbered(3, range(6))["x0"]
    rolls = [[k for k in range(64) for one in plain if torch.equal(one.roll(k, -1), x)] for x in seen]
    assert all(rolls)
    assert len({k for found in rolls for k in found}) > 3
    flips = [any(torch.equal(x, one.flip(-1)) for one in plain) for x in mirrored.numbered(3, range(12))["x0"]]
    assert 0 < sum(flips) < 12
    assert torch.equal(turned.batch([2])["x0"], plain[2:3])  # outside of training nothing moves
    points, other = to_points(plain[0], SMALL), to_points(plain[0].flip(-1), SMALL)
    assert torch.allclose(points[:, 1].sort().values, (-other[:, 1]).sort().values, atol=1e-4)


def test_a_damaged_file_is_left_out_and_named(tmp_path):
    path = _folder(tmp_path)
    (Path(path) / "03x.bin").write_bytes(b"123")
    data = open_data(DataOptions(path=path, sensor=SPEC, validation=0, test=0), "train")
    assert len(data) == 6
    assert "no multiple of 16" in dict(data.skipped)["03x.bin"]


def test_the_door_is_found_by_suffix_and_by_signal():
    assert isinstance(door_for("x/y.BIN"), ScanDoor)
    assert door_for(SMALL) == ScanDoor(SMALL)
    assert bool(returns(to_image(cloud(SMALL), SMALL).x).any())


def test_numbers_beyond_float32_are_refused_in_words(tmp_path):
    points = np.full((5, 4), 1e300)
    np.save(tmp_path / "a.npy", points)
    with pytest.raises(Unreadable, match=r"its numbers go up to 1e\+300, beyond float32"):
        ScanDoor(Scan(16, 64, 15.0, -15.0)).read(tmp_path / "a.npy")
