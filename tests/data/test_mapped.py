"""Arrays left in their file: the same values as held ones, in little memory, and no header believed."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from snowmelt import randomness
from snowmelt.data import DataOptions, arrays, open_data
from snowmelt.data.mapped import Lazy
from snowmelt.data.splits import SPLITS
from snowmelt.data.stores import Held


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


FILES = {
    "grey.npy": noise(40, 9, 7),
    "colour.npy": noise(40, 9, 7, 3),
    "first.npy": noise(40, 3, 9, 7),
    "fortran.npy": np.asfortranarray(noise(40, 9, 7, 3)),
    "deep.npy": np.random.default_rng(1).integers(0, 65536, (40, 9, 7)).astype(np.uint16),
    "float.npy": np.random.default_rng(2).random((40, 9, 7)).astype(np.float32),
    "double.npy": np.random.default_rng(2).random((40, 9, 7)),
    "train-images-idx3-ubyte": noise(40, 9, 7),
}
FORMS = (
    {},
    {"flip": True},
    {"size": 5, "fit": "crop", "flip": True, "turn": True},
    {"size": 8, "fit": "crop", "flip": True, "turn": True},
    {"size": 6},
    {"size": 12, "channels": 3, "turn": True},
    {"channels": 1},
)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("name", FILES)
def test_a_mapped_file_gives_the_values_of_a_held_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: dict) -> None:
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, FILES[name])
    else:
        path.write_bytes(idx(FILES[name]))
    options = DataOptions(path=str(path), range=(0, 1) if FILES[name].dtype.kind == "f" else None, **form)
    held = [open_data(options, split) for split in SPLITS]
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 0)
    left = [open_data(options, split) for split in SPLITS]
    for ours, theirs in zip(left, held, strict=True):
        assert isinstance(ours._store, Lazy)
        assert isinstance(theirs._store, Held)
        assert ours.ids == theirs.ids  # the splits are those of the pictures, wherever they lie
        assert ours.random == theirs.random
        assert torch.equal(ours.batch(range(len(ours)))["x0"], theirs.batch(range(len(ours)))["x0"])
        assert torch.equal(ours.batch([0])["x0"], theirs.batch([0])["x0"])
        assert ours.batch([])["x0"].shape == theirs.batch([])["x0"].shape
        n = range(30)
        keyed = [[i % len(ours) for i in n], randomness.generators(5, "cut", n)]
        again = [[i % len(ours) for i in n], randomness.generators(5, "cut", n)]
        assert torch.equal(ours.batch(*keyed)["x0"], theirs.batch(*again)["x0"])


def test_small_and_packed_files_are_held(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", FILES["grey.npy"])
    np.savez(tmp_path / "x.npz", x0=FILES["grey.npy"])
    for name in ("x.npy", "x.npz"):
        assert isinstance(open_data(DataOptions(path=str(tmp_path / name)), "train")._store, Held)


def header(sizes: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {sizes}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npy", header("(100, 4, 4)") + bytes(1599), "cannot hold"),
        ("x.npy", header("(99999999999, 999, 999)") + bytes(1600), "cannot hold"),
        ("x.npy", header("(100, 4)") + bytes(400), "shape"),
        ("x-idx3-ubyte", idx(noise(9, 4, 4))[:-1], "cut off"),
        ("x-idx3-ubyte", idx(noise(9, 4, 4)) + b"0", "more bytes follow"),
    ],
)
def test_a_header_is_held_against_the_file_before_anything_is_mapped(tmp_path, monkeypatch, name, content, message) -> None:
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 0)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_data(DataOptions(path=str(tmp_path / name)), "train")


def test_every_float_of_a_mapped_file_is_held_against_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAPPED_BYTES", 0)
    monkeypatch.setattr("snowmelt.data.mapped._CHUNK_BYTES", 500)
    array = np.zeros((40, 6, 5), np.float32)
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=r"give data\.range"):
        open_data(DataOptions(path=str(tmp_path / "x.npy")), "train")
    array[27, 2, 3] = np.nan
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=r"= \[27, 2, 3, 0\]"):
        open_data(DataOptions(path=str(tmp_path / "x.npy"), range=(0, 1)), "train")


TRAIN = """
import resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import snowmelt
from snowmelt.data import DataOptions, open_data
from snowmelt.data.mapped import Lazy
from snowmelt.model import Model
from snowmelt.restorers import Restorer, UNet
from snowmelt.training import loop
from snowmelt.training.options import TrainingOptions
path, out, *form = sys.argv[1:]
loop._FIT_IMAGES = 512
form = dict(size=32, channels=3) if form else {}
blur = snowmelt.build("gaussian-blur:sigma_px=2")
net = UNet(widths=(8, 8), patch=4, groups=4, blocks=1)
options = TrainingOptions(images=16, batch=8, precision="fp32", validate_every=16)

def train(data, to):
    torch.manual_seed(0)
    loop.Trainer(Model(blur, Restorer(blur, net, data.shape)), data, data, options, Path(to)).run()

small = open_data(DataOptions(path="bundled:photos", size=64, limit=20, channels=3 if form else 1), "train")
train(small, out + "/small")  # what torch itself wants
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = open_data(DataOptions(path=path, validation=0, test=0, **form), "train")
assert isinstance(data._store, Lazy), data._store
train(data, out + "/large")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measures the process as Linux does")
@pytest.mark.parametrize("form", [[], ["converted"]])
def test_a_file_of_400_megabytes_trains_in_a_fraction_of_that(tmp_path: Path, form: list[str]) -> None:
    array = np.lib.format.open_memmap(tmp_path / "large.npy", mode="w+", dtype=np.uint8, shape=(100_000, 64, 64))  # sparse: it costs no disk
    array[:64] = noise(64, 64, 64)
    del array
    assert (tmp_path / "large.npy").stat().st_size > 400e6
    run = [sys.executable, "-c", TRAIN, str(tmp_path / "large.npy"), str(tmp_path), *form]
    env = {"OMP_NUM_THREADS": "1", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run(run, check=True, capture_output=True, text=True, env=env)
    grown = int(found.stdout.split()[-1]) * 1024
    assert grown < 150e6, f"{grown / 1e6:.0f} MB"
