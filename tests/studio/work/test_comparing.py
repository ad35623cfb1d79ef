"""Runs side by side: what their files say, what does not compare, and a stranger's report that can do nothing."""

import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

import snowmelt
from snowmelt.evaluation import Report
from snowmelt.model import Model, save, weights_of
from snowmelt.priors import Normal
from snowmelt.recipes.recipe import from_table, to_toml
from snowmelt.restoration.identity import opened
from snowmelt.restorers import Restorer
from snowmelt.studio.limits import Left, Refused
from snowmelt.studio.shelf import entry_of
from snowmelt.studio.work import comparing

TINY = "unet:widths=(8,8),patch=2,groups=4,blocks=1"


def row(method: str, kind: str, rmse: float, calls: int = 1, input: str = "8bit") -> dict[str, Any]:
    scores = {"rmse": rmse, "psnr": 30 - rmse, "ssim": 0.9, "intervals": {}}
    return {"method": method, "kind": kind, "input": input, "calls": calls, "images": 64, **scores}


def report(*rows: dict[str, Any], **facts: str) -> Report:
    said = {"degradation": "gaussian-blur", "data": "digits", "test pictures": "64 of 201", "trained for": "pictures rounded to 8 bits"}
    return Report(list(rows), {**said, **facts}, ["fine"])


def run(folder: Path, name: str, found: Report | None = None, degradation: str = "gaussian-blur", **training: object) -> comparing.Told:
    path = folder / name
    D = snowmelt.build(degradation)
    torch.manual_seed(len(name))
    prior = Normal().fit([torch.zeros(1, 1, 8, 8)]) if degradation == "noise" else None
    save(Model(D, Restorer(D, snowmelt.registry.build(TINY, "backbone"), (1, 8, 8)), prior), path)
    (path / "recipe.toml").write_text(to_toml(from_table({"degradation": degradation, "training": training})))
    lines = [{"images": 100 * i, "loss": 0.5, "validation_loss": 1 / i, "validation_restored_psnr_db": 20.0 + i} for i in range(1, 5)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if found is not None:
        found.write(path)
        (path / "report.html").write_text("<h1>Scores</h1>")
    return comparing.told(entry_of(name, path))


def rows_of(name: str, *, good: bool) -> list[dict[str, Any]]:
    better = 0.0 if good else 0.01
    return [
        row("Degraded", "degraded", 0.2, 0),
        row("Direct", "direct", 0.05 + better),
        row("Direct", "direct", 0.9, input="float"),
        row("Walk A", "walk", 0.04 + better, 4),
        row("Walk B", "walk", 0.06 + better, 8),
        row("Handed", "handed", 0.001, 8),
    ]


def test_a_row_for_one_call_and_one_for_the_best_walk_the_best_in_bold_and_pending_where_nothing_was_measured(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "good", report(*rows_of("good", good=True))),
        run(tmp_path, "worse", report(*rows_of("worse", good=False))),
        run(tmp_path, "new"),
    ]
    rows = comparing.scores(runs)
    assert [(one["run"], one["method"]) for one in rows] == [
        ("good", "Direct"), ("good", "Walk A"), ("worse", "Direct"), ("worse", "Walk A"), ("new", "not evaluated"),
    ]  # fmt: skip
    assert [one["rmse"] for one in rows] == [0.05, 0.04, pytest.approx(0.06), pytest.approx(0.05), None]
    table = comparing.tabulated(rows)
    assert "pending" in table
    assert "<strong>0.040</strong>" in table
    assert "<strong>" not in comparing.tabulated(rows, mark=False)
    assert comparing.remarks(runs) == [f"new was not evaluated yet: `{runs[2].evaluate}`"]
    assert comparing.comparable(runs)


def test_numbers_of_other_pictures_do_not_compare(tmp_path: Path) -> None:
    runs = [
        run(tmp_path, "a", report(*rows_of("a", good=True))),
        run(tmp_path, "bb", report(*rows_of("bb", good=False), **{"test pictures": "10 of 201"})),
    ]
    assert not comparing.comparable(runs)
    assert any("different test pictures" in one and "10 of 201" in one for one in comparing.remarks(runs))


def test_scores_of_earlier_weights_are_told_apart_from_those_of_today(tmp_path: Path) -> None:
    first = run(tmp_path, "a")
    path = tmp_path / "a"
    report(*rows_of("a", good=True), weights=weights_of(path)[:12]).write(path)
    assert comparing.remarks([comparing.told(first.entry)]) == []
    report(*rows_of("a", good=True), weights="0123456789ab").write(path)
    assert "other weights" in comparing.remarks([comparing.told(first.entry)])[0]


def test_a_damaged_file_is_said_and_the_rest_is_read(tmp_path: Path) -> None:
    entry = run(tmp_path, "a", report(*rows_of("a", good=True))).entry
    (tmp_path / "a" / "evaluation.json").write_text('{"rows": 3}')
    found = comparing.told(entry)
    assert found.report is None
    assert len(found.lines) == 4
    assert "evaluation.json" in comparing.remarks([found])[0]
    assert str(tmp_path) not in comparing.remarks([found])[0]


def test_recipes_differ_in_the_fields_that_change_the_training(tmp_path: Path) -> None:
    runs = [run(tmp_path, "a", images=1000, keep=1), run(tmp_path, "b", images=2000, keep=5), run(tmp_path, "c", images=1000, lr=0.5)]
    rows = {one["field"]: one for one in comparing.recipes(runs)}
    assert set(rows) == {"training.images", "training.lr"}
    assert [rows["training.images"][name] for name in "abc"] == ["1000", "2000", "1000"]
    assert comparing.recipes([runs[0], runs[0]]) == []


def test_curves_hold_a_line_for_each_run_that_has_one(tmp_path: Path) -> None:
    runs = [run(tmp_path, "first"), run(tmp_path, "second")]
    charts = comparing.curves(runs)
    assert len(charts) == 2
    assert all(">first<" in chart and ">second<" in chart for chart in charts)
    (tmp_path / "second" / "metrics.jsonl").unlink()
    (tmp_path / "first" / "metrics.jsonl").unlink()
    assert comparing.curves([comparing.told(one.entry) for one in runs]) == []


def test_curves_of_a_strangers_log_hold_what_can_be_drawn(tmp_path: Path) -> None:
    told = run(tmp_path, "first")
    with (tmp_path / "first" / "metrics.jsonl").open("a") as log:
        for images, loss in (("NaN", "1"), ("Infinity", "1"), ("1" + "0" * 400, "1"), ('"x"', "1"), ("[1]", "1"), ("9", "1" + "0" * 400)):
            log.write(f'{{"images": {images}, "validation_loss": {loss}, "validation_restored_psnr_db": {loss}}}\n')
        log.write('{"images": 500, "validation_loss": NaN, "validation_restored_psnr_db": true}\n')
    assert comparing.curves([comparing.told(told.entry)]) == comparing.curves([told])


def test_generated_samples_stand_in_a_column_each_beside_real_ones(tmp_path: Path) -> None:
    one, two = report(*rows_of("a", good=True)), report(*rows_of("b", good=True))
    one.generated.update({"measures": {"memorisation ratio": [0.7, 0.6]}, "verdict": []})
    two.generated.update({"measures": {"memorisation ratio": [0.9, 0.6], "diversity": [1.1, 1.0]}, "verdict": []})
    rows = comparing.generation([run(tmp_path, "a", one), run(tmp_path, "bb", two)])
    assert rows[0] == {"measure": "memorisation ratio", "a": 0.7, "bb": 0.9, "real pictures": 0.6}
    assert rows[1] == {"measure": "diversity", "bb": 1.1, "real pictures": 1.0}
    assert comparing.generation([run(tmp_path, "c")]) == []


def test_a_report_is_shown_in_a_frame_in_which_nothing_runs(tmp_path: Path) -> None:
    found = run(tmp_path, "a", report(*rows_of("a", good=True)))
    hostile = '"><script>parent.document.title = "mine"</script><img src=x onerror="alert(1)"><p>Scores</p>'
    (tmp_path / "a" / "report.html").write_text(hostile)
    frame = comparing.framed(found)
    assert frame.startswith('<iframe sandbox="" ')
    opening, _, inside = frame.partition('srcdoc="')
    assert "allow" not in opening
    body = inside.removesuffix('"></iframe>')
    assert not {'"', "<"} & set(body), "nothing of it leaves the attribute"
    assert "<p>Scores</p>" in unescape(body)
    assert "<script" not in unescape(body)
    with pytest.raises(Refused, match="snowmelt evaluate"):
        comparing.framed(run(tmp_path, "new"))


def test_each_model_is_given_the_same_degraded_picture(tmp_path: Path) -> None:
    for name in ("a", "bb"):
        run(tmp_path, name)
    models = [opened(tmp_path / name) for name in ("a", "bb")]
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    given, found = comparing.restored_by(models, x, clean=True, severity=1.0, mode="faithful", check=lambda: None)
    assert not torch.allclose(given, x)
    for one, model in zip(found, models, strict=True):
        alone = comparing.restored_by([model], given, clean=False, severity=1.0, mode="faithful", check=lambda: None)[1][0]
        torch.testing.assert_close(one.x, alone.x)
        assert (one.psnr is None, alone.psnr is None) == (False, True)
    assert comparing.same_degradation(models) == ""
    run(tmp_path, "noisy", degradation="noise")
    said = comparing.same_degradation([*models, opened(tmp_path / "noisy")])
    assert said == "They undo different things: a undoes gaussian-blur; bb undoes gaussian-blur; noisy undoes noise, and draws new pictures."


def test_who_leaves_stops_the_comparison(tmp_path: Path) -> None:
    run(tmp_path, "a")
    model = opened(tmp_path / "a")
    calls: list[int] = []
    model.model.restorer.net.register_forward_pre_hook(lambda module, told: calls.append(1))

    def leave() -> None:
        raise Left("gone")

    with pytest.raises(Left):
        comparing.restored_by([model, model], torch.zeros(1, 1, 8, 8), clean=True, severity=1.0, mode="best", check=leave)
    assert calls == []
