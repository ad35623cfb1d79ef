"""The models in the package: whole, small, and as good as their card says they must be, on photographs that installed packages bundle."""

import json
from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt.cli import main
from snowmelt.data import bundled
from snowmelt.data.images import from_uint8, quantise, read, write
from snowmelt.files import BadFile
from snowmelt.model import SHIPPED, located, shipped
from snowmelt.recipes import showcase
from snowmelt.recipes.directory import differences
from snowmelt.recipes.recipe import from_table, load, to_table


@pytest.fixture(scope="module")
def photo() -> snowmelt.Model:
    return snowmelt.load("photo")


def cat() -> torch.Tensor:
    """A photograph (1, 3, 128, 192) that the model has not seen."""
    return from_uint8(bundled.photo("chelsea.png")[None, :128, :192])


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * float(((a.clamp(-1, 1) - b).square().mean() / 4).clamp(min=1e-10).log10())


@pytest.mark.parametrize("name", shipped())
def test_it_is_small_and_says_where_it_comes_from(name):
    folder = SHIPPED / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    info = json.loads((folder / "model.json").read_text())
    assert {path.name for path in folder.iterdir()} == {"model.json", "README.md", *(entry["file"] for entry in info["files"].values())}
    card = (folder / "README.md").read_text()
    for fact in (info["notes"]["trained_with"]["commit"], "licen", "Where it fails", info["files"]["weights"]["sha256"][:12]):
        assert fact in card
    committed, used = to_table(from_table(load(name))), to_table(from_table(info["notes"]["recipe"]))
    differing = differences(committed, used)
    assert set(differing) <= {"data.path", "model.init"}, "the weights in the package were not made by the recipe in the package"


def test_a_damaged_copy_is_refused(tmp_path):
    for path in (SHIPPED / "photo").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = next(tmp_path.glob("weights-*"))
    broken = bytearray(weights.read_bytes())
    broken[-1] ^= 1
    weights.write_bytes(broken)
    with pytest.raises(BadFile, match="SHA-256"):
        snowmelt.load(tmp_path)


def test_a_directory_of_the_same_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("photo") == SHIPPED / "photo"
    (tmp_path / "photo").mkdir()
    with pytest.raises(FileNotFoundError, match=r"photo holds no model .* or photo"):
        snowmelt.load("photo")


def test_it_does_no_harm(photo):
    clean = cat()
    assert psnr(snowmelt.restore(photo, clean, severity=1.0, sampler=None), clean) >= 40


@pytest.mark.parametrize(("title", "least_db"), [("Noise", 6), ("JPEG, quality 12", 0.3), ("Half the resolution", 1.5), ("Scratches, mask given", 6)])
def test_it_improves_what_it_was_made_for(photo, title, least_db):
    scene = next(scene for scene in showcase.SCENES if scene.title == title)
    damaged, restored, clean = showcase.play(photo, scene)
    assert psnr(restored, clean) - psnr(damaged, clean) >= least_db


def test_no_training_and_no_flags(tmp_path, capsys, photo):
    clean = cat()
    noise = snowmelt.build("noise:schedule=ve(sigma_max=0.2)")
    noisy = quantise(noise(clean, torch.ones(1), noise.draw(clean, torch.Generator().manual_seed(0))))
    write(tmp_path / "noisy.png", noisy[0])
    write(tmp_path / "clean.png", clean[0])
    assert main(["restore", str(tmp_path / "noisy.png")]) == 0
    assert "noise" in capsys.readouterr().out
    assert psnr(read(tmp_path / "noisy-restored.png").x, clean[0]) > psnr(noisy, clean) + 6
    assert main(["restore", str(tmp_path / "clean.png")]) == 0
    assert "left as it is" in capsys.readouterr().err
    assert (tmp_path / "clean-restored.png").read_bytes() == (tmp_path / "clean.png").read_bytes()
    assert main(["restore", str(tmp_path / "clean.png"), "--anyway", "--overwrite"]) == 0
    assert psnr(read(tmp_path / "clean-restored.png").x, clean[0]) >= 38


def test_grey_stays_grey_and_twice_is_twice(tmp_path, photo):
    grey = cat()[0].mean(0, keepdim=True)
    write(tmp_path / "grey.png", grey)
    assert main(["restore", str(tmp_path / "grey.png"), "--enlarge", "2"]) == 0
    found = read(tmp_path / "grey-restored.png").x
    assert found.shape == (1, 256, 384)
    assert main(["restore", str(tmp_path / "grey.png"), "--colour", "--overwrite"]) == 0
    assert read(tmp_path / "grey-restored.png").x.shape == (3, 128, 192)
    assert main(["restore", str(tmp_path / "grey.png"), "--enlarge", "3", "--overwrite"]) == 2


def test_a_mask_is_filled_and_the_rest_kept(tmp_path, photo):
    clean = cat()[0]
    mask = torch.full((1, 128, 192), -1.0)
    mask[:, 40:44, 20:160] = 1
    damaged = torch.where(mask > 0, 1.0, clean)
    write(tmp_path / "scratched.png", damaged)
    write(tmp_path / "mask.png", mask)
    assert main(["restore", str(tmp_path / "scratched.png"), "--mask", str(tmp_path / "mask.png")]) == 0
    found, hole = read(tmp_path / "scratched-restored.png").x, mask.expand_as(clean) > 0
    assert torch.equal(found[~hole], damaged[~hole])
    assert float((found - clean)[hole].square().mean()) < 0.1 * float((damaged - clean)[hole].square().mean())
    write(Path(tmp_path / "small.png"), mask[:, :64])
    assert main(["restore", str(tmp_path / "scratched.png"), "--mask", str(tmp_path / "small.png"), "--overwrite"]) == 1
