"""The Look tab: its handlers called as functions."""

import asyncio
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

gr = pytest.importorskip("gradio")

from snowmelt import build  # noqa: E402
from snowmelt.cli import main  # noqa: E402
from snowmelt.data.images import read, write  # noqa: E402
from snowmelt.registry import SpecError  # noqa: E402
from snowmelt.studio.desk import Desk  # noqa: E402
from snowmelt.studio.gate import Gate  # noqa: E402
from snowmelt.studio.limits import Left, Limits, Refused  # noqa: E402
from snowmelt.studio.page.examples import NAMES, example  # noqa: E402
from snowmelt.studio.page.forms import Form, begun, needs_spec, pictured  # noqa: E402
from snowmelt.studio.page.tabs.look import SEVERITIES, Picked, _Handlers, about, drawn, look, tab  # noqa: E402
from snowmelt.studio.shelf import Shelf  # noqa: E402
from snowmelt.studio.work.looking import degraded  # noqa: E402

NOBODY = SimpleNamespace(session_hash=None)


def form_of(*told: object, **named: object) -> Form:
    """A form, made inside a running loop: gradio leaves one open where there is none."""

    async def made() -> Form:
        with gr.Blocks():
            return Form(*told, **named)

    return asyncio.run(made())


def page_of(desk: Desk) -> gr.Blocks:
    """A page with nothing but this tab."""

    async def made() -> gr.Blocks:
        with gr.Blocks() as page:
            tab(desk)
        return page

    return asyncio.run(made())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    limits = Limits(look_px=48)
    return Desk(limits, Gate(limits), Shelf([], tmp_path / "runs"), tmp_path / "runs")


@pytest.fixture
def file(tmp_path: Path) -> str:
    write(tmp_path / "mine.png", example("coffee")[:, :90, :120])
    return str(tmp_path / "mine.png")


def test_all_severities_are_in_the_page_at_once(desk: Desk) -> None:
    found = look(desk, "gaussian-blur", Picked(None, "cat"), None, 0, lambda: None)
    assert found.frames.count("<img ") == len(SEVERITIES) == 21
    assert "t = 0.00: clean" in found.frames
    assert "t = 0.50 (blur of 1.28 px; at t = 1 it is 8 px)" in found.frames
    assert "t = 1.00 (blur of 8 px)" in found.frames
    assert "http" not in found.frames


def test_parts_of_a_composition_are_not_told_as_decimals(desk: Desk) -> None:
    found = look(desk, "gaussian-blur:sigma_px=2+noise", Picked(None, "cat"), None, 0, lambda: None)
    assert "t = 0.50 (blur of 0.531 px, alpha 0.707, sigma 0.707; at t = 1 blur of 2 px, alpha 0, sigma 1)" in found.frames


def test_a_picture_is_as_wide_as_its_column_and_leaves_room_for_the_slider(desk: Desk) -> None:
    larger = Desk(Limits(), desk.gate, desk.shelf, desk.folder)
    for one, kind in ((desk, "look sharp"), (larger, "look")):  # 48 px are enlarged
        frames = look(one, "jpeg", Picked(None, "cat"), None, 0, lambda: None).frames
        assert frames.startswith(f'<div class="{kind}" style="--look-px:min(100%, max(65vh, 384px) * 1.5')
        assert frames.endswith("</div>")


def test_an_empty_line_says_what_to_do(desk: Desk) -> None:
    handlers, pictures = _Handlers(desk, form_of(["jpeg"])), ("cat", None, "astronaut", None, 0)
    for do in (handlers.written, handlers.redrawn):
        for empty in ("", "  ", None):
            with pytest.raises(Refused, match="choose a degradation, or write one"):
                do(NOBODY, empty, *pictures)


@pytest.mark.parametrize("name", pictured())
def test_every_degradation_of_pictures_can_be_looked_at(desk: Desk, name: str) -> None:
    found = look(desk, begun(name), Picked(None, "cat"), Picked(None, "astronaut"), 0, lambda: None)
    assert found.frames.count("<img ") == 21
    assert found.about.startswith(f"### {name}\n")


def test_an_upload_is_made_small_first_and_limits_hold(desk: Desk, file: str) -> None:
    picked = Picked(file, "cat")
    assert picked.pixels(desk.limits).shape == (1, 3, 36, 48)
    assert picked.file == "mine.png"
    with pytest.raises(Refused, match="MB is the most"):
        picked.pixels(Limits(megabytes=0.001))


def test_what_is_random_is_said_in_a_sentence() -> None:
    assert drawn(build("gaussian-blur")).startswith("Nothing is random")
    assert "noise is drawn once" in drawn(build("noise"))
    assert "(`flakes`, `direction`)" in drawn(build("snow"))
    assert "second picture" in drawn(build("morph"))
    assert about(build("grey")) == "### grey\nFade to grey: colour is gone at t = 1. Needs at least two channels.\n\n" + drawn(build("grey"))


def test_the_command_it_shows_runs_and_the_python_does_too(desk: Desk, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(file).parent)
    found = look(desk, "snow:level=1+jpeg", Picked(file, "cat"), None, 3, lambda: None)
    words = shlex.split(found.command)
    assert words[:3] == ["snowmelt", "degrade", "mine.png"]
    assert main(words[1:]) in (0, None)
    assert Path("mine-compose.png").is_file()
    names: dict[str, object] = {}
    exec(found.python, names)  # noqa: S102 - the lines that the page shows
    x = read(file).over()[None]
    assert torch.equal(names["y"], degraded(build("snow:level=1+jpeg"), x, [0.5], seed=3, check=lambda: None)[0])


@pytest.mark.parametrize("spec", ["gaussian-blur", "morph"])
def test_what_it_shows_of_bundled_pictures_needs_no_file(desk: Desk, spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = look(desk, spec, Picked(None, NAMES[-1]), Picked(None, "cat"), 0, lambda: None)
    for words in map(shlex.split, found.command.splitlines()):
        if words[0] == "python":
            exec(words[2], {})  # noqa: S102 - the lines that the page shows
        else:
            assert main(words[1:]) in (0, None)
    assert Path(f"digit-{spec}.png").is_file()
    for path in tmp_path.iterdir():
        path.unlink()
    names: dict[str, torch.Tensor] = {}
    exec(found.python, names)  # noqa: S102 - the lines that the page shows
    y = degraded(build(spec), example(NAMES[-1])[None], [0.5], endpoint=example("cat")[None], check=lambda: None)[0]
    assert torch.equal(names["y"], y)


def test_choosing_writing_and_moving_agree(tmp_path: Path) -> None:
    limits = Limits(look_px=32)
    desk = Desk(limits, Gate(limits), Shelf([], tmp_path / "runs"), tmp_path / "runs")
    form = form_of(pictured(), shown="gaussian-blur")
    handlers, pictures = _Handlers(desk, form), ("cat", None, "astronaut", None, 0)
    n = len(form.groups)
    chosen = handlers.chosen(NOBODY, "jpeg", *pictures)
    assert chosen[5] == "jpeg"
    assert [update["visible"] for update in chosen[6 : 6 + n]] == [name == "jpeg" for name in pictured()]
    controls = [control.value for control in form.controls]
    place = form._places["jpeg"].start
    controls[place] = 25.0
    moved = handlers.moved(NOBODY, "jpeg", *pictures, *controls)
    assert moved[5] == "jpeg:quality=25"
    assert "--degradation jpeg:quality=25" in moved[2]
    written = handlers.written(NOBODY, " jpeg:quality=12 ", *pictures)
    assert written[5] == "jpeg"
    assert written[6 + n + place] == 12
    assert handlers.written(NOBODY, "jpeg+grey", *pictures)[5] == "compose"
    assert handlers.chosen(NOBODY, "morph", *pictures)[4]["visible"] is True
    assert handlers.redrawn(NOBODY, "morph", *pictures)[4]["visible"] is True
    assert handlers.redrawn(NOBODY, "snow", *pictures)[0] != handlers.redrawn(NOBODY, "snow", *pictures[:4], 1)[0]
    with pytest.raises(SpecError, match="did you mean 'jpeg'"):
        handlers.written(NOBODY, "jpg", *pictures)


def test_a_spec_has_an_end(desk: Desk) -> None:
    form = form_of(pictured(), shown="gaussian-blur")
    handlers, pictures = _Handlers(desk, form), ("cat", None, "astronaut", None, 0)
    long = "+".join(["grey"] * 201)
    controls = [control.value for control in form.controls]
    controls[0] = long
    for do in (
        lambda: handlers.written(NOBODY, long, *pictures),
        lambda: handlers.redrawn(NOBODY, long, *pictures),
        lambda: handlers.moved(NOBODY, "jpeg", *pictures, *controls),
    ):
        with pytest.raises(Refused, match="a spec of 1,004 letters is longer than 1,000"):
            do()
    box = next(block for block in page_of(desk).blocks.values() if getattr(block, "elem_id", None) == "look-spec")
    assert box.max_length == 1000


def test_those_made_of_others_begin_with_an_example() -> None:
    for name in pictured():
        assert build(begun(name)) is not None
        assert needs_spec(name) == (begun(name) != name)


def test_who_has_left_is_not_drawn_for(desk: Desk) -> None:
    handlers = _Handlers(desk, form_of(["jpeg"]))
    request = SimpleNamespace(session_hash="page")
    desk.gate.leaving("page").set()
    with pytest.raises(Left):
        handlers.redrawn(request, "jpeg", "cat", None, "astronaut", None, 0)


def test_the_first_picture_comes_with_the_page(desk: Desk) -> None:
    page = page_of(desk)
    first = next(block for block in page.blocks.values() if getattr(block, "elem_id", None) == "look-frames")
    assert first.value.count("<img ") == 21
    assert all(fn.api_visibility == "private" for fn in page.fns.values())
