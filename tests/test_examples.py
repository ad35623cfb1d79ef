"""Every example runs as a reader would run it, and leaves the pictures it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
LINES = 60
SCRIPTS = {
    "restore_a_photo.py": ["restore_a_photo.png", "blur.html"],
    "own_degradation.py": ["own_degradation.png"],
    "own_network.py": ["own_network.png", "own_network/model.json"],
    "generate_digits.py": ["generate_digits.png", "generate_digits.html", "generate_digits/model.json"],
    "translate.py": ["translate.png", "translate.html", "translate/model.json"],
    "compare_samplers.py": ["compare_samplers.png", "compare_samplers.html"],
    "moons.py": ["moons/moons.png", "moons/moons.gif"],
    "notebooks/1_the_idea.py": ["1-degrade.png", "1-two-walks.png", "1-mean-or-digit.png", "1-walk.html"],
    "notebooks/2_train_your_own.py": ["2-rain.png", "2-restored.png", "rain/report.html"],
    "notebooks/3_hot_is_cold.py": ["3-identities.html"],
}
NO_SCRIPTS = ["moons_plane.py"]  # what another one imports
NUMBER = r"\d+\.\d+"
# What each prints: the pattern of a line with a name and an error; those that are good; those that are bad; at least how many times as bad.
MEASURED = {
    "own_network.py": [(rf"^(.+): RMSE ({NUMBER})$", {"Direct", "Clean"}, {"Degraded"}, 2)],
    "notebooks/2_train_your_own.py": [(rf"^(.+): RMSE ({NUMBER})$", {"restored"}, {"in the rain"}, 2)],
    "notebooks/1_the_idea.py": [
        (rf"^(.+): RMSE ({NUMBER}) at the end$", {"Algorithm 2"}, {"Algorithm 1"}, 20),
        (rf"^(.+?) +error ({NUMBER}), distance", {"One call"}, {"Algorithm 1", "Algorithm 2"}, 1.2),
        (rf"^(.+?) +error .*as a set ({NUMBER})$", {"Algorithm 2"}, {"One call", "Algorithm 1"}, 2),
    ],
    "compare_samplers.py": [
        (rf"^\| (\w.+?) \| +\d+ \| \**({NUMBER})\** \|", {"one call"}, {"Algorithm 1", "Algorithm 2", "order 2"}, 1.2),
        (rf"^\| (\w.+?) \|.* \**({NUMBER})\** \|$", {"Algorithm 2", "order 2"}, {"one call", "Algorithm 1"}, 2),
    ],
    "moons.py": [
        (rf"^(.+?) +({NUMBER})$", {"other moons"}, {"hot: DDPM", "hot: DDIM", "cold: Algorithm 1", "cold: Algorithm 2"}, 5),
        (rf"^(cold: .+?) +({NUMBER})$", {"cold: Algorithm 2"}, {"cold: Algorithm 1"}, 3),
    ],
}
SHORTER = {"moons.py": ["--steps", "8"], "generate_digits.py": ["--images", "1920"], "translate.py": ["--images", "1920"]}


def run(name: str, place: Path) -> str:
    """What an example prints, run in an empty folder on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    command = [sys.executable, str(EXAMPLES / name), *SHORTER.get(name, [])]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_and_leaves_what_it_promises(name: str, tmp_path: Path) -> None:
    said = run(name, tmp_path)
    for promised in SCRIPTS[name]:
        path = tmp_path / promised
        assert path.is_file(), promised
        if path.suffix in (".png", ".gif"):
            with Image.open(path) as picture:
                low, high = picture.convert("L").getextrema()
                assert min(picture.size) > 100
                assert high - low > 100, "there is something to see"
        if path.suffix == ".html":
            assert "<figure data-scrubber" in path.read_text(encoding="utf-8")
    for pattern, good, bad, times in MEASURED.get(name, []):
        found = {what: float(error) for what, error in re.findall(pattern, said, flags=re.M)}
        assert set(found) == good | bad, said
        assert min(found[what] for what in bad) > times * max(found[what] for what in good), said
    apart = re.findall(r" (\d\.\de[+-]\d+)$", said, flags=re.M)
    assert all(float(one) < 1e-12 for one in apart), "identities hold to rounding"
    assert len(apart) == (9 if name == "notebooks/3_hot_is_cold.py" else 0)
    won = re.findall(r"([\d.]+) dB -> +([\d.]+) dB", said)
    assert all(float(after) > float(before) for before, after in won)
    assert len(won) == (3 if name == "restore_a_photo.py" else 0)


def test_all_of_them_are_run_listed_and_short() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    there = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    assert there == set(SCRIPTS) | set(NO_SCRIPTS)
    for name in there:
        assert f"`{name}`" in listed, name
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < LINES, path.name


def test_notebooks_are_cells_that_explain_themselves() -> None:
    for path in (EXAMPLES / "notebooks").glob("*.py"):
        cells = re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.M)
        assert cells[0] == "", "what stands before the first cell is in no cell"
        words = [cell for cell in cells[1:] if cell.startswith(" [markdown]")]
        assert words[0].startswith(" [markdown]\n# # ")
        assert len(words) >= 5
        assert all(line.startswith("#") or not line for cell in words for line in cell.splitlines()[1:])
