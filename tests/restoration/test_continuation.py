"""The next frame: made from the one before and from nothing else, written, and measured against repeating it."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Morph
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.registry import build
from snowmelt.restoration import continuation
from snowmelt.restoration.continuation import REPEATED, against_repeating, continued, roll_out
from snowmelt.restoration.identity import Opened
from snowmelt.restoration.outlets import read, write
from snowmelt.restorers import Conditions, Restorer, UNet
from snowmelt.schedules import Linear
from snowmelt.sensor import decode, encode, metres
from snowmelt.signals import PICTURE, Scan, Sound
from snowmelt.types import EMPTY, Batch, Draw, Severity

SCAN = Scan(rings=8, azimuths=32)
WALK = "ancestral:steps=2,eta=0"


def frame(metres: float) -> Tensor:
    r = torch.full((8, 32), metres)
    r[0, :4] = 0
    return encode(r, torch.full_like(r, 0.5), SCAN)[None]


def ranges(x: Tensor) -> list[float]:
    """The median range of each scan in m."""
    return [float(r[valid].median()) for r, _, valid in (decode(one, SCAN) for one in x)]


class Farther(Restorer):
    """Answers the frame before, twice as far away."""

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        before = z["image"] if "image" in z else z.get("endpoint", x_t)
        moved = torch.stack([encode(2 * r, light, SCAN) for r, light, _ in (decode(one, SCAN) for one in before)])
        return moved + 0.0005, None  # a network is never quite on the grid of a file


def model(**changes: object) -> Model:
    D = build("noise")
    restorer = Farther(D, UNet(widths=(8,), blocks=1), (3, 8, 32), conditions=Conditions(image=3)).eval()
    notes = {"recipe": {"data": {"endpoint": "previous"}}}
    return dataclasses.replace(Model(D, restorer, Normal((3, 8, 32)), signal=SCAN, notes=notes), **changes)  # type: ignore[arg-type]


def test_every_frame_is_made_from_the_one_before() -> None:
    made = continued(model(), torch.cat([frame(4), frame(6)]), 3, sampler=WALK)
    assert made.shape == (2, 3, 3, 8, 32)
    assert ranges(made[0]) == pytest.approx([8, 16, 32], rel=0.02)
    assert ranges(made[1]) == pytest.approx([12, 24, 48], rel=0.02)
    assert set(made[:, :, 2].unique().tolist()) <= {-1.0, 1.0}


def test_frames_depend_on_the_seed_and_their_number_alone() -> None:
    noisy = "ancestral:steps=2,eta=1"
    torch.manual_seed(0)
    net = Restorer(build("noise"), UNet(widths=(8,), blocks=1), (3, 8, 32), conditions=Conditions(image=3)).eval()
    for weight in net.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    own = model(restorer=net)
    x = torch.cat([frame(4), frame(6)])
    first = continued(own, x, 2, sampler=noisy, seed=1)
    assert torch.equal(continued(own, x, 1, sampler=noisy, seed=1), first[:, :1])
    assert not torch.equal(continued(own, x, 2, sampler=noisy, seed=2), first)


def test_a_morph_begins_in_the_frame_before() -> None:
    D = Morph(schedule=Linear())
    restorer = Farther(D, UNet(widths=(8,), blocks=1), (3, 8, 32)).eval()
    made = continued(model(degradation=D, restorer=restorer, prior=None), frame(4), 1, sampler=None)
    assert ranges(made[0]) == pytest.approx([8], rel=0.02)


class Pairs:
    """Frames and the ones before, which lie at half the distance."""

    keys = ("x0", "endpoint")

    def __len__(self) -> int:
        return 5

    def batch(self, numbers: range) -> dict[str, Tensor]:
        return {
            "x0": torch.cat([frame(4.0 + 2 * i) for i in numbers]),
            "endpoint": torch.cat([frame(2.0 + i) for i in numbers]),
        }


def test_it_is_measured_against_repeating_the_last_frame() -> None:
    rows = against_repeating(model(), Pairs(), sampler=WALK, batch=2)  # type: ignore[arg-type]
    found = {row["method"]: row for row in rows}
    assert found["Next frame"]["N"] == found[REPEATED]["N"] == 5
    assert found[REPEATED]["mae_m"] == pytest.approx(4.0, rel=0.02)  # 2, 3, 4, 5 and 6 m
    assert found["Next frame"]["mae_m"] < 0.1


def test_frames_are_written_with_pictures_and_never_over_others(tmp_path: Path) -> None:
    write(tmp_path / "room.bin", frame(4)[0], SCAN)
    opened = Opened(model(), "run", "sha")
    names = roll_out(opened, tmp_path / "room.bin", tmp_path / "out", 2, sampler=WALK)
    there = {path.name for path in (tmp_path / "out").iterdir()}
    assert there == {"0001.bin", "0002.bin", "continuation.json", *names}
    assert ranges(read(tmp_path / "out" / "0002.bin", SCAN)[None]) == pytest.approx([16], rel=0.02)
    assert json.loads((tmp_path / "out" / "continuation.json").read_text())["after"] == "room.bin"
    with pytest.raises(ValueError, match=r"0001\.bin exists: choose another --out, or add --overwrite"):
        roll_out(opened, tmp_path / "room.bin", tmp_path / "out", 2, sampler=WALK)
    roll_out(opened, tmp_path / "room.bin", tmp_path / "out", 1, sampler=WALK, overwrite=True)
    assert not (tmp_path / "out" / "0002.bin").exists()
    assert json.loads((tmp_path / "out" / "continuation.json").read_text())["frames"] == ["0001.bin"]


def test_scans_that_no_continuation_wrote_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, mine = Opened(model(), "run", "sha"), tmp_path / "drive" / "0000000007.bin"
    write(tmp_path / "room.bin", frame(4)[0], SCAN)
    mine.parent.mkdir()
    write(mine, frame(6)[0], SCAN)
    before = mine.read_bytes()
    with pytest.raises(ValueError, match=r"0000000007\.bin exists, and no continuation wrote it .* choose another --out"):
        roll_out(opened, tmp_path / "room.bin", mine.parent, 1, sampler=WALK, overwrite=True)
    for folder in (mine.parent, mine.parent / ".." / "drive"):
        with pytest.raises(ValueError, match=r"is the folder of 0000000007\.bin"):
            roll_out(opened, mine, folder, 1, sampler=WALK, overwrite=True)
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]
    assert mine.read_bytes() == before
    roll_out(opened, tmp_path / "room.bin", tmp_path / "out", 2, sampler=WALK)
    written = (tmp_path / "out" / "0002.bin").read_bytes()
    monkeypatch.setattr(continuation, "continuing", lambda *args, **how: iter([torch.full((1, 3, 8, 32), math.nan)]))
    with pytest.raises(ValueError, match="NaN"):  # it fails: the earlier frames are still there, and still known
        roll_out(opened, tmp_path / "room.bin", tmp_path / "out", 1, sampler=WALK, overwrite=True)
    assert (tmp_path / "out" / "0002.bin").read_bytes() == written
    monkeypatch.undo()
    roll_out(opened, tmp_path / "room.bin", tmp_path / "out", 1, sampler=WALK, overwrite=True)
    assert not (tmp_path / "out" / "0002.bin").exists()


def test_going_on_from_a_written_frame_is_going_on(tmp_path: Path) -> None:
    made = continued(model(), frame(4), 2, sampler=WALK)
    write(tmp_path / "a.bin", made[0, 0], SCAN)
    again = read(tmp_path / "a.bin", SCAN)
    assert torch.equal(again[0], made[0, 0, 0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"signal": PICTURE}, "this model makes pictures, and only LiDAR scans have a next frame"),
        ({"signal": Sound()}, "this model makes recordings"),
        ({"notes": {"recipe": {"data": {"endpoint": "sketches"}}}}, "trained with data.endpoint = sketches"),
        ({"restorer": None}, "was not told the frame before"),
    ],
)
def test_models_that_know_no_next_frame_are_refused(changes: dict, says: str) -> None:
    if "restorer" in changes:
        changes = {"restorer": Restorer(build("noise"), UNet(widths=(8,), blocks=1), (3, 8, 32)).eval()}
    with pytest.raises(ValueError, match=says):
        continued(model(**changes), frame(4), 1)


def test_what_cannot_be_continued_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give at least 1"):
        continued(model(), frame(4), 0)
    with pytest.raises(ValueError, match=r"has shape \(3, 8, 16\), and this model makes \(3, 8, 32\)"):
        continued(model(), frame(4)[..., :16], 1)
    other = Scan(rings=4, azimuths=32, up_deg=60, down_deg=40)
    r = torch.full((4, 32), 5.0)
    write(tmp_path / "other.bin", encode(r, r * 0, other), other)
    with pytest.raises(ValueError, match="no scan of the sensor that this model was trained on, scan:rings=8,azimuths=32"):
        roll_out(Opened(model(), "run", "sha"), tmp_path / "other.bin", tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()
    assert math.isclose(float(metres(torch.tensor(1.0), SCAN.farthest_m)), SCAN.farthest_m, rel_tol=1e-6)
