"""snowmelt doctor: what it finds, what it advises, and when it says that something is broken."""

import json
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import snowmelt
from snowmelt.cli import health

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def findings(done) -> dict[str, dict[str, str]]:
    return {f"{one['group']} {one['name']}": one for one in json.loads(done.out)["findings"]}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch):
    """Lets packages have other versions than they have; None for none."""
    real, said = metadata.version, {}

    def version(name: str) -> str:
        found = said[name] if name in said else real(name)
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(health.metadata, "version", version)
    return said


class Entry:
    """An entry point of somebody's package."""

    dist = None

    def __init__(self, name: str, value: str, error: Exception | None = None) -> None:
        self.name, self.value, self._error = name, value, error

    def load(self) -> None:
        if self._error:
            raise self._error


def test_all_is_well(cli) -> None:
    done = cli("doctor")
    assert done.code == 0, done.out
    assert "All is well: snowmelt has what it needs." in done.out
    for title in ("Installed", "Extras", "This machine", "Plug-ins", "Models in the package"):
        assert title in done.out
    assert not done.err


def test_as_json_the_same(cli) -> None:
    done = cli("doctor", "--json")
    assert done.code == 0
    assert json.loads(done.out)["well"] is True
    found = findings(done)
    assert found["installed snowmelt"]["says"] == snowmelt.__version__
    assert {f"model {name}" for name in ("photo", "mnist-v1", "fashion-v1")} <= set(found)
    assert all(one["mend"] or one["state"] == "good" for one in found.values())
    table = cli("doctor").out
    assert all(one["name"] in table for one in found.values())


def test_packages_are_those_of_the_project() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    assert list(health.NEEDED) == project["dependencies"]
    extras = {name: tuple(wanted) for name, wanted in project["optional-dependencies"].items() if name not in ("test", "dev")}
    assert extras == health.EXTRAS
    assert set(health.FOR) == set(extras)


def test_one_command_brings_all_extras_that_are_missing(cli, versions) -> None:
    versions.update(av=None, gradio="5.9.0")
    done = cli("doctor")
    assert done.code == 0
    assert 'pip install "snowmelt[studio,video]"' in done.out
    found = findings(cli("doctor", "--json"))
    assert found["extra video"]["state"] == found["extra studio"]["state"] == "missing"
    assert found["extra video"]["mend"] == 'pip install "snowmelt[video]"'
    assert "gradio>=6.16,<7 not there" in found["extra studio"]["says"]


def test_what_snowmelt_needs_is_broken_when_it_is_missing_or_too_old(cli, versions) -> None:
    versions.update({"safetensors": None, "cyclopts": "6.0.1"})
    done = cli("doctor")
    assert done.code == 1
    assert 'pip install "safetensors" "cyclopts>=5.4,<6"' in done.out
    assert "All is well" not in done.out
    says = findings(cli("doctor", "--json"))["installed packages"]["says"]
    assert "safetensors (there is none)" in says
    assert "cyclopts>=5.4,<6 (there is 6.0.1)" in says


@pytest.mark.parametrize(
    ("version", "requirement", "fits"),
    [
        *(("2.6.0+cpu", "torch>=2.6", True), ("2.13.0", "torch>=2.6", True), ("2.5.1", "torch>=2.6", False), ("3.0rc1", "torch>=2.6", True)),
        *(("6.0", "cyclopts>=5.4,<6", False), ("6.0.0", "cyclopts>=5.4,<6", False), ("5.3.9", "cyclopts>=5.4,<6", False)),
        *(("5.10", "cyclopts>=5.4,<6", True), ("5.4", "cyclopts>=5.4,<6", True)),
        *(("2.40.0", "ray[data]>=2.40", True), ("2.39", "ray[data]>=2.40", False), ("0.0.1", "numpy", True)),
    ],
)
def test_versions_are_compared_as_numbers(versions, version: str, requirement: str, fits: bool) -> None:
    versions[health._named(requirement)[0]] = version
    assert health._fits(requirement) is fits


def test_a_model_that_is_not_what_was_packed_is_broken(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path in (health._SHIPPED / "photo").iterdir():
        (tmp_path / "photo").mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / "photo")
    monkeypatch.setattr(health, "_SHIPPED", tmp_path)
    assert [one.state for one in health.models()] == ["good"]
    weights = next((tmp_path / "photo").glob("weights-*"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = cli("doctor")
    assert done.code == 1
    assert f"not what was packed: {weights.name}" in done.out
    assert "pip install --force-reinstall snowmelt" in done.out
    weights.unlink()
    assert next(health.models()).state == "broken"
    (tmp_path / "photo" / "model.json").write_text("{")
    assert next(health.models()).state == "broken"


def test_a_plug_in_that_fails_is_told_of_but_breaks_nothing(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = [Entry("sepia", "sepia.parts", ImportError("no module named paint")), Entry("rust", "rusty.parts")]
    monkeypatch.setattr(health.metadata, "entry_points", lambda group: theirs)
    done = cli("doctor", "--json")
    assert done.code == 0
    found = findings(done)
    assert found["plug-in sepia"]["state"] == "missing"
    assert "sepia.parts fails to load: ImportError: no module named paint" in found["plug-in sepia"]["says"]
    assert found["plug-in rust"]["state"] == "good"
    assert "pip install --upgrade sepia" in cli("doctor").out


def test_a_room_of_snowmelt_that_fails_is_broken(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.metadata, "entry_points", lambda group: [Entry("samplers", "snowmelt.samplers", OSError("cut off"))])
    assert cli("doctor").code == 1


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    one = health._compiler(cuda=False)
    assert (one.state, one.name) == ("missing", "compiler")
    assert one.mend
    monkeypatch.setenv("CXX", "nocc")
    assert "no C++ compiler nocc" in health._compiler(cuda=False).says
    monkeypatch.setattr(health.util, "find_spec", lambda name: None)
    assert "Triton" in health._compiler(cuda=True).says


def test_a_torch_that_cannot_be_imported_is_all_that_is_blamed() -> None:
    code = "import sys; sys.modules['torch'] = None; from snowmelt.cli import main; sys.exit(main(['doctor', '--json']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["findings"]
    assert {one["mend"] for one in found if one["state"] == "broken"} == {"pip install --force-reinstall torch"}
    assert {one["state"] for one in found if one["group"] == "model"} == {"good"}
    assert [(one["name"], one["says"]) for one in found if one["group"] == "plug-in"] == [("parts", "not looked at: they need torch")]


def test_a_torch_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    (one,) = health.fast()
    assert one.state == "broken"
    assert "torch cannot be imported" in one.says
