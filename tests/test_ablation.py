"""The ablation of preconditioning: the page says what the file and the code say, and the script goes on where it stopped."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from snowmelt import registry
from snowmelt.evaluation import methods
from snowmelt.evaluation.scoring import score
from snowmelt.recipes.run import make_model


@pytest.fixture(scope="module")
def ablation(script) -> ModuleType:
    return script("benchmarks/ablation.py")


@pytest.fixture(scope="module")
def kept(ablation: ModuleType) -> dict[str, Any]:
    return json.loads(ablation.KEPT.read_text(encoding="utf-8")) if ablation.KEPT.is_file() else {}


def test_the_page_is_what_the_figures_and_the_code_say(ablation: ModuleType, kept: dict[str, Any]) -> None:
    page = ablation.PAGE.read_text(encoding="utf-8")
    assert page == ablation.filled(page, kept), "run python benchmarks/ablation.py --docs"
    assert ablation.operator_table() in page
    assert ablation.tables(kept) in page


def test_the_kept_figures_are_whole_and_say_where_they_come_from(ablation: ModuleType, kept: dict[str, Any]) -> None:
    if not kept:
        pytest.skip("no figures are kept yet: python benchmarks/ablation.py --data DIR")
    found = sorted((entry["path"], *(entry[key] for key in ablation.Choice._fields), entry["seed"]) for entry in kept["rows"])
    assert found == sorted((path, *choice, seed) for path in ablation.PATHS for choice in ablation.CHOICES for seed in range(3))
    for entry in (*kept["tuning"], *kept["beside"], *kept["rows"]):
        assert {"commit", "date", "device", "threads", "torch"} <= entry["environment"].keys()
        assert not entry["environment"]["commit"].endswith("+")
    assert kept["lr"] == ablation.best_rate(kept["tuning"])


def test_every_degradation_is_in_the_table_and_those_without_a_basis_say_why(ablation: ModuleType) -> None:
    of_pictures = {name for name in registry.names("degradation") if any(f.required for f in registry.schema(name)) or not registry.build(name).takes}
    assert {registry.label(type(registry.build(spec))) for spec in ablation.OPERATORS} == of_pictures
    for spec, why in ablation.OPERATORS.items():
        assert (registry.build(spec).basis is None) == bool(why), spec
    lines = {line.split("`")[1]: line for line in ablation.operator_table().splitlines()[2:]}
    assert "| DCT | wiener |" in lines["gaussian-blur"]
    assert "wiener if told centre, else residual" in lines["mask+noise"]
    assert "| none | residual |" in lines["pixelate"]


def test_of_all_rates_the_one_with_the_least_geometric_mean(ablation: ModuleType) -> None:
    losses = {1e-3: (0.1, 0.4), 3e-3: (0.01, 1.0), 9e-3: (0.3, 0.3)}
    assert ablation.best_rate([{"lr": lr, "validation loss": loss} for lr, both in losses.items() for loss in both]) == 3e-3


def test_an_exchange_is_beyond_the_spread_where_no_seeds_overlap(ablation: ModuleType) -> None:
    assert ablation.change([1.0, 2.0, 3.0], [0.5, 0.4, 0.9]) == (pytest.approx(-0.7), True)
    assert ablation.change([1.0, 2.0, 3.0], [3.5, 2.9, 5.6]) == (pytest.approx(1.0), False)


@pytest.fixture(scope="module")
def small(ablation: ModuleType) -> tuple[Any, Any]:
    settings = ablation.quick("bundled:digits")
    return settings, ablation.opened("bundled:digits", settings)


def test_every_row_is_scored_on_the_same_degraded_pictures(ablation: ModuleType, small: tuple[Any, Any]) -> None:
    """One call of the untrained filter, by both of the library's ways to score it; and another network does not change what it is given."""
    settings, data = small
    assert len(data.ids) == settings.test_pictures
    by_hand = ablation.beside("bundled:digits", settings, data, "mask")
    made = make_model(ablation.recipe("bundled:digits", settings, "mask"), data.train.shape, data.train)
    made.restorer.fit(ablation.clean_batches(data.train)).eval()
    entry = ablation.Entry("Direct", "direct", 1, methods.direct)
    direct = score(made, entry, data.test, data.ids, data.judge, seed=0, batch=3, device="cpu", tick=lambda n: None)().end.compute()["rmse"]
    assert by_hand["filter"]["RMSE at 1"] == pytest.approx(direct, rel=1e-5)
    assert by_hand["filter"]["RMSE at 1"] < by_hand["degraded"]["RMSE at 1"]
    other = make_model(ablation.recipe("bundled:digits", settings, "mask", parameterization="x0", seed=1), data.train.shape, data.train)
    assert {f"RMSE at {one['t']:g}": one["degraded"] for one in ablation.curve(other, data)} == by_hand["degraded"]
    nothing = ablation.scores(other, data)  # an untrained x0 answers grey
    grey = torch.cat([data.test.batch([i])["x0"] for i in data.ids]).div(2).square().mean().sqrt()
    assert nothing["RMSE at 1"] == pytest.approx(float(grey), rel=1e-5)


def test_it_goes_on_where_it_stopped(ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(ablation, "CHOICES", (ablation.OURS, ablation.OURS._replace(weight="min-output")))
    monkeypatch.setattr(ablation, "PATHS", {"blur": "gaussian-blur:sigma_px=1"})
    settings, out, real, asked = ablation.dataclasses.replace(ablation.quick("digits"), seeds=1), tmp_path / "figures.json", ablation.trained, []

    def once(where: str, settings: Any, data: Any, **training: Any) -> Any:
        asked.append(training)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return real(where, settings, data, **training)

    monkeypatch.setattr(ablation, "trained", once)
    with pytest.raises(KeyboardInterrupt):
        ablation.measure("bundled:digits", settings, out)
    assert [len(json.loads(out.read_text())[group]) for group in ("tuning", "beside", "rows")] == [3, 1, 1]
    found = ablation.measure("bundled:digits", settings, out)
    assert len(asked) == 6  # what was interrupted, and nothing else
    assert found == json.loads(out.read_text())
    assert [entry["weight"] for entry in found["rows"]] == ["uniform", "min-output"]
    assert found["rows"][0]["RMSE at 1"] != found["rows"][1]["RMSE at 1"]
    assert {training["lr"] for training in asked[3:]} == {2e-3}
    with pytest.raises(ValueError, match=r"was made with other settings: give another --out, or remove it$"):
        ablation.measure("bundled:digits", ablation.dataclasses.replace(settings, images=64), out)


def test_a_training_that_diverges_is_repeated_at_half_the_rate(ablation: ModuleType, small: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []

    def diverges(where: str, settings: Any, data: Any, **training: Any) -> Any:
        rates.append(training["lr"])
        if training["lr"] > 5e-4:
            raise ablation.Diverged("the loss became nan")
        return None, 0.5

    monkeypatch.setattr(ablation, "trained", diverges)
    monkeypatch.setattr(ablation, "scores", lambda model, data: {})
    assert ablation.row("bundled:digits", *small, {"path": "blur"}, 2e-3) == {"lr": 5e-4, "validation loss": 0.5}
    assert rates == [2e-3, 1e-3, 5e-4]


def test_a_page_is_written_between_its_marks(ablation: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    marked = "<!-- begin operators -->\n\n{}\n\n<!-- end operators -->\nbetween\n<!-- begin ablation -->\n\n{}\n\n<!-- end ablation -->\nafter\n"
    page.write_text(marked.format("old", "old"), encoding="utf-8")
    monkeypatch.setattr(ablation, "PAGE", page)
    monkeypatch.setattr(ablation, "KEPT", tmp_path / "nothing.json")
    ablation.document()
    assert page.read_text(encoding="utf-8") == marked.format(ablation.operator_table(), ablation.tables({}))
