"""The papers behind a run: of its parts, its training and its measures, and of nothing that is not there."""

import dataclasses
from pathlib import Path

import pytest

import snowmelt
from snowmelt.evaluation import Report
from snowmelt.model import Model, save
from snowmelt.priors import Normal
from snowmelt.recipes import citing, recipe
from snowmelt.recipes.citing import behind, of_model
from snowmelt.references import Paper, paper
from snowmelt.registry import SpecError, build, papers
from snowmelt.restorers import Conditions, Restorer

TINY = "unet:widths=(8,16),patch=2,groups=4,blocks=1"
REPORTED = {"method": "Direct", "kind": "direct", "input": "float", "calls": 1, "images": 4, "rmse": 0.1, "psnr": 20.0, "ssim": 0.5}


def keys(name: str | Path) -> dict[str, tuple[str, ...]]:
    return {one.paper.key: one.reasons for one in behind(name)}


def model(degradation: str = "noise:schedule=linear", **said) -> Model:
    D, notes = build(degradation), said.pop("notes", {})
    restorer = Restorer(D, build(TINY, "backbone"), (1, 8, 8), parameterization=build("flow", "parameterization"), **said)
    return Model(D, restorer, Normal((1, 8, 8)), notes=notes)


def of(made: Model) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for reason, one in of_model(made):
        found.setdefault(one.key, set()).add(reason)
    return found


def test_a_model_is_from_what_its_parts_are_from() -> None:
    found = of(model())
    assert found["liu2022"] == {"schedule linear", "parameterization flow"}
    assert found["lipman2022"] == {"parameterization flow"}
    assert found["song2020"] == {"degradation noise", "sampler ancestral", "prior normal"}
    assert found["lu2022"] == {"sampler ancestral"}  # of order 2, when nothing is said
    assert found["ronneberger2015"] == {"backbone unet"}
    assert not {"loshchilov2017", "kendall2017", "vonplaten2022", "nichol2021", "ho2022"} & set(found)


def test_what_a_restorer_is_told_and_how_it_was_trained() -> None:
    training = {"loss": "l1", "weight": "min-snr", "penalty": "frequency", "unfold": True, "precision": "fp16", "severities": "log-normal"}
    made = model(conditions=Conditions(classes=3, image=1), variance="learned", notes={"recipe": {"training": training}, "share": 0.5})
    found = of(made)
    for key, reason in {
        "ho2022": "told: label",
        "saharia2021": "told: image",
        "nichol2021": "variance learned",
        "loshchilov2017": "optimiser AdamW",
        "bansal2022": "loss l1",
        "hang2023": "weight min-snr",
        "yamamoto2020": "penalty frequency",
        "yen2023": "unfolded training",
        "micikevicius2018": "scaled gradients of fp16",
        "karras2022": "severities log-normal",
        "wortsman2022": "mean of two trainings' weights",
    }.items():
        assert reason in found[key]
    assert "geng2024" not in found


def test_a_tuned_model_is_from_consistency_models() -> None:
    made = dataclasses.replace(model(notes={"recipe": {"training": {"gap": 0.9}}}), estimates="consistency(0.9)")
    found = of(made)
    assert found["geng2024"] == found["song2023"] == {"consistency tuning"}
    assert "lu2022" not in found  # a tuned model is walked at order 1


def test_a_plain_function_is_a_model_too() -> None:
    found = of(Model(build("mask"), lambda x, t: x))
    assert found == {"bansal2022": {"degradation mask", "sampler tacos"}, "lu2022": {"sampler tacos"}}


@pytest.mark.parametrize("said", [3, {"training": [1]}, {"training": {"loss": {}, "weight": None}, "evaluation": 7}, {"evaluation": {"samplers": 5}}])
def test_notes_of_a_stranger_do_no_harm(said, tmp_path: Path) -> None:
    save(model(notes={"recipe": said}), tmp_path)
    Report(rows=[REPORTED], facts={}, verdict=[]).write(tmp_path)
    assert "wang2004" in keys(tmp_path)


def test_the_model_of_photographs() -> None:
    found = keys("photo")
    assert found["zhang2021practical"] == ("degradation mixture",)
    assert "sampler naive" in found["bansal2022"]  # one call, for nobody knows the draw
    assert found["wortsman2022"] == ("mean of two trainings' weights",)
    assert {"kendall2017", "seitzer2022", "guo2017", "birge1932"} <= set(found)
    assert "wang2004" not in found  # it is not evaluated
    assert list(found)[-1] == "snowmelt"


def test_measures_of_an_evaluation(tmp_path: Path) -> None:
    made = dataclasses.replace(model(), notes={"recipe": {"evaluation": {"samplers": ["naive:fresh=true", "heun"]}}})
    save(made, tmp_path)
    before = keys(tmp_path)
    Report(
        rows=[REPORTED | {"method": "Linear Wiener", "KID-paired": 0.1}],
        facts={"FID": "in the words of facts nothing counts"},
        verdict=[],
        generated={"measures": {"FD against train": [2.0, 1.0], "precision": [0.5, 0.9], "JSD of bird's-eye views against test": [0.2, 0.1]}},
    ).write(tmp_path)
    (tmp_path / "bound.json").write_text("{}")
    found = keys(tmp_path)
    assert set(found) - set(before) == {
        *("blau2018", "wiener1949", "wang2004", "binkowski2018", "dowson1982", "heusel2017", "kynkaanniemi2019", "zyrianov2022", "nakashima2023"),
        *("song2023", "daras2022", "karras2022", "sohldickstein2015", "nichol2021"),
    }
    assert found["heusel2017"] == ("measure FD",)
    assert found["song2023"] == ("sampler naive",)


def test_a_pipeline_of_diffusers_is_walked_as_it_was() -> None:
    notes = {"diffusers": {"pipeline": "DDIMPipeline", "sampler": "ancestral:eta=0.5,steps=5"}}
    found = of(model(notes=notes))
    assert found["vonplaten2022"] == {"imported from diffusers"}
    assert "sampler ancestral" in found["song2020"]
    assert "lu2022" not in found


@pytest.mark.parametrize("name", recipe.presets())
def test_every_recipe_has_papers(name: str) -> None:
    found = keys(name)
    reasons = {reason.split(" ")[0] for reasons in found.values() for reason in reasons}
    assert {"backbone", "optimiser"} <= reasons
    assert ("degradation" in reasons) == bool(papers(build(recipe.load(name)["degradation"])))


def test_what_was_never_computed_is_from_nobody(tmp_path: Path) -> None:
    save(model(), tmp_path)
    missing = {"FD": "not computed", "KID": "not computed"}
    Report(rows=[REPORTED | missing], facts={}, verdict=[], walks=[{**missing, "precision": 0.5}]).write(tmp_path)
    found = keys(tmp_path)
    assert {"wang2004", "kynkaanniemi2019"} <= set(found)
    assert not {"dowson1982", "heusel2017", "binkowski2018"} & set(found)


def test_a_recipe_that_reads_severities_says_so_as_its_run_does() -> None:
    assert "reading severities" in keys("photo-base")["kendall2017"]
    assert "kendall2017" not in keys("demo")


def test_a_run_that_has_saved_no_model_yet_is_cited_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    asked = recipe.from_table({"degradation": "snow", "model": {"backbone": "zero"}, "training": {"loss": "l1"}})
    (tmp_path / "run" / "recipe.toml").write_text(recipe.to_toml(asked), encoding="utf-8")
    assert {"bansal2022", "hendrycks2019", "loshchilov2017"} <= set(keys(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    assert keys("run") == keys(tmp_path / "run")


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('degradation = "snow"\n[model]\nbackbone = "zero"\nconditions = ["label"]\n[training]\nloss = "l1"\n')
    assert set(keys(path)) == {"bansal2022", "hendrycks2019", "ho2022", "loshchilov2017", "snowmelt"}


def test_what_is_nothing_is_named_with_what_is_near() -> None:
    with pytest.raises(SpecError, match=r"^taco is no run directory, no recipe and no part \(did you mean 'tacos'\?\); 'snowmelt list' shows all"):
        behind("taco")


def test_a_name_that_two_kinds_have_is_both() -> None:
    found = keys("constant")
    assert found["rissanen2022"] == ("schedule constant",)
    assert found["bansal2022"] == ("prior constant",)


def test_a_spec_is_of_the_kinds_that_have_its_fields() -> None:
    assert keys("constant:sigma=0.01") == {"rissanen2022": ("schedule constant",), "snowmelt": ("everything",)}
    assert set(keys("constant:low=0")) == set(keys("constant")) - {"rissanen2022"}
    with pytest.raises(SpecError, match="colour"):
        behind("constant:colour=red")


def test_two_papers_of_one_key_are_told_apart() -> None:
    ours, theirs = paper("ho2020"), Paper(key="ho2020", title="Another", authors=("A. Ho",), year=2020)
    found = citing._collected(iter([("degradation noise", ours), ("degradation theirs", theirs), ("prior normal", ours)]))
    assert {one.paper.key: one.reasons for one in found[:-1]} == {"ho2020": ("degradation noise", "prior normal"), "ho2020b": ("degradation theirs",)}
    assert found[1].paper.bibtex().startswith("@misc{ho2020b,\n")


def test_the_version_is_said() -> None:
    (own,) = (one.paper for one in behind("compose"))
    assert str(own).endswith(f" version {snowmelt.__version__}.")
