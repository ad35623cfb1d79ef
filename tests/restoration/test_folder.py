"""Collections: what comes out, what is said of what cannot, and what is there after an interruption."""

import dataclasses
import errno
import gc
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.data import images
from snowmelt.data.images import read
from snowmelt.registry import build
from snowmelt.restoration import collection, folder, journal, loading, restore_folder
from snowmelt.restoration.plan import plan, shard_of
from snowmelt.restorers import Restorer
from snowmelt.restorers.tiles import Tiles
from snowmelt.stopping import Stopped

KEPT = ("restored.jsonl", "errors.jsonl")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pictures(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if not name.endswith(".jsonl")}


# --- what comes out ------------------------------------------------------------------------------------


def test_every_kind_of_picture_comes_back_as_it_was(tmp_path, model, draw):
    place, out = tmp_path / "in", tmp_path / "out"
    draw(place / "grey.png")
    draw(place / "wide.bmp", w=50, h=3, channels=3)
    draw(place / "a" / "colour.tif", channels=3)
    draw(place / "a" / "b" / "clear.png", channels=4)
    draw(place / "a" / "b" / "LA.PNG", channels=2)
    deep = np.random.default_rng(0).integers(0, 65536, (7, 9, 4), dtype=np.uint16)
    for name, channels in {"deep1.png": 1, "deep3.png": 3, "deep4.png": 4, "deep3.tif": 3, "deep4.tif": 4, "deep1.tiff": 1}.items():
        x = images.from_uint16(deep[..., : min(channels, 3)])
        alpha = (images.from_uint16(deep[..., 3:]) + 1) / 2 if channels == 4 else None
        images.write(place / name, x, bits=16, alpha=alpha)
    Image.fromarray(np.eye(8) > 0).save(place / "bilevel.png")
    Image.new("RGB", (6, 6), (9, 80, 200)).quantize(4).save(place / "old.gif")
    Image.new("RGB", (6, 6), (9, 80, 200)).quantize(4).save(place / "palette.png", transparency=0)
    tally = restore_folder(place, model=model, out=out, severity=0, sampler=None)
    assert (tally.done, tally.kept, tally.failed) == (14, 0, [])
    for source in (p for p in place.rglob("*") if p.is_file()):
        target = out / source.relative_to(place)
        before, after = read(source), read(target.with_suffix(".png") if source.suffix == ".gif" else target)
        assert (after.bits, after.x.shape) == (before.bits, before.x.shape), source
        assert torch.equal(after.x, before.x), source
        assert (before.alpha is None) == (after.alpha is None), source
        assert before.alpha is None or torch.equal(before.alpha, after.alpha), source


def test_a_single_picture_goes_beside_itself(tmp_path, model, draw, files_in):
    source = draw(tmp_path / "a.jpg", channels=3)
    assert restore_folder(source, model=model, severity=1).done == 1
    first = files_in(tmp_path)
    assert set(first) == {"a.jpg", "a-restored.jpg"}
    again = restore_folder(source, model=model, severity=0.5)
    assert (again.done, again.kept) == (0, 1)
    assert files_in(tmp_path) == first
    assert restore_folder(source, model=model, severity=0.5, overwrite=True).done == 1
    assert files_in(tmp_path) != first
    restore_folder(source, model=model, degrade=True, save_trajectory=True, overwrite=True)
    assert (tmp_path / "a-degraded.jpg.png").is_file()
    assert (tmp_path / "a-trajectory.jpg" / "strip.png").is_file()


def test_exif_is_kept_and_how_it_was_restored_is_noted(tmp_path, model):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Camera Works"
    Image.new("RGB", (9, 5), (200, 30, 30)).save(tmp_path / "a.jpg", exif=tags)
    restore_folder(tmp_path / "a.jpg", model=model, out=tmp_path / "out", severity=0.25, seed=7)
    with Image.open(tmp_path / "out" / "a.jpg") as image:
        assert image.size == (5, 9)
        assert (image.getexif().get(0x0112), image.getexif()[0x010F]) == (1, "Camera Works")
    note = images.note(tmp_path / "out" / "a.jpg")
    assert (note["severity"], note["seed"], note["sampler"]) == (0.25, 7, "tacos:steps=12,order=2")


def test_shards_make_the_whole(many, tmp_path, noisy, files_in):
    whole = tmp_path / "whole"
    restore_folder(many, model=noisy, out=whole, severity=0.5, seed=4)
    parts = tmp_path / "parts"
    seen: list[str] = []
    for i in (3, 1, 2, 4):
        tally = restore_folder(
            many, model=noisy, out=parts, severity=0.5, seed=4, shard=(i, 4), finished=lambda job, entry: seen.append(job.key)
        )
        assert tally.done == tally.total == {1: 3, 2: 2, 3: 2, 4: 2}[i]
    assert pictures(files_in(parts)) == pictures(files_in(whole))
    assert len(seen) == len(set(seen)) == 9
    assert sum("output" in line for path in parts.glob("restored.*-of-4.jsonl") for line in lines(path)) == 9


def test_random_numbers_are_keyed_by_the_path(many, tmp_path, noisy, draw, files_in):
    restore_folder(many, model=noisy, out=tmp_path / "a", severity=0.5)
    draw(many / "0-before-all.png", seed=99)
    restore_folder(many, model=noisy, out=tmp_path / "b", severity=0.5)
    a, b = (pictures(files_in(tmp_path / name)) for name in "ab")
    assert set(b) - set(a) == {"0-before-all.png"}
    assert all(b[name] == data for name, data in a.items())
    restore_folder(many, model=noisy, out=tmp_path / "c", severity=0.5, seed=1)
    assert pictures(files_in(tmp_path / "c"))["0.png"] != a["0.png"]
    for name in ("x.png", "y.png"):
        draw(tmp_path / "twins" / name)
    restore_folder(tmp_path / "twins", model=noisy, out=tmp_path / "d", severity=0.5)
    x, y = (read(tmp_path / "d" / name).x for name in ("x.png", "y.png"))
    assert not torch.equal(x, y)


def test_severities_may_differ_within_a_batch(tmp_path, noisy, draw, monkeypatch, files_in):
    asked = []
    many = tmp_path / "in"
    for i in range(9):
        draw(many / f"{i}.png", seed=i)

    def severity_for(work, x):
        return float(x.mean() + 1) / 2, None

    walk = folder.Work.walk
    monkeypatch.setattr(loading, "severity_for", severity_for)
    monkeypatch.setattr(folder.Work, "walk", lambda self, x, t, keys, mask=None: asked.append(t) or walk(self, x, t, keys, mask))
    restore_folder(many, model=noisy, out=tmp_path / "one", severity=0.5)
    assert not any(isinstance(t, torch.Tensor) for t in asked)
    asked.clear()
    restore_folder(many, model=noisy, out=tmp_path / "together", severity=0.5, batch=8)
    assert any(isinstance(t, torch.Tensor) and len(t) > 1 for t in asked)
    for name in pictures(files_in(tmp_path / "one")):
        one, together = (read(tmp_path / place / name).x for place in ("one", "together"))
        assert float((one - together).abs().max()) <= 1.01 / 127.5
    severities = [line["severity"] for line in lines(tmp_path / "one" / "restored.jsonl") if "output" in line]
    assert len(set(severities)) == 9
    # A table's walk may go along its knots only where all of a batch begin on one: there, unlike severities are not mixed.
    asked.clear()
    table = dataclasses.replace(noisy, degradation=build("recursive-blur:steps=4", "degradation"))
    restore_folder(many, model=table, out=tmp_path / "table", severity=0.5, batch=8)
    assert len(asked) == 9


def test_without_a_severity_it_refuses_before_anything(many, tmp_path, model):
    with pytest.raises(ValueError, match="how degraded are the pictures"):
        restore_folder(many, model=model, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    asked = []
    blind = folder.Model(build("mixture:parts=(gaussian-blur,noise)", "degradation"), lambda x, t: asked.append(t) or x)
    assert restore_folder(many, model=blind, out=tmp_path / "out").done == 9
    assert {float(t) for t in asked} == {1.0}


def test_a_model_that_can_tell_is_asked_about_each_picture(many, tmp_path, model):
    class Brightness:
        unknowns = ("blur",)

        def to(self, device):
            return self

        def estimate(self, x):
            found = {name: (x.mean((1, 2, 3)) + 1) / 2 for name in self.unknowns}
            return SimpleNamespace(severity=found, describe=lambda degradation: ["bright"])

    restore_folder(many, model=dataclasses.replace(model, estimator=Brightness()), out=tmp_path / "out")
    found = lines(tmp_path / "out" / "restored.jsonl")
    assert found[0]["are"]["severity"] is None
    for line in (line for line in found if "output" in line):
        x = read(line["input"]).x
        assert line["severity"] == pytest.approx(float(x.mean() + 1) / 2)
        assert images.note(line["output"])["severity"] == line["severity"]
        assert images.note(line["output"])["damage"] == line["damage"] == "bright"
    Brightness.unknowns = ("blur", "noise")
    tally = restore_folder(many, model=dataclasses.replace(model, estimator=Brightness()), out=tmp_path / "out", overwrite=True)
    assert {failure.reason for failure in tally.failed} == {"it has 2 severities (blur, noise), of which a walk needs one: give severity"}


# --- what cannot be restored ---------------------------------------------------------------------------


def test_one_bad_picture_never_stops_the_folder(tmp_path, draw):
    place, out = tmp_path / "in", tmp_path / "out"
    for i in range(3):
        draw(place / f"good{i}.png", seed=i, h=12, w=12)
    draw(place / "narrow.png", h=5000, w=1)
    draw(place / "dot.png", h=1, w=1)
    draw(place / "huge.png", h=300, w=200)
    (place / "empty.png").write_bytes(b"")
    (place / "text.png").write_text("no picture")
    data = draw(place / "cut.png", h=64, w=64).read_bytes()
    (place / "cut.png").write_bytes(data[: len(data) // 2])
    frames = [Image.new("L", (8, 8), v) for v in (0, 90, 200)]
    frames[0].save(place / "film.gif", save_all=True, append_images=frames[1:])
    frames[0].save(place / "pages.tif", save_all=True, append_images=frames[1:])
    said = []
    degradation = build("gaussian-blur:sigma_px=2", "degradation")
    net = Restorer(degradation, build("unet:widths=(8,16),patch=2,groups=4,blocks=1", "backbone"), (1, 12, 12))
    given = {"model": folder.Model(degradation, net), "out": out, "severity": 0.5, "sampler": None, "max_pixels": 20_000, "say": said.append}
    tally = restore_folder(place, **given)
    assert tally.done + len(tally.failed) == tally.total == 11
    assert len(said) == len(tally.failed)
    expected = {
        "huge.png": "200 x 300 px are more than max_pixels = 20000",
        "empty.png": "the file is empty",
        "text.png": "not a picture",
        "cut.png": "",
        "film.gif": "GIF of 3 frames",
        "pages.tif": "TIFF of 3 pages",
    }
    found = {Path(line["input"]).name: line["reason"] for line in lines(out / "errors.jsonl")}
    assert set(found) == set(expected)
    for name, why in expected.items():
        assert why in found[name]
        assert "\n" not in found[name]
    assert {p.name for p in out.iterdir()} == {"good0.png", "good1.png", "good2.png", "narrow.png", "dot.png", *KEPT}
    # The next run tries the bad ones again, and forgets those that became good.
    draw(place / "empty.png")
    again = restore_folder(place, **given)
    assert (again.done, again.kept, len(again.failed)) == (1, 5, 5)
    assert sorted(Path(line["input"]).name for line in lines(out / "errors.jsonl")) == sorted(set(expected) - {"empty.png"})
    for name in set(expected) - {"empty.png"}:
        (place / name).unlink()
        draw(place / Path(name).with_suffix(".png"), seed=5)
    last = restore_folder(place, **given)
    assert (last.done, last.kept, last.failed) == (5, 6, [])


def test_an_error_of_a_shard_is_settled_by_a_run_over_all(many, tmp_path, model, draw):
    (many / "0.png").write_bytes(b"")
    out = tmp_path / "out"
    assert len(restore_folder(many, model=model, out=out, severity=1, shard=(1, 2)).failed) == 1
    assert lines(out / "errors.1-of-2.jsonl")[0]["reason"] == "the file is empty"
    draw(many / "0.png")
    assert restore_folder(many, model=model, out=out, severity=1).done == 5
    assert not list(out.glob("errors*"))


def test_nan_is_one_pictures_failure(many, tmp_path, model):
    def diverge(x, t):
        return x * torch.nan if x.shape[2] == 9 else x

    tally = restore_folder(many, model=dataclasses.replace(model, restorer=diverge), out=tmp_path / "out", severity=1, sampler=None)
    assert (tally.done, len(tally.failed)) == (5, 4)
    assert all("NaN" in failure.reason for failure in tally.failed)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.endswith(".part")]


def test_an_error_inside_a_batch_is_one_pictures(many, tmp_path, model):
    def picky(x, t):
        if bool((x.flatten(1).mean(1) > 0.0).any()):
            raise RuntimeError("too bright")
        return x

    tally = restore_folder(many, model=dataclasses.replace(model, restorer=picky), out=tmp_path / "out", severity=0, sampler=None, batch=8)
    bright = [p for p in many.rglob("*.png") if read(p).x.mean() > 0.0]
    assert 0 < len(bright) < 9
    assert {failure.source for failure in tally.failed} == set(bright)
    assert {failure.reason for failure in tally.failed} == {"RuntimeError: too bright"}
    assert tally.done == 9 - len(bright)


def test_two_that_would_become_one_file(tmp_path, model, draw):
    place = tmp_path / "in"
    draw(place / "a.gif")
    draw(place / "a.png", seed=1)
    draw(place / "b.png", seed=2)
    draw(tmp_path / "more" / "b.png", seed=3)
    given = [place, tmp_path / "more", place / "a.png"]  # the last is given twice: it is one picture
    tally = restore_folder(given, model=model, out=tmp_path / "out", severity=0, sampler=None)
    assert (tally.total, tally.done) == (4, 2)
    assert sorted(failure.source for failure in tally.failed) == [place / "a.gif", tmp_path / "more" / "b.png"]
    assert "would both become" in tally.failed[0].reason
    assert torch.equal(read(tmp_path / "out" / "a.png").x, read(place / "a.png").x)
    assert torch.equal(read(tmp_path / "out" / "b.png").x, read(place / "b.png").x)


def test_an_output_folder_inside_the_input_is_no_input(many, model):
    for kept in (0, 9):
        tally = restore_folder(many, model=model, out=many / "out", severity=1, degrade=True)
        assert (tally.total, tally.kept) == (9, kept)
    with pytest.raises(ValueError, match="overwritten by its own"):
        restore_folder(many, model=model, out=many, severity=1)


def test_results_are_inputs_there_and_back_but_not_what_was_kept_beside_them(many, tmp_path):
    out = tmp_path / "there"
    for name in ("a.png", "trajectory/a.png/001.png", "rooms/trajectory/b.png"):
        images.write(out / name, torch.zeros(1, 8, 8))
    names = [job.name.as_posix() for job in plan([out], tmp_path / "back").jobs]
    assert names == ["a.png", "rooms/trajectory/b.png", "trajectory/a.png/001.png"]
    (out / "translated.jsonl").touch()
    names = [job.name.as_posix() for job in plan([out], tmp_path / "back").jobs]
    assert names == ["a.png", "rooms/trajectory/b.png"]


def test_a_folder_that_cannot_be_written_is_said_before_any_work(many, tmp_path, model, monkeypatch):
    def refuse(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def never(x, t):
        raise AssertionError

    monkeypatch.setattr(folder.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match=r"cannot write into .*out: Read-only file system"):
        restore_folder(many, model=dataclasses.replace(model, restorer=never), out=tmp_path / "out", severity=1)
    assert not (tmp_path / "out").exists()


def test_masks_are_read_with_the_picture(many, tmp_path, model, monkeypatch):
    masks = tmp_path / "masks"
    for path in many.rglob("*.png"):
        target = masks / path.relative_to(many).with_suffix(".bmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            Image.fromarray((np.arange(image.width * image.height).reshape(image.height, image.width) > 5).astype(np.uint8) * 255).save(target)
    (masks / "3.bmp").unlink()
    Image.new("L", (3, 3)).save(masks / "0.bmp")
    got = []

    def with_mask(work, start, mask):
        got.append(mask)
        return start

    monkeypatch.setattr("snowmelt.restoration.work.with_mask", with_mask)
    tally = restore_folder(many, model=model, out=tmp_path / "out", severity=1, mask=masks)
    why = {failure.source.name: failure.reason for failure in tally.failed}
    assert "its mask" in why["0.png"]
    assert "3 x 3 px, the picture 8 x 8" in why["0.png"]
    assert "it has no mask" in why["3.png"]
    assert (len(why), tally.done, len(got)) == (2, 7, 7)
    assert got[0].shape[:2] == (1, 1)
    assert got[0].flatten().tolist()[:8] == [1, 1, 1, 1, 1, 1, 0, 0]


# --- memory --------------------------------------------------------------------------------------------


def test_out_of_memory_falls_back_to_smaller_tiles(tmp_path, draw):
    degradation = build("gaussian-blur:sigma_px=2", "degradation")
    net = Restorer(degradation, build("unet:widths=(8,16),patch=2,groups=4,blocks=1", "backbone"), (1, 8, 8))
    draw(tmp_path / "in" / "a.png", h=32, w=32)
    sizes: list[int | None] = []
    restored = Restorer.forward

    class Greedy(Restorer):
        def forward(self, x_t, t, z=()):
            if x_t.shape[-1] > 8:
                sizes.append(self.tiles.size if self.tiles else None)
                if self.tiles is None or self.tiles.size > limit:
                    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.")
            return restored(self, x_t, t, z or {})

    net.__class__ = Greedy
    limit = 128
    given = {"model": folder.Model(degradation, net.eval()), "severity": 1.0, "sampler": None}
    assert restore_folder(tmp_path / "in", out=tmp_path / "a", **given).done == 1
    assert sizes == [None, 256, 128]
    assert net.tiles is None  # the model that was given stays as it was
    limit = 0
    sizes.clear()
    tally = restore_folder(tmp_path / "in", out=tmp_path / "b", **given)
    assert "not enough memory for 32 x 32 px, even by tiles" in tally.failed[0].reason
    assert sizes == [None, 256, 128, 64]
    sizes.clear()
    limit = 96
    assert restore_folder(tmp_path / "in", out=tmp_path / "c", tile=96, **given).done == 1
    assert sizes == [96]
    assert isinstance(folder.with_tiles(work_of(given["model"]), 96).model.restorer.tiles, Tiles)


def work_of(model):
    return folder.Work(model, "", "", 1.0, None)


@pytest.mark.parametrize(("overlap", "held"), [(0, 2), (1_000_000, 3)])
def test_only_two_pictures_are_in_memory_and_of_small_ones_the_third_that_is_being_written(many, tmp_path, model, monkeypatch, overlap, held):
    monkeypatch.setattr(collection, "_OVERLAP_PIXELS", overlap)
    alive: list[weakref.ref] = []
    most = []

    def counted(path, **options):
        picture = read(path, **options)
        alive.append(weakref.ref(picture.x))
        most.append(sum(ref() is not None for ref in alive))
        return picture

    monkeypatch.setattr(loading, "read", counted)
    gc.collect()
    assert restore_folder(many, model=model, out=tmp_path / "out", severity=1).done == 9
    assert len(most) == 9
    assert max(most) <= held


# --- going on ------------------------------------------------------------------------------------------


def test_ctrl_c_stops_cleanly_and_the_same_call_goes_on(many, tmp_path, model, files_in):
    out = tmp_path / "out"

    def stop(job, entry):
        if job.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(Stopped, match="4 of 9 pictures are done; the same command goes on"):
        restore_folder(many, model=model, out=out, severity=1, finished=stop)
    assert len(pictures(files_in(out))) == 4
    tally = restore_folder(many, model=model, out=out, severity=1)
    assert (tally.done, tally.kept) == (5, 4)
    noted = [line["output"] for line in lines(out / "restored.jsonl") if "output" in line]
    assert noted == sorted(str(out / name) for name in pictures(files_in(out)))


def test_what_was_made_with_other_settings_is_said(many, tmp_path, model):
    out = tmp_path / "out"
    restore_folder(many, model=model, out=out, severity=1)
    assert restore_folder(many, model=model, out=out, severity=1).elsewise == 0
    assert restore_folder(many, model=model, out=out, severity=0.5).elsewise == 9
    restore_folder(many, model=model, out=out, severity=0.5, overwrite=True)
    assert restore_folder(many, model=model, out=out, severity=0.5).elsewise == 0
    found = lines(out / "restored.jsonl")
    assert sorted({"are" in line for line in found}) == [False, True]
    assert len([line for line in found if "output" in line]) == 9  # the last word on each, once


def test_the_run_says_how_fast_it_was_and_so_does_the_journal(many, tmp_path, model):
    restorer = Restorer(model.degradation, build("unet:widths=(8,),patch=1,groups=4", "backbone"), (1, 8, 8)).eval()
    timed = dataclasses.replace(model, restorer=restorer)
    tally = restore_folder(many, model=timed, out=tmp_path / "out", severity=1, sampler="tacos:steps=2")
    assert tally.pace is not None
    assert tally.pace.pictures == 9
    assert tally.megapixels == pytest.approx(sum(read(path).x[0].numel() for path in (tmp_path / "out").rglob("*.png")) / 1e6)
    assert tally.pace.share is not None
    assert 0 < tally.pace.share < 1
    assert "% of the time in the network" in str(tally.pace)
    run = [line for line in lines(tmp_path / "out" / "restored.jsonl") if "run" in line]
    assert [line["run"] for line in run] == [tally.pace.table()]
    assert restore_folder(many, model=timed, out=tmp_path / "out", severity=1, sampler="tacos:steps=2").pace is None, "nothing was done"
    assert len([line for line in lines(tmp_path / "out" / "restored.jsonl") if "run" in line]) == 1
    assert not restorer.net._forward_hooks
    plain = restore_folder(many, model=model, out=tmp_path / "plain", severity=1)
    assert plain.pace is not None
    assert plain.pace.share is None, "nobody knows what a plain function computes"


def test_automatic_batches_share_calls_and_change_no_more_than_last_digits(draw, tmp_path, noisy, monkeypatch, files_in):
    many = tmp_path / "in"
    for i in range(9):
        draw(many / f"{i}.png", seed=i)
    restorer = Restorer(noisy.degradation, build("unet:widths=(8,),patch=1,groups=4", "backbone"), (1, 8, 8), noise_floor=0.2).eval()
    small = dataclasses.replace(noisy, restorer=restorer)
    restore_folder(many, model=small, out=tmp_path / "one", severity=0.5, sampler="tacos:steps=3")
    sizes: list[int] = []
    compute = collection.compute
    monkeypatch.setattr(collection, "compute", lambda work, batch: sizes.append(len(batch)) or compute(work, batch))
    restore_folder(many, model=small, out=tmp_path / "auto", severity=0.5, sampler="tacos:steps=3", batch=None)
    assert max(sizes) > 1
    for name in pictures(files_in(tmp_path / "one")):
        one, auto = (read(tmp_path / place / name).x for place in ("one", "auto"))
        assert float((one - auto).abs().max()) <= 1.01 / 127.5


def test_a_shape_is_measured_once_another_picture_has_it_and_large_ones_go_alone(draw, tmp_path, model, monkeypatch):
    sides = (8, 8, 8, 10, 12, 14, 8, 24, 24)
    for i, side in enumerate(sides):
        draw(tmp_path / "in" / f"{i}.png", seed=i, h=side, w=side)
    restorer = Restorer(model.degradation, build("unet:widths=(8,),patch=1,groups=4", "backbone"), (1, 8, 8)).eval()
    restorer.compiled = True
    calls: list[tuple[int, int, bool]] = []

    def counted(self, *, learning):
        return lambda x, t: (calls.append((x.shape[0], x.shape[-1], self.compiled)), self.net(x, t))[1]

    monkeypatch.setattr(Restorer, "_network", counted)
    monkeypatch.setattr(collection, "_BATCH_PIXELS", 24 * 24)
    timed = dataclasses.replace(model, restorer=restorer)
    tally = restore_folder(tmp_path / "in", model=timed, out=tmp_path / "out", severity=1, sampler=None, batch=None)
    assert tally.done == len(sides)
    rehearsal, *rest = calls
    assert rehearsal[:2] == (1, 8)
    # The first 8s share a call, as soon as two of them had been measured; what comes alone is not measured, nor what is large.
    measured = [(2, 8, False), (1, 8, False)]
    assert sorted(rest) == sorted([*measured, (3, 8, True), *((1, side, True) for side in (10, 12, 14, 8, 24, 24))])


def test_news_are_told_in_the_thread_that_asked_and_a_full_disk_before_an_interruption(many, tmp_path, model, monkeypatch):
    where: list[threading.Thread] = []
    (many / "0.png").write_bytes(b"no picture")
    given = {"model": model, "severity": 1, "finished": lambda job, entry: where.append(threading.current_thread())}
    save = collection.save

    def picky(path, *more):
        if path.name == "1.png":
            raise OSError(errno.ENAMETOOLONG, "too long")
        save(path, *more)

    monkeypatch.setattr(collection, "save", picky)
    tally = restore_folder(many, out=tmp_path / "out", say=lambda text: where.append(threading.current_thread()), **given)
    assert (len(tally.failed), tally.done) == (2, 7)
    assert len(where) == 9
    assert set(where) == {threading.main_thread()}

    def full(path, *more):
        time.sleep(0.05)
        raise OSError(errno.ENOSPC, "No space left on device")

    compute, computed = collection.compute, []

    def second(work, batch):
        computed.append(batch)
        if len(computed) == 2:
            raise KeyboardInterrupt
        return compute(work, batch)

    monkeypatch.setattr(collection, "save", full)
    monkeypatch.setattr(collection, "compute", second)
    with pytest.raises(OSError, match="No space left on device"):
        restore_folder(many, out=tmp_path / "full", **given)


def test_a_line_that_was_cut_is_dropped(many, tmp_path, model):
    out = tmp_path / "out"
    restore_folder(many, model=model, out=out, severity=1)
    with (out / "restored.jsonl").open("a") as stream:
        stream.write('{"input": "ha')
    restore_folder(many, model=model, out=out, severity=1)
    found = lines(out / "restored.jsonl")
    assert len([line for line in found if "run" not in line]) == 10


def test_left_overs_of_other_shards_are_left_alone(many, tmp_path, model):
    out = tmp_path / "out"
    (out / "a").mkdir(parents=True)
    # In the plan's order: 0.png 3.png 6.png a/1.png ...: of two shards, the first has 0 and 6.
    mine, other = out / ".0.png.abcd_123.part", out / ".3.png.abcd_123.part"
    for path in (mine, other):
        path.write_bytes(b"half")
    restore_folder(many, model=model, out=out, severity=1, shard=(1, 2))
    assert (mine.exists(), other.exists()) == (False, True)
    restore_folder(many, model=model, out=out, severity=1)
    assert not other.exists()


SCRIPT = """
import sys, time
import torch
from snowmelt.model import Model
from snowmelt.registry import build
from snowmelt.restoration import restore_folder
calls = 0
def slow(x, t):
    global calls
    calls += 1
    if calls == int(sys.argv[3]):  # the last it ever makes: whoever kills it may be slow
        print("waits to be killed", flush=True)
        time.sleep(250)
    time.sleep(.004)
    return x
print("ready", flush=True)
model = Model(build("gaussian-blur:sigma_px=2", "degradation"), slow)
restore_folder(sys.argv[1], model=model, out=sys.argv[2], severity=1, sampler="tacos:steps=2", degrade=True, save_trajectory=True)
"""


def test_killed_at_any_moment_every_output_is_there_once_and_whole(tmp_path, draw, files_in):
    place, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole"
    for i in range(24):
        draw(place / ("" if i % 2 else "deep") / f"{i}.png", seed=i, h=40, w=40)
    (place / "bad.png").write_bytes(b"")
    chance, kills = random.Random(0), 0
    for last in (8, 3, 12, 6):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, place, out, str(last)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + chance.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        for name in pictures(files_in(out)):
            if not name.endswith(".part") and ".part/" not in name and name.endswith(".png"):
                read(out / name)  # whole
    assert kills == 4
    for where in (out, whole):
        subprocess.run([sys.executable, "-c", SCRIPT, place, where, "0"], check=True, capture_output=True)
    a, b = (pictures(files_in(where)) for where in (out, whole))
    assert a == b
    assert not [name for name in files_in(out) if ".part" in name]
    outputs = [line["output"] for line in lines(out / "restored.jsonl") if "output" in line]
    assert len(outputs) == len(set(outputs))
    assert len(lines(out / "errors.jsonl")) == 1


# --- a look first --------------------------------------------------------------------------------------


def test_preview_shows_some_and_estimates_all(many, tmp_path, model, draw, files_in, monkeypatch):
    (many / "0.png").write_bytes(b"")
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)  # what else this machine does in the meantime is not estimated
    monkeypatch.setattr("snowmelt.restoration.preview.time", clock)

    def slow(x, t):
        clock.now += 0.02
        return x

    given = {"model": dataclasses.replace(model, restorer=slow), "severity": 1.0, "sampler": "tacos:steps=2"}
    tally = restore_folder(many, out=tmp_path / "out", preview=4, **given)
    assert set(files_in(tmp_path / "out")) == {"preview.png"}
    found = tally.preview
    assert (found.shown, found.total, len(tally.failed)) == (3, 8, 1)
    assert found.megapixels == pytest.approx(8 * (4 * 8 + 4 * 9) / 1e6)
    assert found.seconds == pytest.approx(3 * 0.04 / (64 + 72 + 72) * 8 * (32 + 36))  # by the pixels of the three that are shown
    assert str(found).startswith("8 pictures ≈ ")
    draw(tmp_path / "alone.jpg", channels=3)
    restore_folder(tmp_path / "alone.jpg", preview=6, **given)
    assert {p.name for p in tmp_path.glob("alone*")} == {"alone.jpg", "alone-preview.png"}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (40, "40 s"), (720, "12 min"), (3.1 * 3600, "3.1 h"), (2.5 * 86400, "2.5 days"), (1e8, "1,157 days")]
)
def test_durations(seconds, text):
    from snowmelt.restoration.preview import duration

    assert duration(seconds) == text


def test_the_journals_of_another_number_of_shares_are_joined_too(many, tmp_path, model, draw):
    """Three were killed, two went on: what the three have left is one journal with what the two did."""
    out, bad = tmp_path / "out", many / "0.png"
    sound, sources = bad.read_bytes(), [job.source for job in plan([many], out).jobs]
    bad.write_bytes(b"no picture")
    for i in (1, 3):
        restore_folder(many, model=model, out=out, severity=1, shard=(i, 3))
    elsewhere = {"input": "/elsewhere/x.png", "reason": "not asked about here"}
    assert [line["input"] for line in lines(out / "errors.1-of-3.jsonl")] == [str(bad)]
    with (out / "errors.3-of-3.jsonl").open("a") as file:
        file.write(json.dumps(elsewhere) + "\n")
    bad.write_bytes(sound)
    for i in (1, 2):
        restore_folder(many, model=model, out=out, severity=1, shard=(i, 2))
    journal.join(out, 2, sources)
    assert {path.name for path in out.glob("*.jsonl")} == {"restored.jsonl", "errors.jsonl"}
    assert [line["input"] for line in lines(out / "restored.jsonl") if "input" in line] == [str(source) for source in sources]
    assert lines(out / "errors.jsonl") == [elsewhere]  # that of 0.png is settled


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE, errno.EACCES, errno.ETIMEDOUT])
def test_what_the_system_refuses_is_no_broken_file(many, tmp_path, model, monkeypatch, number):
    def refused(path):
        if path.name == "0.png":
            raise OSError(number, os.strerror(number))
        return opened(path)

    opened = images.opened
    monkeypatch.setattr(images, "opened", refused)
    (many / "bad.png").write_bytes(b"no picture")
    for n in (None, 99):  # also of a preview
        failed = restore_folder(many, model=model, out=tmp_path / f"out{n}", severity=1, preview=n).failed
        assert {(one.source.name, one.broken) for one in failed} == {("0.png", False), ("bad.png", True)}


def test_a_file_is_broken_by_its_own_fault_only(many, tmp_path, model, draw):
    """Not where it is larger than somebody allowed, nor where somebody meant that very file."""
    draw(many / "large.png", w=60, h=60)
    (many / "bad.png").write_bytes(b"no picture")
    (many / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(many / "pipe.png")
    failed = restore_folder(many, model=model, out=tmp_path / "out", severity=1, max_pixels=3000).failed
    assert {one.source.name: one.broken for one in failed} == {"large.png": False, "bad.png": True, "gone.png": True, "pipe.png": True}
    for i, inputs in enumerate(([many, many / "bad.png"], [many / "bad.png", many / "0.png"])):
        failed = restore_folder(inputs, model=model, out=tmp_path / f"out{i}", severity=1).failed
        assert {one.source.name: one.broken for one in failed}["bad.png"] is False


def test_shard_of():
    assert shard_of("2/8") == (2, 8)
    for text in ("0/2", "3/2", "1", "a/b", "1/0", "-1/2"):
        with pytest.raises(ValueError, match="is not i/n"):
            shard_of(text)
