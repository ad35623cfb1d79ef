"""One writer for each directory: two processes at once, processes that were killed, other machines, folders that are not there."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snowmelt import locks
from snowmelt.locks import FILES, HOLDER, LOCK, InUse, locked

Figure = Callable[[str, str], None]

HOLDING = """
import signal, sys, time
from snowmelt.locks import locked
signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may have had it ignored
with locked(sys.argv[1]):
    print("held", flush=True)
    for _ in range(6000):  # a signal that comes right before a sleep is heard after it
        time.sleep(0.01)
"""
# For so many seconds, and until somebody was refused: processes that a busy machine lets run one after the other have not met yet.
COUNTING = """
import os, sys, time
from snowmelt.locks import InUse, locked
folder, count, wins, refusals, enough = sys.argv[1], sys.argv[2], 0, 0, False
print("ready", flush=True)
sys.stdin.readline()  # until all are
over, never = (time.monotonic() + seconds for seconds in (float(sys.argv[3]), 120))
while time.monotonic() < over or (not enough and time.monotonic() < never):
    try:
        with locked(folder + "/run"):
            wins += 1
            before = int(open(count).read())
            time.sleep(0.0005)
            open(count, "w").write(str(before + 1))
            enough = before > 20 and os.path.exists(count + ".refused")
    except InUse as error:
        assert "process " in str(error) or "another process" in str(error), error
        refusals += 1
        open(count + ".refused", "w").close()
print(wins, refusals)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """holder(folder, **environment): another process that holds it; it is killed at the end."""
    started = []

    def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", HOLDING, str(folder)], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def test_the_second_of_two_processes_is_told_who_was_first(tmp_path: Path, holder: Callable[..., subprocess.Popen[str]], figure: Figure) -> None:
    run = tmp_path / "run"
    first = holder(run)
    who = rf"process {first.pid} on {re.escape(socket.gethostname())}"
    line = rf"{re.escape(str(run))} is in use: {who} has been training there since \d\d:\d\d; wait for it, or stop it"
    refused_s = 1e9
    for _ in range(5):  # the quickest: at any one of them the machine may have been elsewhere
        start = time.monotonic()
        with pytest.raises(InUse, match=f"^{line}$"), locked(run):
            pass
        refused_s = min(refused_s, time.monotonic() - start)
    assert refused_s < 1
    assert names(run) == {LOCK, HOLDER}  # the loser takes nothing away
    first.send_signal(signal.SIGINT)  # a clean end: its block is left
    first.wait(20)
    assert not run.exists()
    said: list[str] = []
    with locked(run, tell=said.append):
        assert not said
    figure("lock", f"a second process is refused in {refused_s:.2f} s with pid, host and time of the first; a clean end leaves no file")


def test_the_lock_of_a_killed_process_is_taken_over_with_a_line(tmp_path: Path, holder: Callable[..., subprocess.Popen[str]], figure: Figure) -> None:
    taken = 0
    for _ in range(3):
        first = holder(tmp_path)
        first.kill()
        first.wait(20)
        assert names(tmp_path) == {LOCK, HOLDER}
        said: list[str] = []
        with locked(tmp_path, what="tuning", tell=said.append):
            held = json.loads((tmp_path / HOLDER).read_text())
            assert (held["pid"], held["what"]) == (os.getpid(), "tuning")
        (line,) = said
        assert re.search(rf"process {first.pid} on .* was training there since \d\d:\d\d and is gone without a clean end; this process takes", line)
        assert names(tmp_path) == set()
        taken += 1
    figure("lock-stale", f"{taken} of 3 locks of processes killed with -9 taken over at once, each with a line that names the process")


def test_two_processes_never_hold_it_at_once(tmp_path: Path, figure: Figure) -> None:
    count = tmp_path / "count"
    count.write_text("0")
    command = [sys.executable, "-c", COUNTING, str(tmp_path), str(count), "1.5"]
    racing = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    done = [process.communicate()[0].split() for process in racing]
    wins, refusals = (sum(int(one[i]) for one in done) for i in (0, 1))
    assert int(count.read_text()) == wins > 20  # each added 1 to what it had read, while nobody else did
    assert refusals > 0
    assert names(tmp_path) <= {"count", "count.refused", "run"}
    assert not (tmp_path / "run").is_dir() or names(tmp_path / "run") == set()
    figure("lock-race", f"3 processes took one lock {wins:,} times and were refused {refusals:,} times: never two at once")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_who_is_killed_while_it_says_its_name_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    dying = "def dying(path, *given, **more):\n    path.open('w').close()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    code = HOLDING.replace("with locked(", f"import os, pathlib\n{dying}pathlib.Path.write_text = dying\nwith locked(", 1)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False).returncode == -signal.SIGKILL
    assert LOCK in names(tmp_path / "run") <= set(FILES)  # which a new training passes over: the directory is free
    with locked(tmp_path / "run"):
        assert names(tmp_path / "run") == {LOCK, HOLDER}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_outlives_a_killed_process_does_not_keep_its_lock(tmp_path: Path) -> None:
    code = HOLDING.replace("print(", "import os\n    if os.fork() == 0:\n        time.sleep(20)\n        os._exit(0)\n    print(")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait(20)
    process.stdout.close()
    said: list[str] = []
    for attempt in range(200):
        try:
            with locked(tmp_path, tell=said.append):
                break
        except InUse:  # the child has not run yet since it was forked
            assert attempt < 199
            time.sleep(0.05)
    assert len(said) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_leaves_the_block_takes_nothing_away(tmp_path: Path) -> None:
    parent = os.getpid()
    try:
        with locked(tmp_path):
            child = os.fork()
            if child == 0:
                raise SystemExit  # as a child does that was never told of the lock
            os.waitpid(child, 0)
            assert names(tmp_path) == {LOCK, HOLDER}
    except SystemExit:
        assert os.getpid() != parent
        os._exit(0)
    assert names(tmp_path) == set()


def left_by(folder: Path, age_s: float, **entries: object) -> None:
    """What a process of another machine has left, whose last sign of life is so old."""
    table = {"pid": 4711, "host": "elsewhere", "system": "another", "what": "training", "since": time.time() - 7 * 86400, **entries}
    (folder / HOLDER).write_text(json.dumps(table))
    os.utime(folder / HOLDER, (time.time() - age_s,) * 2)


def test_another_machine_that_gave_a_sign_of_life_is_not_driven_out(tmp_path: Path) -> None:
    left_by(tmp_path, 10)
    line = r"process 4711 on elsewhere has been training there since \d{4}-\d\d-\d\d \d\d:\d\d; .*; if it is gone, its lock lapses in 1[01]\d s, or"
    with pytest.raises(InUse, match=line), locked(tmp_path):
        pass
    assert names(tmp_path) == {HOLDER}
    left_by(tmp_path, 130)
    said: list[str] = []
    with locked(tmp_path, tell=said.append):
        assert "process 4711 on elsewhere was training there since" in said[0]
    assert names(tmp_path) == set()


@pytest.mark.parametrize("entries", [{"host": socket.gethostname()}, {"system": locks._system()}], ids=["rebooted", "container"])
def test_another_container_or_an_earlier_start_of_this_machine_is_gone_at_once(tmp_path: Path, entries: dict[str, object]) -> None:
    if entries == {"system": ""}:
        pytest.skip("this system has no number of its own")
    left_by(tmp_path, 1, **entries)
    with locked(tmp_path, tell=lambda line: None):
        pass


def test_machines_without_a_number_are_not_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_system", lambda: "")  # as on macOS and Windows
    left_by(tmp_path, 10, system="", job="")
    with pytest.raises(InUse, match="process 4711 on elsewhere"), locked(tmp_path):
        pass
    left_by(tmp_path, 10, system="", job="", host=socket.gethostname())
    with locked(tmp_path, tell=lambda line: None):
        pass


@pytest.mark.parametrize(("holder", "here", "taken"), [("41", "41", True), ("41", "42", False), ("none", "none", False), ("", "", False)])
def test_a_job_of_torchrun_that_begins_anew_on_another_machine_takes_over_from_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: str, here: str, taken: bool
) -> None:
    for job in (holder, here):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
        if job == holder:
            with locked(tmp_path):
                held = json.loads((tmp_path / HOLDER).read_text())
    left_by(tmp_path, 10, job=held["job"])
    if taken:
        with locked(tmp_path, tell=lambda line: None):
            pass
        return
    with pytest.raises(InUse, match="process 4711 on elsewhere"), locked(tmp_path):
        pass


def test_without_a_listener_the_log_tells_who_was_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_by(tmp_path, 130)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        pass
    assert [record.name for record in caplog.records] == ["snowmelt.locks"]
    assert "process 4711 on elsewhere was training there" in caplog.text


@pytest.mark.parametrize("waiting", [False, True], ids=["alone", "another has it open"])
def test_where_an_open_file_cannot_be_deleted_the_lock_is_let_go_of_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: bool) -> None:
    """As on Windows."""
    opened, unlink = set[str](), Path.unlink

    class Lock(locks.FileLock):
        def acquire(self, *arguments: object, **options: object) -> object:
            opened.add("us")
            return super().acquire(*arguments, **options)  # type: ignore[arg-type]

        def release(self, *arguments: object, **options: object) -> None:
            opened.discard("us")
            super().release(*arguments, **options)  # type: ignore[arg-type]

    def refusing(path: Path, missing_ok: bool = False) -> None:
        if path.name == LOCK and opened:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(locks, "FileLock", Lock)
    monkeypatch.setattr(locks, "_WINDOWS", True, raising=False)
    monkeypatch.setattr(Path, "unlink", refusing)
    with locked(tmp_path):
        if waiting:
            opened.add("another")
    assert names(tmp_path) == ({LOCK} if waiting else set())
    with locked(tmp_path, tell=lambda line: None):
        pass


def test_the_holder_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_BEAT_S", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / HOLDER, (0, 0))
        for _ in range(200):
            if (tmp_path / HOLDER).stat().st_mtime > 0:
                break
            time.sleep(0.02)
        assert time.time() - (tmp_path / HOLDER).stat().st_mtime < 60
    assert not [thread for thread in threading.enumerate() if thread.name == "lock"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'"\xff"', b"[" * 5000, b'{"pid": {}, "host": 3, "since": 1e400}', b'{"since": "yesterday"}'])
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path: Path, data: bytes) -> None:
    (tmp_path / HOLDER).write_bytes(data)
    with pytest.raises(InUse, match="another process has been working there"), locked(tmp_path):
        pass
    os.utime(tmp_path / HOLDER, (0, 0))
    said: list[str] = []
    with locked(tmp_path, tell=said.append):
        assert "another process was working there" in said[0]


def test_a_folder_that_was_not_there_goes_again_if_nothing_came_into_it(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "run"
    with locked(deep):
        assert names(deep) == {LOCK, HOLDER}
    assert names(tmp_path) == set()
    with locked(deep):
        (deep / "model.json").write_text("{}")
    assert names(deep) == {"model.json"}
    empty = tmp_path / "empty"
    empty.mkdir()
    with locked(empty):
        pass
    assert empty.is_dir()  # it was there before


def test_an_error_inside_leaves_no_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    assert names(tmp_path) == set()


def test_it_cannot_be_held_twice_by_one_process(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(InUse, match=f"process {os.getpid()} on"), locked(tmp_path):
            pass
        assert names(tmp_path) == {LOCK, HOLDER}


def test_a_folder_that_is_a_file_or_lies_in_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OSError, match=rf"cannot make {re.escape(str(folder))}: "), locked(folder):
            pass


def test_words_and_time_are_the_same_in_every_locale(tmp_path: Path, holder: Callable[..., subprocess.Popen[str]]) -> None:
    run = tmp_path / "運行 🏔"
    first = holder(run, LC_ALL="C", PYTHONUTF8="0")
    command = "import sys\nfrom snowmelt.locks import *\ntry:\n    with locked(sys.argv[1]): pass\n"
    command += "except InUse as error: sys.stdout.buffer.write(str(error).encode(errors='surrogateescape'))"
    for locale in ("C", "C.UTF-8", "de_DE.UTF-8"):
        done = subprocess.run([sys.executable, "-c", command, str(run)], capture_output=True, env={**os.environ, "LC_ALL": locale}, check=True)
        assert re.search(rf"運行 🏔 is in use: process {first.pid} on \S+ has been training there since \d\d:\d\d; wait", done.stdout.decode())


def test_a_folder_that_goes_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mkdir found it there, and when it looked what it was, its last user had taken it away."""
    place, make, tries = tmp_path / "run", Path.mkdir, []

    def vanishing(path: Path, *arguments: object, **keywords: object) -> None:
        tries.append(path)
        if len(tries) == 1:
            raise FileExistsError(17, "File exists")
        make(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "mkdir", vanishing)
    with locked(place):
        assert place.is_dir()
    assert len(tries) > 1
