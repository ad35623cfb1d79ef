"""list, describe, degrade, --help: what one does before any training."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from snowmelt import registry
from snowmelt.cli.overrides import TABLES, documented
from snowmelt.recipes.recipe import presets


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\nfrom snowmelt.cli import main\n"
        "for words in (['--help'], ['train', '--help'], ['restore', '--help'], ['--version'], ['trian']):\n    main(words)\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=280).returncode == 0


def test_the_module_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "snowmelt", "--version"], capture_output=True, text=True, check=True, timeout=280)
    assert done.stdout.strip()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    child = subprocess.Popen([sys.executable, "-m", "snowmelt", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    child.wait(280)


def test_every_verb_has_help(cli) -> None:
    assert all(
        f"│ {verb} " in cli("--help").out for verb in ("list", "describe", "degrade", "train", "restore", "sample", "evaluate", "demo")
    )


@pytest.mark.parametrize("table", TABLES)
def test_every_field_of_a_recipe_is_a_flag_with_a_sentence(cli, table: str) -> None:
    text, docs = cli("train", "--help").out, documented(TABLES[table])
    for name in TABLES[table].__dataclass_fields__:
        assert f"--{table}.{name} " in text
        assert docs[name].endswith("."), f"{table}.{name} has no sentence"


def test_list_names_every_part_and_preset(cli) -> None:
    done = cli("list")
    words = set(done.out.split())
    assert done.code == 0
    assert words >= {name for kind in registry.kinds() for name in registry.names(kind)} | set(presets())
    assert "gaussian-blur" not in cli("list", "sampler").out


@pytest.mark.parametrize("kind", ["degradation", "sampler", "backbone", "schedule", "parameterization", "prior"])
def test_describe_knows_every_part(cli, kind: str) -> None:
    for name in registry.names(kind):
        done = cli("describe", name, "--kind", kind)
        assert done.code == 0, done.err
        for field in registry.schema(name, kind):
            assert field.name in done.out
        example = done.out.split("Example: ")[1].splitlines()[0]
        assert isinstance(registry.build(example, kind), registry.Part)


def test_describe_says_what_severities_mean(cli) -> None:
    done = cli("describe", "gaussian-blur:sigma_px=4")
    rows = [line.split() for line in done.out.split("What a severity t means")[1].splitlines() if line.strip()][2:]
    assert [row[0] for row in rows] == ["0", "0.25", "0.5", "0.75", "1"]
    assert float(rows[0][1]) == 0
    assert float(rows[-1][1]) == 4
    assert "0.sigma_px" in cli("describe", "gaussian-blur+noise").out


def test_describe_an_unknown_name_gives_the_nearest(cli) -> None:
    done = cli("describe", "gausian-blur")
    assert done.code == 2
    assert "'gaussian-blur'" in done.error


def test_degrade_draws_a_strip(cli, tmp_path: Path, draw_picture) -> None:
    image, out = draw_picture(tmp_path / "a.png", h=12, w=10, colour=True), tmp_path / "strip.png"
    done = cli("degrade", image, "--degradation", "noise", "--severities", "0,.2,.4,.6,.8,1", "--out", out)
    assert (done.code, done.out) == (0, f"wrote {out}\n")
    first = Image.open(out).tobytes()
    cli("degrade", image, "--degradation", "noise", "--out", out)
    assert Image.open(out).tobytes() == first  # those severities are the default, and the seed is fixed
    cli("degrade", image, "--degradation", "noise", "--out", out, "--seed", 1)
    assert Image.open(out).tobytes() != first


def test_degrade_takes_pictures_of_two_sizes_with_a_size(cli, tmp_path: Path, draw_picture) -> None:
    images = draw_picture(tmp_path / "a.png", h=12, w=10), draw_picture(tmp_path / "b.png", h=9, w=30, colour=True)
    refused = cli("degrade", *images, "--degradation", "gaussian-blur", "--out", tmp_path / "s.png")
    assert refused.code == 2
    assert "--size" in refused.error
    assert cli("degrade", *images, "--degradation", "gaussian-blur", "--size", 8, "--out", tmp_path / "s.png").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--degradation", "noise", "--severities", "0,1.5"), "severity 1.5 lies outside [0, 1]"),
        (("--degradation", "noise", "--severities", "0,x"), "is not a list of numbers"),
        (("--degradation", "noize"), "did you mean 'noise'?"),
        (("--degradation", "gaussian-blur:sigma=3"), "did you mean 'sigma_px'?"),
        (("--degradation", "gaussian-blur:sigma_px=-1"), "lies outside [0, 1000] px"),
        (("--degradation", "noise", "--out", "strip.jpg"), "saved as PNG"),
        ((), "--degradation requires an argument"),
    ],
)
def test_degrade_refuses_in_one_line(cli, tmp_path: Path, draw_picture, monkeypatch, files_in, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("degrade", draw_picture(tmp_path / "a.png"), *words)
    assert done.code == 2
    assert says in done.error
    assert files_in(tmp_path) == {"a.png"}


def test_degrade_of_a_file_that_is_not_there(cli, tmp_path: Path) -> None:
    done = cli("degrade", tmp_path / "no.png", "--degradation", "noise")
    assert done.code == 2
    assert "no.png" in done.error


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(2000) / 5) * 0.3, 8000)
    return tmp_path / "a.wav"


def test_degrade_draws_a_recording_and_writes_it_into_a_folder(cli, recording: Path, tmp_path: Path, files_in) -> None:
    done = cli("degrade", recording, "--degradation", "clipping", "--severities", "0,1", "--out", tmp_path / "strip.png")
    assert (done.code, done.out) == (0, f"wrote {tmp_path / 'strip.png'}\n"), done.err
    assert files_in(tmp_path) == {"a.wav", "strip.png"}
    done = cli("degrade", recording, "--degradation", "clipping", "--severities", "0,1", "--out", tmp_path / "all")
    assert done.code == 0, done.err
    assert files_in(tmp_path / "all") == {"a-clipping.png", "a-clipping-t0.wav", "a-clipping-t1.wav"}
    clean, clipped = (soundfile.read(tmp_path / "all" / f"a-clipping-t{t}.wav")[0] for t in (0, 1))
    assert abs(clipped).max() < abs(clean).max() / 1.5


def test_degrade_overwrites_no_result_with_another_of_the_same_name(cli, recording: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / recording.name
    other.write_bytes(recording.read_bytes())
    done = cli("degrade", recording, other, "--degradation", "clipping", "--out", tmp_path / "all")
    assert done.code != 0
    assert f"what is made of {recording} and of {other} would have one name" in " ".join((done.out + done.err).split())
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--degradation", "beam-drop"), "beam-drop degrades scans, and"),
        (("--degradation", "gaussian-blur"), "is made for pictures, and cannot degrade recordings"),
        (("--degradation", "noise", "--size", "8"), "--size cuts squares from pictures"),
        (("--degradation", "noise", "--sensor", "scan"), "--sensor says which LiDAR"),
        (("--degradation", "noise", "--out", "strip.jpg"), "saved as PNG"),
    ],
)
def test_degrade_refuses_what_recordings_have_not(cli, recording: Path, tmp_path: Path, monkeypatch, files_in, words, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("degrade", recording, *words)
    assert done.code == 2
    assert says in done.error
    assert files_in(tmp_path) == {"a.wav"}
