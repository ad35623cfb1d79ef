"""The Restore tab: its handlers called as functions."""

import asyncio
import dataclasses
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

gr = pytest.importorskip("gradio")

from gradio.helpers import special_args  # noqa: E402

import snowmelt  # noqa: E402
from snowmelt import registry  # noqa: E402
from snowmelt.cli import main  # noqa: E402
from snowmelt.data.images import note, read, write  # noqa: E402
from snowmelt.files import read_json, write_sealed  # noqa: E402
from snowmelt.model import Model, save  # noqa: E402
from snowmelt.randomness import generator  # noqa: E402
from snowmelt.restorers import Restorer  # noqa: E402
from snowmelt.studio.desk import Desk  # noqa: E402
from snowmelt.studio.gate import Gate  # noqa: E402
from snowmelt.studio.limits import Limits, Refused  # noqa: E402
from snowmelt.studio.page import examples  # noqa: E402
from snowmelt.studio.page.examples import example  # noqa: E402
from snowmelt.studio.page.restoring import Wish, about, beside, by_chance, commands, elsewhere, shown, trained_on, work  # noqa: E402
from snowmelt.studio.page.tabs.restore import CLEAN, DAMAGED, _Handlers, tab  # noqa: E402
from snowmelt.studio.shelf import Entry, Shelf  # noqa: E402

NOBODY = SimpleNamespace(session_hash=None)


def nothing() -> None:
    """Nobody leaves."""


def page_of(desk: Desk) -> gr.Blocks:
    """A page with nothing but this tab."""

    async def made() -> gr.Blocks:
        with gr.Blocks() as page:
            tab(desk)
        return page

    return asyncio.run(made())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a blur, not trained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("studio") / "blur"
    D = snowmelt.build("gaussian-blur:sigma_px=2")
    net = registry.build("unet:widths=(8,8),patch=2,groups=4,blocks=1", "backbone")
    save(Model(D, Restorer(D, net, (3, 16, 16)).fit([example("coffee")[None, :, :16, :16]])), path)
    return path


@pytest.fixture
def desk(run: Path, tmp_path: Path) -> Desk:
    limits = Limits(walk_px=32)
    return Desk(limits, Gate(limits), Shelf([run], tmp_path / "runs"), tmp_path / "runs")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "mine.png", example("coffee")[:, 100:140, 100:160])
    return tmp_path / "mine.png"


def asked(model: str, upload: Path, source: str, mode: str = "faithful", *, severity: float = 1.0, anyway: bool = False) -> tuple:
    return (model, str(upload), "cat", source, mode, True, severity, 0, anyway)


def test_a_wish_is_granted_with_before_and_after_every_step_and_the_file(
    desk: Desk, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    out = _Handlers(desk).restored(NOBODY, lambda *_, **__: None, *asked("blur", file, CLEAN, "best", severity=0.5))
    wiper, words, download, every, steps, shell, python = out
    assert wiper["label"] == "Degraded | Sampled"
    assert [one.shape for one in wiper["value"]] == [(7 * 40, 7 * 60, 3)] * 2  # small ones in squares
    assert not np.array_equal(*wiper["value"])
    assert words.startswith("Degraded here by `gaussian-blur")
    assert ", severity t = 0.50 (blur of " in words
    assert ", seed 0. **blur** was trained to undo `gaussian-blur" in words
    assert "| Degraded | Sampled |" in words
    assert "1 of 13: t = 0.50" in steps
    assert "13 of 13: t = 0: restored" in steps
    assert "1 = degraded … 13 = restored (sampled)" in steps
    assert "PSNR" in words
    assert "SSIM" in words
    assert "**blur**" in words
    assert steps.count("<img ") == 13
    assert every["visible"]
    assert every["open"]
    assert download["visible"]
    made = Path(download["value"])
    assert made.name == "mine-restored.png"
    assert made.is_relative_to(tmp_path / "cache")
    assert read(made).x.shape == (3, 40, 60)
    said = note(made)
    assert said["model"] == "blur"
    assert said["sampler"] == "tacos:steps=12,order=2"
    assert said["severity"] == 0.5
    assert shlex.split(shell)[:3] == ["snowmelt", "restore", "mine.png"]
    assert "restore_folder(" in python


@pytest.mark.parametrize(("model", "clean"), [("blur", False), ("photo", True)])
def test_the_command_and_the_python_that_it_shows_make_the_same_file(
    model: str, clean: bool, desk: Desk, run: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    shutil.copyfile(file, run.parent / "mine.png")
    wish = Wish(model, str(file), clean=clean, mode="best", severity=None if model == "photo" else 0.5, seed=4)  # photo draws its damage
    done = work(desk, wish, nothing)
    (tmp_path / "done").mkdir()
    mine = read(done.write(tmp_path / "done")).x
    shell, python = commands(desk, wish)
    assert main([*shlex.split(shell)[1:], "--out", str(tmp_path / "cli")]) == 0
    assert torch.equal(read(tmp_path / "cli" / "mine.png").x, mine)
    exec(python.replace("\n)", f"\n    out={str(tmp_path / 'python')!r},\n)"), {})  # noqa: S102 - the lines that the page shows
    assert torch.equal(read(tmp_path / "python" / "mine.png").x, mine)


def in_a_shell(lines: str) -> None:
    """The command lines that the page shows, without a shell of their own."""
    for words in map(shlex.split, lines.splitlines()):
        if words[0] == "python":
            exec(words[2], {})  # noqa: S102 - the lines that the page shows
        else:
            assert words[0] == "snowmelt"
            assert main(words[1:]) in (0, None)


@pytest.mark.parametrize("name", ["cat", examples.NAMES[-1]])
def test_what_it_shows_of_a_bundled_picture_needs_no_file(name: str, desk: Desk, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "blur")
    desk = Desk(desk.limits, desk.gate, Shelf(["blur"], tmp_path / "runs"), tmp_path / "runs")
    wish = Wish("blur", None, name, severity=1.0, seed=2)
    shell, python = commands(desk, wish)
    in_a_shell(f"{shell} --out cli")
    assert torch.equal(read(wish.file).x, example(name))
    Path(wish.file).unlink()
    exec(python.replace("\n)", "\n    out='python',\n)"), {})  # noqa: S102 - the lines that the page shows
    done = work(desk, wish, nothing)
    (tmp_path / "done").mkdir()
    mine = read(done.write(tmp_path / "done")).x
    assert torch.equal(read(tmp_path / "cli" / wish.file).x, mine)
    assert torch.equal(read(tmp_path / "python" / wish.file).x, mine)


def test_gradio_tells_the_handler_how_far_it_is(desk: Desk) -> None:
    fn = next(fn for fn in page_of(desk).fns.values() if fn.fn is not None and fn.fn.__name__ == "restored")
    given = [f"asked {i}" for i in range(9)]
    told, progress, *_ = special_args(fn.fn, list(given), request=NOBODY)
    assert progress is not None
    assert isinstance(told[progress], gr.Progress)
    assert told[-9:] == given


def test_the_result_keeps_opacity_and_depth(desk: Desk, tmp_path: Path) -> None:
    x, alpha = example("coffee")[:, :24, :32], torch.linspace(0, 1, 24 * 32).reshape(1, 24, 32)
    write(tmp_path / "deep.png", x, alpha=alpha, bits=16)
    done = work(desk, Wish("blur", str(tmp_path / "deep.png"), clean=False, severity=0.3), nothing)
    (tmp_path / "out").mkdir()
    found = read(done.write(tmp_path / "out"))
    assert found.bits == 16
    assert found.alpha is not None
    assert torch.allclose(found.alpha, alpha, atol=1e-4)


def test_what_is_hidden_says_nothing(desk: Desk, file: Path) -> None:
    handlers = _Handlers(desk)
    blind = handlers.wish(*asked("photo", file, DAMAGED, severity=0.2, anyway=True))
    assert blind.severity is None
    assert blind.anyway
    told = handlers.wish(*asked("blur", file, DAMAGED, severity=0.2, anyway=True))
    assert told.severity == 0.2
    assert not handlers.wish(*asked("photo", file, CLEAN, anyway=True)).anyway
    assert "--severity" not in commands(desk, blind)[0]
    assert "--anyway" in commands(desk, blind)[0]
    assert "--faithful" not in commands(desk, blind)[0]
    assert "--faithful" in commands(desk, told)[0]


def test_what_can_be_set_follows_the_model(desk: Desk) -> None:
    handlers = _Handlers(desk)
    visible = [update["visible"] for update in handlers.fitted("photo", DAMAGED, True)[1:]]
    assert visible == [False, False, False, True, False, False]
    visible = [update["visible"] for update in handlers.fitted("blur", CLEAN, True)[1:]]
    assert visible == [True, False, True, False, True, True]
    assert [update["visible"] for update in handlers.fitted("blur", DAMAGED, True)[1:]] == [True, False, True, False, False, False]
    assert "blind" in about(desk, "photo")
    assert "has to be told" in about(desk, "blur")
    assert set(handlers.listed()["choices"]) == {"blur", "photo"}


def test_a_seed_that_nobody_sees_says_nothing(desk: Desk, file: Path) -> None:
    handlers = _Handlers(desk)
    for source, seed in ((CLEAN, 7), (DAMAGED, 0)):
        assert handlers.wish("blur", str(file), "cat", source, "best", True, 1.0, 7, False).seed == seed
    assert [by_chance(Model(snowmelt.build(spec), lambda x, t: x)) for spec in ("noise", "gaussian-blur")] == [True, False]
    assert not by_chance(desk.shelf.opened("photo").model)


def test_of_two_frames_the_wiper_shows_all_there_is(desk: Desk, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    every = _Handlers(desk).restored(NOBODY, lambda *_, **__: None, *asked("blur", file, CLEAN))[3]
    assert (every["visible"], every["open"]) == (True, False)


def test_without_a_picture_or_a_tuned_copy_the_way_out_is_named(desk: Desk, run: Path, file: Path) -> None:
    with pytest.raises(Refused, match="^there is no picture yet: drop one first$"):
        work(desk, Wish("blur", None, clean=False), nothing)
    with pytest.raises(ValueError, match="snowmelt tune"):
        work(desk, Wish("blur", str(file), mode="fast"), nothing)
    with pytest.raises(Refused, match="no model 'nobody'"):
        commands(desk, Wish("nobody"))


def test_fast_takes_the_tuned_copy(run: Path, file: Path, tmp_path: Path) -> None:
    whole = tmp_path / "both"
    shutil.copytree(run, whole)
    shutil.copytree(run, whole / "fast")
    write_sealed(whole / "fast" / "model.json", read_json(whole / "fast" / "model.json") | {"estimates": "consistency(0.94)"})
    limits = Limits()
    desk = Desk(limits, Gate(limits), Shelf([whole], tmp_path / "runs"), tmp_path / "runs")
    done = work(desk, Wish("both", str(file), mode="fast", severity=1.0), nothing)
    assert done.opened.name == "both/fast"
    assert len(done.walked.frames) == 3  # two calls
    assert "--fast" in commands(desk, Wish("both", mode="fast"))[0]


def test_the_photo_model_restores_an_example_and_says_so(desk: Desk) -> None:
    done = work(desk, Wish("photo", None, "cat"), nothing)
    assert done.scores is not None
    (before, _), (after, _) = done.scores
    assert after > before + 3
    assert "What the model sees: " in done.summary()
    assert done.result == "Direct"
    assert re.search(r"^Degraded here by what seed 0 drew: .*\. \*\*photo\*\* was trained on photographs to undo grey, ", done.summary())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_a_blind_models_damage_was_is_what_was_drawn(desk: Desk, seed: int) -> None:
    wish = Wish("photo", None, "cat", seed=seed)
    walked, model = work(desk, wish, nothing).walked, desk.shelf.opened("photo").model
    x = example("cat")[None]
    z = model.draw(x, [generator(seed, "restore/cat.png")])
    assert torch.equal(model.degrade(x, torch.ones(1), z), walked.start)
    levels = {name: float(t) for name, t in model.degradation.unknowns(torch.ones(1), z).items() if t > 0}
    said = walked.damage.partition("drew: ")[2]
    if not levels:
        assert said == "nothing, this time."
    else:
        found = {part.partition(", severity t = ")[0]: part.partition(", severity t = ")[2][:4] for part in said.split(" + ")}
        assert found == {name: f"{t:.2f}" for name, t in levels.items()}


def test_what_was_brought_degraded_is_not_said_to_be_degraded_here(desk: Desk, file: Path) -> None:
    said = work(desk, Wish("blur", str(file), clean=False, severity=0.5), nothing).summary()
    assert "Degraded here" not in said
    assert said.startswith("**blur** was trained to undo `gaussian-blur")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"data": {"path": "cid22_photos_256"}}, "was trained on photographs to undo"),
        (None, "was trained to undo"),
        ({"data": {"path": "bundled:digits"}}, "was trained on the pictures of bundled:digits to undo"),
        ({"data": {"path": "/home/me/my <b>pictures"}}, r"was trained on the pictures of my \<b\>pictures to undo"),
        ({"data": {"path": 3}}, "was trained to undo"),
        ("strange", "was trained to undo"),
    ],
)
def test_what_a_model_was_trained_on_is_said_without_the_servers_paths(desk: Desk, recipe: object, said: str) -> None:
    found = desk.shelf.opened("blur")
    notes = {} if recipe is None else {"recipe": recipe}
    assert said in trained_on(found._replace(model=dataclasses.replace(found.model, notes=notes)))


def test_what_looks_clean_is_left_and_the_file_is_what_came(desk: Desk, tmp_path: Path) -> None:
    write(tmp_path / "clean.png", example("cat"))
    done = work(desk, Wish("photo", str(tmp_path / "clean.png"), clean=False), nothing)
    assert "looks clean" in done.summary()
    (tmp_path / "out").mkdir()
    path = done.write(tmp_path / "out")
    assert torch.equal(read(path).x, read(tmp_path / "clean.png").x)
    assert note(path) is None


def test_ways_side_by_side_come_with_their_captions(desk: Desk, file: Path) -> None:
    found = _Handlers(desk).compared(NOBODY, *asked("blur", file, CLEAN), 3)
    captions = re.findall(r"<figcaption><b>(.*?)</b><br>(.*?)</figcaption>", found)
    assert [name for name, _ in captions][::3] == ["Degraded", "TACoS (Algorithm 2), 3 calls"]
    assert len(captions) == 5
    assert all(re.fullmatch(r"\d+\.\d\d dB, SSIM -?[01]\.\d{3}", scores) for _, scores in captions)
    with pytest.raises(Refused, match="251 calls lie outside"):
        beside(desk, Wish("blur"), 251, nothing)


def test_models_of_other_signals_are_named_with_the_command_that_serves_them() -> None:
    speech = Entry("speech", "runs/speech", "background", "sound", False, (), 1)
    assert elsewhere([speech]) == "Not for pictures, so not on this page: speech (sound): `snowmelt restore FILE.wav --model runs/speech`."
    assert elsewhere([]) == ""


def test_pictures_are_shown_at_a_size_that_can_be_seen() -> None:
    assert shown(torch.zeros(1, 8, 8)).shape == (384, 384, 3)
    assert shown(torch.zeros(3, 1000, 2000)).shape == (640, 1280, 3)
    assert shown(torch.zeros(3, 300, 400)).shape == (300, 400, 3)


def test_a_hostile_picture_is_refused_in_a_sentence(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "evil.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="not a picture"):
        work(desk, Wish("blur", str(tmp_path / "evil.png"), clean=False, severity=1.0), nothing)
    Image.fromarray(np.zeros((2000, 2000), np.uint8)).save(tmp_path / "large.png")
    small = Desk(Limits(megapixels=1), desk.gate, desk.shelf, desk.folder)
    with pytest.raises(Refused, match="megapixels"):
        work(small, Wish("blur", str(tmp_path / "large.png"), clean=False, severity=1.0), nothing)


def test_the_tab_is_built_and_its_events_are_nobody_elses(desk: Desk) -> None:
    page = page_of(desk)
    assert all(fn.api_visibility == "private" for fn in page.fns.values())
    images = [block for block in page.blocks.values() if isinstance(block, gr.Image)]
    assert images
    assert all(image.type == "filepath" and image.image_mode is None for image in images)
