"""Sound and scans evaluated in the same house: their own columns, words and verdicts, pieces that are kept, and refusals."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snowmelt.degradations import Degradation
from snowmelt.evaluation import Report, evaluate, generated, inputs_for, intervals, verdict, work
from snowmelt.evaluation.generated import against
from snowmelt.evaluation.kept import Kept
from snowmelt.metrics import Gathered, jensen_shannon, measures_for
from snowmelt.metrics import mmd as discrepancy
from snowmelt.metrics.birds_eye import histograms
from snowmelt.model import Model
from snowmelt.randomness import permutation
from snowmelt.registry import build, register
from snowmelt.samplers import TACoS
from snowmelt.sensor import encode
from snowmelt.signals import PICTURE, Scan, Signal, Sound

SOUND = Sound()
SCAN = Scan(rings=16, azimuths=64, up_deg=10.0, down_deg=-20.0)


class Samples:
    """A data set of samples that are there already."""

    def __init__(self, x: Tensor, signal: Signal, split: str) -> None:
        self.x, self.signal, self.split = x, signal, split
        self.shape = tuple(x.shape[1:])
        self.ids = [f"{split}/{i}" for i in range(len(x))]
        self.labels = self.classes = None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return {"x0": self.x[list(indices)]}


@dataclass(frozen=True)
class Softer(Degradation):
    """Most of every second value is lost; what comes back of it, x is doubled."""

    def draw(self, like: Tensor, generator: object = None) -> dict[str, Tensor]:
        return {}

    def degrade(self, x: Tensor, t: Tensor, z: object) -> Tensor:
        gains = torch.ones(x.shape[-1])
        gains[1::2] = 0.0
        t = t.reshape(-1, *(1,) * (x.ndim - 1))
        return x * (1 - t * (1 - gains)) + (t * (gains - 1) if x.shape[1] == 3 else 0.0)  # what a scan has lost is -1


@pytest.fixture(autouse=True)
def _registered() -> None:
    register("softer")(Softer)  # forgotten after the test


def chirps(n: int, seed: int) -> Tensor:
    """Recordings of 0.1 s: (n, 1, 800)."""
    g = torch.Generator().manual_seed(seed)
    time = torch.arange(800) / 8000
    low, up = 200 + 400 * torch.rand(n, 1, 1, generator=g), 2000 * torch.rand(n, 1, 1, generator=g)
    x = (2 * math.pi * (low * time + up * time.square())).sin() + 0.05 * torch.randn(n, 1, 800, generator=g)
    return 0.2 * x / x.square().mean(2, keepdim=True).sqrt()


def rooms(n: int, seed: int, scan: Scan = SCAN) -> Tensor:
    """Scans of a round room, each of its own size, with a floor that sends nothing back: (n, 3, rings, azimuths)."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n):
        wall = 10 + 20 * torch.rand(1, generator=g) + 3 * (torch.arange(scan.azimuths) / scan.azimuths * 2 * math.pi).sin()
        r = (wall + torch.rand(scan.rings, 1, generator=g)).expand(scan.rings, scan.azimuths).clone()
        r[-3:] = 0.0
        found.append(encode(r, torch.rand(r.shape, generator=g), scan))
    return torch.stack(found)


def splits(signal: Signal, n: int = 12) -> dict[str, Any]:
    make = chirps if isinstance(signal, Sound) else rooms
    return {name: Samples(make(n, i), signal, name) for i, name in enumerate(("test", "validation", "train"))}


def filled(x: Tensor, t: Tensor) -> Tensor:
    """Every second value from the one before it."""
    return torch.where(torch.arange(x.shape[-1]) % 2 == 1, x.roll(1, -1), x)


def judged(signal: Signal, restorer: Any = filled, **options: Any) -> Report:
    asked = {"samplers": [TACoS(steps=2)], "images": 10, "batch": 4, "severities": 2, **options}
    return evaluate(Model(Softer(), restorer, signal=signal), **splits(signal), **asked)


def row(report: Report, method: str) -> dict[str, Any]:
    return next(one for one in report.rows if one["method"] == method)


@pytest.mark.parametrize("signal", [SOUND, SCAN], ids=["sound", "scan"])
def test_all_columns_are_those_of_the_signal_and_right(signal: Signal) -> None:
    report, measures = judged(signal), measures_for(signal)
    assert report.inputs() == ["float"] == list(inputs_for(signal))
    direct = row(report, "Direct")
    test = splits(signal)["test"]
    order = [one["number"] for one in report.extremes["worst"]]
    # By hand: the restored samples themselves, in the order in which they were chosen.
    ids = permutation(0, "evaluation", 0, len(test))[:10].tolist()
    x0 = test.x[ids]
    by_hand = Gathered(measures)
    by_hand.update(filled(Softer()(x0, torch.ones(10), {}), torch.ones(10)), x0)
    for name, value in by_hand.compute().items():
        assert direct[name] == pytest.approx(value, rel=1e-6), name
        low, high = direct["intervals"][name]
        assert low <= direct[name] <= high
    assert not {"psnr", "ssim", "FD", "KID"} & direct.keys()
    half = judged(signal, lambda x, t: x + 0.25, samplers=[])
    again = Softer()(Softer()(x0, torch.ones(10), {}) + 0.25, torch.ones(10), {}) - Softer()(x0, torch.ones(10), {})
    assert row(half, "Direct")["measurement error"] == pytest.approx(float(again.double().square().mean().sqrt()), rel=1e-5)
    main = measures.first
    values = dict(zip(ids, by_hand.parts[main.name].tolist(), strict=True))
    assert order == sorted(values, key=values.get, reverse=main.better == "low")[:4]  # type: ignore[arg-type]
    assert report.extremes["worst"][0][main.name] == pytest.approx(values[order[0]])
    assert [point["t"] for point in report.severities] == [0.5, 1.0]
    assert report.severities[1]["direct"] == pytest.approx(direct["rmse"], rel=1e-6)


@pytest.mark.parametrize("signal", [SOUND, SCAN], ids=["sound", "scan"])
def test_work_is_as_much_as_is_told(signal: Signal) -> None:
    ticks: list[int] = []
    judged(signal, tick=ticks.append)
    model = Model(Softer(), filled, signal=signal)
    assert sum(ticks) == work(model, splits(signal)["test"].shape, 10, 1, severities=2)


@pytest.mark.parametrize(("signal", "words"), [(SOUND, "recordings"), (SCAN, "scans")], ids=["sound", "scan"])
def test_words_are_those_of_the_signal(signal: Signal, words: str, tmp_path: Path) -> None:
    report = judged(signal)
    report.write(tmp_path)
    again = Report.read(tmp_path / "evaluation.json")
    text = again.markdown()
    assert text == report.markdown()
    assert f"Degraded {words} at t = 1, in floating point" in text
    assert f"than the degraded {words}" in report.verdict[0]
    assert measures_for(signal).first.title in text
    assert "picture" not in text.replace("features are of pictures", "")
    assert "[-1, 1]" not in text
    assert report.facts["signal"].startswith(signal.name)


@pytest.mark.parametrize("signal", [SOUND, SCAN], ids=["sound", "scan"])
def test_an_interrupted_evaluation_goes_on_and_ends_in_the_same_report(signal: Signal, tmp_path: Path) -> None:
    alone, first = judged(signal), Kept(tmp_path)
    calls: list[int] = []

    def counted(x: Tensor, t: Tensor) -> Tensor:
        calls.append(len(x))
        return filled(x, t)

    told: list[int] = []

    def stop(n: int) -> None:
        told.append(n)
        if len(told) > 6:
            raise InterruptedError

    with pytest.raises(InterruptedError):  # in the middle
        judged(signal, kept=first, tick=stop)
    first.flush()
    assert first.done > 3
    calls.clear()
    again = Kept(tmp_path)
    report = judged(signal, counted, kept=again)
    assert again.found == first.done
    again.flush()
    once = len(calls)
    calls.clear()
    last = judged(signal, counted, kept=Kept(tmp_path))
    assert once > 0
    assert not calls
    for one in (report, last):
        assert one.markdown() == alone.markdown()
        assert (one.facts, one.verdict, one.extremes) == (alone.facts, alone.verdict, alone.extremes)


def test_silence_is_left_out_and_counted() -> None:
    data = splits(SOUND)
    data["test"].x[3] = 0.0
    model = Model(Softer(), filled, signal=SOUND)
    report = evaluate(model, **data, samplers=[], images=12, severities=0)
    direct = row(report, "Direct")
    assert direct["left out"] == {"SI-SDR": 1, "LSD": 1, "segmental SNR": 1}
    assert report.facts["left out"] == "SI-SDR of 1, LSD of 1, segmental SNR of 1: the truth is silent there"
    with_sound = [i for i in range(12) if i != 3]
    other = {name: Samples(one.x[with_sound], SOUND, name) for name, one in data.items()}
    without = row(evaluate(model, **other, samplers=[], images=11, severities=0), "Direct")
    assert direct["si_sdr"] == pytest.approx(without["si_sdr"], rel=1e-9)
    assert all(one["number"] != 3 for part in report.extremes.values() for one in part)
    nothing = {name: Samples(torch.zeros(4, 1, 800), SOUND, name) for name in data}
    silent = evaluate(model, **nothing, samplers=[], images=4, severities=0)
    assert silent.verdict == ["No recording among these has a SI-SDR: nothing can be said of the restorer."]
    assert "si_sdr" not in row(silent, "Direct")
    assert "–" in silent.markdown() or "SI-SDR" not in silent.markdown().split("- ")[0]


def test_scans_without_any_return_are_no_crash() -> None:
    data = {name: Samples(torch.full((4, 3, 16, 64), -1.0), SCAN, name) for name in ("test", "validation", "train")}
    report = evaluate(Model(Softer(), filled, signal=SCAN), **data, samplers=[], images=4, severities=0)
    assert row(report, "Direct")["return_error"] == 0
    assert "mae_m" not in row(report, "Direct")
    assert "without returns" in report.facts["left out"]


def test_gains_are_paired_and_decide_what_convinces() -> None:
    report = judged(SOUND)
    gain, direct, degraded = row(report, "Direct")["gains"]["Degraded"], row(report, "Direct"), row(report, "Degraded")
    assert gain["by"] == pytest.approx(direct["si_sdr"] - degraded["si_sdr"])
    low, high = gain["interval"]
    assert 0 < low < gain["by"] < high
    own = direct["intervals"]["si_sdr"]
    assert report.verdict[0].startswith(f"SI-SDR {direct['si_sdr']:.2f} dB after one call of the restorer (95 %: {own[0]:.2f} to {own[1]:.2f}): ")
    assert f"{gain['by']:.2f} dB better than the degraded recordings (95 % of the gain: {low:+.2f} to {high:+.2f})" in report.verdict[0]
    scans = judged(SCAN)
    by = row(scans, "Direct")["gains"]["Degraded"]["by"]
    assert by == pytest.approx(row(scans, "Degraded")["mae_m"] - row(scans, "Direct")["mae_m"])
    assert f"{by:.3f} m better than the degraded scans" in scans.verdict[0]
    same = judged(SCAN, lambda x, t: x)
    assert same.verdict[0].startswith("Not convincing: MAE of range")


def test_what_is_hard_for_both_adds_nothing_to_the_interval_of_a_gain() -> None:
    measures = measures_for(SOUND)
    own, other = Gathered(measures), Gathered(measures)
    values = 10 * torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own.extend({"si_sdr": values + 2})
    other.extend({"si_sdr": values})
    by, sure = intervals.of_difference(own, other, measures.first, 0) or (0.0, None)
    assert by == pytest.approx(2)
    assert sure == pytest.approx((2, 2), abs=1e-4)
    worse, _ = intervals.of_difference(other, own, measures.first, 0) or (0.0, None)
    assert worse == pytest.approx(-2)
    scans, better = Gathered(measures_for(SCAN)), Gathered(measures_for(SCAN))
    scans.extend({"mae_m": torch.tensor([2.0, math.nan, 4.0]), "returns": torch.tensor([10, 0, 30])})
    better.extend({"mae_m": torch.tensor([1.0, math.nan, 1.0]), "returns": torch.tensor([10, 0, 30])})
    assert (intervals.of_difference(better, scans, measures_for(SCAN).first, 0) or (0.0, None))[0] == pytest.approx(2.5)
    nothing = Gathered(measures)
    nothing.extend({"si_sdr": torch.full((50,), math.nan)})
    assert intervals.of_difference(own, nothing, measures.first, 0) is None


def test_the_verdict_names_the_best_rival_and_every_measure_in_which_it_wins() -> None:
    def line(method: str, kind: str, si_sdr: float, lsd: float, **more: Any) -> dict[str, Any]:
        return {"method": method, "kind": kind, "calls": 1, "si_sdr": si_sdr, "lsd": lsd, "rmse": 0.1, **more}

    def gains(**by: tuple[float, float, float]) -> dict[str, Any]:
        return {"gains": {name: {"by": one, "interval": (low, high)} for name, (one, low, high) in by.items()}}

    rows = [line("Degraded", "degraded", 0.0, 9.0), line("sinc", "filter", 3.0, 7.0), line("Wiener", "filter", 5.0, 8.0)]
    won = line("Direct", "direct", 8.0, 7.5, **gains(Degraded=(8.0, 7.0, 9.0), sinc=(5.0, 4.0, 6.0), Wiener=(3.0, 2.5, 3.5)))
    said = verdict([*rows, won], SOUND)
    assert said == [
        "SI-SDR 8.00 dB after one call of the restorer: 8.00 dB better than the degraded recordings (95 % of the gain: +7.00 to +9.00), "
        "and 3.00 dB better than Wiener, the best of 2 methods without a network (95 % of the gain: +2.50 to +3.50).",
        "One call is worse than what needs no network in: LSD (7.50 dB; sinc 7.00 dB).",
    ]
    chance = {**won, **gains(Degraded=(8.0, 7.0, 9.0), sinc=(5.0, 4.0, 6.0), Wiener=(3.0, -0.1, 6.0))}
    assert verdict([*rows, chance], SOUND)[0].startswith("Not convincing: ")
    lost = {**won, "si_sdr": 4.0, **gains(Degraded=(4.0, 3.0, 5.0), sinc=(1.0, 0.5, 1.5), Wiener=(-1.0, -1.5, -0.5))}
    assert "and 1.00 dB worse than Wiener" in verdict([*rows, lost], SOUND)[0]
    walked = gains(Degraded=(9.0, 8.0, 9.5), sinc=(6.0, 5.0, 7.0), Wiener=(4.0, 3.0, 5.0))
    walk = line("TACoS", "walk", 9.0, 7.0, **{"RMSE of last estimate": 0.1, **walked})
    told = verdict([*rows, won, {**walk, "calls": 8}, {**walk, "calls": 4, "si_sdr": 7.0}], SOUND)[2]
    assert told == (
        "TACoS with 8 calls, the best of these 2 walks on these recordings: SI-SDR 9.00 dB, better than one call's 8.00 dB; "
        "1 of 2 walks are worse than one call; 4.00 dB better than Wiener (95 % of the gain: +3.00 to +5.00)."
    )
    assert "no better than one call's 8.00 dB." in verdict([*rows, won, {**walk, "si_sdr": 7.0}], SOUND)[2]


@pytest.mark.parametrize(("signal", "spec"), [(SOUND, "background:snr_db=5"), (SCAN, "beam-drop:beams=8")], ids=["sound", "scan"])
def test_methods_without_a_network_are_rows_and_rivals(signal: Signal, spec: str) -> None:
    ticks: list[int] = []
    model, data = Model(build(spec), lambda x, t: x, signal=signal), splits(signal)
    report = evaluate(model, **data, samplers=[], images=6, severities=0, tick=ticks.append)
    filters = [one for one in report.rows if one["kind"] == "filter"]
    assert len(filters) > 1
    assert sum(ticks) == work(model, data["test"].shape, 6, 0, severities=0)
    main = measures_for(signal).first
    assert set(row(report, "Direct")["gains"]) == {"Degraded", *(one["method"] for one in filters)}
    best = (max if main.better == "high" else min)(filters, key=lambda one: one[main.name])
    assert best[main.name] != row(report, "Degraded")[main.name]
    assert report.verdict[0].startswith("Not convincing: ")  # a restorer that does nothing
    assert f"than {best['method']}, the best of {len(filters)} methods without a network" in report.verdict[0]


def test_refusals_say_what_to_do() -> None:
    for signal in (SOUND, SCAN):
        with pytest.raises(ValueError, match=f"8 bits are those of a picture file, and these are {signal.many}: give float"):
            judged(signal, inputs=("8bit",))
    model, data = Model(Softer(), filled, signal=Sound(rate_hz=16_000)), splits(SOUND)
    with pytest.raises(ValueError, match=r"the model restores sound:rate_hz=16000.* and the test data are sound.*: open them as the model has them"):
        evaluate(model, **data, samplers=[], images=4)
    with pytest.raises(ValueError, match="the model restores picture"):
        evaluate(dataclasses.replace(model, signal=PICTURE), **data, samplers=[], images=4)


def test_features_of_pictures_are_refused(blocks: Any) -> None:
    with pytest.raises(ValueError, match="features = blocks are of pictures, and these are recordings: leave them out"):
        judged(SOUND, features=blocks)


def test_generated_scans_are_measured_from_above_beside_the_floor() -> None:
    train, test = Samples(rooms(40, 1), SCAN, "train"), Samples(rooms(40, 2), SCAN, "test")
    fresh, alike = generated(rooms(20, 3), train, test), generated(rooms(1, 4).expand(20, -1, -1, -1), train, test)
    jsd, mmd = "JSD of bird's-eye views against test", "MMD of bird's-eye views against test"
    a, b, c = (histograms(x, SCAN) for x in (rooms(20, 3), *(data.x[_order(name)[:20]] for name, data in (("train", train), ("test", test)))))
    assert fresh["measures"][jsd] == pytest.approx((jensen_shannon(a, c), jensen_shannon(b, c)))
    assert fresh["measures"][mmd] == pytest.approx((discrepancy(a, c), discrepancy(b, c)))
    assert alike["measures"][jsd][0] > 1.3 * alike["measures"][jsd][1]
    assert alike["intervals"][jsd][0] > fresh["intervals"][jsd][1]
    assert not any(name.startswith(("FD", "KID", "precision")) for name in fresh["measures"])
    assert any("real scans score" in said for said in fresh["verdict"])
    assert "picture" not in " ".join([*fresh["verdict"], *map(str, fresh["facts"].values()), *fresh["facts"]])
    copies = generated(train.x[:20], train, test)
    assert any("some may be learned by heart" in said for said in copies["verdict"])
    assert [one["generated"] == one["train"] for one in copies["nearest"]] == [True] * 8
    empty = generated(torch.full((20, 3, 16, 64), -1.0), train, test)
    assert empty["measures"][jsd][0] == pytest.approx(math.sqrt(math.log(2)))
    some = against(rooms(20, 3), test, None)
    assert some[jsd.removesuffix(" against test")] == pytest.approx(fresh["measures"][jsd][0])
    assert against(None, test, None, train=train, n=20)[jsd.removesuffix(" against test")] == pytest.approx(fresh["measures"][jsd][1])


def _order(name: str) -> list[int]:
    return permutation(0, f"generated-{name}", 0, 40).tolist()


def test_generated_recordings_are_measured_in_mel_bands() -> None:
    train, test = Samples(chirps(40, 1), SOUND, "train"), Samples(chirps(40, 2), SOUND, "test")
    found = generated(chirps(20, 3), train, test)
    assert found["facts"]["distances between"] == "features log-mel"
    value, floor = found["measures"]["FD-log-mel against test"]
    hiss = generated(0.2 * torch.randn(20, 1, 800, generator=torch.Generator().manual_seed(0)), train, test)
    assert hiss["measures"]["FD-log-mel against test"][0] > 5 * max(value, floor)
    loud = generated(3 * chirps(20, 3), train, test)  # nothing is clamped
    assert loud["measures"]["FD-log-mel against test"][0] > 5 * max(value, floor)
    copies = generated(train.x[:20], train, test)
    assert any("some may be learned by heart" in said for said in copies["verdict"])
    assert "clamped" not in found["facts"]["generated"]
    assert "recordings" in found["verdict"][0]
    with pytest.raises(ValueError, match="give at least 2, and 4 of that shape"):
        generated(chirps(20, 3)[..., 1:], train, test)


def test_features_of_pictures_say_nothing_of_generated_sound(blocks: Any) -> None:
    train = Samples(chirps(40, 1), SOUND, "train")
    with pytest.raises(ValueError, match="features = blocks are of pictures, and these are recordings"):
        generated(chirps(20, 3), train, train, features=blocks)
