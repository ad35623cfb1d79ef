"""What a step waits for: nothing of the device between log lines, and the share of the time that goes into data and degradation."""

import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from snowmelt.data.options import DataOptions
from snowmelt.model import Model
from snowmelt.training import loop, waiting
from snowmelt.training.feed import Feed
from snowmelt.training.history import read as history
from snowmelt.training.learning import waited
from snowmelt.training.loop import Trainer
from snowmelt.training.progress import Bar
from snowmelt.training.waiting import Waiting, timed

Small = Callable[..., Trainer]
aten = torch.ops.aten
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)
ON_CPU_ONLY = {"certain"}  # functions that ask their tensors only where the answer is at hand


class Reads(TorchDispatchMode):
    """The places that make a Python number, or a shape, of a tensor's values: on a GPU each would wait for all that is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        by_mask = func is aten.index.Tensor and any(at is not None and at.dtype in (torch.bool, torch.uint8) for at in args[1])
        if func in READS or by_mask:
            frames = traceback.extract_stack()
            if not ON_CPU_ONLY & {frame.name for frame in frames}:
                ours = [f"{Path(frame.filename).name}:{frame.lineno} {frame.line}" for frame in frames if "snowmelt" in frame.filename]
                self.found.append(f"{func.name()} in {ours[-1] if ours else 'torch'}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("spec", "more"),
    [
        ("gaussian-blur:sigma_px=2", {}),
        ("gaussian-blur:sigma_px=2", {"precision": "fp16"}),
        ("gaussian-blur:sigma_px=2", {"weight": "output", "accumulate": 2}),
        ("mask", {}),
        ("noise:schedule=betas", {}),
        ("noise", {"severities": "logit-normal", "weight": "min-snr"}),
        ("snow", {"data": DataOptions(path="bundled:digits", size=6, fit="crop", turn=True)}),
        ("recursive-blur:steps=4,kernel_size=3", {}),
        ("mask+noise", {"floor": 0.02, "gap": 0.9, "loss": "pseudo-huber"}),
    ],
    ids=str,
)
def test_a_step_reads_nothing_back_but_where_a_line_is_written(small: Small, tmp_path: Path, spec: str, more: dict[str, Any]) -> None:
    run = small(tmp_path, spec=spec, **more)
    run._prepare()
    with Bar("x", 1) as bar:
        run._advance(bar)  # tables are made once
        with Reads() as reads:
            run._advance(bar)
            run._advance(bar)
        assert reads.found == []
        run.step = loop._LOG_EVERY - 1
        with Reads() as reads:
            run._advance(bar)
    assert any("float(" in found for found in reads.found)  # the line itself, which shows that reading is seen


def test_time_in_data_and_degradation_is_waited_for_and_time_in_the_network_is_not(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_LOG_EVERY", 2)
    now, shares = 0.0, {}

    def ticking() -> float:
        """A clock on which all that is not slowed takes a hundredth of a second: what else this machine does in the meantime does not count."""
        nonlocal now
        now += 0.01
        return now

    for module in (loop, waiting):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=ticking, perf_counter=ticking))
    monkeypatch.setattr(Waiting.__init__, "__defaults__", (ticking,))
    degrade, feed, restore = Model.degrade, Feed.__call__, type(small(tmp_path).restorer).forward

    def slow(inner: Callable[..., Any]) -> Callable[..., Any]:
        def slowed(*args: Any, **kwargs: Any) -> Any:
            nonlocal now
            now += 0.2
            return inner(*args, **kwargs)

        return slowed

    for place, patched in (("degradation", (Model, "degrade", degrade)), ("data", (Feed, "__call__", feed)), ("network", (None, "forward", restore))):
        run = small(tmp_path / place, images=64, validate_every=10**6, validation_images=1)
        owner, name, inner = patched
        with monkeypatch.context() as patch:
            patch.setattr(owner or type(run.restorer), name, slow(inner))
            run.run()
        lines = [line for line in history(tmp_path / place) if "waiting" in line]
        assert len(lines) == 2
        shares[place] = waited(history(tmp_path / place))
    assert shares["degradation"] > 0.6
    assert shares["data"] > 0.6
    assert shares["network"] < 0.4


def test_the_stopwatch_counts_what_it_should_and_begins_anew_when_read() -> None:
    now = iter([1.0, 3.0, 10.0, 10.5, 20.0, 21.0])
    waiting = Waiting(torch.device("cpu"), clock=lambda: next(now))
    for _ in range(2):
        with waiting:
            pass
    assert waiting.read() == 2.5
    with waiting:
        pass
    assert waiting.read() == 1.0
    assert waiting.read() == 0.0


def test_a_timed_model_is_the_same_model(small: Small, tmp_path: Path) -> None:
    model, waiting = small(tmp_path, floor=0.02).model, Waiting(torch.device("cpu"))
    x, t, z = torch.rand(2, 1, 8, 8), torch.full((2,), 0.5), {"floor": torch.rand(2, 1, 8, 8)}
    assert torch.equal(timed(model, waiting).degrade(x, t, z), model.degrade(x, t, z))
    assert waiting.read() > 0


def test_a_runs_share_weighs_its_lines_by_their_time() -> None:
    lines = [
        {"loss": 1.0, "wall_s": 10.0, "waiting": 0.1},
        {"validation_loss": 1.0, "wall_s": 10.0},
        {"loss": 1.0, "wall_s": 40.0, "waiting": 0.5},
    ]
    assert waited(lines) == pytest.approx((1 + 15) / 40)
    assert waited([{"loss": 1.0, "wall_s": 10.0}]) is None
    assert waited([]) is None


def test_the_bar_says_it(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, float | str]] = []
    monkeypatch.setattr(loop.Bar, "advance", lambda self, n, **values: told.append(values))
    small(tmp_path).run()
    (line,) = (line for line in history(tmp_path) if "waiting" in line)
    assert 0 < line["waiting"] < 1
    assert told == [{"loss": line["loss"], "waits": f"{line['waiting']:.0%}"}]


def test_reading_a_tensor_is_seen() -> None:
    def by_mask(x: Tensor) -> Tensor:
        return x[x > 0]

    for read in (float, bool, lambda x: x.item(), lambda x: int(x), by_mask):
        with Reads() as reads:
            read(torch.ones(1))
        assert reads.found
