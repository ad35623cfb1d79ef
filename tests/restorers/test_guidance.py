"""Guidance against exact posteriors: the scale, the interval, and the factor sigma^2 / alpha of the gradient."""

import math

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.degradations.blend import GaussianNoise
from snowmelt.model import Model
from snowmelt.restorers import ByGradient, ClassifierFree, Conditions, Informed, Restorer
from snowmelt.restorers.guidance import conditions_of, unconditional
from snowmelt.types import EMPTY, Draw, State, expand

T = torch.tensor([0.03, 0.1, 0.5, 0.8, 0.97])
LABELS = torch.tensor([0, 1, 2, -1, 1])
MEANS = torch.tensor([[-1.0, 0.5], [0.2, 0.9], [0.8, -0.6], [-0.3, -1.1], [1.1, 0.3], [0.0, 0.0]], dtype=torch.float64)
CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])
WEIGHTS = torch.tensor([0.3, 0.1, 0.15, 0.2, 0.05, 0.2], dtype=torch.float64)
VARIANCE = torch.tensor([0.04, 0.09, 0.05, 0.02, 0.06, 0.1], dtype=torch.float64)


class Mixture(Informed):
    """The posterior mean of a mixture of Gaussians in the plane, given x_t and, where it is known, the class."""

    def __init__(self, degradation: GaussianNoise, floor: float = 0.0) -> None:
        super().__init__()
        self.degradation, self.floor = degradation, floor

    def logs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log w_k p_k(x_t), (b, 6), with alpha (b, 1), the noise's variance (b, 1) and that of each component's x_t."""
        alpha, sigma = (v[:, None] for v in self.degradation.schedule(t))
        noise = sigma**2 + self.floor**2
        total = alpha**2 * VARIANCE + noise
        off = (x[:, None] - alpha[..., None] * MEANS).square().sum(-1)
        return WEIGHTS.log() - total.log() - off / (2 * total), alpha, noise, total

    def predict(self, x_t: Tensor, t: Tensor, z: Draw = EMPTY) -> tuple[Tensor, None]:
        logs, alpha, _, total = self.logs(x_t, t)
        label = z.get("label", torch.full((len(x_t),), -1))
        share = torch.where((label[:, None] < 0) | (label[:, None] == CLASSES), logs, -math.inf).softmax(1)
        kept = (alpha * VARIANCE / total)[..., None]
        means = MEANS + kept * (x_t[:, None] - alpha[..., None] * MEANS)
        return (share[..., None] * means).sum(1), None

    def log_likelihood(self, x_t: Tensor, x0: Tensor, t: Tensor, z: Draw) -> Tensor:
        """log p(label | x_t), exactly."""
        logs = self.logs(x_t, t)[0]
        return torch.where(z["label"][:, None] == CLASSES, logs, -math.inf).logsumexp(1) - logs.logsumexp(1)


def tiny(
    parameterization: str = "v", variance: str = "fixed", backbone: str = "unet:widths=(8,16),groups=4,blocks=1", degradation: str = "noise"
) -> Restorer:
    torch.manual_seed(0)
    parts = {"parameterization": snowmelt.build(parameterization, "parameterization"), "conditions": Conditions(classes=3), "variance": variance}
    restorer = Restorer(snowmelt.build(degradation), snowmelt.build(backbone, "backbone"), (1, 8, 8), **parts)  # type: ignore[arg-type]
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return restorer.eval().requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def both(restorer: Informed, x: Tensor) -> tuple[Tensor, Tensor]:
    return restorer(x, T), restorer(x, T, {"label": LABELS})


@pytest.mark.parametrize("backbone", ["unet:widths=(8,16),groups=4,blocks=1", "local-unet:widths=(8,16),blocks=1"])
def test_scale_0_and_1_are_the_two_models_bit_for_bit_and_2_goes_beyond(x: Tensor, backbone: str) -> None:
    restorer = tiny(backbone=backbone)
    null, conditional = both(restorer, x)
    assert (null - conditional)[[0, 1, 2, 4]].abs().amax((1, 2, 3)).min() > 1e-3, "the label does something"
    z = {"label": LABELS}
    assert torch.equal(ClassifierFree(restorer, 0)(x, T, z), null)
    assert torch.equal(ClassifierFree(restorer, 1)(x, T, z), conditional)
    torch.testing.assert_close(ClassifierFree(restorer, 2)(x, T, z), null + 2 * (conditional - null), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ClassifierFree(restorer, -1)(x, T, z), null - (conditional - null), atol=1e-5, rtol=1e-5)


def test_an_unknown_label_is_not_guided(x: Tensor) -> None:
    restorer = tiny()
    null, _ = both(restorer, x)
    torch.testing.assert_close(ClassifierFree(restorer, 5)(x, T, {"label": LABELS})[3], null[3])
    assert torch.equal(ClassifierFree(restorer, 5)(x, T), null)
    assert torch.equal(ClassifierFree(restorer, 5)(x, T, {"endpoint": x}), null)


def test_in_an_interval_it_guides_and_outside_it_is_the_conditional_model(x: Tensor) -> None:
    restorer = tiny()
    null, conditional = both(restorer, x)
    for scale in (0.0, 3.0):
        found = ClassifierFree(restorer, scale, (0.1, 0.8))(x, T, {"label": LABELS})
        torch.testing.assert_close(found[1:4], (null + scale * (conditional - null))[1:4], atol=1e-5, rtol=1e-5)  # both ends included
        torch.testing.assert_close(found[[0, 4]], conditional[[0, 4]], atol=1e-6, rtol=0)
    assert torch.equal(ClassifierFree(restorer, 3, (0.2, 0.3))(x, T, {"label": LABELS}), conditional)


def test_two_estimates_are_one_call_and_one_is_never_called_twice(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, sizes = tiny(), []
    forward = restorer.net.forward
    monkeypatch.setattr(restorer.net, "forward", lambda inner, *rest: sizes.append(len(inner)) or forward(inner, *rest))
    z = {"label": LABELS}
    for guided in (ClassifierFree(restorer, s, interval) for s, interval in ((2, (0, 1)), (0, (0, 1)), (1, (0, 1)), (2, (0.2, 0.3)))):
        guided(x, T, z)
    assert sizes == [10, 5, 5, 5]


def test_guiding_x0_guides_eps_alike(x: Tensor) -> None:
    restorer = tiny("eps", degradation="noise:schedule=betas")
    degradation = restorer.degradation
    null, conditional = both(restorer, x)

    def eps(x0: Tensor) -> Tensor:
        return degradation.recover(x, x0, T, {})["endpoint"]

    guided = eps(null) + 3 * (eps(conditional) - eps(null))
    torch.testing.assert_close(eps(ClassifierFree(restorer, 3)(x, T, {"label": LABELS})), guided, atol=1e-3, rtol=1e-4)


def test_the_spread_is_that_of_the_condition(x: Tensor) -> None:
    restorer = tiny(variance="learned")
    z = {"label": LABELS}
    wanted = restorer.predict(x, T, z)[1]
    found = ClassifierFree(restorer, 2).predict(x, T, z)[1]
    assert wanted is not None
    assert found is not None
    torch.testing.assert_close(found, wanted)
    spread = ByGradient(restorer, restorer.degradation, lambda x, x0, t, z: x.sum((1, 2, 3))).predict(x, T, z)[1]
    assert spread is not None
    torch.testing.assert_close(spread, wanted)


@pytest.mark.parametrize("schedule", ["cosine", "betas", "ve:sigma_max=3", "linear"])
@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_the_exact_classifier_turns_the_unconditional_posterior_into_the_conditional_one(schedule: str, floor: float) -> None:
    degradation = snowmelt.build(f"noise:schedule={schedule}")
    assert isinstance(degradation, GaussianNoise)
    exact = Mixture(degradation, floor)
    source = torch.Generator().manual_seed(0)
    x = 1.5 * torch.randn(200, 2, dtype=torch.float64, generator=source)
    t = 0.02 + 0.97 * torch.rand(200, dtype=torch.float64, generator=source)
    z = {"label": torch.arange(200) % 3}
    guided = ByGradient(ClassifierFree(exact, 0), degradation, exact.log_likelihood, noise_floor=floor)  # scale 0: it is not told the label
    assert float((exact(x, t, z) - exact(x, t)).abs().max()) > 0.5
    with torch.no_grad():
        torch.testing.assert_close(guided(x, t, z), exact(x, t, z), atol=1e-8, rtol=0)


def test_a_whole_walk_guided_by_the_exact_classifier_is_the_conditional_walk() -> None:
    degradation = snowmelt.build("noise:schedule=betas")
    assert isinstance(degradation, GaussianNoise)
    exact = Mixture(degradation)
    guided = ByGradient(ClassifierFree(exact, 0), degradation, exact.log_likelihood)
    sampler = snowmelt.build("ancestral:steps=25,eta=0", "sampler")
    noise = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    z = {"endpoint": noise, "label": torch.arange(60) % 3}
    ends = {kind: sampler.sample(Model(degradation, kind), State(noise, 1.0, z)) for kind in (exact, guided, ClassifierFree(exact, 1))}
    torch.testing.assert_close(ends[guided], ends[exact], atol=1e-6, rtol=0)
    plain = sampler.sample(Model(degradation, exact), State(noise, 1.0, {"endpoint": noise}))
    assert float((plain - ends[exact]).abs().max()) > 0.3, "without a class the walks end elsewhere"


def test_at_scale_1_walks_have_the_law_of_the_class_and_beyond_it_a_narrower_one() -> None:
    degradation = snowmelt.build("noise")
    assert isinstance(degradation, GaussianNoise)
    n, label = 4000, 1
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = {"endpoint": noise, "label": torch.full((n,), label)}
    sampler = snowmelt.build("ancestral:steps=60,eta=0", "sampler")
    exact = Mixture(degradation)
    ends = {scale: sampler.sample(Model(degradation, ClassifierFree(exact, scale)), State(noise, 1.0, z)) for scale in (0.0, 1.0, 4.0)}
    own = label == CLASSES
    w = WEIGHTS[own] / WEIGHTS[own].sum()
    mean = (w[:, None] * MEANS[own]).sum(0)
    covariance = (w * VARIANCE[own]).sum() * torch.eye(2) + torch.einsum("k,ki,kj->ij", w, MEANS[own] - mean, MEANS[own] - mean)
    torch.testing.assert_close(ends[1.0].mean(0), mean, atol=0.04, rtol=0)
    torch.testing.assert_close(ends[1.0].T.cov(), covariance, atol=0.04, rtol=0)
    whole = (WEIGHTS[:, None] * MEANS).sum(0)
    torch.testing.assert_close(ends[0.0].mean(0), whole, atol=0.04, rtol=0)
    posterior = {scale: exact.log_likelihood(x, x, torch.full((n,), 1e-3, dtype=torch.float64), z).exp().mean() for scale, x in ends.items()}
    assert posterior[0.0] < posterior[1.0] < posterior[4.0], "the further, the surer of its class"
    assert float(ends[4.0].T.cov().det()) < 0.5 * float(ends[1.0].T.cov().det()), "and the less various"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_goes_through_the_estimate_under_no_grad_and_frozen_weights(dtype: torch.dtype) -> None:
    degradation = snowmelt.build("noise")
    assert isinstance(degradation, GaussianNoise)
    exact = Mixture(degradation)
    x, t = torch.tensor([[0.3, -0.2], [1.0, 0.4]], dtype=dtype), torch.tensor([0.4, 0.7], dtype=dtype)
    target = torch.tensor([0.5, 0.5], dtype=dtype)

    def near(x_t: Tensor, x0: Tensor, t: Tensor, z: Draw) -> Tensor:
        return -(x0 - target).square().sum(1)

    class Narrow(Mixture):
        def predict(self, x_t: Tensor, t: Tensor, z: Draw = EMPTY) -> tuple[Tensor, None]:
            return super().predict(x_t.double(), t.double(), z)[0].to(x_t.dtype), None

    with torch.no_grad():
        shift = ByGradient(Narrow(degradation), degradation, near)(x, t) - exact(x.double(), t.double()).to(dtype)
    assert shift.dtype == dtype
    h, wide = 1e-5, x.double()
    steps = h * torch.eye(2, dtype=torch.float64)
    ahead, behind = ([near(wide, exact(wide + sign * e, t.double()), t, {}) for e in steps] for sign in (1, -1))
    slope = (torch.stack(ahead, 1) - torch.stack(behind, 1)) / (2 * h)
    alpha, sigma = (expand(v.double(), wide) for v in degradation.schedule(t))
    torch.testing.assert_close(shift.double(), sigma**2 / alpha * slope, atol=2e-4 if dtype == torch.float32 else 1e-7, rtol=1e-3)


def test_a_network_is_guided_with_frozen_weights_and_leaves_no_graph(x: Tensor) -> None:
    restorer = tiny()
    free, z = ClassifierFree(restorer, 2), {"label": LABELS}
    with torch.no_grad():
        guided = ByGradient(free, restorer.degradation, lambda x, x0, t, z: -x0.square().sum((1, 2, 3)))(x, T, z)
    assert not guided.requires_grad
    assert bool(guided.isfinite().all())
    assert not torch.allclose(guided, free(x, T, z), atol=1e-3)


def test_a_likelihood_of_x_t_alone_need_not_go_through_the_network(x: Tensor) -> None:
    restorer = tiny()
    D = restorer.degradation

    def bright(x: Tensor, x0: Tensor, t: Tensor, z: Draw) -> Tensor:
        return -x.square().sum((1, 2, 3))

    with torch.no_grad():
        torch.testing.assert_close(ByGradient(restorer, D, bright, through=False)(x, T), ByGradient(restorer, D, bright)(x, T))
    with pytest.raises(ValueError, match="differentiable in x_t or x0_hat"):
        ByGradient(restorer, D, lambda x, x0, t, z: x0.sum((1, 2, 3)), through=False)(x, T)


def test_pure_noise_is_not_shifted_and_an_interval_holds_for_the_gradient(x: Tensor) -> None:
    restorer = tiny()
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])
    guided = ByGradient(restorer, restorer.degradation, lambda x, x0, t, z: x.sum((1, 2, 3)), interval=(0.2, 1.0))
    shift = (guided(x, t) - restorer(x, t)).abs().amax((1, 2, 3))
    alpha, sigma = restorer.degradation.schedule(t)
    torch.testing.assert_close(shift[1:4], (sigma**2 / alpha)[1:4], atol=1e-5, rtol=1e-4)
    assert shift[[0, 4]].tolist() == [0, 0]
    assert torch.equal(guided(x, t * 0.1), restorer(x, t * 0.1)), "a plain call where no severity lies inside"


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda R: ClassifierFree(R, math.nan), ValueError, "scale = nan is not a finite number"),
        (lambda R: ClassifierFree(R, 2, (0.8, 0.1)), ValueError, r"interval = \(0.8, 0.1\) must rise within \[0, 1\]"),
        (lambda R: ClassifierFree(R, 2, (0, math.nan)), ValueError, "must rise"),
        (lambda R: ClassifierFree(R.bound({"label": torch.tensor(1)}), 2), ValueError, "has label held"),
        (lambda R: ByGradient(R, snowmelt.build("gaussian-blur"), len), TypeError, "which gaussian-blur.* is not: take a model of noise"),
        (lambda R: ByGradient(R, snowmelt.build("morph"), len), TypeError, "which morph.* is not"),
        (lambda R: ByGradient(R, snowmelt.build("noise"), len, noise_floor=-1), ValueError, "noise_floor = -1"),
    ],
)
def test_what_cannot_guide_is_refused(make, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(tiny())


def test_without_conditions_there_is_nothing_to_guide_by(x: Tensor) -> None:
    plain = Restorer(snowmelt.build("noise"), snowmelt.build("zero", "backbone"), (1, 8, 8))
    with pytest.raises(ValueError, match="trained without conditions, .* --model.conditions label, or guide by a classifier"):
        ClassifierFree(plain, 2)


@pytest.mark.parametrize("value", [lambda x, x0, t, z: x.sum(), lambda x, x0, t, z: torch.zeros(len(x)), lambda x, x0, t, z: x.sum((2, 3))])
def test_a_likelihood_is_one_differentiable_number_a_sample(x: Tensor, value) -> None:
    restorer = tiny()
    with pytest.raises(ValueError, match=r"give \(b,\), differentiable"):
        ByGradient(restorer, restorer.degradation, value)(x, T)


def test_all_conditions_are_forgotten_and_nothing_else(x: Tensor) -> None:
    z = {"label": LABELS, "vector": torch.ones(5, 2), "image": x, "endpoint": x}
    null = unconditional(z)
    assert null["label"].tolist() == [-1] * 5
    assert bool(null["vector"].isnan().all())
    assert bool(null["image"].isnan().all())
    assert null["endpoint"] is x
    bare: Draw = {"endpoint": x}
    assert unconditional(bare) is bare


def test_what_is_known_to_whom(x: Tensor) -> None:
    restorer = tiny()
    assert conditions_of(ClassifierFree(restorer, 2)) == Conditions(classes=3)
    assert conditions_of(lambda x, t: x) == Conditions()
    guided = ByGradient(restorer, restorer.degradation, lambda x, x0, t, z: x.sum(), reads=Conditions(vector=4))
    assert conditions_of(guided) == Conditions(classes=3, vector=4)
    degradation = restorer.degradation
    assert isinstance(degradation, GaussianNoise)
    assert conditions_of(ByGradient(Mixture(degradation), degradation, len)) is None
