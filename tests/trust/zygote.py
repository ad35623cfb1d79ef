"""Commands of snowmelt without its start: a process that has imported everything once, and becomes a new command by fork.

Importing torch takes seconds, and a test that kills a training twenty-five times would spend its time there. What is forked is a process like any
other: it has its own session and its own pid, signals reach it as they reach any other, and it ends as the interpreter ends. Run by
``tests/trust/conftest.py``, which sends one JSON message for a command and gets one when it has begun and one when it has ended. It ends with
whoever started it, and takes its children along.
"""

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from typing import Any

_MOST = 1 << 20  # bytes of a message
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


def die_with_parent() -> None:
    """Be killed when the parent is gone, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


def warm() -> None:
    """Import what the commands need, without any thread, for threads do not outlive a fork."""
    import torch

    torch.set_num_threads(1)
    import sklearn.datasets

    import snowmelt.cli
    import snowmelt.recipes.run
    import snowmelt.restoration
    from snowmelt import registry

    registry.kinds()
    sklearn.datasets.load_digits()
    assert snowmelt.cli
    gc.collect()
    gc.freeze()  # so that a child does not tidy up what it has not made


def serve(line: socket.socket) -> dict[str, Any] | None:
    """Start what is asked for; in the new process the question, in this one None at the end."""
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us; the children hear it again
    running = set[int]()
    line.send(json.dumps({"ready": os.getpid()}).encode())
    while True:
        ready, _, _ = select.select([line, wake], [], [])
        if wake in ready:
            os.read(wake, 1 << 16)
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                running.discard(ended[0])
                line.send(json.dumps({"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])}).encode())
        if line in ready:
            asked = line.recv(_MOST)
            if not asked:
                for pid in running:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                return None
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                os.close(wake)
                os.close(woken)
                return json.loads(asked)  # type: ignore[no-any-return]
            running.add(pid)


def become(asked: dict[str, Any]) -> None:
    """Be the process that was asked for, up to its first line of Python."""
    import torch

    os.setsid()
    die_with_parent()
    torch.set_num_threads(1)  # a forked torch makes its thread pool anew in whatever thread asks first, and a second that asks meanwhile gets none
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["cwd"])
    for name, value in asked["env"].items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    for number, path, how in ((0, os.devnull, os.O_RDONLY), (1, asked["stdout"], os.O_WRONLY), (2, asked["stderr"], os.O_WRONLY)):
        file = os.open(path, how | (os.O_CREAT | os.O_APPEND if how else 0), 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["snowmelt", *asked["arguments"]]


def main() -> int:
    """Serve; in each child, run the command."""
    line = socket.socket(fileno=int(sys.argv[1]))
    warm()
    asked = serve(line)
    if asked is None:
        return 0
    become(asked)
    line.send(json.dumps({"began": os.getpid()}).encode())  # from here on signals do what they do to a command
    line.close()
    if asked["before"]:
        exec(compile(asked["before"], "before", "exec"), {"__name__": "before"})
    from snowmelt.cli import main as command

    return command()  # of sys.argv, as the command itself does


if __name__ == "__main__":
    sys.exit(main())
