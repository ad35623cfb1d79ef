"""What a studio leaves behind: nothing, however it ends, and what a killed one had to leave goes with the next."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snowmelt.locks import HOLDER
from snowmelt.studio import surroundings
from snowmelt.studio.surroundings import clear, settled

# A signal that comes right before a sleep begins is heard when that ends; and who started the tests may have had Ctrl-C or hanging up ignored.
OPEN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_IGN if sys.argv[2] else signal.SIG_DFL)
from snowmelt.studio.surroundings import settled
try:
    with settled() as folder:
        (folder / "picture.png").write_bytes(b"x")
        print("open", flush=True)
        try:
            for _ in range(6000):
                time.sleep(0.01)
        finally:
            for _ in range(int(sys.argv[1])):
                signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """opened(again=0, nohup=False) -> a process that keeps a picture where a studio does, in `tmp_path`."""
    begun = []

    def made(again: int = 0, nohup: bool = False) -> subprocess.Popen[str]:
        env = {**os.environ, "TMPDIR": str(tmp_path)}
        process = subprocess.Popen([sys.executable, "-c", OPEN, str(again), "nohup" * nohup], stdout=subprocess.PIPE, text=True, env=env)
        begun.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield made
    for process in begun:
        process.kill()
        process.wait(10)
        process.stdout.close()


def left(folder: Path) -> list[Path]:
    return list(folder.glob("snowmelt-studio-*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("again", [0, 2])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_nothing_is_left_when_it_is_asked_to_end_or_its_terminal_is_closed(opened, tmp_path: Path, name: str, again: int):
    process = opened(again if name != "SIGINT" else 0)
    assert len(left(tmp_path)) == 1
    process.send_signal(getattr(signal, name))
    assert process.wait(30) == 7
    assert not left(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
def test_under_nohup_it_outlives_its_terminal(opened, tmp_path: Path):
    process = opened(nohup=True)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)  # delivered after it: whoever was ended by the first has another code
    assert process.wait(30) == 7
    before = signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with settled():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_killed_studio_has_left_goes_with_the_next(opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    living, dead = opened(), opened()
    dead.kill()
    dead.wait(10)
    assert len(left(tmp_path)) == 2
    with settled() as mine:
        there = left(tmp_path)
        assert len(there) == 2
        assert mine.parent in there
        assert all((place / "files").is_dir() for place in there)
        assert living.poll() is None
    assert len(left(tmp_path)) == 1
    assert list(left(tmp_path)[0].rglob("picture.png"))


def test_what_is_somebody_elses_or_is_being_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "snowmelt-studio-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "snowmelt-studio-file").write_bytes(b"")
    for name in ("young", "old", "full", "dead"):
        (tmp_path / f"snowmelt-studio-{name}").mkdir()
    (tmp_path / "snowmelt-studio-full" / "x").write_bytes(b"")  # whose it is nobody says
    (tmp_path / "snowmelt-studio-dead" / HOLDER).write_text("{}")
    for name in ("old", "full"):
        os.utime(tmp_path / f"snowmelt-studio-{name}", (time.time() - 3600,) * 2)
    if hasattr(os, "getuid"):
        mine = os.getuid()
        monkeypatch.setattr(surroundings.os, "getuid", lambda: mine + 1)
        assert clear() == 0
        monkeypatch.setattr(surroundings.os, "getuid", lambda: mine)
    os.utime(tmp_path / "snowmelt-studio-dead" / HOLDER, (0, 0))
    assert clear() == 1
    assert {place.name.removeprefix("snowmelt-studio-") for place in left(tmp_path)} == {"link", "file", "young", "full"}
    assert (tmp_path / "elsewhere" / "deep").is_dir()


def test_handlers_of_signals_are_as_they_were_afterwards():
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [signal.getsignal(number) for number in numbers]
    with settled():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before
