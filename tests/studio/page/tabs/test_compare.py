"""The handlers of Compare as functions."""

import asyncio
import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

gr = pytest.importorskip("gradio")

import snowmelt  # noqa: E402
from snowmelt.data import images  # noqa: E402
from snowmelt.evaluation import Report  # noqa: E402
from snowmelt.model import Model, save  # noqa: E402
from snowmelt.recipes.recipe import from_table, to_toml  # noqa: E402
from snowmelt.restorers import Restorer  # noqa: E402
from snowmelt.studio.desk import Desk  # noqa: E402
from snowmelt.studio.gate import Gate  # noqa: E402
from snowmelt.studio.limits import Left, Limits, Refused  # noqa: E402
from snowmelt.studio.page import examples  # noqa: E402
from snowmelt.studio.page.tabs import compare  # noqa: E402
from snowmelt.studio.shelf import Shelf  # noqa: E402

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    folder = tmp_path / "runs"
    for name, spec, seen in (("one", "gaussian-blur", 100), ("two", "gaussian-blur", 200), ("turns", "morph", 100)):
        torch.manual_seed(0)
        D = snowmelt.build(spec)
        save(Model(D, Restorer(D, snowmelt.registry.build(TINY, "backbone"), (1, 8, 8))), folder / name)
        (folder / name / "recipe.toml").write_text(to_toml(from_table({"degradation": spec, "training": {"images": seen}})))
    (folder / "one" / "report.html").write_text("<p>fine</p>")
    return Desk(Limits(), Gate(Limits()), Shelf([], folder), folder)


def wish(**other: object) -> dict[str, Any]:
    own: dict[str, Any] = {"which": examples.NAMES[-1], "source": None, "clean": True, "severity": 1.0, "mode": next(iter(compare.MODES))}
    return {**own, "left": threading.Event(), "progress": gr.Progress(), **other}


def test_two_runs_that_nobody_measured_say_how_and_where_their_recipes_differ(desk: Desk) -> None:
    remarks, tables, reports = compare.made(desk, ["one", "two"])
    assert remarks.count("`snowmelt evaluate ") == 2
    assert tables.count("pending") >= 6
    assert "training.images" in tables
    assert "Generated" not in tables
    assert (reports["choices"], reports["value"]) == (["one"], "one")


def test_too_few_too_many_and_those_that_are_gone_are_refused(desk: Desk) -> None:
    for names, words in ((["one"], "two runs or more"), (["one"] * 7, "too many"), (["one", "gone"], "no model 'gone'")):
        with pytest.raises(Refused, match=words):
            compare.made(desk, names)


def test_one_picture_restored_by_each_run_that_restores(desk: Desk) -> None:
    html, said = compare.beside(desk, ["one", "two", "turns"], **wish())
    assert html.count("<img") == 1
    assert html.count("<tr>") == 3, "a head and two models: a morph does not restore"
    assert "Left out, as they do not restore: turns." in said
    assert said.endswith("One picture proves nothing.")  # nor does the table above: nothing was evaluated
    unknown, said = compare.beside(desk, ["one", "two"], **wish(clean=False, severity=0.5))
    assert "<tr>" not in unknown, "next to nothing there is no score"
    assert "Left out" not in said
    with pytest.raises(Refused, match="none of these runs restores"):
        compare.beside(desk, ["turns", "turns"], **wish())
    with pytest.raises(Refused, match="no picture yet: drop one first, or choose another one than “my picture”"):
        compare.beside(desk, ["one", "two"], **wish(which="my picture"))


def test_the_table_above_says_more_only_where_two_were_evaluated(desk: Desk) -> None:
    for name, words in (("one", "proves nothing."), ("two", "proves nothing: the table above says what many do.")):
        Report([], {}, []).write(desk.folder / name)
        assert compare.beside(desk, ["one", "two"], **wish())[1].endswith(words)


def test_a_tuned_copy_is_restored_in_its_few_calls_and_it_says_so(desk: Desk) -> None:
    found = desk.shelf.opened("one").model
    save(dataclasses.replace(found, estimates="consistency(0.94)"), desk.folder / "one" / "fast")
    for mode in compare.MODES:
        html, said = compare.beside(desk, ["one", "one/fast"], **wish(mode=mode))
        assert html.count("<tr>") == 3
        assert "Tuned for few calls, and restored in those whatever was chosen: one/fast." in said
    assert "Tuned" not in compare.beside(desk, ["one", "two"], **wish())[1]


def test_opening_the_list_of_runs_sends_no_choice_back_unless_one_is_gone(desk: Desk) -> None:
    handlers = compare._Handlers(desk)
    for now in (None, [], ["two"], ["two", "one"]):
        menu = handlers.listed(now)[2]
        assert set(menu["choices"]) == {"one", "two", "turns", "photo"}
        assert "value" not in menu, "it would undo what is chosen while the answer is under way"
    assert handlers.listed(["gone", "two"])[2]["value"] == ["two"]


def test_who_waits_for_a_turn_holds_no_pixels(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images.write(tmp_path / "mine.png", torch.zeros(1, 8, 8))
    waiting, read = [], compare.opened

    def opened(*told: Any) -> Any:
        waiting.append(not desk.gate._line)
        return read(*told)

    monkeypatch.setattr(compare, "opened", opened)
    compare.beside(desk, ["one", "two"], **wish(which=compare._OWN, source=str(tmp_path / "mine.png")))
    assert waiting == [False]


def test_a_closed_page_stops_the_work_within_a_call(desk: Desk) -> None:
    left, calls = threading.Event(), []

    def called(module: object, told: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            left.set()

    for name in ("one", "two"):
        desk.shelf.opened(name).model.restorer.net.register_forward_pre_hook(called)
    with pytest.raises(Left):
        compare.beside(desk, ["one", "two"], **wish(left=left, mode=list(compare.MODES)[1]))
    assert len(calls) <= 4


def test_a_report_is_taken_along_as_it_is(desk: Desk, tmp_path: Path) -> None:
    path = Path(compare.along(desk, "one", str(tmp_path / "cache")))
    assert (path.name, path.read_text()) == ("one-report.html", "<p>fine</p>")
    for name, words in ((None, "choose a run"), ("two", "no report yet"), ("../one", "no model")):
        with pytest.raises(Refused, match=words):
            compare.along(desk, name, str(tmp_path / "cache"))


def test_words_of_a_file_are_no_markup_but_commands_are_code() -> None:
    assert compare.escaped_but_code("a *b* <i>: `x_y`") == "a \\*b\\* \\<i\\>: `x_y`"


def test_the_tab_builds_and_keeps_its_handlers_to_itself(desk: Desk) -> None:
    async def made() -> Any:  # inside a running loop: gradio leaves one open where there is none
        with gr.Blocks() as page:
            compare.tab(desk)
        return page

    page = asyncio.run(made())
    assert {fn.api_visibility for fn in page.fns.values()} == {"private"}
