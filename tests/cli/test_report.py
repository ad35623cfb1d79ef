"""report: a page of whatever there is of a run, which stays as it is."""

import hashlib
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from snowmelt import pictures
from snowmelt.recipes import figures
from snowmelt.recipes.overview import overview


def state_of(place: Path) -> dict[str, str]:
    return {str(p.relative_to(place)): hashlib.sha256(p.read_bytes()).hexdigest() for p in place.rglob("*") if p.is_file()}


def asked_of_the_network(html: str) -> list[str]:
    """Whatever a browser would fetch; not what lies in the page itself, whose letters are those of chance."""
    named = re.sub(r"data:[^\"')]+", "", html).replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    return re.findall(r"""https?:.{0,40}|src(?:set)?=["']?[^"'\s>]+|url\(["']?[^"')]+""", named)


def test_letters_of_a_picture_are_no_address() -> None:
    assert asked_of_the_network('<img src="data:image/webp;base64,AAhttpA+src=">') == []
    assert asked_of_the_network('<img src="a.png"><p style="background: url(b.png)">http://c.d') == ["src=\"a.png", "url(b.png", "http://c.d"]


@pytest.fixture
def own(run: Path, tmp_path: Path) -> Path:
    """A copy of the shared run."""
    return Path(shutil.copytree(run, tmp_path / "digits"))


def test_a_run_that_was_never_evaluated(cli, own: Path, tmp_path: Path) -> None:
    before = state_of(own)
    done = cli("report", own, "--out", tmp_path / "page.html")
    assert done.code == 0, done.err
    assert "snowmelt evaluate" in done.err
    assert state_of(own) == before, "the run stays as it is"
    html = (tmp_path / "page.html").read_text()
    there = ("gaussian-blur:sigma_px=2", "bundled:digits", "unet:widths=(8,16)", "<dt>pictures seen</dt><dd>160 of 160", "batch = 16")
    for words in (*there, "Validation loss by severity"):
        assert words in html, words
    assert "'snowmelt evaluate RUN', with the directory of this run, measures how well it restores" in html.replace("&#x27;", "'")
    assert html.count("<figure data-scrubber") == 2, "the walk, and the samples over the training"
    assert re.findall(r'alt="(t = [\d.]+)"', html)[0] == "t = 1.00"
    assert re.findall(r'alt="(t = [\d.]+)"', html)[-1] == "t = 0.00"
    assert asked_of_the_network(html) == []
    assert "Measured" not in html
    assert f"wrote {tmp_path / 'page.html'}" in done.out
    assert (tmp_path / "page.html").as_uri() in done.out, "what a browser takes"
    said = "Degraded is what was given, Direct one call of the restorer, Sampled the end of the walk, Clean the truth."
    assert html.count(said) >= 2, "the captions speak of the words over the columns"


@pytest.mark.parametrize(("name", "named"), [("runs/noise", True), ("my noise", False)])
def test_the_command_in_the_page_works_where_the_page_was_asked_for(
    name: str, named: bool, cli, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "model.json").unlink()  # without a walk it is quick
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    own.rename(name)
    said = cli("report", name).err
    html = (Path(name) / "report.html").read_text().replace("&#x27;", "'")
    assert f"'snowmelt evaluate {name if named else 'RUN'}'" in html
    assert str(tmp_path) not in html
    assert "snowmelt evaluate " + (name if named else f"'{name}'") in said, "one word for a shell"


def test_what_was_measured_is_in_the_page(cli, own: Path) -> None:
    assert cli("evaluate", own, "--images", 8).code == 0
    evaluated = (own / "report.html").read_text()
    assert "<figure data-scrubber" in evaluated
    assert "data:image/gif" not in evaluated
    assert (own / "trajectory.gif").is_file()
    done = cli("report", own)
    assert (done.code, done.err) == (0, "")
    html = (own / "report.html").read_text()
    assert html != evaluated, "it was written anew"
    rows = json.loads((own / "evaluation.json").read_text())["rows"]
    for name in {row["method"] for row in rows}:
        assert f"<td>{name}</td>" in html, name
    assert "Worst and typical" in html
    assert "Not evaluated" not in html


def test_the_page_of_a_run_whose_model_went_on_says_so(cli, own: Path) -> None:
    assert cli("evaluate", own, "--images", 8).code == 0
    kept = json.loads((own / "evaluation.json").read_text())
    kept["facts"]["weights"] = "000000000000"
    (own / "evaluation.json").write_text(json.dumps(kept))
    assert cli("report", own).code == 0
    assert "are of earlier weights" in (own / "report.html").read_text()


def test_without_the_data_the_stored_walk_is_shown(cli, own: Path, tmp_path: Path) -> None:
    assert cli("evaluate", own, "--images", 8).code == 0
    done = cli("report", own, "--data", tmp_path / "gone", "--out", tmp_path / "page.html")
    assert done.code == 0, done.err
    assert "No walk is shown: " in done.err
    assert "give --data" in done.err
    html = (tmp_path / "page.html").read_text()
    assert "these are the pictures that the last evaluation stored" in html
    assert "data:image/gif" in html
    assert html.count("<figure data-scrubber") == 1, "the samples over the training"
    assert str(tmp_path) not in html, "the page says nothing of the machine's folders"


def test_a_run_that_has_only_begun(cli, own: Path, tmp_path: Path) -> None:
    for path in [*own.glob("*.safetensors"), own / "model.json"]:
        path.unlink()
    shutil.rmtree(own / "samples")
    (own / "metrics.jsonl").write_text((own / "metrics.jsonl").read_text()[:-20])  # a line that is being written
    done = cli("report", own)
    assert done.code == 0, done.err
    assert "no model yet" in done.err
    html = (own / "report.html").read_text()
    assert "gaussian-blur:sigma_px=2" in html
    assert "<script" not in html
    (own / "metrics.jsonl").unlink()
    assert cli("report", own).code == 0
    assert "<dt>pictures seen</dt><dd>0 of 160</dd>" in (own / "report.html").read_text()


def test_an_evaluation_of_another_version_is_no_reason_to_show_nothing(cli, own: Path) -> None:
    assert cli("evaluate", own, "--images", 8).code == 0
    kept = json.loads((own / "evaluation.json").read_text())
    for row in kept["rows"]:
        del row["kind"]
    (own / "evaluation.json").write_text(json.dumps(kept))
    done = cli("report", own)
    assert done.code == 0, done.err
    assert "another version of snowmelt wrote it" in done.err
    assert "Worst and typical" in (own / "report.html").read_text()


NO_NUMBERS = (*("many", None, True, [], {}, math.nan, math.inf), 10**400)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: str(value)[:6])
@pytest.mark.parametrize("name", ["images", "wall_s", "loss", "validation_bands", "every"])
def test_a_log_of_a_stranger_is_no_reason_to_show_nothing(name: str, value: object, own: Path) -> None:
    (own / "model.json").unlink()  # without a walk it is quick
    log = own / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({key: value if name in (key, "every") else one for key, one in line.items()}) + "\n" for line in lines))
    html = overview(own).path.read_text()
    assert "batch = 16" in html
    assert "Over the training" in html
    assert ("<dt>pictures seen</dt><dd>160 of 160" in html) == (name == "validation_bands" or (name == "loss" and isinstance(value, float)))


def test_a_part_of_a_run_that_cannot_be_shown_is_left_out_alone(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "model.json").unlink()
    monkeypatch.setattr(figures, "loss_curves", lambda run: [str(1 / 0)])
    done = overview(own)
    assert [line for line in done.lacks if "says of itself" in line]
    html = done.path.read_text()
    assert "says of itself cannot be shown" in html
    assert "Is it learning?" in html
    assert "Over the training" in html


@pytest.mark.parametrize("data", [b"GIF<script>", b"GIF", b"", b"GIF89a" + bytes(64_000_000), b"\x89PNG\r\n\x1a\n"], ids=lambda data: repr(data[:6]))
def test_what_is_called_a_moving_picture_and_is_none_is_left_out(data: bytes, cli, own: Path, tmp_path: Path) -> None:
    (own / "trajectory.gif").write_bytes(data)
    pictures.save(own / "grid.png", Image.new("RGB", (8, 8)))
    assert cli("report", own, "--data", tmp_path / "gone").code == 0
    html = (own / "report.html").read_text()
    assert "these are the pictures that the last evaluation stored" in html
    assert "The walk, as it was stored." not in html


def test_a_stored_walk_is_not_followed_out_of_the_run(cli, own: Path, tmp_path: Path) -> None:
    pictures.save(own / "grid.png", Image.new("RGB", (8, 8)))
    Image.new("L", (4, 4)).save(tmp_path / "private.gif")
    (own / "trajectory.gif").symlink_to(tmp_path / "private.gif")
    assert cli("report", own, "--data", tmp_path / "gone").code == 0
    assert "data:image/gif" not in (own / "report.html").read_text()
    (own / "trajectory.gif").unlink()
    shutil.copy(tmp_path / "private.gif", own / "trajectory.gif")
    assert cli("report", own, "--data", tmp_path / "gone").code == 0
    assert "data:image/gif" in (own / "report.html").read_text()


def test_from_inside_the_run_it_has_its_name_too(cli, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "model.json").unlink()
    monkeypatch.chdir(own)
    assert cli("report", ".").code == 0
    html = (own / "report.html").read_text().replace("&#x27;", "'")
    assert "digits · snowmelt" in html
    assert "'snowmelt evaluate .'" in html, "which works from here"


def test_whose_pictures_it_shows_is_said_where_the_recipe_names_them(cli, own: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    for i in range(40):
        pictures.save(private / f"{i}.png", Image.new("L", (8, 8), 6 * i))
    recipe = own / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("bundled:digits", str(private)))
    assert str(private) in recipe.read_text()
    done = cli("report", own)
    assert done.code == 0, done.err
    assert f"the page shows samples of {private}, as the run's recipe names them" in done.err
    assert "shows samples" not in cli("report", own, "--data", private).err
    assert "shows samples" not in cli("report", own, "--data", "bundled:digits").err


def test_other_data_are_walked_on_and_the_run_keeps_its_own(cli, own: Path, tmp_path: Path) -> None:
    for i in range(40):
        pictures.save(tmp_path / "others" / f"{i}.png", Image.new("L", (8, 8), 6 * i))
    done = cli("report", own, "--data", tmp_path / "others", "--out", tmp_path / "page.html")
    assert (done.code, "No walk" in done.err) == (0, False), done.err
    html = (tmp_path / "page.html").read_text()
    assert "On samples of others." in html
    assert html.count("others") == 1, "what it was trained on is what the recipe says"
    assert "path = &quot;bundled:digits&quot;" in html


FAILS = [OSError(5, "Input/output error"), RuntimeError("of memory"), torch.OutOfMemoryError("of memory"), ValueError("of memory")]


@pytest.mark.parametrize("error", FAILS, ids=lambda error: type(error).__name__)
def test_a_walk_that_fails_is_no_reason_to_show_nothing(error: Exception, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_, **__) -> None:
        raise error

    monkeypatch.setattr(figures, "journey", fails)
    done = overview(own)
    (said,) = (line for line in done.lacks if line.startswith(f"No walk is shown: {error}."))
    assert ("give --data" in said) == (not isinstance(error, RuntimeError)), "only where the data may be the cause"
    html = done.path.read_text()
    assert "Validation loss by severity" in html
    assert ">Seen<" not in html


def test_a_finished_run_looks_finished(own: Path) -> None:
    (own / "model.json").unlink()
    recipe = own / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("images = 160\n", "images = 170\n"))
    assert "images = 170" in recipe.read_text()
    assert "<dt>pictures seen</dt><dd>160 of 160" in overview(own).path.read_text(), "steps are whole: 10 of 16 pictures"


@pytest.mark.parametrize("verdict", [[None], [1], ["well", 3], [["a"]]], ids=str)
def test_a_verdict_of_a_stranger_is_no_reason_to_show_nothing(verdict: list[object], own: Path) -> None:
    (own / "model.json").unlink()
    (own / "evaluation.json").write_text(json.dumps({"rows": [], "facts": {}, "verdict": verdict}))
    done = overview(own)
    assert [line for line in done.lacks if "A part of the evaluation" in line or "evaluation could not be read" in line]
    assert "Over the training" in done.path.read_text()


def test_every_part_of_a_page_speaks_of_a_picture_in_the_same_words(cli, own: Path) -> None:
    assert cli("evaluate", own, "--images", 8).code == 0
    evaluated = set(re.findall("<figcaption>(.*?)</figcaption>", (own / "report.html").read_text()))
    assert [said for said in evaluated if said.startswith("The pictures in the middle, which stand for all, with the PSNR")]
    (own / "model.json").unlink()
    stored = set(re.findall("<figcaption>(.*?)</figcaption>", overview(own).path.read_text()))
    assert [said for said in stored - evaluated if not said.startswith("The walk, as it was stored")] == []


def test_what_is_no_run_is_refused(cli, own: Path, tmp_path: Path) -> None:
    assert "has no recipe.toml" in cli("report", tmp_path).error
    assert "is a directory" in cli("report", own, "--out", tmp_path).error
    assert cli("report", own, "--out", tmp_path).code == 2
