"""fp16: skipped steps, their counts, exact resume, and the way out where no scale is small enough."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from snowmelt.files import read_tensors, write_tensors
from snowmelt.training import checkpoint, loop
from snowmelt.training.loop import Diverged, Trainer, history
from snowmelt.training.scaling import Scaling

Small = Callable[..., Trainer]
Digest = Callable[[Path], str]
CPU = torch.device("cpu")


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
    assert scaling.tensors().keys() == {"scale", "sound_steps", "skipped", "skipped_in_a_row"}
    assert Scaling(CPU, enabled=False).tensors() == {}
    assert torch.equal(*ends)  # a scale is a power of two: in float32 it changes no bit


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
    kept = read_tensors(tmp_path / "parts" / checkpoint.NAME)
    assert int(kept["scaling.sound_steps"]) + int(kept["scaling.skipped"]) == int(kept["step"]) == 10
    second = small(tmp_path / "parts", precision="fp16")
    assert second.resume()
    assert second.scaling.scale == float(kept["scaling.scale"])
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")
    assert second.restorer.precision == "fp16"
    line = next(line for line in history(tmp_path / "whole") if "scale" in line)
    assert line["skipped"] == int(read_tensors(tmp_path / "whole" / checkpoint.NAME)["scaling.skipped"])


def test_a_checkpoint_from_before_there_was_a_scale_is_taken_up(small: Small, tmp_path: Path) -> None:
    small(tmp_path, precision="fp16").run()
    path = tmp_path / checkpoint.NAME
    write_tensors(path, {name: value for name, value in read_tensors(path).items() if not name.startswith("scaling.")})
    again = small(tmp_path, precision="fp16", images=480)
    assert again.resume()
    assert (again.scaling.scale, again.scaling.skipped) == (2.0**16, (0, 0))
    again.run()


@pytest.mark.parametrize("scale", [0.0, float("nan"), -1.0])
def test_a_scale_that_is_none_is_refused(small: Small, tmp_path: Path, scale: float) -> None:
    small(tmp_path, precision="fp16").run()
    path = tmp_path / checkpoint.NAME
    write_tensors(path, {**read_tensors(path), "scaling.scale": torch.tensor(scale, dtype=torch.float64)})
    with pytest.raises(ValueError, match="scale = .* lies outside"):
        small(tmp_path, precision="fp16").resume()


def test_a_few_skipped_steps_are_no_error_and_many_are(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LOG_EVERY", 1)
    monkeypatch.setattr(loop, "_MOST_SKIPPED", 6)
    run, inner = small(tmp_path, precision="fp16"), Trainer._loss

    def overflowing(self: Trainer, numbers: range) -> Tensor:
        return inner(self, numbers) * (float("inf") if self.step in (1, 2, 5) or self.step >= 12 else 1)

    monkeypatch.setattr(Trainer, "_loss", overflowing)
    with pytest.raises(Diverged, match=r"the last 6 steps, up to step 18, .*--training\.precision fp32"):
        run.run()
    assert all(bool(p.isfinite().all()) for p in run.restorer.parameters())
    assert all(bool(p.isfinite().all()) for p in run.average.restorer.parameters())
    lines = {line["step"]: line for line in history(tmp_path) if "scale" in line}
    assert "loss" not in lines[2]
    assert "loss" in lines[4]
    assert int(read_tensors(tmp_path / checkpoint.NAME)["step"]) == 10


def test_auto_takes_fp16_on_gpus_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, found in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True, native=native: native or including_emulation)
        assert loop.precision("auto", torch.device("cuda")) == found
    assert loop.precision("fp16", CPU) == "fp16"
