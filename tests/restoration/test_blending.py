"""The way between two pictures of one's own: edits of their mixtures, all with one draw."""

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.data.images import Picture
from snowmelt.model import Model
from snowmelt.randomness import generator, uniform
from snowmelt.restoration import blend, blending, fitted
from snowmelt.restorers import Restorer

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"


def model(spec: str = "noise") -> Model:
    return Model(snowmelt.build(spec), lambda x, t: torch.tanh(x * (1.5 - t[:, None, None, None])))


def trained(**notes: object) -> Model:
    D = snowmelt.build("noise")
    return Model(D, Restorer(D, snowmelt.build(TINY, "backbone"), (1, 8, 8)), notes=notes)


def x(seed: int, channels: int = 1) -> Tensor:
    return uniform(torch.empty(1, channels, 6, 6), generator(seed, "pictures")) * 2 - 1


@pytest.mark.parametrize("sampler", ["default", "ancestral:steps=3"])
def test_every_picture_on_the_way_is_an_edit_of_its_mixture(sampler: str) -> None:
    m, a, b = model(), x(0), x(1)
    way = blend(m, a, b, 0.4, 5, sampler=sampler, seed=6)
    assert way.shape == (5, 1, 6, 6)
    for one, s in zip(way.split(1), (0.0, 0.25, 0.5, 0.75, 1.0), strict=True):
        edited = snowmelt.edit(m, torch.lerp(a, b, s), 0.4, sampler=sampler, generator=[generator(6, "sample")])
        assert torch.equal(one, edited)
    assert not torch.equal(way, blend(m, a, b, 0.4, 5, sampler=sampler, seed=7))


def test_the_draw_is_one_all_the_way_and_walks_come_one_by_one() -> None:
    walks = [list(walk) for walk in blending(model(), x(0), x(0), 0.7, 3, sampler="ancestral:steps=4")]
    assert [len(walk) for walk in walks] == [5, 5, 5]
    assert all(torch.equal(walk[0].x, walks[0][0].x) for walk in walks)
    asked = iter(blending(Model(snowmelt.build("noise"), lambda x_t, t: 1 / 0), x(0), x(1), 0.7, 3))
    assert float(next(next(asked)).t) == 0.7  # nothing is computed that nobody asked for


def test_a_low_severity_fades_and_a_cold_model_blends_too() -> None:
    a, b = x(0) / 2, x(1) / 2
    identity = Model(snowmelt.build("noise"), lambda x_t, t: x_t * (1 - t[:, None, None, None]))
    off = [float((blend(identity, a, b, level, 3)[1:2] - (a + b) / 2).norm()) for level in (0.05, 0.4, 0.9)]
    assert off[0] < off[1] < off[2]
    assert blend(model("gaussian-blur:sigma_px=2"), a, b, 0.5, 2).shape == (2, 1, 6, 6)


def test_what_cannot_be_blended_is_refused_before_any_call() -> None:
    lazy = Model(snowmelt.build("noise"), lambda x_t, t: 1 / 0)
    for ends, given, words in (
        ((x(0), x(1)), {"severity": 0.5, "steps": 1}, "steps = 1: a way has at least its two ends"),
        ((x(0), x(1)), {"severity": 0.0}, "severity = 0 makes nothing anew"),
        ((x(0), x(1)), {"severity": 1.5}, "outside"),
        ((x(0), x(1)[..., :4]), {"severity": 0.5}, "6 x 6 and 4 x 6 px: crop them to one size"),
        ((x(0), x(1, 3)), {"severity": 0.5}, "1 and 3 channels: bring them to one number"),
        ((x(0)[0], x(1)), {"severity": 0.5}, r"give one picture each, \(1, c, h, w\)"),
        ((torch.cat([x(0), x(1)]), x(1)), {"severity": 0.5}, "give one picture each"),
    ):
        with pytest.raises(ValueError, match=words):
            blend(lazy, *ends, **given)
    with pytest.raises(ValueError, match="translate them instead"):
        blend(model("morph"), x(0), x(1), 0.5)


def test_a_picture_is_fitted_as_those_of_the_training_were() -> None:
    colour = Picture(torch.rand(3, 20, 30) * 2 - 1, None, 8)
    assert fitted(trained(), colour).shape == (1, 1, 8, 8)
    assert fitted(trained(), colour, 4).shape == (1, 1, 8, 8)  # the training says the size
    cropped = trained(recipe={"data": {"fit": "crop"}})
    assert fitted(cropped, colour).shape == (1, 1, 20, 30)
    assert fitted(cropped, colour, 15).shape == (1, 1, 10, 15)
    assert torch.equal(fitted(model(), colour), colour.x[None])  # a function alone says nothing of what it was made for
    hidden = Picture(torch.full((3, 8, 8), -1.0), torch.zeros(1, 8, 8), 8)
    torch.testing.assert_close(fitted(trained(), hidden), torch.ones(1, 1, 8, 8))
