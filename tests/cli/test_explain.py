"""snowmelt explain: the rule, the paper, the numbers, and what it says where there are none."""

import json

import pytest

from snowmelt import registry


@pytest.mark.parametrize("name", registry.names("sampler"))
def test_every_sampler_can_be_explained(cli, name: str) -> None:
    done = cli("explain", name)
    assert done.code == 0, done.err
    assert "x_s = mu_s(x0) + K (x_t - mu_t(x0)) + tau eps" in done.out
    rule = registry.build(name, "sampler").rule
    flat = " ".join(done.out.split()).replace("- ", "-")
    for said in (rule.gain, rule.noise, rule.words, *rule.source):
        assert " ".join(said.split()).replace("- ", "-") in flat


def test_numbers_of_a_warm_path(cli) -> None:
    done = cli("explain", "ancestral:steps=4", "gaussian-blur:sigma_px=8+noise")
    assert done.code == 0, done.err
    table = done.out.split("cycles per pixel:")[1].strip().splitlines()
    assert table[0].split()[:4] == ["t", "s", "sigma_t", "sigma_s"]
    rows = [[float(v) for v in line.split()] for line in table[1:]]
    assert [row[:2] for row in rows] == [[1, 0.75], [0.75, 0.5], [0.5, 0.25], [0.25, 0]]
    for row in rows[1:-1]:
        gains = row[4:8]
        assert gains == sorted(gains, reverse=True)  # the blur takes the noise of high frequencies with it
        assert gains[0] > 10 * gains[-1]


def test_as_json(cli) -> None:
    done = json.loads(cli("explain", "langevin:steps=6,inner=3", "noise:schedule=ve", "--json").out)
    assert done["calls"] == 6
    assert done["rule"]["gain"].startswith("1 - c/2")
    stays = done["moves"][0]
    assert stays["t"] == stays["s"] == 1
    assert stays["K"]["all"] == pytest.approx(0.9)
    assert stays["tau"]["all"] == pytest.approx(0.4 * 0.2**0.5)


def test_a_sampler_of_ones_own(cli, tmp_path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import dataclass\nfrom snowmelt.registry import register\nfrom snowmelt.samplers import Rule, Sampler\n\n"
        '@register("my-halfway")\n@dataclass(frozen=True)\nclass Half(Sampler):\n    """Keeps a half, and says so only here."""\n\n'
        "    def move(self, degradation, x, x0, t, s, z, generator):\n"
        "        return degradation(x0, s, z) + (x - degradation(x0, t, z)) / 2, z\n\n"
        '@register("my-telling")\n@dataclass(frozen=True)\nclass Telling(Half):\n    """Telling."""\n\n    @property\n    def rule(self):\n'
        '        return Rule("Keeps a half.", "1/2", "0", ("A letter, 2024, arXiv 2401.00001",))\n'
    )
    silent = cli("explain", "my-halfway", "grey", "--plugin", plugin)
    assert silent.code == 0, silent.err
    assert "Keeps a half, and says so only here." in silent.out
    assert "give its class a property 'rule'" in silent.out
    assert silent.out.splitlines()[-1].split()[4:] == ["0.5", "0.5", "0", "0"]
    assert "A letter, 2024" in cli("explain", "my-telling", "--plugin", plugin).out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ancesral",), "unknown sampler 'ancesral' (did you mean 'ancestral'?)"),
        (("gaussian-blur",), "unknown sampler 'gaussian-blur'"),
        (("tacos", "jpeg"), "jpeg is diagonal in no basis, so a gain has no numbers there"),
        (("momentum", "grey"), "momentum scales the noise in x_t, and grey has none at its end"),
        (("ancestral", "grey"), "grey has no noise that could be recovered"),
        (("ancestral:variance=large,eta=0",), "ancestral.variance = large is that of a DDPM step"),
    ],
)
def test_what_cannot_be_explained(cli, words: tuple[str, ...], says: str) -> None:
    done = cli("explain", *words)
    assert done.code == 2
    assert says in done.error
