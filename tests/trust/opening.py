"""A process that opens what strangers sent, and tells what happened: a line of JSON for every line of JSON on its standard input.

It has everything imported and opens a sound one of each kind before the cases of a line. Then for each case: what was raised, seconds of processor
and of wall, the growth of memory at its peak, and every event of Python's audit hooks that a mere reader has no business with: imports and code from
the stranger's directory, processes, pickles, sockets, and files opened for writing, moved or removed anywhere. It ends with its input.
"""

import ctypes
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import snowmelt.cli
from snowmelt import model, registry
from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.evaluation import Report
from snowmelt.files import BadFile, read_tensors
from snowmelt.interop import from_diffusers
from snowmelt.metrics.features import load_features
from snowmelt.recipes.recipe import from_table
from snowmelt.recipes.recipe import load as load_recipe
from snowmelt.recipes.run import make_model
from snowmelt.restoration.journal import Journal
from snowmelt.training import history
from snowmelt.training.classifier import load_classifier

torch.set_num_threads(1)
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn", "os.startfile", "subprocess.Popen", "pty.spawn",
             "pickle.find_class", "marshal.loads", "code.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request",
             "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.putenv",
             "shutil.", "tempfile.", "ctypes.", "sys.setprofile", "sys.settrace", "builtins.input", "webbrowser.")  # fmt: skip
MEMORY = 6 * 2**30
TRIM = getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: 0)  # of glibc alone
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
watched: list[str] = []
place = ""


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    if not place:
        return
    if event.startswith(FORBIDDEN):
        watched.append(f"{event}{arguments[:2]!r:.200}")
    elif event == "open":
        path, mode, flags = arguments
        if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITING):
            watched.append(f"open for writing {path!r:.200}")
        elif isinstance(path, str) and path.startswith("/etc"):
            watched.append(f"open {path!r:.200}")
    elif event == "exec" and str(getattr(arguments[0], "co_filename", "")).startswith(place):
        watched.append(f"exec {arguments[0]!r:.200}")
    elif event == "import" and (str(arguments[0]).startswith("evil") or str(arguments[1] or "").startswith(place)):
        watched.append(f"import {arguments[0]}")


def recipe(path: Path) -> None:
    made = from_table(load_recipe(path), where=str(path))
    for spec in (*made.evaluation.samplers, *made.evaluation.generators):
        registry.build(spec, "sampler")
    make_model(made, (1, 8, 8))


def journal(path: Path) -> None:
    Journal(path, (1, 1), {})
    history.read(path)


def slow(path: Path) -> None:
    end = time.process_time() + 1.5
    while time.process_time() < end:
        pass


OPEN: dict[str, Callable[[Path], object]] = {
    "model": model.load,
    "part": lambda path: model.load(path / "noise"),
    "recipe": recipe,
    "diffusers": from_diffusers,
    "features": load_features,
    "classifier": load_classifier,
    "tensors": read_tensors,
    "report": Report.read,
    "journal": journal,
    "data": lambda path: open_data(DataOptions(path=str(path)), "train"),
    # What no reader does, to see that it would be seen.
    "hungry": lambda path: b"x" * 150_000_000,
    "slow": slow,
    "running": lambda path: os.system("true"),
    "writing": lambda path: Path(os.devnull).write_text(""),
}


def peak(*, afresh: bool = False) -> int:
    """The most bytes held since that was last asked afresh. Not what getrusage says: that is never less than a parent held who forked."""
    if afresh:
        gc.collect()
        TRIM(0)  # what a case before has used and let go of would be used again, unseen
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def opened(kind: str, path: Path) -> dict[str, Any]:
    global place
    watched.clear()
    before, modules, wall, cpu, raised, said = peak(afresh=True), set(sys.modules), time.perf_counter(), time.process_time(), "", ""
    place = str(path)
    try:
        OPEN[kind](path)
    except BaseException as error:
        place = ""
        raised, said = type(error).__name__, str(error)
        if not isinstance(error, (BadFile, registry.SpecError, FileNotFoundError)) and type(error) is not ValueError:
            raised = f"UNEXPECTED {raised}"
    place = ""
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    strange = [name for name in set(sys.modules) - modules if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(path))]
    return {
        "raised": raised, "said": said, "cpu_s": cpu, "wall_s": wall, "bytes": peak() - before, "events": [*watched, *strange],
    }  # fmt: skip


def main() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # what asks for terabytes and is not refused must not take the machine
    opened("recipe", Path("no such recipe"))  # what is imported for messages is, before anybody listens
    sys.path.insert(0, "")
    sys.addaudithook(listen)
    assert snowmelt.cli
    for line in sys.stdin:
        asked, out = json.loads(line), []
        for kind, path in asked["sound"]:
            found = opened(kind, Path(path))
            if found["raised"]:
                raise SystemExit(f"a sound {kind} was refused: {found['said']}")
        gc.collect()
        gc.freeze()  # so that tidying up before each case takes no time
        for name, kind, path in asked["cases"]:
            os.chdir(path if os.path.isdir(path) else os.path.dirname(path))
            out.append({"name": name, "kind": kind, "path": path, **opened(kind, Path(path))})
        os.chdir("/")
        print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
