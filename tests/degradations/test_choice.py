import copy

import pytest
import torch

import snowmelt
from snowmelt.degradations import Choice, Compose
from snowmelt.model import Model, alone, save
from snowmelt.randomness import generator, generators
from snowmelt.registry import SpecError, build, spec
from snowmelt.restorers import Restorer, UNet
from snowmelt.testing import check_degradation

PARTS = ("recursive-blur:steps=5", "mask", "pixelate:levels=2")
CHOICE = Choice(tuple(build(part) for part in PARTS))


def pictures(n: int = 64) -> torch.Tensor:
    return torch.rand(n, 3, 16, 16, generator=generator(0, "pictures"), dtype=torch.float64) * 2 - 1


def test_keeps_the_contract():
    check_degradation(CHOICE, shape=(3, 16, 16))


def test_every_sample_is_degraded_by_its_own_part_alone():
    x, t = pictures(), torch.linspace(0, 1, 64, dtype=torch.float64)
    z = CHOICE.draw(x, generators(0, "draw", range(64)))
    out = CHOICE(x, t, z)
    for i, part in enumerate(CHOICE.parts):
        mine = z["which"] == i
        assert mine.sum() > 8
        share = {name.partition(".")[2]: value[mine] for name, value in z.items() if name.startswith(f"{i}.")}
        assert torch.equal(out[mine], part(x[mine], t[mine], share))


def test_weights_are_shares():
    choice = Choice(CHOICE.parts, (1.0, 0.0, 3.0))
    which = choice.draw(pictures(4000), generators(0, "draw", range(4000)))["which"]
    share = torch.bincount(which, minlength=3) / 4000
    assert share[1] == 0
    assert share[0] == pytest.approx(0.25, abs=0.03)


def test_severities_move_to_the_knots_of_each_samples_own_part():
    z = {"which": torch.tensor([0, 1, 2])}
    t = torch.tensor([0.45, 0.45, 0.45], dtype=torch.float64)
    assert CHOICE.knots is None
    assert CHOICE.snapped(t, z).tolist() == pytest.approx([0.6, 0.45, 0.5])
    assert Choice((CHOICE.parts[0],)).knots == 5


def test_a_choice_keeps_its_knots_in_a_composition():
    z = {"0.which": torch.tensor([0, 1, 2])}
    t = torch.tensor([0.45, 0.45, 0.45], dtype=torch.float64)
    both = Compose((CHOICE, build("noise")))
    assert both.knots is None
    assert both.snapped(t, z).tolist() == pytest.approx([0.6, 0.45, 0.5])
    solved = Compose((CHOICE, build("noise:schedule=betas(steps=4)")))  # what is solved for asks for no knots
    assert solved.snapped(t, z).tolist() == pytest.approx([0.6, 0.45, 0.5])
    table = build("recursive-blur:steps=4+noise")
    assert table.snapped(t, table.draw(pictures(3), generator(0, "z"))).tolist() == [0.5, 0.5, 0.5]


def test_a_restorer_is_told_which_and_no_more():
    z = CHOICE.draw(pictures(4), generators(0, "draw", range(4)))
    told = CHOICE.context((3, 16, 16), torch.ones(4), z)
    assert told.shape == (4, 3, 16, 16)
    assert torch.equal(told[:, :, 0, 0].argmax(1), z["which"])
    assert torch.equal(told.sum(1), torch.ones(4, 16, 16))


def test_one_part_alone_is_the_same_network_told_that_part(tmp_path):
    x = pictures(3).float()
    restorer = Restorer(CHOICE, UNet(widths=(8, 8), patch=2), (3, 16, 16)).eval()
    for parameter in restorer.parameters():  # the last layer begins at zero
        torch.nn.init.normal_(parameter, std=0.1, generator=generator(2, "weights"))
    whole = Model(CHOICE, restorer)
    for number, name in enumerate(CHOICE.names):
        part = alone(whole, name)
        assert part.degradation == CHOICE.parts[number]
        state = part.corrupt(x, 1.0, generators(1, "draw", range(3)))
        z = {"which": torch.full((3,), number)}
        t = torch.ones(3)
        assert torch.equal(part.estimate(state.x, t, state.z), whole.estimate(state.x, t, z))
    other = whole.estimate(state.x, t, {"which": torch.zeros(3, dtype=torch.long)})
    assert not torch.equal(part.estimate(state.x, t, state.z), other)
    assert part.restorer.context == ()
    with pytest.raises(TypeError, match="has which held"):
        save(part, tmp_path)
    save(whole, tmp_path)
    again = snowmelt.load(tmp_path / "pixelate")
    assert again.degradation == part.degradation
    assert torch.equal(again.estimate(state.x, t), part.estimate(state.x, t))
    with pytest.raises(ValueError, match="no part 'pixel'"):
        snowmelt.load(tmp_path / "pixel")
    out = snowmelt.restore(part, state.x, severity=1.0, z=state.z, sampler="tacos:steps=2")
    assert out.shape == x.shape


def test_a_part_that_is_not_there():
    with pytest.raises(ValueError, match="no part 'pixelat'.*pixelate.*recursive-blur, mask, pixelate"):
        alone(Model(CHOICE, Restorer(CHOICE, UNet(widths=(8, 8)), (3, 16, 16))), "pixelat")
    with pytest.raises(ValueError, match="undoes this one degradation"):
        alone(Model(CHOICE.parts[1], lambda x, t: x), "mask")


@pytest.mark.parametrize(
    ("parts", "weights", "message"),
    [((), (1.0,), "parts is empty"), (CHOICE.parts, (1.0, 2.0), "2 numbers for 3 parts"), (CHOICE.parts, (0.0,), "chooses nothing")],
)
def test_refuses(parts, weights, message):
    with pytest.raises(SpecError, match=message):
        Choice(parts, weights)


def test_round_trips_as_text():
    assert build(spec(CHOICE)) == CHOICE


def test_a_part_sees_only_severities_of_its_own_samples(monkeypatch):
    seen = []
    degrade = type(CHOICE.parts[0]).degrade
    monkeypatch.setattr(type(CHOICE.parts[0]), "degrade", lambda self, x, t, z: (seen.append(t.flatten().tolist()), degrade(self, x, t, z))[1])
    x = pictures(3)
    z = {**CHOICE.draw(x, generators(0, "draw", range(3))), "which": torch.tensor([0, 1, 2])}
    CHOICE(x, torch.tensor([0.4, 0.37, 0.5], dtype=torch.float64), z)
    monkeypatch.setattr("snowmelt.degradations.choice._groups", lambda which, parts: None)  # as on an accelerator
    CHOICE(x, torch.tensor([0.4, 0.37, 0.5], dtype=torch.float64), z)
    assert seen == [[0.4], [0.4, 0.0, 0.0]]  # a table asked at its knots alone costs half


def test_no_damage_is_no_part():
    assert not CHOICE.absent((3, 16, 16), torch.ones(2)).any()


def test_a_restorer_of_a_choice_says_how_to_name_the_damage():
    restorer = Restorer(CHOICE, UNet(widths=(8, 8), patch=2), (3, 16, 16))
    with pytest.raises(ValueError, match="RUN/recursive-blur"):
        restorer(pictures(1), torch.ones(1))
    assert copy.deepcopy(restorer).held == {}
