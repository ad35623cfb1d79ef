"""Consistency tuning: the loss against its definition, the stages of the gap, what a tuned model may walk, and the verb."""

import dataclasses
import json
import math
import shutil

import pytest
import torch

from snowmelt.cli import main
from snowmelt.losses import consistency_loss, restoration_loss
from snowmelt.model import Model, load
from snowmelt.randomness import generator
from snowmelt.recipes import directory
from snowmelt.recipes import run as runs
from snowmelt.recipes.recipe import from_table
from snowmelt.recipes.tuning import tune, tuned_copy, tuning
from snowmelt.registry import build
from snowmelt.restorers import Restorer
from snowmelt.samplers import Ancestral, Heun, Naive, TACoS, default_sampler, default_walk
from snowmelt.training.objective import Objective
from snowmelt.training.options import TrainingOptions

LOSSES = ("l2", "l1", "charbonnier", "pseudo-huber")


def model(spec: str = "gaussian-blur:sigma_px=2", floor: float = 0.05) -> Model:
    D = build(spec)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        restorer = Restorer(D, build("unet:widths=(8,),patch=2,groups=4", "backbone"), (1, 8, 8), noise_floor=floor)
        for p in restorer.parameters():
            torch.nn.init.normal_(p, std=0.1)
    return Model(D, restorer.fit([torch.randn(16, 1, 8, 8)]), noise_floor=floor)


def drawn(m: Model, n: int = 5) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    source = generator(0, "pairs")
    x0 = torch.randn(n, 1, 8, 8, generator=source)
    return x0, torch.linspace(0.1, 1, n), dict(m.draw(x0, source))


@pytest.mark.parametrize("loss", LOSSES)
def test_without_a_gap_it_is_the_restoration_loss_bit_for_bit(loss):
    m = model()
    x0, t, z = drawn(m)
    found = consistency_loss(m, x0, t, torch.zeros_like(t), z, loss=loss)
    assert torch.equal(found, restoration_loss(m, x0, t, z, loss=loss) / t)


@pytest.mark.parametrize("least", [1e-30, 1e-42])
def test_severities_that_are_all_but_0_give_finite_losses_and_gradients(least):
    m = model()
    x0, t, z = drawn(m)
    t[0] = least
    found = consistency_loss(m, x0, t, 0.5 * t, z)
    found.mean().backward()
    assert found.isfinite().all()
    assert all(p.grad.isfinite().all() for p in m.restorer.net.parameters() if p.grad is not None)


def test_it_is_the_distance_of_two_estimates_of_one_sample_by_its_definition():
    m = model()
    x0, t, z = drawn(m)
    s = 0.75 * t
    later, earlier = (m.estimate(m.degrade(x0, u, z), u, z) for u in (t, s))
    wanted = (((later - earlier).square().flatten(1).mean(1) + 0.06**2).sqrt() - 0.06) / (t - s)
    assert torch.allclose(consistency_loss(m, x0, t, s, z), wanted, rtol=1e-5)


def test_near_a_clean_picture_the_estimate_is_held_to_the_picture_itself():
    """The anchor: without it, estimates of a residual agree with each other and with nothing."""
    m = model()
    x0, _, z = drawn(m)
    t, s = torch.full((5,), 0.06), torch.tensor([0.0, 0.02, 0.0499, 0.0501, 0.055])
    found = consistency_loss(m, x0, t, s, z)
    assert torch.equal(found[:3], (restoration_loss(m, x0, t, z, loss="pseudo-huber") / (t - s))[:3])
    later, earlier = (m.estimate(m.degrade(x0, u, z), u, z) for u in (t, s))
    wanted = (((later - earlier).square().flatten(1).mean(1) + 0.06**2).sqrt() - 0.06) / (t - s)
    assert torch.allclose(found[3:], wanted[3:], rtol=1e-4)
    assert not torch.allclose(found[:3], wanted[:3], rtol=1e-2)


def test_gradients_flow_through_the_estimate_at_t_alone():
    m = model()
    x0, t, z = drawn(m)
    consistency_loss(m, x0, t, 0.5 * t, z, loss="l2").sum().backward()
    assert isinstance(m.restorer, Restorer)
    found = [p.grad.clone() for p in m.restorer.net.parameters() if p.grad is not None]
    m.restorer.zero_grad()
    with torch.no_grad():
        held = m.estimate(m.degrade(x0, 0.5 * t, z), 0.5 * t, z)
    ((m.estimate(m.degrade(x0, t, z), t, z) - held).square().flatten(1).mean(1) / (0.5 * t)).sum().backward()
    wanted = [p.grad for p in m.restorer.net.parameters() if p.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wanted, strict=True))


STAGES = {
    0.0: (0.0,),
    0.3: (0.3,),
    0.5: (0.5,),
    0.75: (0.5, 0.75),
    0.94: (0.5, 0.75, 0.875, 0.94),
    0.97: (0.5, 0.75, 0.875, 0.9375, 0.97),
}


@pytest.mark.parametrize(("gap", "stages"), STAGES.items())
def test_the_gap_grows_in_stages_of_equal_length(gap, stages):
    o = TrainingOptions(images=64 * 100, gap=gap)
    assert o.gaps == stages
    seen = [o.gap_at(step) for step in range(o.steps)]
    assert sorted(seen) == seen
    assert all(abs(seen.count(g) - 100 / len(stages)) <= 1 for g in stages)


@pytest.mark.parametrize("gap", [1.0, 0.009, 1e-9, -0.5])
def test_a_gap_outside_its_bounds_is_refused_by_name(gap):
    with pytest.raises(ValueError, match=rf"training.gap = {gap} lies outside \[0.01, 0.99\]"):
        TrainingOptions(gap=gap)


MOST = {"mean": None, "median": None, "consistency(0.5)": 16, "consistency(0.94)": 2, "consistency(0.97)": 1, "consistency(0.99)": 1}


@pytest.mark.parametrize(("estimates", "most"), MOST.items())
def test_how_far_a_tuned_model_may_walk(estimates, most):
    assert dataclasses.replace(model(), estimates=estimates).most_calls == most


@pytest.mark.parametrize("word", ["mode", "consistency", "consistency(1)", "consistency(0.94", "consistency(0.0)", "Consistency(0.5)"])
def test_estimates_that_are_none_are_refused(word):
    with pytest.raises(ValueError, match="is none of mean, median, penalised and consistency"):
        dataclasses.replace(model(), estimates=word)


def test_long_walks_and_order_two_are_refused_with_a_tuned_restorer():
    m = model()
    tuned = dataclasses.replace(m, estimates="consistency(0.94)")
    x0, _, _ = drawn(m)
    start = m.corrupt(x0, 1.0, generator(0, "draw"))
    for sampler, why in ((TACoS(3), "of 3 calls"), (Naive(50), "of 50 calls"), (TACoS(2, order=2), "order 2"), (Heun(3), "of 3 calls")):
        with pytest.raises(ValueError, match=rf"{why}.*tuned, consistency\(0.94\), for walks of at most 2 calls"):
            sampler.sample(tuned, start)
        assert sampler.sample(m, start).shape == x0.shape
    for sampler in (TACoS(2), Naive(1), Heun(1)):
        assert torch.equal(sampler.sample(tuned, start), sampler.sample(m, start))


def test_the_walk_when_nothing_is_said():
    cold, hot, snow = model(), model("noise:schedule=linear", 0.0), model("snow", 0.0)
    for m in (cold, hot, snow):
        assert default_walk(m) == default_sampler(m.degradation)
    tuned = [dataclasses.replace(m, estimates="consistency(0.875)") for m in (cold, hot, snow)]
    assert [default_walk(m) for m in tuned] == [TACoS(4), Ancestral(4, eta=0.0), Naive(1)]
    table = dataclasses.replace(model("recursive-blur:steps=20"), estimates="consistency(0.875)")
    assert default_walk(table) == TACoS(4, snap=True)


RECIPE = {
    "degradation": "gaussian-blur:sigma_px=2",
    "data": {"path": "bundled:digits", "limit": 300},
    "model": {"backbone": "unet:widths=(16,),patch=2", "noise_floor": 0.05, "input": "float", "prior": "gaussian-mixture:components=2,grid=2"},
    "training": {"images": 640, "batch": 32, "validate_every": 320, "validation_images": 16},
}

TABLE = {**RECIPE, "degradation": "recursive-blur:steps=20,kernel_size=3", "model": {"backbone": "unet:widths=(8,),patch=2,groups=4"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "digits"
    runs.train(from_table(RECIPE), run)
    return run


def test_a_tuned_copy_lies_in_the_run_and_the_run_stays(finished):
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    made = tune(finished, 0.75, images=128)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before
    kept, parent = load(finished / "fast"), load(finished)
    assert (kept.estimates, kept.most_calls, parent.estimates) == ("consistency(0.75)", 8, "mean")
    assert kept.prior == parent.prior
    assert kept.prior is not None
    assert made.prior == parent.prior
    state = kept.prior.sample(3, generator(0, "prior"))
    assert torch.equal(state.x, parent.prior.sample(3, generator(0, "prior")).x)
    lines = [json.loads(line) for line in (finished / "fast" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["images"] == 128
    assert directory.stored(finished / "fast").training.gap == 0.75


def test_it_begins_with_the_averaged_weights_of_the_run(finished, tmp_path):
    recipe = directory.stored(finished)
    tuned = tuning(finished, load(finished), 0.5)
    assert tuned.training.images == 500 * recipe.training.batch
    assert tuned.training.lr == recipe.training.lr / 20
    trainer = runs.make_trainer(tuned, tmp_path / "never")
    ours, theirs = trainer.model.restorer.state_dict(), load(finished).restorer.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_cannot_be_tuned_is_refused(finished, tmp_path):
    with pytest.raises(ValueError, match="--gap 0 is a training proper"):
        tune(finished, 0.0)
    with pytest.raises(ValueError, match="lies outside"):
        tune(finished, 0.995, out=tmp_path / "a")
    tune(finished, 0.5, images=32, out=tmp_path / "tuned")
    with pytest.raises(ValueError, match=r"is tuned already, consistency\(0.5\)"):
        tune(tmp_path / "tuned", 0.75)


def test_the_verb_says_what_comes_next_and_goes_on(finished, tmp_path, capsys):
    out = tmp_path / "fast"
    assert main(["tune", str(finished), "--gap", "0.875", "--images", "96", "--out", str(out)]) == 0
    assert "walks of 4 calls" in capsys.readouterr().out
    weights = {path.name for path in out.glob("*.safetensors")}
    assert main(["tune", str(finished), "--gap", "0.875", "--images", "96", "--out", str(out)]) == 0
    assert {path.name for path in out.glob("*.safetensors")} == weights
    assert main(["tune", str(finished), "--gap", "0.5", "--images", "96", "--out", str(out)]) == 2
    assert "training.gap is 0.875 there and 0.5 here" in capsys.readouterr().err
    assert main(["sample", str(out), "-n", "2", "--out", str(tmp_path / "new"), "--steps", "12", "--sampler", "tacos"]) == 2
    assert "tuned, consistency(0.875), for walks of at most 4 calls" in capsys.readouterr().err


def test_a_copy_to_another_place_is_named_as_it_is_used(finished, tmp_path, capsys):
    assert main(["tune", str(finished), "--gap", "0.875", "--images", "32", "--out", str(tmp_path / "x")]) == 0
    said = capsys.readouterr().out
    assert f"snowmelt sample {tmp_path / 'x'} -n 16 --out new" in said
    assert "--fast" not in said
    assert "--curve" not in said


def test_a_run_is_no_place_for_its_own_copy(finished):
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    for same in (finished, finished / "fast" / ".."):
        for fresh in (True, False):
            with pytest.raises(ValueError, match="is the run itself"):
                tune(finished, 0.5, out=same, images=32, fresh=fresh)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_a_copy_of_a_moved_run_goes_on_and_one_of_other_weights_does_not(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("fast"))
    tune(run, 0.5, images=32)
    before = {path.name for path in (run / "fast").glob("*.safetensors")}
    run = run.rename(tmp_path / "moved")
    tune(run, 0.5, images=32)
    assert {path.name for path in (run / "fast").glob("*.safetensors")} == before
    runs.train(from_table({**RECIPE, "training": {**RECIPE["training"], "images": 320}}), run, fresh=True)
    assert (run / "fast" / "model.json").is_file()
    with pytest.raises(ValueError, match="was tuned from other weights than .* has now: .*--fresh"):
        tune(run, 0.5, images=32)
    tune(run, 0.5, images=32, fresh=True)
    assert load(run / "fast").notes["init"]["weights"] == runs.weights_of(run)


def test_an_unfinished_run_is_not_tuned(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("fast"))
    lines = (run / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if json.loads(line)["images"] < 640]
    assert kept
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in kept))
    with pytest.raises(ValueError, match=r"has seen \d+ of 640 images: finish it with 'snowmelt train"):
        tune(run, 0.5, images=32)
    (run / "metrics.jsonl").unlink()  # one that was made elsewhere
    assert tune(run, 0.5, images=32).gap == 0.5


def test_a_copy_whose_tuning_was_interrupted_is_not_walked(finished, tmp_path):
    """It has no prior yet, and its gap is not the one that was asked for."""
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("fast"))
    tune(run, 0.5, images=64)
    assert tuned_copy(run) == run / "fast"
    log = run / "fast" / "metrics.jsonl"
    kept = [line for line in log.read_text().splitlines() if json.loads(line)["images"] < 64]
    assert kept
    log.write_text("".join(f"{line}\n" for line in kept))
    with pytest.raises(ValueError, match=r"fast has seen \d+ of 64 images: the 'snowmelt tune .*run' that began it goes on, and --fresh begins anew"):
        tuned_copy(run)


def test_a_tuned_copy_is_evaluated_by_its_own_walk_and_survives_its_run(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("fast"))
    tune(run, 0.94, images=32)
    report = runs.evaluate(run / "fast", images=8, walk="tacos:steps=12")
    assert report.facts["degradation"].startswith("gaussian-blur")
    assert (run / "fast" / "evaluation.json").is_file()
    directory.clear(run)
    assert (run / "fast" / "evaluation.json").is_file()
    assert not (run / "model.json").exists()


@pytest.mark.parametrize("gap", [0.01, 0.25, 0.5, 0.75, 0.8, 0.875, 0.9, 0.9375, 0.94, 0.95, 0.99])
def test_the_earlier_severity_is_the_knot_at_or_below(gap, tmp_path):
    trainer = runs.make_trainer(from_table(TABLE), tmp_path / "never")
    for knots in (20, 50, 100):  # in float32, .9375 * 16 / 50 * 50 lies below 15
        model = dataclasses.replace(trainer.model, degradation=build(f"recursive-blur:steps={knots},kernel_size=3"))
        objective = Objective(model, trainer.options, trainer.waiting)
        k = torch.arange(1, knots + 1)
        s = objective._on_knots(gap * k / knots, k / knots, {})
        assert (s * knots).round().tolist() == [math.floor(gap * float(i) + 1e-9) for i in k]
        assert torch.equal(s, (s * knots).round() / knots)
        assert (s < k / knots).all()


def test_without_knots_the_earlier_severity_is_the_gap_times_t(finished, tmp_path):
    t = torch.tensor([1e-7, 1e-3, 0.3, 1.0])
    assert torch.equal(runs.make_trainer(directory.stored(finished), tmp_path / "never").objective._on_knots(0.5 * t, t, {}), 0.5 * t)


def test_a_table_is_tuned_on_its_knots(tmp_path):
    recipe = from_table(TABLE)
    recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, images=64, gap=0.5, validate_every=64))
    assert runs.train(recipe, tmp_path / "run").gap == 0.5
