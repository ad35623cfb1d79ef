"""``snowmelt doctor``: what is installed, what is fast, what is missing, and what mends it."""

import dataclasses
from collections.abc import Sequence
from json import dumps

from rich.console import Console
from rich.table import Table
from rich.text import Text

from snowmelt.cli.errors import FAILED
from snowmelt.cli.health import Finding, found
from snowmelt.cli.machine import Switch
from snowmelt.cli.speaking import shown

_TITLES = {"installed": "Installed", "extra": "Extras", "fast": "This machine", "plug-in": "Plug-ins", "model": "Models in the package"}
_SIGNS = {"good": ("ok", "green"), "missing": ("-", "yellow"), "broken": ("!!", "bold red")}


def doctor(*, json: Switch = False) -> int:
    """Look whether all is well: what is installed, what this machine does fast, what is missing and how to get it.

    The exit code is 0 unless something is broken that snowmelt needs.

    Args:
        json: print it as JSON.
    """
    findings = list(found())
    broken = any(one.state == "broken" for one in findings)
    if json:
        print(dumps({"well": not broken, "findings": [dataclasses.asdict(one) for one in findings]}, indent=2))
    else:
        _print(findings)
    return FAILED if broken else 0


def _print(findings: Sequence[Finding]) -> None:
    console = Console()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    group = ""
    for one in findings:
        if one.group != group:
            if group:
                table.add_row()
            table.add_row("", Text(_TITLES[one.group], style="bold"))
            group = one.group
        sign, style = _SIGNS[one.state]
        table.add_row(Text(sign, style=style), Text(shown(one.name), style="cyan"), Text(shown(one.says)))
    console.print(table)
    console.print(Text("\n" + shown("\n".join(_advice(findings)))), soft_wrap=True)


def _advice(findings: Sequence[Finding]) -> list[str]:
    """What to do, the most pressing first."""
    broken = [one for one in findings if one.state == "broken"]
    if broken:
        return ["Not well. This mends it:", *(f"  {mend}" for mend in dict.fromkeys(one.mend for one in broken))]
    extras = [one.name for one in findings if one.group == "extra" and one.state == "missing"]
    others = dict.fromkeys(one.mend for one in findings if one.group != "extra" and one.state == "missing")
    lines = ["All is well: snowmelt has what it needs."]
    if extras:
        lines.append(f'For what is marked "-", if you want it:  pip install "snowmelt[{",".join(extras)}]"')
    return lines + [f"  {mend}" for mend in others]
