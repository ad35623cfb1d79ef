"""The evaluation: rows that must be there, numbers that must be right, verdicts that must be honest."""

import math

import pytest
import torch

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.evaluation import Report, evaluate, verdict, work
from snowmelt.model import Model
from snowmelt.samplers import Naive, TACoS
from snowmelt.types import severity

DIGITS = DataOptions(path="bundled:digits", size=16, validation=0.1, test=0.2)


@pytest.fixture(scope="module")
def splits() -> dict[str, object]:
    return {name: open_data(DIGITS, name) for name in ("test", "validation", "train")}


def report(model: Model, splits: dict[str, object], **options: object) -> Report:
    return evaluate(model, **splits, samplers=[TACoS(steps=3), Naive(steps=3)], images=40, batch=16, **options)  # type: ignore[arg-type]


def test_all_rows_are_there_for_both_inputs(splits: dict[str, object]) -> None:
    ticks: list[int] = []
    found = report(Model(snowmelt.build("gaussian-blur:sigma_px=3"), lambda x, t: x), splits, tick=ticks.append)
    for name in ("float", "8bit"):
        methods = [row["method"] for row in found.rows if row["input"] == name]
        assert methods[:5] == ["Degraded", "Linear Wiener", "Diagonal Wiener", "Direct", "Algorithm 2 (TACoS)"]
        assert methods[5] == "Algorithm 1 (naive)"
        assert methods[6].startswith("Degraded, all ")
    model = Model(snowmelt.build("gaussian-blur:sigma_px=3"), lambda x, t: x)
    assert sum(ticks) == work(model, (1, 16, 16), 40, 2)
    assert all(row["intervals"]["rmse"][0] <= row["rmse"] <= row["intervals"]["rmse"][1] for row in found.rows)


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
    error = {row["method"]: row["rmse"] for row in found.rows if row["input"] == "8bit"}
    assert error["Diagonal Wiener"] < 0.7 * error["Degraded"]


def test_no_linear_filter_where_there_is_no_basis(splits: dict[str, object]) -> None:
    model = Model(snowmelt.build("pixelate"), lambda x, t: x)
    ticks: list[int] = []
    methods = [row["method"] for row in report(model, splits, tick=ticks.append).rows]
    assert "Diagonal Wiener" not in methods
    assert "Linear Wiener" in methods
    assert sum(ticks) == work(model, (1, 16, 16), 40, 2)


def test_inconsistency_catches_a_pretty_lie(splits: dict[str, object]) -> None:
    lie = open_data(DIGITS, "train").batch([0])["x0"]
    found = report(Model(snowmelt.build("gaussian-blur:sigma_px=2"), lambda x, t: lie.expand_as(x)), splits)
    rows = {row["method"]: row for row in found.rows if row["input"] == "float"}
    assert rows["Direct"]["inconsistency"] > 0.05
    assert rows["Algorithm 2 (TACoS)"]["inconsistency"] < rows["Direct"]["inconsistency"] / 2
    assert "inconsistency" not in rows["Degraded"]


def test_the_same_seed_gives_the_same_numbers_whatever_the_batch(splits: dict[str, object]) -> None:
    model = Model(snowmelt.build("mask+noise"), lambda x, t: x.tanh())
    options = {"samplers": [snowmelt.build("ancestral:steps=3", "sampler")], "images": 20}
    a, b = (evaluate(model, **splits, **options, batch=n) for n in (20, 7))  # type: ignore[arg-type]
    for one, other in zip(a.rows, b.rows, strict=True):
        assert one["rmse"] == pytest.approx(other["rmse"], rel=1e-5)


def row(method: str, rmse: float, psnr: float, **more: object) -> dict[str, object]:
    return {"method": method, "input": "float", "calls": 1, "rmse": rmse, "psnr": psnr, "ssim": 0.5, **more}


def test_the_headline_says_when_it_does_not_convince() -> None:
    degraded, good = row("Degraded", 0.3, 10.0), row("Direct", 0.1, 20.0)
    assert verdict([degraded, good])[0].startswith("One call of the restorer gains +10.00 dB")
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
    rows = {row["method"]: row["rmse"] for row in found.rows if row["input"] == "float"}
    assert rows["ancestral"] == pytest.approx(rows["Direct"], rel=1e-5)  # a restorer that says 0 ends at 0
