"""Editing: what goes in comes back where it should, and the rest is made anew."""

from itertools import pairwise

import pytest
import torch

import snowmelt
from snowmelt.model import Model
from snowmelt.randomness import generator, generators, normal, uniform
from snowmelt.registry import build
from snowmelt.restoration import edit, editing
from snowmelt.restorers import Conditions
from snowmelt.samplers import Ancestral
from snowmelt.types import severity

MASK = torch.zeros(1, 1, 6, 6)
MASK[..., :3] = 1


def model(spec: str = "noise") -> Model:
    return Model(build(spec), lambda x, t: torch.tanh(x * (1.5 - t[:, None, None, None])))


def pictures(n: int = 3) -> torch.Tensor:
    return uniform(torch.empty(n, 1, 6, 6), generator(0, "pictures")) * 2 - 1


def test_it_is_a_walk_from_the_picture_degraded_by_the_models_own_d() -> None:
    x, m, draws = pictures(), model(), generators(0, "d", range(3))
    states = list(editing(m, x, 0.6, sampler="ancestral:steps=5", generator=draws))
    z = m.draw(x, generators(0, "d", range(3)))
    assert torch.equal(states[0].x, m.degrade(x, severity(0.6, x), z))
    assert [round(float(s.t), 6) for s in states] == [0.6, 0.48, 0.36, 0.24, 0.12, 0.0]
    assert "endpoint" not in states[0].z  # the noise that was drawn is not handed to the walk
    assert torch.equal(states[-1].x, edit(m, x, 0.6, sampler="ancestral:steps=5", generator=generators(0, "d", range(3))))
    assert states[-1].x.std(0).min() > 0  # and each picture goes its own way


def test_the_lower_the_severity_the_nearer_to_the_picture() -> None:
    x = pictures(8) / 2
    m = Model(build("noise"), lambda x_t, t: x_t * (1 - t[:, None, None, None]))
    off = [float((edit(m, x, level, generator=generator(0, "d")) - x).norm()) for level in (0.1, 0.4, 0.8)]
    assert off[0] < off[1] < off[2]


def test_a_cold_model_edits_too_and_its_known_draw_stays() -> None:
    x = pictures()
    truth = Model(build("mask"), lambda x_t, t: x)
    states = list(editing(truth, x, 0.7, generator=generator(0, "d")))
    assert torch.equal(states[0].z["centre"], states[-1].z["centre"])
    torch.testing.assert_close(states[-1].x, x, atol=1e-5, rtol=0)
    given = torch.full((3, 2), 0.25)
    assert torch.equal(next(editing(truth, x, 0.7, z={"centre": given})).z["centre"], given)
    assert edit(model("gaussian-blur:sigma_px=2"), x, 0.5).shape == x.shape


@pytest.mark.parametrize("sampler", ["default", "ancestral:steps=6", "ancestral:steps=6,eta=0,order=2", "heun:steps=5"])
def test_what_is_known_comes_back_to_the_last_bit(sampler: str) -> None:
    x = pictures()
    out = edit(model(), x, mask=MASK, sampler=sampler, generator=generator(0, "d"))
    assert torch.equal(out[..., :3], x[..., :3])
    assert float((out[..., 3:] - x[..., 3:]).abs().mean()) > 0.1
    other = x.clone()
    other[..., 3:] = 0.9
    leaky = model("noise:schedule=betas")  # its alpha at t = 1 is .006, and yet a hole says nothing there
    ends = [edit(leaky, y, mask=MASK, sampler=sampler, generator=generator(0, "d"))[..., 3:] for y in (x, other)]
    assert torch.equal(*ends)
    below = [edit(model(), y, 0.5, mask=MASK, sampler=sampler, generator=generator(0, "d")) for y in (x, other)]
    assert not torch.allclose(*below)  # below it does
    assert torch.equal(below[1][..., :3], x[..., :3])


def test_the_known_part_of_a_walk_follows_the_posterior_of_the_truth() -> None:
    """In the known half every x_s is alpha_s x + sigma_s times a noise that is standard normal, whatever the restorer says."""
    x, m = pictures(1).expand(4000, -1, -1, -1), model()
    walk = list(editing(m, x, mask=MASK, sampler="ancestral:steps=4", generator=generator(0, "d")))
    for state in walk[1:-1]:
        alpha, sigma = (float(v[0]) for v in m.degradation.schedule(severity(state.t, x)))
        noise = ((state.x - alpha * x) / sigma)[..., :3]
        assert float(noise.mean(0).abs().max()) < 0.08
        assert float((noise.var(0) - 1).abs().max()) < 0.11


def test_moves_are_made_again() -> None:
    x, m = pictures(), model()
    plain = list(editing(m, x, mask=MASK, sampler="ancestral:steps=6", generator=generator(0, "d")))
    often = list(editing(m, x, mask=MASK, sampler="ancestral:steps=6", again=3, generator=generator(0, "d")))
    assert [len(plain) - 1, sum(float(a.t) > float(b.t) for a, b in pairwise(often))] == [6, 3 * 5 + 1]
    assert {round(float(s.t), 6) for s in often} == {round(float(s.t), 6) for s in plain}  # the same moves, more often
    assert torch.equal(often[-1].x[..., :3], x[..., :3])
    assert torch.equal(often[-1].x, edit(m, x, mask=MASK, sampler=Ancestral(steps=16, again=3), generator=generator(0, "d")))


def test_conditions_reach_the_restorer() -> None:
    class Told(snowmelt.restorers.Informed):
        def predict(self, x_t: torch.Tensor, t: torch.Tensor, z: dict) -> tuple[torch.Tensor, None]:
            return torch.zeros_like(x_t) + z["label"].to(x_t)[:, None, None, None] / 10, None

    out = edit(Model(build("noise"), Told()), pictures(), 0.5, z={"label": torch.tensor([1, 2, 3])}, sampler="ancestral:steps=2,eta=0")
    torch.testing.assert_close(out, (torch.arange(1, 4) / 10)[:, None, None, None].expand_as(out))


def test_conditions_have_a_row_and_the_size_of_each_picture() -> None:
    class Told(snowmelt.restorers.Informed):
        conditions = Conditions(classes=3, image=1)

        def predict(self, x_t: torch.Tensor, t: torch.Tensor, z: dict) -> tuple[torch.Tensor, None]:
            return x_t * 0, None

    told = Model(build("noise"), Told())
    with pytest.raises(ValueError, match=r"label has shape \(1,\) for 3 samples: give one row per sample"):
        edit(told, pictures(), 0.5, z={"label": torch.tensor([1])})
    with pytest.raises(ValueError, match="the condition image is 5 x 6 px; samples of this model are 6 x 6 px"):
        edit(told, pictures(), 0.5, z={"image": torch.zeros(3, 1, 6, 5)})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="that pictures follow the weights needs a GPU")
def test_pictures_go_where_the_weights_are() -> None:
    D = build("noise")
    restorer = snowmelt.Restorer(D, build("unet:widths=(8,16),groups=4,blocks=1", "backbone"), (1, 6, 6)).eval()
    z = {"endpoint": normal(pictures(), generator(1, "z"))}
    here, there = (
        edit(Model(D, restorer.to(d)), pictures(), mask=MASK, z=z, sampler="ancestral:steps=3", generator=generator(0, "d")) for d in ("cpu", "cuda")
    )
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("spec", "options", "says"),
    [
        ("noise", {}, "how much is to be made anew"),
        ("noise", {"severity": 0.0}, "severity = 0 makes nothing anew"),
        ("noise", {"severity": 1.5}, "severity = 1.5 lies outside"),
        ("noise", {"mask": MASK[..., :4]}, "does not fit pictures"),
        ("noise", {"mask": MASK / 2}, "other values than 0"),
        ("noise", {"severity": 0.5, "sampler": None}, "an edit is a walk"),
        ("noise", {"severity": 0.5, "sampler": "heun", "again": 2}, "not those of heun"),
        ("noise", {"severity": 0.5, "sampler": "tacos"}, "endpoint is not known"),
        ("noise", {"severity": 0.5, "sampler": "ancestral:eta=0,order=2", "again": 2}, "take order = 1"),
        ("gaussian-blur", {"mask": MASK}, "gaussian-blur is no Gaussian chain"),
        ("gaussian-blur", {"severity": 0.5, "again": 2}, "gaussian-blur is no Gaussian chain"),
        ("morph", {"severity": 0.5}, "translate them"),
        ("mixture:parts=(gaussian-blur,jpeg)", {"severity": 0.5}, "restores in one call"),
        ("noise+gaussian-blur", {"severity": 0.5}, "no walk to edit by"),
    ],
)
def test_bad_input_is_refused_by_name(spec: str, options: dict, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        edit(model(spec), pictures(), **options)


def test_pictures_that_are_none() -> None:
    with pytest.raises(ValueError, match="not finite"):
        edit(model(), pictures() / 0, 0.5)
    with pytest.raises(ValueError, match="floating-point"):
        edit(model(), torch.zeros(1, 1, 6, 6, dtype=torch.uint8), 0.5)


def test_a_warm_path_keeps_what_is_known_too() -> None:
    """At its end known pixels are put back, not walked to."""
    x = normal(torch.empty(2, 1, 6, 6), generator(1, "x"))
    assert torch.equal(edit(model("gaussian-blur:sigma_px=1+noise"), x, mask=MASK, generator=generator(0, "d"))[..., :3], x[..., :3])
