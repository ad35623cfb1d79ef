"""Twelve faults, planted one at a time: does `make test` notice?

``make mutations`` copies the repository to a scratch folder and changes one place of the copy: a fault that a careful person could make, that raises
no error and leaves every shape as it is. The tests that are likely to notice run first, then all others of ``make test``. A fault counts as caught
when a test fails that passes on the copy without the fault. The script ends with 1 if fewer than eleven of the twelve are caught.

A fault is a text and what replaces it. The text must stand in its file exactly once, or the script says so and stops: it cannot rot in silence.

``--json FILE`` keeps the table as it grows, for docs/reliability.md; the same command goes on where it was stopped, as long as source and tests are
the same. ``--only NAME`` plants one fault, ``--quick`` asks the likely tests alone.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "docs", "scripts", "benchmarks", "examples")
NEEDED = 11
OWN = "tests/test_mutations.py"  # it looks for the places of the faults, and would catch them all
LAST = "tests/trust"  # whole programs that are killed and restarted: the slowest tests
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?::.*?|\S+)(?: - .*)?$", re.M)


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        name: what is wrong.
        file: where, below the root.
        old: the text that is right.
        new: what is planted in its place.
        tests: those that are likely to notice.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


SAMPLERS = "src/snowmelt/samplers/base.py"
METRIC = "src/snowmelt/metrics/distortion.py"
FAULTS = (
    Fault(
        "s and t swapped in TACoS",
        "src/snowmelt/samplers/classical.py",
        '"""x - D(x0, t, z) + D(x0, s, z)."""\n        return x + degradation.change(x0, t, s, z), z',
        '"""x - D(x0, t, z) + D(x0, s, z)."""\n        return x + degradation.change(x0, s, t, z), z',
        ("tests/samplers", "tests/test_identities.py"),
    ),
    Fault(
        "D(x0_hat, s) dropped",
        "src/snowmelt/degradations/base.py",
        "return self(x, s, z) - self(x, t, z)",
        "return -self(x, t, z)",
        ("tests/samplers", "tests/test_identities.py"),
    ),
    Fault(
        "z redrawn in each step",
        SAMPLERS,
        "            estimate, spread = model.predict(x, t, z, cond)\n",
        "            z = {**z, **{name: value for name, value in degradation.draw(x, generator).items() if name not in degradation.given}}\n"
        "            estimate, spread = model.predict(x, t, z, cond)\n",
        ("tests/samplers", "tests/test_identities.py", "tests/restoration"),
    ),
    Fault(
        "the moving average off",
        "src/snowmelt/training/ema.py",
        "keep = 0.5 ** (step_images / max(half_life, 1e-8))",
        "keep = 0.0 ** (step_images / max(half_life, 1e-8))",
        ("tests/training/test_loop.py",),
    ),
    Fault(
        "the grid off by one",
        SAMPLERS,
        "return [1 - i / moves for i in range(moves)] + [0.0]",
        "return [1 - i / (moves + 1) for i in range(moves)] + [0.0]",
        ("tests/samplers", "tests/test_identities.py"),
    ),
    Fault(
        "the index of alpha-bar off by one",
        "src/snowmelt/schedules.py",
        "torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - self.betas(), 0)])",
        "torch.cat([torch.ones(2, dtype=torch.float64), torch.cumprod(1 - self.betas(), 0)[:-1]])",
        ("tests/degradations/test_hot_noise.py", "tests/samplers", "tests/test_identities.py"),
    ),
    Fault(
        "L1 for L2",
        "src/snowmelt/losses.py",
        'case "l2":\n            return error.square().mean(1)',
        'case "l2":\n            return error.abs().mean(1)',
        ("tests/test_losses.py",),
    ),
    Fault(
        "estimates not clamped",
        SAMPLERS,
        "x0 = x0.clamp(*model.range) if self.clip else x0",
        "x0 = x0 if self.clip else x0",
        ("tests/samplers",),
    ),
    Fault(
        "a picture of the test split in another",
        "src/snowmelt/data/splits.py",
        "rest = rest[len(taken[part]) :]",
        "rest = rest[max(len(taken[part]) - 1, 0) :]",
        ("tests/data/test_sources.py", "tests/data"),
    ),
    Fault(
        "severity ignored by the network",
        "src/snowmelt/restorers/lean.py",
        "e = self.time(t.to(x.dtype))",
        "e = self.time(torch.ones_like(t).to(x.dtype))",
        ("tests/restorers",),
    ),
    Fault(
        "the mean dropped in Wiener",
        "src/snowmelt/restorers/parameterization.py",
        "return (skip if c.mean is None else skip + c.mean), inner",
        "return skip, inner",
        ("tests/restorers",),
    ),
    Fault(
        "the metric on [-1, 1]",
        METRIC,
        "return (x.detach().double() / 2 + 0.5).clamp(0, 1)",
        "return x.detach().double().clamp(-1, 1)",
        ("tests/test_metrics.py",),
    ),
)


@dataclass(frozen=True)
class Row:
    """What became of a fault: the test that caught it, or none."""

    fault: str
    file: str
    caught_by: str | None
    seconds: float


def planted(text: str, fault: Fault) -> str:
    """The file's text with the fault in it.

    Raises:
        ValueError: the place is not there, or not only once.
    """
    found = text.count(fault.old)
    if found != 1:
        raise ValueError(f"{fault.name}: its text stands {found} times in {fault.file}, not once; mend scripts/mutations.py: {fault.old!r}")
    return text.replace(fault.old, fault.new)


def copied(root: Path, to: Path) -> Path:
    """The repository's files, without what was built, in the folder `to`."""
    to.mkdir(parents=True)
    for path in root.iterdir():
        if path.is_file():
            shutil.copy2(path, to)
        elif path.name in COPIED:
            shutil.copytree(path, to / path.name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    return to


def fingerprint(root: Path) -> str:
    """One hash over source and tests."""
    whole = hashlib.sha256()
    for folder in ("src", "tests"):
        for path in sorted((root / folder).rglob("*.py")):
            whole.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return whole.hexdigest()


def failing(tree: Path, tests: list[str], processes: int) -> str | None:
    """The first failing test, None if all pass; where no test is named, so many processes look for it.

    Raises:
        RuntimeError: the tests could not be run.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env = {**os.environ, **threads, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    env = {name: value for name, value in env.items() if name not in ("SNOWMELT_SOAK", "SNOWMELT_FIGURES")}
    whole = all(test.startswith("-") for test in tests)  # named ones are few, or measure times
    many = ["-n", str(processes)] if processes > 1 and whole else ["-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not slow", *many, *tests]
    done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)
    if done.returncode in (0, 5):  # 5: no test was left
        return None
    found = _FAILED.search(done.stdout)
    if done.returncode != 1 and found is None:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return found[1] if found else "(no name)"


def stages(fault: Fault, *, quick: bool) -> list[list[str]]:
    """What is run, one after the other: the likely tests, all but the slowest, the slowest."""
    rest = [[f"--ignore={OWN}", f"--ignore={LAST}", *(f"--ignore={path}" for path in fault.tests)], [LAST]]
    return [list(fault.tests), *([] if quick else rest)]


def tried(fault: Fault, sound: Path, faulty: Path, *, quick: bool, processes: int) -> Row:
    """Plant a fault, look for the first test that fails with it and not without it, and take it out again."""
    start, path = time.monotonic(), faulty / fault.file
    right = path.read_text(encoding="utf-8")
    path.write_text(planted(right, fault), encoding="utf-8")
    try:
        for tests in stages(fault, quick=quick):
            skip: list[str] = []
            while (name := failing(faulty, [*tests, *skip], processes)) is not None:
                if failing(sound, [name], 1) is None:
                    return Row(fault.name, fault.file, name, round(time.monotonic() - start, 1))
                print(f"  {name} fails without the fault too: it proves nothing", flush=True)
                skip.append(f"--deselect={name}")
    finally:
        path.write_text(right, encoding="utf-8")
    return Row(fault.name, fault.file, None, round(time.monotonic() - start, 1))


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| fault | file | caught by |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {row.fault} | `{row.file}` | {f'`{row.caught_by}`' if row.caught_by else 'SURVIVED'} |" for row in rows)])


def kept(path: Path | None, tree: str) -> dict[str, Row]:
    """The rows of an earlier call on the same source and tests; survivors are tried again."""
    if path is None or not path.is_file():
        return {}
    said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {row["fault"]: Row(**row) for row in said["rows"] if row["caught_by"]} if said["tree"] == tree else {}


def main() -> int:
    """Plant every fault; 1 if fewer than eleven are caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="keep the table there")
    parser.add_argument("--only", help="plant the faults whose name contains this")
    parser.add_argument("--quick", action="store_true", help="ask the likely tests only")
    parser.add_argument("--tests", type=int, default=2, help="processes that share the tests of whole folders")
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree to copy")
    o = parser.parse_args()
    root, faults = o.root.resolve(), [fault for fault in FAULTS if o.only is None or o.only in fault.name]
    for fault in FAULTS:
        planted((root / fault.file).read_text(encoding="utf-8"), fault)
    tree, rows = fingerprint(root), []
    known = kept(o.json, tree)
    with tempfile.TemporaryDirectory(prefix="snowmelt-mutations-") as scratch:
        sound, faulty = copied(root, Path(scratch) / "sound"), copied(root, Path(scratch) / "faulty")
        for i, fault in enumerate(faults, 1):
            row = known.get(fault.name) or tried(fault, sound, faulty, quick=o.quick, processes=o.tests)
            rows.append(row)
            print(f"[{i}/{len(faults)}] {fault.name}: {row.caught_by or 'SURVIVED'} ({row.seconds:.0f} s)", flush=True)
            if o.json is not None:
                said = {"tree": tree, "faults": len(FAULTS), "rows": [asdict(row) for row in rows]}
                o.json.parent.mkdir(parents=True, exist_ok=True)
                o.json.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    caught = sum(row.caught_by is not None for row in rows)
    print(f"\n{table(rows)}\n\n{caught} of {len(rows)} faults caught")
    return int(caught < min(NEEDED, len(rows)))


if __name__ == "__main__":
    sys.exit(main())
