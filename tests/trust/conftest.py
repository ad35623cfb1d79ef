"""Whole commands, as processes that can be signalled and killed (zygote.py says how they start in milliseconds)."""

import contextlib
import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snowmelt.training import checkpoint

_START_S = 120.0
NET = ("--model.backbone", "unet:widths=(8,16),patch=2,groups=4,blocks=1", "--training.precision", "fp32", "--training.batch", "16")
TRAIN = ("--data", "bundled:digits", "--degradation", "noise", *NET, "--images", "32", "--data.size", "8", "--training.validation_images", "16")
_TIMES = {"wall_s", "images_per_s", "waiting"}


class Child:
    """A command of snowmelt that runs, or has ended.

    Attributes:
        pid: the process; it leads its own session and process group.
    """

    def __init__(self, zygote: "Zygote", pid: int, files: tuple[Path, Path]) -> None:
        self.pid, self._zygote, self._files = pid, zygote, files

    @property
    def running(self) -> bool:
        self._zygote.listen(0)
        return self.pid not in self._zygote.codes

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; nothing if it has ended."""
        if self.running:
            os.kill(self.pid, number)

    def freeze(self) -> bool:
        """Hold it where it is, with all its threads, until it is killed or told to go on (SIGCONT); whether it still lived."""
        self.kill(signal.SIGSTOP)
        while self.running:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends, or the process
                tasks = [(one / "stat").read_text() for one in Path(f"/proc/{self.pid}/task").iterdir()]
                if tasks and all(said.rpartition(")")[2].split()[0] == "T" for said in tasks):
                    return True
        return False

    def wait(self, timeout: float = 240) -> int:
        """The exit code, as subprocess has it: minus the signal's number for a killed one.

        Raises:
            TimeoutError: it still runs; it is killed first.
        """
        end = time.monotonic() + timeout
        while self.pid not in self._zygote.codes:
            if (left := end - time.monotonic()) <= 0:
                self.kill()
                said = f"{self._zygote.arguments[self.pid]} still ran after {timeout:g} s"
                raise TimeoutError(f"{said}\n{self.stdout()[-2000:]}\n{self.stderr()[-2000:]}")
            self._zygote.listen(left)
        return self._zygote.codes[self.pid]

    def stdout(self) -> str:
        return self._files[0].read_text(encoding="utf-8", errors="replace")

    def stderr(self) -> str:
        return self._files[1].read_text(encoding="utf-8", errors="replace")


class Zygote:
    """The process that forks the commands, seen from here."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.codes, self.arguments = folder, dict[int, int](), dict[int, list[str]]()
        self._began: list[int] = []
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        program = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(theirs.fileno())]
        self._process = subprocess.Popen(program, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env={**os.environ, **threads})
        theirs.close()
        self._line.settimeout(_START_S)
        if "ready" not in json.loads(self._line.recv(1 << 16) or b"{}"):
            raise RuntimeError("the process that forks commands did not start")

    def start(self, arguments: list[str], *, env: dict[str, str | None], cwd: Path, before: str) -> Child:
        number = len(self.arguments)
        files = (self.folder / f"{number}.out", self.folder / f"{number}.err")
        for file in files:
            file.touch()
        asked = {"arguments": arguments, "env": env, "cwd": str(cwd), "before": before, "stdout": str(files[0]), "stderr": str(files[1])}
        self._line.send(json.dumps(asked).encode())
        while not self._began:
            self.listen(_START_S)
        pid = self._began.pop()
        self.codes.pop(pid, None)  # the system gives the numbers of the dead away again
        self.arguments[pid] = arguments
        return Child(self, pid, files)

    def listen(self, timeout: float) -> None:
        """Take in one message, if one comes in time; without any time, all that are there."""
        self._line.settimeout(max(timeout, 0.0))
        try:
            while True:
                message = self._line.recv(1 << 16)
                if not message:
                    raise RuntimeError("the process that forks commands is gone")
                said = json.loads(message)
                if "began" in said:
                    self._began.append(said["began"])
                else:
                    self.codes[said["ended"]] = said["code"]
                if timeout:
                    return
        except (TimeoutError, BlockingIOError):
            return

    def close(self) -> None:
        self._line.close()
        self._process.wait(30)


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    if sys.platform != "linux":
        pytest.skip("commands are forked on Linux only")
    made = Zygote(tmp_path_factory.mktemp("commands"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """free_port() -> one on which nobody listens.

    It is bound by another process only later. So it is none of those that the system gives to whoever asks for any, and none that another process of
    these tests (pytest-xdist runs several) is given here.
    """
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = itertools.cycle(range(20_000 + 1000 * (number % 12), 21_000 + 1000 * (number % 12)))

    def found() -> int:
        for port in itertools.islice(ports, 1000):
            with socket.socket() as place, contextlib.suppress(OSError):  # somebody listens there
                place.bind(("127.0.0.1", port))
                return port
        raise OSError("a thousand ports are all taken")

    return found


@pytest.fixture(scope="session")
def run(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 8 x 8 digits in noise that knows next to nothing; nobody writes to it."""
    place = tmp_path_factory.mktemp("trained")
    child = zygote.start(["train", *TRAIN, "--out", str(place / "run")], env={}, cwd=place, before="")
    assert child.wait() == 0, child.stderr()
    return place / "run"


@pytest.fixture(scope="session")
def opener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[dict[str, Any]], list[dict[str, Any]]]]:
    """opener({"sound": [(kind, path)], "cases": [(name, kind, path)]}): what came of each case, in the one process of opening.py."""
    if sys.platform != "linux":
        pytest.skip("what a process does is measured as Linux does")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    program, said = [sys.executable, str(Path(__file__).with_name("opening.py"))], tmp_path_factory.mktemp("opener") / "stderr"
    with said.open("w") as errors:
        process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **threads})
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(asked: dict[str, Any]) -> list[dict[str, Any]]:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"the process that opens files ended: {process.wait(10)}\n{said.read_text()[-3000:]}"
        found: list[dict[str, Any]] = json.loads(line)
        return found

    yield ask
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.fixture
def command(zygote: Zygote, tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """command("train", recipe, "--out", run, env={}, cwd=tmp_path, before="") -> Child: a command of snowmelt in a process of its own, begun.

    It has `env` on top of this process's environment (None takes a variable away; what the interpreter reads as it starts, such as the locale,
    cannot be changed here), and executes the Python of `before` first. What still runs at the end of the test is killed.
    """
    children = []

    def start(*arguments: object, env: dict[str, str | None] | None = None, cwd: Path = tmp_path, before: str = "") -> Child:
        children.append(zygote.start([str(a) for a in arguments], env=env or {}, cwd=cwd, before=before))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait(10)


@pytest.fixture
def state() -> Callable[[Path], dict[str, Any]]:
    """state(run): all that a run has to show, but for times: the checkpoint's tensors, the model and the best one with their notes, pictures, log."""

    def shown(run: Path) -> dict[str, Any]:
        found: dict[str, Any] = {"checkpoint": checkpoint.digest(run)}
        for path in (one for folder in (run, run / "best", run / "samples") for one in folder.glob("*.*")):
            name = str(path.relative_to(run))
            if path.name == "model.json":
                found[name] = json.loads(path.read_text())
                del found[name]["seal"], found[name]["notes"]["trained_with"]  # the day, the commit
            elif path.suffix in (".safetensors", ".png") and not name.startswith("checkpoint"):
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        found["metrics"] = [{name: value for name, value in line.items() if name not in _TIMES} for line in lines]
        return found

    return shown
