"""Steps that are skipped: those of no finite loss in every precision, those that find the scale of fp16; counts, exact resume, ways out."""

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from snowmelt.files import read_tensors, write_tensors
from snowmelt.losses import restoration_loss
from snowmelt.randomness import generators
from snowmelt.training import checkpoint, exactness, loop, scaling
from snowmelt.training.history import read as history
from snowmelt.training.loop import Trainer
from snowmelt.training.scaling import Diverged, Scaling

Small = Callable[..., Trainer]
Digest = Callable[[Path], str]
Figure = Callable[[str, str], None]
CPU = torch.device("cpu")


def kept_in(out: Path) -> dict[str, Tensor]:
    """The tensors of the newest checkpoint."""
    return read_tensors(max(out.glob("checkpoint-*.safetensors")))


def put(out: Path, tensors: dict[str, Tensor]) -> None:
    """Put a checkpoint of format 1 in place of all that are there."""
    checkpoint.clear(out)
    write_tensors(out / "checkpoint.safetensors", {**tensors, "wall_s": torch.tensor(1.0)})


class Overflow(torch.autograd.Function):
    """x as it is, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


class NoReading(TorchDispatchMode):
    """Refuses to make a Python number of a tensor's value, for which a GPU would be waited for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        assert func not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


def state(run: Trainer) -> dict[str, Tensor]:
    """Weights, moments and step counters, and the scale with the steps towards its next doubling, as copies."""
    out = {name: value.clone() for name, value in run.restorer.state_dict().items()}
    for i, moments in run.optimizer.state_dict()["state"].items():
        out |= {f"{i}.{name}": torch.as_tensor(value).clone() for name, value in moments.items()}
    return out | {name: value for name, value in run.scaling.tensors().items() if name in ("scale", "sound_steps")}


def step(scaling: Scaling, weight: nn.Parameter, optimizer: torch.optim.Optimizer, slope: float) -> Tensor:
    scaling.backward((weight * slope).sum())
    norm = scaling.step(optimizer, [weight], 1.0)
    optimizer.zero_grad()
    return norm


def test_a_step_that_overflows_is_skipped_counted_and_halves_the_scale() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, scaling = torch.optim.AdamW([weight], lr=0.1, fused=True), Scaling(CPU, enabled=True)
    for slope in (float("inf"), float("nan")):
        assert not step(scaling, weight, optimizer, slope).isfinite()
    assert weight.tolist() == [1, 1, 1]
    assert (scaling.scale, scaling.skipped) == (2.0**14, (2, 2))
    assert float(step(scaling, weight, optimizer, 2.0)) == pytest.approx(12**0.5)  # clipped and reported as it is, not as it was scaled
    assert weight.tolist() != [1, 1, 1]
    assert (scaling.scale, scaling.skipped) == (2.0**14, (2, 0))


def test_without_fp16_it_is_a_step_and_nothing_more() -> None:
    ends = []
    for enabled in (False, True):
        weight = nn.Parameter(torch.ones(3))
        optimizer, scaling = torch.optim.AdamW([weight], lr=0.1, fused=True), Scaling(CPU, enabled=enabled)
        step(scaling, weight, optimizer, 3.0)
        ends.append(weight.detach())
    ours = {"scale", "sound_steps", "skipped", "skipped_in_a_row"}
    assert scaling.tensors().keys() - Scaling(CPU, enabled=False).tensors().keys() == ours
    assert torch.equal(*ends)  # a scale is a power of two: in float32 it changes no bit


def descent(run: Trainer, losses: Iterable[tuple[str, int]]) -> None:
    """Steps with the losses of these sample numbers; of those that are not sound one sample is NaN, the loss infinite, or the gradient."""
    for number, (kind, first) in enumerate(losses):
        numbers = range(first, first + 8)
        item = run.train.numbered(0, numbers)
        x0, z = item["x0"], run.model.draw(item["x0"], generators(0, "draw", numbers), item)
        if kind == "sample":
            x0 = torch.where(torch.arange(8)[:, None, None, None] == 3, torch.nan, x0)
        loss = restoration_loss(run.model, x0, torch.full((8,), 0.7), z).mean()
        loss = {"loss": loss + math.inf, "gradient": Overflow.apply(loss)}.get(kind, loss)
        run.scaling.backward(loss)
        with NoReading():
            run.scaling.step(run.optimizer, run.restorer.parameters(), 1.0, loss.detach(), number)
        run.optimizer.zero_grad()


def test_a_step_without_a_finite_loss_leaves_no_trace_but_its_count(small: Small, tmp_path: Path, figure: Figure) -> None:
    """The same weights, moments, counters and scale, to the bit, as if those steps had not been."""
    sound, taken, skipped, compared, different = [("sound", 8 * i) for i in range(6)], 0, 0, 0, set()
    for precision in ("fp32", "bf16", "fp16"):
        kinds = ("sample", "loss", "gradient") if precision != "fp16" else ("sample", "loss")  # an infinite gradient is how fp16 finds its scale
        spoiled = [(kinds[0], 0), *sound[:2], *((kind, 80) for kind in kinds), *sound[2:5], (kinds[1], 90), sound[5]]
        runs = []
        for losses in (sound, spoiled):
            run = small(tmp_path, precision=precision)
            run._prepare()
            descent(run, losses)
            runs.append(run)
        whole, other = (state(run) for run in runs)
        assert whole.keys() == other.keys()
        different |= {name for name in whole if not torch.equal(whole[name], other[name])}
        assert all(int(value) == len(sound) for name, value in other.items() if name.endswith(".step"))
        steps = [i for i, (kind, _) in enumerate(spoiled) if kind != "sound"]
        assert runs[0].scaling.bad() == (0, 0, ())
        assert runs[1].scaling.bad() == (len(steps), len(kinds), tuple(steps))
        assert runs[1].scaling.skipped == (0, 0)
        taken, skipped, compared = taken + len(spoiled), skipped + runs[1].scaling.bad().total, compared + len(whole)
    figure("numbers-skip", f"{skipped} of {taken} steps in fp32, bf16 and fp16 skipped and counted: {len(different)} of {compared} tensors differ")
    assert different == set()


def test_an_infinite_gradient_of_a_finite_loss_is_the_scale_of_fp16_and_bad_elsewhere(small: Small, tmp_path: Path) -> None:
    for precision, bad, skipped in (("fp32", 2, 0), ("fp16", 0, 2)):
        run = small(tmp_path / precision, precision=precision)
        run._prepare()
        before = state(run)
        descent(run, [("gradient", 0), ("gradient", 8)])
        assert (run.scaling.bad().total, run.scaling.skipped[0]) == (bad, skipped)
        assert run.scaling.scale == (2.0**14 if precision == "fp16" else 1.0)
        assert all(torch.equal(before[name], value) for name, value in state(run).items() if name in before and name != "scale")


def test_the_scale_doubles_after_two_thousand_sound_steps_that_bad_ones_do_not_break() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, scaling = torch.optim.AdamW([weight], lr=0.1, fused=True), Scaling(CPU, enabled=True)
    scaling.restore({**scaling.tensors(), "sound_steps": torch.tensor(1998)})
    seen = []
    for slope in (1.0, math.nan, 1.0, 1.0):
        loss = (weight * slope).sum()
        scaling.backward(loss)
        scaling.step(optimizer, [weight], 1.0, loss)
        optimizer.zero_grad()
        seen.append((scaling.scale, int(scaling.tensors()["sound_steps"])))
    assert seen == [(2.0**16, 1999), (2.0**16, 1999), (2.0**17, 0), (2.0**17, 1)]


def test_weights_do_not_decay_in_a_step_that_is_skipped() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, scaling = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5, fused=True), Scaling(CPU, enabled=False)
    step(scaling, weight, optimizer, float("nan"))
    assert weight.tolist() == [1, 1, 1]
    assert not hasattr(optimizer, "found_inf")  # nothing stays behind for whoever steps it next
    step(scaling, weight, optimizer, 1.0)
    assert weight.tolist() != [1, 1, 1]


def test_rows_are_counted_over_all_readings_and_the_newest_eight_named() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer, scaling = torch.optim.AdamW([weight], lr=0.1, fused=True), Scaling(CPU, enabled=False)

    def steps(*slopes: float, first: int) -> None:
        for number, slope in enumerate(slopes, first):
            loss = (weight * slope).sum()
            scaling.backward(loss)
            scaling.step(optimizer, [weight], 1.0, loss, number)
            optimizer.zero_grad()

    nan = float("nan")
    steps(nan, 1.0, nan, nan, first=0)
    assert scaling.bad() == (3, 2, (0, 2, 3))
    scaling.forget()
    assert scaling.bad() == (3, 0, ())
    steps(nan, 1.0, first=4)
    assert scaling.bad() == (4, 3, (4,))  # a row that had begun goes on
    again = Scaling(CPU, enabled=False)
    again.restore(scaling.tensors())
    assert again.bad() == scaling.bad()
    steps(*[nan] * 10, first=6)
    assert scaling.bad() == (14, 10, tuple(range(8, 16)))
    again.restore({})
    assert again.bad() == (0, 0, ())
    with pytest.raises(ValueError, match="bad_steps holds"):
        again.restore({**scaling.tensors(), "bad_steps": torch.zeros(3)})
    with pytest.raises(KeyError):
        again.restore({"bad": torch.tensor(1)})


def test_a_gradient_too_long_for_its_norm_is_skipped() -> None:
    """Every value is finite, their norm is not: clipped by it the step would be one of weight decay alone."""
    weight = nn.Parameter(torch.ones(3))
    optimizer, scaling = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.5, fused=True), Scaling(CPU, enabled=False)
    step(scaling, weight, optimizer, 3e38)
    assert weight.tolist() == [1, 1, 1]
    assert scaling.bad().total == 1


def test_an_optimiser_that_cannot_skip_is_refused() -> None:
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(TypeError, match="SGD is no fused optimiser"):
        step(Scaling(CPU, enabled=False), weight, torch.optim.SGD([weight], lr=0.1, fused=False), 1.0)


def test_an_fp16_run_is_resumed_to_the_bit_with_its_scale(small: Small, digest: Digest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(tmp_path / "whole", precision="fp16").run()
    advance = Trainer._advance

    def killed(self: Trainer, bar: object) -> Tensor:
        if self.step == 13:
            raise MemoryError
        return advance(self, bar)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_advance", killed)
    with pytest.raises(MemoryError):
        small(tmp_path / "parts", precision="fp16").run()
    monkeypatch.undo()
    kept = kept_in(tmp_path / "parts")
    assert int(kept["scaling.sound_steps"]) + int(kept["scaling.skipped"]) == int(kept["step"]) == 10
    second = small(tmp_path / "parts", precision="fp16")
    assert second.resume()
    assert second.scaling.scale == float(kept["scaling.scale"])
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")
    assert second.restorer.precision == "fp16"
    line = next(line for line in history(tmp_path / "whole") if "scale" in line)
    assert line["skipped"] == int(kept_in(tmp_path / "whole")["scaling.skipped"])


def test_a_checkpoint_from_before_there_was_a_scale_is_taken_up(small: Small, tmp_path: Path) -> None:
    small(tmp_path, precision="fp16").run()
    put(tmp_path, {name: value for name, value in kept_in(tmp_path).items() if not name.startswith("scaling.")})
    again = small(tmp_path, precision="fp16", images=480)
    assert again.resume()
    assert (again.scaling.scale, again.scaling.skipped) == (2.0**16, (0, 0))
    again.run()


@pytest.mark.parametrize("scale", [0.0, float("nan"), -1.0])
def test_a_scale_that_is_none_is_refused(small: Small, tmp_path: Path, scale: float) -> None:
    small(tmp_path, precision="fp16").run()
    put(tmp_path, {**kept_in(tmp_path), "scaling.scale": torch.tensor(scale, dtype=torch.float64)})
    with pytest.raises(ValueError, match="scale = .* lies outside"):
        small(tmp_path, precision="fp16").resume()


def test_a_few_skipped_steps_are_no_error_and_many_are(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)
    monkeypatch.setattr(scaling, "_MOST_SKIPPED", 6)
    inner = Trainer._losses

    def overflowing(self: Trainer, numbers: range, pieces: int = 1) -> Iterator[Tensor]:
        for loss in inner(self, numbers, pieces):
            yield Overflow.apply(loss) if self.step in (1, 2, 5) or self.step >= 12 else loss

    monkeypatch.setattr(Trainer, "_losses", overflowing)
    run = small(tmp_path, precision="fp16")
    with pytest.raises(Diverged, match=r"the last 6 steps, up to step 18, .*--training\.precision fp32"):
        run.run()
    assert all(bool(p.isfinite().all()) for p in run.restorer.parameters())
    assert all(bool(p.isfinite().all()) for p in run.average.restorer.parameters())
    lines = {line["step"]: line for line in history(tmp_path) if "scale" in line}
    assert "gradient_norm" not in lines[2]
    assert "gradient_norm" in lines[4]
    assert not any("bad" in line for line in lines.values())
    assert int(kept_in(tmp_path)["step"]) == 10


def test_auto_takes_fp16_on_gpus_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, found in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, native=native: native or including_emulation)
        assert exactness.precision("auto", torch.device("cuda")) == found
    assert exactness.precision("fp16", CPU) == "fp16"
