"""check-degradation and suggest-schedule, as somebody with a degradation of their own meets them."""

import json
from pathlib import Path

import pytest

from snowmelt import registry
from snowmelt.cli.suggest import _rounded
from snowmelt.samplers import Sampler

HEAD = "from dataclasses import dataclass\n\nimport numpy as np\nimport torch\n\nfrom snowmelt import Degradation, register\n\n\n"
GOOD = '''@register("my-fade")
@dataclass(frozen=True)
class Fade(Degradation):
    """Fade to black."""

    strength: float = 1.0

    def degrade(self, x, t, z):
        return (1 - t * self.strength) * x


'''
BAD = '''@register("my-dust")
@dataclass(frozen=True)
class Dust(Degradation):
    """Dust from nowhere."""

    def degrade(self, x, t, z):
        return x + t * torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x)
'''


@pytest.fixture
def plugin(tmp_path: Path):
    """Writes a plug-in; what it registers is forgotten afterwards."""
    known = dict(registry._parts["degradation"])

    def write(*classes: str) -> Path:
        path = tmp_path / f"mine{len(list(tmp_path.iterdir()))}.py"
        path.write_text(HEAD + "".join(classes))
        return path

    yield write
    registry._parts["degradation"] = known


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pictures: what is measured is tested elsewhere."""
    monkeypatch.setattr("snowmelt.testing.examination.PICTURES", 64)


def test_a_spec_that_is_sound(cli) -> None:
    done = cli("check-degradation", "pixelate:levels=3")
    assert done.code == 0, done.out + done.err
    assert "identity at t = 0" in done.out
    assert "FAIL" not in done.out
    assert "gaussian-mixture:grid=2" in done.out.replace("\n      ", " ")


def test_every_degradation_of_a_plug_in_is_checked_and_one_that_fails_is_said_in_words(cli, plugin) -> None:
    done = cli("check-degradation", plugin(GOOD, BAD))
    words = " ".join(done.out.split())
    assert done.code == 1
    assert words.index("my-dust") < words.index("my-fade")
    assert words.count("FAIL") == 1
    assert "draws from numpy's global generator (np.random) in degrade()" in words
    assert "To do: Make the random numbers in draw()" in words
    assert "Not judged before the above is mended: identity at t = 0" in words


def test_a_spec_of_a_plug_in(cli, plugin) -> None:
    path = plugin(GOOD)
    assert cli("check-degradation", "my-fade:strength=0.5", "--plugin", path).code == 0
    assert cli("check-degradation", "my-fade:strength=-2", "--plugin", path).code == 0


def test_json(cli, plugin) -> None:
    done = cli("check-degradation", plugin(GOOD, BAD), "--json")
    dust, fade = json.loads(done.out)
    assert done.code == 1
    assert (dust["degradation"], dust["passed"], fade["passed"]) == ("my-dust", False, True)
    assert [f["name"] for f in dust["findings"] if f["passed"] is False] == ["hidden_randomness"]
    finding = next(f for f in fade["findings"] if f["name"] == "forgives")
    assert set(finding) == {"name", "passed", "checked", "seen", "advice", "measured"}
    assert finding["measured"]["Algorithm 1, smooth"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("gausian-blur", "did you mean 'gaussian-blur'?"),
        ("gaussian-blur:sigma_px=-1", "lies outside"),
        ("nowhere.py", "does not exist"),
        ("mixture", "mixture needs parts"),
    ],
)
def test_what_cannot_be_checked(cli, what, says) -> None:
    done = cli("check-degradation", what)
    assert done.code == 2
    assert says in done.error


def test_plug_ins_that_cannot_be_checked(cli, plugin) -> None:
    nothing = cli("check-degradation", plugin())
    assert (nothing.code, "registers no degradation" in nothing.error) == (2, True)
    broken = cli("check-degradation", plugin("1 / 0\n"))
    assert (broken.code, "failed to load: ZeroDivisionError" in broken.error) == (2, True)
    needy = cli("check-degradation", plugin(GOOD.replace("strength: float = 1.0", "strength: float")))
    assert needy.code == 2
    assert "my-fade needs strength: give it as a spec" in needy.error


def test_a_schedule_is_a_sampler_that_can_be_built(cli, tmp_path: Path) -> None:
    svg = tmp_path / "loss.svg"
    done = cli("suggest-schedule", "gaussian-blur:sigma_px=4", "--steps", 5, "--out", svg)
    assert done.code == 0, done.err
    line = next(line for line in done.out.splitlines() if line.startswith("As a sampler:"))
    sampler: Sampler = registry.build(line.removeprefix("As a sampler:").strip(), "sampler")
    assert sampler.steps == len(sampler.times) == 5
    assert "sigma_px" in done.out
    assert svg.read_text().startswith("<svg")


def test_schedules_of_tables_noise_and_what_is_hidden(cli) -> None:
    table = cli("suggest-schedule", "recursive-blur:steps=20,kernel_std=0.7", "--steps", 4).out
    assert "20/20" in table
    few = cli("suggest-schedule", "pixelate:levels=3", "--steps", 9).out
    assert "no more than 3 severities" in few
    assert "uniform severities did better" in cli("suggest-schedule", "noise", "--steps", 3, "--severity", ".5").out
    assert "by regression" in (hidden := cli("suggest-schedule", "poisson-noise", "--steps", 3).out)
    assert "nobody knows photons" in hidden


def test_times_are_rounded_only_while_they_stay_apart() -> None:
    assert _rounded([0.9999999, 0.51234, 0.00012]) == (1.0, 0.5123, 0.0001)
    assert _rounded([1.0, 0.5000012, 0.5000011]) == (1.0, 0.5000012, 0.5000011)
    assert _rounded([1.0, 0.5, 0.0000444]) == (1.0, 0.5, 0.00004)
    assert _rounded([1.0, 0.5, 1e-20]) == (1.0, 0.5, 1e-20)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("choice:parts=(gaussian-blur,mask)",), "take one part of gaussian-blur, mask"),
        (("noise", "--steps", 0), "--steps 0 lies outside [1, 1000]"),
        (("noise", "--severity", 0), "--severity 0 lies outside (0, 1]"),
        (("noise", "--out", "a.png"), "is no .svg file"),
        (("gaussian-blur:sigma_px=0",), "nothing is lost"),
        (("nois",), "did you mean 'noise'?"),
    ],
)
def test_schedules_that_cannot_be(cli, arguments, says) -> None:
    done = cli("suggest-schedule", *arguments)
    assert done.code == 2
    assert says in done.error
