"""The command line: ``snowmelt VERB ...``, one small module for each job.

Three rules hold for every verb. What it says on a bad day is one line that names the way out, and an exit code: 2 for
input that cannot be used, 1 for work that failed, 130 for Ctrl-C. What it writes is whole or not there. And nothing
imports torch before a verb needs it, so that ``--help`` answers at once.
"""

import sys
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError

from snowmelt._version import __version__
from snowmelt.cli import (
    check,
    classifier,
    degrade,
    edit,
    exchange,
    explain,
    features,
    parts,
    restore,
    sample,
    score,
    solve,
    suggest,
    train,
    translate,
    tune,
)
from snowmelt.cli.errors import report

__all__ = ["app", "main"]

app = App(
    name="snowmelt",
    help="Undo any degradation: train a restorer for it, then restore, generate and evaluate.",
    help_epilogue="A spec is a name and its fields: gaussian-blur:sigma_px=8. 'snowmelt describe NAME' lists them.",
    help_format="plaintext",
    version=__version__,
    result_action="return_value",
)
_VERBS: dict[str, Callable[..., int | None]] = {
    "list": parts.list_parts,
    "describe": parts.describe,
    "explain": explain.explain,
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
    "train-features": features.train_features,
    "train-classifier": classifier.train_classifier,
    "export": exchange.export,
    "import": exchange.import_,
    "demo": score.demo,
}
for _order, (_name, _verb) in enumerate(_VERBS.items()):
    app.command(_verb, name=_name, sort_key=_order)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows ``snowmelt``; by default those of the process.

    Returns:
        The exit code.
    """
    try:
        code = app(sys.argv[1:] if arguments is None else list(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        return report(error, usage=isinstance(error, CycloptsError))
    return code if isinstance(code, int) else 0
