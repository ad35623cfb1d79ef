"""What a restorer is told of a sample: labels, numbers, pictures; what is unknown; backbones that embed and those that do not; saving."""

import math
import re

import pytest
import torch
from torch import Tensor

from snowmelt.fields import SpecError
from snowmelt.files import BadFile, read_json, write_sealed
from snowmelt.model import Model, load, save
from snowmelt.priors import Normal
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.restorers import Conditions, Restorer, Tiles
from snowmelt.restorers.conditions import Embedding, picture_channels

EMBEDS, PLANES = "unet:widths=(8,16),blocks=1", "local-unet:widths=8,blocks=1"
ALL = Conditions(classes=4, vector=3, image=2)
T = torch.tensor([0.2, 0.5, 0.9])


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.empty(shape).uniform_(-1, 1, generator=generator(seed, "pixels"))


def given(n: int = 3, side: int = 8) -> dict[str, Tensor]:
    return {"label": torch.arange(n) % 4, "vector": pixels(n, 3, seed=1), "image": pixels(n, 2, side, side, seed=2)}


def restorer(conditions: Conditions = ALL, backbone: str = EMBEDS, text: str = "noise", **options: object) -> Restorer:
    """Random weights everywhere: a fresh network says nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = Restorer(build(text), build(backbone, "backbone"), (1, 8, 8), conditions=conditions, **options).fit([pixels(20, 1, 8, 8)])
    with torch.no_grad():
        for i, p in enumerate(made.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=generator(i, "weights")))
    return made.eval()


@torch.no_grad()
def estimate(made: Restorer, z: dict[str, Tensor], x: Tensor | None = None) -> Tensor:
    return made(pixels(3, 1, 8, 8, seed=9) if x is None else x, T, z)


# --- what reaches the network ----------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [EMBEDS, PLANES])
@pytest.mark.parametrize("name", ["label", "vector", "image"])
def test_each_condition_matters_to_its_own_sample_alone(backbone: str, name: str) -> None:
    made, z = restorer(backbone=backbone), given()
    before = estimate(made, z)
    other = dict(z)
    other[name] = z[name].clone()
    other[name][1] = 3 if name == "label" else 0.7
    after = estimate(made, other)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert float((before[1] - after[1]).abs().max()) > 1e-4


@pytest.mark.parametrize("backbone", [EMBEDS, PLANES])
def test_an_entry_that_is_missing_is_unknown_for_the_whole_batch(backbone: str) -> None:
    made, z = restorer(backbone=backbone), given()
    unknown = {"label": torch.full((3,), -1), "vector": torch.full((3, 3), math.nan), "image": torch.full((3, 2, 8, 8), math.nan)}
    for name in z:
        without = {key: value for key, value in z.items() if key != name}
        assert torch.equal(estimate(made, without), estimate(made, {**without, name: unknown[name]}))
        assert not torch.equal(estimate(made, without), estimate(made, z))
    assert torch.equal(estimate(made, {}), estimate(made, unknown))
    assert bool(estimate(made, {}).isfinite().all())


def test_the_null_class_is_none_of_the_classes_and_an_unknown_vector_is_no_vector_of_zeros() -> None:
    made = restorer()
    null = estimate(made, {})
    assert all(not torch.equal(null, estimate(made, {"label": torch.full((3,), i)})) for i in range(4))
    assert not torch.equal(null, estimate(made, {"vector": torch.zeros(3, 3)}))
    assert not torch.equal(null, estimate(made, {"image": torch.zeros(3, 2, 8, 8)}))
    partly = given()["vector"].clone()
    partly[0, 1] = math.nan  # one number missing: the row is unknown
    known = estimate(made, {"vector": partly})
    assert torch.equal(known[0], null[0])
    assert not torch.equal(known[1], null[1])


def test_a_picture_may_be_known_in_parts() -> None:
    image = pixels(1, 2, 4, 4)
    image[0, 1, 0, 0] = math.nan
    seen = picture_channels(image)
    assert seen.shape == (1, 3, 4, 4)
    assert float(seen[0, :, 0, 0].abs().sum()) == 0
    assert torch.equal(seen[0, :2, 1:], image[0, :, 1:])
    assert float(seen[0, 2].sum()) == 15


def test_unknown_entries_give_finite_gradients() -> None:
    made = restorer().train()
    made(pixels(3, 1, 8, 8), T, {"vector": torch.full((3, 3), math.nan), "image": torch.full((3, 2, 8, 8), math.nan)}).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in made.parameters())
    assert made.embedding is not None
    assert float(made.embedding.no_vector.grad.abs().sum()) > 0
    assert float(made.embedding.label.weight.grad[:4].abs().sum()) == 0
    assert float(made.embedding.label.weight.grad[4].abs().sum()) > 0


def test_a_restorer_without_conditions_is_what_it_was() -> None:
    plain, told = restorer(Conditions()), restorer()
    assert not plain.conditions
    assert plain.embedding is None
    assert torch.equal(estimate(plain, {}), estimate(plain, given())), "it reads nothing"
    assert not any("embedding" in name or ".told" in name for name in plain.state_dict())
    assert any(name.startswith("embedding.") for name in told.state_dict())


def test_pictures_alone_need_no_embedding() -> None:
    made = restorer(Conditions(image=1))
    assert made.embedding is None
    assert made.net.told is None
    z = {"image": pixels(3, 1, 8, 8, seed=4)}
    assert not torch.equal(estimate(made, z), estimate(made, {}))


def test_the_embedding_is_the_sum_of_what_is_known() -> None:
    embedding = Embedding(Conditions(classes=2, vector=1), 5)
    with torch.no_grad():
        embedding.no_vector.copy_(torch.arange(5.0))
    known = {"label": torch.tensor([1, -1]), "vector": torch.tensor([[2.0], [math.nan]])}
    found = embedding(known)
    torch.testing.assert_close(found[0], embedding.label.weight[1] + embedding.vector(torch.tensor([2.0])))
    torch.testing.assert_close(found[1], embedding.label.weight[2] + torch.arange(5.0))


def test_tiles_carry_features_and_the_conditioning_picture() -> None:
    made = restorer()
    x, z = pixels(3, 1, 32, 32, seed=5), given(side=32)
    whole = estimate(made, z, x)
    assert whole.shape == x.shape
    made.tiles = Tiles(16, 4)
    cut = estimate(made, z, x)
    assert not torch.equal(cut, estimate(made, {**z, "label": z["label"].roll(1)}, x))
    seen = []
    made.net.register_forward_hook(lambda net, inputs, output: seen.append(inputs))
    estimate(made, z, x)
    features = made.embedding({**z})
    assert len(seen) > 3
    for k, one in enumerate(seen):  # picture by picture
        i = k * 3 // len(seen)
        assert one[0].shape[-1] <= 16
        assert torch.equal(one[2], features[i : i + 1])
    local = restorer(backbone=PLANES)
    whole = estimate(local, z, x)
    local.tiles = Tiles(24, 8)
    torch.testing.assert_close(estimate(local, z, x), whole, rtol=1e-4, atol=1e-5)  # it says its radius, so tiles give the whole


# --- conditions held, dropped, checked -------------------------------------------------------------------


def test_a_held_label_is_that_label_for_every_sample() -> None:
    made = restorer()
    two = made.bound({"label": torch.tensor(2)})
    assert torch.equal(estimate(two, {}), estimate(made, {"label": torch.full((3,), 2)}))
    assert torch.equal(estimate(two, {"label": torch.tensor([0, 1, 3])}), estimate(two, {})), "what is held is held"
    numbers = made.bound({"vector": torch.tensor([1.0, 2.0, 3.0])}).bound({"label": torch.tensor(1)})
    assert torch.equal(estimate(numbers, {}), estimate(made, {"vector": torch.tensor([[1.0, 2.0, 3.0]] * 3), "label": torch.full((3,), 1)}))
    assert not made.held
    with pytest.raises(TypeError, match="this restorer has label held, which no file keeps"):
        save(Model(build("noise"), two), "nowhere")


def test_what_is_dropped_is_unknown_and_nothing_else() -> None:
    z = {**given(), "endpoint": pixels(3, 1, 8, 8)}
    out = ALL.dropped(z, torch.tensor([True, False, True]), pixels(3, 1, 8, 8))
    assert out["label"].tolist() == [-1, 1, -1]
    assert out["vector"].isnan().all(1).tolist() == [True, False, True]
    assert out["image"].isnan().all((1, 2, 3)).tolist() == [True, False, True]
    assert torch.equal(out["vector"][1], z["vector"][1])
    assert out["endpoint"] is z["endpoint"]
    assert out["label"].dtype == torch.int64
    assert z["label"].tolist() == [0, 1, 2], "the draw itself is left alone"
    assert Conditions(vector=3).dropped(z, torch.ones(3, dtype=torch.bool), pixels(3, 1, 8, 8))["label"] is z["label"]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"label": torch.tensor([4])}, r"label 4 lies outside \[0, 3\], the classes of this model \(-1: unknown\)"),
        ({"label": torch.tensor([-2])}, "label -2 lies outside"),
        ({"label": torch.tensor([1.0, 2.5])}, r"^label has dtype torch.float32 and shape \(2,\): give one whole number a sample, \(b,\)$"),
        ({"label": torch.tensor([[1], [2]])}, r"^label has dtype torch.int64 and shape \(2, 1\): give one whole number a sample"),
        ({"label": torch.tensor(1)}, r"^label has dtype torch.int64 and shape \(\): give one whole number a sample"),
        ({"vector": torch.zeros(1, 4)}, r"the condition vector has shape \(1, 4\); this model was trained with \(b, 3\)"),
        ({"vector": torch.zeros(3)}, "the condition vector has shape"),
        ({"image": torch.zeros(1, 3, 8, 8)}, r"this model was trained with \(b, 2, h, w\)"),
        ({"colour": torch.zeros(1)}, "this model was trained without the condition colour: it is told label, vector, image"),
    ],
)
def test_conditions_that_do_not_fit_are_named(entries: dict[str, Tensor], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ALL.check(entries)
    ALL.check(given())


def test_sizes_are_whole_and_not_negative() -> None:
    with pytest.raises(ValueError, match=r"conditions.classes = -1 is no whole number in \[0, 100000\]"):
        Conditions(classes=-1)
    assert not Conditions()
    assert Conditions(vector=1)
    assert Conditions(classes=2, image=1).names == ("label", "image")


# --- saved and loaded ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", [EMBEDS, PLANES])
@pytest.mark.parametrize("variance", ["fixed", "learned"])
def test_a_loaded_model_predicts_the_same_bits(tmp_path, backbone: str, variance: str) -> None:
    made = restorer(backbone=backbone, variance=variance)
    model = Model(made.degradation, made, Normal((1, 8, 8), scale=80.0), notes={"classes": ["a", "b", "c", "d"]})
    save(model, tmp_path, ema=made.state_dict())
    back = load(tmp_path)
    assert back.restorer.conditions == ALL
    assert back.restorer.variance == variance
    assert back.prior == model.prior
    assert back.notes["classes"] == ["a", "b", "c", "d"]
    x, z = pixels(3, 1, 8, 8, seed=9), given()
    with torch.no_grad():
        for one, two in zip(model.predict(x, T, z), back.predict(x, T, z), strict=True):
            assert (one is None and two is None) or torch.equal(one, two)


def test_a_model_without_either_writes_neither_and_an_old_prior_has_scale_1(tmp_path) -> None:
    made = restorer(Conditions())
    save(Model(made.degradation, made, Normal((1, 8, 8))), tmp_path)
    info = read_json(tmp_path / "model.json")
    assert not {"conditions", "variance"} & info["restorer"].keys()
    info["prior"] = {"name": "normal", "shape": [1, 8, 8]}  # as it was written before there was a scale
    write_sealed(tmp_path / "model.json", info)
    assert load(tmp_path).prior == Normal((1, 8, 8), scale=1.0)


@pytest.mark.parametrize(
    "entry",
    [
        {"conditions": {"classes": -1}},
        {"conditions": {"classes": "4"}},
        {"conditions": {"classes": 4.5}},
        {"conditions": {"clases": 4}},
        {"conditions": [4]},
        {"conditions": None},
        {"conditions": {"classes": 5}},
        {"conditions": {}},
        {"conditions": {"classes": 10**13}},
        {"conditions": {"classes": 4, "vector": 3, "image": 10**13}},
        {"variance": "learned"},
        {"variance": "lerned"},
        {"variance": 3},
    ],
    ids=str,
)
def test_a_header_that_lies_is_a_bad_file(tmp_path, entry: dict[str, object]) -> None:
    made = restorer()
    save(Model(made.degradation, made), tmp_path)
    info = read_json(tmp_path / "model.json")
    info["restorer"].update(entry)
    write_sealed(tmp_path / "model.json", info)
    with pytest.raises((BadFile, SpecError), match=re.escape(str(tmp_path))):
        load(tmp_path)
