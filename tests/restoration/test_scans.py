"""Scans restored from files: what is known stays bit for bit, what is new is where it belongs, and every message."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.room import cloud

from snowmelt.degradations import AzimuthDrop, BeamDrop, RangeNoise, RayDrop
from snowmelt.model import Model
from snowmelt.restoration import restore_folder
from snowmelt.restoration.scans import known
from snowmelt.restorers import Informed
from snowmelt.sensor import decode, encode, returns, to_image
from snowmelt.signals import Scan

SCAN = Scan(16, 64, 15.0, -15.0)
BEAMS = BeamDrop(beams=4, rings=16)


def _filled(x, t):
    """Every ring as the nearest measured one above it, and all of them a little too near: no network, but a restorer with an answer."""
    rows = torch.arange(x.shape[2]) // 4 * 4
    return torch.cat([(x[:, :1, rows] - 0.002).clamp(min=-1), x[:, 1:, rows]], 1)


def _entry(folder):
    lines = [json.loads(line) for line in (folder / "restored.jsonl").read_text().splitlines()]
    return next(line for line in lines if "returns" in line)


class _Told(Informed):
    """Returns what it is given, and remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def predict(self, x_t, t, z):
        self.seen.append((float(t[0]), z["mask"].clone()))
        return x_t, None


def _model(degradation=BEAMS, restorer=_filled):
    return Model(degradation, restorer, signal=SCAN)


def _points(path):
    return np.fromfile(path, "<f4").reshape(-1, 4)


def _bits(points):
    return sorted(row.tobytes() for row in points)


def _thinned(path, jitter=0.2, every=4, columns=1):
    points = cloud(SCAN, jitter=jitter)
    cells = to_image(points, SCAN).cells
    kept = (cells // 64 % every == 0) & (cells % 64 % columns == 0)
    points[kept].numpy().astype("<f4").tofile(path)
    return points[kept].numpy()


def test_the_rings_of_a_file_say_what_is_missing_and_its_points_stay_bit_for_bit(tmp_path):
    mine = _thinned(tmp_path / "scan.bin")
    tally = restore_folder(tmp_path / "scan.bin", model=_model(), out=tmp_path / "out.bin")
    assert tally.done == 1
    out = _points(tmp_path / "out.bin")
    assert not set(_bits(mine)) - set(_bits(out))
    assert len(out) > 3.5 * len(mine)
    found = to_image(torch.from_numpy(out), SCAN)
    assert found.collisions == 0
    assert bool(found.rows.all())
    r, _, there = decode(found.x, SCAN)
    first, _, _ = decode(to_image(torch.from_numpy(mine), SCAN).x, SCAN)
    both = there[1] & (first[0] > 0)
    assert torch.allclose(r[1][both], first[0][both], atol=0.1)


@pytest.mark.parametrize(("every", "severity"), [(4, 1.0), (2, 0.5)])
def test_the_severity_is_how_often_the_beams_were_halved(tmp_path, every, severity):
    _thinned(tmp_path / "a.bin", every=every)
    told = _Told()
    assert restore_folder([tmp_path / "a.bin"], model=_model(restorer=told), out=tmp_path / "out").done == 1
    t, mask = told.seen[-1]
    assert t == pytest.approx(severity)
    assert torch.equal(mask[0, 0, :, 0], (torch.arange(16) % every == 0).float())
    entry = _entry(tmp_path / "out")
    assert entry["severity"] == severity


def test_a_whole_scan_says_that_nothing_is_missing(tmp_path):
    _thinned(tmp_path / "a.bin", every=1)
    tally = restore_folder([tmp_path / "a.bin"], model=_model(), out=tmp_path / "out")
    assert tally.done == 0
    assert "16 of 16 rings have returns" in tally.failed[0].reason
    assert "--degrade" in tally.failed[0].reason


@pytest.mark.parametrize(
    ("rings", "says"),
    [
        ((0, 4, 8, 12), r"only every 4th of the rings has returns, and this model fills every 2nd"),
        ((0, 2, 12, 14), r"of 8 rings .* 4 have hardly any"),
    ],
)
def test_a_file_that_lacks_more_than_the_model_fills_is_refused(tmp_path, rings, says):
    x = torch.full((3, 16, 64), -1.0)
    x[:, rings] = encode(torch.full((16, 64), 5.0), torch.zeros(16, 64), SCAN)[:, rings]
    np.save(tmp_path / "a.npy", torch.stack(decode(x, SCAN)[:2], -1).numpy())
    tally = restore_folder([tmp_path / "a.npy"], model=_model(BeamDrop(beams=8, rings=16)), out=tmp_path / "out")
    assert tally.done == 0
    assert re.search(says, tally.failed[0].reason)


def test_azimuths_are_found_likewise(tmp_path):
    _thinned(tmp_path / "a.bin", jitter=0.0, every=1, columns=4)
    told = _Told()
    restore_folder([tmp_path / "a.bin"], model=_model(AzimuthDrop(4), told), out=tmp_path / "out")
    assert torch.equal(told.seen[-1][1][0, 0, 0], (torch.arange(64) % 4 == 0).float())


def test_lost_rays_are_unknown_and_the_sky_is_known():
    x = to_image(cloud(SCAN), SCAN).x
    sky = ~returns(x)
    lost = torch.rand(16, 64, generator=torch.Generator().manual_seed(0)) < 0.3
    y = torch.where(lost, -1.0, x)
    mask = known(RayDrop(0.3), y, 1.0)
    assert not bool(mask[lost & ~sky].any())
    assert bool(mask[returns(y)].all())
    inner = torch.nn.functional.max_pool2d((~sky).float()[None, None], 5, 1, 2)[0, 0] == 0
    assert bool(inner.any())
    assert bool(mask[inner].all())


def test_all_returns_of_a_noisy_scan_are_the_networks_each_along_its_ray(tmp_path):
    points = cloud(SCAN, jitter=0.2).numpy()
    points.astype("<f4").tofile(tmp_path / "a.bin")

    def nearer(x, t):
        return torch.cat([torch.where(x[:, 2:] > 0, x[:, :1] - 0.1, -1.0), x[:, 1:]], 1)

    restore_folder([tmp_path / "a.bin"], model=_model(RangeNoise(0.5), nearer), out=tmp_path / "out", severity=1.0)
    out = _points(tmp_path / "out" / "a.bin")
    assert len(out) == len(points)
    unit = [one[:, :3].astype(np.float64) / np.linalg.norm(one[:, :3].astype(np.float64), axis=1, keepdims=True) for one in (out, points)]
    assert np.abs((unit[0] @ unit[1].T).max(1) - 1).max() < 1e-9
    assert np.linalg.norm(out[:, :3], axis=1).max() < np.linalg.norm(points[:, :3], axis=1).max() - 0.5
    with pytest.raises(ValueError, match="how degraded"):
        restore_folder([tmp_path / "a.bin"], model=_model(RangeNoise(0.5), nearer), out=tmp_path / "other")


def test_clean_scans_are_degraded_and_scored(tmp_path):
    cloud(SCAN).numpy().astype("<f4").tofile(tmp_path / "a.bin")
    restore_folder([tmp_path / "a.bin"], model=_model(), out=tmp_path / "out", degrade=True)
    entry = _entry(tmp_path / "out")
    assert 0 < entry["restored_mae_m"] < 5
    assert entry["restored_mae_m"] < entry["degraded_mae_m"]  # a lost return is 0 m, as in an evaluation
    assert entry["restored_return_error"] < entry["degraded_return_error"]
    degraded = to_image(torch.from_numpy(_points(tmp_path / "out" / "degraded" / "a.bin")), SCAN)
    assert degraded.rows.nonzero().flatten().tolist() == [row for row in (0, 4, 8, 12) if bool(degraded.rows[row])]


def test_a_range_image_comes_back_as_one(tmp_path):
    r, light, _ = decode(to_image(cloud(SCAN), SCAN).x, SCAN)
    image = torch.stack([r, light], -1).numpy()
    image[torch.arange(16) % 4 != 0] = 0
    np.save(tmp_path / "a.npy", image)
    restore_folder([tmp_path / "a.npy"], model=_model(), out=tmp_path / "out")
    out = np.load(tmp_path / "out" / "a.npy")
    assert out.shape == image.shape
    assert np.array_equal(out[::4], image[::4])
    assert (out[1::4] > 0).any()


def test_bad_files_are_named_and_the_others_go_on(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    _thinned(folder / "good.bin")
    (folder / "empty.bin").write_bytes(b"")
    (folder / "odd.bin").write_bytes(b"12345")
    np.full((5, 4), np.nan, "<f4").tofile(folder / "nan.bin")
    np.array([[3, 0, 30, 0.1]] * 9, "<f4").tofile(folder / "high.bin")
    tally = restore_folder([folder], model=_model(), out=tmp_path / "out")
    reasons = {failure.source.name: failure.reason for failure in tally.failed}
    assert tally.done == 1
    assert (tmp_path / "out" / "good.bin").exists()
    assert len(reasons) == 4
    assert "the file is empty" in reasons["empty.bin"]
    assert "no multiple of 16" in reasons["odd.bin"]
    assert "none of its 5 points" in reasons["nan.bin"]
    assert "above or below all beams" in reasons["high.bin"]
    again = restore_folder([folder], model=_model(), out=tmp_path / "out")
    assert again.kept == 1
    assert again.done == 0


def test_a_folder_of_pictures_is_none_of_scans(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"scan"):
        restore_folder([tmp_path], model=_model(), out=Path(tmp_path) / "out")
