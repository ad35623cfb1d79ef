"""Reading severities: windows, pooling, words, and what a file keeps of it. What an estimator learns is tested where it is fitted."""

import math

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.randomness import generator
from snowmelt.registry import build
from snowmelt.restorers.severity import Estimate, Estimator, Reading, for_degradation
from snowmelt.types import severity

NAMES = ("noise", "jpeg")


def estimator(*unknowns: str, shape: tuple[int, int, int] = (3, 32, 32), local: tuple[str, ...] = ()) -> Estimator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Estimator(shape, unknowns or NAMES, local=local).eval().requires_grad_(False)


def pixels(b: int, h: int, w: int, c: int = 3) -> Tensor:
    return torch.empty(b, c, h, w).uniform_(-1, 1, generator=generator(0, "pixels"))


def reading(logit: list[float], mean: list[float], std: list[float]) -> Reading:
    """One unknown, one picture, some windows."""
    a, b, c = (torch.tensor(value)[None, :, None] for value in (logit, mean, std))
    return Reading(a, b, c, torch.zeros(1, len(logit)))


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("noise", ()),
        ("mask", ("severity",)),
        ("mask:centre=middle", ("severity",)),
        ("mask+noise", ()),
        ({"name": "choice", "parts": ["gaussian-blur", "pixelate"]}, ()),
        ({"name": "choice", "parts": ["gaussian-blur", "mask"]}, ("severity",)),
        ("fade-mask:routine=random,towards=colour", ("severity",)),
        ("fade-mask:reverse=true,towards=colour", ()),
        ({"name": "mixture", "parts": ["noise", "holes", "jpeg", "mask"]}, ("holes", "mask")),
    ],
)
def test_only_damage_of_some_places_is_read_from_one_window(text: object, local: tuple[str, ...]) -> None:
    assert for_degradation(build(text), (3, 32, 32)).local == local


def test_the_shipped_estimator_knows_what_is_local() -> None:
    shipped = snowmelt.load("photo")
    assert shipped.estimator is not None
    assert for_degradation(shipped.degradation, (3, 64, 64)).local == shipped.estimator.local == ("holes",)


# --- windows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("h", "w", "n"), [(32, 32, 1), (40, 32, 2), (200, 90, 12), (1000, 700, 16), (20, 500, 4)])
def test_windows_lie_on_the_grid_of_jpeg_from_end_to_end(h: int, w: int, n: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    x = torch.stack([rows, columns, rows])[None].float()
    found = estimator().windows(x)
    assert found.shape == (1, n, 3, min(h, 32), min(w, 32))
    starts = found[0, :, :2, 0, 0]
    assert bool((starts % 8 == 0).all())
    assert len(torch.unique(starts, dim=0)) == n
    assert h - min(h, 32) - float(starts[:, 0].max()) < 8
    assert w - min(w, 32) - float(starts[:, 1].max()) < 8


@pytest.mark.parametrize(("h", "w"), [(1, 1), (5, 40), (15, 17), (33, 90)])
def test_any_size_is_read_and_always_alike(h: int, w: int) -> None:
    x, reader = pixels(3, h, w), estimator()
    first, again = reader.estimate(x), reader.estimate(x)
    for name in NAMES:
        assert first.severity[name].shape == (3,)
        assert torch.equal(first.severity[name], again.severity[name])
        assert bool(((first.severity[name] >= 0) & (first.severity[name] <= 1) & (first.std[name] > 0)).all())


def test_a_picture_is_read_by_itself_whatever_else_is_in_the_batch() -> None:
    x, reader = pixels(4, 70, 50), estimator()
    whole = reader.estimate(x)
    for i in range(4):
        alone = reader.estimate(x[i : i + 1])
        assert float(alone.severity["jpeg"]) == pytest.approx(float(whole.severity["jpeg"][i]), abs=1e-6)


def test_pictures_that_cannot_be_read_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"with c = 3; got \(1, 1, 32, 32\)"):
        estimator().estimate(pixels(1, 32, 32, c=1))
    with pytest.raises(ValueError, match="not finite"):
        estimator().estimate(torch.full((1, 3, 32, 32), math.nan))
    with pytest.raises(ValueError, match="at least one unknown"):
        Estimator((3, 32, 32), ())


def test_the_first_filters_begin_blind_to_brightness() -> None:
    reader = estimator()
    first = reader.layers[0]
    dark, bright = (first(torch.full((1, 12, 9, 9), level))[..., 1:-1, 1:-1] for level in (-0.8, 0.8))
    assert torch.allclose(dark, bright, atol=1e-5)


# --- pooling ---------------------------------------------------------------------------------------------


def test_the_law_with_its_atom_has_the_moments_of_a_mixture() -> None:
    found = estimator("severity").pooled(reading([0.0], [0.6], [0.1]))
    sample = torch.cat([torch.zeros(200_000), 0.6 + 0.1 * torch.randn(200_000, generator=generator(0, "law"))])
    assert float(found.present["severity"]) == 0.5
    assert float(found.severity["severity"]) == pytest.approx(float(sample.mean()), abs=1e-3)
    assert float(found.std["severity"]) == pytest.approx(float(sample.std()), abs=1e-3)


@pytest.mark.parametrize(("shared", "factor"), [(1.0, 1.0), (0.25, math.sqrt((1 + 3 * 0.25) / 4))])
def test_windows_narrow_the_answer_as_far_as_their_errors_are_their_own(shared: float, factor: float) -> None:
    reader = estimator("severity")
    reader.shared.fill_(shared)
    one, four = (reader.pooled(reading([30.0] * n, [0.5] * n, [0.08] * n)) for n in (1, 4))
    assert float(four.std["severity"]) == pytest.approx(factor * float(one.std["severity"]), rel=1e-5)


def test_precise_windows_count_more_and_quarrelling_ones_widen_the_answer() -> None:
    reader = estimator("severity")
    found = reader.pooled(reading([30.0, 30.0], [0.2, 0.4], [0.1, 0.2]))
    assert float(found.severity["severity"]) == pytest.approx((100 * 0.2 + 25 * 0.4) / 125, rel=1e-5)
    assert not bool(found.unsure)
    quarrel = reader.pooled(reading([30.0, 30.0], [0.2, 0.8], [0.05, 0.05]))
    assert float(quarrel.std["severity"]) == pytest.approx(0.3 * math.sqrt(2), rel=1e-4)
    assert bool(quarrel.unsure)


def test_one_window_that_sees_a_hole_outweighs_those_that_do_not() -> None:
    windows = reading([4.0, -4.0, -4.0, -4.0], [0.9] * 4, [0.1] * 4)
    here, anywhere = (estimator("holes", local=local).pooled(windows).present["holes"] for local in (("holes",), ()))
    assert float(here) > 0.95
    assert float(anywhere) < 0.5


def test_large_deviations_and_strange_statistics_are_called_unsure() -> None:
    reader = estimator("severity")
    reader.std_limit.fill_(0.2)
    reader.strange_limit.fill_(2.0)
    sure, wide = (reader.pooled(reading([30.0], [0.5], [std])) for std in (0.1, 0.3))
    assert not bool(sure.unsure)
    assert bool(wide.unsure)
    strange = reading([30.0], [0.5], [0.1])._replace(strangeness=torch.full((1, 1), 3.0))
    assert bool(reader.pooled(strange).unsure)


# --- words -----------------------------------------------------------------------------------------------


def test_an_estimate_is_said_with_units_and_doubts() -> None:
    D = build({"name": "mixture", "parts": ["noise:schedule=ve(sigma_max=0.4)", "jpeg", "holes"]})
    columns = [
        {"noise": torch.tensor([t, 0.0]), "jpeg": torch.tensor([u, 0.0]), "holes": torch.tensor([v, 0.0])}
        for t, u, v in [(0.48, 0.5, 0.3), (0.05, 0.1, 0.4), (0.99, 0.6, 0.3)]
    ]
    columns[2] = {name: torch.tensor([float(value[0]), 0.01]) for name, value in columns[2].items()}
    first, second = Estimate(*columns, torch.tensor([True, False])).describe(D)
    assert first.startswith("noise 0.48 ± 0.05 (sigma 24 ± 3 of 255); probably jpeg 0.50 ± 0.10 (quality 20 ± 4); unsure")
    assert second == "no damage found"


@pytest.mark.parametrize(
    ("text", "said"),
    [("gaussian-blur:sigma_px=8", "sigma 1.3 ± 0.5 px"), ("noise", "alpha 0.71 ± 0.11, sigma 0.71 ± 0.11"), ("grey", "severity 0.50 ± 0.10")],
)
def test_a_single_severity_speaks_the_units_of_its_degradation(text: str, said: str) -> None:
    t, std, present = ({"severity": torch.tensor([value])} for value in (0.5, 0.1, 1.0))
    (line,) = Estimate(t, std, present, torch.tensor([False])).describe(build(text))
    assert said in line
    assert "unsure" not in line


# --- files -----------------------------------------------------------------------------------------------


def test_an_estimator_of_eight_parts_is_small_and_comes_back_the_same() -> None:
    reader = estimator(*"abcdefgh", shape=(3, 64, 64), local=("c",)).rounded()
    reader.std_scale.uniform_(0.5, 1.5)
    tensors = reader.tensors()
    assert sum(p.numel() for p in reader.parameters()) <= 150_000
    assert sum(t.numel() * t.element_size() for t in tensors.values()) <= 400_000
    back = Estimator.described(reader.table()).restored(tensors)
    x = pixels(2, 100, 80)
    one, two = reader.estimate(x), back.estimate(x)
    assert all(torch.equal(getattr(one, kind)[name], getattr(two, kind)[name]) for kind in ("severity", "std", "present") for name in "abcdefgh")
    assert back.local == ("c",)


def test_a_degradation_says_what_is_unknown_and_what_is_local() -> None:
    D = build({"name": "mixture", "parts": ["holes", "jpeg"]})
    assert (for_degradation(D, (3, 16, 16)).unknowns, for_degradation(D, (3, 16, 16)).local) == (("holes", "jpeg"), ("holes",))
    assert for_degradation(build("mask"), (1, 16, 16)).local == ("severity",)
    x = pixels(2, 16, 16)
    assert list(D.unknowns(severity(1.0, x), D.draw(x, generator(0, "z")))) == ["holes", "jpeg"]


def test_damage_that_is_doubtful_one_by_one_is_probable_together() -> None:
    D = build({"name": "mixture", "parts": ["noise:schedule=ve(sigma_max=0.4)", "jpeg", "holes"]})
    chances = {"noise": torch.tensor([0.3, 0.2]), "jpeg": torch.tensor([0.4, 0.2]), "holes": torch.tensor([0.9, 0.9])}
    nothing = {name: torch.zeros(2) for name in chances}
    found = Estimate(nothing, nothing, chances, torch.tensor([False, False]))
    torch.testing.assert_close(found.damaged, torch.tensor([1 - 0.7 * 0.6, 1 - 0.8 * 0.8]))  # holes cannot be seen
    assert found.describe(D) == ["some damage, jpeg more likely than other", "no damage found"]
