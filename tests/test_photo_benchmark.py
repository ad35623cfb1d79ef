"""The comparison on photographs: the damage is what it says, every method runs, what was measured is kept and only that."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import ndimage

import snowmelt
from snowmelt.data import images
from snowmelt.randomness import generator
from snowmelt.restorers import Restorer, UNet

PHOTOS = Path(__file__).parents[1] / "benchmarks" / "photos"
NAMES = ("damages", "classical", "scores", "record", "run", "table")


@pytest.fixture(scope="module")
def photos() -> dict[str, ModuleType]:
    """The benchmark's modules: scripts in a folder, which find each other by that folder."""
    hidden = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(PHOTOS))
    try:
        return {name: __import__(name) for name in NAMES}
    finally:
        sys.path.remove(str(PHOTOS))
        for name in NAMES:
            sys.modules.pop(name, None)
        sys.modules.update(hidden)


def scene(seed: int, side: int = 48) -> torch.Tensor:
    """A smooth picture with edges, on the grid of 8 bits."""
    rng = np.random.default_rng(seed)
    x = ndimage.gaussian_filter(rng.normal(size=(3, side, side)), (0, 3, 3), mode="mirror")
    x = 0.6 * x / np.abs(x).max()
    x[:, side // 4 : side // 2, side // 4 : side // 2] += 0.3
    return images.quantise(torch.from_numpy(x.astype(np.float32)))


def named(photos: dict[str, ModuleType], key: str):
    return next(d for d in photos["damages"].DAMAGES if d.key == key)


def test_damage_is_a_file_and_the_number_decides_it(photos) -> None:
    x = scene(0)
    for damage in photos["damages"].DAMAGES:
        y, _ = photos["damages"].apply(damage, x, 3)
        assert y.shape == x.shape
        assert torch.equal(images.quantise(y), y), damage.key
        assert torch.equal(photos["damages"].apply(damage, x, 3)[0], y), damage.key
        if damage.sigma or damage.peak:
            assert not torch.equal(photos["damages"].apply(damage, x, 4)[0], y), damage.key
        assert torch.equal(x, y) == (damage.key == "clean"), damage.key


@pytest.mark.parametrize("sigma", [15, 25])
def test_noise_has_the_sigma_it_says(photos, sigma: int) -> None:
    x = torch.zeros(3, 96, 96)
    y, known = photos["damages"].apply(named(photos, f"noise-{sigma}"), x, 0)
    assert float((y - x).std()) * 127.5 == pytest.approx(sigma, rel=0.03)
    assert known.sigma == pytest.approx(sigma / 255)


@pytest.mark.parametrize("key", ["blur", "motion"])
def test_the_kernel_told_is_the_blur_done(photos, key: str) -> None:
    damage, x = named(photos, key), scene(1, side=64)
    y, known = photos["damages"].apply(damage, x, 5)
    assert known.kernel.sum() == pytest.approx(1, abs=1e-4)
    again = np.stack([ndimage.convolve(plane, known.kernel, mode="reflect") for plane in x.numpy()])
    inner = (slice(None), slice(16, -16), slice(16, -16))
    # What is left is the noise, of 5 levels, and nothing of the blur.
    assert float((y.numpy() - again)[inner].std()) * 127.5 == pytest.approx(5, rel=0.1)
    assert float((y - x)[inner].std()) * 127.5 > 6


def test_our_jpeg_and_a_file_agree(photos) -> None:
    x = scene(2)
    for quality in (10, 40):
        ours, file = (photos["damages"].apply(named(photos, f"{key}-{quality}"), x, 0)[0] for key in ("jpeg", "jpeg-file"))
        apart, lost = (float((a - b).square().mean()) for a, b in ((ours, file), (file, x)))
        ours_lost = float((ours - x).square().mean())
        assert apart < 0.25 * lost
        assert ours_lost == pytest.approx(lost, rel=0.05)


def test_every_method_runs_blind_and_told(photos) -> None:
    pytest.importorskip("pywt", reason="denoise_wavelet needs PyWavelets: pip install 'snowmelt[bench]'")
    run, classical, seen = photos["run"], photos["classical"], set()
    for damage in photos["damages"].DAMAGES:
        x = scene(3)
        damaged, known = photos["damages"].apply(damage, x, 0)
        for form in ("blind", "non-blind"):
            for method in classical.methods(damage, form):
                if (method.name, form) in seen:
                    continue
                seen.add((method.name, form))
                y = run.pixels(damaged, damage.scale)
                last = {name: values[-1] for name, values in method.values(form, damage).items()}
                out = method(y, run.told(damage, form, y, known), last)
                assert out.shape == (48, 48, 3), method.name
                assert out.dtype == np.float32
                assert 0 <= out.min() <= out.max() <= 1
    assert {name for name, _ in seen} == {m.name for m in classical.METHODS}


@pytest.mark.parametrize(
    ("key", "form", "method", "parameters"),
    [
        ("noise-25", "blind", "denoise_nl_means", {"gain": 0.6, "add": 0, "patch": 5, "reach": 6}),
        ("noise-25", "blind", "denoise_tv_chambolle", {"gain": 1.0, "add": 0}),
        ("poisson", "non-blind", "Anscombe, denoise_tv_chambolle", {"gain": 1.0, "add": 0}),
        ("motion", "non-blind", "wiener", {"width": 0.0, "balance": 0.1}),
    ],
)
def test_methods_restore(photos, key: str, form: str, method: str, parameters: dict) -> None:
    damage, x = named(photos, key), scene(4, side=64)
    chosen = next(m for m in photos["classical"].METHODS if m.name == method)
    damaged, known = photos["damages"].apply(damage, x, 1)
    restored = photos["run"].by_method(chosen, form, damage, parameters)(damaged, known)
    before, after = (photos["scores"].score(v, x, luma=False)["psnr"] for v in (damaged, restored))
    assert after > before + 1


def test_who_is_told_the_kernel_does_better(photos) -> None:
    damage, x = named(photos, "motion"), scene(4, side=64)
    damaged, known = photos["damages"].apply(damage, x, 1)
    y, truth = (photos["run"].pixels(v, 1) for v in (damaged, x))
    wiener = photos["classical"].wiener
    off = [np.square(wiener(y, k, width=1.0, balance=0.1) - truth).mean() for k in (known, photos["damages"].Known())]
    assert off[0] < 0.7 * off[1]


def test_tuning_finds_strength_then_shape(photos) -> None:
    method = photos["classical"].Method("m", "denoise", lambda y, known: y, {"gain": (0, 1, 2), "add": (0, 3), "patch": (5, 7)})
    tried = []

    def merit(p) -> float:
        tried.append(p)
        return -abs(p["gain"] - 1) - abs(p["add"] - 3) + (p["patch"] == 7)

    assert method.choose("blind", named(photos, "noise-25"), merit) == ({"gain": 1, "add": 3, "patch": 7}, 1)
    assert len(tried) == 3 * 2 + 2
    # Who knows the noise has nothing to add to it.
    assert method.choose("non-blind", named(photos, "noise-25"), merit)[0]["add"] == 0


def test_super_resolution_gives_methods_the_small_picture(photos) -> None:
    x = photos["damages"].even(scene(5, side=49), 2)
    damaged, _ = photos["damages"].apply(named(photos, "x2"), x, 0)
    y = photos["run"].pixels(damaged, 2)
    means = torch.nn.functional.avg_pool2d((x + 1) / 2, 2).permute(1, 2, 0).numpy()
    assert y.shape == (24, 24, 3)
    assert np.abs(y - means).max() <= 0.51 / 255


def test_scores_of_luma_and_interval(photos) -> None:
    scores = photos["scores"]
    black, white = (scores.y_of(torch.full((3, 2, 2), v)) for v in (-1.0, 1.0))
    assert float((white - black).mean()) * 127.5 == pytest.approx(235 - 16)
    assert float(black.mean() + 1) * 127.5 == pytest.approx(16)
    values = list(np.random.default_rng(0).normal(3, 1, 400))
    low, high = scores.interval(values)
    assert low < np.mean(values) < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert scores.interval(values) == (low, high)


def folder(path: Path, seeds: range) -> Path:
    path.mkdir()
    for i in seeds:
        images.write(path / f"{i}.png", scene(i))
    return path


@pytest.fixture
def few(photos, monkeypatch) -> None:
    """Three damages and two methods: all of the bookkeeping in a second."""
    kept = [d for d in photos["damages"].DAMAGES if d.key in ("noise-25", "noise-50", "clean")]
    chosen = [m for m in photos["classical"].METHODS if m.name in ("denoise_tv_chambolle", "filters.median")]
    for module in ("run", "table"):
        monkeypatch.setattr(photos[module], "DAMAGES", kept)
    monkeypatch.setattr(photos["classical"], "METHODS", chosen)
    monkeypatch.setattr(photos["run"], "LEADERS", 1)


def test_a_second_run_measures_nothing_and_changed_pictures_measure_anew(photos, few, tmp_path: Path, capsys) -> None:
    sets, tuning, out = folder(tmp_path / "four", range(4)), folder(tmp_path / "tuning", range(10, 16)), tmp_path / "out.json"
    images.write(tuning / "large.png", scene(20, side=160))
    for i in range(10, 16):
        images.write(tuning / f"{i}.png", scene(i, side=140))
    command = ["--sets", str(sets), "--tune", str(tuning), "--out", str(out), "--crops", "1", "--screened", "2"]
    photos["run"].main(command)
    first = capsys.readouterr().out
    cells = json.loads(out.read_text())["cells"]
    counts = {(c["damage"], c["form"], c["method"]): len(c["pictures"]) for c in cells}
    # Both methods restored the screened two pictures, the better one all four.
    assert sorted(n for (d, f, _), n in counts.items() if (d, f) == ("noise-50", "blind")) == [2, 4]
    assert counts["noise-25", "non-blind", "denoise_tv_chambolle"] == 4
    photos["run"].main(command)
    again = capsys.readouterr().out
    assert "tuned" in first
    assert " dB of " in first
    assert "tuned" not in again
    assert " dB of " not in again
    images.write(sets / "1.png", scene(99))
    photos["run"].main(command)
    assert "measuring anew" in capsys.readouterr().out
    again = json.loads(out.read_text())["cells"]
    assert {(c["damage"], c["form"], c["method"]): len(c["pictures"]) for c in again} == counts
    assert again != cells


def saved(path: Path, seed: int) -> Path:
    if path.exists():
        return path
    degradation = snowmelt.build("noise:schedule=ve(sigma_max=0.2)")
    restorer = Restorer(degradation, UNet(widths=(8,), blocks=1), (3, 48, 48), told=False)
    with torch.no_grad():
        for p in restorer.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator(seed, "weights")))
    snowmelt.save(snowmelt.Model(degradation, restorer, input="8bit"), path)
    return path


def test_the_model_adds_its_rows_and_other_weights_replace_them(photos, few, tmp_path: Path, capsys) -> None:
    sets, out = folder(tmp_path / "three", range(3)), tmp_path / "out.json"
    psnr = {}
    for seed in (0, 0, 1):
        photos["run"].main(["--sets", str(sets), "--model", str(saved(tmp_path / f"model{seed}", seed)), "--out", str(out)])
        again = seed in psnr
        assert ("blind snowmelt" in capsys.readouterr().out) != again
        cells = [c for c in json.loads(out.read_text())["cells"] if c["method"] == "snowmelt"]
        assert [len(c["pictures"]) for c in cells] == [3, 3, 3]
        psnr[seed] = [c["scores"]["psnr"] for c in cells]
    assert psnr[0] != psnr[1]
    # What the model gives for a picture is what the library gives for it.
    model, damage = snowmelt.load(tmp_path / "model1"), named(photos, "noise-25")
    damaged, _ = photos["damages"].apply(damage, scene(2), 2)
    restored = snowmelt.restore(model, damaged[None], severity=1.0, sampler=None)[0]
    assert psnr[1][0][2] == pytest.approx(photos["scores"].score(restored, scene(2), luma=False)["psnr"], abs=1e-3)
    facts = json.loads(out.read_text())["facts"]
    assert {"commit", "date", "device", "torch", "threads", "weights"} <= facts["model"].keys()
    assert str(tmp_path) not in out.read_text()


def test_a_mark_tells_another_draw_from_another_last_bit(photos) -> None:
    record, x = photos["record"], torch.cat([scene(i, side=128) for i in range(3)], dim=2)
    y, other = (photos["damages"].apply(named(photos, "noise-25"), x, number)[0] for number in (0, 1))
    rounded = y.clone()
    rounded[0, 0, :60] += 1 / 127.5
    assert record.same(record.mark(y, x), record.mark(rounded, x))
    assert not record.same(record.mark(y, x), record.mark(other, x))
    assert not record.same(record.mark(x, x), record.mark(scene(7, side=128), scene(7, side=128)))


def test_table_says_who_wins(photos, few, tmp_path: Path, capsys) -> None:
    record = photos["record"].Record(tmp_path / "out.json")
    scored = {
        ("noise-25", "-", "Degraded"): [20, 21, 22, 23, 90],
        ("noise-25", "blind", "denoise_tv_chambolle"): [25, 27, 26, 28],
        ("noise-25", "blind", "filters.median"): [40],  # one picture only: no rival for all
        ("noise-25", "non-blind", "denoise_tv_chambolle"): [30, 31, 32, 33],
        ("noise-25", "blind", "snowmelt"): [29, 30, 30, 31],
        ("noise-50", "-", "Degraded"): [10, 11, 12, 13],
        ("noise-50", "blind", "denoise_tv_chambolle"): [20, 22, 20, 22],
        ("noise-50", "blind", "snowmelt"): [21, 21, 21, 21],
    }
    for (damage, form, method), values in scored.items():
        cell = record.cell("four", damage, "", form, method, {})
        for number, value in enumerate(values):
            record.add(cell, number, {"psnr": value, "ssim": 0.5}, 0.1)
    record.save()
    photos["table"].main([str(record.path), "--all"])
    printed = capsys.readouterr().out
    line = next(text for text in printed.splitlines() if text.startswith("| noise, sigma 25"))
    assert line.split("|")[2:4] == [" 4 ", " 21.50 / 0.500 "]  # of the pictures that all restored, not of the fifth
    assert "26.50 / 0.500 denoise_tv_chambolle" in line
    over_blind, over_told = (text.strip() for text in line.split("|")[7:9])
    assert over_blind.startswith("+3.50 [")
    assert over_blind.endswith("win")
    assert over_told.startswith("-1.50 [")
    assert over_told.endswith("loss")
    line = next(text for text in printed.splitlines() if text.startswith("| noise, sigma 50"))
    assert line.split("|")[7].strip().endswith("tie")
    assert "1 win, 1 tie, 1 loss" in printed
