"""The README and the tutorial run: their Python blocks and snowmelt commands, in order, with trainings cut short. The Chinese pages say the same."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from snowmelt.cli import main
from snowmelt.data.images import write
from snowmelt.recipes import run
from snowmelt.recipes.recipe import from_table
from snowmelt.sensor import HDL_64E

ROOT = Path(__file__).parents[1]
README, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
TUTORIAL, IDEA = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "idea.md"
TWINS = [(README, CHINESE), *((page, page.parent / "zh" / page.name) for page in (TUTORIAL, IDEA))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)
UNTIL_CTRL_C = ("studio",)  # verbs that serve until they are stopped; tests/studio has their tests
SHORT = ["--images", "64", "--training.batch", "16", "--model.backbone", "unet:widths=(8,16),patch=4,groups=4,blocks=1"]
SIGNALS = {
    "speech": ["--images", "32", "--training.batch", "8", "--data.window", "256", "--model.backbone", "wave-unet:widths=(8,8),patch=4,groups=4"],
    "scans": ["--images", "8", "--training.batch", "4", "--model.backbone", "ring-unet:widths=(8,8),groups=4,blocks=1"],
}
DEMO = {
    "degradation": "gaussian-blur:sigma_px=6",
    "data": {"path": "bundled:digits", "size": 32},
    "model": {"backbone": "unet:widths=(8,16),patch=4,groups=4,blocks=1"},
    "training": {"images": 64, "batch": 16, "validation_images": 8, "precision": "fp32"},
    "evaluation": {"images": 8, "calls": [2], "samplers": ["tacos"]},
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every code block; table of contents and includes are none."""
    return FENCED.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files the README speaks of."""
    monkeypatch.chdir(tmp_path)
    picture = torch.empty(3, 48, 56).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    (tmp_path / "holiday").mkdir()
    for name in ("photo.png", "blurred.png", "sharp.png", "holiday/beach.jpg", "holiday/hills.png"):
        write(tmp_path / name, picture)
    write(tmp_path / "scratches.png", torch.where(torch.arange(56) == 20, 1.0, -1.0).expand(1, 48, 56))
    run.train(from_table(DEMO), tmp_path / "runs" / "demo")
    _signals(tmp_path)
    return tmp_path


def _signals(place: Path) -> None:
    """A dozen recordings and scans."""
    source = np.random.default_rng(0)
    for folder in ("speech", "scans"):
        (place / folder).mkdir()
    for i in range(12):
        for path in (place / "speech" / f"{i}.wav", *([place / "noisy.wav"] if not i else [])):
            soundfile.write(path, 0.1 * np.sin(np.arange(1200) * (0.1 + 0.02 * i)) + 0.01 * source.normal(size=1200), 8000)
        turn, tilt = np.meshgrid(np.linspace(-np.pi, np.pi, 512, endpoint=False), np.radians(HDL_64E.beams_deg))
        far = 8 + 2 * np.sin(3 * turn + i)
        cloud = np.stack([far * np.cos(tilt) * np.cos(turn), far * np.cos(tilt) * np.sin(turn), far * np.sin(tilt), 0.3 + 0 * far], -1)
        cloud.reshape(-1, 4).astype(np.float32).tofile(place / "scans" / f"{i}.bin")
        cloud[::4].reshape(-1, 4).astype(np.float32).tofile(place / "scan.bin")  # of a sensor of 16 rings


def command(line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] != "snowmelt" or words[1] in UNTIL_CTRL_C:
        return  # make, pip and torchrun have their own tests: the CI script calls them
    if words[1] == "train" and "--images" in words:  # cut shorter still
        del words[words.index("--images") : words.index("--images") + 2]
    kind = next((name for name in SIGNALS if name in words), None)
    short = {"train": SHORT if kind is None else SIGNALS[kind], "tune": ["--images", "64"]}.get(words[1], [])
    words = ["20" if word == "500" else word for word in words]
    try:
        status = main(words[1:] + short)
    except SystemExit as end:
        status = end.code
    assert not status, f"{line!r} ended with {status}"


def run_page(page: Path, place: Path) -> dict[str, object]:
    """Run all blocks of a page in order; the names that its Python defined."""
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "bash":
            for line in text.strip().splitlines():
                command(line)
        elif language == "python" and (file := re.match(r"# (\w+\.py)\n", text)):
            (place / file[1]).write_text(text, encoding="utf-8")
        elif language == "python":
            exec(compile(text, str(page), "exec"), names)
    return names


def test_every_block_of_the_readme_runs(place: Path) -> None:
    languages = [language for language, _ in blocks(README)]
    assert languages.count("python") >= 4
    assert languages.count("bash") >= 6
    names = run_page(README, place)
    assert (place / "walk.png").is_file()
    assert soundfile.info(place / "clean.wav").frames == 1200
    assert (place / "full.bin").stat().st_size >= (place / "scan.bin").stat().st_size
    assert len(list((place / "ahead").glob("*.bin"))) == 3
    assert len(list((place / "new-digits").glob("*.png"))) >= 16
    assert (place / "runs" / "demo" / "report.html").is_file()
    assert names["new"].shape == (16, 1, 16, 16)  # type: ignore[attr-defined]


def test_every_block_of_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # empty, as the page says
    run_page(TUTORIAL, tmp_path)
    assert (tmp_path / "strip.png").is_file()
    assert (tmp_path / "walk.png").is_file()
    assert (tmp_path / "runs" / "deblur" / "report.html").is_file()
    assert (tmp_path / "clear" / "sharp.png").is_file()


def test_the_code_of_the_idea_runs(tmp_path: Path) -> None:
    assert run_page(IDEA, tmp_path)["walked"].shape == (2, 3, 32, 32)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("english", "chinese"), TWINS, ids=lambda page: page.name)
def test_the_chinese_page_has_the_same_code_headings_and_tables(english: Path, chinese: Path) -> None:
    """Also the comments in the code are the same; only prose differs."""
    assert blocks(chinese) == blocks(english)
    outside = [FENCED.sub("", page.read_text(encoding="utf-8")) for page in (english, chinese)]
    one, other = ([line.partition(" ")[0] for line in text.splitlines() if line.startswith("#")] for text in outside)
    assert other == one
    assert len(table(outside[1])) == len(table(outside[0]))
    assert [re.findall(r"`([^`]+)`", line) for line in table(outside[1])] == [re.findall(r"`([^`]+)`", line) for line in table(outside[0])]
    pictures = [re.findall(r"!\[[^]]*\]\(([^)]+)\)", text) for text in outside]
    assert [path.removeprefix("../") for path in pictures[1]] == pictures[0]


@pytest.mark.parametrize(("english", "chinese"), TWINS, ids=lambda page: page.name)
def test_what_has_to_be_said_of_code_is_said_in_the_language_of_the_page(english: Path, chinese: Path) -> None:
    """Blocks are the same, so a comment in words would be English on the Chinese one: only names of files and shapes may stand there."""
    said = [line.partition("# ")[2] for _, code in blocks(chinese) for line in code.splitlines() if "# " in line]
    assert [one for one in said if not re.fullmatch(r"\w+\.py|\([a-z0-9, ]+\)", one)] == []
    bare = re.findall(r"\{doc\}`[^`<]*`", chinese.read_text(encoding="utf-8"))
    assert bare == [], "a link without a text shows the title of the English page"


def test_pages_in_chinese_say_so(script: Callable[[str], ModuleType]) -> None:
    """What `make docs` writes into <html lang>."""
    hooks: dict[str, Callable[..., None]] = {}
    script("docs/conf.py").setup(SimpleNamespace(connect=lambda event, hook, **_: hooks.update({event: hook})))
    for page, language in (("zh/idea", "zh"), ("idea", "en")):
        context = {"language": "en"}
        hooks["html-page-context"](None, page, "page.html", context, None)
        assert context["language"] == language, page


def table(text: str) -> list[str]:
    """The rows of all tables."""
    return [line for line in text.splitlines() if line.startswith("|")]


def test_each_readme_links_the_other() -> None:
    assert "(README.zh.md)" in README.read_text(encoding="utf-8").split("##")[0]
    assert "(README.md)" in CHINESE.read_text(encoding="utf-8").split("##")[0]


def test_the_figures_of_sound_and_scans_are_those_kept(script: Callable[[str], ModuleType]) -> None:
    reproduce = script("scripts/reproduce.py")
    for page in (README, CHINESE):
        figures = reproduce.signals(measures=1, heads=reproduce.READMES[page.name]).strip()
        assert figures
        assert f"<!-- begin signals -->\n\n{figures}\n\n<!-- end signals -->" in page.read_text(encoding="utf-8"), "run python scripts/reproduce.py"


@pytest.mark.parametrize("page", [README, CHINESE], ids=lambda page: page.name)
def test_every_link_and_picture_of_the_readme_exists(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", FENCED.sub("", page.read_text(encoding="utf-8"))):
        assert (page.parent / target).exists(), target


def test_the_moving_picture_moves_and_is_small() -> None:
    path = ROOT / "docs" / "images" / "restored.webp"
    assert path.stat().st_size < 1_500_000
    with Image.open(path) as picture:
        assert picture.n_frames > 10
