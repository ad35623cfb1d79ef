"""What is settled before a verb computes: allocators, and nothing that the user has settled."""

import ctypes
import importlib.util
import os
import platform
import subprocess
import sys

import pytest

from snowmelt.cli import allocator
from snowmelt.cli.machine import Machine, compiling
from snowmelt.restorers import UNet

# Eight threads allocate, and all of them are there at once; then glibc says what arenas it has made.
ARENAS = """
import ctypes, threading
from snowmelt.cli.allocator import share_pages
share_pages()
together = threading.Barrier(8)
def allocate():
    together.wait(60)
    kept = bytearray(5000)
    together.wait(60)
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


class Library:
    """A C library that takes what is set."""

    def __init__(self, *, glibc: bool = True, answer: int = 1) -> None:
        self.set: dict[int, int] = {}
        self.answer = answer
        if glibc:
            self.gnu_get_libc_version = None

    def mallopt(self, name: int, value: int) -> int:
        self.set[name] = value
        return self.answer


@pytest.fixture(autouse=True)
def unsettled(monkeypatch) -> None:
    """An environment in which nobody has chosen."""
    for name in (*allocator._OWN, *allocator._CUDA, allocator.OFF):
        monkeypatch.setenv(name, "")  # so that what is set within the test is taken back
        monkeypatch.delenv(name)


def test_glibc_is_told_to_keep_its_pages(monkeypatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert allocator.settle()
    assert library.set[-1] >= 1 << 28
    assert library.set[-3] == 32 << 20


@pytest.mark.parametrize("name", allocator._OWN)
def test_what_the_user_set_stays(monkeypatch, name: str) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setenv(name, "1")
    assert not allocator.settle()
    assert library.set == {}


def test_a_word_switches_all_of_it_off(monkeypatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the C library was asked for"))
    monkeypatch.setenv(allocator.OFF, "0")
    assert not allocator.settle()
    assert not set(allocator._CUDA) & set(os.environ)


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_elsewhere_nothing_happens(monkeypatch, error: type[Exception]) -> None:
    def missing(name: object) -> None:
        raise error("no C library of that kind")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert not allocator.settle()
    library = Library(glibc=False)  # musl has mallopt, too, in some versions: another one
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert not allocator.settle()
    assert library.set == {}
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library(answer=0))
    assert not allocator.settle()


def test_segments_of_a_gpu_may_grow_unless_the_user_said_otherwise(monkeypatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(sys, "platform", "win32")
    allocator.settle()
    assert not set(allocator._CUDA) & set(os.environ), "there are none on Windows"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    allocator.settle()
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "max_split_size_mb:64"
    assert "PYTORCH_ALLOC_CONF" not in os.environ
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    allocator.settle()
    assert {os.environ[name] for name in allocator._CUDA} == {"expandable_segments:True"}


def arenas() -> int:
    """How many there are where eight threads allocate; 9, or as many as the cores allow, unless somebody chose."""
    return subprocess.run([sys.executable, "-c", ARENAS], capture_output=True, text=True, check=True).stdout.count("<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_of_a_server_share_two_arenas_unless_the_user_said_otherwise(monkeypatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert arenas() == 2
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert arenas() == 4
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    monkeypatch.setenv(allocator.OFF, "0")
    assert arenas() > 4


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="pip install 'snowmelt[studio]'")  # to import it takes seconds
def test_the_studio_lets_its_threads_share_them(cli, tmp_path, monkeypatch) -> None:
    shared: list[bool] = []

    def far_enough() -> None:
        raise ValueError("what follows takes seconds")

    monkeypatch.setattr("snowmelt.cli.studio.share_pages", lambda: shared.append(True))
    monkeypatch.setattr("snowmelt.studio.surroundings.settled", far_enough)
    assert cli("studio", "--port", "0", "--folder", tmp_path).error == "what follows takes seconds"
    assert shared == [True]


def test_every_verb_settles_it_and_the_library_alone_does_not(monkeypatch) -> None:
    settled: list[bool] = []
    monkeypatch.setattr("snowmelt.cli.machine.settle", lambda: settled.append(True))
    assert Machine(device="cpu").prepare() == "cpu"
    assert settled == [True]
    code = "import os, snowmelt, snowmelt.restorers; print(sorted(n for n in os.environ if 'ALLOC' in n))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_compile_is_for_networks_and_only_where_it_is_asked_for(run) -> None:
    from snowmelt.model import Model, load

    model = load(run)
    compiling(model, False)
    assert not model.restorer.compiled
    compiling(model, True)
    assert model.restorer.compiled
    assert not load(run).restorer.compiled
    compiling(Model(model.degradation, lambda x, t: x), True)


def test_describe_says_what_a_model_costs(cli, run) -> None:
    from snowmelt.model import load

    said, net = cli("describe", run).out, load(run).restorer
    assert f"parameters = {sum(p.numel() for p in net.parameters()):,} (" in said
    assert " GFLOP a call and sample" in said
    assert "for a training step" in said


def test_describe_finds_the_sizes(cli) -> None:
    assert "xs | s | m | l" in cli("describe", "unet").out
    done = cli("describe", "unet:size=xs")
    assert done.code == 0
    assert UNet(size="xs").called == "xs"


def test_restoring_without_a_compiler_says_so_and_restores(cli, run, folder, tmp_path, monkeypatch, caplog) -> None:
    def broken(net: object) -> None:
        raise RuntimeError("no compiler here")

    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setattr("snowmelt.restorers.compilation._compile", broken)
    for out, words in ((plain, ()), (compiled, ("--compile",))):
        assert cli("restore", folder, "--model", run, "--out", out, "--severity", "1", *words).code == 0
    assert [r.getMessage() for r in caplog.records if "goes on uncompiled" in r.getMessage()] != []
    for path in plain.rglob("*.png"):
        assert path.read_bytes() == (compiled / path.relative_to(plain)).read_bytes()
