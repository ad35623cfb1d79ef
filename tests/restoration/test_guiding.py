"""Generation with conditions and guidance: which row belongs to which sample, what a model knows, what moves with it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.randomness import generators
from snowmelt.restoration import beginning, generated, guided, told
from snowmelt.restorers import ByGradient, ClassifierFree, Conditions, Informed, Restorer
from snowmelt.training.classifier import DegradedClassifier
from snowmelt.types import EMPTY, Draw

WALK = "ancestral:steps=3,eta=1"
NET = "unet:widths=(8,16),groups=4,blocks=1"


def model(conditions: Conditions, noise_floor: float = 0.0, **options: object) -> Model:
    D = snowmelt.build("noise")
    torch.manual_seed(0)
    restorer = Restorer(D, snowmelt.build(NET, "backbone"), (1, 8, 8), conditions=conditions, noise_floor=noise_floor)
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return Model(D, restorer.eval().requires_grad_(False), Normal(shape=(1, 8, 8)), noise_floor=noise_floor, **options)  # type: ignore[arg-type]


def labelled(classes: int = 3, **options: object) -> Model:
    return model(Conditions(classes=classes), **options)  # type: ignore[arg-type]


def classifier(degradation: str = "noise", classes: tuple[str, ...] = ("a", "b", "c"), channels: int = 1) -> DegradedClassifier:
    torch.manual_seed(1)
    net = DegradedClassifier(snowmelt.build(degradation), snowmelt.build(NET, "backbone"), (channels, 8, 8), classes)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: guided(m, 3), lambda m: guided(m, 2, classifier=classifier())])
def test_sample_i_depends_on_the_seed_and_its_own_condition_alone(wrap: Callable[[Model], Model]) -> None:
    made = wrap(labelled())
    label = torch.tensor([0, 1, 2, -1, 1, 0, 2])
    z = {"label": label}
    whole = snowmelt.generate(made, 7, seed=5, sampler=WALK, conditions=z)
    for batch in (2, 3):
        parts = torch.cat(list(generated(made, 7, seed=5, sampler=WALK, batch=batch, conditions=z)))
        torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(snowmelt.generate(made, 7, seed=5, sampler=WALK, batch=batch, conditions=z), whole, atol=1e-4, rtol=1e-4)
    other = label.clone()
    other[2] = 0
    changed = snowmelt.generate(made, 7, seed=5, sampler=WALK, conditions={"label": other})
    moved = (changed - whole).abs().amax((1, 2, 3)) > 1e-3
    assert moved.tolist() == [i == 2 for i in range(7)]


def test_without_conditions_a_conditional_model_is_the_unconditional_one() -> None:
    made = labelled()
    null = {"label": torch.full((4,), -1)}
    bare = snowmelt.generate(made, 4, seed=0, sampler=WALK)
    assert torch.equal(bare, snowmelt.generate(made, 4, seed=0, sampler=WALK, conditions=null))
    known = {"label": torch.zeros(4, dtype=torch.long)}
    assert torch.equal(bare, snowmelt.generate(guided(made, 0), 4, seed=0, sampler=WALK, conditions=known))
    conditional = snowmelt.generate(made, 4, seed=0, sampler=WALK, conditions=known)
    assert not torch.allclose(bare, conditional, atol=1e-3)
    assert torch.equal(conditional, snowmelt.generate(guided(made, 1), 4, seed=0, sampler=WALK, conditions=known))


def test_vectors_and_pictures_are_conditions_too() -> None:
    made = model(Conditions(vector=2, image=1))
    numbers, pictures = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    outs = [
        snowmelt.generate(made, 2, generator=generators(0, "x", [7, 7]), sampler=WALK, conditions=given)
        for given in (EMPTY, {"vector": numbers}, {"image": pictures}, {"vector": numbers, "image": pictures})
    ]
    torch.testing.assert_close(outs[0][0], outs[0][1])
    for out in outs[1:]:
        assert not torch.allclose(out[0], out[1], atol=1e-3), "the same noise, another condition"
    assert bool(snowmelt.generate(guided(made, 2), 2, seed=0, sampler=WALK, conditions={"image": pictures}).isfinite().all())


def test_conditions_are_carried_in_the_draw_from_the_beginning() -> None:
    start = beginning(labelled(), 2, generators(0, "x", range(2)), conditions={"label": torch.tensor([1, 2])})
    assert start.z["label"].tolist() == [1, 2]
    assert {"label", "endpoint"} <= start.z.keys()


def test_an_interpolation_may_change_its_condition_on_the_way() -> None:
    made, label = labelled(), torch.tensor([0, 0, 2])
    way = snowmelt.interpolate(made, 3, seed=3, sampler=WALK, conditions={"label": label})
    one = snowmelt.generate(made, 2, seed=3, sampler=WALK, conditions={"label": torch.tensor([0, 2])})
    torch.testing.assert_close(way[0], one[0], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"label has shape \(2,\) for 3 samples"):
        snowmelt.interpolate(made, 3, conditions={"label": label[:2]})


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ({"label": torch.tensor([0, 1])}, r"label has shape \(2,\) for 3 samples: give one row per sample"),
        ({"label": torch.tensor(0)}, r"label has shape \(\) for 3 samples"),
        ({"label": torch.tensor([0, 1, 3])}, r"label 3 lies outside \[0, 2\]"),
        ({"label": torch.tensor([0, -2, 1])}, "label -2 lies outside"),
        ({"vector": torch.zeros(3, 2)}, "trained without the condition vector: it is told label, image"),
        ({"image": torch.zeros(3, 2, 8, 8)}, r"the condition image has shape \(3, 2, 8, 8\)"),
        ({"image": torch.zeros(3, 1, 8, 9)}, "the condition image is 9 x 8 px; samples of this model are 8 x 8 px"),
    ],
)
def test_conditions_a_model_does_not_know_are_refused(conditions: Draw, says: str) -> None:
    made = model(Conditions(classes=3, image=1))
    for ask in (snowmelt.generate, lambda *given, **options: list(generated(*given, **options))):
        with pytest.raises(ValueError, match=says):
            ask(guided(made, 2), 3, seed=0, sampler=WALK, conditions=conditions)


def test_a_plain_function_is_told_nothing() -> None:
    made = Model(snowmelt.build("noise"), lambda x, t: x, Normal(shape=(1, 8, 8)))
    with pytest.raises(ValueError, match="trained without the condition label: it is told nothing"):
        snowmelt.generate(made, 1, conditions={"label": torch.zeros(1, dtype=torch.long)})
    with pytest.raises(TypeError, match="this model's is a plain function"):
        guided(made, 2)


def test_a_restorer_that_does_not_say_what_it_knows_is_handed_all() -> None:
    class Echo(Informed):
        def predict(self, x_t: Tensor, t: Tensor, z: Draw = EMPTY) -> tuple[Tensor, None]:
            return z["vector"][:, :, None, None].expand_as(x_t), None

    made = Model(snowmelt.build("noise"), Echo(), Normal(shape=(1, 4, 4)))
    out = snowmelt.generate(made, 2, seed=0, sampler=None, conditions={"vector": torch.tensor([[0.25], [0.5]])})
    assert out.mean((1, 2, 3)).tolist() == [0.25, 0.5]


def test_a_classifier_guides_a_model_without_labels_and_moves_with_it() -> None:
    made = model(Conditions())
    pulled = guided(made, 50, classifier=classifier())
    label = {"label": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match="trained without the condition label"):
        snowmelt.generate(made, 2, conditions=label)
    assert not torch.allclose(snowmelt.generate(pulled, 2, seed=0, sampler=WALK, conditions=label), snowmelt.generate(made, 2, seed=0, sampler=WALK))
    bare = snowmelt.generate(pulled, 2, seed=0, sampler=WALK)
    torch.testing.assert_close(bare, snowmelt.generate(made, 2, seed=0, sampler=WALK))
    assert isinstance(pulled.restorer, ByGradient)
    moved = pulled.to("meta").restorer
    assert isinstance(moved, ByGradient)
    assert {p.device.type for p in moved.parameters()} == {"meta"}, "the classifier's weights too"
    assert len(list(moved.parameters())) > len(list(made.restorer.parameters()))  # type: ignore[attr-defined]


def test_the_noise_floor_enters_the_gradient() -> None:
    made = guided(model(Conditions(), noise_floor=0.25), 1, interval=(0.1, 0.9), classifier=classifier())
    assert isinstance(made.restorer, ByGradient)
    assert (made.restorer.interval, made.restorer.noise_floor) == ((0.1, 0.9), 0.25)


def test_guidance_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="trained without conditions"):
        guided(model(Conditions()), 2)
    notes = {"recipe": {"training": {"drop_condition": 0.0}}}
    with pytest.raises(ValueError, match=r"training.drop_condition = 0, so it never learnt to do without"):
        guided(labelled(notes=notes), 2)
    assert isinstance(guided(labelled(notes={"recipe": {"training": {"drop_condition": 0.1}}}), 2).restorer, ClassifierFree)
    with pytest.raises(ValueError, match=r"degraded by noise:schedule=linear, the model on noise"):
        guided(labelled(), 2, classifier=classifier("noise:schedule=linear"))
    with pytest.raises(ValueError, match=r"tells other classes \(a, b, c, …\) than the model was trained with \(x, y, z"):
        guided(labelled(notes={"classes": ["x", "y", "z"]}), 2, classifier=classifier())
    with pytest.raises(ValueError, match=r"classifier is of pictures of 3 channels, the model of 1: train one with 'snowmelt train-classifier RUN'"):
        guided(labelled(), 2, classifier=classifier(channels=3))


def test_a_state_goes_where_the_weights_are() -> None:
    x, z = torch.zeros(2, 1, 8, 8), {"label": torch.tensor([0, 1])}
    assert told.device_of(guided(labelled(), 2).to("meta"), x).type == "meta"
    assert told.device_of(Model(snowmelt.build("noise"), lambda x, t: x), x).type == "cpu"
    assert told.moved(z, torch.device("meta"))["label"].device.type == "meta"
