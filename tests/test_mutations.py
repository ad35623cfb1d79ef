"""scripts/mutations.py: its faults can still be planted, and it knows a caught one from one that was not."""

import ast
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mutations(script):
    return script("scripts/mutations.py")


def test_each_fault_has_exactly_one_place_and_leaves_sound_python(mutations, figure: Callable[[str, str], None]) -> None:
    for fault in mutations.FAULTS:
        faulty = mutations.planted((ROOT / fault.file).read_text(encoding="utf-8"), fault)
        ast.parse(faulty)
        assert all((ROOT / path).exists() for path in fault.tests), fault.name
    assert len({fault.name for fault in mutations.FAULTS}) == len(mutations.FAULTS) == 12
    figure("mutations", f"{len(mutations.FAULTS)} faults, each of which still has exactly one place where it can be planted")


@pytest.mark.parametrize("text", ["", "y = x\ny = x\n"])
def test_a_fault_without_its_place_is_told_loudly(mutations, text: str) -> None:
    fault = mutations.Fault("a fault", "a.py", "y = x", "y = -x", ())
    with pytest.raises(ValueError, match=f"a fault: its text stands {text.count('y = x')} times in a.py, not once"):
        mutations.planted(text, fault)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A source of one line, and a test of it."""
    for path, text in {
        "src/snowmelt_toy/__init__.py": "def half(x):\n    return x / 2\n",
        "tests/test_half.py": "from snowmelt_toy import half\n\ndef test_half():\n    assert half(4) == 2\n",
        "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["slow"]\n',
    }.items():
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_text(text)
    return tmp_path / "root"


QUARTERS = ("src/snowmelt_toy/__init__.py", "x / 2", "x / 4")


def test_a_fault_is_caught_by_the_test_that_fails(mutations, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take a second to start
    sound, faulty = (mutations.copied(project, tmp_path / name) for name in ("sound", "faulty"))
    row = mutations.tried(mutations.Fault("quarters", *QUARTERS, ("tests/test_half.py",)), sound, faulty, quick=True, processes=1)
    assert row.caught_by == "tests/test_half.py::test_half"
    assert (faulty / QUARTERS[0]).read_text() == (sound / QUARTERS[0]).read_text()


def test_a_test_that_fails_without_the_fault_too_proves_nothing(
    mutations, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(tree: Path, tests: list[str], processes: int) -> str | None:
        return None if "--deselect=broken" in tests else "broken"

    monkeypatch.setattr(mutations, "failing", failing)
    sound, faulty = (mutations.copied(project, tmp_path / name) for name in ("sound", "faulty"))
    row = mutations.tried(mutations.Fault("quarters", *QUARTERS, ("tests/test_half.py",)), sound, faulty, quick=False, processes=1)
    assert row.caught_by is None
    assert "broken fails without the fault too" in capsys.readouterr().out


def test_all_but_the_likely_tests_are_shared_by_processes(mutations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(mutations.subprocess, "run", run)
    for tests in mutations.stages(mutations.FAULTS[0], quick=False):
        mutations.failing(tmp_path, [*tests, "--deselect=broken"], 3)
    assert [command[command.index("-n") + 1] if "-n" in command else None for command in asked] == [None, "3", None]
    mutations.failing(tmp_path, [f"--ignore={mutations.OWN}"], 1)
    assert "-n" not in asked[-1]


def test_the_test_of_the_places_is_no_witness(mutations) -> None:
    assert Path(__file__) == (ROOT / mutations.OWN)
    assert all(f"--ignore={mutations.OWN}" in tests for fault in mutations.FAULTS for tests in mutations.stages(fault, quick=False)[1:2])
    assert not any((ROOT / mutations.OWN).is_relative_to(ROOT / path) for fault in mutations.FAULTS for path in (*fault.tests, mutations.LAST))


def test_what_was_caught_is_kept_for_the_same_tree_only(mutations, tmp_path: Path) -> None:
    path = tmp_path / "mutations.json"
    rows = [
        {"fault": "a", "file": "a.py", "caught_by": "tests/test_a.py::test_a", "seconds": 1.0},
        {"fault": "b", "file": "b.py", "caught_by": None, "seconds": 1.0},
    ]
    path.write_text(json.dumps({"tree": "this", "faults": 2, "rows": rows}))
    assert mutations.kept(path, "this").keys() == {"a"}
    assert not mutations.kept(path, "another")
    assert not mutations.kept(tmp_path / "none.json", "this")
