"""How long it takes until something happens: importing snowmelt, and `snowmelt --help`."""

import subprocess
import sys

from contest import Row, middle, spread
from timing import over, seconds

TITLE = "Starting"
ABOUT = (
    "Processes from start to end, in turn. The ratio is how many times as long `import torch` alone takes in the same run; the column "
    "*times an empty Python* is the time over "
    "that of `python -c pass`. Wanted: at most 0.5 s."
)
LIMIT_S = 0.5
WAYS = {
    "python -c pass": ("-c", "pass"),
    "import torch": ("-c", "import torch"),
    "import snowmelt": ("-c", "import snowmelt"),
    "snowmelt --help": ("-m", "snowmelt", "--help"),
    "snowmelt train --help": ("-m", "snowmelt", "train", "--help"),
}


def measure(*, runs: int, quick: bool) -> list[Row]:
    """A row for each start of ours."""
    names = [name for name in WAYS if not (quick and "train" in name)]
    times = seconds({name: lambda name=name: _run(*WAYS[name]) for name in names}, runs=runs, least_s=0.0, warm=not quick)
    return [_row(name, times) for name in names]


def _row(name: str, times: dict[str, list[float]]) -> Row:
    empty = over(times[name], times["python -c pass"])
    found = {"what": name, "s": middle(times[name]), "times an empty Python": empty.median}
    wanted = {"limit_s": LIMIT_S} if "snowmelt" in name else {}
    return {**found, **spread(over(times["import torch"], times[name])), **wanted}


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)  # noqa: S603 - this Python
