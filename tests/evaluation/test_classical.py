"""Classical restorers by what a model undoes: who they are, that they are tuned, that they help, that they are told no more than they may be."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.evaluation import classical
from snowmelt.evaluation.starts import start
from snowmelt.metrics import measures_for
from snowmelt.metrics.measures import Gathered
from snowmelt.model import Model
from snowmelt.sensor import encode
from snowmelt.signals import PICTURE, Scan, Signal, Sound

SOUND, SCAN = Sound(8000), Scan(16, 64, 10.0, -20.0, farthest_m=80.0)
ALL = {
    "sound": [
        "background:snr_db=0",
        "low-pass:cutoff=0.25",
        "down-sample:factor=4",
        "packet-loss:packet=60",
        "clipping:level=0.2",
        "bit-depth:bits=4",
        "reverberation",
    ],
    "scan": ["beam-drop:beams=4,rings=16", "azimuth-drop:factor=4", "ray-drop:lost=0.5", "range-noise:sigma_m=0.5", "fog:visibility_m=50", "rain"],
}


class Few:
    """Clean samples in memory, as a data set gives them."""

    def __init__(self, x: Tensor, signal: Signal) -> None:
        self.x, self.signal, self.shape, self.labels = x, signal, tuple(x.shape[1:]), None

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, ids: Sequence[int]) -> dict[str, Tensor]:
        return {"x0": self.x[list(ids)]}


def sounds(k: int, seed: int) -> Few:
    """Voices with pauses."""
    t, gen = torch.arange(3000) / 8000, torch.Generator().manual_seed(seed)
    pitch = 120 + 80 * torch.rand(k, 1, generator=gen)
    x = sum(torch.sin(6.283 * h * pitch * t) / h for h in range(1, 24)) * (torch.sin(6.283 * 3 * t) > 0)
    x = x + 0.003 * torch.randn(k, 3000, generator=gen)
    return Few((0.2 * x / x.square().mean(1, keepdim=True).sqrt())[:, None], SOUND)


def scans(k: int, seed: int) -> Few:
    """A car park: ground, a wall all around, and a box."""
    gen = torch.Generator().manual_seed(seed)
    down = torch.deg2rad(torch.tensor(SCAN.beams_deg))[:, None]
    made = []
    for _ in range(k):
        wall = 12 + 4 * torch.rand(1, generator=gen) + 2 * torch.cos(torch.linspace(0, 6.283, 65)[:-1])
        ground = torch.where(down < 0, 1.7 / torch.sin(-down).clamp(min=1e-3), 1e3)
        r = torch.minimum(ground, wall / torch.cos(down))
        r[4:9, 20:30] = 5.0
        r[0, 40:] = 0.0
        made.append(encode(r, torch.full_like(r, 0.5), SCAN))
    return Few(torch.stack(made), SCAN)


def model(spec: str, signal: Signal) -> Model:
    return Model(registry.build(spec, kind="degradation"), lambda x, t, z=None: x, signal=signal)


def scored(one: Model, data: Few, method: object) -> float:
    x0, state = start(one, data, range(len(data)), seed=5, device="cpu")  # type: ignore[arg-type]
    scores = Gathered(measures_for(data.signal))
    scores.update(method(one, state, range(len(data)))[0], x0)  # type: ignore[operator]
    found = scores.compute()[scores.measures.main]
    assert found is not None
    return found


@pytest.mark.parametrize("spec", ALL["sound"] + ALL["scan"])
def test_every_degradation_has_its_rivals(spec: str) -> None:
    make, signal = (sounds, SOUND) if spec in ALL["sound"] else (scans, SCAN)
    one = model(spec, signal)
    entries = classical.methods_for(one, make(6, 0), make(2, 1))  # type: ignore[arg-type]
    assert len(entries) == classical.count(one) > 0
    assert len({entry.title for entry in entries}) == len(entries)
    test = make(2, 2)
    _, state = start(one, test, range(2), seed=5, device="cpu")  # type: ignore[arg-type]
    before = state.x.clone()
    for entry in entries:
        out, estimate = entry.method(one, state, range(2))
        assert (entry.kind, entry.calls, estimate) == ("filter", 0, None)
        assert out.shape == before.shape
        assert out.dtype == before.dtype
        assert bool(out.isfinite().all())
    assert torch.equal(state.x, before)


@pytest.mark.parametrize(
    ("spec", "title", "gain"),
    [
        ("background:snr_db=0", "Wiener, decision-directed, told the noise level", 7),
        ("background:snr_db=0", "Wiener, decision-directed, blind", 4),
        ("packet-loss:packet=60", "Least-squares autoregression", 3),
        ("beam-drop:beams=4,rings=16", "Linear", 5),
        ("azimuth-drop:factor=4", "Linear", 5),
        ("ray-drop:lost=0.5", "Nearest", 4),
        ("range-noise:sigma_m=0.5", "Bilateral", 0.1),
        ("fog:visibility_m=10", "Nearest where nothing came back", 0.3),
    ],
)
def test_the_best_of_them_help(spec: str, title: str, gain: float) -> None:
    signal = SCAN if registry.build(spec, kind="degradation").takes == "scan" else SOUND  # type: ignore[attr-defined]
    make = scans if signal == SCAN else sounds
    one, test = model(spec, signal), make(3, 2)
    entries = classical.methods_for(one, make(4, 0), make(2, 1))  # type: ignore[arg-type]
    best = next(entry.method for entry in entries if entry.title == title)
    sign = 1 if measures_for(signal).first.better == "high" else -1
    assert sign * (scored(one, test, best) - scored(one, test, lambda m, state, ids: (state.x, None))) > gain


def test_parameters_are_those_that_do_best_on_validation_samples() -> None:
    one, seen = model("background:snr_db=0", SOUND), sounds(2, 0)
    state = start(one, seen, range(2), seed=0, device="cpu")  # type: ignore[arg-type]
    mixes = classical.Candidate("mix", lambda x, z, share: (1 - share) * x + share * seen.x, classical._grid(share=(0.2, 0.9, 0.5)))
    assert classical._chosen(mixes, one, state) == {"share": 0.9}
    assert classical._chosen(mixes._replace(by="lsd"), one, state) == {"share": 0.9}
    assert classical._chosen(mixes, one, None) == {"share": 0.2}


@pytest.mark.parametrize(("data", "columns"), [(sounds(2, 0), ("si_sdr", "lsd")), (scans(2, 0), ("mae_m",))])
def test_parameters_are_chosen_by_the_columns_of_the_report(data: Few, columns: tuple[str, ...]) -> None:
    measures = measures_for(data.signal)
    x = data.x + 0.1 * torch.randn(data.x.shape, generator=torch.Generator().manual_seed(0))
    scores = Gathered(measures)
    scores.update(x, data.x)
    for name in columns:
        assert classical._score(name, measures, x, data.x) == pytest.approx(scores.compute()[name], rel=1e-4)
    with pytest.raises(ValueError, match="no parameter is chosen by rmse"):
        classical._score("rmse", measures, x, data.x)


def test_what_is_lost_is_seen_by_what_does_not_depend_on_the_sample() -> None:
    one, x = model("packet-loss:lost=0.5,packet=100", SOUND), sounds(2, 0).x
    z = one.draw(x, torch.Generator().manual_seed(0))
    assert torch.equal(classical.lost(one.degradation, x, z), (z["mask"] < 1).expand_as(x))


def test_others_have_none() -> None:
    for spec, signal in (("gaussian-blur", PICTURE), ("noise", SOUND), ("background+packet-loss", SOUND)):
        one = model(spec, signal)
        assert classical.count(one) == 0
        assert classical.methods_for(one, sounds(1, 0), sounds(1, 0)) == []  # type: ignore[arg-type]
