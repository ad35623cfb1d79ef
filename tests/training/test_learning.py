"""Is it learning? The words for runs that learn, that do not, and that go wrong: tiny real ones, and logs made up."""

import ast
import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snowmelt.data.options import DataOptions
from snowmelt.training import history, learning
from snowmelt.training.learning import words
from snowmelt.training.loop import Trainer

Small = Callable[..., Trainer]
Figure = Callable[[str, str], None]
RUN = {"spec": "jpeg", "images": 960, "validate_every": 240, "validation_images": 32}
LONGER = {"images": 3840, "validate_every": 960}


def validation(images: int, restored: float, *, degraded: float = 14.0, raw: float | None = None, bands: list[float | None] | None = None) -> dict:
    loss = 4 * 10 ** (-restored / 10)
    line = {
        "images": images,
        "validation_loss": loss,
        "validation_bands": [loss] * 4 if bands is None else bands,
        "validation_degraded_psnr_db": degraded,
        "validation_restored_psnr_db": restored,
    }
    return {"step": images // 64, **line, **({} if raw is None else {"validation_raw_loss": raw})}


def log(*restored: float, lr: float = 1e-3, decay: bool = False, loss: Callable[[float], float] = lambda share: 0.1, **more: Any) -> list[dict]:
    """A log with a validation every 10,000 images and ten lines of losses before each; `loss` is of the share of the run that is done."""
    lines: list[dict] = []
    for i, psnr in enumerate(restored):
        for j in range(1, 11):
            images = i * 10_000 + 1000 * j
            share = images / (10_000 * len(restored))
            rate = lr * (0.5 + 0.5 * math.cos(math.pi * share) if decay else 1)
            lines.append({"step": images // 64, "images": images, "wall_s": images / 1e3, "loss": loss(share), "lr": rate, **more})
        lines.append(validation((i + 1) * 10_000, psnr))
    return lines


def test_real_runs_get_the_right_words(small: Small, tmp_path: Path, figure: Figure) -> None:
    """One that learns, one far too fast, one that stands still, one with eight pictures of its own."""
    eight = DataOptions(path="bundled:digits", size=8, limit=8)
    runs = {
        "learns": ({"lr": 2e-3}, ("Learning: restored", "")),
        "rate far too high": ({"lr": 1.0}, ("Not learning: restored", "far too high: try --training.lr 0.001")),
        "rate next to zero": ({"lr": 1e-12}, ("Not learning: restored", "far too low: try --training.lr 0.001")),
        "eight pictures": ({"spec": "gaussian-blur:sigma_px=2", "lr": 5e-3, "ema": 0.01, "data": eight, **LONGER}, ("", "by heart")),
    }
    right = []
    for name, (options, (verdict, cause)) in runs.items():
        out = tmp_path / name
        run = small(out, **{**RUN, **options})
        if "data" in options:  # validated on pictures that are not among the eight
            run.validation = small(tmp_path / "other").validation
        run.sampler = dataclasses.replace(run.sampler, steps=2)  # its sample grids are looked at by nobody
        run.run()
        said = words(history.read(out))
        if said[0].startswith(verdict) and cause in said[0] and (name == "learns") == said[0].startswith("Learning:"):
            right.append(name)
        else:
            print(name, *said, sep="\n  ")
    figure("numbers-words", f"right verdict and cause for {len(right)} of {len(runs)} real runs: {', '.join(right)}")
    assert right == list(runs)


def test_of_a_rate_that_the_log_does_not_tell_nothing_is_said(small: Small, tmp_path: Path) -> None:
    """Lines are 20 steps apart: this run has one, when its rate has come down, and before that none."""
    run = small(tmp_path, images=320, validate_every=160, lr=2e-3)
    run.run()
    lines = history.read(tmp_path)
    assert [line["lr"] < 2e-4 for line in lines if "lr" in line] == [True]
    for count in range(2, len(lines) + 1):
        for said in (lines[:count], [*lines[:count], {**lines[-1], "validation_restored_psnr_db": 1.0}]):
            text = " ".join(words(said))
            assert text
            assert not re.search(r"rate|--training\.lr", text), text


@pytest.mark.parametrize(
    "rates",
    [{1: 2e-5, 2: 4e-5, 3: 6e-5}, {9: 3e-4, 10: 6e-6}, {10: 6e-6}, {}],
    ids=["it still rises", "late", "at the end", "none"],
)
@pytest.mark.parametrize("restored", [(20.0, 18.0), (20.0, 20.01, 20.02), (20.0, 19.9, 21.0), (12.0, 10.0)], ids=str)
def test_no_rate_is_advised_before_the_peak_is_known(rates: dict[int, float], restored: tuple[float, ...]) -> None:
    lines = [{"step": n, "images": 64 * n, "loss": 0.1, "lr": rate, "rollbacks": 1} for n, rate in rates.items()]
    validations = [validation(640 * i, psnr) for i, psnr in enumerate(restored)]
    text = " ".join(words([validations[0], *lines, *validations[1:]]))
    assert not re.search(r"rate of|--training\.lr (than )?[\d.]", text), text


def test_growth_is_learning() -> None:
    verdict, *others = words(log(18.0, 20.0, 21.0))
    held = "restored 21.00 dB, degraded 14.00 dB of PSNR over all severities, after 30,000 images"
    assert verdict == f"Learning: {held}, +1.00 dB since the last validation."
    assert not any("Likely" in one for one in others)


def test_below_degraded_is_said_first_with_cause_and_way_out() -> None:
    assert words(log(11.0, 11.2, lr=0.05))[0] == (
        "Not learning: restored 11.20 dB, degraded 14.00 dB of PSNR over all severities, after 20,000 images: the restorer does harm. "
        "Likely the learning rate of 0.05 is far too high: try --training.lr 0.001."
    )


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], None),
        (log(13.0), "Not learning yet: .* wait for the next validation"),
        (log(20.0), "It restores: .* the next validation tells"),
        (log(11.0, 12.0, 13.0), "Not learning: .* on its way"),
        (log(20.0, 20.0, 20.0), "the same at all 3 validations.* larger --training.lr"),
        (log(20.0, 20.0, 20.0, lr=1e-9), "the same at all 3 .*far too low"),
        (log(20.0, 20.01, 20.02, 20.03), r"stands still: .* try --training\.lr 0\.0003"),
        (log(20.0, 20.0, 19.97, 19.98), r"stands still: .* -0\.02 dB against the best of the first half\."),
        (log(20.0, 20.01, 20.02, 20.03), r"stands still: .* \+0\.02 dB against the best of the first half\."),
        (log(20.0, 20.01, 20.02, 20.03, decay=True), "stands still: .* a longer run, or a larger network"),
        (log(20.0, 21.0, 19.0, loss=lambda share: 0.01 + share**3), r"got worse: .* but 21\.00 dB after 20,000.*too high: .*lr 0\.0003"),
        (log(18.0, 20.0, lr=0.5), r"^Learning: .* far above the usual: try --training\.lr 0\.001"),
        (log(20.0, 21.0, 20.5, decay=True), "got worse: .* by heart: take more of them"),
        (log(20.0, 21.0, 20.5), "got worse: .*rate of 0.001 is too high"),
        (log(20.0, 21.0, 20.5, decay=True, loss=lambda share: 0.01 + share**3), "got worse: .*rate of 0.001 is too high"),
        (log(20.0, 20.1, 20.2, loss=lambda share: 10 ** (-3 * share)), "^Learning by heart: .* Take more of them"),
        (log(20.0, 21.0, 20.9, 21.5), r"^Learning: .* Not steadily: .* lost up to 0\.10 dB; a smaller --training\.lr"),
        (log(18.0, 20.0, 21.0, decay=True), r"^Learning: .* at its end, and the second half of the run brought \+3\.00 dB: more --training\.images"),
        (log(13.0, 13.0, bad=30), "Not learning: .*numbers went wrong.* In 30 of 312 steps the loss or its gradient was no finite number"),
        (log(18.0, 20.0, rollbacks=2, bad=7), "^Learning: .* went back 2 times"),
        (log(18.0, 20.0, skipped=9), "^((?!fp16).)*$"),
        (log(18.0, 20.0, skipped=90), "fp16 skipped 90 of 312 steps.*fp32 or bf16"),
        (log(18.0, 20.0, waiting=0.4), "waited for data and degradation 40% of the time: docs/training.md"),
        (log(18.0, 20.0, waiting=0.05), "^((?!waited).)*$"),
        ([line for line in log(1.0, loss=lambda share: 1 - 0.9 * share) if "lr" in line], "training fell from .* without validation pictures"),
        ([{"step": 9, "images": 9, "lr": 1e-3, "bad": 9}], "no loss was a finite number.* In 9 of 9 steps"),
        ([*log(18.0), validation(20_000, math.nan)], "no finite numbers any more"),
        ([*log(18.0), {"step": 300, "images": 20_000, "validation_degraded_psnr_db": 14.0}], "no finite numbers any more"),
    ],
    ids=lambda value: None,
)
def test_logs_get_the_right_words(lines: list[dict], says: str | None) -> None:
    said = words(lines)
    if says is None:
        assert said == []
    else:
        assert re.search(says, " ".join(said)), said


@pytest.mark.parametrize(
    ("raw", "decay", "says"),
    [
        (0.5, False, "lags behind the weights .* normal while they learn fast"),
        (0.5, True, "half-life is long for this run"),
        (2.0, False, "they jump about"),
        (1.0, False, "agree"),
        (math.nan, False, "no finite loss any more; their moving average still does"),
    ],
)
def test_the_moving_average_is_held_against_the_weights(raw: float, decay: bool, says: str) -> None:
    lines = log(18.0, 20.0, decay=decay)
    lines[-1]["validation_raw_loss"] = raw * lines[-1]["validation_loss"]
    (found,) = (one for one in words(lines) if "average" in one)
    assert re.search(says, found), found


def test_severities_that_lose_or_do_not_gain_are_named() -> None:
    losses: list[list[float | None]] = [[0.1, 0.2, 0.3, 0.4], [0.02, 0.1, 0.1, 0.39], [0.03, 0.05, 0.05, None]]
    lines = [validation(1000 * i, 20 + 3 * i, bands=bands) for i, bands in enumerate(losses)]
    said = " ".join(words(lines))
    assert "Loss by severity: 0-0.25: 0.03, 0.25-0.5: 0.05, 0.5-0.75: 0.05." in said
    assert "Got worse again at severities 0-0.25 (0.02 after 1,000 images)." in said
    assert "Hardly any gain at severities 0.75-1;" in " ".join(words(lines[:2]))


def test_lines_that_lack_what_they_should_have_are_passed_over() -> None:
    odd: list[dict] = [{}, {"step": None}, {"loss": "x", "lr": None, "images": 3}, {"validation_loss": 1.0}, {"validation_bands": [None] * 4}]
    assert words(odd) == []
    assert words([*odd, *log(18.0, 20.0)])[0].startswith("Learning:")


@pytest.mark.parametrize("images", ["many", None, True, [1], -1, math.nan, math.inf, 1e300, 10**400])
def test_a_line_that_cannot_be_placed_counts_for_nothing(images: Any) -> None:
    lines = log(18.0, 20.0, 21.0)
    strange = [{**line, "images": images} for line in lines] + [{**line, "wall_s": images} for line in lines]
    assert learning.counted(strange) == []
    assert words(strange) == []
    assert words([*strange, *lines]) == words(lines)


def test_of_a_line_what_is_no_number_counts_for_nothing() -> None:
    (line,) = log(18.0)[-1:]
    for name in ("validation_loss", "validation_bands", "lr"):
        for value in ("x", None, {}, [["x"]], True, 10**400):
            kept = {key: one for key, one in line.items() if key != name}
            assert learning.counted([{**line, name: value}]) == [kept]
    gaps = {**line, "validation_bands": [None, 0.1, None, math.nan]}
    assert learning.counted([gaps]) == [gaps]


def test_it_reads_text_without_torch() -> None:
    imported = {node.module for node in ast.walk(ast.parse(Path(learning.__file__).read_text())) if isinstance(node, ast.ImportFrom)}
    assert not any(name and name.startswith(("torch", "snowmelt")) for name in imported)
