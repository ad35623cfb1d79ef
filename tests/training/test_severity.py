"""Fitting the estimator of severities: what it is shown, that it learns, that its doubts are honest, that it repeats exactly."""

import os
import signal

import pytest
import torch

from snowmelt.data.dataset import Dataset
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.data.stores import Held
from snowmelt.model import Model
from snowmelt.randomness import generator, permutation
from snowmelt.registry import build
from snowmelt.restorers.severity import LARGEST_PX
from snowmelt.stopping import Stopped
from snowmelt.training import severity
from snowmelt.training.severity import Damage, fit, negative_log_likelihood

NOISE = "noise:schedule=ve"
MIXTURE = {"name": "mixture", "parts": [NOISE, "jpeg"]}


def digits(split: str) -> Dataset:
    return open_data(DataOptions(path="bundled:digits"), split)


def waves(n: int = 24, side: int = 48, *, crop: int | None = 24) -> Dataset:
    """Smooth pictures in colour, of which crops are cut."""
    at = torch.arange(side) / side
    draw = torch.rand(n, 6, generator=generator(0, "waves"))
    x = torch.stack([torch.sin(20 * (d[0] * at[:, None] + d[1] * at) + 6 * d[2]) * d[3] for d in draw])
    x = torch.stack([x, x * 0.5, -x], dim=-1).contiguous()
    return Dataset(Held(x.numpy()), "train", (3, crop or side, crop or side), [str(i) for i in range(n)], [], flip=True)


def model(text: object, **options: object) -> Model:
    return Model(build(text), lambda x, t: x, **options)


# --- what it is shown ------------------------------------------------------------------------------------


def test_a_numbered_crop_depends_on_its_number_alone() -> None:
    damage = Damage(model(MIXTURE, input="8bit", noise_floor=0.02), waves(), 3, "try")
    x, truth = damage(range(40, 50))
    y, again = damage(range(44, 46))
    assert torch.allclose(x[4:6], y, atol=1e-6)
    assert torch.equal(truth[4:6], again)
    other, _ = Damage(damage.model, damage.data, 4, "try")(range(44, 46))
    assert not torch.allclose(other, y)


def test_crops_are_visited_in_the_order_of_their_stream() -> None:
    damage = Damage(model(NOISE), waves(), 3, "try")
    orders = [permutation(3, "try-order", epoch, 24).tolist() for epoch in range(3)]
    assert damage._indices(range(10, 60)) == sum(orders, [])[10:60]


def test_the_truth_is_what_was_done() -> None:
    damage = Damage(model(NOISE), waves(), 0, "try")
    x, truth = damage.whole(range(400))
    clean, _ = Damage(model("noise:schedule=ve(sigma_max=0)"), waves(), 0, "try").whole(range(400))
    rounded = torch.isclose((x * 127.5 + 127.5), (x * 127.5 + 127.5).round(), atol=1e-3).all(dim=(1, 2, 3))
    spread = (x - clean)[~rounded].std(dim=(1, 2, 3))
    assert torch.allclose(spread, 0.4 * truth[~rounded, 0], atol=0.02)
    assert 0.02 < float((truth == 0).float().mean()) < 0.12
    assert 0.35 < float(rounded.float().mean()) < 0.65
    assert bool((x[truth[:, 0] == 0] == clean[truth[:, 0] == 0]).all(dim=(1, 2, 3)).any())


def test_half_of_the_crops_go_without_the_noise_floor() -> None:
    damage = Damage(model("gaussian-blur", noise_floor=0.3), waves(), 0, "try")
    pure = Damage(model("gaussian-blur"), waves(), 0, "try")
    difference = (damage(range(200))[0] - pure(range(200))[0]).std(dim=(1, 2, 3))
    assert 0.35 < float((difference > 0.1).float().mean()) < 0.65


def test_a_pair_of_crops_shares_the_damage_and_not_the_place() -> None:
    damage = Damage(model(NOISE), waves(), 0, "try")
    (x, a), (y, b) = damage(range(20)), damage(range(20), crop="elsewhere")
    assert torch.equal(a, b)
    assert not torch.allclose(x, y)


def test_large_pictures_are_cut_to_windows_on_the_grid_of_jpeg() -> None:
    side = LARGEST_PX + 40
    rows = torch.arange(side)[:, None].expand(side, side) / 255 * 2 - 1
    data = Dataset(Held(rows[None, :, :, None].expand(1, side, side, 3).contiguous().numpy()), "train", (3, side, side), ["a"], [])
    x, _ = Damage(model("noise:schedule=ve(sigma_max=0)"), data, 0, "try")(range(30))
    tops = ((x[:, 0, 0, 0] + 1) / 2 * 255).round()
    assert x.shape == (30, 3, LARGEST_PX, LARGEST_PX)
    assert bool((tops % 8 == 0).all())
    assert len(tops.unique()) > 3


def test_the_loss_is_least_at_the_truth() -> None:
    truth = torch.tensor([[0.0], [0.4]])

    def loss(logit: float, mean: float) -> float:
        return float(negative_log_likelihood((torch.tensor([[-1.0], [1.0]]) * logit, torch.full((2, 1), mean), torch.full((2, 1), -2.0)), truth))

    assert loss(5, 0.4) < min(loss(0, 0.4), loss(-5, 0.4), loss(5, 0.3), loss(5, 0.5))


# --- what it learns --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> tuple[Model, severity.Estimator]:
    blind = model(MIXTURE, input="8bit")
    return blind, fit(blind, waves(), waves(12), images=4500, seed=1)


def test_it_learns_to_tell_severities_and_how_well_it_tells_them(fitted: tuple[Model, severity.Estimator]) -> None:
    blind, reader = fitted
    x, truth = Damage(blind, waves(), 7, "report").whole(range(512))
    found = reader.estimate(x)
    noise = found.severity["noise"]
    error = noise - truth[:, 0]
    assert float(error.square().mean().sqrt()) < 0.3 * float(truth[:, 0].std())
    assert float((error.abs() <= 2 * found.std["noise"]).float().mean()) > 0.9
    there = truth[:, 0] > 0.3
    assert float(found.present["noise"][there].mean()) > 0.9
    assert float(found.present["noise"][truth[:, 0] == 0].mean()) < 0.3
    assert float(found.unsure.float().mean()) < 0.1


def test_what_it_never_saw_makes_it_unsure(fitted: tuple[Model, severity.Estimator]) -> None:
    reader = fitted[1]
    stripes = torch.ones(4, 3, 24, 24)
    stripes[..., ::2] = -1
    assert bool(reader.estimate(stripes).unsure.all())


def test_calibration_makes_standardised_errors_of_size_one(fitted: tuple[Model, severity.Estimator]) -> None:
    blind, reader = fitted
    x, truth = Damage(blind, waves(12), 1, "severity-calibration")(range(1024))
    found, there = reader.read(x), truth > 0
    error = torch.where(there, (truth - found.mean) / found.std, 0)
    assert torch.allclose((error.square().sum(0) / there.sum(0)).sqrt(), torch.ones(2), atol=1e-3)
    assert not torch.equal(reader.std_scale, torch.ones(2))
    assert bool(((reader.shared >= 0.05) & (reader.shared <= 1)).all())
    assert bool((reader.shared < 1).any())


def test_the_same_arguments_give_the_same_estimator_and_leave_torch_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, three = (fit(model(NOISE), digits("train"), digits("validation"), images=96, seed=seed).tensors() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], three[name]) for name in one)


def test_windows_of_pictures_that_are_shown_whole_narrow_nothing() -> None:
    reader = fit(model(NOISE), digits("train"), digits("validation"), images=64)
    assert torch.equal(reader.shared, torch.ones(2, 1))


def test_no_validation_pictures_are_no_obstacle() -> None:
    empty = Dataset(Held(torch.zeros(0, 24, 24, 3).numpy()), "validation", (3, 24, 24), [], [])
    reader = fit(model(NOISE), waves(), empty, images=64)
    assert bool(torch.isfinite(reader.std_limit).all())


def test_ctrl_c_ends_it_at_once_and_says_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(severity, "warm_cosine", lambda *step: os.kill(os.getpid(), signal.SIGINT) or 1e-3)  # asked for in every step
    with pytest.raises(Stopped, match=r"stopped after 32 of 9,984 crops; .* the same command"):
        fit(model(NOISE), digits("train"), digits("validation"), images=10_000)
    assert signal.getsignal(signal.SIGINT) is handler


def test_numbers_that_make_no_training_are_refused() -> None:
    with pytest.raises(ValueError, match="images = 0"):
        fit(model(NOISE), digits("train"), digits("validation"), images=0)
