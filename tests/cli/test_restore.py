"""restore, sample, evaluate: with a trained run, on files as they come."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.data.images import read
from snowmelt.files import write_sealed
from snowmelt.model import load
from snowmelt.randomness import generator
from snowmelt.restoration import restore


def journal(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "restored.jsonl").read_text().splitlines()]


def test_degraded_files_come_back_under_their_names(cli, run: Path, folder: Path, tmp_path: Path, files_in) -> None:
    out = tmp_path / "out"
    done = cli("restore", "--model", run, folder, "--severity", ".5", "--out", out)
    assert done.code == 0, done.err
    assert files_in(out) == files_in(folder) | {"restored.jsonl"}
    assert "restored 6 pictures of 6 into" in done.out
    x = read(folder / "deep" / "4.png").x
    expected = restore(load(run), x[None], severity=0.5, generator=[generator(0, "restore/deep/4.png")])[0].clamp(-1, 1)
    assert float((read(out / "deep" / "4.png").x - expected).abs().max()) <= 0.51 / 127.5
    settings = journal(out)[0]["are"]
    assert settings["severity"] == 0.5
    assert settings["sampler"] == "tacos:steps=12,order=2"


def test_without_a_severity_it_lists_candidates(cli, run: Path, folder: Path, tmp_path: Path) -> None:
    silent = tmp_path / "silent"  # the same model, without what estimates severities
    silent.mkdir()
    for path in (p for p in run.iterdir() if p.is_file()):
        (silent / path.name).write_bytes(path.read_bytes())
    info = json.loads((silent / "model.json").read_text())
    write_sealed(silent / "model.json", info | {"estimator": None})
    done = cli("restore", "--model", silent, folder, "--out", tmp_path / "out")
    assert done.code == 2
    for word in ("--severity t", "--strength sigma_px=VALUE", "0.5 (sigma_px = 0.531)", "1 (sigma_px = 2)", "--degrade"):
        assert word in done.error
    assert not (tmp_path / "out").exists()


def test_a_strength_in_pixels_is_a_severity(cli, run: Path, folder: Path, tmp_path: Path) -> None:
    assert cli("restore", "--model", run, folder, "--strength", "sigma_px=1.2", "--out", tmp_path / "out").code == 0
    found = journal(tmp_path / "out")[0]["are"]["severity"]
    assert found == pytest.approx(load(run).degradation.severity(1.2), abs=1e-12)


@pytest.mark.parametrize(
    ("words", "sampler"),
    [
        (("--faithful",), "one call"),
        (("--best",), "tacos:steps=12,order=2"),
        (("--best", "--steps", "3"), "tacos:steps=3,order=2"),
        (("--sampler", "tacos", "--steps", "4"), "tacos:steps=4"),
        (("--sampler", "naive:steps=2"), "naive:steps=2"),
    ],
)
def test_which_walk(cli, run: Path, folder: Path, tmp_path: Path, words, sampler: str) -> None:
    done = cli("restore", "--model", run, folder / "0.png", "--severity", "1", "--out", tmp_path / "out", *words)
    assert done.code == 0, done.err
    assert f"({sampler}, from t = 1)" in done.out


def test_clean_pictures_are_degraded_and_scored(cli, run: Path, folder: Path, tmp_path: Path, files_in) -> None:
    out = tmp_path / "out"
    done = cli("restore", "--model", run, folder, "--degrade", "--out", out, "--seed", "3")
    assert done.code == 0, done.err
    assert done.out.count(" dB, restored ") == 6
    assert {f"degraded/{name}" for name in files_in(folder)} < files_in(out)
    one = journal(out)[1]
    clean, degraded = read(folder / "0.png").x, read(out / "degraded" / "0.png").x
    assert one["degraded_psnr_db"] == pytest.approx(-10 * float(((clean - degraded).square().mean() / 4).log10()), abs=1e-3)


def test_every_step_is_kept(cli, run: Path, folder: Path, tmp_path: Path, files_in) -> None:
    out = tmp_path / "out"
    done = cli("restore", "--model", run, folder / "0.png", "--degrade", "--steps", "3", "--save-trajectory", "--out", out)
    assert done.code == 0, done.err
    pictures = {f"x_{i:02d}.png" for i in range(4)} | {f"x0_hat_{i:02d}.png" for i in range(1, 4)}
    assert files_in(out / "trajectory" / "0.png") == pictures | {"trajectory.npz", "strip.png", "walk.gif"}
    with np.load(out / "trajectory" / "0.png" / "trajectory.npz") as found:
        assert found["x"].shape == (4, 1, 8, 8)
        assert found["x0_hat"].shape == (3, 1, 8, 8)
        assert found["t"].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
        end = torch.from_numpy(found["x"][-1])
    assert float((read(out / "0.png").x - end.clamp(-1, 1)).abs().max()) <= 0.51 / 127.5
    assert cli("restore", "--model", run, folder / "0.png", "--degrade", "--faithful", "--save-trajectory", "--overwrite", "--out", out).code == 0
    assert files_in(out / "trajectory" / "0.png") == {"x_00.png", "x_01.png", "x0_hat_01.png", "trajectory.npz", "strip.png", "walk.gif"}


def test_files_as_they_come(cli, run: Path, tmp_path: Path, draw_picture) -> None:
    place, out = tmp_path / "in", tmp_path / "out"
    draw_picture(place / "colour.jpg", colour=True)
    draw_picture(place / "wide.bmp", h=5, w=13)
    draw_picture(place / "old.gif")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(place / "deep.png")
    Image.fromarray(np.dstack([np.full((8, 8), 90, np.uint8), np.arange(64, dtype=np.uint8).reshape(8, 8)]), mode="LA").save(
        place / "clear.png"
    )
    (place / "broken.png").write_bytes(b"\x89PNG nothing")
    (place / "notes.txt").write_text("no picture")
    done = cli("restore", "--model", run, place, "--severity", ".3", "--out", out)
    assert done.code == 0  # one could not be read, the others are there
    assert "left out" in done.err
    assert "broken.png" in done.err
    assert "1 picture in colour turned grey" in done.err
    assert {p.name for p in out.iterdir()} == {"colour.jpg", "wide.bmp", "old.png", "deep.png", "clear.png", "restored.jsonl", "errors.jsonl"}
    assert "restored 5 pictures of 6 into" in done.out
    assert f"; 1 failed, listed in {out / 'errors.jsonl'}" in done.out
    assert read(out / "deep.png").bits == 16
    assert read(out / "wide.bmp").x.shape == (1, 5, 13)
    alpha = read(out / "clear.png").alpha
    assert alpha is not None
    assert torch.equal(alpha, read(place / "clear.png").alpha)


def test_what_is_left_out_counts_where_it_is_not_a_damaged_file_of_a_folder(cli, run: Path, folder: Path, tmp_path: Path, draw_picture) -> None:
    words, bad = ("--model", run, "--severity", ".3", "--out", tmp_path / "out"), folder / "bad.png"
    bad.write_bytes(b"no picture")
    assert cli("restore", folder, *words).code == 0
    assert cli("restore", folder, *words, "--strict").code == 1
    assert cli("restore", folder / "0.png", bad, *words).code == 1  # somebody meant this very file
    draw_picture(folder / "large.png", h=30, w=30)
    assert cli("restore", folder, *words, "--max-pixels", "100").code == 1  # nor is a sound one its own fault


def test_a_batch_changes_nothing(cli, run: Path, folder: Path, tmp_path: Path) -> None:
    assert cli("restore", "--model", run, folder, "--severity", ".7", "--out", tmp_path / "all").code == 0
    assert cli("restore", "--model", run, folder / "0.png", "--severity", ".7", "--out", tmp_path / "one").code == 0
    assert (tmp_path / "all" / "0.png").read_bytes() == (tmp_path / "one" / "0.png").read_bytes()
    assert cli("restore", "--model", run, folder, "--severity", ".7", "--batch", "4", "--out", tmp_path / "together").code == 0
    together = (np.asarray(Image.open(tmp_path / place / "0.png"), int) for place in ("all", "together"))
    assert int(np.abs(np.subtract(*together)).max()) <= 1  # a sum in another order may end on the other side of a half


def test_existing_outputs_are_left_alone_unless_told(cli, run: Path, folder: Path, tmp_path: Path) -> None:
    words = ("restore", "--model", run, folder, "--severity", "1", "--out", tmp_path / "out")
    assert cli(*words).code == 0
    (tmp_path / "out" / "0.png").write_bytes(b"mine")
    again = cli(*words)
    assert again.code == 0
    assert "6 pictures already in" in again.err
    assert (tmp_path / "out" / "0.png").read_bytes() == b"mine"
    assert cli(*words, "--overwrite").code == 0
    assert (tmp_path / "out" / "0.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--model", "{run}", "{in}", "--severity", "1.5", "--out", "o"), "severity = 1.5 lies outside [0, 1]"),
        (("--model", "{run}", "{in}", "--severity", "nan", "--out", "o"), "severity = nan lies outside [0, 1]"),
        (("--model", "{run}", "{in}", "--severity", "much", "--out", "o"), 'unable to convert "much" into float'),
        (("--model", "{run}", "{in}", "--severity", "1"), "Give --out DIR; only that of a single picture goes beside it"),
        (("--model", "{run}", "{in}/0.png", "{in}/1.png", "--severity", "1"), "the restorations of 2 inputs go? Give --out DIR"),
        (("{run}", "{in}", "--severity", "1", "--model", "{run}", "--out", "o"), "holds a model, not pictures to restore: give it as --model"),
        (("{in}", "--model", "{run}", "--severity", "1", "--shard", "3/2", "--out", "o"), "shard '3/2' is not i/n with 1 <= i <= n"),
        (("{in}", "--model", "{run}", "--severity", "1", "--shard", "0/2", "--out", "o"), "shard '0/2' is not i/n"),
        (("{in}", "--model", "{run}", "--severity", "1", "--preview", "0", "--out", "o"), "preview = 0 lies under 1"),
        (("{in}", "--model", "{run}", "--severity", "1", "--tile", "0", "--out", "o"), "tile = 0 lies under 1"),
        (("{in}", "--model", "{run}", "--severity", "1", "--samples", "0", "--out", "o"), "samples = 0 lies under 1"),
        (("{in}", "--model", "{run}", "--severity", "1", "--max-pixels", "0", "--out", "o"), "max_pixels = 0 lies under 1"),
        (("{in}", "--model", "{run}", "--severity", "1", "--mask", "nowhere.png", "--out", "o"), "nowhere.png does not exist"),
        (("--model", "{run}", "--severity", "1", "--out", "o"), "restore needs pictures"),
        (("--model", "{run}", "nowhere", "--severity", "1", "--out", "o"), "nowhere does not exist"),
        (("--model", "{run}", "empty", "--severity", "1", "--out", "o"), "empty holds no picture"),
        (("--model", "{run}", "{in}", "--severity", "1", "--out", "{in}"), "would be overwritten by its own restoration"),
        (("--model", "{run}", "{in}", "--severity", "1", "--out", "{in}/0.png"), "is a file: give --out a folder"),
        (("--model", "empty", "{in}", "--severity", "1", "--out", "o"), "empty holds no model"),
        (("--model", "{run}", "{in}", "--severity", "1", "--strength", "sigma_px=1", "--out", "o"), "say the same thing"),
        (("--model", "{run}", "{in}", "--strength", "sigma_px=9", "--out", "o"), "lies outside [0, 2]"),
        (("--model", "{run}", "{in}", "--strength", "sigma=1", "--out", "o"), "did you mean 'sigma_px'?"),
        (("--model", "{run}", "{in}", "--severity", "1", "--faithful", "--best", "--out", "o"), "give one of them"),
        (("--model", "{run}", "{in}", "--severity", "1", "--faithful", "--steps", "3", "--out", "o"), "--steps belongs to a walk"),
        (("--model", "{run}", "{in}", "--severity", "1", "--sampler", "tacoss", "--out", "o"), "did you mean 'tacos'?"),
        (("--model", "{run}", "{in}", "--severity", "1", "--steps", "0", "--out", "o"), "steps = 0 lies outside"),
        (("--model", "{run}", "{in}", "--severity", "1", "--sampler", "ancestral", "--out", "o"), "has no noise that could be recovered"),
    ],
)
def test_bad_input_is_refused_in_one_line(cli, run, folder, tmp_path: Path, monkeypatch, files_in, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = files_in(tmp_path)
    done = cli("restore", *(w.replace("{run}", str(run)).replace("{in}", str(folder)) for w in words))
    assert done.code == 2, done.err
    assert says in done.error
    assert files_in(tmp_path) == before


def test_a_single_picture_goes_beside_itself(cli, run: Path, folder: Path) -> None:
    done = cli("restore", folder / "0.png", "--model", run, "--severity", ".5")
    assert done.code == 0, done.err
    assert {p.name for p in folder.glob("0*")} == {"0.png", "0-restored.png"}
    again = cli("restore", folder / "0.png", "--model", run, "--severity", ".5")
    assert again.code == 0
    assert "restored 0 pictures of 1" in again.out
    assert "; 1 already there" in again.out
    told = cli("describe", folder / "0-restored.png").out
    settings = ("severity = 0.5", "sampler = tacos:steps=12,order=2", "seed = 0")
    for word in ("8 x 8 px, grey, 8 bits", f"model = {run.name}\n", *settings):
        assert word in told
    weights = json.loads((run / "model.json").read_text())["files"]["ema"]["sha256"]
    assert f"weights_sha256 = {weights}" in told
    assert "It does not say that snowmelt restored it." in cli("describe", folder / "0.png").out


def test_describe_a_run(cli, run: Path, tmp_path: Path) -> None:
    told = cli("describe", run).out
    for word in ("a model of gaussian-blur:sigma_px=2", "restorer = unet:widths=(8,16)", "parameterization = wiener", "has not been evaluated"):
        assert word in told
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    rows = [{"method": "Direct", "input": "8bit", "calls": 1, "rmse": 0.0712, "psnr": 23.5}]
    (copy / "evaluation.json").write_text(json.dumps({"rows": rows, "facts": {}, "verdict": []}))
    assert "Direct (8bit, 1 calls): rmse 0.0712, psnr 23.5" in cli("describe", copy).out
    (tmp_path / "text.png").write_text("no picture")
    assert cli("describe", tmp_path / "text.png").code == 2
    assert cli("describe", tmp_path / "nothing.png").code == 2


def test_shards_and_preview(cli, run: Path, folder: Path, tmp_path: Path, files_in) -> None:
    words = ("restore", folder, "--model", run, "--severity", ".5", "--out")
    looked = cli(*words, tmp_path / "look", "--preview", "3")
    assert looked.code == 0, looked.err
    assert files_in(tmp_path / "look") == {"preview.png"}
    assert "6 pictures ≈ " in looked.out
    assert "3 of them on" in looked.out
    for i in (1, 2):
        done = cli(*words, tmp_path / "parts", "--shard", f"{i}/2")
        assert done.code == 0, done.err
        assert "restored 3 pictures of 3 into" in done.out
    assert cli(*words, tmp_path / "whole").code == 0
    names = {name for name in files_in(tmp_path / "parts") if name.endswith(".png")}
    assert names == files_in(folder)
    assert all((tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_ctrl_c_is_130_and_the_same_command_goes_on(cli, run: Path, folder: Path, tmp_path: Path, monkeypatch, files_in) -> None:
    from snowmelt.restoration import collection

    compute, calls = collection.compute, []

    def interrupted(work, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(work, batch)

    monkeypatch.setattr(collection, "compute", interrupted)
    words = ("restore", folder, "--model", run, "--severity", ".5", "--out", tmp_path / "out")
    done = cli(*words)
    assert done.code == 130
    assert "interrupted: 2 of 6 pictures are done; the same command goes on" in done.err
    assert len(files_in(tmp_path / "out")) == 3
    again = cli(*words)
    assert again.code == 0
    assert "restored 4 pictures of 6" in again.out


def test_a_damaged_run_is_refused(cli, run: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    ema = next(copy.glob("ema-*"))
    ema.write_bytes(ema.read_bytes()[:-8] + b"12345678")
    done = cli("restore", "--model", copy, folder, "--severity", "1", "--out", tmp_path / "out")
    assert done.code == 2
    assert "is damaged" in done.error
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_of_a_picture(cli, run: Path, folder: Path, tmp_path: Path, monkeypatch, files_in) -> None:
    import errno
    import os

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    done = cli("restore", "--model", run, folder, "--degrade", "--save-trajectory", "--out", tmp_path / "out")
    assert done.code == 1
    assert "No space left on device" in done.error
    assert files_in(tmp_path / "out") == set()


def test_sampling_needs_a_prior(cli, run: Path, tmp_path: Path) -> None:
    done = cli("sample", run, "--out", tmp_path / "out")
    assert done.code == 2
    assert "has no prior to generate from" in done.error
    assert not (tmp_path / "out").exists()


def test_samples_depend_on_seed_and_number_alone(cli, tmp_path: Path, plain) -> None:
    run = tmp_path / "run"
    assert cli("train", "--data", "bundled:digits", "--degradation", "noise", "--out", run, *plain).code == 0
    assert cli("sample", run, "-n", "3", "--steps", "3", "--out", tmp_path / "a").code == 0
    assert cli("sample", run, "-n", "2", "--steps", "3", "--out", tmp_path / "b").code == 0
    assert {p.name for p in (tmp_path / "a").iterdir()} == {
        "sample_0000.png",
        "sample_0001.png",
        "sample_0002.png",
        "grid.png",
        "sample.json",
    }
    a, b = (np.asarray(Image.open(tmp_path / name / "sample_0001.png"), int) for name in "ab")
    assert int(np.abs(a - b).max()) <= 1
    again = cli("sample", run, "-n", "2", "--out", tmp_path / "a")
    assert again.code == 2
    assert "--overwrite" in again.error
    assert cli("sample", run, "-n", "0", "--out", tmp_path / "c").code == 2
    # A stranger's noisy file: the noise is solved for, so nothing else need be known.
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "in" / "a.png")
    assert cli("restore", "--model", run, tmp_path / "in", "--severity", ".4", "--out", tmp_path / "d").code == 0


def test_a_draw_that_nobody_knows_is_said(cli, tmp_path: Path, folder: Path, plain) -> None:
    run = tmp_path / "run"
    assert cli("train", "--data", "bundled:digits", "--degradation", "mask", "--out", run, *plain).code == 0
    done = cli("restore", "--model", run, folder, "--severity", "1", "--out", tmp_path / "out")
    assert done.code == 2
    assert "trained knowing centre of mask" in done.error
    assert cli("restore", "--model", run, folder, "--degrade", "--out", tmp_path / "out").code == 0


def test_evaluate_prints_the_table_and_writes_the_report(cli, run: Path, tmp_path: Path) -> None:
    done = cli("evaluate", run, "--images", "8", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    for word in ("degraded", "direct", "rmse"):
        assert word in done.out.lower()
    assert (tmp_path / "out" / "report.html").is_file()
    assert cli("evaluate", tmp_path).code == 2


def test_a_trial_on_noise_does_not_know_the_noise(cli, folder: Path, tmp_path: Path) -> None:
    words = ("--data", "bundled:digits", "--degradation", "noise", "--images", "32", "--training.batch", "16")
    backbone = ("--model.backbone", "unet:widths=(8,16),patch=2,groups=4,blocks=1")
    assert cli("train", *words, *backbone, "--out", tmp_path / "noisy").code == 0
    done = cli("restore", "--model", tmp_path / "noisy", folder, "--degrade", "--severity", ".3", "--sampler", "tacos", "--out", tmp_path / "o")
    assert done.code == 2
    assert "endpoint is not known" in done.error
    assert cli("restore", "--model", tmp_path / "noisy", folder, "--degrade", "--severity", ".3", "--out", tmp_path / "o").code == 0


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (("--enlarge", "2"), "; it is enlarged as it is"),
        (("--mask", "mask.png"), "; the mask alone is filled"),
        (("--mask", "mask.png", "--no-consistent"), ""),
        ((), ""),
    ],
)
def test_of_a_single_picture_it_is_said_what_of_its_damage_stays(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words, spared: str) -> None:
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).normal(128, 60, (48, 64, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(values).save("grain.png")
    Image.fromarray(np.uint8(255 * (np.arange(64) == 20)) * np.ones((48, 1), np.uint8)).save("mask.png")
    done = cli("restore", "grain.png", *words, "--out", "out")
    assert done.code == 0, done.err
    note = next(line for line in journal(tmp_path / "out") if "damage" in line)
    assert ("(one call, blind)" in done.out) == bool(words), "grain alone is nothing that the model can judge"
    said = next(line for line in done.out.splitlines() if line.startswith("grain.png: "))
    assert [text for text in ("; it is enlarged as it is", "; the mask alone is filled") if said.endswith(text)] == [spared] * bool(spared)
    assert note.get("spared", "") == spared.removeprefix("; "), "files of a folder say it here, and the pictures themselves"
