"""The pages and the script for teachers: every block runs in order, and the picture shows what the page says of it."""

import math
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"


def ran(page: str) -> dict[str, object]:
    """The names that the Python blocks of a page leave behind, run one after the other."""
    names: dict[str, object] = {"__name__": page}
    found = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    assert found
    for text in found:
        exec(compile(text, page, "exec"), names)
    return names


def test_the_page_for_teachers_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = ran("teachers.md")
    assert "squeeze is no Gaussian chain" in capsys.readouterr().out
    assert not torch.allclose(names["x_on"], names["x_t"])  # another draw of the same step


def test_the_page_on_bits_runs() -> None:
    found = ran("likelihood.md")["found"]
    entropy = math.log2(2 * math.pi * math.e) / 2
    assert found["large"].interval[0] < entropy < found["large"].interval[1]
    assert found["small"].total > entropy + 0.01


def test_the_moons_show_what_is_said_of_them(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS.parent / "examples"))  # as for a script that is run
    moons = script("examples/moons.py")
    paths = moons.main(tmp_path, n=120, steps=20)
    fresh, colour = moons.moons(1000, seed=2)[0], {name: moons.ends(path) for name, path in paths.items()}
    away = {name: moons.distance(path[-1], fresh) for name, path in paths.items()}
    assert 3 * away["cold: Algorithm 2"] < away["cold: Algorithm 1"], away
    places = {name: len(torch.unique((path[-1] / 0.02).round(), dim=0)) for name, path in paths.items()}
    assert 1.5 * places["cold: Algorithm 1"] < places["cold: Algorithm 2"], places  # clots
    few = moons.walks(120, 4)["cold: Algorithm 1"]
    assert moons.distance(few[-1], fresh) < away["cold: Algorithm 1"]  # more steps make it worse

    def mixed(name: str) -> float:
        """How often a point at t = 1 and its nearest neighbour there end on different moons."""
        apart = torch.cdist(paths[name][0], paths[name][0]).fill_diagonal_(math.inf)
        return float((colour[name] != colour[name][apart.argmin(1)]).double().mean())

    assert mixed("hot: DDIM") < 0.2 < 0.3 < mixed("hot: DDPM")
    rough = {name: float((path[1:] - path[:-1]).norm(dim=2).sum(0).mean()) for name, path in paths.items()}
    assert rough["hot: DDPM"] > 2 * rough["hot: DDIM"]
    across = paths["cold: Algorithm 2"][:, :, 0]
    torch.testing.assert_close(across[-1], across[0])  # straight up or down
    with Image.open(tmp_path / "moons.gif") as animation:
        assert animation.n_frames == 21
    with Image.open(tmp_path / "moons.png") as sheet:
        assert sheet.width > sheet.height > 600
