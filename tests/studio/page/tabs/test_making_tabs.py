"""The handlers of Generate, Translate and Interpolate as functions: what the page is given, and what is refused in words."""

import asyncio
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

gr = pytest.importorskip("gradio")

import snowmelt  # noqa: E402
from snowmelt.data import images  # noqa: E402
from snowmelt.evaluation import Report  # noqa: E402
from snowmelt.model import Model, save  # noqa: E402
from snowmelt.priors import Normal  # noqa: E402
from snowmelt.restorers import Conditions, Restorer  # noqa: E402
from snowmelt.studio.desk import Desk  # noqa: E402
from snowmelt.studio.gate import Gate  # noqa: E402
from snowmelt.studio.limits import Late, Left, Limits, Refused  # noqa: E402
from snowmelt.studio.page.tabs import compare, generate, interpolate, restore, translate  # noqa: E402
from snowmelt.studio.page.visiting import Visitor  # noqa: E402
from snowmelt.studio.shelf import Shelf  # noqa: E402

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"
NAMES = ["cat", "dog", "owl"]


def saved(path: Path, degradation: str, classes: int = 0) -> None:
    torch.manual_seed(0)
    D = snowmelt.build(degradation)
    restorer = Restorer(D, snowmelt.registry.build(TINY, "backbone"), (1, 8, 8), conditions=Conditions(classes=classes))
    prior = Normal().fit([torch.zeros(1, 1, 8, 8)]) if degradation == "noise" else None
    save(Model(D, restorer, prior, notes={"classes": NAMES} if classes else {}), path)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    folder = tmp_path / "runs"
    saved(folder / "animals", "noise", len(NAMES))
    saved(folder / "plain", "noise")
    saved(folder / "morphing", "morph")
    limits = Limits(samples=20, steps=100)
    return Desk(limits, Gate(limits), Shelf([], folder), folder)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "three.png"
    images.write(path, torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return str(path)


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor(threading.Event(), gr.Progress(), str(tmp_path / "cache"))


def drawing(**other: Any) -> generate.Wish:
    return generate.Wish([], 4, 3, 1.0, None)._replace(**other)


def morphing(source: str | None, **other: Any) -> translate.Wish:
    return translate.Wish(source, 1, 0.0, next(iter(translate.ENDPOINTS)), None, 0)._replace(**other)


def on_the_way(**other: Any) -> interpolate.New:
    return interpolate.New(0, 1, 0, None, None, 4)._replace(**other)


def between(one: str | None, other: str | None) -> interpolate.Own:
    return interpolate.Own(one, other, 0.5, 0, 5)


def test_new_pictures_are_shown_with_their_walk_their_files_and_the_command(desk: Desk, visitor: Visitor) -> None:
    html, said, zipped, _, files, _, command = generate.made(desk, "animals", drawing(label=["owl", "cat"], guidance=2.0), visitor)
    assert html.count("<img") == 13, "the start and 12 calls"
    assert "data-scrubber" in html
    assert "seed 3" in said
    assert [Path(file).name for file in files] == [f"sample_000{i}.png" for i in range(4)]
    with zipfile.ZipFile(zipped["value"]) as archive:
        assert archive.namelist() == [Path(file).name for file in files]
    found = desk.shelf.opened("animals")
    x = snowmelt.generate(snowmelt.restoration.guided(found.model, 2.0), 4, seed=3, conditions={"label": torch.tensor([2, 2, 0, 0])})
    for one, file in zip(x, files, strict=True):
        assert (images.to_uint8(images.read(file).x) == images.to_uint8(one)).all()
        note = images.note(file)
        assert note is not None
        assert (note["model"], note["weights_sha256"]) == ("animals", found.weights)
    assert command.startswith("snowmelt sample ")
    assert command.endswith("--number 4 --seed 3 --label owl,cat --guidance 2 --out new")


def test_what_an_evaluation_said_of_new_pictures_stands_beside_them(desk: Desk, visitor: Visitor) -> None:
    assert "Nobody has measured" in generate.made(desk, "plain", drawing(), visitor)[1]
    said = ["Half of them *are* copies.", "<script>alert(1)</script>"]
    Report([], {}, said, generated={"measures": {}, "verdict": said}).write(desk.folder / "plain")
    words = generate.made(desk, "plain", drawing(), visitor)[1]
    assert "Half of them \\*are\\* copies." in words
    assert "<script" not in words.replace("\\<", "")


def test_a_model_that_does_something_else_or_is_gone_is_refused(desk: Desk, picture: str, visitor: Visitor) -> None:
    for name, words in ((None, "choose a model first"), ("morphing", "not one that draws"), ("../plain", "no model")):
        with pytest.raises(Refused, match=words):
            generate.made(desk, name, drawing(), visitor)
    with pytest.raises(Refused, match="not one that translates"):
        translate.made(desk, "plain", morphing(picture), visitor)
    with pytest.raises(Refused, match="undoes noise"):
        interpolate.blended(desk, "morphing", between(picture, picture), visitor)


def test_more_than_the_studio_allows_is_refused(desk: Desk, picture: str, visitor: Visitor) -> None:
    with pytest.raises(Refused, match="1 to 20"):
        generate.made(desk, "plain", drawing(number=21), visitor)
    with pytest.raises(Refused, match="more than 100"):
        generate.made(desk, "plain", drawing(calls=1000), visitor)
    with pytest.raises(Refused, match="more than 100"):
        translate.made(desk, "morphing", morphing(picture, calls=1000), visitor)
    with pytest.raises(Refused, match="1 to 20"):
        interpolate.made(desk, "plain", on_the_way(steps=33), visitor)


def test_a_picture_is_turned_into_another_with_all_that_was_believed(desk: Desk, picture: str, visitor: Visitor) -> None:
    wiper, walk, said, files, _, command = translate.made(desk, "morphing", morphing(picture, noise=0.1, answers=2, seed=4), visitor)
    assert wiper["visible"]
    assert "data-scrubber" in walk
    assert walk.count("<img") == 13
    assert "seeds 5" in said
    names = [Path(one).name for one in files["value"]]
    assert names == ["three-translated_0000.png", "three-translated_0001.png"]
    assert command.startswith("snowmelt translate three.png --model ")
    assert command.endswith("--noise 0.1 --seed 4 --out translated")
    for wrong, words in ((None, "no picture yet"), (__file__, "no picture|not a")):
        with pytest.raises(ValueError, match=words):
            translate.made(desk, "morphing", morphing(wrong), visitor)


def test_the_way_from_one_sample_to_another_and_the_python_that_walks_it_again(desk: Desk, visitor: Visitor, monkeypatch: Any) -> None:
    html, row, said, zipped, _, code = interpolate.made(desk, "animals", on_the_way(a=2, b=5, first="cat", last="owl"), visitor)
    assert html.count("<img") == 4
    assert row.startswith("<img src=")
    assert "from the middle on owl" in said
    monkeypatch.chdir(desk.folder.parent)
    again = interpolate.made(desk, "animals", on_the_way(a=2, b=5, first="cat", last="owl"), visitor)[-1]
    scope: dict[str, Any] = {}
    exec(again, scope)  # noqa: S102 - our own words, which a reader is told to run
    rows = torch.tensor([0, 0, 2, 2])
    model = desk.shelf.opened("animals").model
    assert torch.equal(scope["x"], snowmelt.interpolate(model, 4, seed=0, pair=(2, 5), conditions={"label": rows}))
    assert zipped["visible"]
    assert "'animals'" in code, "elsewhere on the disk a model is called by its name alone"


def test_the_way_between_two_pictures_and_the_python_for_it(desk: Desk, picture: str, tmp_path: Path, visitor: Visitor, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "other.png"
    images.write(other, -torch.ones(3, 20, 16))
    html, row, said, zipped, _, code = interpolate.blended(desk, "plain", between(picture, str(other)), visitor)
    assert html.count("<img") == 5
    assert row.startswith("<img src=")
    assert "severity 0.5" in said
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102 - our own words, which a reader is told to run
    with zipfile.ZipFile(zipped["value"]) as archive:
        files = [images.read(name, content=archive.read(name)).x for name in archive.namelist()]
    assert len(files) == len(scope["x"]) == 5
    for one, file in zip(scope["x"], files, strict=True):
        assert (images.to_uint8(file) == images.to_uint8(one)).all()
    with pytest.raises(Refused, match="no picture yet"):
        interpolate.blended(desk, "plain", between(picture, None), visitor)


def test_the_python_says_the_size_where_the_training_says_none(desk: Desk, picture: str, tmp_path: Path, visitor: Visitor, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    made = desk.shelf.opened("plain").model
    save(Model(made.degradation, made.restorer, made.prior, notes={"recipe": {"data": {"fit": "crop"}}}), desk.folder / "cropped")
    small = Limits(walk_px=8)
    code = interpolate.blended(Desk(small, Gate(small), desk.shelf, desk.folder), "cropped", between(picture, picture), visitor)[-1]
    scope: dict[str, Any] = {}
    exec(code, scope)  # noqa: S102 - our own words, which a reader is told to run
    assert scope["x"].shape == (5, 1, 8, 8)  # of a picture of 12 px


def calls_of(desk: Desk, name: str, then: Callable[[int], None]) -> list[int]:
    """The calls of a model's network; after each, `then` is told its number."""
    calls: list[int] = []
    net = desk.shelf.opened(name).model.restorer.net

    def called(module: object, told: object) -> None:
        calls.append(1)
        then(len(calls))

    net.register_forward_pre_hook(called)
    return calls


@pytest.mark.parametrize("tab", ["generate", "translate", "interpolate"])
def test_a_closed_page_stops_its_work_within_a_call(desk: Desk, picture: str, visitor: Visitor, tab: str) -> None:
    name = "morphing" if tab == "translate" else "plain"
    at = 9  # beyond what finding out how many samples fit takes

    def leave(n: int) -> None:
        if n == at:
            visitor.left.set()

    calls = calls_of(desk, name, leave)
    work = {
        "generate": lambda: generate.made(desk, name, drawing(calls=40), visitor),
        "translate": lambda: translate.made(desk, name, morphing(picture, calls=40), visitor),
        "interpolate": lambda: interpolate.made(desk, name, on_the_way(), visitor),
    }
    with pytest.raises(Left):
        work[tab]()
    assert len(calls) == at
    assert desk.gate.waiting == 0
    visitor.left.clear()
    assert generate.made(desk, "animals", drawing(number=1), visitor), "and the next one has its turn"


def test_a_wish_has_its_time_and_no_more(desk: Desk, visitor: Visitor) -> None:
    short = Limits(seconds=1e-6)
    with pytest.raises(Late, match="limit of one wish"):
        generate.made(Desk(short, Gate(short), desk.shelf, desk.folder), "plain", drawing(), visitor)


def built(tab: Callable[[Desk], None], desk: Desk) -> Any:
    """A page with a tab alone, made inside a running loop: gradio leaves one open where there is none."""

    async def made() -> Any:
        with gr.Blocks() as page:
            tab(desk)
        return page

    return asyncio.run(made())


def test_the_tabs_build_with_and_without_models_and_keep_their_handlers_to_themselves(desk: Desk, tmp_path: Path) -> None:
    empty = Desk(desk.limits, desk.gate, Shelf([], tmp_path / "none"), tmp_path / "none")
    for one in (desk, empty):
        for tab in (generate, translate, interpolate):
            page = built(tab.tab, one)
            assert page.fns
            assert {fn.api_visibility for fn in page.fns.values()} == {"private"}
            pictures = [block for block in page.blocks.values() if isinstance(block, gr.Image)]
            assert all((block.type, block.image_mode, block.sources) == ("filepath", None, ["upload", "clipboard"]) for block in pictures)


@pytest.mark.parametrize("tab", [generate, interpolate])
def test_what_goes_wrong_with_a_list_is_said_in_plain_words(desk: Desk, tab: Any) -> None:
    handlers = tab._Handlers(desk)
    assert [update["visible"] for update in handlers.listed()[:2]] == [False, True]
    assert set(handlers.listed("plain")[2]["choices"]) == {"animals", "plain"}
    page = built(tab.tab, desk)
    named = {fn.fn.__name__: fn.fn for fn in page.fns.values() if fn.fn is not None}
    (desk.folder / "plain" / "model.json").write_text("{")
    for chosen, words in (("plain", "JSON"), ("gone", "no model 'gone'")):
        with pytest.raises(gr.Error, match=words) as told:
            named["chosen"](chosen)
        assert str(desk.folder) not in str(told.value)


@pytest.mark.parametrize("tab", [generate, interpolate, translate])
def test_opening_the_list_of_models_sends_no_choice_back(desk: Desk, tab: Any) -> None:
    page, now, names = built(tab.tab, desk), {generate: "plain", interpolate: "plain", translate: "morphing"}, {"listed", "refresh"}
    focus = next(fn.fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ in names and fn.targets[0][1] == "focus")
    _, _, menu, *labels = focus(now[tab])
    assert now[tab] in menu["choices"]
    assert "value" not in menu, "it would undo what is chosen while the answer is under way"
    assert all(label == gr.skip() for label in labels), "labels that were chosen stay"
    _, _, menu, *labels = focus("gone")
    assert menu["value"] in menu["choices"]
    assert all("value" in label for label in labels), "another model draws other things"


@pytest.mark.parametrize(("tab", "picked", "gone"), [(generate, [["cat", "dog"]], [["cat", "owl"]]), (interpolate, ["", "dog"], ["", "owl"])])
def test_opening_a_menu_of_labels_brings_those_of_a_model_that_was_trained_again(desk: Desk, tab: Any, picked: list[Any], gone: list[Any]) -> None:
    made = desk.shelf.opened("animals").model
    save(Model(made.degradation, made.restorer, made.prior, notes={"classes": ["cat", "dog", "elk"]}), desk.folder / "animals")
    opened = [fn for fn in built(tab.tab, desk).fns.values() if fn.targets[0][1] == "focus" and fn.inputs[1:]]
    assert [fn.targets[0][0] for fn in opened] == [one._id for one in opened[0].outputs], "each menu of labels"

    def labels(chosen: list[Any]) -> list[Any]:
        found = opened[0].fn("animals", *chosen)
        return found if isinstance(found, list) else [found]

    for menu in (*labels(picked), *labels(gone)):
        assert [one if isinstance(one, str) else one[0] for one in menu["choices"]][-3:] == ["cat", "dog", "elk"]
    assert all("value" not in menu for menu in labels(picked)), "it would undo what is picked while the answer is under way"
    assert not any(menu["value"] for menu in labels(gone)), "what it draws no more cannot be asked for"


@pytest.mark.parametrize(
    ("tab", "pressed"),
    [(generate, ["Generate", "Another seed"]), (translate, ["Translate"]), (interpolate, ["Go from one to the other"] * 2), (restore, ["Restore"])],
)
def test_a_new_wish_takes_all_of_the_one_before_away_before_it_is_asked(desk: Desk, tab: Any, pressed: list[str]) -> None:
    """A refusal has no outputs: what it leaves there would be taken for the result."""
    page = built(tab.tab, desk)
    buttons = [block for block in page.blocks.values() if isinstance(block, gr.Button) and block.value in pressed]
    assert len(buttons) == len(pressed)
    makes = {"made", "blended", "make", "restored"}
    result = next(fn.outputs for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ in makes)
    assert any(isinstance(one, gr.DownloadButton | gr.Files) for one in result)
    for button in buttons:
        first = next(fn for fn in page.fns.values() if (button._id, "click") in fn.targets)
        assert first.fn is None  # in the browser, where no answer can come too late
        assert first.outputs == result
        for one, now in zip(result, json.loads(first.js.removeprefix("() => ")), strict=True):
            assert not now.get("value"), type(one).__name__
            assert ("value" in now) == hasattr(one, "value")
            assert now["visible"] == one.visible
            assert now.get("label") == getattr(one, "label", None), "the name of a result goes with it"


@pytest.mark.parametrize(("tab", "pressed"), [(compare, "Compare"), (compare, "Restore with each"), (compare, "Show here"), (restore, "Compare")])
def test_what_is_beside_each_other_goes_before_others_are_asked_for(desk: Desk, tab: Any, pressed: str) -> None:
    page = built(tab.tab, desk)
    button = next(block for block in page.blocks.values() if isinstance(block, gr.Button) and block.value == pressed)
    first, second = (fn for fn in page.fns.values() if (button._id, "click") in fn.targets)
    assert first.fn is None
    assert first.outputs == [one for one in second.outputs if not isinstance(one, gr.Dropdown)], "a menu stays as it is"


def test_who_waits_for_a_turn_holds_no_pixels(desk: Desk, picture: str, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[bool] = []

    def watched(read: Callable[..., Any]) -> Callable[..., Any]:
        def opened(*told: Any) -> Any:
            waiting.append(not desk.gate._line)
            return read(*told)

        return opened

    for tab in (translate, interpolate):
        monkeypatch.setattr(tab, "opened", watched(tab.opened))
    translate.made(desk, "morphing", morphing(picture), visitor)
    interpolate.blended(desk, "plain", between(picture, picture), visitor)
    assert waiting == [False] * 3


def test_where_no_model_translates_it_says_the_command_and_sends_nobody_to_a_tab_that_refuses() -> None:
    from snowmelt.studio.page.tabs import train

    assert "morph" not in train.trainable()
    assert "choose *morph*" not in translate.NONE
    assert "snowmelt train --degradation morph --data FACES --data.endpoint CATS" in translate.NONE


def test_gradio_hands_every_handler_what_it_asks_for_and_takes_what_it_gives(desk: Desk, picture: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    file = {"path": picture, "orig_name": "three.png", "meta": {"_type": "gradio.FileData"}}

    def told(tab: Any, name: str, *given: Any) -> list[Any]:
        page = built(tab.tab, desk)
        for block in page.blocks.values():
            if isinstance(block, gr.Dropdown):
                block.allow_custom_value = True  # what the menus hold is sent to the browser as the page opens
        fn = next(fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ == name)
        monkeypatch.setattr("gradio.processing_utils.check_all_files_in_cache", lambda data: None)
        request = gr.Request(username=None, session_hash="somebody")
        return asyncio.run(page.process_api(fn, list(given), request=request))["data"]

    (labels,) = told(generate, "chosen", "animals")
    assert [name for name, _ in labels["choices"]] == NAMES
    first, last = told(interpolate, "chosen", "animals")
    assert first["value"] == last["value"] == "", "another model may know none of the labels that were chosen"
    assert [name for name, _ in first["choices"]] == [name for name, _ in last["choices"]] == ["anything", *NAMES]
    assert "2 new pictures" in told(generate, "made", "animals", ["owl"], 2, 3, 2.0, 4)[0]
    assert "from picture 0 to picture 1 of seed 5" in told(interpolate, "made", "plain", 0, 1, 5, "", "", 3)[2]
    assert "degraded to severity 0.25" in told(interpolate, "blended", "plain", file, file, 0.25, 5, 3)[2]
    assert "seed 4" in told(translate, "make", "morphing", file, 1, 0.1, next(iter(translate.ENDPOINTS)), 3, 4)[2]
