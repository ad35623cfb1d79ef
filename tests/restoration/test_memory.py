"""How many at a time: what is counted, what is free, and that a longer walk takes no more."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.registry import build
from snowmelt.restoration import generated, memory
from snowmelt.restoration.memory import Fitting, available, batch_for, fitting, peak_bytes
from snowmelt.restoration.work import Work
from snowmelt.restorers import Restorer

CPU = torch.device("cpu")
MB = 2**20


def made(side: int, widths: str = "(8,16)") -> Model:
    D = build("noise")
    restorer = Restorer(D, build(f"unet:widths={widths},patch=2,groups=4,blocks=1", "backbone"), (1, side, side))
    return Model(D, restorer.eval().requires_grad_(False), Normal(shape=(1, side, side)))


def test_live_bytes_are_counted_to_the_byte_and_views_are_not() -> None:
    def known() -> None:
        a = torch.zeros(1000)
        b = a[10:].view(-1) + 1  # 3960 more
        del a
        c = b * 2  # another 3960, 4000 less
        c.add_(1)

    assert peak_bytes(known) == 4000 + 3960
    assert peak_bytes(known) == peak_bytes(known)


def test_larger_samples_and_wider_networks_make_smaller_batches() -> None:
    sizes = [batch_for(made(side), (1, side, side), walk=snowmelt.samplers.TACoS(4), device="cpu") for side in (8, 64, 128)]
    assert sizes[0] > sizes[1] > sizes[2] >= 1
    assert all(size & (size - 1) == 0 for size in sizes)
    assert batch_for(made(64, "(32,64)"), (1, 64, 64), walk=None, device="cpu") < sizes[1]
    assert batch_for(Model(build("noise"), lambda x, t: x), (1, 8, 8), walk=None, device="cpu") == 64


@pytest.mark.parametrize(("cost", "free", "batch"), [(MB, 8 * MB, 4), (MB, 9 * MB, 4), (1, 10**12, 256), (10**12, MB, 1), (MB, 10**12, 32)])
def test_half_of_what_is_free_at_most_what_is_fast(monkeypatch: pytest.MonkeyPatch, cost: int, free: int, batch: int) -> None:
    monkeypatch.setattr(memory, "available", lambda device: free)
    assert fitting(cost, CPU) == batch


def test_free_is_what_the_system_and_every_cgroup_above_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_CGROUPS", groups)
    assert available("cpu") == 2 * 2**30, "nobody says"
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert available("cpu") == 5000 * 1024
    (proc / "self" / "cgroup").write_text("0::/job/task\n")
    (groups / "job" / "task").mkdir(parents=True)
    (groups / "job" / "task" / "memory.max").write_text("max\n")
    (groups / "job" / "task" / "memory.current").write_text("1000\n")
    assert available("cpu") == 5000 * 1024
    (groups / "job" / "memory.max").write_text("3000000\n")
    (groups / "job" / "memory.current").write_text("1000000\n")
    (groups / "job" / "memory.stat").write_text("anon 1\ninactive_file 400000\n")
    assert available("cpu") == 3_000_000 - 600_000
    (proc / "self" / "cgroup").write_text("4:cpu,memory:/old\n")
    (groups / "memory" / "old").mkdir(parents=True)
    (groups / "memory" / "old" / "memory.limit_in_bytes").write_text("2000000\n")
    (groups / "memory" / "old" / "memory.usage_in_bytes").write_text("500000\n")
    assert available("cpu") == 1_500_000


def test_out_of_memory_halves_until_it_fits_and_one_that_does_not_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def make(most: int) -> Callable[[range], Tensor]:
        def some(numbers: range) -> Tensor:
            tried.append(len(numbers))
            if len(numbers) > most:
                raise MemoryError
            return torch.tensor(numbers)

        return some

    fit = Fitting(16)
    assert fit(range(20), make(5)).tolist() == list(range(20))
    assert tried == [16, 8, 4, 4, 4, 4, 4]
    assert len(caplog.records) == 2
    assert fit(range(20, 25), make(5)).tolist() == [20, 21, 22, 23, 24]
    assert len(caplog.records) == 2, "said once"
    with pytest.raises(MemoryError):
        fit(range(3), make(0))


def test_a_batch_that_runs_out_is_halved_and_its_pictures_are_not_cut(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model = made(128)
    assert isinstance(model.restorer, Restorer)
    for weight in model.restorer.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    walk, sizes = snowmelt.samplers.Ancestral(2, eta=0.0), []
    two = torch.cat(list(generated(model, 4, seed=0, sampler=walk, batch=2)))

    def small(_: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        sizes.append(tuple(given[0].shape))
        if len(given[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.restorer.net.register_forward_pre_hook(small)
    four = torch.cat(list(generated(model, 4, seed=0, sampler=walk, batch=4)))
    assert {shape[-1] for shape in sizes} == {128}
    assert [record.getMessage() for record in caplog.records] == ["out of memory for 4 samples at a time: going on with 2"]
    assert float((four - two).abs().max()) <= 1e-5


@pytest.mark.parametrize("walk", ["tacos", "ancestral:eta=1", "tacos:order=2", "heun", "naive"])
def test_a_walk_of_200_steps_takes_the_memory_of_10(walk: str) -> None:
    model = made(16)

    def peak(steps: int) -> int:
        sampler = build(f"{walk}{',' if ':' in walk else ':'}steps={steps}", "sampler")
        return peak_bytes(lambda: list(generated(model, 4, seed=0, sampler=sampler, batch=4)))

    peak(10)  # what is cached once
    few, many = peak(10), peak(200)
    assert many <= 1.01 * few


def test_a_restoration_of_200_steps_takes_the_memory_of_10_and_one_that_is_kept_does_not() -> None:
    model, x = made(16), torch.zeros(2, 1, 16, 16)

    def peak(steps: int, *, kept: bool = False) -> int:
        work = Work(model, "", "", 1.0, snowmelt.samplers.Ancestral(steps, eta=0.0), trajectory=kept)
        return peak_bytes(lambda: work.walk(x, 1.0, ["a", "b"]))

    peak(10)
    assert peak(200) <= 1.01 * peak(10)
    assert peak(200, kept=True) > 2 * peak(10, kept=True), "which shows that growth would be seen"
