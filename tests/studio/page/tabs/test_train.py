"""The Train tab without a browser: what it shows of a run, what it costs, and whom it refuses."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")

import gradio as gr
from PIL import Image
from torch import Tensor

from snowmelt import build, registry
from snowmelt.cli import main
from snowmelt.recipes import dryrun
from snowmelt.recipes.directory import stored
from snowmelt.recipes.recipe import from_table
from snowmelt.studio.desk import Desk
from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Late, Left, Limits, Refused
from snowmelt.studio.page.tabs import train
from snowmelt.studio.shelf import Shelf
from snowmelt.studio.trainings.orders import Order
from snowmelt.studio.trainings.runs import Runs, State
from snowmelt.training.loop import Trainer

LIMITS = Limits()
ORDER = ("bundled:digits", "", "gaussian-blur:sigma_px=2", 0, 640, "mine")
NOBODY = SimpleNamespace(session_hash=None)


def desk(folder: Path, *, trains: bool = True) -> Desk:
    return Desk(LIMITS, Gate(LIMITS), Shelf([], folder), folder, trains=trains)


def handlers(folder: Path, *, trains: bool = True) -> train._Handlers:
    found = desk(folder, trains=trains)
    return train._Handlers(found, Runs(folder, allowed=trains))


def test_the_cost_is_measured_and_said_before_anything_is_written(tmp_path: Path) -> None:
    text, button, priced = handlers(tmp_path).checked(NOBODY, *ORDER)  # type: ignore[arg-type]
    assert re.search(r"<strong>time</strong>: about [\d,.]+ (s|min|h) for 640 images", text)
    assert "<strong>memory</strong>" in text
    assert "model.backbone = unet" in text
    assert "data:image/png;base64," in text
    assert button["interactive"] is True
    assert priced.order == train._order(*ORDER)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({5: "../mine"}, "is no name for a run"),
        ({0: "/etc"}, "choose a set of the list, or a folder"),
        ({0: train.FOLDER, 1: "/no/such/place"}, "there is no folder or file"),
        ({0: train.FOLDER}, "say which pictures"),
        ({2: "mist"}, "unknown degradation"),
        ({3: 5000}, "outside 4 to 256"),
    ],
)
def test_a_wrong_order_is_refused_in_words(tmp_path: Path, changed: dict[int, object], says: str) -> None:
    order = [changed.get(i, value) for i, value in enumerate(ORDER)]
    with pytest.raises(ValueError, match=re.escape(says)):
        handlers(tmp_path).checked(NOBODY, *order)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_only_what_was_priced_is_started_and_it_is_that_very_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tab = handlers(tmp_path)
    begun: list[Path] = []
    monkeypatch.setattr(Runs, "_begin", lambda self, run: begun.append(run))
    priced = train.Priced(train._order(*ORDER), from_table({"degradation": "gaussian-blur:sigma_px=2", "training": {"images": 640, "batch": 7}}))
    for i, other in enumerate(("bundled:photos", "/elsewhere", "grey", 16, 1280, "another")):
        edited = [other if i == j else value for j, value in enumerate(ORDER)]
        if i != 1:  # the folder counts only where one is chosen
            with pytest.raises(Refused, match="look at the cost first"):
                tab.started(priced, *edited)
    with pytest.raises(Refused, match="look at the cost first"):
        tab.started(None, *ORDER)
    assert list(tmp_path.iterdir()) == []
    shown = tab.started(priced, *ORDER)
    assert begun == [tmp_path / "mine"]
    assert stored(tmp_path / "mine").training.batch == 7
    assert shown[-1]["interactive"] is False


def test_who_leaves_while_a_cost_is_measured_is_not_computed_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tab = handlers(tmp_path)
    batches: list[int] = []
    loss = dryrun._loss

    def closing(trainer: Trainer, step: int) -> Tensor:
        batches.append(step)
        tab.desk.gate.leave("page")
        return loss(trainer, step)

    monkeypatch.setattr(dryrun, "_loss", closing)
    with pytest.raises(Left):
        tab.checked(SimpleNamespace(session_hash="page"), *ORDER)  # type: ignore[arg-type]
    assert len(batches) == 1
    with tab.desk.gate.turn():  # is free
        pass


def test_a_cost_that_takes_too_long_is_refused_with_a_way_out(tmp_path: Path) -> None:
    limits = Limits(seconds=1e-6)
    short = Desk(limits, Gate(limits), Shelf([], tmp_path), tmp_path)
    with pytest.raises(Late, match="choose a smaller size, or train from the command line"):
        train._Handlers(short, Runs(tmp_path)).checked(NOBODY, *ORDER)  # type: ignore[arg-type]


def test_what_can_be_picked_can_be_trained(tmp_path: Path) -> None:
    tab, names = handlers(tmp_path), train.trainable()
    assert {"gaussian-blur", "compose", "mixture", "choice"} <= set(names)
    assert "morph" not in names
    assert all(not build(tab.begun(name)).needs for name in names)
    for name in ("compose", "mixture", "choice"):
        recipe, _ = Order("a", "bundled:digits", tab.begun(name)).recipe()
        assert registry.label(type(build(recipe.degradation))) == name


def test_where_training_is_closed_the_page_says_so_and_does_nothing(tmp_path: Path) -> None:
    closed = handlers(tmp_path, trains=False)
    for do in (
        lambda: closed.checked(NOBODY, *ORDER),  # type: ignore[arg-type]
        lambda: closed.started(train.Priced(train._order(*ORDER), from_table({"degradation": ORDER[2]})), *ORDER),
        lambda: closed.stop("mine"),
        lambda: closed.save("mine"),
        lambda: closed.resume("mine"),
    ):
        with pytest.raises(Refused, match="this studio does not train"):
            do()

    async def built() -> gr.Blocks:  # inside a running loop: gradio leaves one open where there is none
        with gr.Blocks() as page:
            train.tab(desk(tmp_path, trains=False))
        return page

    page = asyncio.run(built())
    said = [block.value for block in page.blocks.values() if isinstance(block, gr.Markdown)]
    assert any("Training is closed here" in (text or "") for text in said)
    assert [block.max_length for block in page.blocks.values() if isinstance(block, gr.Textbox) and block.label == "Spec"] == [1000]
    assert all(fn.api_visibility == "private" for fn in page.fns.values())


def test_a_tick_without_news_sends_nothing_and_a_new_page_finds_the_run(tmp_path: Path) -> None:
    tab = handlers(tmp_path)
    first = tab.ticked(None, None)
    assert "No run yet" in first[1]
    assert tab.ticked(None, first[-1]) == [gr.skip()] * len(first)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.toml").write_text('degradation = "pixelate:levels=2"\n')
    found = tab.ticked(None, first[-1])
    assert found[0]["value"] == "mine"
    assert 'data-state="stopped"' in found[1]
    assert [button["interactive"] for button in found[2:6]] == [False, False, False, True]
    assert found[9] == "snowmelt train mine/recipe.toml --out mine"


def test_time_is_asked_for_only_while_a_run_is_shown_and_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tab = handlers(tmp_path)
    to, away = (SimpleNamespace(value=name) for name in (train.NAME, "Look"))
    assert tab.turned(to, None)[-2]["active"] is False  # no run
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text('degradation = "pixelate:levels=2"\n')
    assert tab.turned(to, "mine")[-2]["active"] is False  # stopped
    monkeypatch.setattr(tab.runs, "state", lambda name: State(name, "running" if name == "mine" else "stopped"))
    assert tab.turned(to, "mine")[-2]["active"] is True
    assert tab.looked("mine")[-2]["active"] is True
    assert tab.looked("other")[-2]["active"] is False
    assert tab.ticked("other", None)[-2]["active"] is False
    left = tab.turned(away, "mine")
    assert left[-2]["active"] is False
    assert [one for i, one in enumerate(left) if i != len(left) - 2] == [gr.skip()] * (len(left) - 1)
    assert set(tab.listed()["choices"]) == {"mine", "other"}


def test_a_page_that_is_opened_asks_no_clock(tmp_path: Path) -> None:
    async def built() -> gr.Blocks:
        with gr.Blocks() as page:
            train.tab(desk(tmp_path))
        return page

    page = asyncio.run(built())
    assert [block.active for block in page.blocks.values() if isinstance(block, gr.Timer)] == [False]


def test_the_command_names_no_folder_of_the_server_s_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.command(tmp_path / "runs" / "my first") == "snowmelt train 'runs/my first/recipe.toml' --out 'runs/my first'"
    assert train.command(tmp_path.parent / "runs" / "mine") == "snowmelt train mine/recipe.toml --out mine"


def test_a_tick_without_news_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "recipe.toml").write_text('degradation = "pixelate:levels=2"\n')
    tab, drawn = handlers(tmp_path), []
    monkeypatch.setattr(train, "curves", lambda state: drawn.append("curve") or "")
    monkeypatch.setattr(train, "sheet", lambda state: drawn.append("grid") or "")
    shown = tab.looked("mine")
    assert drawn == ["curve", "grid"]
    assert tab.ticked("mine", shown[-1]) == [gr.skip()] * len(shown)
    assert drawn == ["curve", "grid"]
    ticked = tab.ticked("mine", None)
    assert len(ticked) == len(shown)
    assert "value" not in ticked[0]  # a tick that was on its way when another run was begun does not lead back
    assert drawn == ["curve", "grid"] * 2


@pytest.mark.parametrize(("flags", "trains"), [((), True), (("--no-train",), False)])
def test_a_studio_that_is_only_shown_is_started_with_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], trains: bool
) -> None:
    from snowmelt.studio.web import app, server

    built: list[Desk] = []
    monkeypatch.setattr(app, "build", lambda desk, token: built.append(desk))
    monkeypatch.setattr(server, "serve", lambda *told, **named: 0)
    monkeypatch.setattr(server, "leave", lambda code: None)
    main(["studio", "--port", "0", "--folder", str(tmp_path), *flags])
    assert [desk.trains for desk in built] == [trains]


def test_what_a_run_says_is_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    state = State(evil, "failed", said=evil, degradation=evil, data=evil)
    shown = train.status(state)
    assert "<img" not in shown
    assert shown.count("&lt;img") == 4


def test_numbers_of_a_run_in_words() -> None:
    state = State("mine", "running", images=500, total=1000, loss=0.25, rate=50.0, losses={"training": [(1.0, 0.5), (2.0, 0.25)]})
    shown = train.status(state)
    assert "500 of 1,000 images (50%) · loss 0.25 · 50 images/s · about 10 s left" in shown
    assert 'role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="50"' in shown
    assert "width:50.00%" in shown
    nearly = train.status(State("mine", "running", images=999, total=1000))
    assert 'aria-valuenow="99"' in nearly
    assert "(99%)" in nearly
    assert 'aria-valuenow="0"' in train.status(State("mine", "starting"))
    assert train.curves(state).startswith('<div style="max-width:560px"><svg')
    assert train.curves(State("mine", "starting")) == ""
    assert [train._time(s) for s in (10, 89, 600, 7200)] == ["10 s", "89 s", "10 min", "2.0 h"]


def test_the_newest_grid_lies_in_the_page(tmp_path: Path) -> None:
    path = tmp_path / "000001280.png"
    Image.new("L", (4, 4)).save(path)
    shown = train.sheet(State("mine", "running", grid=path))
    assert 'src="data:image/png;base64,' in shown
    assert "after 1,280 images" in shown
    assert "max-height" not in shown  # its headings are to be read
    path.unlink()
    assert train.sheet(State("mine", "running", grid=path)) == ""
