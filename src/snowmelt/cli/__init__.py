"""The command line: ``snowmelt VERB ...``, one small module for each job.

Three rules hold for every verb. What it says on a bad day is one line that names the way out, and an exit code: 2 for
input that cannot be used, 1 for work that failed, 130 for Ctrl-C. What it writes is whole or not there. And nothing
imports torch before a verb needs it, so that ``--help`` answers at once.

Under torchrun the processes of a group run one command together. The first one speaks for all; the others say only what went wrong with them.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from cyclopts import App, CycloptsError

from snowmelt import processes
from snowmelt._version import __version__
from snowmelt.cli import (
    check,
    cite,
    classifier,
    degrade,
    doctor,
    edit,
    errors,
    exchange,
    explain,
    features,
    parts,
    report,
    restore,
    sample,
    score,
    solve,
    studio,
    suggest,
    train,
    translate,
    tune,
)
from snowmelt.cli.speaking import speak
from snowmelt.stopping import Stopped

__all__ = ["app", "main"]

app = App(
    name="snowmelt",
    help="Undo any degradation: train a restorer for it, then restore, generate and evaluate.",
    help_epilogue="A spec is a name and its fields: gaussian-blur:sigma_px=8. 'snowmelt describe NAME' lists them.",
    help_format="plaintext",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # or nothing would be said of it
)
_VERBS: dict[str, Callable[..., int | None]] = {
    "list": parts.list_parts,
    "describe": parts.describe,
    "explain": explain.explain,
    "cite": cite.cite,
    "degrade": degrade.degrade,
    "check-degradation": check.check_degradation,
    "suggest-schedule": suggest.suggest_schedule,
    "train": train.train,
    "tune": tune.tune,
    "restore": restore.restore,
    "sample": sample.sample,
    "translate": translate.translate,
    "edit": edit.edit,
    "solve": solve.solve,
    "evaluate": score.evaluate,
    "report": report.report,
    "train-features": features.train_features,
    "train-classifier": classifier.train_classifier,
    "export": exchange.export,
    "import": exchange.import_,
    "studio": studio.studio,
    "demo": score.demo,
    "doctor": doctor.doctor,
}
_MOMENT_S = 1.0
_SHARED = ("train", "tune", "restore", "sample", "translate", "evaluate")
for _order, (_name, _verb) in enumerate(_VERBS.items()):
    app.command(_verb, name=_name, sort_key=_order)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows ``snowmelt``; by default those of the process.

    Returns:
        The exit code.
    """
    speak()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with _interruptible(ends=arguments is None), _together(given):
            code = app(given, exit_on_error=False, print_error=False)
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return errors.report(error, usage=isinstance(error, CycloptsError))
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _interruptible(*, ends: bool) -> Iterator[None]:
    """While this lasts, SIGTERM ends what is under way as Ctrl-C does: with what is done kept, and nothing half written.

    What goes wrong within a moment of a signal is the signal's doing: native code that it breaks into may say anything (torch, that it cannot tell
    the shape of a storage). Where the process `ends` with the command, a signal that comes while it leaves changes nothing any more.
    """
    heard = list[float]()

    def interrupt(number: int, frame: FrameType | None) -> None:
        heard.append(time.monotonic())
        raise KeyboardInterrupt

    try:
        before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    except ValueError:  # not in the main thread, to which signals go
        yield
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        broken = bool(heard) and time.monotonic() - heard[-1] < _MOMENT_S
        if ends and (broken or isinstance(error, KeyboardInterrupt | Stopped)):
            before = dict.fromkeys(before, signal.SIG_IGN)
        if broken and not isinstance(error, KeyboardInterrupt | Stopped):
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _together(arguments: Sequence[str]) -> Iterator[None]:
    """While this lasts, the processes that torchrun has started know each other, and the first one speaks.

    Raises:
        ValueError: the verb is none that processes can share.
    """
    process = processes.here()
    if process.alone:
        yield
        return
    verb = next((word for word in arguments if not word.startswith("-")), "")
    if verb not in _SHARED:
        raise ValueError(f"snowmelt {verb} cannot be shared by {process.size} processes: start it without torchrun ({', '.join(_SHARED)} can)")
    with processes.joined(), contextlib.ExitStack() as stack:
        if not process.first:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        yield
