"""The loss that a training makes small is the one its options name, by the formulas written out."""

import functools

import pytest
import torch

from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.losses import restoration_loss, unfolded_loss
from snowmelt.model import Model
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.restorers import Restorer
from snowmelt.sensor import in_metres, measured
from snowmelt.signals import Picture, Scan
from snowmelt.training.agreement import agree
from snowmelt.training.feed import Fed
from snowmelt.training.objective import Objective, counting
from snowmelt.training.options import TrainingOptions
from snowmelt.training.validation import _seen
from snowmelt.training.waiting import Waiting

SCAN = Scan(rings=4, azimuths=8, farthest_m=50)


def scans(b: int = 64) -> torch.Tensor:
    x = torch.rand(b, 3, 4, 8, generator=generator(0, "scans")) * 1.9 - 0.9
    x[:, 2] = 1
    x[:, :, :2] = -1  # nothing came back
    return x


def fed(model: Model, x0: torch.Tensor) -> Fed:
    t = torch.rand(len(x0), generator=generator(1, "t")).clamp(min=0.05)
    return Fed(x0, t, model.draw(x0, generator(2, "z")))


def erring(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return 0.5 * x_t + t[:, None, None, None]


def objective(model: Model, **options: object) -> Objective:
    return Objective(model, TrainingOptions(severities="uniform", **options), Waiting(torch.device("cpu")))


def test_an_unfolded_training_makes_the_unfolded_loss_small():
    model = Model(build("noise:schedule=linear"), erring)
    x0, t, z = fed(model, scans())
    ours = objective(model, unfold=True)
    s = ours._between(t, z)
    assert torch.equal(ours(Fed(x0, t, z), 0), unfolded_loss(model, x0, t, s, z))
    assert not torch.allclose(ours(Fed(x0, t, z), 0), restoration_loss(model, x0, t, z))


def test_the_second_severity_is_spread_evenly_below_the_first():
    model = Model(build("noise:schedule=linear"), erring)
    t = torch.rand(20_000, generator=generator(3, "t"), dtype=torch.float64)
    share = objective(model, unfold=True)._between(t, {}) / t
    assert float(share.min()) >= 0
    assert float(share.max()) < 1
    assert torch.histc(share, 10, 0, 1) / len(t) == pytest.approx(torch.full((10,), 0.1), abs=0.01)
    assert abs(float(torch.corrcoef(torch.stack([t, share]))[0, 1])) < 0.03  # and says nothing of t


@pytest.mark.parametrize(("counted", "weights"), [("returns", measured), ("metres", functools.partial(in_metres, farthest_m=50.0))])
@pytest.mark.parametrize("unfold", [False, True])
def test_a_training_of_scans_counts_what_its_options_say(counted, weights, unfold):
    model = Model(build("ray-drop"), erring, signal=SCAN)
    x0, t, z = fed(model, scans())
    ours = objective(model, counted=counted, unfold=unfold)
    told = (model, x0, t, ours._between(t, z), z) if unfold else (model, x0, t, z)
    loss = unfolded_loss if unfold else restoration_loss
    assert torch.equal(ours(Fed(x0, t, z), 0), loss(*told, counted=weights))
    assert not torch.allclose(ours(Fed(x0, t, z), 0), loss(*told))


def test_pictures_have_nothing_that_was_not_measured():
    assert counting(TrainingOptions(counted="all"), SCAN) is None
    assert counting(TrainingOptions(counted="returns"), Picture()) is None


def test_validation_sees_what_the_loss_sees():
    x0 = scans(2)
    x = x0 + 0.1
    seen = _seen(x0, measured)(x)
    assert torch.equal(seen[:, :2, :2], x0[:, :2, :2])  # range and reflectance of what is not there
    assert torch.allclose(seen[:, :, 2:], x[:, :, 2:])
    assert _seen(x0, None)(x) is x


def test_what_counts_is_asked_of_scans_alone():
    data = open_data(DataOptions(path="bundled:digits"), "train")
    backbone = build("unet:widths=(8,8),patch=2,groups=4,blocks=1", "backbone")
    model = Model(build("noise"), Restorer(build("noise"), backbone, data.shape))
    agree(model, data, TrainingOptions())
    with pytest.raises(ValueError, match=r"training\.counted = returns is for scans, and these are pictures"):
        agree(model, data, TrainingOptions(counted="returns"))
