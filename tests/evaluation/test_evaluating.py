"""The evaluation: rows that must be there, numbers that must be right, verdicts that must be honest."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.degradations import Degradation
from snowmelt.evaluation import Report, distinct, evaluate, verdict, work
from snowmelt.evaluation.methods import calls, title
from snowmelt.model import Model
from snowmelt.randomness import uniform
from snowmelt.registry import register
from snowmelt.samplers import Naive, TACoS
from snowmelt.types import severity


def report(model: Model, splits: dict[str, object], **options: object) -> Report:
    return evaluate(model, **splits, samplers=[TACoS(steps=3), Naive(steps=3)], images=40, batch=16, **options)  # type: ignore[arg-type]


def test_all_rows_are_there_for_both_inputs(splits: dict[str, object]) -> None:
    ticks: list[int] = []
    found = report(Model(snowmelt.build("gaussian-blur:sigma_px=3"), lambda x, t: x), splits, tick=ticks.append)
    for name in ("float", "8bit"):
        methods = [row["method"] for row in found.rows if row["input"] == name]
        assert methods[:5] == ["Degraded", "Linear Wiener", "Diagonal Wiener", "Direct", "Algorithm 2 (TACoS)"]
        assert methods[5] == "Algorithm 1 (naive)"
        assert methods[6].startswith("Clean")
        assert methods[7].startswith("Degraded, all ")
    model = Model(snowmelt.build("gaussian-blur:sigma_px=3"), lambda x, t: x)
    assert sum(ticks) == work(model, (1, 16, 16), 40, 2)
    assert all(row["intervals"]["rmse"][0] <= row["rmse"] <= row["intervals"]["rmse"][1] for row in found.rows if "rmse" in row)
    assert all(row["FD"] == row["KID"] == "not computed" for row in found.rows if row["kind"] in ("degraded", "filter", "direct", "walk"))


def test_doing_nothing_scores_what_a_hand_computation_says(splits: dict[str, object]) -> None:
    degradation = snowmelt.build("gaussian-blur:sigma_px=3")
    found = report(Model(degradation, lambda x, t: x), splits)
    test = splits["test"]
    x0 = test.batch(range(len(test)))["x0"]  # type: ignore[attr-defined,arg-type]
    by_hand = math.sqrt(float(((degradation(x0, severity(1.0, x0)) - x0) / 2).square().mean()))
    everything = next(row for row in found.rows if row["method"].startswith("Degraded, all") and row["input"] == "float")
    assert everything["rmse"] == pytest.approx(by_hand, abs=1e-6)
    direct, degraded = (next(r for r in found.rows if r["method"] == m) for m in ("Direct", "Degraded"))
    assert direct["rmse"] == degraded["rmse"]  # a restorer that returns its input


def test_rounding_costs_a_linear_filter(splits: dict[str, object]) -> None:
    found = report(Model(snowmelt.build("gaussian-blur:sigma_px=2"), lambda x, t: x), splits)
    error = {row["input"]: row["rmse"] for row in found.rows if row["method"] == "Diagonal Wiener"}
    degraded = next(row["rmse"] for row in found.rows if row["method"] == "Degraded")
    assert error["float"] < 0.8 * error["8bit"] < 0.8 * degraded


def test_the_linear_filter_knows_the_mask(splits: dict[str, object]) -> None:
    model = Model(snowmelt.build("mask"), lambda x, t: x)
    found = report(model, splits)
    error = {row["method"]: row.get("rmse") for row in found.rows if row["input"] == "8bit"}
    assert error["Diagonal Wiener"] < 0.7 * error["Degraded"]


def test_no_linear_filter_where_there_is_no_basis(splits: dict[str, object]) -> None:
    model = Model(snowmelt.build("pixelate"), lambda x, t: x)
    ticks: list[int] = []
    methods = [row["method"] for row in report(model, splits, tick=ticks.append).rows]
    assert "Diagonal Wiener" not in methods
    assert "Linear Wiener" in methods
    assert sum(ticks) == work(model, (1, 16, 16), 40, 2)


def test_the_measurement_error_catches_a_pretty_lie(splits: dict[str, object]) -> None:
    lie = splits["train"].batch([0])["x0"]
    found = report(Model(snowmelt.build("gaussian-blur:sigma_px=2"), lambda x, t: lie.expand_as(x)), splits)
    rows = {row["method"]: row for row in found.rows if row["input"] == "float"}
    assert rows["Direct"]["measurement error"] > 0.05
    assert rows["Algorithm 2 (TACoS)"]["measurement error"] < rows["Direct"]["measurement error"] / 2
    assert "measurement error" not in rows["Degraded"]
    assert rows["Clean: the truth itself"]["measurement error"] == 0  # floating point, no noise floor
    assert any("miss what was given" in sentence for sentence in verdict(list(rows.values()))) is False  # no walk is worse than the lie


def test_the_same_seed_gives_the_same_numbers_whatever_the_batch(splits: dict[str, object]) -> None:
    model = Model(snowmelt.build("mask+noise"), lambda x, t: x.tanh())
    options = {"samplers": [snowmelt.build("ancestral:steps=3", "sampler")], "images": 20}
    a, b = (evaluate(model, **splits, **options, batch=n) for n in (20, 7))  # type: ignore[arg-type]
    for one, other in zip(a.rows, b.rows, strict=True):
        assert one.get("rmse", 0.0) == pytest.approx(other.get("rmse", 0.0), rel=1e-5)


def row(method: str, rmse: float, psnr: float, **more: object) -> dict[str, object]:
    return {"method": method, "input": "float", "calls": 1, "rmse": rmse, "psnr": psnr, "ssim": 0.5, **more}


def test_the_headline_says_when_it_does_not_convince() -> None:
    degraded, good = row("Degraded", 0.3, 10.0), row("Direct", 0.1, 20.0)
    assert verdict([degraded, good])[0].startswith("One call of the restorer lies 10.00 dB above the degraded pictures")
    assert verdict([degraded, row("Direct", 0.25, 12.0)])[0].startswith("Not convincing")
    assert verdict([degraded, row("Diagonal Wiener", 0.09, 21.0), good])[0].startswith("Not convincing")


def test_the_verdict_says_when_walking_is_worse_than_one_call() -> None:
    rows = [row("Degraded", 0.3, 10.0), row("Direct", 0.1, 20.0)]
    walk = {"RMSE of last estimate": 0.1}
    assert "higher than one call's 0.100. A walk trades" in verdict([*rows, row("TACoS", 0.12, 19.0, **walk)])[1]
    assert "lower than one call's 0.100" in verdict([*rows, row("TACoS", 0.09, 21.0, **walk)])[1]


def test_a_report_is_written_as_json_and_markdown(splits: dict[str, object], tmp_path: object) -> None:
    import json
    from pathlib import Path

    out = Path(str(tmp_path))
    found = report(Model(snowmelt.build("grey"), lambda x, t: x), {k: _colour(v) for k, v in splits.items()})
    found.write(out)
    assert json.loads((out / "evaluation.json").read_text())["rows"] == json.loads(json.dumps(found.rows))
    text = (out / "evaluation.md").read_text()
    assert "rounded to 8 bits" in text
    assert "| Degraded" in text


def _colour(data: object) -> object:
    return open_data(DataOptions(path="bundled:digits", size=16, channels=3, validation=0.1, test=0.2), data.split)  # type: ignore[attr-defined]


def test_a_walk_is_never_handed_the_noise_it_should_remove(splits: dict[str, object]) -> None:
    """With the true noise in the draw, TACoS would return the truth's trace whatever the restorer says."""
    model = Model(snowmelt.build("noise"), lambda x, t: torch.zeros_like(x))
    with pytest.raises(ValueError, match="tacos steps through noise with its draw, and endpoint is not known"):
        evaluate(model, **splits, samplers=[TACoS(steps=3)], images=8)  # type: ignore[arg-type]
    found = evaluate(model, **splits, samplers=[snowmelt.build("ancestral:steps=3,eta=0", "sampler")], images=8)  # type: ignore[arg-type]
    rows = {row["method"]: row.get("rmse") for row in found.rows if row["input"] == "float"}
    assert rows["DDIM"] == pytest.approx(rows["Direct"], rel=1e-5)  # a restorer that says 0 ends at 0


@dataclass(frozen=True)
class Flakes(Degradation):
    """Something falls on the picture, and nobody knows what."""

    @property
    def hidden(self) -> tuple[str, ...]:
        return ("flakes",)

    def draw(self, like: torch.Tensor, generator: object = None) -> dict[str, torch.Tensor]:
        return {"flakes": uniform(like, generator)}  # type: ignore[arg-type]

    def degrade(self, x: torch.Tensor, t: torch.Tensor, z: object) -> torch.Tensor:
        return x + t * z["flakes"]  # type: ignore[index]


def test_walks_that_are_handed_the_draw_stand_beside_the_comparison(splits: dict[str, object]) -> None:
    register("flakes")(Flakes)  # forgotten after the test
    model = Model(Flakes(), lambda x, t: torch.zeros_like(x))
    found = evaluate(model, **splits, samplers=[], images=8, handed=[TACoS(steps=3)], inputs=("float",))  # type: ignore[arg-type]
    row = next(row for row in found.rows if row["kind"] == "handed")
    assert row["method"] == "Algorithm 2 (TACoS), handed the draw"
    best = min(row["rmse"] for row in found.rows if row["kind"] in ("direct", "walk"))
    assert row["rmse"] < best / 100  # a restorer that knows nothing is given the truth all the same
    assert row["method"] in [found.rows[i]["method"] for i in found.apart("float")]
    assert "handed" not in " ".join(found.verdict)
    assert "no result" in found.facts["handed the draw"]
    table = found.markdown()
    assert f"**{row['rmse']:.3f}**" not in table


def test_only_what_is_asked_for_is_computed(splits: dict[str, object]) -> None:
    ticks: list[int] = []
    model = Model(snowmelt.build("gaussian-blur:sigma_px=2"), lambda x, t: x)
    found = report(model, splits, inputs=("8bit",), severities=0, tick=ticks.append)
    assert {row["input"] for row in found.rows} == {"8bit"}
    assert found.severities == []
    assert sum(ticks) == work(model, (1, 16, 16), 40, 2, inputs=("8bit",), severities=0) == 40 * 6
    with pytest.raises(ValueError, match="give float, 8bit or both"):
        report(model, splits, inputs=("jpeg",))


def test_the_error_per_severity_is_that_of_the_same_pictures(splits: dict[str, object]) -> None:
    degradation = snowmelt.build("gaussian-blur:sigma_px=3")
    found = report(Model(degradation, lambda x, t: x.clone()), splits, inputs=("float",))
    assert [point["t"] for point in found.severities] == [(i + 1) / 8 for i in range(8)]
    last, by_method = found.severities[-1], {row["method"]: row for row in found.rows}
    assert last["degraded"] == pytest.approx(by_method["Degraded"]["rmse"], rel=1e-6)
    assert last["direct"] == pytest.approx(by_method["Direct"]["rmse"], rel=1e-6)
    errors = [point["degraded"] for point in found.severities]
    assert all(low < high for low, high in pairwise(errors))


def test_the_worst_and_the_median_pictures_are_those_of_one_call(splits: dict[str, object]) -> None:
    found = report(Model(snowmelt.build("gaussian-blur:sigma_px=3"), lambda x, t: x), splits)
    test = splits["test"]
    worst, median = found.extremes["worst"], found.extremes["median"]
    assert max(one["psnr"] for one in worst) <= min(one["psnr"] for one in median)
    one = worst[0]
    x0 = test.batch([one["number"]])["x0"]  # type: ignore[attr-defined]
    error = ((snowmelt.build("gaussian-blur:sigma_px=3")(x0, torch.ones(1)).clamp(-1, 1) - x0) / 2).square().mean()
    assert one["psnr"] == pytest.approx(-10 * math.log10(float(error)), abs=1e-3)
    assert one["name"] == test.ids[one["number"]]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Toward(Degradation):
    """Straight towards a given picture."""

    @property
    def given(self) -> tuple[str, ...]:
        return ("endpoint",)

    def draw(self, like: torch.Tensor, generator: object = None) -> dict[str, torch.Tensor]:
        return {"endpoint": torch.zeros_like(like)}

    def degrade(self, x: torch.Tensor, t: torch.Tensor, z: object) -> torch.Tensor:
        return (1 - t) * x + t * z["endpoint"]  # type: ignore[index]


class WithEndpoints:
    """Pictures, each with the one before it as its endpoint."""

    def __init__(self, data: object) -> None:
        self.data = data

    def __getattr__(self, name: str) -> object:
        return getattr(self.data, name)

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def batch(self, indices: object) -> dict[str, torch.Tensor]:
        before = [i - 1 if i else len(self) - 1 for i in indices]  # type: ignore[attr-defined]
        return {"x0": self.data.batch(indices)["x0"], "endpoint": self.data.batch(before)["x0"]}  # type: ignore[attr-defined]


def test_what_the_data_give_of_the_draw_is_used(splits: dict[str, object]) -> None:
    register("toward")(Toward)
    paired = {name: WithEndpoints(data) for name, data in splits.items()}
    model = Model(Toward(), lambda x, t: x)
    found = evaluate(model, **paired, samplers=[TACoS(steps=2)], images=40, inputs=("float",))  # type: ignore[arg-type]
    test, rows = splits["test"], {row["method"]: row for row in found.rows}
    x0 = test.batch(range(len(test)))["x0"]  # type: ignore[attr-defined,arg-type]
    error = ((x0.roll(1, 0) - x0) / 2).square().mean()
    everything = next(row for row in found.rows if row["kind"] == "all")
    assert everything["rmse"] == pytest.approx(float(error.sqrt()), rel=1e-5)
    assert rows["Direct"]["measurement error"] == pytest.approx(0, abs=1e-7)


def test_a_table_with_few_knots_counts_the_calls_that_are_made() -> None:
    degradation = snowmelt.build("recursive-blur:steps=5")
    walks = [TACoS(steps=n, snap=True) for n in (4, 8, 20)] + [snowmelt.build("heun:steps=7", "sampler")]
    kept = distinct(walks, degradation)
    assert [walk.steps for walk in kept] == [4, 8, 7]


def test_samplers_that_differ_have_titles_that_differ() -> None:
    specs = {
        "ancestral:eta=0": "DDIM",
        "ancestral": "DDPM",
        "ancestral:variance=large,again=2": "DDPM, variance = large, again = 2",
        "ancestral:eta=0.5": "ancestral, eta = 0.5",
        "naive:fresh=true": "Algorithm 1 (naive), fresh",
        "naive:noise=0.0125": "Algorithm 1 (naive), noise = 0.0125",
        "langevin:inner=2": "langevin, inner = 2",
        "tacos:steps=3,order=2,snap=true": "Algorithm 2 (TACoS), order 2",
    }
    assert {text: title(snowmelt.build(text, "sampler")) for text in specs} == specs


def test_calls_are_those_that_a_walk_makes() -> None:
    degradation = snowmelt.build("noise:schedule=betas(steps=6)")
    texts = ("ancestral:steps=9,again=4", "langevin:steps=7,inner=3", "langevin:steps=40,inner=3,snap=true", "heun:steps=6", "momentum:snap=true")
    for text in texts:
        made: list[float] = []
        walk = snowmelt.build(text, "sampler")
        model = Model(degradation, lambda x, t, made=made: made.append(float(t[0])) or x)  # type: ignore[misc]
        walk.sample(model, model.corrupt(torch.zeros(1, 1, 2, 2), 1.0, torch.Generator().manual_seed(0)))
        assert calls(walk, degradation) == len(made)
        assert len(made) <= walk.steps


def test_a_model_is_judged_on_another_degradation_than_its_restorer_was_made_for(splits: dict[str, object]) -> None:
    import dataclasses

    from snowmelt.restorers import Restorer

    made_for, other = snowmelt.build("gaussian-blur:sigma_px=3"), snowmelt.build("gaussian-blur:sigma_px=1")
    restorer = Restorer(made_for, snowmelt.build("zero", "backbone"), (1, 16, 16)).fit([splits["train"].batch(range(64))["x0"]])  # type: ignore[attr-defined]
    model = Model(made_for, restorer.eval())
    found = report(dataclasses.replace(model, degradation=other), splits, inputs=("float",))
    assert found.facts["restorer trained for"].startswith("gaussian-blur:sigma_px=3")
    own = report(model, splits, inputs=("float",))
    assert "restorer trained for" not in own.facts
    assert found.rows[0]["rmse"] < own.rows[0]["rmse"]
