import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from snowmelt.data import DataOptions, images, open_data
from snowmelt.data.splits import SPLITS


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray, sizes: tuple[int, ...] | None = None) -> bytes:
    sizes = sizes or array.shape
    return bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()


def opened(path: Path | str, split: str = "train", **options: object):
    return open_data(DataOptions(path=str(path), **options), split)


def every(path: Path | str, **options: object):
    return [opened(path, split, **options) for split in SPLITS]


# --- idx -----------------------------------------------------------------------------------------------


def test_idx_file_and_mnist_folder(tmp_path):
    train, test = noise(50, 8, 8), noise(10, 8, 8, seed=1)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(train)))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(test))
    parts = every(tmp_path)
    assert len(parts[0]) + len(parts[1]) == 50
    assert (images.to_uint8(parts[2].batch(range(10))["x0"])[..., 0] == test).all()
    assert sum(map(len, every(tmp_path / "train-images-idx3-ubyte.gz"))) == 50
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    assert sum(map(len, every(tmp_path))) == 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file"),
        (b"\x89PNG....", "not an idx file"),
        (idx(noise(9)), "holds labels"),
        (idx(noise(9, 4, 4), (10, 4, 4)), "cut off"),
        (idx(noise(9, 4, 4), (8, 4, 4)), "more bytes follow"),
        (idx(noise(9, 4, 4), (2**32 - 1, 2**32 - 1, 2**32 - 1)), "more than"),
        (idx(noise(9, 4, 4), (100_000, 100, 100)), "cut off|bytes that unpack to 1,000,000,000"),
        (idx(noise(9, 4, 4), (0, 4, 4))[:16], "shape"),
        (idx(noise(9, 4, 4))[:7], "cut off"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_hostile_idx(tmp_path, content, message, suffix):
    path = tmp_path / f"x-idx3-ubyte{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(ValueError, match=message):
        opened(path)


def test_damaged_gzip(tmp_path):
    path = tmp_path / "x-idx3-ubyte.gz"
    for damaged in (gzip.compress(idx(noise(9, 4, 4)))[:-20], b"not gzip"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged gzip"):
            opened(path)


# --- npy and npz ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 6, 5), (40, 6, 5, 1), (40, 3, 6, 5), (40, 6, 5, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_layouts(tmp_path, shape, order):
    array = np.asarray(noise(*shape), order=order)
    np.save(tmp_path / "x.npy", array)
    data = opened(tmp_path / "x.npy", validation=0, test=0)
    pixels = array[..., None] if len(shape) == 3 else array.transpose(0, 2, 3, 1) if shape[1] == 3 else array
    assert (images.to_uint8(data.batch(range(40))["x0"]) == pixels).all()


def test_npz_keys(tmp_path):
    array = noise(40, 6, 5)
    np.savez_compressed(tmp_path / "named.npz", labels=np.arange(40), images=array)
    np.savez(tmp_path / "single.npz", anything=array)
    np.savez(tmp_path / "unnamed.npz", a=array, b=array)
    assert opened(tmp_path / "named.npz").shape == opened(tmp_path / "single.npz").shape == (1, 6, 5)
    with pytest.raises(ValueError, match=r"\(a, b\) is called x0"):
        opened(tmp_path / "unnamed.npz")


def test_float_arrays_need_a_declared_range(tmp_path):
    array = np.random.default_rng(0).random((40, 6, 5)).astype(np.float32) * 0.5
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=r"give data\.range"):
        opened(tmp_path / "x.npy")
    data = opened(tmp_path / "x.npy", range=(0, 1), validation=0, test=0)
    torch.testing.assert_close(data.batch(range(40))["x0"][:, 0], torch.from_numpy(array * 2 - 1))
    assert opened(tmp_path / "x.npy", range=(0, 1), size=8, channels=3).batch([0])["x0"].shape == (1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"outside data\.range = \[0, 0\.1\]"):
        opened(tmp_path / "x.npy", range=(0, 0.1))


def test_sixteen_bit_arrays_keep_their_bits(tmp_path):
    array = np.random.default_rng(0).integers(0, 65536, (40, 6, 5)).astype(np.uint16)
    np.save(tmp_path / "x.npy", array)
    data = opened(tmp_path / "x.npy", validation=0, test=0)
    assert (images.to_uint16(data.batch(range(40))["x0"])[..., 0] == array).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_named_by_their_index(tmp_path, bad):
    array = np.zeros((40, 6, 5))
    array[7, 2, 3] = array[8, 0, 0] = bad
    np.savez(tmp_path / "x.npz", x0=array)
    with pytest.raises(ValueError, match=r"= \[7, 2, 3, 0\]"):
        opened(tmp_path / "x.npz", range=(0, 1))


def test_hostile_arrays(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="never read"):
        opened(path)
    np.save(path, noise(40, 6, 5))
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=r"cut off|cannot hold"):
        opened(path)
    for sizes, message in ((b"(9**9, 6, 5)", r"not a \.npy"), (b"(-4, 6, 5)", "holds no pictures"), (b"(999999999, 6, 5)", "cannot hold")):
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': " + sizes + b"}\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(100))
        with pytest.raises(ValueError, match=message):
            opened(path)
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"not a \.npy"):
        opened(path)
    np.save(path, noise(40, 6))
    with pytest.raises(ValueError, match="shape"):
        opened(path)
    (tmp_path / "x.npz").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged"):
        opened(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x0.npy", whole[:-10])
    with pytest.raises(ValueError, match=r"cut off|cannot hold"):
        opened(tmp_path / "x.npz")


def test_drawings_that_shrink_three_hundredfold_are_pictures_and_a_flood_of_zeros_is_none(tmp_path):
    y, x = np.mgrid[:256, :256]
    discs = np.stack([((x - 60 - 13 * i % 131) ** 2 + (y - 60 - 7 * i % 113) ** 2 < 900) * np.uint8(255) for i in range(400)])
    np.savez_compressed(tmp_path / "discs.npz", x0=discs)
    assert discs.nbytes > 210 * (tmp_path / "discs.npz").stat().st_size
    assert sum(map(len, every(tmp_path / "discs.npz"))) == 400
    np.savez_compressed(tmp_path / "zeros.npz", x0=np.zeros_like(discs))
    with pytest.raises(ValueError, match=r"unpack to 26,214,528, more than 900 times that: save pictures so alike unpacked"):
        opened(tmp_path / "zeros.npz")
