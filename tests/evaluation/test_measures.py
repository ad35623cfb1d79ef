"""The measures against computations by other means: numpy, and torchmetrics where it has them."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import snowmelt
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import Report, evaluate, intervals, start
from snowmelt.evaluation.sets import truth_for
from snowmelt.metrics import Distortion
from snowmelt.metrics.features import Features
from snowmelt.model import Model
from snowmelt.randomness import permutation
from snowmelt.samplers import TACoS

Splits = dict[str, Dataset]


def rows_of(model: Model, splits: Splits, **options: Any) -> dict[str, dict[str, Any]]:
    options = {"samplers": [TACoS(steps=2)], "images": 40, "inputs": ("float",), "severities": 0, **options}
    return {row["method"]: row for row in evaluate(model, **splits, **options).rows}  # type: ignore[arg-type]


def chosen(splits: Splits, n: int = 40) -> list[int]:
    return permutation(0, "evaluation", 0, len(splits["test"]))[:n].tolist()


@pytest.mark.parametrize("noise_floor", [0.0, 0.1])
@pytest.mark.parametrize("given", ["float", "8bit"])
def test_the_measurement_error_is_the_distance_of_the_restored_degraded_again_to_what_was_given(
    splits: Splits, noise_floor: float, given: Any
) -> None:
    degradation = snowmelt.build("gaussian-blur:sigma_px=2")
    model = Model(degradation, lambda x, t: (2 * x).tanh(), noise_floor=noise_floor)
    rows = rows_of(model, splits, inputs=(given,), samplers=[])
    seen = dataclasses.replace(model, input=given)
    x0, state = start(seen, splits["test"], chosen(splits), seed=0, device="cpu")
    again = degradation((2 * state.x).tanh(), torch.ones(len(x0)), state.z).numpy().astype(np.float64)
    by_hand = np.sqrt(np.mean(((again - state.x.numpy()) / 2) ** 2))
    assert rows["Direct"]["measurement error"] == pytest.approx(by_hand, rel=1e-6)
    least = rows["Clean: the truth itself"]["measurement error"]
    rounding = {"float": 0.0, "8bit": 1 / 255 / np.sqrt(12)}[given]
    assert least == pytest.approx(np.hypot(noise_floor / 2, rounding), rel=0.1, abs=1e-7)


def test_what_cannot_be_degraded_again_has_no_measurement_error(splits: Splits) -> None:
    rows = rows_of(Model(snowmelt.build("noise"), lambda x, t: x), splits, samplers=[])
    assert all("measurement error" not in row for row in rows.values())


def test_distances_of_sets_are_those_of_the_clamped_pictures_to_the_clean_ones(splits: Splits, blocks: Features) -> None:
    model = Model(snowmelt.build("gaussian-blur:sigma_px=3"), lambda x, t: 1.5 * x)
    rows = rows_of(model, splits, features=blocks, samplers=[])
    x0, state = start(model, splits["test"], chosen(splits), seed=0, device="cpu")
    a, b = (blocks(x).double().numpy() for x in ((1.5 * state.x).clamp(-1, 1), x0))
    assert rows["Direct"]["FD-blocks"] == pytest.approx(frechet_by_hand(a, b), rel=1e-4)
    assert rows["Direct"]["KID-blocks"] == pytest.approx(kernel_by_hand(a, b), rel=1e-4)
    low, high = rows["Direct"]["intervals"]["FD-blocks"]
    assert low < rows["Direct"]["FD-blocks"] < high
    assert rows["Degraded"]["FD-blocks"] != rows["Direct"]["FD-blocks"]
    assert "FD-blocks" not in rows["Clean: the truth itself"]


def test_a_perfect_restorer_scores_a_kernel_distance_of_zero(splits: Splits, blocks: Features) -> None:
    rows = rows_of(Model(snowmelt.build("gaussian-blur:sigma_px=1e-3"), lambda x, t: x), splits, features=blocks, samplers=[])
    low, high = rows["Direct"]["intervals"]["KID-blocks"]
    assert rows["Direct"]["rmse"] < 1e-6
    assert rows["Direct"]["KID-blocks"] == pytest.approx(0, abs=1e-6)
    assert low == pytest.approx(high, abs=1e-6)


def test_the_floor_is_that_of_as_many_training_pictures(splits: Splits, blocks: Features) -> None:
    rows = rows_of(Model(snowmelt.build("pixelate"), lambda x, t: x), splits, features=blocks, samplers=[])
    ids = permutation(0, "evaluation-floor", 0, len(splits["train"]))[:40].tolist()
    a, b = blocks(splits["train"].batch(ids)["x0"]), blocks(splits["test"].batch(chosen(splits))["x0"])
    floor = rows["Floor: training pictures"]
    assert floor["FD-blocks"] == pytest.approx(frechet_by_hand(a.double().numpy(), b.double().numpy()), rel=1e-4)
    assert floor["images"] == 40


def test_the_label_accuracy_is_the_part_given_the_true_label(splits: Splits, blocks: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    test = splits["test"]
    labels = torch.cat([blocks.labels(test.batch([i])["x0"]) for i in range(len(test))])  # type: ignore[list-item]
    labels[::4] = (labels[::4] + 1) % 10  # a quarter of the labels is wrong
    monkeypatch.setattr(test, "labels", labels)
    model = Model(snowmelt.build("gaussian-blur:sigma_px=3"), lambda x, t: (x + 0.3))
    rows, ids = rows_of(model, splits, features=blocks, samplers=[]), chosen(splits)
    x0, state = start(model, test, ids, seed=0, device="cpu")
    by_hand = float((blocks.labels(state.x + 0.3) == labels[ids]).double().mean())  # type: ignore[operator,union-attr]
    assert rows["Direct"]["label accuracy"] == pytest.approx(by_hand)
    ceiling = rows["Clean: the truth itself"]["label accuracy"]
    assert ceiling == pytest.approx(float((labels[ids] == blocks.labels(x0)).double().mean()))  # type: ignore[union-attr]
    assert 0.5 < ceiling < 1


def test_no_label_accuracy_where_the_features_know_fewer_classes(splits: Splits, blocks: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits["test"], "labels", torch.full((len(splits["test"]),), 10))
    found = evaluated(splits, blocks)
    assert {row.get("label accuracy", "not computed") for row in found.rows} == {"not computed"}
    assert found.facts["label accuracy"] == "not computed: the pictures have labels up to 10, and blocks tells 10 classes"


def evaluated(splits: Splits, features: Features) -> Report:
    model = Model(snowmelt.build("pixelate"), lambda x, t: x)
    return evaluate(model, **splits, samplers=[], images=40, inputs=("float",), severities=0, features=features)  # type: ignore[arg-type]


def test_no_label_accuracy_from_features_of_other_things(splits: Splits, blocks: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    flowers, beasts = tuple(f"flower {i}" for i in range(10)), tuple(f"beast {i}" for i in range(10))
    monkeypatch.setattr(splits["test"], "classes", flowers)
    monkeypatch.setattr(blocks, "classes", beasts)
    found = evaluated(splits, blocks)
    assert [row["label accuracy"] for row in found.rows if row["kind"] in ("degraded", "direct", "clean")] == ["not computed"] * 3
    why = "not computed: the pictures are of flower 0, flower 1, flower 2 and 7 more, and blocks tells beast 0"
    assert found.facts["label accuracy"].startswith(why)
    assert "label" not in " ".join(found.verdict)
    assert "not computed" in found.markdown()
    for same in (tuple(str(i) for i in range(10)), beasts):  # numbers say nothing of what is seen; equal names do
        monkeypatch.setattr(splits["test"], "classes", same)
        found = evaluated(splits, blocks)
        assert all(isinstance(row["label accuracy"], float) for row in found.rows if row["kind"] in ("degraded", "direct", "clean"))
        assert "label accuracy" not in found.facts


def test_classes_are_matched_by_name_where_there_are_names(splits: Splits, blocks: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    test = splits["test"]
    monkeypatch.setattr(test, "classes", tuple("9876543210"))
    truth, why = truth_for(blocks, test)
    assert why is None
    assert test.labels is not None
    assert torch.equal(truth, 9 - test.labels)  # type: ignore[arg-type]


def test_intervals_are_those_of_a_bootstrap_over_pictures() -> None:
    scores = Distortion()
    x = torch.randn(200, 1, 12, 12, generator=torch.Generator().manual_seed(1)) * 0.2
    scores.update(x * torch.linspace(0.2, 2, 200)[:, None, None, None], torch.zeros_like(x))
    found = intervals.of_distortion(scores, 0)
    rng, mse = np.random.default_rng(7), np.array(scores.mse)
    drawn = [np.sqrt(mse[rng.integers(0, 200, 200)].mean()) for _ in range(4000)]
    width = np.quantile(drawn, 0.975) - np.quantile(drawn, 0.025)
    assert found["rmse"] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.1 * width)
    assert found["psnr"] is not None
    psnr = np.array(scores.psnr)
    assert (found["psnr"][1] - found["psnr"][0]) / 2 == pytest.approx(1.96 * psnr.std() / np.sqrt(200), rel=0.1)


def test_intervals_narrow_with_the_root_of_the_number_and_repeat() -> None:
    values = torch.randn(1600, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wide, narrow = intervals.of_mean(values[:100], 0), intervals.of_mean(values, 0)
    assert wide is not None
    assert narrow is not None
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(4, rel=0.3)
    assert intervals.of_mean(values, 0) == narrow
    assert intervals.of_mean(values, 1) != narrow
    assert intervals.of_mean(values[:1], 0) is None
    low, high = intervals.of_median(values, 0)
    assert low < float(values.median()) < high


def frechet_by_hand(a: Any, b: Any) -> float:
    """With a square root of the product by its eigenvalues, which are those of a positive matrix."""
    shift = ((a.mean(0) - b.mean(0)) ** 2).sum()
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values = np.linalg.eigvals(cov_a @ cov_b)
    return float(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.abs(values.real)).sum())


def kernel_by_hand(a: Any, b: Any) -> float:
    n, k = a.shape
    kernel = lambda x, y: (x @ y.T / k + 1) ** 3  # noqa: E731
    off = lambda m: (m.sum() - np.trace(m)) / (n * (n - 1))  # noqa: E731
    return float(off(kernel(a, a)) + off(kernel(b, b)) - 2 * off(kernel(a, b)))  # a picture and its own original are no pair of two


def test_features_see_every_picture_once_per_set(splits: Splits, blocks: Any) -> None:
    rows_of(Model(snowmelt.build("pixelate"), lambda x, t: x), splits, features=blocks, images=12)
    counted = blocks.seen
    # The clean pictures and the floor; Degraded, Linear Wiener, Direct, the walk and its last estimate.
    assert counted == 12 * 7
