"""The oracle benches: orders and samples as they have to be, the kept figures as they are measured now, the page as the figures are."""

import contextlib
import io
import json
import math
import re
from pathlib import Path

import pytest
import torch

from snowmelt.samplers import Ancestral, Naive, TACoS
from snowmelt.testing import sliced_wasserstein

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "oracles.md").read_text(encoding="utf-8")
KEPT = json.loads((ROOT / "benchmarks" / "results" / "oracle.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def oracle(script):
    return script("benchmarks/oracle.py")


@pytest.fixture(scope="module")
def blur(oracle):
    return oracle.bench("blur")


def kept(path: str, sampler: str, calls: int) -> float:
    return next(row["distance"] for row in KEPT["samples"] if (row["path"], row["sampler"], row["calls"]) == (path, sampler, calls))


# --- orders ----------------------------------------------------------------------------------------------------


def test_orders_are_1_2_and_2(oracle) -> None:
    rows = KEPT["orders"]
    assert oracle.order(rows, "constant", "TACoS") == pytest.approx(1, abs=0.05)
    assert oracle.order(rows, "constant", "Heun") >= 1.9
    assert oracle.order(rows, "constant", "TACoS, order 2") >= 1.9
    assert oracle.order(rows, "flow", "DDIM") == pytest.approx(1, abs=0.05)
    assert oracle.order(rows, "flow", "DDIM, order 2") >= 1.9
    at_16 = {row["sampler"]: row["error"] for row in rows if row["path"] == "variance preserving" and row["calls"] == 16}
    assert at_16["DDIM, order 2"] <= at_16["DDIM"] / 3


def test_kept_orders_are_what_is_measured_now(oracle) -> None:
    for row in KEPT["orders"]:
        if row["calls"] in (16, 64):
            d, floor, makes = oracle.ORDERS[row["path"]]
            seen = oracle.spread(makes[row["sampler"]](row["calls"] - (row["sampler"] == "Heun")), d, floor)
            assert seen == pytest.approx(row["error"], rel=1e-6), row


# --- samples ---------------------------------------------------------------------------------------------------


def test_one_call_is_far_from_the_data(blur) -> None:
    assert blur.distance(Naive(1)) == pytest.approx(kept("blur", "direct", 1), abs=0.002)
    assert kept("blur", "direct", 1) == pytest.approx(0.202, abs=0.005)


def test_12_calls_of_order_2_are_at_the_floor(blur) -> None:
    assert blur.distance(TACoS(12, order=2)) <= 0.03


def test_50_calls_of_algorithm_2_are_at_the_floor(blur) -> None:
    assert blur.distance(TACoS(50)) <= 0.03


def test_50_calls_of_algorithm_1_are_not(blur) -> None:
    assert blur.distance(Naive(50)) >= 0.12


@pytest.mark.parametrize("path", ["mask", "noise", "warm"])
def test_12_calls_of_order_2_are_as_good_as_50_of_order_1(oracle, path) -> None:
    here, known = oracle.bench(path, 1500), path == "mask"
    two = here.distance(TACoS(12, order=2) if known else Ancestral(12, order=2, eta=0.0))
    assert two <= here.distance(TACoS(50) if known else Ancestral(50, eta=0.0)) + 0.005


def test_the_kept_figures_pass_the_gates() -> None:
    floor = sum(KEPT["floors"]) / len(KEPT["floors"])
    assert floor == pytest.approx(0.025, abs=0.006)
    assert kept("blur", "order 2", 12) <= 0.03
    assert kept("blur", "TACoS", 50) <= 0.03
    assert kept("blur", "Algorithm 1", 50) >= 0.12
    for path in ("blur", "mask", "noise", "flow", "warm"):
        assert kept(path, "order 2", 12) <= kept(path, "TACoS", 50) + 0.005, path
        for calls in (5, 8, 12):
            assert kept(path, "order 2", calls) <= min(kept(path, name, calls) for name in ("TACoS", "Heun", "ancestral")), (path, calls)
        assert kept(path, "ancestral", 50) > kept(path, "order 2", 12), path


# --- the page --------------------------------------------------------------------------------------------------


def test_what_the_page_says_of_heun() -> None:
    for calls in (5, 8):
        for path in ("noise", "flow", "warm"):
            assert kept(path, "Heun", calls) < kept(path, "TACoS", calls)
        for path in ("blur", "mask"):
            assert kept(path, "Heun", calls) > kept(path, "TACoS", calls)
        for path in ("blur", "mask", "noise", "flow", "warm"):
            assert kept(path, "order 2", calls) < kept(path, "Heun", calls)


def test_the_tables_of_the_page_are_the_measurement(oracle) -> None:
    assert oracle.order_table(KEPT["orders"]) in PAGE
    assert oracle.sample_table(KEPT["samples"]) in PAGE
    assert ", ".join(f"{f:.3f}" for f in KEPT["floors"]) in PAGE
    assert (ROOT / "docs" / "images" / "oracle.svg").read_text(encoding="utf-8") == oracle.figure(KEPT["samples"], KEPT["floors"]) + "\n"


def test_the_code_of_the_page_prints_what_the_page_says() -> None:
    blocks = re.findall(r"^```(python)?\n(.*?)^```", PAGE, flags=re.M | re.S)
    names: dict[str, object] = {"__name__": "page"}
    seen = ""
    compared = 0
    for language, text in blocks:
        if language:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(text, "docs/oracles.md", "exec"), names)
            seen = out.getvalue()
            continue
        number = r"-?\d+\.\d+"
        assert re.sub(number, "#", seen) == re.sub(number, "#", text)
        for a, b in zip(re.findall(number, seen), re.findall(number, text), strict=True):
            assert math.isclose(float(a), float(b), abs_tol=0.011), (seen, text)
        compared += 1
    assert compared == 2


# --- the distance ----------------------------------------------------------------------------------------------


def test_the_distance_of_a_shift_is_its_length_over_the_root_of_the_dimension() -> None:
    x = torch.randn(200, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert sliced_wasserstein(x, x) == 0
    assert sliced_wasserstein(x, x[torch.randperm(200, generator=torch.Generator().manual_seed(1))]) == 0
    assert sliced_wasserstein(x, x + 0.5) == pytest.approx(0.5, rel=0.1)  # |shift| = 0.5 * 4, over the root of 16
    with pytest.raises(ValueError, match="as many samples in both"):
        sliced_wasserstein(x, x[:100])
