"""Reports: what is written, what is read again, what older ones become."""

import json
from pathlib import Path

import pytest

import snowmelt
from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import Report, evaluate, generated, verdict
from snowmelt.files import BadFile
from snowmelt.metrics.features import Features
from snowmelt.model import Model
from snowmelt.samplers import TACoS

OLD = {
    "rows": [
        {"method": "Degraded", "input": "float", "calls": 0, "images": 9, "rmse": 0.3, "psnr": 10.0, "ssim": 0.1, "intervals": {"rmse": [0.2, 0.4]}},
        {"method": "Direct", "input": "float", "calls": 1, "images": 9, "rmse": 0.1, "psnr": 20.0, "ssim": 0.9, "inconsistency": 0.002},
        {"method": "Degraded, all 99", "input": "float", "calls": 0, "images": 99, "rmse": 0.05, "psnr": 10.0, "ssim": 0.1},
    ],
    "facts": {"trained for": "floating point, noise floor 0"},
    "verdict": ["One call gains."],
}


def test_a_report_of_an_earlier_version_is_read_by_todays_names(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps({**OLD, "of a later version": 1}))
    report = Report.read(tmp_path / "old.json")
    assert report.table("float")[1]["measurement error"] == 0.002
    text = report.markdown()
    assert "inconsistency" not in text
    assert "| Direct | 1 | **0.100** |" in text  # what stands apart, Degraded over all pictures, is never best
    assert "0.200 to 0.400" in text
    assert "rounded to 8 bits" not in text  # no rows of that kind
    assert "FD" not in text
    assert "Degraded pictures at t = 1, in floating point:" in text
    assert report.summary() in text


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ([1], "holds no report but [1]"),
        (None, "holds no report but None"),
        ({}, "lacks the entry 'rows'"),
        ({**OLD, "facts": 3}, "facts = 3 is not an object"),
        ({**OLD, "rows": {"a": 1}}, "rows = {'a': 1} is not a list"),
        ({**OLD, "rows": [7]}, "row 0 is 7"),
        ({**OLD, "rows": [OLD["rows"][0], {"method": "Direct"}]}, "row 1 is {'method': 'Direct'}"),
        ({**OLD, "rows": [{"input": "float"}]}, "row 0 is {'input': 'float'}"),
        ({**OLD, "verdict": "fine"}, "verdict = 'fine' is not a list"),
        ({**OLD, "verdict": [1]}, "the verdict holds 1"),
        ({**OLD, "generated": []}, "generated = [] is not an object"),
        ({"facts": {}, "verdict": []}, "lacks the entry 'rows'"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(kept: object, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps(kept))
    with pytest.raises(BadFile) as caught:
        Report.read(tmp_path / "bad.json")
    said = str(caught.value)
    assert words in said
    assert "bad.json" in said
    assert "snowmelt evaluate" in said
    assert "\n" not in said


def test_what_was_written_is_read_back(splits: dict[str, Dataset], blocks: Features, tmp_path: Path) -> None:
    model = Model(snowmelt.build("gaussian-blur:sigma_px=2"), lambda x, t: x)
    found = evaluate(model, **splits, samplers=[TACoS(steps=2)], images=12, features=blocks, severities=2)  # type: ignore[arg-type]
    made = splits["validation"].batch(range(8))["x0"]
    found.generated.update(generated(made, splits["train"], splits["test"], features=blocks))
    found.write(tmp_path)
    again = Report.read(tmp_path / "evaluation.json")
    assert again.markdown() == found.markdown()
    assert again.distances() == ["FD-blocks", "KID-blocks"]
    text = found.markdown()
    for words in ("FD-blocks", "KID-blocks", "Floor: training pictures", "95 % intervals", "Error per severity", "memorisation ratio", "N"):
        assert words in text, words
    assert found.facts["caveat"].startswith("N = 12 <= 16 features")
    assert "last estimate" in next(row for row in found.rows if row["kind"] == "walk")


def test_a_gap_is_one_column_and_says_so(splits: dict[str, Dataset]) -> None:
    found = evaluate(Model(snowmelt.build("pixelate"), lambda x, t: x), **splits, samplers=[], images=4, severities=0)  # type: ignore[arg-type]
    table = found.table("float")
    assert table[0]["FD, KID"] == "not computed"
    assert "KID" not in table[0]
    assert "features mnist-v1" in found.facts["distances of sets"]


def test_the_verdict_says_which_walk_looks_most_like_clean_pictures_and_whether_it_may_be_chance() -> None:
    def row(method: str, rmse: float, fd: float, sure: tuple[float, float], **more: object) -> dict[str, object]:
        return {"method": method, "calls": 1, "rmse": rmse, "psnr": -rmse, "FD-x": fd, "intervals": {"FD-x": sure}, **more}

    degraded = {**row("Degraded", 0.4, 90.0, (80, 99)), "psnr": -20.0, "label accuracy": 0.2}
    direct = row("Direct", 0.1, 30.0, (25, 35), **{"label accuracy": 0.9, "measurement error": 0.01})
    walk = row("TACoS", 0.2, 10.0, (5, 15), **{"RMSE of last estimate": 0.1, "calls": 8, "label accuracy": 0.8, "measurement error": 0.05})
    floor = {"method": "Floor", "kind": "floor", "calls": 0, "FD-x": 3.0}
    clean = {"method": "Clean", "kind": "clean", "calls": 0, "label accuracy": 0.99}
    said = " ".join(verdict([degraded, direct, walk, floor, clean]))
    assert "TACoS with 8 calls comes closest to the clean ones: FD-x 10; one call scores 30, training pictures 3." in said
    assert "chance" not in said
    assert "90.0% of the pictures rightly after Direct, the best of these 3 methods on these pictures (20.0% as degraded); on clean" in said
    assert "pictures it is right for 99.0%" in said
    assert "miss what was given by 0.05, 5.0 times that of one call" in said
    near = {**walk, "intervals": {"FD-x": (5, 28)}}
    assert "may be chance" in " ".join(verdict([degraded, direct, near]))
    worse = {**walk, "FD-x": 40.0}
    assert "no walk comes closer to the clean ones than one call" in " ".join(verdict([degraded, direct, worse]))
    other = {**walk, "method": "naive", "FD-x": 20.0, "rmse": 0.3}
    of_two = "TACoS with 8 calls, the best of these 2 walks on these pictures"
    for rows, words in (
        ([degraded, direct, walk, other], f"As a set of pictures, {of_two}, comes closest to the clean ones"),
        ([degraded, direct, walk, other], f"{of_two}, has an RMSE of 0.200, higher than one call's"),
        ([degraded, direct, worse, {**other, "FD-x": 50.0}], f"than one call: FD-x 40 for {of_two}; one call scores 30."),
    ):
        assert words in " ".join(verdict(rows))
    assert "the best of these 2 walks" not in said
    strange = " ".join(verdict([degraded, direct, walk, floor, {**clean, "label accuracy": 0.49}]))
    assert "The features do not know these pictures: label accuracy says nothing." in strange
    assert "rightly" not in strange
    handed = {**walk, "kind": "handed", "FD-x": 0.1, "rmse": 0.001}
    assert " ".join(verdict([degraded, direct, walk, handed, floor, clean])) == said
