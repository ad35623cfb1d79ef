"""Numbers that go wrong in a training: bad steps passed over, rollbacks, memory that runs out, resumption elsewhere."""

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snowmelt.model import load
from snowmelt.restorers import Restorer
from snowmelt.training import loop
from snowmelt.training.feed import Feed
from snowmelt.training.history import read as history
from snowmelt.training.loop import Trainer
from snowmelt.training.scaling import Diverged

Small = Callable[..., Trainer]
Digest = Callable[[Path], str]
Figure = Callable[[str, str], None]
Break = Callable[..., None]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Break:
    """spoil(numbers, when=...): the losses of these sample numbers are not finite, while `when(trainer)` holds."""
    inner = Trainer._losses

    def apply(numbers: Callable[[int], bool], when: Callable[[Trainer], bool] = lambda run: True) -> None:
        def losses(self: Trainer, those: range, pieces: int = 1) -> Iterator[Tensor]:
            for loss in inner(self, those, pieces):
                yield loss * float("nan") if when(self) and any(numbers(n) for n in those) else loss

        monkeypatch.setattr(Trainer, "_losses", losses)

    return apply


def finite(run: Trainer) -> bool:
    return all(bool(value.isfinite().all()) for net in (run.restorer, run.average.restorer) for value in net.state_dict().values())


def test_a_bad_step_is_passed_over_and_counted(small: Small, tmp_path: Path, spoil: Break) -> None:
    spoil(lambda n: n in (35, 170))  # in steps 3 and 11
    run = small(tmp_path)
    run.run()
    assert finite(run)
    assert run.scaling.bad().total == 2
    assert run.rollbacks == 0
    assert next(line for line in reversed(history(tmp_path)) if "lr" in line)["bad"] == 2


def test_three_in_a_row_are_rolled_back_to_the_last_regular_checkpoint_and_the_rate_halved(
    small: Small, digest: Digest, tmp_path: Path, spoil: Break, caplog: pytest.LogCaptureFixture, figure: Figure
) -> None:
    spoil(lambda n: 14 * 16 <= n < 17 * 16, when=lambda run: run.rollbacks == 0)  # steps 15 to 17; 10 is the last checkpoint
    whole = small(tmp_path / "whole", lr=1e-3)
    with caplog.at_level(logging.WARNING):
        whole.run()
    assert "3 steps in a row, up to step 17: back to step 10, at 0.5 of the rate; no sample alone makes it so" in caplog.text
    assert finite(whole)
    lines = history(tmp_path / "whole")
    assert next(line for line in lines if "rollback_from" in line)["rollback_from"] == 20
    assert [line["step"] for line in lines if "lr" in line] == [20]
    assert lines[-1]["step"] == 20
    # An interruption before, within and after changes nothing.
    for at in (4, 12, 16):
        part = small(tmp_path / str(at), lr=1e-3)
        stop_after(part, at)
        again = small(tmp_path / str(at), lr=1e-3)
        assert again.resume()
        again.run()
        assert digest(tmp_path / str(at)) == digest(tmp_path / "whole")
    figure("numbers-rollback", "3 bad steps in a row: back to the last checkpoint, half the rate, samples named; interrupted at 3 places: same bits")


def stop_after(run: Trainer, step: int, said: str | None = None) -> None:
    """Interrupt a run as Ctrl-C would, after a step; it ends with words that match `said`, if that is given."""
    advance = run._advance

    def stopping(bar: object) -> Tensor:
        out = advance(bar)  # type: ignore[arg-type]
        if run.step == step:
            run._asked.set()
        return out

    run._advance = stopping  # type: ignore[method-assign]
    with pytest.raises(loop.Stopped, match=said):
        run.run()


def test_the_samples_that_are_bad_themselves_are_named(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    inner, bad = Feed.__call__, (3, 20, 40)

    def with_nan(self: Feed, numbers: range) -> object:
        fed = inner(self, numbers)
        rows = [i for i, n in enumerate(numbers) if n in bad and rotten]
        x0 = fed.x0.clone()
        x0[rows] = float("nan")
        return fed._replace(x0=x0)

    monkeypatch.setattr(Feed, "__call__", with_nan)
    rotten = True
    run = small(tmp_path)
    names = run.feed.ids(range(48))
    with caplog.at_level(logging.WARNING), pytest.raises(Diverged, match="3 rollbacks with lower rates did not help"):
        run.run()
    assert f"the samples {', '.join(names[n] for n in bad)} make it so" in caplog.text
    assert finite(run)
    line = next(line for line in history(tmp_path) if "rollback_from" in line)
    assert line["samples"] == [names[n] for n in bad]


def test_divergence_that_nothing_helps_against_is_named_and_keeps_a_sound_checkpoint(small: Small, tmp_path: Path, spoil: Break) -> None:
    spoil(lambda n: n >= 10 * 16)
    with pytest.raises(Diverged, match=r"rollbacks with lower rates did not help; .*--training\.lr .*--training\.precision fp32"):
        small(tmp_path).run()
    again = small(tmp_path)
    assert again.resume()
    assert again.step == 10
    assert finite(again)
    assert load(tmp_path).restorer is not None


# --- memory ----------------------------------------------------------------------------------------------


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """scarce(8): networks that are given more than 8 samples to learn from find no memory. The batch sizes seen."""

    def apply(most: int) -> list[int]:
        seen: list[int] = []
        inner = Restorer.forward

        def forward(self: Restorer, x_t: Tensor, *args: object, **more: object) -> Tensor:
            if self.training:
                seen.append(len(x_t))
                if len(x_t) > most:
                    raise torch.OutOfMemoryError("CUDA out of memory")
            return inner(self, x_t, *args, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(Restorer, "forward", forward)
        return seen

    return apply


@pytest.mark.parametrize("shape", [{}, {"accumulate": 2, "batch": 8}, {"shards": 4}], ids=str)
def test_where_memory_runs_out_the_batch_is_halved_and_the_gradient_is_the_same(
    small: Small, tmp_path: Path, scarce: Callable[[int], list[int]], caplog: pytest.LogCaptureFixture, shape: dict[str, int], figure: Figure
) -> None:
    def gradient(run: Trainer) -> list[Tensor]:
        run._prepare()
        run.gradient(0)
        return [p.grad.clone() for p in run.gradient.parameters if p.grad is not None]

    whole = gradient(small(tmp_path, **shape))
    seen = scarce(3)
    run = small(tmp_path, **shape)
    with caplog.at_level(logging.WARNING):
        parts = gradient(run)
    assert "memory ran out at step 1: from now on" in caplog.text
    worst = max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-8)) for a, b in zip(whole, parts, strict=True))
    assert worst < 1e-4
    assert max(seen[-4:]) <= 3
    assert run.gradient.pieces == (4 if run.gradient.plan.length > 4 and run.gradient.plan.length <= 8 else 8 if run.gradient.plan.length > 8 else 2)
    figure("numbers-memory", f"out of memory: batches halved until they fit, gradients within {worst:.0e} of the whole ones")


def test_memory_that_is_too_small_for_one_sample_is_an_error(small: Small, tmp_path: Path, scarce: Callable[[int], list[int]]) -> None:
    scarce(0)
    with pytest.raises(torch.OutOfMemoryError):
        small(tmp_path).run()


def test_pieces_are_kept_with_the_run(small: Small, tmp_path: Path, scarce: Callable[[int], list[int]], digest: Digest) -> None:
    scarce(8)
    small(tmp_path / "whole").run()
    part = small(tmp_path / "part")
    stop_after(part, 7)
    seen = scarce(8)
    again = small(tmp_path / "part")
    assert again.resume()
    assert again.gradient.pieces == 2
    again.run()
    assert max(seen) == 8
    assert digest(tmp_path / "part") == digest(tmp_path / "whole")


# --- resumption elsewhere --------------------------------------------------------------------------------


def test_another_number_of_threads_is_refused_unless_asked_for(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(small(tmp_path), 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    run = small(tmp_path)
    with pytest.raises(ValueError, match=r"trained with threads = 1, and here it is 7, .*: give --threads 1, or add --allow-inexact"):
        run.resume()
    run.inexact = True
    assert run.resume()
    run.run()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="threads = 7"):
        small(tmp_path).resume()


def test_shards_that_nobody_asked_for_are_those_of_the_run(small: Small, tmp_path: Path) -> None:
    stop_after(small(tmp_path, shards=4), 5)
    run = small(tmp_path)
    assert run.gradient.plan.shards == 1
    assert run.resume()
    assert run.gradient.plan.shards == 4
    with pytest.raises(ValueError, match="shards = 4, and here it is 2"):
        small(tmp_path, shards=2).resume()


def test_a_run_that_was_stopped_counts_whole_steps_as_its_bar_does(small: Small, tmp_path: Path) -> None:
    stop_after(small(tmp_path, images=330), 2, said="stopped after 32 of 320 images")


def test_a_validation_that_was_broken_off_is_made_up_for(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path / "whole").run()
    run = small(tmp_path / "part")
    inner = loop.validate

    def asked(*args: object, **options: object) -> object:
        if run.step:
            run._asked.set()
        return inner(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "validate", asked)
    with pytest.raises(loop.Stopped):
        run.run()
    assert run.step == 10
    assert not [line for line in history(tmp_path / "part")[1:] if "validation_loss" in line]
    monkeypatch.undo()
    again = small(tmp_path / "part")
    assert again.resume()
    again.run()
    found, wanted = ([line["validation_loss"] for line in history(tmp_path / name) if "validation_loss" in line] for name in ("part", "whole"))
    assert found == wanted
    assert len(wanted) == 3


def test_the_best_model_is_kept_where_asked_for(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worse = iter([4.0, 1.0, 3.0, 0.5, 2.0])
    inner = loop.validate
    monkeypatch.setattr(loop, "validate", lambda *args, **options: dataclasses.replace(inner(*args, **options), loss=next(worse)))
    small(tmp_path, validate_every=80, keep_best=True).run()
    assert load(tmp_path / loop.BEST).notes["validation"]["images"] == 240
    monkeypatch.undo()
    small(tmp_path / "no", validate_every=80).run()
    assert load(tmp_path / "no").notes["validation"]["images"] == 320
    assert not (tmp_path / "no" / loop.BEST).exists()


@pytest.mark.parametrize(("losses", "best"), [([0.1, 0.9, 0.2, 0.4, 0.3], 160), ([0.9, 0.2, float("nan"), 0.4, 0.5], 80)], ids=str)
def test_the_best_is_one_that_was_trained_and_has_a_loss(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[float], best: int
) -> None:
    found, inner = iter(losses), loop.validate
    monkeypatch.setattr(loop, "validate", lambda *args, **options: dataclasses.replace(inner(*args, **options), loss=next(found)))
    small(tmp_path, validate_every=80, keep_best=True).run()
    assert load(tmp_path / loop.BEST).notes["validation"]["images"] == best


def test_what_the_last_validation_found_is_known_after_two_interruptions(small: Small, tmp_path: Path) -> None:
    for at in (11, 13):
        run = small(tmp_path)
        run.resume()
        stop_after(run, at)
        assert load(tmp_path).notes["validation"]["images"] == 160
    lines = history(tmp_path)
    assert [line["step"] for line in lines if "validation_loss" in line] == [0, 10]


def test_a_rollback_to_the_start_is_still_known_after_an_interruption(small: Small, tmp_path: Path, spoil: Break) -> None:
    spoil(lambda n: 16 <= n < 16 * 4, when=lambda run: run.rollbacks == 0)
    run = small(tmp_path)
    stop_after(run, 12)
    again = small(tmp_path)
    assert again.resume()
    again.run()
    assert [line["rollback_from"] for line in history(tmp_path) if "rollback_from" in line] == [10]
    assert [line["step"] for line in history(tmp_path) if "validation_loss" in line] == [0, 10, 20]
