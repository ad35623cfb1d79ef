"""Generated sets: copies are found out, honest samples are not, poverty shows."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import generated
from snowmelt.metrics import coverage
from snowmelt.metrics.features import Features
from snowmelt.randomness import permutation

Splits = dict[str, Dataset]


def measure(made: Tensor, splits: Splits, **options: Any) -> dict[str, Any]:
    return generated(made, splits["train"], splits["test"], **options)


@pytest.mark.parametrize("judged", ["pixels", "features"])
def test_copies_of_training_pictures_are_found_out(splits: Splits, blocks: Features, judged: str) -> None:
    copies = splits["train"].batch(range(60))["x0"] + 0.01
    found = measure(copies, splits, features=blocks if judged == "features" else None)
    ratio, floor = found["measures"]["memorisation ratio"]
    assert ratio < 0.5 * floor
    assert "some may be learned by heart, look at the pairs" in " ".join(found["verdict"])
    assert {one["generated"] == one["train"] for one in found["nearest"]} == {True}  # each beside the one it was copied from
    assert [one["distance"] for one in found["nearest"]] == sorted(one["distance"] for one in found["nearest"])


def test_unseen_pictures_are_not_taken_for_copies(splits: Splits) -> None:
    test = splits["test"]
    fresh = splits["validation"].batch(range(len(splits["validation"])))["x0"]
    found = generated(fresh, splits["train"], test)
    ratio, floor = found["measures"]["memorisation ratio"]
    assert ratio == pytest.approx(floor, abs=0.06)
    assert "no sign that pictures were learned by heart" in " ".join(found["verdict"])
    assert found["measures"]["suspiciously near"][1] == pytest.approx(0.01, abs=0.01)


@pytest.mark.parametrize("judged", ["pixels", "features"])
def test_a_fifth_of_exact_copies_among_unseen_pictures_is_found_out_though_the_median_sees_nothing(
    splits: Splits, blocks: Features, judged: str
) -> None:
    unseen, features = splits["validation"].batch(range(80))["x0"], blocks if judged == "features" else None
    copies = splits["train"].batch(range(20))["x0"]
    for made, words, least, most in ((torch.cat([unseen, copies]), "some may be learned", 0.2, 0.3), (unseen, "no sign that pictures", 0.0, 0.08)):
        found = measure(made, splits, features=features)
        ratio, floor = found["measures"]["memorisation ratio"]
        assert ratio > 0.8 * floor
        assert least <= found["measures"]["suspiciously near"][0] <= most
        assert words in " ".join(found["verdict"])


def test_the_ratio_is_the_median_over_pictures(splits: Splits) -> None:
    made = splits["validation"].batch(range(30))["x0"]
    found = generated(made, splits["train"], splits["test"], seed=3)
    order = {name: permutation(3, f"generated-{name}", 0, len(splits[name])).tolist() for name in ("train", "test")}
    unseen = order["test"][len(order["test"]) // 2 :]
    train, test = len(order["train"]), len(order["test"])
    assert found["searched"] == {"train": train, "test": len(unseen), "of train": train, "of test": test}
    assert found["facts"]["memorisation"].endswith(f"{train:,} of {train:,} training pictures and {len(unseen)} of {test} test pictures")
    near = [
        torch.cdist(made.flatten(1).double(), splits[name].batch(ids)["x0"].flatten(1).double()).min(1).values
        for name, ids in (("train", order["train"]), ("test", unseen))
    ]
    assert found["measures"]["memorisation ratio"][0] == pytest.approx(float((near[0] / near[1]).median()), rel=1e-5)


def test_poverty_shows_in_diversity_and_labels(splits: Splits, blocks: Features) -> None:
    one = splits["test"].batch([0])["x0"].expand(40, -1, -1, -1)
    found = measure(one, splits, features=blocks)
    assert found["measures"]["diversity"][0] == pytest.approx(0, abs=1e-6)
    assert found["measures"]["labels seen"][0] == 1
    assert found["measures"]["entropy of labels, bits"][0] == 0
    assert found["measures"]["entropy of labels, bits"][1] > 0
    assert "They differ less from each other than real ones: 0.00 of the distance" in " ".join(found["verdict"])
    assert found["measures"]["recall"][0] == 0
    assert found["measures"]["coverage"][0] < 0.2 < found["measures"]["coverage"][1]
    real = measure(splits["train"].batch(range(100))["x0"], splits, features=blocks)
    assert real["measures"]["diversity"][0] == pytest.approx(1, abs=0.1)


def test_distances_of_sets_stand_beside_their_floor(splits: Splits, blocks: Features, cubes: Callable[[int, int], Tensor]) -> None:
    noise, real = (measure(x, splits, features=blocks) for x in (cubes(80, 0), splits["validation"].batch(range(80))["x0"]))
    value, floor = noise["measures"]["FD-blocks against test"]
    assert value > 5 * floor
    assert real["measures"]["FD-blocks against test"][0] < 3 * floor
    assert "FD-blocks against train" in noise["intervals"]
    assert noise["facts"]["sets of"] == "80 pictures each"
    without = measure(cubes(80, 0), splits)
    assert without["measures"]["FD, KID"] == ("not computed", "not computed")


def test_precision_recall_density_and_coverage_stand_beside_training_pictures_at_equal_n(splits: Splits, blocks: Features) -> None:
    made = splits["validation"].batch(range(70))["x0"]
    found = measure(made, splits, features=blocks, seed=2)
    order = {name: permutation(2, f"generated-{name}", 0, len(splits[name]))[:70].tolist() for name in ("train", "test")}
    train, test = (blocks(splits[name].batch(order[name])["x0"]) for name in ("train", "test"))
    ours, floor = coverage(blocks(made), test), coverage(train, test)
    assert {name: found["measures"][name] for name in ours} == {name: (ours[name], floor[name]) for name in ours}
    assert "coverage" not in measure(made, splits)["measures"]  # pixels
    assert "coverage" not in measure(made[:5], splits, features=blocks)["measures"]  # five neighbours, and no sixth picture


def test_large_rows_bound_how_many_pictures_are_searched_and_the_facts_say_so(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("snowmelt.evaluation.generated")  # the package has a function of that name
    monkeypatch.setattr(module, "_SEARCHED_BYTES", 50 * 4 * 256)
    made = splits["validation"].batch(range(10))["x0"]
    found = measure(made, splits)
    assert found["searched"]["train"] == 50
    assert found["searched"]["test"] == 25
    said = f"50 of {len(splits['train']):,} training pictures and 25 of {len(splits['test']):,} test pictures"
    assert said in found["facts"]["memorisation"]
    assert "rows of 1,024 bytes): a copy of one left out is not found" in found["facts"]["memorisation"]


def test_too_little_or_another_shape_is_refused(splits: Splits) -> None:
    with pytest.raises(ValueError, match=r"1 generated pictures of shape \(1, 16, 16\)"):
        measure(torch.zeros(1, 1, 16, 16), splits)
    with pytest.raises(ValueError, match="4 of that shape to compare with"):
        measure(torch.zeros(8, 3, 16, 16), splits)
