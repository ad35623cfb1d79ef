"""A validation: the same pictures and draws each time, the weights as they are beside their average, and a way to stop in the middle."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from snowmelt.restorers import Restorer
from snowmelt.training.loop import Trainer
from snowmelt.training.validation import samples, validate

Small = Callable[..., Trainer]
CPU = torch.device("cpu")


@pytest.fixture
def trained(small: Small, tmp_path: Path) -> Trainer:
    run = small(tmp_path, spec="mask+noise", floor=0.02, ema=1.0)
    run.run()
    return run


def test_the_raw_weights_are_judged_on_the_same_pictures(trained: Trainer) -> None:
    kept = {"loss": "l2", "seed": 0, "device": CPU}
    both = validate(trained.averaged, trained.validation, 40, batch=16, raw=trained.model, **kept)
    alone = validate(trained.model, trained.validation, 40, batch=40, **kept)
    assert both.raw_loss == pytest.approx(alone.loss, rel=1e-5)
    assert both.raw_loss != both.loss
    assert alone.raw_loss is None
    same = validate(trained.averaged, trained.validation, 40, batch=16, raw=trained.averaged, **kept)
    assert same.raw_loss == same.loss == both.loss


def test_the_restorer_in_training_is_as_it_was_afterwards(trained: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, restorer = [], trained.restorer
    predict = Restorer.predict

    def watched(self: Restorer, *args: object) -> object:
        if self is restorer:
            seen.append((self.training, self.compiled))
        return predict(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Restorer, "predict", watched)
    restorer.train()
    restorer.compiled = True
    validate(trained.averaged, trained.validation, 8, loss="l2", seed=0, batch=8, device=CPU, raw=trained.model)
    assert seen == [(False, False)]  # no dropout, and nothing is compiled for a few calls
    assert (restorer.training, restorer.compiled) == (True, True)
    assert all(p.requires_grad and p.grad is None for p in restorer.parameters())


def test_it_ticks_once_a_batch_and_once_a_state_and_what_ticking_raises_ends_it(trained: Trainer) -> None:
    ticks: list[int] = []
    validate(trained.averaged, trained.validation, 40, loss="l2", seed=0, batch=16, device=CPU, tick=lambda: ticks.append(1))
    assert len(ticks) == 3
    ticks.clear()
    samples(trained.averaged, trained.sampler, trained.validation, 2, seed=0, device=CPU, tick=lambda: ticks.append(1))
    assert len(ticks) == trained.sampler.calls(trained.model.degradation) + 1

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        validate(trained.averaged, trained.validation, 40, loss="l2", seed=0, batch=16, device=CPU, raw=trained.model, tick=stop)
