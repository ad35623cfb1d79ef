"""``snowmelt check-degradation``: is a degradation sound, and what is it good for? In words, and in an exit code."""

import textwrap
from json import dumps
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from snowmelt.cli.errors import FAILED
from snowmelt.cli.machine import Plugins, Switch, plug_in

if TYPE_CHECKING:
    from snowmelt.testing import Finding

_MARKS = {True: ("ok", "green"), False: ("FAIL", "bold red"), None: ("-", "dim")}
_TITLES = {
    "accepts": "pictures",
    "keeps_shape": "shape",
    "pure": "nothing changed in place",
    "hidden_randomness": "no hidden randomness",
    "identity": "identity at t = 0",
    "finite": "finite",
    "rows_independent": "no leaks between samples",
    "one_severity": "one severity for all",
    "changes": "change",
    "draws": "draws without looking",
    "oracle_exact": "a way back",
    "recovers": "recover",
    "affine": "linear",
    "adjoint": "adjoint",
    "diagonal": "diagonal",
    "inverse": "inverse",
    "round_trips": "a plain value",
    "monotone": "more severe, less left",
    "end": "what is left at t = 1",
    "forgives": "errors of the restorer",
}
_WIDTH = 100


def check_degradation(what: str, /, *, json: Switch = False, plugin: Plugins = ()) -> int:
    """Check a degradation: what it promises, what it loses, what a model of it could do.

    Exit code 0: every check that applies has passed. 1: one has failed. 2: there is nothing to check.

    Args:
        what: a spec such as gaussian-blur:sigma_px=8, or a plug-in file of your own: then every degradation in it is checked.
        json: print the findings as JSON.
        plugin: parts of your own.
    """
    specs = _specs(what, plugin)
    from snowmelt import registry
    from snowmelt.testing import examine

    parts = [registry.build(text) for text in specs]
    found = {registry.spec(part): examine(part) for part in parts}
    if json:
        print(_json(found))
    else:
        console = Console()
        for text, findings in found.items():
            _print(console, text, findings)
    return FAILED if any(f.passed is False for findings in found.values() for f in findings) else 0


def _specs(what: str, plugin: tuple[str, ...]) -> list[str]:
    """What is to be checked, as specs; of a plug-in file, every degradation that it registers."""
    if not what.endswith(".py"):
        plug_in(plugin)
        return [what]
    plug_in((*plugin, what))
    from snowmelt import registry

    module = registry.load_plugin(what).__name__
    mine = [name for name in registry.names("degradation") if registry.lookup(name).__module__ == module]
    if not mine:
        raise ValueError(f"{what} registers no degradation: decorate a subclass of Degradation with @register('a-name')")
    for name in mine:
        needed = [field.name for field in registry.schema(name) if field.required]
        if needed:
            raise ValueError(f"{name} needs {', '.join(needed)}: give it as a spec, snowmelt check-degradation '{name}:...' --plugin {what}")
    return mine


def _json(found: "dict[str, list[Finding]]") -> str:
    rows: list[dict[str, Any]] = []
    for text, findings in found.items():
        listed = [{**vars(f), "measured": dict(f.measured)} for f in findings]
        rows.append({"degradation": text, "passed": all(f.passed is not False for f in findings), "findings": listed})
    return dumps(rows, indent=2)


def _print(console: Console, text: str, findings: "list[Finding]") -> None:
    console.print(Text(f"\n{text}\n", style="bold cyan"), soft_wrap=True)
    quiet: dict[str, list[str]] = {"wait": [], "other": []}
    for f in findings:
        title = _TITLES.get(f.name, f.name)
        if f.passed is None and not f.advice:
            quiet["wait" if f.waits else "other"].append(title)
            continue
        mark, style = _MARKS[f.passed]
        line = Text(f"{mark:>4}  ", style=style)
        line.append(title, style="bold")
        console.print(line, soft_wrap=True)
        _paragraph(console, f.checked, "dim")
        _paragraph(console, f"Seen: {f.seen}", "red" if f.passed is False else "")
        _paragraph(console, f"To do: {f.advice}" if f.advice else "", "yellow")
    _paragraph(console, f"Claims that it does not make, nor has to: {', '.join(quiet['other'])}." if quiet["other"] else "", "dim")
    _paragraph(console, f"Not judged before the above is mended: {', '.join(quiet['wait'])}." if quiet["wait"] else "", "dim")
    passed, failed = (sum(f.passed is answer for f in findings) for answer in (True, False))
    rest = len(findings) - passed - failed
    console.print(Text(f"\n{passed} passed, {failed} failed, {rest} do not apply or wait", style="bold"), soft_wrap=True)


def _paragraph(console: Console, text: str, style: str) -> None:
    for line in textwrap.wrap(text, _WIDTH - 6, break_on_hyphens=False):
        console.print(Text(f"      {line}", style=style), soft_wrap=True)
