"""The studio as its visitors meet it: a real browser, a real server, pictures dropped and buttons pressed.

``SNOWMELT_SCREENSHOTS=docs/images python -m pytest tests/studio/test_browser.py`` makes the pictures of docs/studio.md.
"""

import contextlib
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

from tests.studio.browsing import CHROMIUM, PHONE, SCREENSHOTS, WAIT_MS, WITHOUT, Served, Visits, Watched, served, shot  # noqa: E402

from snowmelt.recipes import run  # noqa: E402
from snowmelt.recipes.recipe import from_table  # noqa: E402
from snowmelt.studio.trainings.runs import BUSY, Runs  # noqa: E402

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT), pytest.mark.xdist_group("browser"), pytest.mark.timeout(3600)]
NOTHING_ELSE = 0.2  # cores: what a machine does besides that has nothing to do
QUICK_S = 0.08  # which the work of times_slower takes there
expect = playwright.expect
expect.set_options(timeout=WAIT_MS)

TINY = {
    "degradation": "noise",
    "data": {"path": "bundled:digits", "size": 16},
    "model": {"backbone": "unet:widths=(8,16),patch=2,groups=4,blocks=1", "conditions": ["label"]},
    "training": {"images": 512, "batch": 32, "validation_images": 8, "precision": "fp32"},
}

SEEN = {"degradation": "noise", "data": TINY["data"], "model": {"conditions": ["label"]}, "training": {"images": 50_000}}  # worth a picture


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the studio's trainings."""
    folder = tmp_path_factory.mktemp("studio") / "runs"
    run.train(from_table(SEEN if SCREENSHOTS else TINY), folder / "digits")
    return folder


@pytest.fixture(scope="module")
def studio(runs: Path) -> Iterator[Served]:
    with served(runs) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as found:
        browser = found.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(studio: Served, browser: "playwright.Browser", tmp_path: Path) -> Iterator[Visits]:
    """Opens a page, watched to its end."""
    visits = Visits(studio, browser, tmp_path)
    yield visits
    visits.end()


@pytest.fixture
def nothing_goes_on(runs: Path) -> Iterator[None]:
    """A training outlives the studio: one whose test failed would take the cores of all the others."""
    yield
    found = Runs(runs, "cpu")
    for name in found.names():
        if found.state(name).doing in BUSY:
            found.stop(name)


def picture(path: Path, size: tuple[int, int] = (96, 64)) -> Path:
    noise = np.random.default_rng(0).normal(0, 20, (size[1], size[0], 3))
    y, x = np.mgrid[: size[1], : size[0]]
    Image.fromarray((128 + 60 * np.sin(np.stack([x / 9, y / 7, (x + y) / 11], -1)) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def panel(page: "playwright.Page") -> "playwright.Locator":
    """What is seen of the tab that is open."""
    return page.get_by_role("tabpanel").filter(visible=True)


def bring(watched: Watched, path: Path) -> None:
    """Drop a file, see it arrive, and the page take it for a damaged one."""
    shown = panel(watched.page)
    with watched.page.expect_response(lambda answer: "/upload" in answer.url):
        shown.locator("input[type=file]").first.set_input_files(path)
    expect(shown.get_by_role("radio", name="is damaged")).to_be_checked()
    watched.settle()


def press(page: "playwright.Page", name: str) -> None:
    button = panel(page).get_by_role("button", name=name, exact=True)
    expect(button).to_be_enabled()
    button.click()


def fetch(page: "playwright.Page", target: Path) -> Path:
    """Take the result home."""
    download = panel(page).get_by_role("button", name=re.compile("Download"))
    download.wait_for()
    with page.expect_download() as begun:
        download.click()
    begun.value.save_as(target)
    return target


def times_slower() -> float:
    """How many times slower this machine is than the one on which two seconds were promised."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        sum(i * i for i in range(2_000_000))
        times.append(time.monotonic() - began)
    return max(statistics.median(times) / QUICK_S, 1.0)


def others_s() -> float:
    """Seconds that the cores of this machine have spent so far on others than this process and what came of it; NaN where none can tell."""
    if not Path("/proc/stat").exists():
        return math.nan
    spent, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)], spent[int(path.parent.name)] = int(fields[1]), sum(int(ticks) for ticks in fields[11:15])
    ours = {os.getpid()}
    while more := {one for one, parent in parents.items() if parent in ours} - ours:
        ours |= more
    user, nice, system, _, _, *taken = (int(ticks) for ticks in Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + sum(taken) - sum(spent[one] for one in ours)) / os.sysconf("SC_CLK_TCK")


def test_the_first_picture_is_there_at_once_and_is_scrubbed_without_a_request(
    visit: Visits, studio: Served, figure: Callable[[str, str], None]
) -> None:
    began, before_s = time.monotonic(), others_s()
    watched = visit()
    page = watched.page
    times = [watched.seen_s, visit().seen_s, visit().seen_s]
    others = (others_s() - before_s) / (time.monotonic() - began)
    busy = f", while other programs kept {others:.1f} cores busy" if others >= NOTHING_ELSE else ""
    figure("studio-first-picture", f"the first picture {min(times):.1f} s after the page was asked for{busy}")
    slower = times_slower()
    if others < NOTHING_ELSE:
        assert min(times) < 2 * slower, f"the first picture took {times} s, on a machine that is {slower:.1f} times slower"
    assert "data:image/webp" in page.request.get(studio.url).text(), "the first picture has to come with the page, not on a second way"
    frame, slider = page.locator("#look-frames img:visible"), page.locator("#look-frames input[type=range]")
    first = frame.get_attribute("alt")
    before = list(watched.requests)
    slider.fill("20")
    expect(frame).to_have_count(1)
    expect(frame).not_to_have_attribute("alt", first or "")
    watched.settle()
    assert watched.requests == before
    slider.fill("12")
    shot(page, "look")


def test_another_degradation_and_its_sliders(visit: Visits) -> None:
    watched = visit()
    page = watched.page
    spec = page.locator("#look-spec textarea, #look-spec input").first
    page.get_by_label("Degradation").first.click()
    watched.answered(page.get_by_role("option", name="pixelate", exact=True).click)
    expect(spec).to_have_value(re.compile("^pixelate"))
    page.get_by_text("pixelate", exact=True).first.wait_for()
    spec.fill("gaussian-blur:sigma_px=-1")
    spec.press("Enter")
    page.locator(".toast-body", has_text="sigma_px = -1").first.wait_for()  # in plain words, where the visitor looks


def test_a_picture_of_ones_own_is_restored_and_taken_home(visit: Visits, tmp_path: Path) -> None:
    watched = visit("Restore")
    bring(watched, picture(tmp_path / "mine.png"))
    press(watched.page, "Restore")
    with Image.open(fetch(watched.page, tmp_path / "back.png")) as back:
        assert back.size == (96, 64)


def test_a_photograph_is_damaged_and_restored(visit: Visits) -> None:
    watched = visit("Restore")
    shown = panel(watched.page)
    press(watched.page, "Restore")
    shown.locator("[data-scrubber] img").first.wait_for(state="attached")  # one call: closed until it is opened
    shown.get_by_text("dB").first.wait_for()
    watched.settle()
    shot(watched.page, "restore")


def test_digits_are_generated_and_gone_when_the_next_wish_is_refused(visit: Visits) -> None:
    watched = visit("Generate")
    shown = panel(watched.page)
    expect(shown.get_by_label("Model").first).to_have_value("digits")
    press(watched.page, "Generate")
    frames = shown.locator("[data-scrubber] img")
    frames.first.wait_for(state="attached")
    assert frames.count() > 2
    watched.settle()
    shot(watched.page, "generate")
    everything = shown.get_by_role("button", name="All as a zip")
    expect(everything).to_be_visible()
    shown.get_by_role("button", name="More").click()
    shown.get_by_label("Calls").fill("100000")
    press(watched.page, "Generate")
    watched.page.locator(".toast-body", has_text="more than").first.wait_for()
    expect(frames).to_have_count(0)
    expect(everything).to_be_hidden()
    expect(shown.get_by_text("Make the same again")).to_be_hidden()


def test_a_training_is_watched_and_goes_on_without_its_page(visit: Visits, nothing_goes_on: None) -> None:
    def comes_to(state: str) -> None:
        page.locator(f"#train-status [data-state={state}]").wait_for(timeout=3 * WAIT_MS)

    watched = visit("Train")
    page = watched.page
    shown = panel(page)
    watched.settle()
    shown.get_by_label("Images to see").fill("10000000")  # more than any machine sees before it is stopped
    shown.get_by_label("Size in px").fill("8")
    shown.get_by_label("Name").fill("seen")
    watched.settle()  # every edit locks Start once more
    press(page, "What will it cost?")
    press(page, "Start")
    comes_to("running")
    press(page, "Sample now")
    page.locator("#train-grid img").wait_for(timeout=3 * WAIT_MS)
    page.locator("#train-curve svg").wait_for()
    shot(page, "train")
    page.context.close()
    page = visit("Train").page
    comes_to("running")
    press(page, "Stop")
    comes_to("stopped")
    press(page, "Resume")
    comes_to("running")
    press(page, "Stop")
    comes_to("stopped")


def test_what_is_no_picture_is_said_in_plain_words(visit: Visits, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    Image.new("L", (12_000, 12_000)).save(tmp_path / "huge.png")
    for name, words in (("text.png", "no picture|not a picture"), ("huge.png", "12,?000 x 12,?000|pixels")):
        watched = visit("Restore")
        bring(watched, tmp_path / name)
        press(watched.page, "Restore")
        said = watched.page.locator(".toast-body", has_text=re.compile(words, re.I)).first.inner_text()
        assert str(tmp_path) not in said
        assert "/tmp" not in said  # nor another path of this machine


def test_two_visitors_at_once(visit: Visits, tmp_path: Path) -> None:
    pages = [visit("Restore") for _ in range(2)]
    for i, watched in enumerate(pages):
        bring(watched, picture(tmp_path / f"{i}.png", (64 + 32 * i, 48)))
    for watched in pages:
        press(watched.page, "Restore")
    for i, watched in enumerate(pages):
        with Image.open(fetch(watched.page, tmp_path / f"back{i}.png")) as back:
            assert back.size == (64 + 32 * i, 48)  # each got its own


@pytest.mark.parametrize("tab", ["Look", "Restore", "Generate", "Translate", "Interpolate", "Train", "Compare"])
def test_on_a_phone_nothing_lies_beside_the_screen(visit: Visits, tab: str) -> None:
    watched = visit(tab, size=PHONE)
    watched.settle()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    if tab == "Look":
        shot(watched.page, "phone-look")
