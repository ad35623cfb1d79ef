"""What all tests share: one thread a process (pytest-xdist runs several), and property tests that repeat exactly."""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings

from snowmelt import registry

torch.set_num_threads(1)
settings.register_profile("snowmelt", deadline=None, derandomize=True, database=None)
settings.load_profile("snowmelt")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What torch draws in a test hardly depends on the tests that pytest-xdist happened to give to this process before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """The module in a file of the repository that is no part of the package: script("scripts/ship.py")."""

    def load(path: str) -> ModuleType:
        found = importlib.util.spec_from_file_location(f"{Path(path).stem}_script", Path(__file__).parents[1] / path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    return load


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    registry.kinds()  # everything that is installed is known before the snapshot
    parts = {k: dict(v) for k, v in registry._parts.items()}
    tables = [(registry._names, dict(registry._names)), (registry._papers, dict(registry._papers)), (registry._plugins, dict(registry._plugins))]
    yield
    for now, before in ((registry._parts, parts), *tables):
        now.clear()
        now.update(before)


# --- promises (docs/reliability.md) ----------------------------------------------------------------------
# A test of a promise says what it found; what was found is printed at the end of the tests, and kept where SNOWMELT_FIGURES names a file.


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """figure("resume-kills", "25 kills, 7 of them inside a save: 0 unreadable checkpoints"): what this test found of a promise."""

    def found(promise: str, text: str) -> None:
        request.node.user_properties.append(("figure", (promise, text)))

    return found


@pytest.fixture(scope="session")
def rounds() -> Callable[[int, int], int]:
    """rounds(few, many): how often to try; many in the long run of `make soak`."""
    soak = os.environ.get("SNOWMELT_SOAK", "0") not in ("", "0")
    return lambda few, many: many if soak else few


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, ())]
    found = {}
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "figure" and report.when == "call":
                found[value[0]] = {"figure": value[1], "outcome": report.outcome, "test": report.nodeid}
    if not found:
        return
    terminalreporter.section("promises")
    for promise, said in sorted(found.items()):
        terminalreporter.line(f"{promise}: {said['figure']}{'' if said['outcome'] == 'passed' else ' (FAILED)'}")
    if path := os.environ.get("SNOWMELT_FIGURES"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n")
