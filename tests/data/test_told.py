"""What comes with the pictures: labels and vectors in every batch, whatever the source, and always of their own picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.data import DataOptions, open_data
from snowmelt.data.splits import SPLITS


def pixels(n: int) -> np.ndarray:
    """Pictures that tell their number: the first value is it."""
    out = np.random.default_rng(0).integers(0, 256, (n, 6, 6), dtype=np.uint8)
    out[:, 0, 0] = np.arange(n)
    return out


def numbers(x: torch.Tensor) -> torch.Tensor:
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().long()


def opened(path, split="train", **options):
    return open_data(DataOptions(path=str(path), **options), split)


@pytest.mark.parametrize("size", [None, 12])
def test_labels_and_vectors_of_an_npz_stay_with_their_pictures(tmp_path, size):
    n, path = 60, tmp_path / "a.npz"
    np.savez(path, x0=pixels(n), label=np.arange(n) % 7, vector=np.stack([np.arange(n), -np.arange(n)], 1).astype(np.float64))
    for split in SPLITS:
        data = opened(path, split)
        assert data.keys == ("x0", "label", "vector")
        item = data.batch(range(len(data)))
        of = numbers(item["x0"])
        assert torch.equal(item["label"], of % 7)
        assert torch.equal(item["vector"], torch.stack([of, -of], 1).float())
        assert item["label"].dtype == torch.int64
        assert data.vectors.shape == (len(data), 2)
    data = opened(path, flip=True, size=size)
    item = data.numbered(3, range(50, 130))  # over the end of an epoch, cut and mirrored
    plain = data.numbered(3, range(60, 70))
    assert torch.equal(item["label"][10:20], plain["label"])
    assert torch.equal(item["label"], item["vector"][:, 0].long() % 7)
    empty = data.batch([])
    assert empty["label"].shape == (0,)
    assert empty["vector"].shape == (0, 2)


@pytest.mark.parametrize("keys", [("x0",), ("x0", "vector"), ("x0", "label"), ("pictures", "vector", "labels")])
def test_pictures_are_found_beside_what_comes_with_them(tmp_path, keys):
    arrays = {"vector": np.zeros((30, 3)), "label": np.arange(30) % 3, "labels": np.arange(30) % 3, "x0": pixels(30), "pictures": pixels(30)}
    np.savez(tmp_path / "a.npz", **{key: arrays[key] for key in keys})
    data = opened(tmp_path / "a.npz")
    assert data.shape == (1, 6, 6)
    assert set(data.keys) == {"x0"} | ({"vector"} & set(keys)) | ({"label"} if {"label", "labels"} & set(keys) else set())


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(30),
        np.zeros((29, 2)),
        np.zeros((30, 0)),
        np.zeros((30, 2, 2)),
        np.full((30, 2), np.nan),
        np.full((30, 2), np.inf),
        np.full((30, 2), 1e300),
        np.zeros((30, 2), dtype=complex),
        np.zeros((30, 2), dtype="<U3"),
    ],
    ids=lambda v: f"{v.dtype}{v.shape}",
)
def test_vectors_that_are_none_are_refused(tmp_path, vector):
    np.savez(tmp_path / "a.npz", x0=pixels(30), vector=vector)
    said = r"a\.npz(, vector)?: a .* array of shape .*(give one row of finite numbers per picture, \(30, k\)|holds no)"
    with pytest.raises(ValueError, match=said):
        opened(tmp_path / "a.npz")


def test_pickled_vectors_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", x0=pixels(30), vector=np.array([[{}]] * 30, dtype=object))
    with pytest.raises(ValueError, match="a.npz"):
        opened(tmp_path / "a.npz")


def test_folders_give_the_class_of_each_picture_and_a_damaged_file_changes_no_other(tmp_path):
    for i, picture in enumerate(pixels(40)):
        place = tmp_path / "set" / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i:02}.png")
    whole = opened(tmp_path / "set")
    item = whole.batch(range(len(whole)))
    assert torch.equal(item["label"], numbers(item["x0"]) % 2)
    assert whole.classes == ("cat", "dog")
    (tmp_path / "set" / "cat" / "00.png").write_bytes(b"no picture")
    (tmp_path / "set" / "dog" / "01.png").write_bytes(b"")
    for split in SPLITS:
        data = opened(tmp_path / "set", split)
        item = data.batch(range(len(data)))
        assert torch.equal(item["label"], numbers(item["x0"]) % 2)


def test_pairs_and_unpaired_endpoints_keep_the_labels_of_the_clean_pictures(tmp_path):
    n = 40
    np.savez(tmp_path / "clean.npz", x0=pixels(n), label=np.arange(n) % 5, vector=np.arange(n, dtype=np.float32)[:, None])
    np.savez(tmp_path / "other.npz", x0=255 - pixels(n), label=(np.arange(n) + 1) % 5)
    for pairs in (True, False):
        data = opened(tmp_path / "clean.npz", endpoint=str(tmp_path / "other.npz"), pairs=pairs)
        assert set(data.keys) == {"x0", "label", "vector", "endpoint"}
        for item in (data.batch(range(10)), data.numbered(0, range(30, 70))):
            of = numbers(item["x0"])
            assert torch.equal(item["label"], of % 5)
            assert torch.equal(item["vector"][:, 0], of.float())
            if pairs:
                assert torch.allclose(item["endpoint"], -item["x0"], atol=1e-6)


def test_sources_without_either_give_pictures_alone(tmp_path):
    np.save(tmp_path / "a.npy", pixels(30))
    data = opened(tmp_path / "a.npy")
    assert data.keys == ("x0",)
    assert set(data.batch([0, 1])) == {"x0"}
    assert set(opened("bundled:digits").batch([0])) == {"x0", "label"}
