"""``snowmelt evaluate RUN --bits-per-dim``: what is written, what is refused, what becomes of it afterwards."""

import json
from pathlib import Path

import pytest

from snowmelt.cli import main

HOT = "noise:schedule=betas(steps=6,beta_min=0.05,beta_max=0.9)"


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of noisy digits, hardly trained."""
    out = tmp_path_factory.mktemp("runs") / "hot"
    tiny = ("--model.backbone", "unet:widths=(8,),patch=2,groups=4,blocks=1,attention=false", "--training.precision", "fp32")
    short = (*tiny, "--training.batch", "16", "--images", "64", "--training.validate_every", "64", "--training.validation_images", "8")
    assert main(["train", "--data", "bundled:digits", "--degradation", HOT, "--out", str(out), *short]) == 0
    return out


def test_bits_are_measured_kept_and_shown(cli, hot: Path) -> None:
    done = cli("evaluate", hot, "--bits-per-dim", "--images", 10)
    assert done.code == 0, done.err
    kept = json.loads((hot / "bound.json").read_text())
    assert sorted(kept["bounds"]) == ["large", "small"]
    small = kept["bounds"]["small"]
    assert len(small["per_step"]) == 5  # T = 6, the schedule's own
    assert small["total"] == pytest.approx(small["prior"] + small["steps"] + small["decoder"])
    assert small["interval"][0] < small["total"] < small["interval"][1]
    assert f"{small['total']:.4f}" in done.out
    assert (kept["facts"]["data"], kept["facts"]["steps"], kept["facts"]["seed"]) == ("bundled:digits", 6, 0)
    assert kept["facts"]["pictures"].startswith("10 of ")
    assert {"weights", "commit", "torch"} <= kept["facts"].keys()
    assert not (hot / "evaluation.json").exists()  # the bound and nothing else
    again = cli("evaluate", hot, "--bits-per-dim", "--images", 10, "--steps", 3)
    assert again.code == 0, again.err
    assert len(json.loads((hot / "bound.json").read_text())["bounds"]["small"]["per_step"]) == 2

    full = cli("evaluate", hot, "--images", 4, "--input", "float")
    assert full.code == 0, full.err
    assert "Bits per dimension" in (hot / "report.html").read_text()
    kept = json.loads((hot / "bound.json").read_text())
    kept["facts"]["weights"] = "of another model"
    (hot / "bound.json").write_text(json.dumps(kept))
    assert cli("evaluate", hot, "--images", 4, "--input", "float").code == 0
    assert "Bits per dimension" not in (hot / "report.html").read_text()


def test_what_has_no_bits_is_refused_by_name(cli, run: Path, hot: Path, tmp_path: Path) -> None:
    error = cli("evaluate", run, "--bits-per-dim", "--out", tmp_path / "out").error
    assert error.startswith("bits per dimension need every step to be a Gaussian")
    assert "gaussian-blur is no Gaussian chain" in error
    assert "'+noise'" in error  # the way out
    assert not (tmp_path / "out").exists()
    assert "--features" in cli("evaluate", hot, "--bits-per-dim", "--features", "mnist-v1").error
    assert "--bits-per-dim" in cli("evaluate", hot, "--steps", 4).error
    assert cli("evaluate", hot, "--bits-per-dim", "--steps", 0).error == "--steps 0 lies under 1"


def test_a_fresh_start_clears_them(cli, hot: Path) -> None:
    from snowmelt.recipes.directory import clear

    assert cli("evaluate", hot, "--bits-per-dim", "--images", 2, "--steps", 2).code == 0
    assert (hot / "bound.svg").is_file()
    clear(hot)
    assert not list(hot.glob("bound.*"))
