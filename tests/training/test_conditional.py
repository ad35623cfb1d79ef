"""Training a conditional model, and the laws of severities: exact resume, condition dropout, what is refused before the first step."""

import dataclasses
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.data.labels import Labels
from snowmelt.data.options import DataOptions
from snowmelt.data.paired import Paired
from snowmelt.data.sources import open_data
from snowmelt.data.stores import Held
from snowmelt.degradations import GaussianNoise
from snowmelt.model import Model, load
from snowmelt.priors import Normal
from snowmelt.randomness import fractions
from snowmelt.registry import build
from snowmelt.restoration import generate
from snowmelt.restorers import Conditions, Restorer, UNet
from snowmelt.schedules import Schedule
from snowmelt.training import objective, prior
from snowmelt.training.agreement import agree
from snowmelt.training.checkpoint import digest
from snowmelt.training.loop import Stopped, Trainer
from snowmelt.training.options import TrainingOptions

DIGITS = DataOptions(path="bundled:digits", size=8)
TINY = UNet(widths=(8, 16), patch=2, groups=4, blocks=1)
OPTIONS = TrainingOptions(
    images=160, batch=16, lr=2e-3, validate_every=80, validation_images=16, precision="fp32", drop_condition=0.3, weight="output"
)
LABEL = Conditions(classes=10)


def trainer(
    out: Path,
    options: TrainingOptions = OPTIONS,
    *,
    spec: str = "noise",
    part: str | None = "v",
    data: Dataset | None = None,
    conditions: Conditions = LABEL,
    variance: str = "fixed",
) -> Trainer:
    train, degradation = data or open_data(DIGITS, "train"), build(spec)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        chosen = build(part, "parameterization") if part else None
        restorer = Restorer(degradation, TINY, train.shape, parameterization=chosen, conditions=conditions, variance=variance)
    return Trainer(prior.prior_for(Model(degradation, restorer)), train, data or open_data(DIGITS, "validation"), options, out)


# --- exact resume ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", [3, 5])
def test_an_interrupted_conditional_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    options = dataclasses.replace(OPTIONS, severities="logit-normal", severity_mean=0.0, severity_std=1.0)
    trainer(tmp_path / "whole", options, variance="learned").run()
    advance = Trainer._advance

    def interrupted(self: Trainer, bar: object) -> Tensor:
        out = advance(self, bar)  # type: ignore[arg-type]
        if self.step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return out

    monkeypatch.setattr(Trainer, "_advance", interrupted)
    with pytest.raises(Stopped):
        trainer(tmp_path / "parts", options, variance="learned").run()
    monkeypatch.undo()
    second = trainer(tmp_path / "parts", options, variance="learned")
    assert second.resume()
    assert second.step == stop_at
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")
    assert load(tmp_path / "parts").restorer.conditions == LABEL


# --- what is dropped -------------------------------------------------------------------------------------


def shown(run: Trainer, numbers: range, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """The labels and severities that the loss sees of these sample numbers."""
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(model: Model, x0: Tensor, t: Tensor, z: dict[str, Tensor], **options: object) -> Tensor:
        seen.append((z["label"], t))
        return torch.zeros(len(x0))

    monkeypatch.setattr(objective, "restoration_loss", loss)
    list(run._losses(numbers))
    return seen[0]


def test_conditions_are_dropped_by_sample_number_as_often_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path)
    labels, _ = shown(run, range(0, 1000), monkeypatch)
    item = run.train.numbered(0, range(0, 1000))
    dropped = fractions(0, "condition", range(0, 1000)) < 0.3
    assert torch.equal(labels == -1, dropped)
    assert torch.equal(labels[~dropped], item["label"][~dropped])
    assert 0.25 < float(dropped.double().mean()) < 0.35
    part, _ = shown(run, range(300, 340), monkeypatch)
    assert torch.equal(part, labels[300:340]), "a sample's fate is its number's, whatever the batch"


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_none_and_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, share: float) -> None:
    labels, _ = shown(trainer(tmp_path, dataclasses.replace(OPTIONS, drop_condition=rate)), range(200), monkeypatch)
    assert float((labels == -1).double().mean()) == share


def test_a_model_learns_what_its_labels_say(tmp_path: Path) -> None:
    """Two flat pictures, one for each class: at pure noise only the label can tell them apart."""
    pixels = np.zeros((64, 8, 8, 1), dtype=np.float32)
    pixels[::2] = 0.8
    pixels[1::2] = -0.8
    data = labelled(pixels, np.arange(64) % 2)
    options = dataclasses.replace(OPTIONS, images=2400, lr=5e-3, ema=0.01, validate_every=2400)
    model = trainer(tmp_path, options, data=data, conditions=Conditions(classes=2), part="x0").run()
    noise, t = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(64)
    with torch.no_grad():
        means = [float(model.estimate(noise, t, {"label": torch.full((64,), i)}).mean()) for i in (0, 1, -1)]
    assert means[0] > 0.5
    assert means[1] < -0.5
    assert abs(means[2]) < 0.4


def labelled(pixels: np.ndarray, numbers: np.ndarray) -> Dataset:
    ids = [str(i) for i in range(len(pixels))]
    classes = tuple(str(i) for i in range(int(numbers.max()) + 1))
    return Dataset(Held(pixels), "train", (1, 8, 8), ids, [], labels=Labels(numbers.astype(np.int64), classes))


def test_vectors_and_pictures_reach_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, (32, 8, 8, 1)).astype(np.float32)
    ids = [str(i) for i in range(32)]
    vectors = np.arange(64, dtype=np.float32).reshape(32, 2)
    clean = Dataset(Held(pixels), "train", (1, 8, 8), ids, [], vectors=vectors)
    both = Paired(clean, Dataset(Held(-pixels), "train", (1, 8, 8), ids, []), pairs=True)
    assert both.keys == ("x0", "vector", "endpoint")
    run = trainer(tmp_path, dataclasses.replace(OPTIONS, drop_condition=0.0), data=both, conditions=Conditions(vector=2, image=1))
    seen: list[dict[str, Tensor]] = []

    def loss(model: Model, x0: Tensor, t: Tensor, z: dict[str, Tensor], **options: object) -> Tensor:
        seen.append({**z, "x0": x0})
        return torch.zeros(len(x0))

    monkeypatch.setattr(objective, "restoration_loss", loss)
    list(run._losses(range(40)))
    z = seen[0]
    assert torch.equal(z["image"], -z["x0"])
    assert z["vector"].shape == (40, 2)
    assert torch.equal(torch.from_numpy(pixels)[(z["vector"][:, 0] / 2).long()].permute(0, 3, 1, 2), z["x0"]), "each picture has its own numbers"
    assert set(z) == {"x0", "image", "vector", "endpoint"}


# --- laws of severities ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "mean", "std"), [("noise:schedule=karras", -1.2, 1.2), ("noise", -0.5, 0.7), ("noise:schedule=betas", 0.0, 1.0)])
def test_log_normal_is_the_law_of_noise_over_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, mean: float, std: float) -> None:
    options = dataclasses.replace(OPTIONS, severities="log-normal", severity_mean=mean, severity_std=std, drop_condition=0.0)
    run = trainer(tmp_path, options, spec=spec, part="edm:sigma_data=0.5")
    _, t = shown(run, range(4000), monkeypatch)
    alpha, sigma = run.model.degradation.schedule(t.double())
    logs = (sigma / alpha).log().numpy()
    assert scipy.stats.kstest(logs, "norm", (mean, std)).statistic < 0.03
    assert scipy.stats.kstest(logs, "norm", (mean + 0.2, std)).statistic > 0.05, "the test would see another mean"
    quantiles = scipy.stats.norm.ppf((1 - fractions(0, "severity", range(4000))).clamp(1e-9, 1 - 1e-9).numpy(), mean, std)
    inner = (quantiles > -4) & (quantiles < 3)
    np.testing.assert_allclose(logs[inner], quantiles[inner], atol=2e-3)


def test_logit_normal_is_the_law_of_the_logit_of_t(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dataclasses.replace(OPTIONS, severities="logit-normal", severity_mean=0.3, severity_std=0.8)
    _, t = shown(trainer(tmp_path, options, spec="noise:schedule=linear", part="flow"), range(4000), monkeypatch)
    assert scipy.stats.kstest(torch.logit(t.double()).numpy(), "norm", (0.3, 0.8)).statistic < 0.03
    assert float(t.min()) > 0
    assert float(t.max()) < 1


def test_severities_beyond_the_schedule_are_its_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dataclasses.replace(OPTIONS, severities="log-normal", severity_mean=0.0, severity_std=4.0)
    _, t = shown(trainer(tmp_path, options, spec="noise:schedule=karras", part="edm"), range(4000), monkeypatch)
    assert float(t.max()) == 1
    assert float(t.min()) > 0
    assert bool(t.isfinite().all())


def test_knots_are_the_knots_of_ddpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, t = shown(trainer(tmp_path, spec="noise:schedule=betas(steps=40,beta_max=0.3)"), range(500), monkeypatch)
    assert set((t.double() * 40).round().long().tolist()) == set(range(1, 41))
    assert float((t.double() * 40 - (t.double() * 40).round()).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("severity_mean", math.nan),
        ("severity_mean", math.inf),
        ("severity_std", 0.0),
        ("severity_std", math.inf),
        ("severity_std", math.nan),
        ("drop_condition", 1.1),
    ],
)
def test_numbers_of_no_law_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"training.{field}"):
        TrainingOptions(**{field: value})


# --- refused before the first step -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "fields", "variance", "says"),
    [
        ("gaussian-blur", {"weight": "snr"}, "fixed", "^the weight snr is .* gaussian-blur is no Gaussian chain, for it has no noise at its end"),
        ("gaussian-blur", {"weight": "bound"}, "fixed", "^the weight bound is .*; or take training.weight = uniform$"),
        ("gaussian-blur+noise", {"weight": "min-snr"}, "fixed", "needs one signal-to-noise ratio for all frequencies"),
        ("gaussian-blur", {}, "learned", "^gaussian-blur is no Gaussian chain"),
        ("gaussian-blur+noise", {}, "learned", "^model.variance = learned needs one variance for all frequencies"),
        ("gaussian-blur", {"severities": "log-normal"}, "fixed", "^training.severities = log-normal is a law of .* gaussian-blur has none"),
        ("mask", {"severities": "logit-normal"}, "fixed", "^training.severities = logit-normal"),
    ],
)
def test_what_only_noise_has_is_refused_by_name(tmp_path: Path, spec: str, fields: dict[str, str], variance: str, says: str) -> None:
    options = dataclasses.replace(OPTIONS, weight="uniform", **{key: value for key, value in fields.items() if key != "weight"})
    with pytest.raises(TypeError, match=says):
        trainer(tmp_path, dataclasses.replace(options, **fields), spec=spec, part=None, variance=variance)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"noise_floor": 0.1}, "^model.noise_floor = 0.1 is no part of the chain whose variance is learned: leave it out, or .* = fixed$"),
        ({"input": "8bit"}, "^model.input = 8bit is no part of the chain whose variance is learned"),
    ],
)
def test_a_learned_variance_is_that_of_the_chain_alone(options: dict[str, object], says: str) -> None:
    data, d = open_data(DIGITS, "train"), build("noise")

    def model(variance: str) -> Model:
        floor = options.get("noise_floor", 0.0)
        return Model(d, Restorer(d, TINY, data.shape, variance=variance, noise_floor=floor), **options)

    with pytest.raises(ValueError, match=says):
        agree(model("learned"), data, TrainingOptions())
    agree(Model(d, Restorer(d, TINY, data.shape, variance="learned")), data, TrainingOptions())
    if "noise_floor" in options:
        agree(model("fixed"), data, TrainingOptions())


def test_conditions_that_the_data_do_not_have_are_refused(tmp_path: Path) -> None:
    pixels = np.zeros((16, 8, 8, 1), dtype=np.float32)
    plain = Dataset(Held(pixels), "train", (1, 8, 8), [str(i) for i in range(16)], [])
    for conditions, says in ((LABEL, "label"), (Conditions(vector=2), "vector"), (Conditions(image=1), "endpoint")):
        with pytest.raises(ValueError, match=f"model.conditions needs {says}, which the data do not have"):
            trainer(tmp_path, data=plain, conditions=conditions)
    pair = Paired(plain, Dataset(Held(pixels), "train", (1, 8, 8), plain.ids, []), pairs=True)
    with pytest.raises(ValueError, match="noise has no use for data.endpoint"):
        trainer(tmp_path, data=pair, conditions=Conditions())
    trainer(tmp_path, data=pair, conditions=Conditions(image=1))


# --- where generation begins -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "scale"),
    [
        ("noise", 1.0),
        ("noise:schedule=betas", 1.0),
        ("noise:schedule=linear", 1.0),
        ("noise:schedule=ve(sigma_max=80)", 80.0),
        ("noise:schedule=karras", 80.0),
        ("noise:schedule=geometric", 50.0),
        ("gaussian-blur+noise", 1.0),
        ("noise:schedule=ve", None),
        ("noise:schedule=ve(sigma_max=9)", None),
        ("gaussian-blur+noise:schedule=constant", None),
        ("gaussian-blur", None),
        ("mask+noise", None),
    ],
)
def test_the_prior_is_as_wide_as_the_noise_at_the_end(spec: str, scale: float | None) -> None:
    d = build(spec)
    found = prior.noise_at_end(d)
    assert found == (None if scale is None else pytest.approx(scale, rel=1e-4))
    if scale is None:
        return
    model = prior.prior_for(Model(d, lambda x, t: x))
    state = model.prior.fit([torch.zeros(1, 1, 16, 16)]).sample(200, torch.Generator().manual_seed(0))
    x0 = torch.rand(200, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ends = d(x0, torch.ones(200), d.draw(x0, torch.Generator().manual_seed(2)))
    assert float(state.x.std()) == pytest.approx(float(ends.std()), rel=0.02)
    assert isinstance(model.prior, Normal)


@pytest.mark.parametrize(("level", "scale"), [(0.92, 0.92), (0.995, 1.0), (1.09, 1.09), (1.0, 1.0)])
def test_noise_that_ends_near_1_is_as_wide_as_it_is(level: float, scale: float) -> None:
    @dataclasses.dataclass(frozen=True)
    class Straight(Schedule):
        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return 1 - t, level * t

    assert prior.noise_at_end(GaussianNoise(Straight())) == scale


@pytest.mark.parametrize("spec", ["noise:schedule=ve(sigma_max=80)", "noise:schedule=karras", "gaussian-blur:sigma_px=2+noise"])
def test_a_model_with_such_a_prior_generates(tmp_path: Path, spec: str) -> None:
    part = "edm" if spec.startswith("noise") else None
    model = trainer(tmp_path, dataclasses.replace(OPTIONS, images=32, weight="uniform"), spec=spec, part=part).run()
    found = generate(model, 3, sampler="ancestral:eta=1,steps=4", seed=0, conditions={"label": torch.tensor([0, 1, -1])})
    assert found.shape == (3, 1, 8, 8)
    assert bool(found.isfinite().all())
    assert float(found.abs().max()) < 10, "nothing is left of noise of standard deviation 80"
    again = generate(load(tmp_path), 3, sampler="ancestral:eta=1,steps=4", seed=0, conditions={"label": torch.tensor([0, 1, -1])})
    assert torch.allclose(found, again, atol=1e-5)
