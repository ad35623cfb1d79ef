"""Two data sets in training: their orders, their cuts, their partners."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.data.options import DataOptions
from snowmelt.data.paired import Paired, predecessors
from snowmelt.data.pools import FilePool
from snowmelt.data.sources import describe_data, open_data
from snowmelt.randomness import generators


def folder(place: Path, n: int, *, px: int = 8, shade: int = 0, names: str = "{:02d}.png") -> Path:
    """`n` pictures that can be told apart: the left half holds its number plus `shade`, the right half is black."""
    place.mkdir(parents=True)
    for i in range(n):
        pixels = np.zeros((px, px), np.uint8)
        pixels[:, : px // 2] = i + 1 + shade
        Image.fromarray(pixels).save(place / names.format(i))
    return place


def numbers(x: torch.Tensor) -> list[int]:
    """The number of each picture of a batch, whether or not it is mirrored."""
    return [round((float(one.max()) + 1) * 127.5) for one in x]


@pytest.fixture
def options(tmp_path: Path) -> DataOptions:
    here, there = folder(tmp_path / "faces", 12), folder(tmp_path / "cats", 7, shade=100)
    return DataOptions(path=str(here), endpoint=str(there), validation=0, test=0)


def test_sets_of_unequal_size_have_their_own_orders(options: DataOptions) -> None:
    data = open_data(options, "train")
    assert isinstance(data, Paired)
    assert (len(data), data.keys, data.random) == (12, ("x0", "endpoint"), False)
    seen = [data.numbered(0, range(i, i + 4)) for i in range(0, 84, 4)]
    x0, y = (sum((numbers(item[name]) for item in seen), []) for name in ("x0", "endpoint"))
    for k in range(7):
        assert sorted(x0[12 * k : 12 * k + 12]) == list(range(1, 13))
    for k in range(12):
        assert sorted(y[7 * k : 7 * k + 7]) == list(range(101, 108))
    assert len({tuple(y[7 * k : 7 * k + 7]) for k in range(12)}) > 6  # every epoch in another order
    assert len(set(zip(x0, y, strict=True))) > 50  # of 84 meetings
    plain = open_data(dataclasses.replace(options, endpoint=None), "train")
    assert torch.equal(plain.numbered(0, range(30))["x0"], data.numbered(0, range(30))["x0"])  # the second set moves nothing in the first


def test_sets_of_equal_size_do_not_walk_in_step(options: DataOptions) -> None:
    item = open_data(dataclasses.replace(options, endpoint=options.path), "train").numbered(0, range(120))
    together = sum(a == b for a, b in zip(numbers(item["x0"]), numbers(item["endpoint"]), strict=True))
    assert together < 30  # of 120, where chance gives 10


def test_a_sample_is_a_function_of_its_number(options: DataOptions) -> None:
    data = open_data(dataclasses.replace(options, flip=True), "train")
    whole, late = data.numbered(3, range(40)), data.numbered(3, range(25, 40))
    for name in ("x0", "endpoint"):
        assert torch.equal(whole[name][25:], late[name])
    assert not torch.equal(data.numbered(4, range(40))["endpoint"], whole["endpoint"])


def test_unpaired_pictures_are_mirrored_independently_and_pairs_together(tmp_path: Path) -> None:
    here, there = folder(tmp_path / "a", 40), folder(tmp_path / "b", 40, shade=100)
    options = DataOptions(path=str(here), endpoint=str(there), validation=0, test=0, flip=True)

    def mirrored(data: Paired) -> list[tuple[bool, bool]]:
        item = data.numbered(0, range(40))
        return [(bool(a[0, 0, 0] < a[0, 0, -1]), bool(b[0, 0, 0] < b[0, 0, -1])) for a, b in zip(item["x0"], item["endpoint"], strict=True)]

    assert len(set(mirrored(open_data(options, "train")))) == 4
    pairs = open_data(dataclasses.replace(options, pairs=True), "train")
    assert set(mirrored(pairs)) == {(True, True), (False, False)}
    item = pairs.numbered(0, range(80))
    assert [b - a for a, b in zip(numbers(item["x0"]), numbers(item["endpoint"]), strict=True)] == [100] * 80
    item = pairs.batch(range(5), generators(0, "any", range(5)))
    assert [b - a for a, b in zip(numbers(item["x0"]), numbers(item["endpoint"]), strict=True)] == [100] * 5


def test_pairs_go_into_one_split_whatever_the_endpoint_holds(tmp_path: Path) -> None:
    here, there = folder(tmp_path / "a", 60), folder(tmp_path / "b", 60, shade=100, names="{:02d}.bmp")  # another format is the same name
    options = DataOptions(path=str(here), endpoint=str(there), pairs=True, validation=0.2, test=0.2)
    seen = []
    for split in ("train", "validation", "test"):
        data = open_data(options, split)
        item = data.batch(range(len(data)))
        assert [b - a for a, b in zip(numbers(item["x0"]), numbers(item["endpoint"]), strict=True)] == [100] * len(data)
        seen += numbers(item["x0"])
    assert sorted(seen) == list(range(1, 61))


def test_pairs_of_arrays_and_crops(tmp_path: Path) -> None:
    pixels = np.arange(30 * 12 * 12, dtype=np.uint32).reshape(30, 12, 12).astype(np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", 255 - pixels)
    options = DataOptions(path=str(tmp_path / "a.npy"), endpoint=str(tmp_path / "b.npy"), pairs=True, size=8, fit="crop")
    item = open_data(options, "train").numbered(0, range(50))
    assert float((item["x0"] + item["endpoint"]).abs().max()) < 1e-6
    np.save(tmp_path / "c.npy", pixels[:20])
    with pytest.raises(ValueError, match="no partner") as error:
        open_data(dataclasses.replace(options, endpoint=str(tmp_path / "c.npy")), "train")
    assert "picture 20, picture 21, picture 22 and 7 more" in str(error.value)


def test_shapes_that_differ_are_named_with_the_way_out(tmp_path: Path) -> None:
    options = DataOptions(path=str(folder(tmp_path / "a", 5)), endpoint=str(folder(tmp_path / "b", 5, px=6)), validation=0, test=0)
    with pytest.raises(ValueError, match=r"\(1, 8, 8\).*\(1, 6, 6\).*--data.size 6"):
        open_data(options, "train")
    assert open_data(dataclasses.replace(options, size=6), "train").numbered(0, [0])["endpoint"].shape == (1, 1, 6, 6)


def test_names_without_a_partner_are_named(tmp_path: Path) -> None:
    here, there = folder(tmp_path / "a", 5), folder(tmp_path / "b", 4)
    options = DataOptions(path=str(here), endpoint=str(there), pairs=True, validation=0, test=0)
    with pytest.raises(ValueError, match=r"04 of .*a have no partner in .*b"):
        open_data(options, "train")
    (here / "04.png").unlink()
    (there / "02.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"02 of .*a have no partner in .*b"):
        open_data(options, "train")


def test_crops_of_pairs_need_equal_sizes(tmp_path: Path) -> None:
    options = DataOptions(
        path=str(folder(tmp_path / "a", 5, px=12)), endpoint=str(folder(tmp_path / "b", 5, px=16)), pairs=True, size=8, fit="crop", test=0
    )
    with pytest.raises(ValueError, match="00 is 12 x 12 px in .* and 16 x 16 in"):
        open_data(options, "train")


def test_crops_of_paired_arrays_need_equal_sizes(tmp_path: Path) -> None:
    for name, side in (("a", 12), ("b", 16)):
        np.save(tmp_path / f"{name}.npy", np.arange(5 * side * side, dtype=np.uint32).reshape(5, side, side).astype(np.uint8))
    options = DataOptions(path=str(tmp_path / "a.npy"), endpoint=str(tmp_path / "b.npy"), pairs=True, size=8, fit="crop", test=0)
    with pytest.raises(ValueError, match=r"picture 0 is 12 x 12 px in .* and 16 x 16 in"):
        open_data(options, "train")
    assert open_data(dataclasses.replace(options, fit="resize"), "train").shape == (1, 8, 8)


def test_a_damaged_endpoint_is_named_among_what_was_skipped(options: DataOptions) -> None:
    (Path(options.path) / "03.png").write_bytes(b"no picture")
    (Path(options.endpoint or "") / "03.png").write_bytes(b"no picture either")
    data = open_data(options, "train")
    assert [name for name, _ in data.skipped] == ["03.png", "endpoint 03.png"]
    assert all(f"skipped     {name}: " in describe_data(options) for name, _ in data.skipped)


@pytest.mark.parametrize(("fields", "says"), [({"pairs": True}, "give data.endpoint"), ({"endpoint": ""}, "data.endpoint is empty")])
def test_options_that_contradict(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DataOptions(**fields)


def _drive(folder: Path, names: list[str]) -> FilePool:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / name)
    return FilePool.scan(folder)


@pytest.mark.parametrize(
    ("names", "after"),
    [
        (["8.png", "9.png", "10.png", "11.png"], {"9": "8", "10": "9", "11": "10"}),
        (["a_04.png", "a_08.png", "a_12.png", "a_20.png", "a_24.png"], {"a_08": "a_04", "a_12": "a_08", "a_24": "a_20"}),
        (["a_01.png", "a_02.png", "b_03.png", "b_04.png"], {"a_02": "a_01", "b_04": "b_03"}),
        (["t100.png", "t201.png", "t299.png", "t402.png", "t800.png"], {"t201": "t100", "t299": "t201", "t402": "t299"}),
        (["one.png", "three.png", "two.png"], {"three": "one", "two": "three"}),
    ],
)
def test_the_frame_before_is_the_one_that_the_numbers_of_names_say(tmp_path: Path, names: list[str], after: dict[str, str]) -> None:
    pool = _drive(tmp_path / "drive", names)
    assert {pool.paths[j].stem: pool.paths[i].stem for j, i in predecessors(pool).items()} == after
