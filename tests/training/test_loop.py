"""The training loop: determinism, exact resume, what is written, what is refused."""

import dataclasses
import itertools
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.degradations import Degradation
from snowmelt.files import BadFile
from snowmelt.model import Model, load
from snowmelt.priors import FromData
from snowmelt.randomness import visits
from snowmelt.restorers import Restorer, UNet
from snowmelt.stopping import Stopped
from snowmelt.training import loop, prior
from snowmelt.training.checkpoint import digest
from snowmelt.training.ema import Average
from snowmelt.training.history import read as history
from snowmelt.training.loop import Trainer
from snowmelt.training.options import TrainingOptions
from snowmelt.types import Draw

DIGITS = DataOptions(path="bundled:digits", size=8)
TINY = UNet(widths=(8, 16), patch=2, groups=4, blocks=1)
OPTIONS = TrainingOptions(images=320, batch=16, lr=2e-3, validate_every=160, validation_images=16, precision="fp32")


def trainer(
    out: Path,
    options: TrainingOptions = OPTIONS,
    *,
    spec: str = "gaussian-blur:sigma_px=2",
    floor: float = 0.0,
    data: DataOptions = DIGITS,
    inexact: bool = False,
) -> Trainer:
    degradation = snowmelt.build(spec)
    train = open_data(data, "train")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        restorer = Restorer(degradation, TINY, train.shape, noise_floor=floor)
    model = prior.prior_for(Model(degradation, restorer, noise_floor=floor))
    return Trainer(model, train, open_data(DIGITS, "validation"), options, out, inexact=inexact)


@pytest.mark.parametrize(("spec", "floor"), [("gaussian-blur:sigma_px=2", 0.0), ("mask+noise", 0.02)])
def test_two_runs_end_in_the_same_weights(tmp_path: Path, spec: str, floor: float) -> None:
    for name in ("a", "b"):
        torch.rand(3)  # an ambient generator that is somewhere else must not matter
        trainer(tmp_path / name, spec=spec, floor=floor).run()
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_another_seed_ends_in_other_weights(tmp_path: Path) -> None:
    trainer(tmp_path / "a").run()
    trainer(tmp_path / "b", dataclasses.replace(OPTIONS, seed=1)).run()
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_no_randomness_at_all_without_a_noise_floor(tmp_path: Path) -> None:
    """The paper's headline: a blur with no noise floor draws nothing, so R sees one degraded picture for each (x0, t)."""
    model = trainer(tmp_path).model
    assert model.draw(torch.zeros(2, 1, 8, 8)) == {}


@pytest.mark.parametrize("stop_at", [1, 7, 10, 19])
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    trainer(tmp_path / "whole", spec="mask+noise").run()
    advance = Trainer._advance

    def interrupted(self: Trainer, bar: object) -> bool:
        out = advance(self, bar)  # type: ignore[arg-type]
        if self.step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return out

    monkeypatch.setattr(Trainer, "_advance", interrupted)
    with pytest.raises(Stopped, match="goes on from there"):
        trainer(tmp_path / "parts", spec="mask+noise").run()
    monkeypatch.undo()
    second = trainer(tmp_path / "parts", spec="mask+noise")
    assert second.resume()
    assert second.step == stop_at
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")
    steps = [line["step"] for line in history(tmp_path / "parts") if "loss" in line]
    assert steps == [line["step"] for line in history(tmp_path / "whole") if "loss" in line]


def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(tmp_path / "whole").run()
    advance = Trainer._advance

    def killed(self: Trainer, bar: object) -> bool:
        if self.step == 13:
            raise MemoryError
        return advance(self, bar)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_advance", killed)
    with pytest.raises(MemoryError):
        trainer(tmp_path / "parts").run()
    monkeypatch.undo()
    second = trainer(tmp_path / "parts")
    assert second.resume()
    assert second.step == 10
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_a_run_learns_and_writes_everything(tmp_path: Path) -> None:
    run = trainer(tmp_path, dataclasses.replace(OPTIONS, images=3200, validate_every=1600))
    model = run.run()
    lines = history(tmp_path)
    validations = [line for line in lines if "validation_loss" in line]
    assert [line["images"] for line in validations] == [0, 1600, 3200]
    assert validations[-1]["validation_restored_psnr_db"] > validations[-1]["validation_degraded_psnr_db"] + 1
    assert len(validations[-1]["validation_bands"]) == 4
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["000000000.png", "000001600.png", "000003200.png"]
    loaded = load(tmp_path)
    x0 = open_data(DIGITS, "test").batch(range(8))["x0"]
    state = model.corrupt(x0, 1.0)
    ones = torch.ones(8)
    assert torch.equal(loaded.estimate(state.x, ones, state.z), model.estimate(state.x, ones, state.z))
    assert loaded.estimates == "mean"
    assert loaded.notes["validation"]["restored_psnr_db"] == validations[-1]["validation_restored_psnr_db"]


def test_overfits_eight_pictures(tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, images=6400, lr=5e-3, ema=0.01, validate_every=6400)
    trainer(tmp_path, options, data=dataclasses.replace(DIGITS, limit=8)).run()
    losses = [line["loss"] for line in history(tmp_path) if "loss" in line]
    assert losses[-1] < losses[0] / 10


def test_every_epoch_shows_every_picture_once(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    n = len(run.train)
    first, second = visits(0, "order", range(n), n), visits(0, "order", range(n, 2 * n), n)
    assert sorted(first) == sorted(second) == list(range(n))
    assert first != second
    assert visits(0, "order", range(n - 3, n + 3), n) == first[-3:] + second[:3]
    assert torch.equal(run.train.numbered(0, range(n - 3, n + 3))["x0"], run.train.batch(first[-3:] + second[:3])["x0"])


def test_severities_are_uniform_and_never_zero(tmp_path: Path) -> None:
    t = trainer(tmp_path).feed.severities(range(20_000), {})
    assert 0 < float(t.min()) < 1e-3
    assert float(t.max()) <= 1
    assert abs(float(t.mean()) - 0.5) < 0.01
    knots = trainer(tmp_path, spec="recursive-blur:steps=4,kernel_size=3").feed.severities(range(4000), {})
    values, counts = (knots * 4).unique(return_counts=True)
    assert values.tolist() == [1, 2, 3, 4]
    assert counts.min() > 900


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    whole, parts = trainer(tmp_path / "a"), trainer(tmp_path / "b", dataclasses.replace(OPTIONS, batch=8, accumulate=2))
    with loop.Bar("x", 1) as bar:
        for run in (whole, parts):
            run._prepare()
            run._advance(bar)
    for a, b in zip(whole.restorer.parameters(), parts.restorer.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).run()
    with pytest.raises(BadFile, match="--fresh"):
        trainer(tmp_path, spec="pixelate").resume()


def test_a_cut_last_line_of_metrics_is_survived(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + '\n{"step": 2, "lo')
    assert [line["step"] for line in history(tmp_path)] == [1]


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    o = TrainingOptions(images=6400, batch=64, lr=1e-3, warmup=0.1)
    rates = [o.rate_at(step) for step in range(o.steps)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] < 1e-6
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(("field", "value"), [("images", 0), ("lr", 0.0), ("warmup", 1.5), ("batch", -1)])
def test_options_out_of_range_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"training\.{field} = .* lies outside"):
        dataclasses.replace(OPTIONS, **{field: value})


@pytest.mark.parametrize(
    ("field", "known"),
    [
        ("loss", "l2, l1, charbonnier, pseudo-huber"),
        ("weight", "uniform, output, min-output, snr, min-snr, bound"),
        ("severities", "auto, uniform, knots, log-normal, logit-normal"),
        ("decay", "cosine, none"),
        ("precision", "auto, bf16, fp16, fp32"),
    ],
)
def test_a_choice_that_there_is_not_is_refused_with_those_that_there_are(field: str, known: str) -> None:
    with pytest.raises(ValueError, match=f"^training.{field} = 'l3' is none of {known}$"):
        TrainingOptions(**{field: "l3"})
    for one in known.split(", "):
        assert getattr(TrainingOptions(**{field: one}), field) == one


def test_the_average_has_the_half_life_it_says() -> None:
    torch.manual_seed(0)
    restorer = Restorer(snowmelt.build("gaussian-blur"), TINY, (1, 8, 8))
    average = Average(restorer, half_life_images=100)
    start = [p.clone() for p in average.restorer.parameters()]
    with torch.no_grad():
        for p in restorer.parameters():
            p.add_(1)
    restorer.statistics.mean.add_(1)  # type: ignore[union-attr]
    for i in range(10):
        average.update(restorer, 10, 10_000 + 10 * i)
    for old, new in zip(start, average.restorer.parameters(), strict=True):
        torch.testing.assert_close(new - old, torch.full_like(new, 0.5), atol=1e-5, rtol=0)
    torch.testing.assert_close(average.restorer.statistics.mean, torch.full((1, 8, 8), 0.5))  # type: ignore[union-attr]


def test_the_average_forgets_the_random_start_soon() -> None:
    restorer = Restorer(snowmelt.build("gaussian-blur"), TINY, (1, 8, 8))
    average = Average(restorer, half_life_images=1e6)
    with torch.no_grad():
        for p in restorer.parameters():
            p.add_(1)
    for i in range(1, 21):
        average.update(restorer, 64, 64 * i)
    gap = max(float((a - b).detach().abs().max()) for a, b in zip(average.restorer.parameters(), restorer.parameters(), strict=True))
    assert gap < 0.01


def test_training_a_plain_function_is_refused(tmp_path: Path) -> None:
    model = Model(snowmelt.build("grey"), lambda x, t: x)
    data = open_data(DIGITS, "train")
    with pytest.raises(TypeError, match=r"snowmelt\.Restorer"):
        Trainer(model, data, data, OPTIONS, tmp_path)


def test_a_resumed_run_of_noise_can_still_generate(tmp_path: Path) -> None:
    trainer(tmp_path, spec="noise").run()
    again = trainer(tmp_path, dataclasses.replace(OPTIONS, images=640), spec="noise")
    assert again.resume()
    again.run()
    assert snowmelt.generate(load(tmp_path), 2).shape == (2, 1, 8, 8)


@dataclasses.dataclass(frozen=True)
class Tint(Degradation):
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return x * (1 - t) + 0.05


def test_an_operator_that_changes_a_clean_sample_is_refused(tmp_path: Path) -> None:
    data = trainer(tmp_path).train
    restorer = Restorer(Tint(), UNet(widths=(8, 8), patch=2), data.shape)
    with pytest.raises(ValueError, match=r"not the identity at t = 0: it is off by 0\.05\. 'snowmelt check-degradation'"):
        Trainer(Model(Tint(), restorer), data, data, OPTIONS, tmp_path)


def test_a_prior_that_was_fitted_stays_as_it_is(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    fitted = FromData(samples=4).fit([torch.full((4, *run.train.shape), 0.5)])
    again = Trainer(dataclasses.replace(run.model, prior=fitted), run.train, run.validation, OPTIONS, tmp_path)
    assert again.model.prior is fitted


def test_a_learning_rate_without_decay_stays_where_it_is() -> None:
    o = TrainingOptions(images=6400, batch=64, lr=2e-5, warmup=0.0, decay="none")
    assert {o.rate_at(step) for step in range(o.steps)} == {2e-5}
