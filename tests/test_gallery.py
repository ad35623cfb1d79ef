"""The gallery: every registered degradation is on the page, drawn, and a new one appears by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from torch import Tensor

from snowmelt import Degradation, Draw, build, register
from snowmelt.registry import label, names

DOCS = Path(__file__).parents[1] / "docs"
PICTURES = DOCS / "images" / "degradations"


@pytest.fixture(scope="module")
def gallery(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("scripts/gallery.py")


def test_the_page_is_what_the_registry_says(gallery: ModuleType) -> None:
    page = (DOCS / "see.md").read_text(encoding="utf-8")
    assert f"<!-- begin gallery -->\n\n{gallery.gallery()}\n\n<!-- end gallery -->" in page, "run python scripts/gallery.py"
    for name in names("degradation"):
        assert f"### {name}\n" in page
        assert f"(images/degradations/{name}.webp)" in page


def test_every_picture_is_there_and_all_are_small(gallery: ModuleType) -> None:
    expected = {*gallery.shown(), *gallery.BESIDE}
    assert {path.stem for path in PICTURES.iterdir()} == expected, "run python scripts/gallery.py"
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 2_000_000
    for name in expected:
        with Image.open(PICTURES / f"{name}.webp") as picture:
            picture.load()
            assert min(picture.size) > 100


@pytest.mark.parametrize("name", names("degradation"))
def test_each_is_shown_by_a_spec_of_its_own_name(gallery: ModuleType, name: str) -> None:
    assert label(type(build(gallery.shown()[name]))) == name


def test_a_new_degradation_appears_by_itself(gallery: ModuleType) -> None:
    @register("darker")
    @dataclass(frozen=True)
    class Darker(Degradation):
        """Fades to black."""

        def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
            return torch.lerp(x, -torch.ones_like(x), t)

    assert gallery.shown()["darker"] == "darker"
    assert "### darker\n\nFades to black.\n" in gallery.gallery()
    picture = gallery.drawn("darker")
    pixels = [picture.getpixel((x, picture.height // 2)) for x in (80, picture.width - 80)]
    assert sum(pixels[0]) > sum(pixels[1]) == 0


def test_one_that_needs_parts_is_asked_for(gallery: ModuleType) -> None:
    @register("needy")
    @dataclass(frozen=True)
    class Needy(Degradation):
        """Needs a number."""

        number: float

        def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
            return x

    with pytest.raises(ValueError, match=r"needy needs number: add a spec such as .* to SHOWN"):
        gallery.shown()


def test_another_folder_leaves_the_page_as_it_is(gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "drawn", lambda spec: Image.new("RGB", (8, 8)))
    monkeypatch.setattr(gallery, "gallery", lambda: "not written")
    before = (DOCS / "see.md").read_bytes()
    gallery.main(tmp_path)
    assert (DOCS / "see.md").read_bytes() == before
    assert any(tmp_path.iterdir())
