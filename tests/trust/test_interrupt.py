"""Ctrl-C and SIGTERM, at any moment of everything that is not training: it ends within seconds, and the same command ends as if nothing had been."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

AT_ONCE_S, SOON_S = 1.5, 5.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# As slow as a large network on large pictures, at no cost.
SLOW = """
import time
from snowmelt.restorers import Restorer
forward = Restorer.forward
def slow(self, *given, **more):
    time.sleep({seconds})
    return forward(self, *given, **more)
Restorer.forward = slow
"""
# A look at forty files does not come to its end before somebody asks for it.
SLOW_FILES = """
import time
from snowmelt.data import images
probe, seen = images.probe, []
def slow(*given, **more):
    seen.append(given)
    for _ in range(1 if len(seen) < 40 else 10_000):  # a signal that comes right before a sleep is heard after it
        time.sleep(0.02)
    return probe(*given, **more)
images.probe = slow
"""
# The moments that a test waits for: a walk has begun and listens, and a first signal was heard.
TELLING = """
import contextlib, pathlib
from snowmelt.restoration import loop, sampling
def telling(inner):
    @contextlib.contextmanager
    def told(*given):
        with inner(*given) as asked:
            ask = asked.set
            asked.set = lambda: (ask(), pathlib.Path({place!r} + ".heard").touch())
            pathlib.Path({place!r} + ".begun").touch()
            yield asked
    return told
for room in (loop, sampling):
    room.until_asked = telling(room.until_asked)
"""
PATIENT = "from snowmelt.restoration import loop, sampling\nloop._PATIENCE_S = sampling._PATIENCE_S = 200\n"
# The moment at which a command that was forked listens to signals, SIGTERM too: before it, it is not a command yet.
LISTENING = """
import pathlib, signal
import snowmelt.cli
inner = snowmelt.cli._together
def together(given):
    pathlib.Path({path!r}).touch()
    return inner(given)
snowmelt.cli._together = together
"""
# An evaluation that has all its pieces waits to be killed: whoever kills it may be slow.
NEVER_DONE = """
import time
import snowmelt.evaluation.kept as kept
kept._sweep = lambda *given: time.sleep(200)
"""
KEPT_OFTEN = "import snowmelt.evaluation.kept as kept\nkept._EVERY_S = 0.05\n"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(12):
        path = tmp_path / "in" / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path / "in"


def tree(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()} if place.exists() else {}


def halves(place: Path) -> list[str]:
    return [name for name in tree(place) if name.endswith(".part")]


def waited_for(path: Path, child: Any) -> None:
    """Wait until a command has made a file."""
    while not path.exists():
        assert child.running, child.stderr()
        time.sleep(0.01)


def stop(child: Any, number: int) -> float:
    """The seconds from a signal to the end."""
    begun = time.monotonic()
    child.kill(number)
    child.wait()
    return time.monotonic() - begun


@pytest.fixture
def interrupted(command: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[int, float, Path]]:
    """interrupted(rounds, seconds, "sample", ..., before=""): how often it was stopped, the worst seconds, and the folder that came of it in the end.

    Every round interrupts the command at a random moment of the `seconds` that it takes, in what the rounds before it have left.
    """

    def rounds(
        n: int,
        seconds: float,
        *arguments: object,
        before: str = "",
        leaves: Callable[[Path], None] | None = None,
        awaits: Callable[[Path], object] = lambda out: True,
    ) -> tuple[int, float, Path]:
        """The last round awaits something. One that was slow to end is made again, once: this machine may have been elsewhere."""
        chance, worst, stops, out, listens, spare = random.Random(7), 0.0, 0, tmp_path / "out", tmp_path / "listens", 1
        moments = [(i, chance.uniform(0, seconds)) for i in range(n)]
        while moments:
            i, moment = moments[0]
            listens.unlink(missing_ok=True)
            child = command(*arguments, "--out", out, before=LISTENING.format(path=str(listens)) + before)
            waited_for(listens, child)
            time.sleep(moment)
            while i == n - 1 and child.running and not awaits(out):
                time.sleep(0.01)
            if not child.running:
                assert child.wait() == 0, child.stderr()
                shutil.rmtree(out)  # it was through: once more from the start
                moments.pop(0)
                continue
            seconds_to_end = stop(child, SIGNALS[i % 2])
            whole = set(tree(tmp_path / "whole"))
            if whole and child.wait() in (0, -SIGNALS[i % 2]):  # it was through, and on its way out of the interpreter
                assert set(tree(out)) == whole, child.stderr()
                shutil.rmtree(out)
                moments.pop(0)
                continue
            if seconds_to_end > SOON_S and spare:
                print(f"!!! {seconds_to_end:.1f} s from a signal to the end: once more")
                spare -= 1
            else:
                worst = max(worst, seconds_to_end)
                moments.pop(0)
            stops += 1
            said = [line for line in child.stderr().splitlines() if line.startswith("snowmelt: ")]
            assert child.wait() == 130, child.stderr()
            assert len(said) == 1, child.stderr()
            assert "interrupted" in said[0]
            assert not halves(out)
            if leaves is not None:
                leaves(out)
        child = command(*arguments, "--out", out)
        assert child.wait() == 0, child.stderr()
        assert stops
        return stops, worst, out

    return rounds


def test_evaluating(run: Path, command, interrupted, rounds, tmp_path: Path, figure) -> None:
    words, kept = ("evaluate", run, "--images", "16", "--generate", "128", "--input", "float"), []
    assert command(*words, "--out", tmp_path / "whole").wait() == 0
    n = rounds(4, 20)
    # Kept pieces mount up, and every round begins behind them: the network is slow enough for all of them.
    stops, worst, out = interrupted(
        n,
        1.5,
        *words,
        before=SLOW.format(seconds=0.02) + KEPT_OFTEN,
        leaves=lambda out: kept.append(len(list(out.glob(".evaluating-*/*.safetensors")))),
        awaits=lambda out: list(out.glob(".evaluating-*/*.safetensors")),
    )
    assert tree(out) == tree(tmp_path / "whole")
    assert max(kept) > 0, "no piece was ever kept"
    assert worst <= SOON_S
    figure("interrupt-evaluate", f"{stops} of {n} stopped, at most {worst:.1f} s; the same command ended in the same report; pieces kept: {kept}")


def test_a_killed_evaluation_goes_on(run: Path, command, tmp_path: Path) -> None:
    words = ("evaluate", run, "--images", "16", "--input", "float")
    assert command(*words, "--out", tmp_path / "whole").wait() == 0
    for i in range(2):
        child = command(*words, "--out", tmp_path / "out", before=SLOW.format(seconds=0.03) + KEPT_OFTEN + NEVER_DONE)
        while child.running and len(list((tmp_path / "out").glob(".evaluating-*/*.safetensors"))) <= i:
            time.sleep(0.02)
        child.kill()
        assert child.wait() == -signal.SIGKILL
    assert len(list((tmp_path / "out").glob(".evaluating-*/*.safetensors"))) >= 2
    found = next((tmp_path / "out").glob(".evaluating-*/*.safetensors"))
    found.write_bytes(found.read_bytes()[:-40])  # as the machine's own crash may leave it
    child = command(*words, "--out", tmp_path / "out")
    assert child.wait() == 0, child.stderr()
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_sampling(run: Path, command, interrupted, rounds, tmp_path: Path, figure) -> None:
    words = ("sample", run, "--number", "24", "--batch", "2", "--steps", "4")
    assert command(*words, "--out", tmp_path / "whole").wait() == 0
    n = rounds(2, 20)
    stops, worst, out = interrupted(n, 1.2, *words, before=SLOW.format(seconds=0.08))
    assert tree(out) == tree(tmp_path / "whole")
    assert worst <= SOON_S
    figure("interrupt-sample", f"{stops} of {n} stopped, at most {worst:.1f} s; the same command ended in the same {len(tree(out))} files")


def test_restoring(run: Path, pictures: Path, command, interrupted, rounds, tmp_path: Path, figure) -> None:
    words = ("restore", pictures, "--model", run, "--severity", ".5")
    assert command(*words, "--out", tmp_path / "whole").wait() == 0
    n = rounds(2, 20)
    stops, worst, out = interrupted(n, 1.2, *words, before=SLOW.format(seconds=0.1))
    assert len(list(out.glob("*.png"))) == 12
    assert {name: data for name, data in tree(out).items() if name.endswith(".png")} == {
        name: data for name, data in tree(tmp_path / "whole").items() if name.endswith(".png")
    }
    assert sum('"output"' in line for line in (out / "restored.jsonl").read_text().splitlines()) == 12
    assert worst <= SOON_S
    figure("interrupt-restore", f"{stops} of {n} stopped, at most {worst:.1f} s; the same command ended in the same {len(tree(out))} files")


def test_scanning(run: Path, command, interrupted, rounds, tmp_path: Path, figure) -> None:
    for i in range(40):
        path = tmp_path / "many" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    n = rounds(4, 20)

    def nothing(out: Path) -> None:
        assert not out.exists(), "a scan leaves nothing"

    words = ("evaluate", run, "--data", tmp_path / "many", "--images", "4", "--input", "float")
    stops, worst, _ = interrupted(n, 0.8, *words, before=SLOW_FILES, leaves=nothing)
    assert worst <= SOON_S
    figure("interrupt-scan", f"{stops} of {n} stopped, at most {worst:.1f} s; nothing was left behind")


def test_the_second_signal_ends_it_at_once(run: Path, pictures: Path, command, rounds, tmp_path: Path, figure) -> None:
    """One network call takes 0.2 s, and a block a minute: the first signal would wait for two seconds."""
    n, worst, alone = rounds(4, 20), 0.0, []
    several = ("--sampler", "ancestral:steps=1", "--samples", "100")  # of each picture: after a walk of one call, a hundred more
    for i in range(n):
        out, number = tmp_path / f"out{i}", SIGNALS[i // 2 % 2]
        words = (("sample", run, "--number", "4"), ("restore", pictures, "--model", run, "--severity", ".5"))[i % 2]
        walks = several if i == 1 else ("--steps", "300")
        for again in (2, 1, 0):
            place, slow = tmp_path / f"told{i}{again}", SLOW.format(seconds=0.1 if i == 1 else 0.2)
            before = TELLING.format(place=str(place)) + slow + (PATIENT if i >= 2 else "")
            child = command(*words, *walks, "--out", out, before=before)
            waited_for(place.with_suffix(".begun"), child)
            time.sleep(0.3)  # into the walk
            assert child.running, child.stderr()
            if i < 2:  # the first alone, to see that there was something to wait for
                took, most = stop(child, number), SOON_S
            else:
                child.kill(number)
                waited_for(place.with_suffix(".heard"), child)  # a second one of a kind that comes earlier is lost
                assert child.running, "the first signal is a wish"
                took, most = stop(child, number), AT_ONCE_S
            assert child.wait() == 130, child.stderr()
            assert "interrupted: 0 of " in child.stderr()
            assert not halves(out)
            if took <= most or not again:
                break
            print(f"!!! {took:.1f} s from a signal to the end: once more, as this machine may have been elsewhere")
        if i < 2:
            alone.append(took)
        else:
            worst = max(worst, took)
    assert min(alone) > AT_ONCE_S, "the first signal gave the block no time"
    assert max(alone) <= SOON_S
    assert worst <= AT_ONCE_S
    figure("interrupt-twice-sample", f"the second signal ended {n - 2} of {n - 2} in {worst:.1f} s, where the first alone took {max(alone):.1f} s")
