"""A blind model on files: what is kept, what is hidden, what is left alone. With the photo model, on small cuts of a bundled photograph."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import snowmelt
from snowmelt.cli import main
from snowmelt.data import bundled
from snowmelt.data.images import from_uint8, note, quantise, read, write
from snowmelt.evaluation import start
from snowmelt.registry import build
from snowmelt.restoration import restore_folder, spread
from snowmelt.restoration.work import Work
from snowmelt.samplers import Naive, default_sampler

SIZE = (64, 96)


@pytest.fixture(scope="module")
def photo() -> snowmelt.Model:
    return snowmelt.load("photo")


@pytest.fixture(scope="module")
def cat() -> torch.Tensor:
    return from_uint8(bundled.photo("chelsea.png")[None, 30:94, 40:136])[0]


@pytest.fixture(scope="module")
def noisy(cat) -> torch.Tensor:
    noise = build("noise:schedule=ve(sigma_max=0.2)")
    return quantise(noise(cat[None], torch.ones(1), noise.draw(cat[None], torch.Generator().manual_seed(0))))[0]


def mask_of(path: Path) -> torch.Tensor:
    """A scratch, written to `path`; (1, h, w), True where it is."""
    hole = torch.zeros(1, *SIZE, dtype=torch.bool)
    hole[:, 20:23, 10:80] = True
    write(path, torch.where(hole, 1.0, -1.0))
    return hole


@pytest.mark.parametrize("text", ["mixture:parts=(noise,jpeg)", "poisson-noise", "gaussian-blur+poisson-noise", "noise+pixelate"])
def test_no_walk_is_handed_what_nobody_could_know(text):
    d = build(text)
    drawn = d.draw(torch.zeros(1, 3, 4, 4), torch.Generator())
    assert d.hidden
    assert set(d.hidden) <= drawn.keys()
    assert default_sampler(d) == Naive(steps=1)
    assert "turn" not in build("motion-blur+noise").hidden


def test_a_mask_is_given_and_the_rest_of_a_mixture_is_hidden(photo):
    drawn = photo.degradation.draw(torch.zeros(1, 3, 4, 4), torch.Generator())
    assert set(photo.degradation.hidden) == drawn.keys() - {"7.mask", "7.severity"}


def test_scores_do_not_know_it_either(photo, cat):
    class One:
        def batch(self, ids):
            return {"x0": cat[None].repeat(len(ids), 1, 1, 1)}

    _, state = start(photo, One(), [0, 1], seed=0, device="cpu")  # type: ignore[arg-type]
    assert set(state.z) == {"7.mask", "7.severity"}


def test_degrading_first_restores_as_a_stranger_would(tmp_path, cat, photo):
    write(tmp_path / "cat.png", cat)
    tally = restore_folder(tmp_path / "cat.png", model=photo, out=tmp_path / "out", degrade=True)
    assert tally.how.startswith("one call")
    degraded, restored = read(tmp_path / "out" / "degraded" / "cat.png").x, read(tmp_path / "out" / "cat.png").x
    assert float((snowmelt.restore(photo, degraded[None], sampler=None)[0] - restored).abs().max()) < 0.1


def test_known_pixels_are_those_of_the_damaged_picture(tmp_path, cat, photo):
    write(tmp_path / "cat.png", cat)
    hole = mask_of(tmp_path / "mask.png").expand_as(cat)
    restore_folder(tmp_path / "cat.png", model=photo, out=tmp_path / "out", degrade=True, mask=tmp_path / "mask.png")
    degraded, restored = read(tmp_path / "out" / "degraded" / "cat.png").x, read(tmp_path / "out" / "cat.png").x
    assert torch.equal(restored[~hole], degraded[~hole])
    assert note(tmp_path / "out" / "cat.png")["mask"] == "mask.png"


def test_enlarging_under_a_mask_enlarges_all(tmp_path, cat, photo):
    write(tmp_path / "cat.png", cat)
    mask_of(tmp_path / "mask.png")
    restore_folder(tmp_path / "cat.png", model=photo, out=tmp_path / "out", mask=tmp_path / "mask.png", enlarge=2)
    found = read(tmp_path / "out" / "cat.png").x
    assert found.shape == (3, 128, 192)
    assert not torch.equal(found[:, ::2, ::2], found[:, 1::2, 1::2])


def test_a_blind_model_has_one_severity(tmp_path, noisy, photo, capsys):
    with pytest.raises(ValueError, match="severity 1 is whatever the damage was"):
        snowmelt.restore(photo, noisy[None], severity=0.5)
    with pytest.raises(ValueError, match=r"z holds mask, which this mixture does not draw: it has 7\.mask"):
        snowmelt.restore(photo, noisy[None], z={"mask": torch.ones(1, 1, *SIZE)})
    write(tmp_path / "a.png", noisy)
    assert main(["restore", str(tmp_path / "a.png"), "--severity", "0.5"]) == 2
    assert main(["restore", str(tmp_path / "a.png"), "--steps", "3"]) == 2
    assert "one call" in capsys.readouterr().err


def test_what_lies_in_a_hole_is_not_looked_at(noisy, photo):
    mask = torch.ones(1, 1, *SIZE)
    mask[..., 20:30, 20:30] = 0
    other = torch.where(mask == 0, 1.0, noisy[None])
    a, b = (snowmelt.restore(photo, x, z={"7.mask": mask}, sampler=None) for x in (noisy[None], other))
    assert torch.equal(a, b)


def test_the_transparent_part_of_a_mask_hides_nothing(tmp_path, noisy, photo):
    write(tmp_path / "a.png", noisy)
    hole = mask_of(tmp_path / "opaque.png")
    paint = Image.new("RGBA", SIZE[::-1], (255, 255, 255, 0))
    paint.putalpha(Image.fromarray((hole[0].numpy() * 255).astype("uint8")))
    paint.save(tmp_path / "strokes.png")
    for name in ("opaque", "strokes"):
        restore_folder(tmp_path / "a.png", model=photo, out=tmp_path / name, mask=tmp_path / f"{name}.png")
    assert torch.equal(read(tmp_path / "opaque" / "a.png").x, read(tmp_path / "strokes" / "a.png").x)
    write(tmp_path / "white.png", torch.ones(1, *SIZE))
    tally = restore_folder(tmp_path / "a.png", model=photo, out=tmp_path / "none", mask=tmp_path / "white.png")
    assert "nothing of the picture is known" in tally.failed[0].reason


def test_samples_have_folders_of_their_own_and_know_what_is_kept(tmp_path, noisy, photo):
    for name in ("a.png", "a-mean.png"):
        write(tmp_path / "in" / name, noisy)
    hole = mask_of(tmp_path / "mask.png")
    tally = restore_folder(tmp_path / "in", model=photo, out=tmp_path / "out", samples=2, mask=tmp_path / "mask.png")
    assert (tally.done, tally.failed) == (2, [])
    assert torch.equal(read(tmp_path / "out" / "a.png").x[:, ~hole[0]], noisy[:, ~hole[0]])
    for name in ("a.png", "a-mean.png"):
        assert torch.equal(read(tmp_path / "out" / "mean" / name).x[:, ~hole[0]], noisy[:, ~hole[0]])
        off = read(tmp_path / "out" / "uncertainty" / name).x[0]
        assert (off[~hole[0]] == -1).all()
        assert (off[hole[0]] > -1).any()


def test_the_spread_of_what_is_kept_is_nothing(noisy, photo):
    mask = torch.ones(1, 1, *SIZE)
    mask[..., 20:24, 20:60] = 0
    found = spread(photo, noisy[None], samples=2, z={"7.mask": mask}, consistent=True, generator=torch.Generator().manual_seed(0))
    assert not found.std[mask == 1].any()
    assert found.std[mask == 0].any()


def test_a_preview_shows_what_the_run_will_do(tmp_path, cat, photo):
    write(tmp_path / "in" / "grey.png", cat.mean(0, keepdim=True))
    restore_folder(tmp_path / "in", model=photo, out=tmp_path / "out", preview=1, anyway=True)
    sheet = torch.from_numpy(np.array(Image.open(tmp_path / "out" / "preview.png").convert("RGB"))).int()
    assert int((sheet[..., 0] - sheet[..., 2]).abs().max()) <= 1


@pytest.mark.parametrize("verdict", ["clean", "unsure"])
def test_what_is_left_alone_is_listed_and_not_called_restored(tmp_path, cat, photo, verdict, monkeypatch):
    monkeypatch.setattr(Work, "verdict", lambda self, estimate: verdict)
    pixels = ((cat + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).save(tmp_path / "flat.gif")
    tally = restore_folder(tmp_path / "flat.gif", model=photo, out=tmp_path / "out")
    lines = [json.loads(text) for text in (tmp_path / "out" / "restored.jsonl").read_text().splitlines()]
    line = [line for line in lines if "run" not in line][-1]
    assert getattr(tally, verdict) == [tmp_path / "flat.gif"]
    assert tally.done == 0
    assert line["left as it is"] == verdict
    assert note(tmp_path / "out" / "flat.png") is None
    assert torch.equal(read(tmp_path / "out" / "flat.png").x, read(tmp_path / "flat.gif").x)
    again = restore_folder(tmp_path / "flat.gif", model=photo, out=tmp_path / "out")
    assert (again.kept, again.clean, again.unsure) == (1, [], [])
    for kept in (0, 1):  # samples are other settings: looked at once more, then known to be left
        assert restore_folder(tmp_path / "flat.gif", model=photo, out=tmp_path / "out", samples=2).kept == kept


def test_samples_may_be_asked_for_afterwards(tmp_path, noisy, photo):
    write(tmp_path / "in" / "a.png", noisy)
    assert restore_folder(tmp_path / "in", model=photo, out=tmp_path / "out").done == 1
    assert restore_folder(tmp_path / "in", model=photo, out=tmp_path / "out", samples=2).done == 1
    assert (tmp_path / "out" / "uncertainty" / "a.png").is_file()
    assert restore_folder(tmp_path / "in", model=photo, out=tmp_path / "out", samples=2).kept == 1
