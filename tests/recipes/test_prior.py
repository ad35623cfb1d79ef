"""Priors of trained runs: fitted at the end, kept in the model, added afterwards, refused before the training."""

from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt.data.sources import open_data
from snowmelt.priors import FromData, GaussianMixture, Normal
from snowmelt.recipes import run
from snowmelt.recipes.recipe import Recipe, from_table
from snowmelt.training import prior as priors

TINY = {
    "degradation": "pixelate:levels=2",
    "data": {"path": "bundled:digits", "size": 8},
    "training": {"images": 32, "batch": 16, "validation_images": 8, "precision": "fp32"},
}
MODEL = {"backbone": "unet:widths=(8,16),patch=2,groups=4,blocks=1"}


def recipe(degradation: str = "pixelate:levels=2", **model: object) -> Recipe:
    return from_table({**TINY, "degradation": degradation, "model": {**MODEL, **model}})


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_a_prior_is_fitted_at_the_end_and_needs_no_data_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = run.train(recipe(prior="gaussian-mixture:components=2,grid=2"), tmp_path)
    monkeypatch.setattr(run, "open_data", None)
    loaded = snowmelt.load(tmp_path)
    assert loaded.prior == trained.prior == GaussianMixture(components=2, grid=2)
    assert torch.equal(snowmelt.generate(loaded, 3, seed=1), snowmelt.generate(trained, 3, seed=1))
    x = open_data(recipe().data, "train").batch(range(1000))["x0"]
    drawn = loaded.prior.with_noise(0.0).sample(2000, torch.Generator().manual_seed(0)).x
    degraded = trained.degradation(x, torch.ones(1000))
    torch.testing.assert_close(drawn.mean(0), degraded.mean(0), atol=0.06, rtol=0)
    torch.testing.assert_close(drawn.std(0), degraded.std(0), atol=0.06, rtol=0)


def test_training_with_a_prior_ends_in_the_same_weights_and_stays_finished(tmp_path: Path) -> None:
    run.train(recipe(), tmp_path / "without")
    run.train(recipe(prior="gaussian-mixture"), tmp_path / "with")
    first, second = contents(tmp_path / "without"), contents(tmp_path / "with")
    weights = {name for name in first if name.endswith(".safetensors")}
    assert weights < {name for name in second if name.endswith(".safetensors")}
    assert snowmelt.load(tmp_path / "without").prior is None
    run.train(recipe(prior="gaussian-mixture"), tmp_path / "with")
    assert contents(tmp_path / "with") == second
    run.train(recipe(prior="gaussian-mixture"), tmp_path / "without")
    assert {name for name in contents(tmp_path / "without") if name.endswith(".safetensors")} == {
        name for name in second if name.endswith(".safetensors")
    }, "asked for afterwards, it is the same: names are made of contents"


def test_a_prior_is_added_and_replaced_without_touching_the_rest(tmp_path: Path) -> None:
    run.train(recipe(), tmp_path)
    before = contents(tmp_path)
    assert run.fit_prior(tmp_path, "gaussian-mixture:grid=2").prior == GaussianMixture(grid=2)
    run.fit_prior(tmp_path, "from-data:samples=9")
    found = snowmelt.load(tmp_path).prior
    assert found == FromData(samples=9)
    assert found.tensors()["x"].shape == (9, 1, 8, 8)
    after = contents(tmp_path)
    assert sum(name.startswith("prior-") for name in after) == 1, "the first one's numbers are gone"
    assert {name: after[name] for name in before if name != "model.json"} == {name: data for name, data in before.items() if name != "model.json"}
    run.train(recipe(), tmp_path)
    assert snowmelt.load(tmp_path).prior == found, "a recipe that asks for none keeps what was added"


def test_samples_kept_are_those_of_training_with_their_draws(tmp_path: Path) -> None:
    run.train(recipe("mask", input="float"), tmp_path)
    prior = run.fit_prior(tmp_path, "from-data:samples=20").prior
    assert prior is not None
    kept = prior.tensors()
    x = open_data(recipe().data, "train").numbered(0, range(20))["x0"]
    assert torch.equal(kept["x"], snowmelt.build("mask")(x, torch.ones(20), {"centre": kept["z.centre"]}))
    assert len(kept["z.centre"].unique(dim=0)) == 20


def test_priors_are_fitted_to_what_an_8bit_restorer_sees_without_its_noise_floor(tmp_path: Path) -> None:
    made = run.make_model(recipe("gaussian-blur:sigma_px=1", noise_floor=0.1), (1, 8, 8))
    data = open_data(recipe().data, "train")
    (state,) = priors.degraded(made, data, images=50)
    x = data.numbered(0, range(50))["x0"]
    assert float((state.x - made.degradation(x, torch.ones(50))).abs().max()) <= 1 / 255 + 1e-6
    levels = (state.x + 1) * 127.5
    assert float((levels - levels.round()).abs().max()) < 1e-4
    assert "floor" not in state.z


def test_the_automatic_prior_is_noise_where_the_degradation_ends_in_it() -> None:
    assert run.make_model(recipe("noise"), (1, 8, 8)).prior == Normal()
    assert run.make_model(recipe("noise", prior="normal"), (1, 8, 8)).prior == Normal()
    assert run.make_model(recipe(), (1, 8, 8)).prior is None


@pytest.mark.parametrize(
    ("degradation", "prior", "says"),
    [
        ("pixelate", "normal", r"the prior normal does not fit pixelate, which does not end in pure noise: take gaussian-mixture or from-data"),
        ("mask", "gaussian-mixture", r"the prior gaussian-mixture does not fit mask: it lacks centre, .*take from-data"),
        ("noise:schedule=ve", "normal", "does not end in pure noise"),
        ("pixelate", "gaussian-mixture:grid=9", r"mixture\.grid = 9 is larger than the pictures of 8 x 8 px: give at most 8"),
        ("pixelate", "gaussian-mixure", r"unknown prior 'gaussian-mixure'.*gaussian-mixture"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused_before_the_training(degradation: str, prior: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run.make_model(recipe(degradation, prior=prior), (1, 8, 8))


def test_a_prior_that_does_not_fit_leaves_a_run_as_it_was(tmp_path: Path) -> None:
    run.train(recipe(), tmp_path)
    before = contents(tmp_path)
    for spec in ("normal", "constant", "gaussian-mixture:grid=9"):
        with pytest.raises(ValueError, match=r"does not fit|is larger than"):
            run.fit_prior(tmp_path, spec)
    assert contents(tmp_path) == before
