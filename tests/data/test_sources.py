import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt import randomness
from snowmelt.data import DataOptions, describe_data, images, open_data, pools
from snowmelt.data.splits import SPLITS, choose, digest, thin


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def folder(path: Path, n: int = 40, size: tuple[int, ...] = (8, 8), seed: int = 0) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(noise(n, *size, seed=seed)):
        Image.fromarray(array).save(path / f"{i:03d}.png")
    return path


def opened(path: Path | str, split: str = "train", **options: object):
    return open_data(DataOptions(path=str(path), **options), split)


def every(path: Path | str, **options: object):
    return [opened(path, split, **options) for split in SPLITS]


# --- options -------------------------------------------------------------------------------------------


def test_options_need_neither_torch_nor_numpy():
    code = "import sys, snowmelt.data.options; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "src"}, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    "bad",
    [
        {"path": ""},
        {"size": 3},
        {"channels": 2},
        {"fit": "pad"},
        {"fit": "crop"},
        {"validation": 0.6},
        {"test": -0.1},
        {"validation": 0.5, "test": 0.5},
        {"limit": 0},
        {"range": (1, 0)},
        {"range": (0, float("nan"))},
    ],
)
def test_options_out_of_bounds(bad):
    with pytest.raises(ValueError, match=f"data.{next(iter(bad))}"):
        DataOptions(**bad)


# --- splits --------------------------------------------------------------------------------------------


def test_splits_are_disjoint_complete_and_near_their_fractions():
    keys = [digest(bytes([i % 256, i // 256])) for i in range(4000)]
    parts = {split: choose(keys, split, validation=0.05, test=0.1, name="x") for split in SPLITS}
    assert sorted(i for part in parts.values() for i in part) == list(range(4000))
    assert abs(len(parts["test"]) - 400) < 80
    assert abs(len(parts["validation"]) - 200) < 60


def test_adding_pictures_moves_none():
    keys = [digest(bytes([i % 256, i // 256])) for i in range(2000)]
    few = set(choose(keys[:1000], "test", validation=0.05, test=0.1, name="x"))
    assert few == {i for i in choose(keys, "test", validation=0.05, test=0.1, name="x") if i < 1000}


def test_three_pictures_are_enough_and_two_are_not():
    keys = [digest(bytes([i])) for i in range(3)]
    assert [len(choose(keys, split, validation=0.05, test=0.1, name="x")) for split in SPLITS] == [1, 1, 1]
    with pytest.raises(ValueError, match="at least 3"):
        choose(keys[:2] + keys[:1], "train", validation=0.05, test=0.1, name="x")
    assert choose(keys[:1], "train", validation=0, test=0, name="x") == [0]
    with pytest.raises(ValueError, match="left for test"):
        choose(keys, "test", validation=0.05, test=0, name="x")


def test_limits_are_nested():
    keys = [digest(bytes([i])) for i in range(50)]
    assert set(thin(range(50), keys, 10)) < set(thin(range(50), keys, 20))
    assert thin(range(50), keys, None) == list(range(50))


# --- folders -------------------------------------------------------------------------------------------


def test_folder_is_nested_sorted_and_split_by_content(tmp_path):
    folder(tmp_path / "b", 30)
    folder(tmp_path / "a", 30, seed=1)
    folder(tmp_path / "c", 30)  # the same pictures again
    folder(tmp_path / ".cache", 2, seed=2)
    parts = every(tmp_path)
    ids = [set(part.ids) for part in parts]
    assert sum(map(len, ids)) == 90
    assert all(part.ids == sorted(part.ids) and part.skipped == [] for part in parts)
    for names in ids:
        assert {f"c/{name[2:]}" for name in names if name.startswith("b/")} == {name for name in names if name.startswith("c/")}
    x0 = parts[0].batch([0])["x0"]
    assert torch.equal(x0[0], images.read(tmp_path / parts[0].ids[0]).x)
    assert parts[0].shape == (1, 8, 8)


def test_official_test_folder(tmp_path):
    folder(tmp_path / "train", 20)
    folder(tmp_path / "test", 5, seed=1)
    train, validation, test = every(tmp_path)
    assert (len(train) + len(validation), len(test)) == (20, 5)


def test_bad_files_are_named_and_never_fatal(tmp_path):
    folder(tmp_path, 40, (16, 16, 3))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "page.jpg").write_text("<html>")
    for path in sorted(tmp_path.glob("00*.png"))[:5]:
        path.write_bytes(path.read_bytes()[:300])
    parts = every(tmp_path)
    names = {name for part in parts for name, _ in part.skipped}
    assert names == {"empty.png", "page.jpg", *(f"00{i}.png" for i in range(5))}
    assert sum(map(len, parts)) == 35
    text = describe_data(DataOptions(path=str(tmp_path)))
    assert "page.jpg: not a picture" in text
    assert "(3, 16, 16)" in text


def test_lazy_files_give_the_same_batches(tmp_path, monkeypatch):
    folder(tmp_path, 30, (10, 12))
    held = opened(tmp_path, size=8)
    monkeypatch.setattr(pools, "HELD_BYTES", 0)
    lazy = opened(tmp_path, size=8)
    assert torch.equal(held.batch(range(len(held)))["x0"], lazy.batch(range(len(lazy)))["x0"])
    assert lazy.batch([])["x0"].shape == held.batch([])["x0"].shape == (0, 1, 8, 8)


def test_a_file_that_breaks_later_is_replaced_and_named(tmp_path, monkeypatch):
    folder(tmp_path, 30)
    monkeypatch.setattr(pools, "HELD_BYTES", 0)
    data = opened(tmp_path)
    second = data.batch([1])["x0"]
    (tmp_path / data.ids[0]).write_bytes(b"gone")
    assert torch.equal(data.batch([0])["x0"], second)
    assert [name for name, _ in data.skipped] == [data.ids[0]]


def test_unequal_pictures_name_two_files_and_the_way_out(tmp_path):
    folder(tmp_path, 20)
    Image.new("L", (9, 8)).save(tmp_path / "z.png")
    with pytest.raises(ValueError, match=r"000\.png has 8 x 8 px, z\.png has 9 x 8: give --data\.size 8"):
        opened(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "z.png")
    with pytest.raises(ValueError, match=r"z\.png has 3: give --data\.channels 1 or"):
        opened(tmp_path)
    assert opened(tmp_path, channels=3).shape == (3, 8, 8)
    assert opened(tmp_path, channels=1, size=16).batch([0])["x0"].shape == (1, 1, 16, 16)


def test_alpha_turns_white(tmp_path):
    for i in range(20):
        Image.new("RGBA", (8, 8), (i, 0, 0, 0)).save(tmp_path / f"{i}.png")
    assert (opened(tmp_path).batch([0, 1])["x0"] == 1).all()


@pytest.mark.parametrize(("count", "message"), [(0, "holds no picture"), (1, "too few to split: add pictures")])
def test_too_small_folders(tmp_path, count, message):
    folder(tmp_path, count)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path)


def test_missing_and_unreadable_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        opened(tmp_path / "nowhere")
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(ValueError, match="none of the 1 pictures"):
        opened(tmp_path)
    with pytest.raises(ValueError, match="one picture"):
        opened(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r'"\.csv" is no source'):
        opened(tmp_path / "a.csv")
    (tmp_path / "a.png").unlink()
    np.save(tmp_path / "x.npy", noise(4, 8, 8))
    with pytest.raises(ValueError, match="for the array in it"):
        opened(tmp_path)


# --- crops and flips -----------------------------------------------------------------------------------


def test_random_crops_belong_to_their_generator(tmp_path):
    folder(tmp_path, 20, (16, 20, 3))
    Image.new("RGB", (40, 6)).save(tmp_path / "small.png")
    data = opened(tmp_path, size=8, fit="crop", flip=True)
    n = range(len(data))
    first = data.batch(n, randomness.generators(0, "crop", n))["x0"]
    assert first.shape == (len(data), 3, 8, 8)
    back = data.batch(list(n)[::-1], randomness.generators(0, "crop", list(n)[::-1]))["x0"]
    assert torch.equal(first, back.flip(0))
    assert not torch.equal(first, data.batch(n, randomness.generators(1, "crop", n))["x0"])
    assert torch.equal(data.batch(n)["x0"], data.batch(n)["x0"])


def test_turns_and_flips_show_all_eight_positions_and_change_no_crop(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (1, 8, 8), dtype=np.uint8))
    many = [0] * 200
    still, turned = (opened(tmp_path / "x.npy", flip=True, turn=turn, validation=0, test=0) for turn in (False, True))
    assert turned.random
    seen = turned.batch(many, randomness.generators(0, "turn", range(200)))["x0"]
    x = still.batch([0])["x0"][0]
    positions = [torch.rot90(flipped, k, (-2, -1)) for flipped in (x, x.flip(-1)) for k in range(4)]
    counts = [sum(torch.equal(row, position) for row in seen) for position in positions]
    assert sum(counts) == 200
    assert min(counts) > 10
    same = still.batch(many, randomness.generators(0, "turn", range(200)))["x0"]  # a turn takes nothing from the other draws
    assert all(any(torch.equal(torch.rot90(a, k, (-2, -1)), b) for k in range(4)) for a, b in zip(same, seen, strict=True))


def test_crops_reach_every_corner_and_flip_half(tmp_path):
    array = np.repeat(np.arange(100, dtype=np.uint8).reshape(1, 10, 10), 3, 0) + np.arange(3, dtype=np.uint8)[:, None, None]
    np.save(tmp_path / "x.npy", array)
    data = opened(tmp_path / "x.npy", size=8, fit="crop", flip=True, validation=0, test=0)
    many = [0] * 300
    x0 = images.to_uint8(data.batch(many, randomness.generators(0, "crop", range(300)))["x0"])[..., 0].astype(int)
    corners = {(int(x.min()) // 10, int(x.min()) % 10) for x in x0}
    assert corners == {(i, j) for i in range(3) for j in range(3)}
    assert 100 < sum(x[0, 0] > x[0, 1] for x in x0) < 200
    centre = images.to_uint8(data.batch([0])["x0"])[0, ..., 0]
    assert (centre == array[0, 1:9, 1:9]).all()


CUT = {"size": 7, "fit": "crop"}


@pytest.mark.parametrize("options", [{"flip": True}, {"flip": True, "turn": True}, CUT, {**CUT, "turn": True}])
@pytest.mark.parametrize("shape", [(30, 9, 9), (30, 9, 9, 3)])
def test_a_batch_is_cut_and_turned_as_its_samples_one_by_one_would_be(tmp_path, shape, options):
    """The definition, a picture at a time and in floats: old runs go on to the weights they would have had."""
    array = noise(*shape)
    np.save(tmp_path / "x.npy", array)
    data, n = opened(tmp_path / "x.npy", validation=0, test=0, **options), range(200)
    which = [i % 30 for i in n]
    x0 = data.batch(which, randomness.generators(0, "cut", n))["x0"]
    for i, found, generator in zip(which, x0, randomness.generators(0, "cut", n), strict=True):
        top, left, flip, turn = torch.rand(4, generator=generator).tolist()
        side = options.get("size", 9)
        top, left = int(top * (10 - side)), int(left * (10 - side))
        x = images.from_uint8(array[i].reshape(9, 9, -1))[:, top : top + side, left : left + side]
        x = x.flip(-1) if options.get("flip") and flip < 0.5 else x
        assert torch.equal(found, torch.rot90(x, int(turn * 4), (-2, -1)) if options.get("turn") else x)
    raw = data.batch(which, randomness.generators(0, "cut", n), raw=True)["x0"]
    assert raw.dtype == torch.uint8
    assert torch.equal(images.floats(raw), x0)


def test_pictures_that_are_not_square_cannot_be_turned(tmp_path):
    np.save(tmp_path / "x.npy", noise(30, 6, 8))
    with pytest.raises(ValueError, match=r"data\.turn = True needs squares, and these are 8 x 6 px"):
        opened(tmp_path / "x.npy", turn=True)


def test_only_training_is_random(tmp_path):
    folder(tmp_path, 30, (16, 16))
    for split in ("validation", "test"):
        data = opened(tmp_path, split, size=8, fit="crop", flip=True)
        assert torch.equal(data.batch([0], randomness.generators(0, "crop", [5]))["x0"], data.batch([0])["x0"])


def test_batch_refuses_what_is_not_there():
    data = opened("bundled:digits", "validation")
    with pytest.raises(IndexError, match="sample -1"):
        data.batch([-1])
    with pytest.raises(ValueError, match="one per sample"):
        data.batch([0, 1], randomness.generators(0, "crop", [0]))


# --- bundled and real ----------------------------------------------------------------------------------


def test_bundled_digits():
    parts = every("bundled:digits")
    assert sum(map(len, parts)) == 1797
    assert {part.shape for part in parts} == {(1, 8, 8)}
    x0 = parts[0].batch(range(100))["x0"]
    assert (x0.min(), x0.max()) == (-1, 1)
    large = opened("bundled:digits", "test", size=16, limit=20)
    assert (len(large), large.shape) == (20, (1, 16, 16))
    with pytest.raises(ValueError, match="flip"):
        opened("bundled:digits", flip=True)


def test_bundled_photos_are_split_by_photograph():
    parts = every("bundled:photos")
    photos = [{name.split("@")[0] for name in part.ids} for part in parts]
    assert not photos[0] & photos[1]
    assert not photos[0] & photos[2]
    assert not photos[1] & photos[2]
    assert len(parts[0]) > 500
    assert parts[0].shape == (3, 64, 64)
    assert opened("bundled:photos", "test", size=128, channels=1).shape == (1, 128, 128)
    with pytest.raises(ValueError, match=r"data\.size = 2048"):
        opened("bundled:photos", size=2048)


def test_unknown_names():
    with pytest.raises(ValueError, match='did you mean "bundled:digits"'):
        opened("bundled:digit")
    with pytest.raises(ValueError, match="train, validation, test"):
        opened("bundled:digits", "valid")


def test_mnist_at_32_px_is_the_papers():
    root = os.environ.get("SNOWMELT_DATA")
    if not root or not (Path(root) / "mnist").is_dir():
        pytest.skip("set SNOWMELT_DATA to a folder that holds mnist/ to check the paper's MNIST preparation")
    data = opened(Path(root) / "mnist", "test", size=32)
    assert (len(data), data.shape) == (10_000, (1, 32, 32))
    x = (data.batch(range(10_000))["x0"] + 1) / 2
    blocks = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 8), scale_factor=8)
    assert (x - blocks).square().mean().sqrt().item() == pytest.approx(0.231, abs=0.001)  # the paper's super-resolution column


def test_unpacking_an_image_pack(tmp_path):
    import io

    parts = []
    for i, array in enumerate(noise(4, 8, 8, 3)):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, **({"format": "JPEG"} if i % 2 else {"format": "WEBP", "lossless": True}))
        parts.append(buffer.getvalue())
    offset = np.cumsum([0, *map(len, parts)])
    np.savez(tmp_path / "p.npz", blob=np.frombuffer(b"".join(parts), np.uint8), offset=offset, label=["../x", "a", "a", "b"])
    script = Path(__file__).parents[2] / "scripts" / "unpack_packs.py"
    run = [sys.executable, str(script), str(tmp_path / "p.npz")]
    subprocess.run([*run, str(tmp_path / "out")], check=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00000.png", "00001.jpg", "00002.png", "00003.jpg"]
    assert (tmp_path / "out/00001.jpg").read_bytes() == parts[1]
    assert (images.to_uint8(images.read(tmp_path / "out/00002.png").x) == noise(4, 8, 8, 3)[2]).all()
    subprocess.run([*run, str(tmp_path / "by"), "--by", "label"], check=True)
    assert sorted(p.name for p in (tmp_path / "by").iterdir()) == ["_x", "a", "b"]


def test_a_photograph_is_decoded_once_however_many_crops_are_cut(tmp_path, monkeypatch):
    from PIL import Image as Pictures

    for i, size in enumerate([(40, 30), (50, 36), (44, 60), (33, 47)]):
        noise = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Pictures.fromarray(noise).save(tmp_path / f"{i}.png")
    data = open_data(DataOptions(path=str(tmp_path), size=16, fit="crop", validation=0, test=0.25), "train")
    decoded = []
    store = data._store
    original = store.decode
    object.__setattr__(store, "decode", lambda path: decoded.append(path) or original(path))
    first = data.batch(range(len(data)))["x0"]
    for _ in range(3):
        assert torch.equal(data.batch(range(len(data)))["x0"], first)
    assert len(decoded) == len(data)
