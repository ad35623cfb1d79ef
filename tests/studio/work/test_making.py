"""What the studio makes is what the library makes, bit for bit; and it asks between two calls of the network whether anybody still waits."""

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.randomness import generator
from snowmelt.restoration import guided
from snowmelt.restorers import Conditions, Restorer
from snowmelt.samplers import default_walk
from snowmelt.studio.limits import Left, Limits, Refused
from snowmelt.studio.work import making

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"
SHAPE = (1, 8, 8)


def nobody_leaves() -> None:
    """Nobody leaves."""


def model(degradation: str = "noise", classes: int = 0, **notes: object) -> Model:
    torch.manual_seed(0)
    D = snowmelt.build(degradation)
    restorer = Restorer(D, snowmelt.registry.build(TINY, "backbone"), SHAPE, conditions=Conditions(classes=classes))
    for weight in restorer.parameters():  # a fresh network returns the same whatever it is told
        torch.nn.init.normal_(weight, std=0.05)
    return Model(D, restorer, Normal().fit([torch.zeros(1, *SHAPE)]) if degradation == "noise" else None, notes=notes)


class Leaving:
    """A visitor who leaves when the studio asks for the n-th time."""

    def __init__(self, n: int) -> None:
        self.asked, self.n = 0, n

    def __call__(self) -> None:
        self.asked += 1
        if self.asked == self.n:
            raise Left("gone")


def calls_of(made: Model) -> list[int]:
    """The sizes of the batches of every call of a model's network, as they come."""
    sizes: list[int] = []
    made.restorer.net.register_forward_pre_hook(lambda module, told: sizes.append(len(told[0])))
    return sizes


def x(seed: int = 0) -> Tensor:
    return torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_samples_are_those_of_the_library_with_and_without_labels() -> None:
    made = model(classes=3)
    plain = making.generated(made, 5, seed=7, check=nobody_leaves)
    assert torch.equal(plain.x, snowmelt.generate(made, 5, seed=7))
    rows = torch.tensor([2, 2, 2, 0, 0])
    told = making.generated(made, 5, seed=7, label=["2", "0"], guidance=2.0, check=nobody_leaves)
    assert torch.equal(told.x, snowmelt.generate(guided(made, 2.0), 5, seed=7, conditions={"label": rows}))
    assert not torch.equal(plain.x, told.x), "labels matter"


def test_a_sample_depends_on_its_seed_and_number_alone() -> None:
    made = model()
    few, many = (making.generated(made, n, seed=3, check=nobody_leaves).x for n in (2, 4))
    torch.testing.assert_close(few, many[:2])
    assert not torch.allclose(few, making.generated(made, 2, seed=4, check=nobody_leaves).x)


def test_batches_that_memory_made_small_show_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    whole = making.generated(made, 5, check=nobody_leaves)
    monkeypatch.setattr(making, "fits", lambda *_, **__: (2, default_walk(made)))
    parts = making.generated(made, 5, check=nobody_leaves)
    torch.testing.assert_close(parts.x, whole.x)
    assert [len(frame) for frame in parts.frames] == [5] * len(whole.frames)
    torch.testing.assert_close(parts.frames[-1], whole.x)
    torch.testing.assert_close(parts.frames[3], whole.frames[3])


def test_frames_begin_with_the_prior_and_end_with_the_result_and_a_long_walk_is_thinned() -> None:
    made = model()
    walk = making.generated(made, 2, calls=60, check=nobody_leaves)
    assert len(walk.frames) == len(walk.labels) == making.FRAMES
    assert (walk.labels[0], walk.labels[-1]) == ("t = 1", "t = 0")
    assert torch.equal(walk.frames[-1], walk.x)
    start = snowmelt.restoration.beginning(made, 2, [generator(0, "sample", i) for i in range(2)])
    assert torch.equal(walk.frames[0], start.x)
    assert "steps=60" in walk.how
    assert "seed 0" in walk.how


@pytest.mark.parametrize("n", [1, 4, 9])
def test_who_leaves_is_not_waited_for_longer_than_a_call(n: int) -> None:
    made = model()
    sizes = calls_of(made)
    making.generated(made, 2, calls=12, check=nobody_leaves)
    measuring = len(sizes) - 12  # how many samples fit is measured before the walk
    sizes.clear()
    visitor = Leaving(n)
    with pytest.raises(Left):
        making.generated(made, 2, calls=12, check=visitor)
    assert visitor.asked == n, "and is not asked again"
    assert len(sizes) <= (measuring if n > 1 else 0) + n


def test_translating_and_interpolating_stop_within_a_call_too() -> None:
    morph, noise = model("morph"), model()
    for made, work in (
        (morph, lambda check: making.translated(morph, x(), calls=12, check=check)),
        (noise, lambda check: making.interpolated(noise, (0, 1), 4, calls=12, check=check)),
        (noise, lambda check: making.blended(noise, x(0), x(1), 4, severity=0.5, check=check)),
    ):
        sizes = calls_of(made)
        with pytest.raises(Left):
            work(Leaving(3))
        assert len(sizes) <= 3


def test_a_translation_is_that_of_the_library_and_answers_count_seeds_up() -> None:
    made = model("morph")
    drawn = [generator(5, "restore/cat.png")]
    one = making.translated(made, x(), seed=5, key="cat.png", noise=0.1, check=nobody_leaves)
    assert torch.equal(one.x, snowmelt.translate(made, x(), noise=0.1, generator=drawn))
    fixed = making.translated(made, x(), endpoint="fixed", calls=5, check=nobody_leaves)
    assert torch.equal(fixed.x, snowmelt.translate(made, x(), endpoint="fixed", steps=5))
    several = making.translated(made, x(), seed=4, key="cat.png", noise=0.1, answers=3, check=nobody_leaves)
    torch.testing.assert_close(several.x[1:2], one.x)
    assert not torch.allclose(several.x[0], several.x[2]), "several answers differ"
    assert several.frames[0].shape[0] == 9, "what is there, what will be, what was: of each answer"
    torch.testing.assert_close(several.frames[-1][:3], several.x)
    given, believed = fixed.frames[-1][2], one.frames[-1][2]
    assert torch.equal(given, x()[0]), "a fixed endpoint stays what was given"
    assert not torch.allclose(believed, x()[0])


def test_an_interpolation_is_that_of_the_library_and_labels_change_half_way() -> None:
    made = model(classes=3)
    assert torch.equal(making.interpolated(made, (1, 4), 3, seed=2, check=nobody_leaves), snowmelt.interpolate(made, 3, seed=2, pair=(1, 4)))
    rows = torch.tensor([0, 0, 2])
    told = making.interpolated(made, (1, 4), 3, seed=2, label=["0", "2"], check=nobody_leaves)
    assert torch.equal(told, snowmelt.interpolate(made, 3, seed=2, pair=(1, 4), conditions={"label": rows}))


def test_the_way_between_own_pictures_is_that_of_the_library() -> None:
    made = model()
    way = making.blended(made, x(0), x(1), 3, severity=0.4, seed=6, check=nobody_leaves)
    assert torch.equal(way, snowmelt.restoration.blend(made, x(0), x(1), 0.4, 3, seed=6))
    for limits, words in ((Limits(samples=2), "outside 1 to 2"), (Limits(steps=11), "12 calls of the restorer are more than 11")):
        with pytest.raises(Refused, match=words):
            making.blended(made, x(0), x(1), 3, severity=0.4, limits=limits, check=nobody_leaves)
    with pytest.raises(ValueError, match="crop them to one size"):
        making.blended(made, x(0), x(1)[..., :4], 3, severity=0.4, check=nobody_leaves)


def test_more_than_the_limits_allow_is_refused_in_words_before_any_call() -> None:
    made, morph = model(classes=2), model("morph")
    sizes = calls_of(made)
    limits = Limits(samples=4, steps=20)
    for wish, words in (
        ({"n": 5}, "outside 1 to 4"),
        ({"n": 0}, "outside 1 to 4"),
        ({"n": 2, "calls": 21}, "21 calls of the restorer are more than 20"),
        ({"n": 2, "mode": "faithful"}, "a blur of them"),
        ({"n": 2, "calls": 1}, "a blur of them"),
        ({"n": 2, "guidance": 2.0}, "choose a label"),
        ({"n": 1, "label": ["0", "1"]}, "2 labels share 1 picture"),
        ({"n": 2, "label": "7"}, "no label '7'"),
    ):
        with pytest.raises(Refused, match=words):
            making.generated(made, **wish, limits=limits, check=nobody_leaves)
    assert sizes == []
    with pytest.raises(Refused, match="outside 1 to 4"):
        making.translated(morph, x(), answers=9, noise=0.1, limits=limits, check=nobody_leaves)
    with pytest.raises(Refused, match="one answer only"):
        making.translated(morph, x(), answers=2, check=nobody_leaves)
    with pytest.raises(Refused, match="more than 20"):
        making.translated(morph, x(), calls=50, limits=limits, check=nobody_leaves)
    with pytest.raises(Refused, match="trained without labels"):
        making.generated(model(), 1, label="0", check=nobody_leaves)


def test_frames_are_small_enough_to_be_shown_and_results_keep_their_size() -> None:
    shrink = making.small(16, Limits(walk_px=512))
    assert shrink(torch.zeros(16, 3, 256, 200)).shape == (16, 3, 128, 100)
    assert shrink(torch.zeros(16, 3, 64, 64)).shape == (16, 3, 64, 64)


def test_classes_are_asked_for_by_their_names_where_they_have_some() -> None:
    made = model(classes=2)
    named = Model(made.degradation, made.restorer, made.prior, notes={"classes": ["cat", "dog"]})
    assert (making.classes_of(made), making.classes_of(named), making.classes_of(model())) == (("0", "1"), ("cat", "dog"), ())
    assert making.numbers_of(named, ["dog", "cat"]) == [1, 0]
    with pytest.raises(Refused, match="no label 'dof'.*dog"):
        making.numbers_of(named, "dof")
