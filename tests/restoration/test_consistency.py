"""Data consistency: what was measured stays, whatever the restorer says, and the truth is left alone. In float64, unless it says otherwise."""

import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.data.images import quantise
from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import build, names
from snowmelt.restoration import Consistency, consistency_for, keep
from snowmelt.restorers.severity import for_degradation
from snowmelt.samplers import Heun, Naive, TACoS
from snowmelt.testing import constant, perfect, random
from snowmelt.types import Draw, State

DOUBLE = torch.float64
HALF = 1 / 255  # half a level of an 8-bit file, on [-1, 1]
EXACT = ["grey", "holes:strokes=2,width_px=4", "pixelate", "mask:strength=1,width=.1"]
DAMPED = [
    "gaussian-blur:sigma_px=2",
    "gaussian-blur:sigma_px=2,padding=circular",
    "recursive-blur:steps=4,kernel_size=5",
    "gaussian-blur:sigma_px=1+gaussian-blur:sigma_px=1",
]
SLOW = ["motion-blur:length_px=4", "recursive-blur:steps=4,kernel_size=5,padding=reflect"]
SAMPLERS = [None, "naive:steps=4", "tacos:steps=4", "tacos:steps=4,order=2", "heun:steps=5"]


def pixels(n: int = 2, h: int = 16, w: int = 20, seed: int = 0) -> Tensor:
    return torch.empty(n, 3, h, w, dtype=DOUBLE).uniform_(-1, 1, generator=generator(seed, "pixels"))


def photograph(seed: int = 0, side: int = 64) -> Tensor:
    """Blocks with edges, shading and grain: (1, 3, side, side)."""
    blocks = torch.nn.functional.interpolate(pixels(1, 5, 5, seed), size=(side, side), mode="nearest")
    shade = torch.nn.functional.interpolate(pixels(1, 3, 3, seed + 1), size=(side, side), mode="bilinear", align_corners=True)
    return (0.5 * blocks + 0.3 * shade + 0.03 * normal(blocks, generator(seed, "grain"))).clamp(-1, 1)


def measured(text: str, x: Tensor, t: float = 1.0) -> tuple[Degradation, Tensor, Draw, Tensor]:
    d = build(text)
    z, at = d.draw(x, generator(1, "draw")), torch.full((len(x),), t, dtype=x.dtype)
    return d, d(x, at, z), z, at


# --- the identities ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("text", EXACT + DAMPED + SLOW)
def test_a_consistent_walk_with_a_perfect_restorer_still_returns_the_truth(text, sampler):
    x = pixels()
    d, y, z, _ = measured(text, x)
    out = snowmelt.restore(Model(d, perfect(x)), y, severity=1.0, z=z, sampler=sampler, consistent=True)
    torch.testing.assert_close(out, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("t", [1.0, 0.5])
@pytest.mark.parametrize("text", EXACT + DAMPED + SLOW)
def test_a_picture_that_is_consistent_stays_as_it_is(text, t):
    x = photograph()
    d, y, z, _ = measured(text, x, t)
    if text in EXACT:
        assert (Consistency(d, y, t, z).settle(x) - x).abs().max() < 1e-12
    else:  # bit for bit, though y was rounded and its rounding inverted would be an error of .1
        post = consistency_for(Model(d, perfect(x)), quantise(y), t, z, wanted=True)
        assert torch.equal(post.settle(x), x)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("text", EXACT)
def test_whatever_a_restorer_says_the_measurement_is_reproduced(text, sampler):
    x, answer = pixels(), pixels(1, seed=5)
    d, y, z, at = measured(text, x)
    model = Model(d, constant(answer))
    out = snowmelt.restore(model, y, severity=1.0, z=z, sampler=sampler)
    left = d.gain((3, 16, 20), at, z).expand_as(x) if d.basis == "pixel" else torch.ones_like(x)
    assert (d(out, at, z) - y)[left > 0.05].abs().max() < 1e-9
    single = snowmelt.restore(Model(d, constant(answer.float())), y.float(), severity=1.0, z=z, sampler=sampler)
    assert (d(single, at.float(), z) - y.float())[left > 0.05].abs().max() < 1e-5
    if sampler in (None, "naive:steps=4"):  # without it, the walk or the call knows nothing of y
        off = snowmelt.restore(model, y, severity=1.0, z=z, sampler=sampler, consistent=False)
        assert (d(off, at, z) - y)[left > 0.05].abs().max() > 0.1


def test_known_pixels_of_a_user_are_kept_in_single_precision_with_a_noise_floor():
    x = pixels().float()
    mask = torch.ones(2, 1, 16, 20)
    mask[:, :, 4:9, 3:11] = 0
    model = Model(build("holes"), constant(pixels(1, seed=5).float()), noise_floor=0.05)
    out = snowmelt.restore(model, x * mask, severity=1.0, z={"mask": mask}, generator=generator(0, "floor"))
    assert ((out - x) * mask).abs().max() < 1e-5
    assert ((out - x) * (1 - mask)).abs().max() > 0.1


def test_pixelation_entered_at_a_knot_is_consistent_by_tacos_alone():
    x = pixels()
    for t in (1 / 3, 2 / 3, 1.0):
        d, y, z, at = measured("pixelate", x, t)
        out = TACoS(steps=round(3 * t)).sample(Model(d, constant(pixels(1, seed=5))), State(y, t, z))
        torch.testing.assert_close(d(out, at, z), y, rtol=0, atol=1e-12)


# --- blur, from files of 8 bits -------------------------------------------------------------------------


@pytest.mark.parametrize("text", [*DAMPED, *SLOW])
def test_a_restored_blur_agrees_with_an_8_bit_file_and_does_not_amplify_its_rounding(text):
    x = photograph(side=32 if text in SLOW else 64)
    d, y, z, at = measured(text, x)
    y = quantise(y)
    close = x + 0.05 * normal(x, generator(2, "error"))
    for estimate, limit in ((close, 1.15), (torch.full_like(x, 0.3), 1.5), (y, 1.5)):
        out = snowmelt.restore(Model(d, constant(estimate)), y, severity=1.0, z=z, sampler=None, consistent=True)
        assert (d(estimate, at, z) - y).abs().max() > 2 * HALF or estimate is y
        assert (d(out, at, z) - y).abs().max() <= limit * HALF
        assert (out - x).square().mean() <= (estimate - x).square().mean()


def test_a_plain_inverse_would_amplify_the_rounding():
    """What the tolerance is for: the same iterations without it make the truth worse with every round."""
    x = photograph()
    d, y, z, _ = measured("gaussian-blur:sigma_px=2", x)
    plain, with_tolerance = Consistency(d, quantise(y), 1.0, z), Consistency(d, quantise(y), 1.0, z, HALF)
    worse = [x]
    for _ in range(5):
        worse.append(plain(worse[-1]))
    errors = [float((v - x).square().mean().sqrt()) for v in worse]
    assert errors == sorted(errors)
    assert errors[-1] > 0.01
    assert torch.equal(with_tolerance.settle(x), x)


# --- the walk --------------------------------------------------------------------------------------------


def test_estimates_are_made_consistent_within_the_walk_and_the_state_keeps_the_restorers():
    x, answer = pixels(), pixels(1, seed=5)
    d, y, z, at = measured("pixelate", x)
    model, post = Model(d, constant(answer)), Consistency(d, y, 1.0, z)
    states = list(Naive(steps=3).trajectory(model, State(y, 1.0, z), post=post))
    assert all(torch.equal(state.x0, answer.expand_as(x)) for state in states[1:])
    torch.testing.assert_close(states[1].x, d(post(answer.expand_as(x)), torch.full_like(at, 2 / 3), z), rtol=0, atol=1e-12)
    torch.testing.assert_close(d(states[-1].x, at, z), y, rtol=0, atol=1e-12)


def test_the_end_of_a_walk_is_made_consistent_too():
    """TACoS carries a noise floor to the end, and no correction of estimates takes it away."""
    x = pixels()
    d, y, z, at = measured("holes:strokes=2,width_px=4", x)
    start = State(y + 0.05 * normal(y, generator(0, "floor")), 1.0, z)
    out = TACoS(steps=5).sample(Model(d, random()), start, post=Consistency(d, y, 1.0, z))
    assert (d(out, at, z) - y).abs().max() < 1e-12


@pytest.mark.parametrize(("sampler", "calls"), [(TACoS(steps=3), 3), (Heun(steps=3), 3)])
def test_every_estimate_is_corrected_and_the_end_once(sampler, calls):
    said, corrected = [], []

    def restorer(x: Tensor, t: Tensor) -> Tensor:
        said.append(pixels(seed=len(said)))
        return said[-1]

    out = sampler.sample(Model(build("grey"), restorer), State(pixels(), 1.0), post=lambda x0: corrected.append(x0) or x0)
    assert len(said) == calls
    assert len(corrected) == calls + 1
    assert all(torch.equal(a, b) for a, b in zip(said, corrected[:-1], strict=True))
    assert torch.equal(corrected[-1], out)


def test_order_2_extrapolates_what_the_restorer_said_and_then_corrects():
    x = pixels()
    d, y, z, _ = measured("pixelate", x)
    seen: list[Tensor] = []

    def post(x0: Tensor) -> Tensor:
        seen.append(x0)
        return x0

    answers = iter(pixels(seed=s) for s in (7, 8))
    TACoS(steps=2, order=2).sample(Model(d, lambda x, t: next(answers)), State(y, 1.0, z), post=post)
    first, second = pixels(seed=7), pixels(seed=8)
    torch.testing.assert_close(seen[1], second + (second - first) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", names("sampler"))
def test_no_post_is_no_change(name):
    x = pixels()
    d = build("noise" if name in ("ancestral", "momentum", "langevin") else "grey")
    model, sampler = Model(d, lambda x, t: torch.tanh(x)), build({"name": name, "steps": 3}, "sampler")
    state = model.corrupt(x, 1.0, generator(0, "z"))
    plain = sampler.sample(model, state, generator(1, "walk"))
    assert torch.equal(sampler.sample(model, state, generator(1, "walk"), post=lambda x0: x0), plain)


# --- when ------------------------------------------------------------------------------------------------


def chosen(text: str, z: bool = True, floor: float = 0.0, **options: object) -> Consistency | None:
    x = pixels()
    d, y, drawn, _ = measured(text, x)
    return consistency_for(Model(d, perfect(x), noise_floor=floor), y, 1.0, drawn if z else {}, **options)


def test_left_to_itself_it_is_on_where_it_is_exact_or_cheap_and_known():
    for text in EXACT + DAMPED:
        assert chosen(text) is not None
    for text in [*SLOW, "noise", "gaussian-blur+noise", "jpeg"]:
        assert chosen(text) is None
    assert chosen("mask", z=False) is None
    assert chosen("grey", floor=0.1).within == 0
    assert chosen(DAMPED[0], floor=0.1) is None
    assert chosen(DAMPED[0], floor=0.1, wanted=True).within == HALF
    assert chosen("grey", guessed=True) is None
    assert chosen("grey", guessed=True, wanted=True) is not None
    assert chosen("grey", wanted=False) is None
    assert chosen(SLOW[0], wanted=True) is not None


def test_half_a_level_is_of_the_models_range():
    x = pixels()
    model = Model(build("gaussian-blur"), perfect(x), range=(0.0, 1.0))
    assert consistency_for(model, x, 1.0).within == pytest.approx(HALF / 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise", "noise leaves nothing to be consistent with, since its noise or rounding cannot be told"),
        ("jpeg", "jpeg leaves nothing to be consistent with"),
        ("grey+mask", r"grey\+mask leaves nothing .* it knows no inverse"),
        ("mask", r"mask cannot be undone while its draw is unknown \(give centre in z\)"),
        ("mixture:parts=(grey,holes)", "mixture.* leaves nothing to be consistent with"),
    ],
)
def test_consistency_that_cannot_be_had_is_refused_by_name(text, message):
    x = pixels()
    with pytest.raises(ValueError, match=rf"{message}.*: set consistent = False"):
        snowmelt.restore(Model(build(text), perfect(x)), x, severity=1.0, sampler=None, consistent=True)


# --- mixtures and masks -------------------------------------------------------------------------------------


def test_a_mixture_keeps_the_known_pixels_when_the_user_says_so():
    x, answer = pixels().float(), pixels(1, seed=5).float()
    mask = torch.ones(2, 1, 16, 20)
    mask[:, :, 4:9, 3:11] = 0
    model = Model(build("mixture:parts=(jpeg,holes)"), constant(answer))
    free = snowmelt.restore(model, x, severity=1.0, z={"1.mask": mask})
    assert torch.equal(free, answer.expand_as(x))
    kept = snowmelt.restore(model, x, severity=1.0, z={"1.mask": mask}, consistent=True)
    assert torch.equal(kept, torch.where(mask == 1, x, answer.expand_as(x)))


def test_a_mask_that_does_not_fit_is_refused():
    x = torch.zeros(2, 3, 8, 8)
    for mask in (torch.ones(2, 1, 8, 9), torch.ones(3, 1, 8, 8)):
        with pytest.raises(ValueError, match="must agree"):
            keep(x, x, mask)


# --- severities that nobody gave -------------------------------------------------------------------------------


def test_without_a_severity_the_estimator_tells_and_the_walk_begins_there():
    x, seen = pixels().float(), []
    d = build("grey")
    estimator = for_degradation(d, (3, 16, 20)).eval()
    model = Model(d, lambda x, t: seen.append(t) or x.flip(-1), estimator=estimator)
    out = snowmelt.restore(model, x, sampler=None)
    torch.testing.assert_close(seen[0], estimator.estimate(x).severity["severity"])
    assert torch.equal(out, x.flip(-1))  # a guessed operator is nothing to be consistent with
    assert not torch.equal(snowmelt.restore(model, x, sampler=None, consistent=True), out)


def test_of_a_mixture_severity_1_is_whatever_it_was():
    seen = []
    snowmelt.restore(Model(build("mixture:parts=(grey,jpeg)"), lambda x, t: seen.append(t) or x), pixels())
    assert seen[0].tolist() == [1, 1]


def test_without_an_estimator_somebody_has_to_say():
    with pytest.raises(ValueError, match="how degraded is x.*give severity"):
        snowmelt.restore(Model(build("grey"), perfect(pixels())), pixels())
