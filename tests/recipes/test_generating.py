"""Walks that generate beside each other: rows, label accuracy, what guidance costs, the floor, and the report they end in."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from snowmelt.data.options import DataOptions
from snowmelt.data.sources import open_data
from snowmelt.evaluation import Report
from snowmelt.evaluation.generated import against
from snowmelt.evaluation.report import walk_rows
from snowmelt.metrics.features import Features
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.recipes import directory, generating, run
from snowmelt.recipes.recipe import EvaluationOptions, from_table
from snowmelt.recipes.report import FURTHER
from snowmelt.registry import build
from snowmelt.restorers import Conditions, Restorer, UNet
from snowmelt.types import EMPTY, Batch, Draw, Severity

DIGITS = DataOptions(path="bundled:digits", size=8)
OPTIONS = EvaluationOptions(generate=30, generators=("ancestral:eta=0,steps=2", "ancestral:eta=0,steps=3"), guidance=(0, 1, 2))


class Brightness(Features):
    """Means of 2 x 2 blocks; a picture's class is how bright it is."""

    name = "brightness"
    classes: tuple[str, ...] | None = ("0", "1", "2")
    dims = 4

    def __call__(self, x: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(x.clamp(-1, 1), 2).mean(1).flatten(1)

    def labels(self, x: Tensor) -> Tensor:
        return (x.clamp(-1, 1).mean((1, 2, 3)) * 1.5 + 1.5).long().clamp(0, 2)


class Flat(Restorer):
    """Answers the grey of the class that is asked for: -0.8, 0, 0.8; a dark 0.9 where none is."""

    calls = 0

    def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
        Flat.calls += 1
        grey = (z["label"].float() - 1) * 0.8
        return torch.where(z["label"] < 0, -0.9, grey)[:, None, None, None].expand(x_t.shape).clone(), None


def flat(classes: list[str] | None = None) -> Model:
    d = build("noise")
    restorer = Flat(d, UNet(widths=(8,), blocks=1), (1, 8, 8), parameterization=build("v", "parameterization"), conditions=Conditions(classes=3))
    return Model(d, restorer.eval(), Normal((1, 8, 8)), notes={} if classes is None else {"classes": classes})


def compared(model: Model, o: EvaluationOptions = OPTIONS, features: Features | None = None) -> tuple[list[dict], list[Tensor]]:
    return generating.compare(model, o, open_data(DIGITS, "test"), open_data(DIGITS, "train"), features, "cpu")


def test_a_row_for_every_walk_and_scale_and_the_floor_last() -> None:
    rows, sheets = compared(flat(["0", "1", "2"]), features=Brightness())
    assert [(row["calls"], row.get("guidance")) for row in rows] == [(2, 0), (2, 1), (4, 2), (3, 0), (3, 1), (6, 2), (0, None)]
    assert [row["label accuracy"] for row in rows[1:3]] == pytest.approx([1, 2 / 3]), "guided by 2, the middle class is pushed past itself"
    assert rows[0]["label accuracy"] == pytest.approx(1 / 3), "without guidance by the label it is no better than chance"
    assert rows[-1]["method"] == "Floor: training pictures"
    assert "label accuracy" not in rows[-1]
    assert rows[-1]["FD-brightness"] < min(row["FD-brightness"] for row in rows[:-1])
    assert all(row["N"] == 30 for row in rows)
    assert {"precision", "recall", "KID-brightness"} <= rows[0].keys()
    assert len(sheets) == 6
    assert all(len(sheet) == 16 for sheet in sheets)
    assert rows[0]["sampler"] == "ancestral:steps=2,eta=0"
    low, high = rows[0]["intervals"]["label accuracy"]
    assert low < 1 / 3 < high


def test_guidance_doubles_the_batch_or_the_calls_as_counted() -> None:
    """Calls are counted by pictures through the network: a guided call has a batch of twice the size."""
    seen: list[int] = []
    predict = Flat.predict

    class Counted(Flat):
        def predict(self, x_t: Batch, t: Severity, z: Draw = EMPTY) -> tuple[Batch, Batch | None]:
            seen.append(len(x_t))
            return predict(self, x_t, t, z)

    model = flat()
    model.restorer.__class__ = Counted
    for scale in (None, 0.0, 1.0, 2.0):
        seen.clear()
        generating.make(model, 30, build("ancestral:eta=0,steps=3", "sampler"), seed=0, guidance=scale)
        assert sum(seen) == 30 * 3 * (2 if scale == 2.0 else 1)


def test_labels_are_asked_for_in_turn() -> None:
    assert generating.asked(flat(), 7)["label"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    plain = Restorer(build("noise"), UNet(widths=(8,), blocks=1), (1, 8, 8))
    assert generating.asked(Model(build("noise"), plain), 7) == {}
    assert generating.asked(Model(build("noise"), lambda x, t: x), 7) == {}


def test_classes_are_matched_by_their_names() -> None:
    """A classifier that counts its classes otherwise reads the same pictures as rightly; one of other classes reads none."""
    rows, _ = compared(flat(["2", "0", "1"]), features=Brightness())
    assert rows[1]["label accuracy"] == 0.0, "class 0 of the model is called 2, and its pictures are those of 0"

    class Named(Brightness):
        classes = ("cat", "dog", "owl")

    rows, _ = compared(flat(["tree", "house", "car"]), features=Named())
    assert all("label accuracy" not in row for row in rows)
    rows, _ = compared(flat(["cat", "dog", "owl"]), features=Named())
    assert rows[1]["label accuracy"] == 1.0

    class Silent(Brightness):
        classes = None

    rows, _ = compared(flat(), features=Silent())
    assert all("label accuracy" not in row for row in rows)


def test_without_features_there_are_rows_and_no_numbers() -> None:
    rows, _ = compared(flat(), dataclasses.replace(OPTIONS, generators=()))
    assert len(rows) == 3
    assert all(row["FD"] == "not computed" for row in rows)


def test_guidance_without_labels_is_refused_before_a_picture_is_made() -> None:
    plain = Restorer(build("noise"), UNet(widths=(8,), blocks=1), (1, 8, 8))
    with pytest.raises(ValueError, match="evaluation.guidance guides by labels, and this model knows none: leave it out, or give model.cond"):
        compared(Model(build("noise"), plain, Normal((1, 8, 8))))


def test_the_row_of_a_set_is_the_row_of_that_set() -> None:
    test, train = open_data(DIGITS, "test"), open_data(DIGITS, "train")
    made = test.batch(range(len(test)))["x0"]
    same = against(made, test, Brightness())
    assert same["FD-brightness"] == pytest.approx(0, abs=1e-6)
    assert (same["precision"], same["recall"]) == (1.0, 1.0)
    floor, again = (against(None, test, Brightness(), train=train, n=40) for _ in range(2))
    assert floor == again
    assert floor["FD-brightness"] > 0
    bright, white = (against(x, test, Brightness())["FD-brightness"] for x in (made[:40] + 5, torch.ones_like(made[:40])))
    assert bright == pytest.approx(white), "what is out of range is clamped"


def test_a_report_keeps_its_walks_through_json(tmp_path: Path) -> None:
    rows, _ = compared(flat(["0", "1", "2"]), features=Brightness())
    report = Report([], {}, [], walks=rows)
    report.write(tmp_path)
    back = Report.read(tmp_path / "evaluation.json")
    assert json.loads(json.dumps(rows)) == back.walks
    assert walk_rows(back.walks)[0]["label accuracy"] == rows[0]["label accuracy"]
    assert "Walks that generate, beside each other:" in back.markdown()
    table = walk_rows(rows)
    assert all(row.keys() == table[0].keys() for row in table)
    assert math.isnan(table[-1]["guidance"])
    assert table[0]["95 %"] == tuple(rows[0]["intervals"]["FD-brightness"])
    assert "sampler" not in table[0]
    old = json.loads((tmp_path / "evaluation.json").read_text())
    del old["walks"]
    (tmp_path / "evaluation.json").write_text(json.dumps(old))
    assert Report.read(tmp_path / "evaluation.json").walks == []
    (tmp_path / "evaluation.json").write_text(json.dumps({**old, "walks": {}}))
    with pytest.raises(ValueError, match="walks"):
        Report.read(tmp_path / "evaluation.json")


def test_a_conditional_run_is_trained_compared_and_cleared(tmp_path: Path) -> None:
    table = {
        "degradation": "noise",
        "data": {"path": "bundled:digits", "size": 32},
        "model": {"backbone": "unet:widths=(8,16),patch=4,groups=4,blocks=1", "parameterization": "v", "conditions": ["label"]},
        "training": {"images": 32, "batch": 16, "validation_images": 8, "precision": "fp32", "weight": "output"},
        "evaluation": {
            "images": 6,
            "calls": [2],
            "severities": 0,
            "inputs": ["float"],
            "generate": 12,
            "walk": "ancestral:eta=0,steps=2",
            "generators": ["ancestral:eta=0,steps=2"],
            "guidance": [1, 2],
            "features": "mnist-v1",
        },
    }
    run.train(from_table(table), tmp_path)
    report = run.evaluate(tmp_path)
    assert [(row["calls"], row.get("guidance")) for row in report.walks] == [(2, 1), (4, 2), (0, None)]
    assert all("label accuracy" in row for row in report.walks[:-1])
    assert "walks.png" in FURTHER
    assert (tmp_path / "walks.png").is_file()
    assert "Walks beside each other" in (tmp_path / "report.html").read_text()
    assert Report.read(tmp_path / "evaluation.json").walks == json.loads(json.dumps(report.walks))
    (tmp_path / "mine.txt").write_text("a note")
    directory.clear(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt"}


def test_a_walk_that_runs_away_is_a_row_and_no_crash():
    data = DataOptions(path="bundled:digits", size=32)
    model = Model(build("noise"), lambda x_t, t: x_t * float("nan"), Normal(shape=(1, 32, 32)))
    o = EvaluationOptions(generate=8, generators=("ancestral:eta=0,steps=2",))
    rows, sheets = generating.compare(model, o, open_data(data, "test"), open_data(data, "train"), None, "cpu")
    assert rows[0]["method"] == "DDIM, diverged in 100%"
    assert not any(name.startswith("FD") for name in rows[0])
    assert bool(sheets[0].isfinite().all())


def test_the_walk_that_is_shown_is_not_walked_twice(monkeypatch):
    data, walk = DataOptions(path="bundled:digits", size=32), "ancestral:eta=0,steps=2"
    model = Model(build("noise"), lambda x_t, t: x_t / 2, Normal(shape=(1, 32, 32)))
    o = EvaluationOptions(generate=8, walk=walk, generators=(walk, "ancestral:eta=0,steps=3"))
    own = generating.make(model, 8, generating.shown(o, model), seed=o.seed)
    asked, real = [], generating.make
    monkeypatch.setattr(generating, "make", lambda model, n, walk, **how: (asked.append(walk.steps), real(model, n, walk, **how))[1])
    test, train = open_data(data, "test"), open_data(data, "train")
    with_it = generating.compare(model, o, test, train, None, "cpu", own())
    assert asked == [3]
    without = generating.compare(model, o, test, train, None, "cpu")
    assert asked == [3, 2, 3]
    assert all(torch.equal(a, b) for a, b in zip(with_it[1], without[1], strict=True))
