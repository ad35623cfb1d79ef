"""A scrubber holds every frame it was given, shows one, and is moved by one script that the page allows by its digest."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.studio.browsing import CHROMIUM, WITHOUT
from torch import Tensor

from snowmelt.data.images import to_uint8
from snowmelt.pictures import page, scrubber
from snowmelt.pictures.scrubber import SCRIPT, STYLE, of_images

LABELS = ["t = 1", "t = 0.5", "t = 0"]


def walk(b: int = 4, c: int = 1, side: int = 8) -> list[Tensor]:
    """Three uniform frames: black, grey, white."""
    return [torch.full((b, c, side, side), value) for value in (-1.0, 0.0, 1.0)]


def images(html: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'src="data:image/webp;base64,([^"]+)"', html)]


def test_every_frame_is_there_and_the_result_is_shown() -> None:
    html = scrubber(walk(), LABELS, caption="From <black> to white")
    frames = images(html)
    assert [frame.convert("RGB").getpixel((20, 20)) for frame in frames] == [(0,) * 3, (128,) * 3, (255,) * 3]
    assert re.findall(r'alt="([^"]+)"[^>]*?( hidden)?>', html) == [("t = 1", " hidden"), ("t = 0.5", " hidden"), ("t = 0", "")]
    assert 'min="0" max="2" step="1" value="2" aria-label="Step" aria-valuetext="t = 0"' in html
    assert "From &lt;black&gt; to white" in html
    assert "<script" not in html


def test_another_frame_may_come_first() -> None:
    html = scrubber(walk(), LABELS, start=0)
    assert re.findall(r'alt="([^"]+)"[^>]*?( hidden)?>', html)[0] == ("t = 1", "")
    assert 'value="0"' in html
    with pytest.raises(ValueError, match="start = 3 is no frame: give 0 to 2"):
        scrubber(walk(), LABELS, start=3)


def test_small_pictures_keep_every_pixel_and_photographs_are_compressed() -> None:
    noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (kept,) = images(scrubber([noise], ["x"]))
    small = kept.convert("RGB").resize((16, 16), Image.Resampling.NEAREST, (2, 2, kept.width - 2, kept.height - 2))
    assert (np.asarray(small) == to_uint8(noise)[0]).all()
    photo = torch.rand(1, 3, 400, 400, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (lossy,) = images(scrubber([photo], ["x"]))
    assert lossy.size == (404, 404)
    raw = io.BytesIO()
    lossy.save(raw, format="PNG")
    assert len(scrubber([photo], ["x"])) < len(raw.getvalue()) / 2


def test_what_is_too_large_is_reduced() -> None:
    (shown,) = images(scrubber([torch.zeros(1, 3, 1000, 1400)], ["x"]))
    assert max(shown.size) <= 640


def test_what_webp_cannot_hold_is_reduced() -> None:
    frames = [Image.new("RGB", size) for size in ((16_383, 1), (16_384, 1), (3, 40_000))]
    assert [frame.size for frame in images(of_images(frames, ["a", "b", "c"]))] == [(16_383, 1), (8192, 1), (1, 13_334)]


def test_one_frame_needs_no_slider() -> None:
    assert "<input" not in scrubber(walk()[:1], ["t = 1"])


def test_wrong_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frame"):
        scrubber([], [])
    with pytest.raises(ValueError, match="no frame"):
        of_images([], [])
    with pytest.raises(ValueError, match="3 frames have 2 labels"):
        scrubber(walk(), LABELS[:2])
    with pytest.raises(ValueError, match="one shape"):
        scrubber([*walk(), torch.zeros(1, 1, 8, 8)], [*LABELS, "x"])


def test_a_page_allows_this_script_and_no_other() -> None:
    html = page.page("Walk", [scrubber(walk(), LABELS), page.folded("More", [scrubber(walk(), LABELS)])])
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert scripts == [SCRIPT], "once, however many scrubbers there are"
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"; script-src 'sha256-{digest}'\">" in html
    assert STYLE in html
    assert "default-src 'none'" in html


def test_a_page_without_stays_free_of_scripts() -> None:
    html = page.page("No walk", ["<figure data-scrubber>", page.text("<figure data-scrubber>")])
    assert "<script" not in html
    assert "script-src" not in html
    assert STYLE not in html


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip(WITHOUT)
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def told(figure: Any) -> tuple[str, list[str]]:
    """What the label says and which frames are seen."""
    seen = [img for img in figure.locator("img").all() if img.is_visible()]
    return figure.locator("span").inner_text(), [img.get_attribute("alt") for img in seen]


def test_keys_and_the_button_move_it(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "walk.html").write_text(page.page("Walk", [scrubber(walk(), LABELS), scrubber(walk(), ["a", "b", "c"])]), encoding="utf-8")
    tab = browser.new_page()
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto((tmp_path / "walk.html").as_uri())
    first, second = tab.locator("figure").all()
    assert told(first) == ("t = 0", ["t = 0"])
    first.locator("input").press("ArrowLeft")
    assert told(first) == ("t = 0.5", ["t = 0.5"])
    assert first.locator("input").get_attribute("aria-valuetext") == "t = 0.5"
    assert told(second) == ("c", ["c"]), "the other one stays"
    first.locator("input").press("Home")
    first.get_by_role("button", name="Play").click()
    first.get_by_role("button", name="Stop").wait_for()
    first.get_by_role("button", name="Play").wait_for(timeout=10_000)
    assert told(first) == ("t = 0", ["t = 0"]), "it plays to its end and stops"
    assert wrong == []
    tab.close()


def test_what_comes_later_moves_too_and_in_shadow_roots(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.html").write_text(f"<!doctype html><main></main><script>{SCRIPT}</script><script>{SCRIPT}</script>", encoding="utf-8")
    tab = browser.new_page()
    tab.goto((tmp_path / "empty.html").as_uri())
    tab.evaluate("html => { document.querySelector('main').innerHTML = html }", str(scrubber(walk(), LABELS)))
    tab.locator("main input").press("ArrowLeft")
    assert told(tab.locator("main figure")) == ("t = 0.5", ["t = 0.5"])
    insert = "html => { document.body.append(document.createElement('div')); document.body.lastChild.attachShadow({mode: 'open'}).innerHTML = html }"
    tab.evaluate(insert, str(scrubber(walk(), ["a", "b", "c"])))
    tab.locator("div figure input").press("Home")
    assert told(tab.locator("body > div figure")) == ("a", ["a"])
    tab.close()


def test_without_scripts_the_result_stands_alone(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "walk.html").write_text(page.page("Walk", [scrubber(walk(), LABELS)]), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((tmp_path / "walk.html").as_uri())
    assert [img.is_visible() for img in tab.locator("img").all()] == [False, False, True]
    context.close()
