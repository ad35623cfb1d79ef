"""Defaults chosen from the data: sensible on pictures of every kind, overruled by what is given."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from snowmelt import registry
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.recipes.defaults import suggest, survey
from snowmelt.recipes.recipe import from_table, merged
from snowmelt.recipes.run import make_model

BLUR = "gaussian-blur:sigma_px=2"


def fill(place: Path, n: int, h: int, w: int, *, colour: bool = True, saved_as_rgb: bool = True, grow: int = 0) -> DataOptions:
    place.mkdir()
    for i in range(n):
        size = (h + grow * i, w)
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3) if colour else size, dtype=np.uint8)
        image = Image.fromarray(pixels)
        (image.convert("RGB") if saved_as_rgb else image).save(place / f"{i}.png")
    return DataOptions(path=str(place))


def test_photographs_are_cut_and_mirrored(tmp_path: Path) -> None:
    table, reasons = suggest(fill(tmp_path / "in", 4, 120, 160, grow=3), BLUR, {})
    assert table["data"] == {"path": str(tmp_path / "in"), "size": 64, "channels": 3, "fit": "crop", "flip": True}
    assert "data.size = 64: pictures are 160 x 120 to 160 x 129 px; training on 64 px crops, restoring takes any size" in reasons
    assert table["training"]["images"] == 20_000  # eight crops are soon known by heart


def test_grey_pictures_saved_as_rgb_are_grey_and_never_mirrored(tmp_path: Path) -> None:
    table, _ = suggest(fill(tmp_path / "in", 4, 120, 120, colour=False), BLUR, {})
    assert table["data"]["channels"] == 1
    assert table["data"]["flip"] is False


@pytest.mark.parametrize(
    ("side", "backbone"),
    [(8, "patch=1"), (16, "patch=2"), (28, "patch=4"), (32, "(64,96),patch=4"), (64, "(32,64,96),patch=2"), (96, "(64,96,128),patch=4")],
)
def test_small_equal_squares_are_kept(tmp_path: Path, side: int, backbone: str) -> None:
    table, _ = suggest(fill(tmp_path / "in", 4, side, side, colour=False), BLUR, {})
    assert (table["data"]["size"], table["data"]["fit"]) == (side, "resize")
    assert backbone in table["model"]["backbone"]


def test_small_unequal_ones_become_the_square_below(tmp_path: Path) -> None:
    table, _ = suggest(fill(tmp_path / "in", 4, 40, 44, grow=5), BLUR, {})
    assert (table["data"]["size"], table["data"]["fit"]) == (32, "resize")


def test_the_bundled_digits() -> None:
    table, reasons = suggest(DataOptions(path="bundled:digits"), BLUR, {})
    assert table["data"] == {"path": "bundled:digits", "size": 8, "channels": 1, "fit": "resize", "flip": False}
    assert 100_000 < table["training"]["images"] < 200_000
    assert (
        len(reasons) == len({line.split(" = ")[0] for line in reasons}) == sum(len(v) for k, v in table.items() if k != "degradation") - 1
    )


def test_what_is_given_wins_and_needs_no_reason() -> None:
    given = {"data": {"path": "bundled:digits", "size": 32}, "training": {"images": 640, "lr": 1e-4}}
    table, reasons = suggest(DataOptions(path="bundled:digits"), BLUR, given)
    assert "size" not in table["data"]
    assert not any(line.startswith(("data.size", "training.images", "training.lr")) for line in reasons)
    assert "patch=4" in table["model"]["backbone"]  # it follows the size that was given
    assert table["training"]["validate_every"] == 80
    assert from_table(merged(table, given)).data.size == 32


def test_an_operator_with_knots_is_trained_on_them() -> None:
    table, _ = suggest(DataOptions(path="bundled:digits"), "pixelate:levels=2", {})
    assert table["training"]["severities"] == "knots"


def test_every_suggestion_builds_a_model(tmp_path: Path) -> None:
    for i, data in enumerate(
        (fill(tmp_path / "a", 4, 9, 30, grow=1), fill(tmp_path / "b", 4, 130, 97), DataOptions(path="bundled:digits"))
    ):
        table, _ = suggest(data, ("noise", BLUR, "mask+noise")[i], {})
        recipe = from_table(table)
        train = open_data(recipe.data, "train")
        assert registry.spec(make_model(recipe, train.shape).degradation) == recipe.degradation


def test_arrays_are_looked_at_too(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((20, 12, 12), dtype=np.float32))
    seen = survey(DataOptions(path=str(tmp_path / "a.npy"), range=(0, 1)))
    assert (seen.side, seen.colour) == (12, False)


def test_nothing_to_look_at(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        suggest(DataOptions(path=str(tmp_path / "no")), BLUR, {})
    with pytest.raises(ValueError, match="holds no picture"):
        suggest(DataOptions(path=str(tmp_path)), BLUR, {})
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="none of the 1 pictures"):
        suggest(DataOptions(path=str(tmp_path)), BLUR, {})


def test_sound_gets_a_window_and_the_network_of_its_damage(tmp_path: Path) -> None:
    for i in range(8):
        soundfile.write(tmp_path / f"{i}.wav", np.sin(np.arange(5000 + 100 * i) / 3) / 4, 16_000)
    options = DataOptions(path=str(tmp_path))
    noisy, reasons = suggest(options, "background:snr_db=0", {})
    assert noisy["data"] == {"path": str(tmp_path), "window": 4096}
    assert (noisy["model"]["backbone"], noisy["training"]["unfold"]) == ("stft-unet", True)
    assert "data.window = 4,096: 0.26 s at 16,000 Hz, cut from recordings of about 0.33 s; restoring takes any length" in reasons
    assert suggest(options, "packet-loss", {})[0]["model"]["backbone"] == "gap-unet"
    assert suggest(options, "low-pass", {})[0]["training"]["penalty"] == "frequency"
    made = suggest(options, "noise", {"training": {"images": 100}})[0]
    assert made["model"]["parameterization"] == "v"
    assert made["training"]["validate_every"] == 12


def test_scans_are_turned_and_mirrored(tmp_path: Path) -> None:
    for i in range(4):
        (np.random.default_rng(i).normal(size=(4000, 4)) * [20, 20, 0.5, 0.1]).astype(np.float32).tofile(tmp_path / f"{i}.bin")
    table, _ = suggest(DataOptions(path=str(tmp_path)), "beam-drop", {})
    assert table["data"] == {"path": str(tmp_path), "turn": True, "flip": True}
    following = suggest(DataOptions(path=str(tmp_path)), "morph:schedule=linear", {"data": {"endpoint": "previous"}})[0]
    assert following["data"]["turn"] is False  # or nobody could know where it drives
    assert (table["model"]["backbone"], table["training"]["loss"]) == ("ring-unet:widths=(32,64,64),columns=2,fill=true", "l1")
