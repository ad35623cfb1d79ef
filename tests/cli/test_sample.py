"""``snowmelt sample``: from a prior that is fitted to new pictures, as a user walks in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import snowmelt


@pytest.fixture
def mine(run: Path, tmp_path: Path) -> Path:
    """A copy of the shared run, to write in."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=int)


def test_a_prior_is_fitted_saved_and_sampled_from_the_file_alone(cli, mine: Path, tmp_path: Path, files_in) -> None:
    weights = {path.name for path in mine.glob("*.safetensors")}
    done = cli("sample", mine, "--prior", "gaussian-mixture:components=2,grid=4")
    assert (done.code, done.out) == (0, done.out)
    assert "saved the prior gaussian-mixture:components=2,grid=4" in done.out
    assert "% of the variance" in done.out
    assert weights < {path.name for path in mine.glob("*.safetensors")}
    assert "prior = gaussian-mixture:components=2,grid=4" in cli("describe", mine).out
    (mine / "recipe.toml").unlink()  # nothing of the run but its model is read from here on
    done = cli("sample", mine, "-n", "5", "--steps", "3", "--interpolate", "4", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    names = {f"sample_{i:04d}.png" for i in range(5)}
    assert files_in(tmp_path / "out") == {*names, "grid.png", "interpolation.png", "sample.json"}
    noted = json.loads((tmp_path / "out" / "sample.json").read_text())
    assert noted["prior"] == "gaussian-mixture:components=2,grid=4"
    assert len({pixels(tmp_path / "out" / name).tobytes() for name in names}) == 5
    more = cli("sample", mine, "-n", "70", "--steps", "3", "--out", tmp_path / "more")
    assert more.code == 0, more.err
    assert all(np.abs(pixels(tmp_path / "out" / name) - pixels(tmp_path / "more" / name)).max() <= 1 for name in names), "batches of another size"


def test_the_same_command_goes_on_by_shares_and_the_last_makes_the_sheet(cli, mine: Path, tmp_path: Path, files_in) -> None:
    assert cli("sample", mine, "--prior", "gaussian-mixture").code == 0
    words = ("sample", mine, "-n", "7", "--steps", "2", "--batch", "2", "--npz")
    assert cli(*words, "--out", tmp_path / "whole").code == 0
    done = cli(*words, "--out", tmp_path / "parts", "--shard", "2/2")
    assert "wrote 3 pictures (4 of 7 are still to be made by other shares)" in done.out
    done = cli(*words, "--out", tmp_path / "parts", "--shard", "1/2")
    assert "wrote 4 pictures, grid.png, samples.npz" in done.out
    assert files_in(tmp_path / "parts") == files_in(tmp_path / "whole")
    for name in files_in(tmp_path / "whole") - {"samples.npz"}:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "wrote 0 pictures, grid.png, samples.npz" in (again := cli(*words, "--out", tmp_path / "whole")).out
    assert "7 already there" in again.out
    other = cli("sample", mine, "-n", "7", "--steps", "3", "--out", tmp_path / "whole")
    assert other.code == 2
    assert "were made with another sampler" in other.error


def test_perfect_and_broken_symmetry_from_one_model(cli, mine: Path, tmp_path: Path) -> None:
    for name, noise in (("perfect", "0"), ("broken", "0.2")):
        walk = ("--steps", "1", "--sampler", "tacos")
        done = cli("sample", mine, "--prior", "gaussian-mixture", "-n", "2", "--noise", noise, *walk, "--out", tmp_path / name)
        assert done.code == 0, done.err
    perfect, broken = (pixels(tmp_path / name / "sample_0000.png") for name in ("perfect", "broken"))
    assert np.abs(perfect - broken).max() > 5
    assert snowmelt.load(mine).prior.noise == 0.002, "asked for once, not saved"


def test_a_run_may_be_trained_with_its_prior(cli, tmp_path: Path, plain) -> None:
    words = ("--degradation", "pixelate:levels=2", "--model.prior", "gaussian-mixture:grid=2", "--out", tmp_path / "run", *plain)
    assert cli("train", "--data", "bundled:digits", *words).code == 0
    assert cli("sample", tmp_path / "run", "-n", "2", "--out", tmp_path / "out").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--out", "out"), "has no prior to generate from: fit one with 'snowmelt sample RUN --prior gaussian-mixture'"),
        ((), "--out is missing"),
        (("--prior", "normal"), "the prior normal does not fit gaussian-blur:sigma_px=2, which does not end in pure noise"),
        (("--prior", "constant"), "the prior constant does not fit: x at t = 1 is off one colour"),
        (("--prior", "gaussian-mixture:grid=9"), "gaussian-mixture.grid = 9 is larger than the pictures of 8 x 8 px"),
        (("--prior", "mixure"), "unknown prior 'mixure'"),
        (("--prior", "gaussian-mixture", "--data", "nowhere"), "nowhere"),
        (("--out", "out", "--noise", "-1"), "--noise -1 lies outside [0, 1]"),
        (("--out", "out", "--interpolate", "1"), "--interpolate 1 lies under 2"),
        (("--out", "out", "--data", "x"), "add --prior"),
        (("--out", "out", "-n", "0"), "--number 0 lies under 1"),
        (("--out", "out", "--shard", "3/2"), "shard '3/2' is not i/n"),
        (("--out", "out", "--shard", "1/2", "--overwrite"), "--overwrite would delete what other shares have made"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    cli: Callable, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_in, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    done = cli("sample", mine, *words)
    assert done.code == 2, done.err
    assert says in done.error
    assert files_in(tmp_path) == before
