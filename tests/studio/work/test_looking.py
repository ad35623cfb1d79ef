"""The work of Look and Restore, without a page."""

import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

import snowmelt
from snowmelt import registry
from snowmelt.data.images import Picture, read, resize, to_channels
from snowmelt.model import Model, load
from snowmelt.randomness import generators
from snowmelt.restoration import restore_folder
from snowmelt.restorers import Restorer
from snowmelt.samplers import TACoS
from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Left, Limits, Refused
from snowmelt.studio.page.examples import NAMES, example
from snowmelt.studio.work.looking import BLIND, MOST_FRAMES, degraded, meant_by, measured, restored, walk_of, watched
from snowmelt.studio.work.ways import side_by_side


def nothing() -> None:
    """Nobody leaves."""


def tiny(spec: str = "gaussian-blur:sigma_px=2", channels: int = 3, **fields: object) -> Model:
    torch.manual_seed(0)
    D = snowmelt.build(spec)
    backbone = registry.build("unet:widths=(8,8),patch=2,groups=4,blocks=1", "backbone")
    return Model(D, Restorer(D, backbone, (channels, 16, 16)).fit([torch.rand(4, channels, 16, 16) * 2 - 1]), **fields)


def counted(model: Model, after: threading.Event | None = None, at: int = 0) -> list[int]:
    """How often the network of a model is called; sets the event at a call."""
    calls: list[int] = []

    def call(*_: object) -> None:
        calls.append(len(calls))
        if after is not None and len(calls) == at:
            after.set()

    model.restorer.net.register_forward_hook(call)
    return calls


@pytest.fixture
def cat() -> torch.Tensor:
    return resize(example("cat"), (40, 60))[None]


@pytest.fixture(scope="module")
def photo() -> Model:
    return load("photo")


# --- looking ---------------------------------------------------------------------------------------


def test_what_is_looked_at_is_what_the_command_draws(cat: torch.Tensor) -> None:
    D = snowmelt.build("snow")
    z = D.draw(cat, generators(3, "degrade", [0]))
    frames = degraded(D, cat, [0.0, 0.5, 1.0], seed=3, check=nothing)
    assert torch.equal(frames[0], cat)
    assert torch.equal(frames[2], D(cat, torch.ones(1), z))
    assert not torch.equal(frames[2], degraded(D, cat, [1.0], seed=4, check=nothing)[0])


def test_a_morph_ends_in_a_second_picture_of_any_size_and_says_so_without_one(cat: torch.Tensor) -> None:
    D = snowmelt.build("morph:schedule=linear")
    grey = example("digit, 8 px")[None]
    assert degraded(D, cat, [1.0], endpoint=grey, check=nothing)[0].shape == cat.shape
    with pytest.raises(Refused, match="choose a second picture"):
        degraded(D, cat, [1.0], check=nothing)


@pytest.mark.parametrize("spec", ["low-pass", "beam-drop"])
def test_what_is_not_for_pictures_is_refused_with_the_command_that_serves_it(spec: str, cat: torch.Tensor) -> None:
    with pytest.raises(Refused, match=f"snowmelt degrade FILE --degradation {spec}"):
        degraded(snowmelt.build(spec), cat, [1.0], check=nothing)


def test_looking_stops_between_two_severities(cat: torch.Tensor) -> None:
    seen: list[int] = []

    def check() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise Left("gone")

    with pytest.raises(Left):
        degraded(snowmelt.build("noise"), cat, [i / 20 for i in range(21)], check=check)
    assert len(seen) == 3


def test_looking_stops_between_two_parts_of_a_composition(cat: torch.Tensor) -> None:
    D = snowmelt.build("gaussian-blur:sigma_px=2+snow+noise")
    seen: list[int] = []
    frames = degraded(D, cat, [0.5, 1.0], seed=3, check=lambda: seen.append(1))
    assert len(seen) == 2 * 3
    z = D.draw(cat, generators(3, "degrade", [0]))
    assert torch.equal(frames[1], D(cat, torch.ones(1), z))

    def check() -> None:
        seen.append(1)
        raise Left("gone")

    seen.clear()
    with pytest.raises(Left):
        degraded(D, cat, [0.5, 1.0], check=check)
    assert len(seen) == 1


def test_a_spec_is_bounded() -> None:
    long = "+".join(["grey"] * 201)
    assert len(long) > 1000
    for ask in (lambda: meant_by(long), lambda: degraded(snowmelt.build(long), torch.zeros(1, 3, 8, 8), [1.0], check=nothing)):
        with pytest.raises(Refused, match="1,004 letters"):
            ask()
    assert meant_by("grey+noise") == snowmelt.build("grey+noise")


def test_a_severity_outside_its_range_is_refused(cat: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="severity"):
        degraded(snowmelt.build("noise"), cat, [1.2], check=nothing)


def test_threads_are_given_back(cat: torch.Tensor) -> None:
    before = torch.get_num_threads()
    degraded(snowmelt.build("noise"), cat, [1.0], check=nothing)
    assert torch.get_num_threads() == before


# --- restoring ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["faithful", "best"])
@pytest.mark.parametrize(("spec", "degrade"), [("gaussian-blur:sigma_px=2", False), ("motion-blur", False), ("motion-blur", True)])
def test_the_page_and_the_command_make_the_same_file(mode: str, spec: str, degrade: bool, tmp_path: Path, cat: torch.Tensor) -> None:
    from snowmelt.data.images import write

    model = tiny(spec)
    write(tmp_path / "cat.png", cat[0])
    x = read(tmp_path / "cat.png").x[None]
    found = restored(model, x, severity=0.5, mode=mode, seed=7, check=nothing, degrade=degrade, key="cat.png")
    sampler = None if mode == "faithful" else "default"
    restore_folder(tmp_path / "cat.png", model=model, out=tmp_path / "out", severity=0.5, sampler=sampler, seed=7, degrade=degrade)
    write(tmp_path / "mine.png", found.x[0])
    assert torch.equal(read(tmp_path / "mine.png").x, read(tmp_path / "out" / "cat.png").x)


def test_a_walk_shows_every_state_and_ends_with_the_result(cat: torch.Tensor) -> None:
    told: list[tuple[int, int]] = []
    found = restored(tiny(), cat, severity=1.0, mode=TACoS(steps=5), check=nothing, tell=lambda i, n: told.append((i, n)))
    assert len(found.frames) == len(found.labels) == 6
    assert all(frame.shape == cat.shape for frame in found.frames)
    assert torch.equal(found.frames[-1], found.x)
    assert torch.equal(found.frames[0], cat)
    assert found.labels[0].startswith("t = 1.00 (blur of 2 px)")
    assert told == [(i, 5) for i in range(6)]
    assert found.how == "tacos:steps=5, from t = 1, seed 0"


def test_frames_of_a_long_walk_and_of_a_large_picture_are_bounded_and_the_result_is_not(cat: torch.Tensor) -> None:
    found = restored(tiny(), cat, severity=1.0, mode=TACoS(steps=100), check=nothing, walk_px=30)
    assert len(found.frames) == len(found.labels) == MOST_FRAMES
    assert {tuple(frame.shape) for frame in found.frames} == {(1, 3, 20, 30)}
    assert found.x.shape == cat.shape


def test_whoever_leaves_stops_the_walk_within_one_call(cat: torch.Tensor) -> None:
    gate, model, gone = Gate(Limits()), tiny(), threading.Event()
    calls = counted(model, gone, at=3)
    with pytest.raises(Left), gate.turn(gone) as turn:
        restored(model, cat, severity=1.0, mode=TACoS(steps=50), check=turn.check)
    assert len(calls) == 3
    assert restored(model, cat, severity=1.0, mode="faithful", check=nothing).frames  # nothing is left in the model that would ask again


def test_whoever_leaves_stops_a_large_picture_between_two_tiles(cat: torch.Tensor) -> None:
    import copy
    import dataclasses

    from snowmelt.restorers.tiles import Tiles

    model, gone = tiny(), threading.Event()
    restorer = copy.copy(model.restorer)
    restorer.tiles = Tiles(16, 4)
    calls, gate = counted(model, gone, at=2), Gate(Limits())
    with pytest.raises(Left), gate.turn(gone) as turn:
        restored(dataclasses.replace(model, restorer=restorer), cat, severity=1.0, mode="faithful", check=turn.check)
    assert len(calls) == 2


def test_a_plain_function_is_watched_too() -> None:
    model = Model(snowmelt.build("gaussian-blur"), lambda x, t: x)

    def check() -> None:
        raise Left("gone")

    with watched(model, check) as watching, pytest.raises(Left):
        watching.restorer(torch.zeros(1), torch.zeros(1))


def test_a_blind_model_restores_in_one_call_whatever_is_asked_and_says_what_it_sees(photo: Model, cat: torch.Tensor) -> None:
    noisy = degraded(snowmelt.build("noise:schedule=ve(sigma_max=0.3)"), resize(example("cat"), (64, 96))[None], [1.0], check=nothing)[0]
    found = [restored(photo, noisy.clamp(-1, 1), severity=None, mode=mode, check=nothing, anyway=True) for mode in ("fast", "faithful", "best")]
    assert all(torch.equal(one.x, found[0].x) for one in found)
    assert all(BLIND in one.said and len(one.frames) == 2 for one in found)
    assert any(text.startswith("What the model sees: ") for text in found[0].said)


def test_what_looks_clean_to_a_blind_model_is_left_as_it_is_and_said(photo: Model) -> None:
    x = example("cat")[None]
    found = restored(photo, x, severity=None, mode="best", check=nothing)
    assert torch.equal(found.x, x)
    assert found.how == "left as it is"
    assert any("looks clean" in text for text in found.said)
    assert not torch.equal(restored(photo, x[..., :64, :64], severity=None, mode="best", check=nothing, anyway=True).x, x[..., :64, :64])


def test_grey_stays_grey_and_colour_is_taken_from_what_knows_none(cat: torch.Tensor) -> None:
    grey = to_channels(cat, 1)
    assert restored(tiny(), grey, severity=0.5, mode="faithful", check=nothing).x.shape == grey.shape
    of_grey = restored(tiny(channels=1), cat, severity=0.5, mode="faithful", check=nothing)
    assert of_grey.x.shape[1] == 1
    assert any("only grey" in text for text in of_grey.said)


def test_a_model_that_cannot_tell_has_to_be_told(cat: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="give severity"):
        restored(tiny(), cat, severity=None, mode="faithful", check=nothing)
    assert restored(tiny(), cat, severity=None, mode="faithful", degrade=True, check=nothing).note["severity"] == 1.0


def test_modes_that_a_model_does_not_have_are_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="snowmelt tune"):
        walk_of(tiny(), "fast")
    tuned = tiny("noise", estimates="consistency(0.94)")
    assert walk_of(tuned, "fast") == "default"
    for mode in ("faithful", "best"):
        with pytest.raises(ValueError, match="tuned for few calls"):
            walk_of(tuned, mode)


def test_where_one_call_is_closer_it_is_said(cat: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    D = snowmelt.build("gaussian-blur:sigma_px=2")
    right = Model(D, lambda x, t: cat.to(x) if float(t[0]) == 1 else torch.zeros_like(x))  # right in the first call, wrong in all others
    found = restored(right, cat, severity=1.0, mode="best", degrade=True, check=nothing)
    assert any("One call alone comes closer" in text for text in found.said)
    always = Model(D, lambda x, t: cat.to(x))
    assert not any("One call alone" in text for text in restored(always, cat, severity=1.0, mode="best", degrade=True, check=nothing).said)


# --- side by side ------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["gaussian-blur:sigma_px=2", "noise", "pixelate"])
def test_walks_side_by_side_have_as_many_calls_and_their_measures(spec: str, cat: torch.Tensor) -> None:
    found = side_by_side(tiny(spec), cat, 1.0, 4, nothing, degrade=True)
    assert [one.name for one in found] == ["Degraded", "Direct", "Naive (Algorithm 1)", "TACoS (Algorithm 2)", "TACoS, order 2"]
    assert [one.calls for one in found][:2] == [0, 1]
    assert len({one.calls for one in found[2:]}) == 1
    assert all(one.psnr is not None and one.x.shape == cat.shape for one in found)
    assert found[1].psnr == pytest.approx(measured(found[1].x, cat)[0])
    assert not torch.equal(found[2].x, found[3].x)


def test_without_the_clean_picture_nothing_is_measured_and_without_the_draw_nothing_walked(photo: Model, cat: torch.Tensor) -> None:
    assert all(one.psnr is None for one in side_by_side(tiny(), cat, 0.5, 3, nothing))
    with pytest.raises(Refused, match="degrade a clean one here"):
        side_by_side(tiny("snow"), cat, 0.5, 3, nothing)
    with pytest.raises(Refused, match="blind"):
        side_by_side(photo, cat, None, 3, nothing)


def test_bundled_pictures_are_there() -> None:
    for name in NAMES:
        x = example(name)
        assert x.ndim == 3
        assert float(x.abs().max()) <= 1


def test_a_picture_that_lay_on_its_side_is_restored_as_it_lay(tmp_path: Path, cat: torch.Tensor) -> None:
    from snowmelt.data.images import to_uint8

    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(to_uint8(cat[0])).save(tmp_path / "cat.jpg", exif=exif, quality=30)
    picture: Picture = read(tmp_path / "cat.jpg")
    assert picture.turn == 6
    found = restored(tiny(), picture.x[None], severity=0.1, mode="faithful", check=nothing, turn=picture.turn, key="cat.jpg")
    assert found.x.shape[1:] == picture.x.shape == found.frames[0].shape[1:]
    assert torch.equal(found.start[0], picture.x)
    restore_folder(tmp_path / "cat.jpg", model=tiny(), out=tmp_path / "out", severity=0.1, sampler=None)
    theirs = read(tmp_path / "out" / "cat.jpg").x
    assert float((theirs - found.x[0].clamp(-1, 1)).abs().mean()) < 0.03  # theirs went through a JPEG file
