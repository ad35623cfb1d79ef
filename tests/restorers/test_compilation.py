"""Compiled networks: the same results, nothing else changed, and no harm where there is no compiler."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from snowmelt.degradations import GaussianBlur
from snowmelt.restorers import Residual, Restorer, UNet
from snowmelt.restorers import compilation as module
from snowmelt.restorers.compilation import Compilation, cache_directory, keep_artefacts

TINY = UNet(widths=(8, 8), blocks=1, groups=4)


@pytest.fixture
def restorer() -> Restorer:
    torch.manual_seed(0)
    made = Restorer(GaussianBlur(), TINY, (1, 8, 8), parameterization=Residual())
    for parameter in made.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0, 0.05)
    return made.eval()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Artefacts go to a place of the test's own, and the environment is as before afterwards."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "snowmelt" / "compiled"


def counting(found: list[tuple[int, ...]]):
    """A compiler that changes nothing and notes the shapes that its twin is called with."""

    def make(net):
        def twin(*args):
            found.append(tuple(args[0].shape))
            return net(*args)

        return twin

    return make


def broken(net):
    def twin(*args):
        raise RuntimeError("no compiler here\nand more lines")

    return twin


def test_it_is_off_unless_asked_for_and_no_part_of_what_is_saved(restorer) -> None:
    shapes: list[tuple[int, ...]] = []
    restorer._compilation = Compilation(counting(shapes))
    names = list(restorer.state_dict())
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    with torch.no_grad():
        expected = restorer(x, t)
        assert shapes == []
        restorer.compiled = True
        assert torch.equal(restorer(x, t), expected)
    assert shapes == [(2, 1, 8, 8)]
    assert list(restorer.state_dict()) == names
    assert not any("orig_mod" in name for name, _ in restorer.named_modules())
    again = copy.deepcopy(restorer)
    assert again._compilation is not restorer._compilation
    with torch.no_grad():
        assert torch.equal(again(x, t), expected)
    assert restorer.bound({})._compilation is restorer._compilation, "a copy that shares the network shares its twin"


def test_a_compiler_that_fails_is_said_once_and_the_results_stay(restorer, caplog) -> None:
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    with torch.no_grad():
        expected = restorer(x, t)
        restorer.compiled, restorer._compilation = True, Compilation(broken)
        for _ in range(3):
            assert torch.equal(restorer(x, t), expected)
    [record] = caplog.records
    assert record.getMessage() == (
        "the network could not be compiled, and goes on uncompiled: slower, with the same results (RuntimeError: no compiler here)"
    )


def test_a_compiler_that_fails_on_the_way_back_is_found_out_in_time(restorer, caplog) -> None:
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("no way back")

    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    restorer.train()
    restorer.compiled, restorer._compilation = True, Compilation(lambda net: lambda *args: Bad.apply(net(*args)))
    restorer(x, t).sum().backward()
    assert all(p.grad is not None for p in restorer.net.parameters())
    assert "no way back" in caplog.text


def test_what_the_network_refuses_is_no_fault_of_the_compiler(restorer) -> None:
    restorer.compiled, restorer._compilation = True, Compilation(counting([]))
    restorer.net.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("wrong")))
    with pytest.raises(RuntimeError, match="wrong"), torch.no_grad():
        restorer(torch.randn(2, 1, 8, 8), torch.rand(2))
    assert restorer._compilation.refused is None


def test_running_out_of_memory_is_left_to_who_can_take_less() -> None:
    def full(net):
        def twin(*args):
            raise torch.OutOfMemoryError("full")

        return twin

    tried = Compilation(full)
    with pytest.raises(torch.OutOfMemoryError):
        tried.call(nn.Identity(), torch.zeros(1, 1, 2, 2))
    assert tried.refused is None


def test_after_some_sizes_the_network_does_the_rest(restorer) -> None:
    shapes: list[tuple[int, ...]] = []
    restorer.compiled, restorer._compilation = True, Compilation(counting(shapes))
    with torch.no_grad():
        for side in (8, 12, 16, 20, 24, 28, 8):
            for n in (2, 3):
                restorer(torch.randn(n, 1, side, side), torch.rand(n))
    assert {shape[-1] for shape in shapes} == {8, 12, 16, 20}
    assert shapes[-1] == (3, 1, 8, 8)


def test_guidance_takes_its_gradient_through_the_network_itself(restorer) -> None:
    restorer.compiled, restorer._compilation = True, Compilation(broken)
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    restorer(x, torch.rand(2)).sum().backward()
    assert x.grad is not None
    assert restorer._compilation.refused is None


def test_another_network_in_its_place_gets_a_twin_of_its_own(restorer) -> None:
    made: list[nn.Module] = []
    restorer.compiled, restorer._compilation = True, Compilation(lambda net: made.append(net) or net)
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    with torch.no_grad():
        restorer(x, t)
        restorer.net = TINY.build(1, 1)
        restorer(x, t)
    assert len(made) == 2


def test_where_artefacts_go(cache, monkeypatch, tmp_path) -> None:
    assert cache_directory() == cache
    keep_artefacts()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(cache)
    assert cache.is_dir()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    keep_artefacts()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says: ignore it
    monkeypatch.setattr(module.sys, "platform", "linux")
    assert cache_directory() == Path.home() / ".cache" / "snowmelt" / "compiled"


def test_a_cache_that_cannot_be_written_is_left_to_torch(monkeypatch, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    keep_artefacts()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == ""


CODE = """
import torch
from snowmelt.degradations import GaussianBlur
from snowmelt.restorers import Residual, Restorer, UNet
torch.manual_seed(0)
r = Restorer(GaussianBlur(), UNet(widths=(8,), blocks=1, groups=4, attention=False), (1, 8, 8), parameterization=Residual())
for p in r.parameters():
    if not p.any():
        torch.nn.init.normal_(p, 0, 0.05)
x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
def step():
    r.zero_grad()
    out = r.train()(x, t)
    out.square().mean().backward()
    with torch.no_grad():
        return [out.detach(), r.eval()(x, t), *(p.grad.clone() for p in r.net.parameters())]
expected = step()
r.compiled = True
found = step()
print("refused", r._compilation.refused)
print("error", max(float((a - b).abs().max()) for a, b in zip(expected, found)))
"""


def child(**environment: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": "", **environment}
    return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=settings, check=False, timeout=800)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_a_compiler_it_goes_on() -> None:
    done = child(CXX="/nonexistent/c++")
    assert done.returncode == 0, done.stderr
    assert "error 0.0" in done.stdout
    assert "refused None" not in done.stdout
    assert done.stderr.count("goes on uncompiled") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_or_not_the_results_agree(cache) -> None:
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("NO C++ COMPILER: that compiled networks agree is not tested here")
    done = child()
    assert done.returncode == 0, done.stderr
    assert "refused None" in done.stdout, done.stdout + done.stderr
    assert float(done.stdout.split("error ")[1]) < 1e-4
    assert any(cache.iterdir()), "nothing was kept for the next run"
