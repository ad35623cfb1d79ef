"""Runs made from recipes: what they write, what they refuse to overwrite, what --fresh deletes."""

from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt.recipes import directory, run
from snowmelt.recipes.demo import recipe as demo_recipe
from snowmelt.recipes.recipe import Recipe, from_table
from snowmelt.recipes.report import WRITTEN
from snowmelt.stopping import Stopped

TINY = {
    "degradation": "gaussian-blur:sigma_px=2",
    "data": {"path": "bundled:digits", "size": 8},
    "model": {"backbone": "unet:widths=(8,16),patch=2,groups=4,blocks=1"},
    "training": {"images": 64, "batch": 16, "validation_images": 8, "precision": "fp32"},
    "evaluation": {"images": 8, "calls": [2], "samplers": ["tacos"]},
}


def recipe(**training: object) -> Recipe:
    return from_table({**TINY, "training": {**TINY["training"], **training}})  # type: ignore[dict-item]


def test_of_several_processes_the_first_alone_bounds_the_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.train(recipe(), tmp_path / "run")
    done: list[str] = []
    monkeypatch.setattr(run.bits, "bits_per_dim", lambda *given, **more: done.append("bits"))
    monkeypatch.setattr(run, "judge", lambda *given, **more: done.append("report"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("0", ["bits", "report"]), ("1", ["report"])):
        monkeypatch.setenv("RANK", rank)
        run.evaluate(tmp_path / "run", bits_per_dim=4)
        assert done == expected
        done.clear()


def test_a_run_is_trained_evaluated_and_started_over(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run.train(recipe(), out)
    report = run.evaluate(out)
    assert {p.name for p in out.iterdir()} >= {*WRITTEN, "evaluation.json", "evaluation.md", "model.json", "recipe.toml", "metrics.jsonl", "samples"}
    assert report.facts["trained on"].startswith("64 images")
    (out / "mine.txt").write_text("a note beside the run")
    before = (out / "model.json").read_text()
    with pytest.raises(ValueError, match=r"holds the run of another recipe: training\.lr is .* --fresh"):
        run.train(recipe(lr=1e-4), out)
    assert (out / "model.json").read_text() == before
    run.train(recipe(lr=1e-4), out, fresh=True)
    assert (out / "mine.txt").read_text() == "a note beside the run"
    assert not (out / "report.html").exists()


@pytest.mark.parametrize(("name", "value"), [("shards", 4), ("precision", "bf16")])
def test_a_choice_that_was_left_open_may_be_named_later_and_the_checkpoint_decides(tmp_path: Path, name: str, value: object) -> None:
    left_open = recipe(precision="auto", shards=0)
    run.train(left_open, tmp_path)
    named = recipe(**{"precision": "auto", "shards": 0, name: value})
    directory.claim(named, tmp_path, fresh=False)
    trainer = run.make_trainer(named, tmp_path)
    was = run.make_trainer(left_open, tmp_path).exact[name]
    if was == value:
        trainer.resume()
    else:
        with pytest.raises(ValueError, match=f"{name} = {was}, and here it is {value}, .*: give --training.{name} {was}, or add --allow-inexact"):
            trainer.resume()


def test_a_run_may_begin_from_another(tmp_path: Path) -> None:
    first = run.train(recipe(), tmp_path / "first").restorer.state_dict()
    begun = from_table({**TINY, "model": {**TINY["model"], "init": str(tmp_path / "first")}})  # type: ignore[dict-item]
    fresh = run.make_model(begun, (1, 8, 8))
    assert all(torch.equal(value, first[name]) for name, value in fresh.restorer.state_dict().items())
    assert fresh.notes["init"]["weights"][:12] in next((tmp_path / "first").glob("ema-*")).name
    assert not all(torch.equal(value, first[name]) for name, value in run.make_model(recipe(), (1, 8, 8)).restorer.state_dict().items())
    run.train(begun, tmp_path / "second")
    assert snowmelt.load(tmp_path / "second").notes["recipe"]["model"]["init"].endswith("first")
    other = {**TINY["model"], "init": str(tmp_path / "first"), "backbone": "unet:widths=(16,16),patch=2,groups=4,blocks=1"}
    with pytest.raises(ValueError, match=r"model.init = .*first holds another network than unet:widths=\(16,16\)"):
        run.make_model(from_table({**TINY, "model": other}), (1, 8, 8))  # type: ignore[dict-item]


def test_the_same_recipe_on_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run.train(recipe(), tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    run.train(recipe(), tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_fresh_deletes_nothing_that_no_run_made(tmp_path: Path) -> None:
    (tmp_path / "holiday.png").write_bytes(b"precious")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        run.train(recipe(), tmp_path, fresh=True)
    assert (tmp_path / "holiday.png").read_bytes() == b"precious"


def test_how_it_is_judged_may_change_without_a_new_run(tmp_path: Path) -> None:
    run.train(recipe(), tmp_path)
    changed = from_table({**TINY, "about": "the same", "evaluation": {"images": 4, "calls": [1], "samplers": ["naive"]}})
    run.train(changed, tmp_path)


def test_reading_severities_is_learned_once_also_after_the_training(tmp_path: Path) -> None:
    trained = run.train(recipe(), tmp_path)
    assert trained.estimator is None
    weights = {p.name: p.read_bytes() for p in tmp_path.glob("*.safetensors")}
    model = run.train(recipe(severity_images=64), tmp_path)
    assert model.estimator is not None
    assert {name: (tmp_path / name).read_bytes() for name in weights} == weights
    x = torch.rand(2, 1, 20, 20) * 2 - 1
    assert torch.equal(snowmelt.load(tmp_path).estimator.estimate(x).severity["severity"], model.estimator.estimate(x).severity["severity"])  # type: ignore[union-attr]
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    run.train(recipe(severity_images=64), tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert run.train(recipe(), tmp_path).estimator is not None


def test_a_run_from_before_severities_were_read_goes_on(tmp_path: Path) -> None:
    run.train(recipe(), tmp_path)
    path = tmp_path / directory.RECIPE
    lines = [line for line in path.read_text().splitlines() if not line.startswith("severity_images")]
    assert len(lines) < len(path.read_text().splitlines())
    path.write_text("\n".join(lines))
    assert run.train(recipe(severity_images=64), tmp_path).estimator is not None


def test_the_whole_run_at_once_is_the_run_in_two_parts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run.train(recipe(severity_images=64), one)
    run.train(recipe(), two)
    run.train(recipe(severity_images=64), two)
    assert {p.name for p in one.glob("*.safetensors")} == {p.name for p in two.glob("*.safetensors")}  # the names are made of the contents


def test_a_run_stopped_while_severities_are_learned_keeps_its_restorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: object, **options: object) -> None:
        raise Stopped("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(run, "fit", stopped)
        with pytest.raises(Stopped):
            run.train(recipe(severity_images=64), tmp_path)
    assert snowmelt.load(tmp_path).estimator is None
    assert run.train(recipe(severity_images=64), tmp_path).estimator is not None


def test_the_weights_of_an_untrained_model_depend_on_the_seed_alone() -> None:
    torch.rand(1)
    a, b, c = (run.make_model(r, (1, 8, 8)).restorer.state_dict() for r in (recipe(), recipe(), recipe(seed=1)))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_the_demo_runs_on_bundled_data_and_its_quick_form_is_short() -> None:
    assert demo_recipe().data.path.startswith("bundled:")
    assert demo_recipe(quick=True).training.images < demo_recipe().training.images / 10


def test_noise_is_not_rounded_unless_asked_and_then_refused() -> None:
    noisy = {**TINY, "degradation": "noise"}
    assert run.make_model(from_table(noisy), (1, 8, 8)).input == "float"
    assert run.make_model(recipe(), (1, 8, 8)).input == "8bit"
    with pytest.raises(ValueError, match=r"model\.input = 8bit would clip the noise of noise"):
        run.make_model(from_table({**noisy, "model": {**TINY["model"], "input": "8bit"}}), (1, 8, 8))  # type: ignore[dict-item]


def test_a_part_of_a_choice_is_judged_by_itself_and_cleared_with_its_run(tmp_path: Path) -> None:
    several = from_table({**TINY, "degradation": "choice:parts=(pixelate:levels=1,mask)"})
    run.train(several, tmp_path / "run")
    for part in ("pixelate", "mask"):
        report = run.evaluate(tmp_path / "run", part=part)
        assert report.facts["degradation"].startswith(part)
        assert report.facts["told of the draw"] == "which"
        assert (tmp_path / "run" / part / "report.html").is_file()
    assert not (tmp_path / "run" / "report.html").exists()
    with pytest.raises(ValueError, match="no part 'masc'"):
        run.evaluate(tmp_path / "run", part="masc")
    (tmp_path / "run" / "mask" / "mine.txt").touch()
    directory.clear(tmp_path / "run")
    assert sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*")) == ["mask", "mask/mine.txt"]
