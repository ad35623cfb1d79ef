"""Several processes that train together: the same weights, and an end for all of them when one is gone."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.held import held

from snowmelt.training.checkpoint import digest
from snowmelt.training.history import read as history

Figure = Callable[[str, str], None]
Command = Callable[..., Any]
Rounds = Callable[[int, int], int]
State = Callable[[Path], dict[str, Any]]
RECIPE = """
degradation = "mask+noise"
[data]
path = "bundled:digits"
size = 8
[model]
backbone = "unet:widths=(8,16),patch=2,groups=4,blocks=1"
noise_floor = 0.02
[training]
images = {images}
batch = 16
accumulate = 2
shards = 4
validate_every = 160
validation_images = 16
precision = "fp32"
keep_best = true
"""
# Executed in the first process: in the validation after a step, somebody asks for the end.
WISHING = """
from snowmelt.training import loop
inner = loop.validate
def validate(*a, tick, **k):
    run = tick.__self__
    if run.step == {step}:
        run._asked.set()
    return inner(*a, tick=tick, **k)
loop.validate = validate
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[int], Path]:
    def write(images: int) -> Path:
        path = tmp_path / f"digits-{images}.toml"
        path.write_text(RECIPE.format(images=images))
        return path

    return write


@pytest.fixture
def group(command: Command, free_port: Callable[[], int]) -> Callable[..., list[Any]]:
    """group(2, "train", ...): the processes that torchrun would start, without torchrun."""

    def start(size: int, *arguments: object, before: dict[int, str] | None = None) -> list[Any]:
        port = free_port()
        said = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks = ({**said, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size))
        return [command(*arguments, env=env, before=(before or {}).get(int(env["RANK"]), "")) for env in ranks]

    return start


def torchrun(size: int, *arguments: object, restarts: int = 0, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The launcher itself, as the README has it."""
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), "--max-restarts", str(restarts), "--master-port", "0"]
    line += ["--standalone", "-m", "snowmelt", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_one_two_and_four_processes_end_in_the_same_weights(
    recipe: Callable[[int], Path], command: Command, group: Callable[..., list[Any]], tmp_path: Path, figure: Figure
) -> None:
    path = recipe(640)
    assert command("train", path, "--out", tmp_path / "1").wait() == 0
    for size in (2, 4):
        ranks = group(size, "train", path, "--out", tmp_path / str(size))
        assert [rank.wait() for rank in ranks] == [0] * size, [rank.stderr() for rank in ranks]
        assert "the model is in" in ranks[0].stdout()
        assert all(rank.stdout() == "" for rank in ranks[1:])
        assert all("images" not in rank.stderr() for rank in ranks[1:])  # one speaks for all
    found = {size: digest(tmp_path / str(size)) for size in (1, 2, 4)}
    assert len(set(found.values())) == 1, found
    logs = [[(line["step"], line.get("loss"), line.get("validation_loss")) for line in history(tmp_path / str(size))] for size in (1, 2, 4)]
    assert logs[0] == logs[1] == logs[2]
    figure("resume-processes", f"1, 2 and 4 processes: the same weights, average and moments, sha256 {found[1][:12]}")


def test_a_run_moves_between_one_two_and_four_processes(
    recipe: Callable[[int], Path], command: Command, group: Callable[..., list[Any]], state: State, tmp_path: Path, figure: Figure
) -> None:
    path = recipe(960)
    assert command("train", path, "--out", tmp_path / "whole").wait() == 0
    out = tmp_path / "moved"
    for size, steps in ((1, 5), (2, 12), (4, 21)):
        kill = f"from snowmelt.training.loop import Trainer\nfrom snowmelt.training import loop\n{_STOP.format(steps=steps)}"
        before = {rank: kill for rank in range(size)}
        ranks = group(size, "train", path, "--out", out, before=before) if size > 1 else [command("train", path, "--out", out, before=kill)]
        assert [rank.wait() for rank in ranks] == [130] * size, [rank.stderr() for rank in ranks]
        assert "the same command goes on from there" in ranks[0].stderr()
    assert command("train", path, "--out", out).wait() == 0
    assert state(out) == state(tmp_path / "whole")
    figure("resume-moves", f"stopped and gone on with 1, 2, 4 and 1 processes: model, log and checkpoint of one, sha256 {digest(out)[:12]}")


_STOP = """
inner = Trainer._advance
def advance(self, bar):
    out = inner(self, bar)
    if self.step == {steps} and self.process.first:
        self._asked.set()
    return out
Trainer._advance = advance
"""


@pytest.mark.timeout(1200)  # torchrun imports torch five times
def test_under_torchrun_a_killed_process_is_started_again_and_the_weights_are_the_same(
    recipe: Callable[[int], Path], command: Command, tmp_path: Path, rounds: Rounds, figure: Figure
) -> None:
    count, path = rounds(1, 6), recipe(1920)
    assert command("train", path, "--out", tmp_path / "whole").wait() == 0
    for i in range(count):
        (tmp_path / str(i)).mkdir()
        # One restart, so that the processes have to find each other again at the first attempt.
        launcher = torchrun(2, "train", path, "--out", tmp_path / str(i) / "run", "--plugin", plugin(tmp_path / str(i)), restarts=1)
        _, errors = launcher.communicate(timeout=800)
        assert launcher.returncode == 0, errors[-3000:]
        assert (tmp_path / str(i) / "killed-1").exists()
        assert "exitcode: -9" in errors
        assert digest(tmp_path / str(i) / "run") == digest(tmp_path / "whole")
    figure("ranks-restart", f"torchrun --max-restarts 1, rank 1 killed with -9, {count} times: the same weights as one process undisturbed")


def plugin(folder: Path, *, again: bool = False) -> Path:
    """A plug-in in which rank 1 kills itself after its 23rd step, once or every time."""
    path = folder / "killing.py"
    path.write_text(
        f"""
import os, pathlib, signal
from snowmelt.training.loop import Trainer

mark = pathlib.Path({str(folder / "killed-1")!r})
inner = Trainer._advance


def advance(self, bar):
    out = inner(self, bar)
    if self.step == 23 and self.process.rank == 1 and ({again} or not mark.exists()):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return out


Trainer._advance = advance
"""
    )
    return path


def test_without_restarts_every_process_ends_soon_and_the_one_that_is_gone_is_named(
    recipe: Callable[[int], Path], group: Callable[..., list[Any]], tmp_path: Path, figure: Figure
) -> None:
    path = plugin(tmp_path, again=True)
    ranks = group(4, "train", recipe(9600), "--out", tmp_path / "run", "--plugin", path)
    assert ranks[1].wait() == -signal.SIGKILL
    begun = time.monotonic()
    assert [ranks[i].wait() for i in (0, 2, 3)] == [1, 1, 1]
    spent_s = time.monotonic() - begun
    assert spent_s < 30
    for i in (0, 2, 3):
        assert re.search(rf"rank 1 of 4 \(process {ranks[1].pid} on .*\) is gone", ranks[i].stderr()), ranks[i].stderr()[-2000:]
    assert not any(word in ranks[i].stderr() for i in (0, 2, 3) for word in ("Traceback", "terminate called"))
    figure("ranks-lost", f"rank 1 of 4 killed with -9: the others ended after {spent_s:.1f} s at most, and named it")


def test_processes_end_without_an_abort(
    recipe: Callable[[int], Path], group: Callable[..., list[Any]], tmp_path: Path, rounds: Rounds, figure: Figure
) -> None:
    count, path = rounds(5, 50), recipe(64)
    for i in range(count):
        ranks = group(2, "train", path, "--out", tmp_path / str(i))
        codes = [rank.wait() for rank in ranks]
        assert codes == [0, 0], [rank.stderr()[-2000:] for rank in ranks]
        assert not any("terminate" in rank.stderr() or "Warning" in rank.stderr() for rank in ranks)
    figure("ranks-exit", f"{count} jobs of two processes: {count} clean ends, 0 aborts")


def test_ctrl_c_stops_all_after_the_same_step(
    recipe: Callable[[int], Path], command: Command, group: Callable[..., list[Any]], state: State, tmp_path: Path
) -> None:
    path = recipe(1920)
    assert command("train", path, "--out", tmp_path / "whole").wait() == 0
    ranks = group(2, "train", path, "--out", tmp_path / "parts", before={1: held(20)})
    while not (tmp_path / "parts" / "checkpoint-000000000005.json").exists():
        assert all(rank.running for rank in ranks), [rank.stderr() for rank in ranks]
        time.sleep(0.01)
    ranks[1].kill(signal.SIGTERM)  # it is enough that one of them is asked
    assert [rank.wait() for rank in ranks] == [130, 130], [rank.stderr() for rank in ranks]
    assert "stopped after" in ranks[0].stderr()
    assert command("train", path, "--out", tmp_path / "parts").wait() == 0
    assert state(tmp_path / "parts") == state(tmp_path / "whole")


def test_a_wish_within_a_validation_stops_all_and_the_validation_is_made_up_for(
    recipe: Callable[[int], Path], command: Command, group: Callable[..., list[Any]], state: State, tmp_path: Path
) -> None:
    path = recipe(640)
    assert command("train", path, "--out", tmp_path / "whole").wait() == 0
    for step in (0, 10, 20):  # before the first, in the midst, after the last
        out = tmp_path / str(step)
        ranks = group(2, "train", path, "--out", out, before={0: WISHING.format(step=step)})
        assert [rank.wait() for rank in ranks] == [130, 130], (step, [rank.stderr() for rank in ranks])
        assert f"stopped after {32 * step:,} of 640 images" in ranks[0].stderr()
        assert not [line for line in history(out) if "validation_loss" in line and line["step"] == step]
        ranks = group(2, "train", path, "--out", out)
        assert [rank.wait() for rank in ranks] == [0, 0], (step, [rank.stderr() for rank in ranks])
        assert state(out) == state(tmp_path / "whole"), step


def test_processes_that_cannot_share_the_work_are_told_so(recipe: Callable[[int], Path], group: Callable[..., list[Any]], tmp_path: Path) -> None:
    ranks = group(3, "train", recipe(64), "--out", tmp_path / "run")
    assert [rank.wait() for rank in ranks] == [2, 2, 2]
    assert "3 processes cannot share the 4 shards of a batch evenly" in ranks[0].stderr()
    assert not (tmp_path / "run").exists()
    ranks = group(2, "describe", "unet")
    assert [rank.wait() for rank in ranks] == [2, 2]
    assert "snowmelt describe cannot be shared by 2 processes: start it without torchrun" in ranks[0].stderr()


def test_directories_that_are_not_one_are_found_out(
    recipe: Callable[[int], Path], group: Callable[..., list[Any]], tmp_path: Path, command: Command
) -> None:
    path = recipe(640)
    away = {1: "import snowmelt.training.checkpoint as c\nc.load = lambda *a, **k: None"}  # as if another disk were there
    assert command("train", path, "--out", tmp_path / "run").wait() == 0
    ranks = group(2, "train", path, "--out", tmp_path / "run", before=away)
    assert [rank.wait() for rank in ranks] == [2, 2]
    assert "rank 1 finds" in ranks[0].stderr()
    assert "at step 0, rank 0 at step 20" in ranks[0].stderr()


def test_processes_that_begin_with_other_weights_are_found_out(
    recipe: Callable[[int], Path], group: Callable[..., list[Any]], tmp_path: Path
) -> None:
    other = {1: "import torch\ntorch.manual_seed = lambda seed: torch.default_generator.manual_seed(seed + 1)"}
    ranks = group(2, "train", recipe(64), "--out", tmp_path / "run", before=other)
    assert [rank.wait() for rank in ranks] == [2, 2]
    assert all("rank 1 begins with other weights than rank 0" in rank.stderr() for rank in ranks)
