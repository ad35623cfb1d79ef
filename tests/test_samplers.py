"""The walk itself: its grid, its states, its randomness and what it refuses. What it computes is in test_identities.py."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snowmelt.model import Model
from snowmelt.randomness import generator, generators, normal
from snowmelt.registry import SpecError, build, names, spec, table
from snowmelt.samplers import Ancestral, Heun, Langevin, Momentum, Naive, TACoS, default_sampler, on_knots
from snowmelt.testing import check_sampler
from snowmelt.types import EMPTY, State


def pixels(n: int = 3, seed: int = 0) -> Tensor:
    return torch.empty(n, 3, 6, 8, dtype=torch.float64).uniform_(-1, 1, generator=generator(seed, "pixels"))


def guess(x: Tensor, t: Tensor) -> Tensor:
    """Some restorer, row by row."""
    return torch.tanh(x.flip(-1) + 0.3 * x + t[:, None, None, None])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("text", ["gaussian-blur", "noise", "pixelate", "mask+noise:schedule=betas(steps=9)"])
@pytest.mark.parametrize("name", names("sampler"))
def test_contract(name, text, order):
    d = build(text)
    if (name in ("ancestral", "momentum", "langevin") and not d.recovers) or (name == "langevin" and order == 2):
        pytest.skip("refused, which is tested by itself")
    for steps in (1, 4, 9):
        check_sampler(build({"name": name, "steps": steps, "order": order}, "sampler"), d)


@pytest.mark.parametrize("text", ["noise", "gaussian-blur+noise:schedule=linear", "mask+noise:schedule=betas(steps=9)"])
@pytest.mark.parametrize(
    "variant",
    [
        "ancestral:variance=large",
        "ancestral:again=3",
        "ancestral:variance=large,again=2",
        "momentum:closed=true",
        "langevin:inner=3,rate=1",
        "naive:fresh=true",
        "naive:noise=0.1",
    ],
)
def test_contract_of_variants(variant, text):
    for steps in (1, 4, 9):
        check_sampler(replace(build(variant, "sampler"), steps=steps), build(text))


@pytest.mark.parametrize(("steps", "calls", "moves"), [(1, 1, 1), (2, 1, 1), (3, 3, 2), (4, 3, 2), (9, 9, 5)])
def test_heun_makes_two_calls_a_move_and_never_more_than_steps(steps, calls, moves):
    seen = []
    model = Model(build("grey"), lambda x, t: seen.append(t) or x)
    states = list(Heun(steps).trajectory(model, State(pixels(), 1.0)))
    assert len(seen) == calls
    assert len(states) == moves + 1


def test_heun_averages_the_estimates_at_both_ends():
    d, x = build("grey"), pixels()
    t, s, end = (torch.full((3,), v, dtype=x.dtype) for v in (1.0, 0.5, 0.0))
    first = guess(x, t)
    ahead = x - d(first, t) + d(first, s)
    mean = (first + guess(ahead, s)) / 2
    middle = x - d(mean, t) + d(mean, s)
    last = guess(middle, s)
    expected = middle - d(last, s) + d(last, end)
    torch.testing.assert_close(Heun(3).sample(Model(d, guess), State(x, 1.0)), expected, rtol=0, atol=1e-12)


def test_the_grid_is_uniform_from_1_to_0():
    assert TACoS(4).grid() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert Heun(5).grid() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    for steps in (1, 3, 7, 1000):
        grid = Naive(steps).grid()
        assert (len(grid), grid[0], grid[-1]) == (steps + 1, 1.0, 0.0)
        assert all(a > b for a, b in itertools.pairwise(grid))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", [Naive, TACoS, Ancestral, Heun])
def test_a_trajectory_is_the_start_and_one_state_a_move(kind, order):
    model, x = Model(build("noise"), guess), pixels()
    start = model.corrupt(x, 0.8, generator(0, "z"))
    sampler = kind(steps=5, order=order)
    states = list(sampler.trajectory(model, start, generator(1, "walk")))
    assert states[0] is start
    assert [s.t for s in states] == pytest.approx([0.8 * u for u in sampler.grid()])
    assert all(s.x.shape == x.shape and s.x0.shape == x.shape and s.z.keys() == {"endpoint"} for s in states[1:])
    assert torch.equal(sampler.sample(model, start, generator(1, "walk")), states[-1].x)
    assert not states[-1].x.requires_grad


def test_the_estimate_in_a_state_is_the_restorers_not_the_extrapolated_one():
    model = Model(build("grey"), guess)
    states = list(TACoS(4, order=2).trajectory(model, State(pixels(), 1.0)))
    for before, after in itertools.pairwise(states):
        assert torch.equal(after.x0, guess(before.x, torch.full((3,), before.t, dtype=torch.float64)))


def test_a_trajectory_is_lazy():
    calls = []
    walk = TACoS(1000).trajectory(Model(build("grey"), lambda x, t: calls.append(t) or x), State(pixels(), 1.0))
    for _ in range(3):
        next(walk)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "sampler",
    [
        Naive(4),
        Naive(4, fresh=True, noise=0.1),
        TACoS(4, order=2),
        Ancestral(4, eta=0.7),
        Ancestral(6, variance="large", again=2),
        Heun(5),
        Momentum(4),
        Langevin(7, inner=3),
    ],
    ids=str,
)
def test_each_sample_of_a_batch_walks_alone_from_its_own_severity(sampler):
    model, x, t = Model(build("mask+noise"), guess), pixels(4), torch.tensor([0.1, 0.4, 0.0, 1.0], dtype=torch.float64)
    start = model.corrupt(x, t, generators(0, "z", range(4)))
    whole = sampler.sample(model, start, generators(1, "walk", range(4)))
    for i in range(4):
        row = slice(i, i + 1)
        alone = State(start.x[row], float(t[i]), {k: v[row] for k, v in start.z.items()})
        torch.testing.assert_close(sampler.sample(model, alone, [generator(1, "walk", i)]), whole[row], rtol=0, atol=1e-12)
    if isinstance(sampler, TACoS):  # severity 0: nothing to do; the others answer with the estimate
        torch.testing.assert_close(whole[2], x[2], rtol=0, atol=1e-12)


def test_a_walk_draws_if_and_only_if_it_says_so():
    model, x = Model(build("noise"), guess), pixels()
    start = model.corrupt(x, 1.0, generator(0, "z"))
    source = generator(1, "walk")
    before = source.get_state()
    for sampler in (Naive(4), TACoS(4), Heun(4), Ancestral(4, eta=0.0)):
        assert not sampler.random
        sampler.sample(model, start, source)
        assert torch.equal(source.get_state(), before)
    for sampler in (Naive(4, fresh=True), Naive(4, noise=0.1), Ancestral(4), Ancestral(4, eta=0.0, again=2), Momentum(4), Langevin(4)):
        assert sampler.random
        ends = [sampler.sample(model, start, generator(1, "walk", i)) for i in (0, 1)]
        assert not torch.equal(*ends)
    seen = [Ancestral(4).sample(model, start, generator(1, "walk", i)) for i in (0, 0, 1)]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_a_walk_leaves_the_ambient_generator_alone():
    model = Model(build("noise"), guess)
    start = model.corrupt(pixels(), 1.0, generator(0, "z"))
    before = torch.get_rng_state()
    TACoS(2).sample(model, start, generator(1, "walk"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("sampler", "text", "missing"),
    [
        (TACoS(), "mask", "centre"),
        (Naive(), "noise", "endpoint"),
        (TACoS(), "mask+noise", "0.centre, 1.endpoint"),
        (Ancestral(), "mask+noise", "0.centre"),
        (Heun(), "mask+noise", "0.centre"),
        (Heun(), "noise+mask", "0.endpoint, 1.centre"),
        (Momentum(), "mask+noise", "0.centre"),
        (Langevin(), "mask+noise", "0.centre"),
        (Naive(fresh=True), "mask+noise", "0.centre"),
    ],
    ids=str,
)
def test_a_walk_whose_draw_is_unknown_is_refused_before_the_first_call(sampler, text, missing):
    calls = []
    model = Model(build(text), lambda x, t: calls.append(t) or x)
    with pytest.raises(
        ValueError, match=rf"with its draw, and {missing} is not known for these samples: give it in State\.z, or use one call"
    ):
        next(sampler.trajectory(model, State(pixels(), 1.0)))
    assert not calls


def test_noise_that_can_be_solved_for_need_not_be_known():
    x = pixels()
    for sampler in (Ancestral(3, eta=0.0), Heun(5), Momentum(3), Langevin(8), Naive(3, fresh=True)):
        out = sampler.sample(Model(build("noise"), lambda x_t, t: x), State(normal(x, generator(0, "x")), 1.0, EMPTY))
        torch.testing.assert_close(out, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("text", ["gaussian-blur", "mask", "noise+grey"])
def test_an_ancestral_walk_without_noise_names_the_way_out(text):
    model = Model(build(text), guess)
    with pytest.raises(
        TypeError, match=r"has no noise that could be recovered from x_t and x0: sample it with TACoS or Naive, or append '\+noise'"
    ):
        Ancestral(3).sample(model, model.corrupt(pixels(), 1.0, generator(0, "z")))


def test_the_condition_reaches_every_call():
    x, label = pixels(), torch.tensor([3, 1, 2])
    seen = []
    model = Model(build("grey"), lambda x_t, t, cond: seen.append(cond) or x)
    Heun(5).sample(model, State(x, 1.0), cond=label)
    assert len(seen) == 5
    assert all(cond is label for cond in seen)


def test_the_noise_floor_stays_out_of_the_walk():
    x = pixels()
    model = Model(build("mask"), lambda x_t, t: x, noise_floor=0.1)
    start = model.corrupt(x, 1.0, generator(0, "z"))
    out = TACoS(3).sample(model, start)
    torch.testing.assert_close(out, x + 0.1 * start.z["floor"], rtol=0, atol=1e-12)
    torch.testing.assert_close(Naive(3).sample(model, start), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gaussian-blur", TACoS(12, order=2)),
        ("mask", TACoS(12, order=2)),
        ("noise", Ancestral(12, order=2, eta=0.0)),
        ("gaussian-blur+noise:schedule=betas", Ancestral(12, order=2, eta=0.0)),
        ("recursive-blur:steps=50", TACoS(50, snap=True)),
        ("pixelate:levels=4", TACoS(4, snap=True)),
        ("pixelate:levels=4+mask", TACoS(4, snap=True)),
    ],
)
def test_defaults(text, expected):
    assert default_sampler(build(text)) == expected


def test_fields_are_checked():
    for wrong in ("tacos:steps=0", "tacos:order=3", "ancestral:eta=1.5", "ancestral:eta=-0.1"):
        with pytest.raises(SpecError):
            build(wrong, "sampler")


@pytest.mark.parametrize(
    ("steps", "start", "knots", "expected"),
    [
        (8, 1.0, 20, [20, 18, 15, 12, 10, 8, 5, 2, 0]),
        (4, 0.5, 20, [10, 8, 5, 2, 0]),
        (20, 1.0, 20, list(range(20, -1, -1))),
        (33, 1.0, 20, list(range(20, -1, -1))),
        (20, 0.5, 20, list(range(10, -1, -1))),
    ],
)
def test_a_walk_that_snaps_calls_the_restorer_on_the_knots_of_a_table(steps, start, knots, expected):
    seen = []

    def restorer(x_t, t):
        seen.append(float(t[0]) * knots)
        return x_t

    model = Model(build(f"recursive-blur:steps={knots},kernel_size=3"), restorer)
    TACoS(steps, snap=True).sample(model, State(torch.zeros(1, 1, 8, 8, dtype=torch.float64), start))
    assert seen == pytest.approx(expected[:-1], abs=1e-9)


@pytest.mark.parametrize(("start", "steps"), [(0.33, 4), (torch.tensor([1.0]), 8)])
def test_a_grid_off_the_table_is_left_alone(start, steps):
    grid = TACoS(steps).grid()
    assert on_knots(grid, start, 20) == grid


# --- severities of one's own -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampler",
    [TACoS(4), Naive(4, snap=True), TACoS(4, order=2), Ancestral(4, eta=0.5), Heun(7)],
    ids=lambda s: type(s).__name__,
)
def test_times_that_are_uniform_are_the_uniform_walk(sampler):
    d, x = build("noise"), pixels(2)
    model = Model(d, lambda x_t, t: 0.5 * x_t)
    start = model.corrupt(x, 1.0, generator(0, "z"))
    named = replace(sampler, steps=50, times=(1.0, 0.75, 0.5, 0.25))
    assert named.steps == sampler.steps
    assert named.grid() == sampler.grid()
    assert torch.equal(named.sample(model, start, generator(1, "w")), sampler.sample(model, start, generator(1, "w")))
    assert build(spec(named), "sampler") == named
    assert build(table(named), "sampler") == named


def test_a_walk_through_times():
    calls = []
    model = Model(build("gaussian-blur"), lambda x_t, t: calls.append(float(t[0])) or x_t)
    sampler = build("tacos:times=(1,0.5,0.1)", "sampler")
    states = list(sampler.trajectory(model, State(torch.zeros(1, 1, 4, 4), 0.8)))
    assert calls == pytest.approx([0.8, 0.4, 0.08])
    assert [s.t for s in states] == pytest.approx([0.8, 0.4, 0.08, 0])


def test_times_that_share_a_knot_are_one_call():
    calls = []
    model = Model(build("pixelate:levels=4"), lambda x_t, t: calls.append(float(t[0])) or x_t)
    TACoS(times=(1.0, 0.95, 0.5, 0.45), order=2, snap=True).sample(model, State(torch.zeros(1, 1, 16, 16), 1.0))
    assert calls == [1.0, 0.5]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tacos:times=(0.9,0.5)", "tacos.times begins with 0.9, not with 1"),
        ("tacos:times=(1,0.5,0.5)", "must fall from each to the next"),
        ("naive:times=(1,0.5,0)", "stay above 0"),
        ("heun:times=(1,1.5)", "lies outside [0, 1]"),
        ("tacos:steps=3,times=(1,0.5)", "tacos.steps = 3, but its times are a walk of 2 calls"),
        ("heun:steps=2,times=(1,0.5)", "heun.steps = 2, but its times are a walk of 3 calls"),
    ],
)
def test_times_that_are_no_walk(text, says):
    with pytest.raises(SpecError) as refused:
        build(text, "sampler")
    assert says in str(refused.value)
