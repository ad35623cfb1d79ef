"""Image packs: many pictures in one file, and what a broken or hostile one may not do."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from snowmelt.data import DataOptions, arrays, images, open_data, packs
from snowmelt.data.sources import describe_data
from snowmelt.data.splits import SPLITS

WHOLE = {"validation": 0.0, "test": 0.0}


def pixels(n: int, h: int = 8, w: int = 8, c: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, h, w, c), dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "webp", **settings: object) -> bytes:
    out = io.BytesIO()
    settings = settings or ({"lossless": True, "exact": True} if kind == "webp" else {})
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(out, kind, **settings)
    return out.getvalue()


def pack(path: Path, contents: list[bytes], **columns: object) -> Path:
    offset = np.cumsum([0, *map(len, contents)])
    np.savez(path, **{"blob": np.frombuffer(b"".join(contents), np.uint8), "offset": offset, "meta": np.array('{"a": 1}'), **columns})
    return path


def opened(path: Path, split: str = "train", **options: object):
    return open_data(DataOptions(path=str(path), **options), split)


@pytest.mark.parametrize(("kind", "channels"), [("webp", 3), ("png", 3), ("png", 1), ("bmp", 3)])
def test_a_pack_is_its_pictures(tmp_path, kind, channels):
    array = pixels(7, 9, 6, channels)
    data = opened(pack(tmp_path / "p.npz", [encoded(row, kind) for row in array]), **WHOLE)
    assert (images.to_uint8(data.batch(range(7))["x0"]) == array).all()
    assert data.shape == (channels, 9, 6)
    assert data.ids == [f"p.npz#{i}" for i in range(7)]
    assert data.labels is None
    assert not data.random


def test_a_pack_is_held_once(tmp_path, monkeypatch):
    size = 4_000_000
    monkeypatch.setattr(arrays, "_CHUNK", 1 << 16)  # small beside the pack, as it is beside a real one
    path = pack(tmp_path / "p.npz", [bytes(size // 4)] * 4)
    tracemalloc.start()
    found = packs._contents(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(one) for one in found] == [size // 4] * 4
    assert peak < 1.75 * size


def test_a_pack_is_split_by_content_and_keeps_its_labels(tmp_path):
    array, label = pixels(90), np.arange(90) % 3
    path = pack(tmp_path / "p.npz", [encoded(row) for row in array], label=label, name=np.array([f"n{i}" for i in range(90)]))
    parts = [opened(path, split, validation=0.2, test=0.3) for split in SPLITS]
    assert sorted(name for part in parts for name in part.ids) == sorted(f"p.npz#{i}" for i in range(90))
    assert all(10 < len(part) < 70 for part in parts)
    for part in parts:
        numbers = [int(name.partition("#")[2]) for name in part.ids]
        assert (images.to_uint8(part.batch(range(len(part)))["x0"]) == array[numbers]).all()
        assert part.labels.tolist() == label[numbers].tolist()
        assert part.classes == ("0", "1", "2")


def test_sizes_may_differ_where_one_is_asked_for_and_jpeg_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = [encoded(pixels(1, 8, 12)[0]), encoded(pixels(1, 10, 6)[0], "jpeg", exif=exif)]
    path = pack(tmp_path / "p.npz", contents)
    assert opened(path, size=4, **WHOLE).batch([0, 1])["x0"].shape == (2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"p.npz#0 has 12 x 8 px, p.npz#1 has 10 x 6: give --data.size 6"):
        opened(path, **WHOLE)
    assert opened(path, size=5, fit="crop", **WHOLE).random


def test_a_damaged_picture_is_skipped_and_its_label_with_it(tmp_path):
    array = pixels(5)
    contents = [encoded(row) for row in array]
    contents[1] = b"not a picture"  # its header says so
    contents[3] = contents[3][:40] + bytes(len(contents[3]) - 40)  # what follows the header says so
    path = pack(tmp_path / "p.npz", contents, label=np.array([5, 6, 7, 8, 9]))
    data = opened(path, **WHOLE)
    assert data.ids == ["p.npz#0", "p.npz#2", "p.npz#4"]
    assert data.labels.tolist() == [5, 7, 9]
    assert [name for name, _ in data.skipped] == ["p.npz#1", "p.npz#3"]
    assert (images.to_uint8(data.batch(range(3))["x0"]) == array[[0, 2, 4]]).all()
    assert "skipped     p.npz#1: not a picture in one of" in describe_data(DataOptions(path=str(path), **WHOLE))


def test_pairs_of_packs_are_matched_by_position(tmp_path):
    clean, noisy = pixels(4), 255 - pixels(4)
    first = pack(tmp_path / "a.npz", [encoded(row) for row in clean])
    second = pack(tmp_path / "b.npz", [encoded(row) for row in noisy])
    batch = opened(first, endpoint=str(second), pairs=True, **WHOLE).batch([2, 0])
    assert (images.to_uint8(batch["endpoint"]) == noisy[[2, 0]]).all()


# --- what is refused ---------------------------------------------------------------------------------------

GOOD = encoded(pixels(1)[0])
SIZE = len(GOOD)


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        ([0, SIZE, SIZE], rf"picture 1 would be bytes {SIZE} to {SIZE}, which is no part of its {2 * SIZE} bytes"),
        ([0, SIZE, 2 * SIZE + 1], "picture 1 would be bytes"),
        ([-1, SIZE, 2 * SIZE], "picture 0 would be bytes -1 to"),
        ([0, 2 * SIZE, SIZE], "picture 1 would be bytes"),
        (np.array([0, 2**64 - 1], np.uint64), "picture 0 would be bytes 0 to 18446744073709551615"),
        (np.array([SIZE, 0], np.uint64), "picture 0 would be bytes"),
        (np.array([0.0, SIZE]), "its offset is float64 of shape"),
        ([[0, SIZE]], r"its offset is int64 of shape \(1, 2\)"),
        ([0], r"its offset is int64 of shape \(1,\)"),
    ],
)
def test_offsets_are_held_against_the_bytes(tmp_path, offset, message):
    with pytest.raises(ValueError, match=f"p.npz: .*{message}"):
        opened(pack(tmp_path / "p.npz", [GOOD, GOOD], offset=np.asarray(offset)), **WHOLE)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"blob": np.zeros(9), "offset": np.array([0, 9])}, "its blob is float64 of shape"),
        ({"blob": np.zeros((3, 3), np.uint8), "offset": np.array([0, 9])}, r"its blob is uint8 of shape \(3, 3\)"),
        ({"blob": np.zeros(9, np.uint8), "meta": np.array("{}")}, "an image pack needs blob and offset; it holds blob, meta, not offset"),
        ({"offset": np.arange(9), "meta": np.array("{}")}, "an image pack needs blob and offset; it holds offset, meta, not blob"),
        ({"blob": np.zeros(9, np.uint8), "offset": np.array([0, 4, 9])}, "none of the 2 pictures in .*p.npz can be read; p.npz#0: not a picture"),
        ({"blob": np.frombuffer(GOOD, np.uint8), "offset": np.array([0, SIZE]), "label": np.array([0, 1])}, "p.npz, label: 2 labels for 1 pictures"),
        ({"blob": np.frombuffer(GOOD, np.uint8), "offset": np.array([0, SIZE]), "label": np.array([-1])}, "label -1 of picture 0 lies outside"),
    ],
)
def test_what_is_no_pack_is_refused(tmp_path, columns, message):
    np.savez(tmp_path / "p.npz", **columns)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path / "p.npz", **WHOLE)


class Bomb:
    """What a pickle in a hostile file would do when it is read."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self):
        return Path.touch, (self.touched,)


@pytest.mark.parametrize("name", ["blob", "offset", "label", "meta"])
def test_pickled_arrays_are_never_read(tmp_path, name):
    touched = tmp_path / "touched"
    hostile = np.array([Bomb(touched)], dtype=object)
    path = pack(tmp_path / "p.npz", [GOOD], **{name: hostile})
    touched.unlink(missing_ok=True)
    if name == "meta":  # nothing needs it, so nobody reads it
        assert len(opened(path, **WHOLE)) == 1
    else:
        with pytest.raises(ValueError, match="objects, that is pickles, are never read"):
            opened(path, **WHOLE)
    assert not touched.exists()


def test_a_header_that_promises_more_than_is_there_is_refused_before_memory_is_asked_for(tmp_path):
    path = pack(tmp_path / "p.npz", [GOOD])
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    shape = f"({SIZE},)".encode()
    members["blob.npy"] = members["blob.npy"].replace(shape + b", }" + b" " * 9, b"(10000000000,), }"[: len(shape) + 12].ljust(len(shape) + 12), 1)
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    with pytest.raises(ValueError, match=r"its header promises uint8 \(10000000000,\), its \d+ bytes cannot hold that"):
        opened(path, **WHOLE)


def test_a_picture_of_gigapixels_is_skipped_unread(tmp_path):
    head = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    bomb = head + (60_000).to_bytes(4, "little") * 2 + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)
    data = opened(pack(tmp_path / "p.npz", [bomb, GOOD]), **WHOLE)
    assert data.ids == ["p.npz#1"]
    assert "60000 x 60000 px are more than" in data.skipped[0][1]


def test_a_cut_off_pack_is_refused(tmp_path):
    path = pack(tmp_path / "p.npz", [GOOD])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="damaged or unsupported archive"):
        opened(path, **WHOLE)


def test_an_array_may_still_be_called_blob(tmp_path):
    array = pixels(6)
    np.savez(tmp_path / "one.npz", blob=array)
    np.savez(tmp_path / "two.npz", x0=array, offset=np.arange(3))
    for name in ("one.npz", "two.npz"):
        assert (images.to_uint8(opened(tmp_path / name, **WHOLE).batch(range(6))["x0"]) == array).all()
