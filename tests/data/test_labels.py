import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.data import DataOptions, open_data
from snowmelt.data.labels import by_folder, checked
from snowmelt.data.splits import SPLITS


def pixels(n: int) -> np.ndarray:
    """Pictures that tell their number: every one is different, the first value is its number."""
    out = np.random.default_rng(0).integers(0, 256, (n, 6, 6), dtype=np.uint8)
    out[:, 0, 0] = np.arange(n)
    return out


def number(data) -> torch.Tensor:
    """The numbers of the pictures in a data set."""
    return ((data.batch(range(len(data)))["x0"][:, 0, 0, 0] + 1) * 127.5).round().long()


def idx(path: Path, array: np.ndarray, *, count: int | None = None) -> Path:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in (count or len(array), *array.shape[1:]))
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(header + array.tobytes())
    return path


def opened(path: Path, split: str = "train", **options: object):
    return open_data(DataOptions(path=str(path), **options), split)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_labels_stay_with_their_pictures(tmp_path, suffix):
    for part, n in (("train", 90), ("t10k", 30)):
        idx(tmp_path / f"{part}-images-idx3-ubyte{suffix}", pixels(n))
        idx(tmp_path / f"{part}-labels-idx1-ubyte{suffix}", np.arange(n, dtype=np.uint8) % 7)
    for split in SPLITS:
        for options in ({}, {"limit": 11}, {"size": 6, "channels": 3}):
            data = opened(tmp_path, split, **options)
            assert data.labels.dtype == torch.int64
            assert torch.equal(data.labels, number(data) % 7)
            assert data.classes == tuple("0123456")
    assert len(opened(tmp_path, limit=11).labels) == 11
    alone = opened(tmp_path / f"train-images-idx3-ubyte{suffix}")
    assert torch.equal(alone.labels, number(alone) % 7)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda path: idx(path, np.zeros(29, np.uint8)), "29 labels for 30 pictures"),
        (lambda path: idx(path, np.zeros(29, np.uint8), count=30), "29 bytes where its header says 30"),
        (lambda path: idx(path, np.zeros(31, np.uint8), count=30), "more bytes follow than the 30 labels"),
        (lambda path: idx(path, np.zeros((30, 2, 2), np.uint8)), "not an idx file of labels"),
        (lambda path: idx(path, np.zeros(30, np.uint8), count=2**32 - 1), "4294967295 labels for 30 pictures"),
        (lambda path: path.write_bytes(b""), "begins with nothing"),
    ],
)
def test_hostile_idx_labels_are_refused(tmp_path, damage, word):
    idx(tmp_path / "train-images-idx3-ubyte", pixels(30))
    damage(tmp_path / "train-labels-idx1-ubyte")
    with pytest.raises(ValueError, match=word):
        opened(tmp_path)


def test_a_cut_off_gzip_of_labels_is_refused(tmp_path):
    idx(tmp_path / "train-images-idx3-ubyte", pixels(30))
    file = idx(tmp_path / "train-labels-idx1-ubyte.gz", np.zeros(30, np.uint8))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged gzip"):
        opened(tmp_path)


@pytest.mark.parametrize("key", ["label", "labels"])
def test_npz_labels(tmp_path, key):
    np.savez(tmp_path / "a.npz", pictures=pixels(40), **{key: np.arange(40, dtype=np.int32) % 5})
    data = opened(tmp_path / "a.npz", limit=20)
    assert torch.equal(data.labels, number(data) % 5)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (np.arange(39), "39 labels for 40 pictures"),
        (np.arange(40) - 1, "label -1 of picture 0 lies outside"),
        (np.full(40, 65536), r"label 65536 of picture 0 lies outside \[0, 65535\]"),
        (np.full(40, 2**63, np.uint64), "label 9223372036854775808 of picture 0"),
        (np.zeros(40), "float64 array of shape"),
        (np.zeros((40, 1), int), r"shape \(40, 1\) holds no labels"),
    ],
)
def test_hostile_npz_labels_are_refused(tmp_path, values, word):
    np.savez(tmp_path / "a.npz", x=pixels(40), label=values)
    with pytest.raises(ValueError, match=word):
        opened(tmp_path / "a.npz")


def tree(path: Path, **counts: int) -> None:
    at = 0
    for name, n in counts.items():
        (path / name).mkdir(parents=True)
        for i, array in enumerate(pixels(200)[at : at + n]):
            Image.fromarray(array).save(path / name / f"{i:02d}.png")
        at += n


def test_folders_are_classes_if_every_picture_lies_in_one(tmp_path):
    tree(tmp_path, dog=20, cat=20)
    data = opened(tmp_path)
    assert data.classes == ("cat", "dog")
    assert [data.classes[i] for i in data.labels.tolist()] == [name.split("/")[0] for name in data.ids]
    Image.fromarray(pixels(250)[249]).save(tmp_path / "loose.png")
    assert opened(tmp_path).labels is None


def test_train_and_test_agree_on_the_numbers_of_their_classes(tmp_path):
    tree(tmp_path / "train", ant=10, bee=10, cow=10)
    tree(tmp_path / "test", bee=4, cow=4)
    data = opened(tmp_path, "test")
    assert data.classes == ("ant", "bee", "cow")
    assert sorted(data.labels.tolist()) == [1, 1, 1, 1, 2, 2, 2, 2]


def test_a_damaged_picture_takes_its_label_along(tmp_path):
    tree(tmp_path, cat=15, dog=15)
    for broken in ("cat/14.png", "dog/03.png"):
        content = (tmp_path / broken).read_bytes()
        (tmp_path / broken).write_bytes(content[:-30])
    data = opened(tmp_path, validation=0.0, test=0.0)
    assert len(data.skipped) == 2
    assert len(data.labels) == len(data) == 28
    assert [data.classes[i] for i in data.labels.tolist()] == [name.split("/")[0] for name in data.ids]


def test_a_picture_that_stands_in_for_a_damaged_one_is_of_its_class(tmp_path, monkeypatch):
    monkeypatch.setattr("snowmelt.data.pools.HELD_BYTES", 0)
    tree(tmp_path, cat=5, dog=5)
    whole = opened(tmp_path, validation=0.0, test=0.0)
    content = (tmp_path / "cat/04.png").read_bytes()
    first = whole.batch([0])["x0"]
    (tmp_path / "cat/04.png").write_bytes(content[:-30])
    data = opened(tmp_path, validation=0.0, test=0.0)
    assert torch.equal(data.batch([4])["x0"], first)  # not the dog that follows


def test_sources_without_labels_have_none(tmp_path):
    np.save(tmp_path / "a.npy", pixels(40))
    np.savez(tmp_path / "b.npz", pixels(40))
    idx(tmp_path / "c-images-idx3-ubyte", pixels(40))
    tree(tmp_path / "one", only=20)
    for path in ("a.npy", "b.npz", "c-images-idx3-ubyte", "one"):
        data = opened(tmp_path / path)
        assert data.labels is None
        assert data.classes is None
    assert open_data(DataOptions(path="bundled:photos", limit=2), "test").labels is None


def test_bundled_digits_know_what_they_are():
    data = open_data(DataOptions(limit=50), "test")
    assert data.classes == tuple("0123456789")
    assert len(set(data.labels.tolist())) == 10
    a_zero = data.batch([data.labels.tolist().index(0)])["x0"][0, 0]
    assert a_zero[3:5, 3:5].mean() < 0  # a hole in the middle
    assert a_zero.max() > 0.8


def test_helpers():
    assert by_folder(["a/1", "b/2/3"]).classes == ("a", "b")
    assert by_folder(["a/1", "2"]) is None
    assert checked(np.zeros(0, np.int64), "none", 0).classes == ()
