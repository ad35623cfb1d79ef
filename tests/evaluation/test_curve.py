"""Quality against calls: which walks fit a model, that a row is the row of an evaluation, and what the numbers are said to mean."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from snowmelt.evaluation import evaluate
from snowmelt.evaluation.calls import Planned, beside, measured, planned
from snowmelt.evaluation.curve import NAME, WRITTEN, Curve
from snowmelt.evaluation.sets import judge_for
from snowmelt.files import BadFile
from snowmelt.model import Model
from snowmelt.randomness import permutation
from snowmelt.registry import build
from snowmelt.samplers import TACoS

CALLS = (1, 2, 4, 12, 50)


def shrunk(x_t, t):
    return x_t * (1 - t.reshape(-1, 1, 1, 1) / 4)


def plan(spec: str, estimates: str = "mean", tuned: str | None = None, calls: tuple[int, ...] = CALLS) -> dict[str, list[int]]:
    model = Model(build(spec), shrunk, estimates=estimates)
    copy = None if tuned is None else dataclasses.replace(model, estimates=tuned)
    out: dict[str, list[int]] = {}
    for one in planned(model, calls, copy):
        out.setdefault(one.walk, []).append(one.calls)
    return out


# --- the plan --------------------------------------------------------------------------------------------------


def test_a_cold_path_is_walked_by_the_papers_algorithms_order_2_and_heun() -> None:
    found = plan("gaussian-blur:sigma_px=2", tuned="consistency(0.94)")
    assert found == {
        "one call": [1],
        "Algorithm 1": [1, 2, 4, 12, 50],
        "Algorithm 2": [1, 2, 4, 12, 50],
        "order 2": [2, 4, 12, 50],  # with one call there is nothing to extrapolate from
        "Heun": [3, 11, 49],
        "tuned, g = 0.94, Algorithm 2": [1, 2],
        "tuned, g = 0.94, Algorithm 1": [1, 2],
    }


def test_noise_is_solved_for_or_drawn_anew_and_never_read() -> None:
    found = plan("noise", tuned="consistency(0.75)")
    assert list(found) == [
        "one call",
        "Algorithm 1, fresh noise",
        "DDIM",
        "order 2",
        "DDPM",
        "Heun",
        "tuned, g = 0.75, DDIM",
        "tuned, g = 0.75, Algorithm 1, fresh noise",
    ]
    assert found["tuned, g = 0.75, DDIM"] == [1, 2, 4, 8]
    assert found["tuned, g = 0.75, Algorithm 1, fresh noise"] == [2, 4, 8], "one call of both is the same"


def test_what_nobody_could_know_leaves_one_call() -> None:
    assert plan("snow") == {"one call": [1]}
    assert plan("snow", tuned="consistency(0.94)") == {"one call": [1], "tuned, g = 0.94, one call": [1]}
    copy = [one for one in planned(Model(build("snow"), shrunk), CALLS, Model(build("snow"), shrunk, estimates="consistency(0.94)")) if one.tuned]
    assert copy[0].sampler is None


def test_on_a_table_of_few_knots_no_walk_stands_twice() -> None:
    found = plan("recursive-blur:routine=constant,kernel_std=0.7,steps=5")
    assert found["Algorithm 2"] == [1, 2, 4, 5]
    assert found["order 2"] == [2, 4, 5]


def test_a_tuned_model_walks_no_further_than_it_may() -> None:
    assert plan("gaussian-blur", estimates="consistency(0.875)") == {"one call": [1], "Algorithm 1": [1, 2, 4], "Algorithm 2": [1, 2, 4]}


# --- rows ------------------------------------------------------------------------------------------------------


def test_a_row_is_that_of_an_evaluation(splits, blocks) -> None:
    model = Model(build("gaussian-blur:sigma_px=2"), shrunk, noise_floor=0.02)
    how: dict[str, Any] = {"seed": 0, "batch": 16, "device": "cpu"}
    walk = TACoS(4, order=2)
    asked: dict[str, Any] = {"samplers": [walk], "images": 24, "inputs": ("float",), "features": blocks, "severities": 0}
    report = evaluate(model, splits["test"], splits["validation"], splits["train"], **asked, **how)
    ids = permutation(0, "evaluation", 0, len(splits["test"]))[:24].tolist()
    judge = judge_for(blocks, splits["test"], ids, seed=0, batch=16)[1]()
    told: list[int] = []
    kinds = {"direct": Planned("one call", 1), "walk": Planned("order 2", 4, walk)}
    for kind, one in kinds.items():
        mine = measured(model, one, splits["test"], ids, judge, tick=told.append, **how)
        theirs = next(row for row in report.rows if row["kind"] == kind)
        for name in ("rmse", "psnr", "ssim", "measurement error", "FD-blocks", "KID-blocks", "intervals"):
            assert mine[name] == theirs[name], (kind, name)
    assert sum(told) == 24 * (1 + 4), "calls times pictures"
    clean = beside(model, "clean", splits["test"], ids, judge, tick=lambda n: None, **how)
    assert clean["measurement error"] == next(row for row in report.rows if row["kind"] == "clean")["measurement error"]


def test_the_tuned_copy_walks_from_what_the_model_degraded(splits) -> None:
    d = build("gaussian-blur:sigma_px=2")
    model, tuned = Model(d, shrunk, input="8bit"), Model(d, lambda x, t: torch.zeros_like(x), estimates="consistency(0.94)")
    ids, judge = list(range(6)), judge_for(None, splits["test"], [], seed=0, batch=6)[1]()
    one = Planned("tuned, g = 0.94", 1, None, tuned=True)
    found = measured(model, one, splits["test"], ids, judge, tuned=tuned, seed=0, batch=6, device="cpu", tick=lambda n: None)
    x0 = splits["test"].batch(ids)["x0"]
    assert found["rmse"] == pytest.approx(float((x0 / 2).square().mean().sqrt()), rel=1e-5)


def test_a_walk_that_diverges_is_a_row_that_says_so(splits, blocks, tmp_path) -> None:
    seen = [0]

    def late(x_t, t):
        seen[0] += 1
        return x_t if seen[0] < 2 else x_t * float("nan")  # the second batch of two

    ids = list(range(8))
    judge = judge_for(blocks, splits["test"], ids, seed=0, batch=6)[1]()
    model = Model(build("gaussian-blur:sigma_px=2"), late)
    found = measured(model, Planned("one call", 1), splits["test"], ids, judge, seed=0, batch=6, device="cpu", tick=lambda n: None)
    assert found == {"walk": "one call", "calls": 1, "sampler": "", "images": 8, "diverged": 0.25, "intervals": {}}
    lost = {"of": "restored", **found, "weights": "w", "commit": "c"}
    endless = row("Heun", 11, float("nan"))
    whole = Curve([lost, endless, row("order 2", 12, 1.0, 0.1), row("Algorithm 2", 50, 1.0, 0.1)], {}, {"tuned": "no"})
    whole.write(tmp_path)
    assert [said for said in whole.verdict() if "order 2" in said]
    assert "nan" not in (tmp_path / "calls.svg").read_text()


# --- what it says ----------------------------------------------------------------------------------------------


def row(walk: str, calls: int, fd: float, measurement: float | None = None, of: str = "restored", **more: Any) -> dict[str, Any]:
    found = {"of": of, "walk": walk, "calls": calls, "images": 100, "weights": "w", "commit": "c", "FD-x": fd, "rmse": 0.1, "intervals": {}, **more}
    return found if measurement is None else {**found, "measurement error": measurement}


def said(*rows: dict[str, Any], **facts: Any) -> str:
    return "\n".join(Curve(list(rows), {}, dict(facts)).verdict())


ONCE = row("one call", 1, 9.0, 0.01)
COPY = "tuned, g = 0.94, Algorithm"


def test_order_2_is_held_to_2_percent_in_both_measures() -> None:
    many = row("Algorithm 2", 50, 1.0, 0.1)
    assert "12 calls of order 2 against 50 of Algorithm 2: within 2%" in said(ONCE, row("order 2", 12, 1.019, 0.1019), many)
    assert "NOT within 2%: FD-x 1.04 against 1 (+4.0%)" in said(ONCE, row("order 2", 12, 1.04, 0.1), many)
    assert "NOT within 2%" in said(ONCE, row("order 2", 12, 0.9, 0.103), many), "a better set does not make up for a worse measurement"
    assert ": within 2%" in said(ONCE, row("order 2", 12, 0.5, 0.05), many), "better counts as within"


def test_on_a_short_table_the_longest_walk_stands_for_50_calls() -> None:
    rows = ONCE, row("order 2", 12, 1.0, 0.1), row("Algorithm 2", 8, 5.0, 0.1), row("Algorithm 2", 20, 1.0, 0.1)
    assert "against 20 of Algorithm 2: within" in said(*rows, knots=20)
    for found in (said(*rows), said(*rows, knots=200)):
        assert "50 calls of Algorithm 2 or DDIM were not measured, so nothing is said of the two" in found
        assert "within" not in found


def test_where_noise_is_solved_for_ddim_is_meant() -> None:
    found = said(row("order 2", 12, 2.0, of="generated"), row("DDIM", 50, 1.0, of="generated"))
    assert "Generated: 12 calls of order 2 against 50 of DDIM: NOT within 2%" in found


def test_noise_and_chance_are_named() -> None:
    few = row("order 2", 12, 1.5, 0.002, intervals={"FD-x": [1.0, 2.0]})
    many = row("Algorithm 2", 50, 1.0, 0.001, intervals={"FD-x": [0.8, 1.2]})
    found = said(ONCE, few, many, row("clean", 0, float("nan"), 0.01))
    assert "their 95 % intervals overlap" in found
    assert "both below the truth's own 0.01" in found
    quiet = said(ONCE, dict(few, **{"FD-x": 1.0}), many, row("clean", 0, float("nan"), 0.01))
    assert "of Algorithm 2: within 2%" in quiet, "twice as much noise is no worse where the truth has more"
    loud = said(ONCE, dict(few, **{"FD-x": 1.0}), many, row("clean", 0, float("nan"), 0.0015))
    assert "NOT within 2%" in loud


def test_tuned_calls_are_held_against_all_untuned_ones() -> None:
    eight = (row("order 2", 8, 1.0), row("Algorithm 2", 8, 2.0))
    facts = {"tuned": "yes", "tuned walk": "tacos:steps=2"}
    tuned = [row(f"{COPY} 2", 1, 9.0, sampler="tacos:steps=1"), row(f"{COPY} 1", 2, 0.1, sampler="naive:steps=2")]

    def two(fd: float, **more: Any) -> dict[str, Any]:
        return row(f"{COPY} 2", 2, fd, sampler="tacos:steps=2", **more)

    all_of_them = said(*eight, *tuned, two(1.0), **facts)
    assert f"2 calls of the tuned copy ({COPY} 2) against 8 untuned ones: at least as good" in all_of_them
    some = said(*eight, *tuned, two(1.5), **facts)
    assert "NOT as good as all of them: order 2: FD-x 1.5 against 1 (+50.0%)" in some
    assert "untuned ones: NOT as good: " in said(*eight, *tuned, two(3.0), **facts)
    assert "the tuned copy's own walk was not measured" in said(*eight, *tuned, **facts)
    lost = two(3.0, diverged=0.25)
    del lost["FD-x"]
    assert "NOT as good: it diverged in 25% of the pictures" in said(*eight, *tuned, lost, **facts)
    one = said(*eight, row(f"{COPY}, one call", 1, 1.0, sampler=""), **{**facts, "tuned walk": "one call"})
    assert f"1 call of the tuned copy ({COPY}, one call) against 8 untuned ones: at least as good" in one
    assert "There is no tuned copy to compare with: 'snowmelt tune RUN' makes one." in said(ONCE, *eight)


def test_whether_iterating_helps_at_all() -> None:
    assert "come closer to clean pictures, as a set, than one call: FD-x 1 against 9" in said(ONCE, row("order 2", 12, 1.0))
    assert "1 call of Algorithm 1, the best of 1 rows, chosen on these very pictures, come no closer" in said(ONCE, row("Algorithm 1", 1, 9.5))


def test_without_features_nothing_is_claimed() -> None:
    rows = row("order 2", 12, 1.0), row("Algorithm 2", 50, 1.0), row(f"{COPY} 2", 2, 1.0, sampler="tacos:steps=2")
    bare = [{name: value for name, value in one.items() if name != "FD-x"} for one in rows]
    found = said(*bare, **{"tuned": "yes", "tuned walk": "tacos:steps=2"})
    assert found.count("no distance of sets was computed (--features), so nothing is said of the two") == 2
    assert "within" not in found
    assert "as good" not in found


# --- what is kept ----------------------------------------------------------------------------------------------


def curve() -> Curve:
    rows = [ONCE, row("order 2", 12, 1.0, 0.1), row("Algorithm 2", 50, 1.0, 0.1), row("Algorithm 1", 4, 3.0, 0.2)]
    rows += [row("tuned, g = 0.94", 2, 1.0, weights="v")]
    rows += [row("floor", 0, 0.4, weights=""), row("clean", 0, float("nan"), 0.09, weights=""), row("DDIM", 12, 2.0, of="generated")]
    return Curve(rows, {"seed": 0, "shape": (1, 8, 8)}, {"title": "a <title>", "estimates": "mean", "tuned": "yes"})


def test_it_is_written_and_read(tmp_path: Path) -> None:
    whole = curve()
    whole.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(WRITTEN)
    back = Curve.read(tmp_path / NAME)
    assert back.verdict() == whole.verdict()
    assert json.loads((tmp_path / NAME).read_text())["verdict"] == whole.verdict()
    text = (tmp_path / "curve.md").read_text()
    places = [text.index(start) for start in ("| one call", "| Algorithm 1 | 4", "| Algorithm 2 | 50", "| order 2 | 12", "| tuned")]
    assert places == sorted(places)
    assert "Generated pictures, by walk and calls" in text
    drawn = (tmp_path / "calls.svg").read_text()
    for words in ("training pictures", "√2 × one call", "the truth itself", "tuned, g = 0.94", "a &lt;title&gt;", "Generated: FD-x"):
        assert words in drawn, words


def test_what_still_holds_of_an_earlier_curve(tmp_path: Path) -> None:
    curve().write(tmp_path)
    back, settings, images = Curve.read(tmp_path / NAME), {"seed": 0, "shape": (1, 8, 8)}, {"restored": 100, "generated": 100}
    assert len(back.valid(settings, ("", "w", "v"), images).rows) == 8
    assert [one["walk"] for one in back.valid(settings, ("", "w", "new"), images).rows].count("tuned, g = 0.94") == 0, "it was tuned anew"
    assert back.valid({**settings, "seed": 1}, ("", "w", "v"), images).rows == []
    assert {one["of"] for one in back.valid(settings, ("", "w", "v"), {"restored": 100, "generated": 50}).rows} == {"restored"}
    assert back.valid(settings, ("", "w", "v"), {}).rows == []


@pytest.mark.parametrize("text", ["[]", "{}", '{"rows": [1], "settings": {}, "facts": {}}', '{"rows": [{"walk": 1}], "settings": {}, "facts": {}}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    with pytest.raises(BadFile, match="holds no quality against calls: measure it anew with 'snowmelt evaluate --curve'"):
        Curve.read(tmp_path / NAME)


def test_an_empty_curve_is_a_picture_too() -> None:
    assert "no data yet" in Curve().figure()
    assert Curve().verdict() == []
