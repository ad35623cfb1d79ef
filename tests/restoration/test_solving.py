"""Zero-shot restoration, against closed forms of Gaussian data, dense algebra and the papers' own steps."""

import math
from itertools import pairwise

import pytest
import torch

import snowmelt
from snowmelt.data.dataset import Dataset
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.randomness import generator, generators, normal
from snowmelt.registry import build
from snowmelt.restoration import METHODS, Measurement, compare, informed_by, solve
from snowmelt.restoration.solving import DPS, Weights, walk_for
from snowmelt.restorers import Conditions
from snowmelt.samplers import Ancestral
from snowmelt.types import Draw, severity

HOLES = torch.tensor([[1.0, 0, 1, 1]] * 2 + [[0.0, 0, 1, 0]] * 2, dtype=torch.float64)[None, None]


def gaussian(schedule: str = "cosine", variance: float = 1.0) -> Model:
    """A hot model with the exact restorer of white Gaussian data."""
    degradation = build(f"noise:schedule={schedule}")

    def restorer(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (v[:, None, None, None] for v in degradation.schedule(t))
        return alpha * variance / (alpha**2 * variance + sigma**2) * x

    return Model(degradation, restorer)


def wavy(schedule: str = "cosine") -> Model:
    """A hot model with a restorer that is neither linear nor right."""
    return Model(build(f"noise:schedule={schedule}"), lambda x, t: torch.tanh(x * (1 - t[:, None, None, None] / 2)) + 0.2 * torch.sin(3 * x))


def measured(spec: str, noise: float = 0.0, b: int = 1, z: Draw | None = None, dtype: torch.dtype = torch.float64) -> Measurement:
    operator: Degradation = build(spec)
    x = normal(torch.empty(b, 1, 4, 4, dtype=dtype), generator(0, "x"))
    z = {"mask": HOLES.to(dtype).expand(b, -1, -1, -1)} if spec == "holes" else z or dict(operator.draw(x, generator(0, "z")))
    y = operator(x, severity(1.0, x), z)
    return Measurement(operator, y + noise * normal(x, generator(0, "n")), 1.0, z, noise)


def dense(m: Measurement) -> torch.Tensor:
    """The matrix of the first sample's operator."""
    n = m.y[0].numel()
    z = {name: value[:1].expand(n, *value.shape[1:]) for name, value in m.z.items()}
    probes = torch.eye(n, dtype=torch.float64).reshape(n, *m.y.shape[1:])
    zero = m.operator(torch.zeros_like(probes), severity(m.t, probes), z)
    return (m.operator(probes, severity(m.t, probes), z) - zero).flatten(1).mT


def repeated(m: Measurement, n: int) -> Measurement:
    return Measurement(m.operator, m.y.expand(n, -1, -1, -1), m.t, {k: v.expand(n, *v.shape[1:]) for k, v in m.z.items()}, m.noise)


@pytest.mark.parametrize(("spec", "noise"), [("holes", 0.0), ("holes", 0.5), ("gaussian-blur:sigma_px=1", 0.3), ("pixelate:levels=1", 0.2)])
@pytest.mark.parametrize("sampler", ["ancestral:steps=100", "ancestral:steps=40,eta=0,order=2"])
def test_pigdm_draws_from_the_posterior_of_gaussian_data(spec: str, noise: float, sampler: str) -> None:
    n, m = 3000, measured(spec, noise)
    a = dense(m)
    gain = torch.linalg.pinv(a) if noise == 0 else a.mT @ torch.linalg.inv(a @ a.mT + noise**2 * torch.eye(16, dtype=torch.float64))
    mean, covariance = gain @ m.y.flatten(), torch.eye(16, dtype=torch.float64) - gain @ a
    many = repeated(m, n)
    out = solve(gaussian(), many.y, m.operator, z=many.z, noise=noise, sampler=sampler, clip=False, generator=generator(1, "w")).flatten(1)
    assert float((out.mean(0) - mean).abs().max()) < 4.5 / math.sqrt(n)  # sampling: a standard error of at most 1/sqrt(n)
    assert float((out.T.cov() - covariance).abs().max()) < 4.5 * math.sqrt(2 / n) + 0.02  # and the grid's own error


@pytest.mark.parametrize("schedule", ["cosine", "linear", "ve:sigma_max=5"])
@pytest.mark.parametrize(("spec", "noise"), [("holes", 0.4), ("gaussian-blur:sigma_px=1", 0.2), ("pixelate:levels=1", 0.3)])
@pytest.mark.parametrize("t", [0.05, 0.5, 0.999, 1.0])
def test_pigdm_is_the_exact_mean_given_both(schedule: str, spec: str, noise: float, t: float) -> None:
    schedule = schedule.replace(":", "(") + ")" * (":" in schedule)
    model, m, v = gaussian(schedule, 0.7), measured(spec, noise, 2), 0.7
    at = torch.full((2,), t, dtype=torch.float64)
    alpha, sigma = (float(value[0]) for value in model.degradation.schedule(at))
    x_t = normal(m.y, generator(2, "x"))
    found = informed_by(model, m, "pigdm", walk_for("default"), variance=v, clip=False)(x_t, at)
    for row in range(2):
        one = Measurement(m.operator, m.y[row : row + 1], m.t, {k: z[row : row + 1] for k, z in m.z.items()}, noise)
        a, eye = dense(one), torch.eye(16, dtype=torch.float64)
        precision = eye / v + alpha**2 / sigma**2 * eye + a.mT @ a / noise**2
        mean = torch.linalg.solve(precision, alpha / sigma**2 * x_t[row].flatten() + a.mT @ m.y[row].flatten() / noise**2)
        torch.testing.assert_close(found[row].flatten(), mean, atol=1e-7, rtol=0)


@pytest.mark.parametrize("spec", ["holes", "pixelate:levels=1", "pixelate:levels=2"])
@pytest.mark.parametrize("sampler", ["ancestral:steps=7", "ancestral:steps=7,eta=0,order=2", "ancestral:steps=9,again=2", "heun:steps=5"])
def test_ddnm_reproduces_the_measurement(spec: str, sampler: str) -> None:
    m = measured(spec, b=3, dtype=torch.float32)
    out = solve(wavy(), m.y, m.operator, z=m.z, method="ddnm", sampler=sampler, generator=generators(0, "w", range(3)))
    assert float(m.left(out).abs().max()) < 1e-5
    free = walk_for(sampler).sample(wavy(), snowmelt.State(normal(m.y, generator(0, "s")), 1.0, {"endpoint": m.y}), generator(0, "w"))
    assert float(m.left(free).abs().max()) > 0.1  # which is no property of the restorer


@pytest.mark.parametrize(
    "spec", ["holes", "gaussian-blur:sigma_px=1", "gaussian-blur:sigma_px=1,padding=circular", "pixelate:levels=1", "motion-blur"]
)
@pytest.mark.parametrize(("noise", "weight"), [(0.0, 1.0), (0.3, 1.0), (0.3, 5.0)])
def test_diffpir_is_the_minimum_of_its_sum(spec: str, noise: float, weight: float) -> None:
    model, m = wavy(), measured(spec, noise)
    x_t, t = normal(m.y, generator(2, "x")), torch.tensor([0.6], dtype=torch.float64)
    alpha, sigma = (float(value) for value in model.degradation.schedule(t))
    a, level = dense(m), max(noise, 2.3e-3)
    pull = weight * alpha**2 / sigma**2
    x0 = model.estimate(x_t, t).flatten()
    normal_equations = a.mT @ a / level**2 + pull * torch.eye(16, dtype=torch.float64)
    expected = torch.linalg.solve(normal_equations, a.mT @ m.y.flatten() / level**2 + pull * x0)
    found = informed_by(model, m, "diffpir", walk_for("default"), strength=weight, clip=False)(x_t, t)
    torch.testing.assert_close(found.flatten(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sampler", ["ancestral:steps=20", "ancestral:steps=20,eta=0", "ancestral:steps=20,eta=0.4", "ancestral:steps=21,again=2"])
@pytest.mark.parametrize("schedule", ["betas", "cosine"])
def test_dps_is_the_papers_step(sampler: str, schedule: str) -> None:
    model, m, walk = wavy(schedule), measured("gaussian-blur:sigma_px=1", 0.1, 2), walk_for(sampler)
    restorer = informed_by(model, m, "dps", walk, strength=0.3, clip=False)
    for t_i, s_i in [(t, s) for t, s in pairwise(walk.walk(model.degradation)) if s < t < 1]:
        t, s = severity(t_i, m.y), severity(s_i, m.y)
        x = normal(m.y, generator(3, "x")).requires_grad_()
        estimate = model.restorer(x, t)
        (slope,) = torch.autograd.grad(m.left(estimate).flatten(1).norm(dim=1).sum(), x)
        x = x.detach()
        z = {"endpoint": torch.zeros_like(x)}
        plain, _ = walk.move(model.degradation, x, estimate.detach(), t, s, z, generator(4, "w"))
        informed, _ = walk.move(model.degradation, x, restorer(x, t), t, s, z, generator(4, "w"))
        torch.testing.assert_close(informed, plain - 0.3 * slope, atol=1e-8, rtol=0)


def test_dps_comes_nearer_to_the_measurement() -> None:
    m = measured("gaussian-blur:sigma_px=1", 0.05, 8)
    settings = {"method": "dps", "noise": 0.05, "clip": False}
    walks = [solve(gaussian(), m.y, m.operator, strength=zeta, generator=generator(0, "w"), **settings) for zeta in (1e-6, 0.1, 0.5)]
    off = [float(m.left(out).norm()) for out in walks]
    assert off[2] < off[1] < off[0]
    assert off[2] < 0.2 * off[0]


def astray(schedule: str = "betas") -> Model:
    """A hot model whose predicted noise is off by a tenth, so that its estimates are off by many times the data where alpha is small."""
    degradation = build(f"noise:schedule={schedule}")

    def restorer(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (v[:, None, None, None] for v in degradation.schedule(t))
        return (x - sigma * (0.9 * torch.tanh(x) + 0.1 * torch.sin(7 * x))) / alpha

    return Model(degradation, restorer)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", ["default", "ancestral:steps=20", "ancestral:steps=20,eta=0", "ancestral:steps=7"])
def test_no_walk_runs_away(method: str, sampler: str) -> None:
    m = measured("pixelate:levels=1", b=4)
    settings = {"method": method, "sampler": sampler, "generator": generator(0, "w")}
    y = m.y.clamp(-1, 1)
    assert float(solve(astray(), y, m.operator, **settings).abs().max()) < 2.5  # a clamped estimate, and a step back to y


def test_without_the_clip_it_does() -> None:
    m = measured("pixelate:levels=1", b=4)
    out = solve(astray(), m.y.clamp(-1, 1), m.operator, sampler="ancestral:steps=20", clip=False, generator=generator(0, "w"))
    assert float(out.abs().max()) > 10


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_what_lies_in_a_hole_says_nothing(method: str, noise: float) -> None:
    if method == "ddnm" and noise:
        return
    m = measured("holes", b=2)
    other = torch.where(m.z["mask"] > 0, m.y, 0.8)
    assert not torch.equal(other, m.y)
    settings = {"z": m.z, "method": method, "noise": noise, "sampler": "ancestral:steps=4"}
    outs = [solve(wavy(), y, m.operator, generator=generator(0, "w"), **settings) for y in (m.y, other)]
    assert torch.equal(*outs)


def test_conditions_have_a_row_and_the_size_of_each_sample() -> None:
    class Told(snowmelt.restorers.Informed):
        conditions = Conditions(classes=3, image=1)

        def predict(self, x_t: torch.Tensor, t: torch.Tensor, z: dict) -> tuple[torch.Tensor, None]:
            return x_t * 0, None

    model, y = Model(build("noise"), Told()), torch.zeros(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"label has shape \(1,\) for 2 samples: give one row per sample"):
        solve(model, y, "pixelate:levels=1", conditions={"label": torch.tensor([1])})
    with pytest.raises(ValueError, match="the condition image is 5 x 4 px"):
        solve(model, y, "pixelate:levels=1", conditions={"image": torch.zeros(2, 1, 4, 5)})
    with pytest.raises(ValueError, match=r"label 3 lies outside"):
        solve(model, y, "pixelate:levels=1", conditions={"label": torch.tensor([1, 3])})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="that pictures follow the weights needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_pictures_go_where_the_weights_are(method: str) -> None:
    degradation = build("noise")
    restorer = snowmelt.Restorer(degradation, build("unet:widths=(8,16),groups=4,blocks=1", "backbone"), (1, 4, 4)).eval()
    m = measured("holes", b=2, dtype=torch.float32)
    settings = {"z": m.z, "t": torch.ones(2), "method": method, "sampler": "ancestral:steps=3"}
    here, there = (solve(Model(degradation, restorer.to(d)), m.y, m.operator, generator=generator(0, "w"), **settings) for d in ("cpu", "cuda"))
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=1e-3)


def test_an_affine_operator_without_an_inverse_of_its_own() -> None:
    """A fade to a known colour, which is none of A x, and a composition of two bases, which has neither adjoint nor inverse."""
    colour = measured("fade-mask:towards=colour,kernel_std=1,steps=2")
    a, left = dense(colour), colour.left(torch.zeros_like(colour.y))
    assert float(colour.of(torch.zeros_like(colour.y)).abs().max()) > 0.01
    inverse = a.mT @ torch.linalg.inv(a @ a.mT + 0.1 * torch.eye(16, dtype=torch.float64))
    torch.testing.assert_close(colour.back(left, torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64)).flatten(), inverse @ left.flatten())
    x = normal(colour.y, generator(0, "both"))
    both = measured("gaussian-blur:sigma_px=0.3+mask:strength=1", z={"1.centre": torch.tensor([[0.2, 0.2]], dtype=torch.float64)})
    assert both.operator.inverse is None
    torch.testing.assert_close(both.adjoint(x).flatten(), dense(both).mT @ x.flatten())
    out = solve(wavy(), both.y, both.operator, z=both.z, method="ddnm", sampler="ancestral:steps=3", generator=generator(0, "w"))
    assert float(both.left(out).abs().max()) < 0.05 < float(both.y.abs().max())


@pytest.mark.parametrize("method", METHODS)
def test_each_sample_by_itself(method: str) -> None:
    """A batch is its rows, conditions and draws included."""
    m = measured("holes", b=3)
    own = {"mask": (normal(m.y, generator(0, "masks")) > -0.3).to(m.y)}
    settings = {"method": method, "sampler": "ancestral:steps=4"}
    out = solve(wavy(), m.y * own["mask"], m.operator, z=own, generator=generators(0, "w", range(3)), **settings)
    for i in range(3):
        one = {"mask": own["mask"][i : i + 1]}
        alone = solve(wavy(), (m.y * own["mask"])[i : i + 1], m.operator, z=one, generator=generators(0, "w", [i]), **settings)
        torch.testing.assert_close(out[i : i + 1], alone, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("operator", "options", "says"),
    [
        ("jpeg", {}, "jpeg is not linear"),
        ("snow", {}, "snow"),
        ("noise", {}, "give the linear part as the operator"),
        ("pixelate+noise", {}, "standard deviation of its noise"),
        ("mask", {}, "give centre in z"),
        ("pixelate", {"t": 1.5}, "t = 1.5 lies outside"),
        ("pixelate", {"noise": -1.0}, "noise = -1 lies outside"),
        ("pixelate", {"noise": 0.1, "method": "ddnm"}, "take diffpir, pigdm or dps"),
        ("pixelate", {"method": "dsp"}, "did you mean 'dps'"),
        ("pixelate", {"strength": 0.0}, "strength = 0 lies outside"),
        ("pixelate", {"variance": math.inf}, "variance = inf lies outside"),
        ("pixelate", {"method": "dps", "sampler": "heun"}, "take ancestral, or method pigdm"),
        ("pixelate", {"sampler": "tacos"}, "endpoint"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(operator: str, options: dict, says: str) -> None:
    y = torch.zeros(1, 3, 16, 16)
    with pytest.raises((ValueError, TypeError), match=says.replace("(", r"\(")):
        solve(wavy(), y, operator, **options)


def test_models_and_pictures_that_cannot_be_used() -> None:
    y = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match="a model of gaussian-blur undoes that and nothing else"):
        solve(Model(build("gaussian-blur"), lambda x, t: x), y, "pixelate")
    with pytest.raises(ValueError, match="rounds all it sees"):
        solve(Model(build("noise"), lambda x, t: x, input="8bit"), y, "pixelate")
    with pytest.raises(ValueError, match="no finite floating-point numbers"):
        solve(wavy(), y / 0, "pixelate")
    weights = Weights(wavy(), Ancestral(steps=4))
    with pytest.raises(ValueError, match=r"to which 0\.6 does not belong"):
        DPS(wavy(), measured("pixelate:levels=1"), weights, 1.0)(y, y, torch.tensor([0.6]), {})


@pytest.fixture(scope="module")
def digits() -> tuple[Dataset, Dataset]:
    options = DataOptions(path="bundled:digits")
    return open_data(options, "train"), open_data(options, "test")


def test_all_methods_in_one_table(digits: tuple[Dataset, Dataset], tmp_path) -> None:
    train, test = digits
    told: list[int] = []
    settings = {"sampler": "ancestral:steps=4", "images": 6, "batch": 4}
    found = compare(gaussian(), "pixelate:levels=1", test, train, tick=told.append, **settings)
    rows = {row["method"]: row for row in found.rows}
    assert list(rows) == ["Degraded", "Pseudo-inverse", "Linear Wiener", "DDNM", "DiffPIR", "PiGDM", "DPS"]
    assert sum(told) == 7 * 6
    assert all(rows[name]["calls"] == 4 for name in ("DDNM", "DiffPIR", "PiGDM", "DPS"))
    assert rows["DDNM"]["measurement error"] < 1e-5 < rows["DPS"]["measurement error"]
    assert rows["Degraded"]["measurement error"] < 1e-6  # block means of block means
    assert rows["Linear Wiener"]["psnr"] > rows["Pseudo-inverse"]["psnr"]
    assert min(row["time"] for row in found.rows if "time" in row) == 1
    found.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"solve.json", "solve.md", "solve.png"}
    assert "| DiffPIR |" in (tmp_path / "solve.md").read_text()
    noisy = compare(gaussian(), "grey" if test.shape[0] == 3 else "gaussian-blur", test, None, noise=0.2, **settings)
    assert [row["method"] for row in noisy.rows] == ["Degraded", "Pseudo-inverse", "DiffPIR", "PiGDM", "DPS"]
    assert "DDNM" in noisy.facts["left out"]
    assert 0.05 < next(row for row in compare(gaussian(), "pixelate:levels=1", test, noise=0.2, **settings).rows)["measurement error"] < 0.12
    with pytest.raises(ValueError, match="images = 0"):
        compare(gaussian(), "pixelate", test, images=0)
