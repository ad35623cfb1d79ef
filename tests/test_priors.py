"""The laws of x at t = 1: what they learn, what they draw, how they are kept."""

import dataclasses

import pytest
import torch

from snowmelt.priors import Constant, FromData, GaussianMixture, Learned, Normal, Prior
from snowmelt.priors.mixture import cells, upsampling
from snowmelt.randomness import generator, generators
from snowmelt.registry import build, names, spec
from snowmelt.types import State

SHAPE = (2, 8, 6)
MEANS = torch.tensor([[-0.6, 0.1], [0.5, -0.3]], dtype=torch.float64)
ROOTS = torch.tensor([[[0.3, 0.0], [0.25, 0.05]], [[0.1, 0.0], [-0.2, 0.05]]], dtype=torch.float64)
WEIGHTS = (0.25, 0.75)


def flat(n: int, seed: int = 0) -> torch.Tensor:
    """Pictures of one colour each, the colours from a known mixture of two Gaussians."""
    g = torch.Generator().manual_seed(seed)
    which = (torch.rand(n, generator=g) >= WEIGHTS[0]).long()
    colour = MEANS[which] + (ROOTS[which] @ torch.randn(n, 2, 1, dtype=torch.float64, generator=g))[..., 0]
    return colour[:, :, None, None].expand(n, *SHAPE).float().contiguous()


def smooth(n: int = 200) -> torch.Tensor:
    """Pictures of the lowest three cosines along each axis."""
    g = torch.Generator().manual_seed(1)
    rows, columns = (torch.cos(torch.pi / m * (torch.arange(m)[:, None] + 0.5) * torch.arange(3)) for m in (12, 10))
    return rows @ (torch.randn(n, 2, 3, 3, generator=g) * 0.2) @ columns.mT


def fitted(text: str = "gaussian-mixture:components=2", x: torch.Tensor | None = None) -> Learned:
    prior = build(text, "prior")
    assert isinstance(prior, Learned)
    return prior.fit((flat(4000) if x is None else x).split(500))


def perfect(prior: Prior) -> Prior:
    return prior.with_noise(0.0)


def test_what_is_registered() -> None:
    assert set(names("prior")) >= {"normal", "gaussian-mixture", "constant", "from-data"}


# --- the mixture -----------------------------------------------------------------------------------------


def test_a_known_mixture_is_recovered() -> None:
    learned = fitted("gaussian-mixture:components=2,regularisation=1e-8").tensors()
    order = learned["means"][:, 0].argsort()
    torch.testing.assert_close(learned["weights"][order], torch.tensor(WEIGHTS, dtype=torch.float64), atol=0.02, rtol=0)
    torch.testing.assert_close(learned["means"][order], MEANS, atol=0.03, rtol=0)
    covariances = learned["roots"] @ learned["roots"].mT
    torch.testing.assert_close(covariances[order], ROOTS @ ROOTS.mT, atol=0.012, rtol=0)


def test_its_samples_follow_the_law_it_was_fitted_to() -> None:
    prior = perfect(fitted())
    x = prior.sample(20_000, generator(0, "test")).x
    colour = x.mean((2, 3)).double()
    assert float((x - colour[:, :, None, None]).abs().max()) < 1e-6, "perfect symmetry: one colour a picture"
    weights, means, roots = (prior.tensors()[name] for name in ("weights", "means", "roots"))
    centre = weights @ means
    covariance = torch.einsum("k,kij->ij", weights, roots @ roots.mT) + (weights * (means - centre).T) @ (means - centre)
    torch.testing.assert_close(colour.mean(0), centre, atol=0.015, rtol=0)
    torch.testing.assert_close(colour.T.cov(), covariance, atol=0.01, rtol=0)
    first = means[:, 0].argmin()
    assert abs(float((colour[:, 0] < 0).double().mean() - weights[first])) < 0.015


def test_two_fits_learn_the_same_bits() -> None:
    a = fitted("gaussian-mixture:components=5").tensors()
    b = fitted("gaussian-mixture:components=5").tensors()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("text", ["gaussian-mixture", "gaussian-mixture:components=2,grid=2", "constant", "from-data:samples=7", "normal"])
def test_a_sample_depends_on_its_own_generator_alone(text: str) -> None:
    prior = build(text, "prior").fit([flat(50)])
    many = prior.sample(5, generators(3, "sample", range(5)))
    one = prior.sample(1, generators(3, "sample", [4]))
    assert many.x.shape == (5, *SHAPE)
    assert torch.equal(many.x[4:], one.x)
    assert all(torch.equal(value[4:], one.z[name]) for name, value in many.z.items())
    assert not torch.equal(prior.sample(1, generators(4, "sample", [4])).x, one.x)


def test_a_grid_keeps_what_differs_between_its_cells() -> None:
    x = smooth()
    coarse, fine = fitted("gaussian-mixture:grid=1", x), fitted("gaussian-mixture:grid=3", x)
    assert isinstance(coarse, GaussianMixture)
    assert isinstance(fine, GaussianMixture)
    assert coarse.explained < 0.5
    assert fine.explained == pytest.approx(1, abs=1e-6), "three cosines are known by three means"
    drawn = perfect(fine).sample(3000, generator(0, "x")).x
    torch.testing.assert_close(drawn.std(0), x.std(0), atol=0.1, rtol=0.15)


def test_the_way_back_to_full_size_is_the_one_that_rebuilds_the_samples() -> None:
    g = torch.Generator().manual_seed(2)
    means = torch.randn(60, 1, 4, 4, generator=g)
    blocks = means.repeat_interleave(3, -1).repeat_interleave(3, -2)
    for x, way in ((blocks, "nearest"), (smooth(60), "cosine")):
        grid = 4 if way == "nearest" else 3
        chosen, asked = (fitted(f"gaussian-mixture:grid={grid},upsample={name}", x).tensors()["rows"] for name in ("auto", way))
        assert torch.equal(chosen, asked)
        other = "cosine" if way == "nearest" else "nearest"
        assert not torch.equal(chosen, fitted(f"gaussian-mixture:grid={grid},upsample={other}", x).tensors()["rows"])


@pytest.mark.parametrize("way", ["nearest", "bilinear", "cosine"])
@pytest.mark.parametrize(("n", "grid"), [(8, 8), (32, 8), (28, 8), (13, 3), (5, 1)])
def test_the_way_back_keeps_the_means(way: str, n: int, grid: int) -> None:
    back = upsampling(way, n, grid)
    assert back.shape == (n, grid)
    torch.testing.assert_close(cells(n, grid) @ back, torch.eye(grid, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(back.sum(1), torch.ones(n, dtype=torch.float64), atol=1e-10, rtol=0, msg="a flat picture stays flat")


@pytest.mark.parametrize(
    ("text", "shape", "says"),
    [
        ("gaussian-mixture:grid=8", (3, 1, 4, 6), r"mixture\.grid = 8 is larger than the pictures of 6 x 4 px: give at most 4"),
        ("gaussian-mixture:components=5", (4, 1, 4, 6), r"mixture\.components = 5 cannot be fitted to 4 samples"),
        ("gaussian-mixture", (4, 9), r"describes pictures \(c, h, w\), not samples of shape \(9,\)"),
        ("constant", (4, 1, 4, 6), r"constant does not fit: x at t = 1 is off one colour by up to .*from-data"),
    ],
)
def test_what_a_prior_cannot_describe_is_refused(text: str, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        build(text, "prior").fit([torch.rand(shape, generator=torch.Generator().manual_seed(0))])


def test_nothing_to_fit_to_is_refused() -> None:
    with pytest.raises(ValueError, match="fitted to 0 samples"):
        GaussianMixture().fit([])


# --- the others ------------------------------------------------------------------------------------------


def test_a_constant_prior_of_no_colours_is_refused() -> None:
    with pytest.raises(ValueError, match=r"constant\.low = 0\.5 lies above constant\.high = -0\.5"):
        build("constant:low=0.5,high=-0.5", "prior")
    assert Constant(low=0.25, high=0.25).low == 0.25


def test_a_constant_prior_draws_the_colour_it_starts_from() -> None:
    prior = Constant(low=-0.5, high=0.25, noise=0.0).fit([State(flat(3), 1.0, {"colour": torch.zeros(3, 2)})])
    state = prior.sample(4000, generator(0, "test"))
    colour = state.z["colour"]
    assert colour.shape == (4000, 2)
    assert torch.equal(state.x, colour[:, :, None, None].expand_as(state.x))
    assert -0.5 <= float(colour.min()) < -0.49
    assert 0.24 < float(colour.max()) <= 0.25
    assert abs(float(colour.mean()) + 0.125) < 0.01
    assert Constant().fit([flat(3)]).sample(2).z == {}, "a degradation that draws no colour is given none"


def test_from_data_gives_back_samples_with_their_draw() -> None:
    x = torch.rand(30, *SHAPE, generator=torch.Generator().manual_seed(0))
    z = {"centre": torch.arange(60.0).reshape(30, 2)}
    batches = iter([State(x[:8], 1.0, {"centre": z["centre"][:8]}), State(x[8:], 1.0, {"centre": z["centre"][8:]}), None])
    prior = FromData(samples=12, noise=0.0).fit(batches)
    assert next(batches) is None, "no more is read than is kept"
    state = prior.sample(500, generator(0, "test"))
    number = (state.z["centre"][:, 0] / 2).long()
    assert torch.equal(state.x, x[number])
    assert set(number.tolist()) == set(range(12))


# --- the symmetry and the rest of the contract -----------------------------------------------------------


@pytest.mark.parametrize("text", ["gaussian-mixture", "constant", "from-data"])
@pytest.mark.parametrize("noise", [0.0, 0.002, 0.1])
def test_broken_symmetry_is_white_noise_of_that_deviation(text: str, noise: float) -> None:
    prior = build(text, "prior").fit([flat(50)]).with_noise(noise)
    many = [prior.start(200, generators(0, "x", range(200))), prior.sample(200, generators(0, "x", range(200)))]
    off = many[1].x - many[0].x
    assert float(off.std()) == pytest.approx(noise, rel=0.03)
    assert abs(float(off.mean())) <= 0.02 * noise
    assert spec(prior) == (text if noise == 0.002 else f"{text}:noise={noise:g}"), "the paper's is the default"
    assert all(torch.equal(value, many[0].z[name]) for name, value in many[1].z.items())


def test_pure_noise_has_no_symmetry_to_break() -> None:
    with pytest.raises(ValueError, match=r"normal has no symmetry that noise = 0\.1 could break"):
        Normal(shape=SHAPE).with_noise(0.1)


@pytest.mark.parametrize("text", ["gaussian-mixture:components=2,grid=2", "constant:low=-0.1", "from-data"])
def test_what_was_learned_travels_as_tensors(text: str) -> None:
    prior = fitted(text)
    again = build(spec(prior), "prior").with_tensors({name: value.clone() for name, value in prior.tensors().items()})
    assert again == prior
    assert torch.equal(again.sample(3, generator(0, "x")).x, prior.sample(3, generator(0, "x")).x)


@pytest.mark.parametrize("text", ["gaussian-mixture", "constant", "from-data"])
def test_a_prior_without_what_it_learned_says_so(text: str) -> None:
    with pytest.raises(ValueError, match=f"the prior {text} was never fitted"):
        build(text, "prior").sample(1)
    with pytest.raises(ValueError, match=f"the prior {text} lacks .* among what it learned"):
        build(text, "prior").with_tensors({"other": torch.zeros(1)}).sample(1)


def test_normal_goes_along_the_sphere_and_the_others_straight() -> None:
    prior, share = Normal(shape=(1, 20, 20)), torch.linspace(0, 1, 5)
    a, b = (prior.sample(1, generators(0, "x", [i])) for i in range(2))
    way = prior.between(a, b, share)
    torch.testing.assert_close(way.x[[0, 4]], torch.cat([a.x, b.x]), atol=1e-5, rtol=0)
    assert torch.equal(way.z["endpoint"], way.x)
    lengths = way.x.flatten(1).norm(dim=1)
    assert float(lengths[2]) > 0.95 * float(lengths[[0, 4]].mean()), "a straight line would be 0.71 as long there"
    assert torch.allclose(prior.between(a, a, share).x, a.x.expand(5, 1, 20, 20))
    mixture = perfect(fitted())
    a, b = (mixture.start(1, generators(0, "x", [i])) for i in range(2))
    torch.testing.assert_close(mixture.between(a, b, share).x[1:2], 0.75 * a.x + 0.25 * b.x)


def test_what_cannot_be_mixed_is_that_of_the_nearer_end() -> None:
    prior = FromData()
    a, b = (State(torch.full((1, 1, 2, 2), float(i)), 1.0, {"which": torch.tensor([i]), "at": torch.tensor([float(i)])}) for i in (0, 4))
    way = prior.between(a, b, torch.tensor([0.0, 0.25, 0.75]))
    assert way.z["which"].tolist() == [0, 0, 4]
    assert way.z["at"].tolist() == [0.0, 1.0, 3.0]


def test_a_prior_of_ones_own_needs_two_methods() -> None:
    @dataclasses.dataclass(frozen=True)
    class Grey(Prior):
        def fit(self, batches):
            return self

        def sample(self, n, generator=None):
            return State(torch.zeros(n, 1, 2, 2), 1.0)

    assert torch.equal(Grey().broken(Grey().start(2)).x, torch.zeros(2, 1, 2, 2))
