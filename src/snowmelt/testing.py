"""Public checks: does a part keep its contract?

``check_degradation`` runs over every degradation of snowmelt and is meant for yours: it needs no data and no
training and takes a second. Every check raises :class:`ContractError` with what was seen, what was expected and
where to look. The oracles at the end, restorers that know, ignore or guess the truth, let one try a sampler or
a degradation without training.
"""

import copy
import pickle
from collections.abc import Callable

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation, LinearDegradation
from snowmelt.degradations.spectral import backward, forward
from snowmelt.model import Model
from snowmelt.randomness import generator, generators, normal
from snowmelt.registry import Part, label
from snowmelt.restorers import Backbone
from snowmelt.samplers import Naive, Sampler, TACoS
from snowmelt.schedules import Schedule
from snowmelt.types import Batch, Draw


class ContractError(AssertionError):
    """A part does not keep its contract; the message says which clause and what was seen."""


def check_degradation(degradation: Degradation, *, shape: tuple[int, ...] = (3, 12, 16), compiles: bool = False) -> list[str]:
    """Check everything a degradation promises, in float64, and return the names of the checks that ran.

    Args:
        degradation: the part.
        shape: (c, h, w) of a sample it accepts.
        compiles: also compare with torch.compile (slower).

    Raises:
        ContractError: the first clause that does not hold.
    """
    x = _pixels(4, shape)
    checks: list[Callable[[Degradation, Batch], bool]] = [
        _pure,
        _identity,
        _keeps_shape,
        _finite,
        _rows_independent,
        _draws,
        _oracle_exact,
        _recovers,
        _affine,
        _adjoint,
        _diagonal,
        _round_trips,
        *([_compiles] if compiles else []),
    ]
    return [check.__name__.strip("_") for check in checks if _ran(check, degradation, x)]


def check_schedule(schedule: Schedule) -> None:
    """Check (alpha, sigma) = (1, 0) at t = 0, finite and monotone over [0, 1].

    Raises:
        ContractError: a clause does not hold.
    """
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    alpha, sigma = schedule(t)
    name = label(type(schedule))
    _close(name, "(alpha, sigma) at t = 0", torch.stack([alpha[0], sigma[0]]), torch.tensor([1.0, 0.0], dtype=torch.float64), 1e-12)
    _require(alpha.isfinite().all() and sigma.isfinite().all(), name, "alpha and sigma are not finite over [0, 1]")
    _require((alpha.diff() <= 1e-12).all() and (sigma.diff() >= -1e-12).all(), name, "alpha must fall and sigma must rise with t")
    _spec_round_trip(schedule)


def check_sampler(sampler: Sampler, degradation: Degradation, *, shape: tuple[int, ...] = (3, 12, 16)) -> None:
    """Check that with a perfect restorer the sampler returns the truth, and that it calls the restorer `steps` times.

    Raises:
        ContractError: a clause does not hold.
    """
    x, calls = _pixels(3, shape), []

    def oracle(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return x

    model = Model(degradation, oracle)
    out = sampler.sample(model, model.corrupt(x, 1.0, generator(0, "check")), generator(1, "check"))
    _close(label(type(sampler)), f"the result on {registry.spec(degradation)} with a perfect restorer", out, x, 1e-9)
    _require(len(calls) <= sampler.steps, label(type(sampler)), f"made {len(calls)} calls of the restorer with steps = {sampler.steps}")
    _spec_round_trip(sampler)


def check_backbone(backbone: Backbone, *, channels: tuple[int, int] = (4, 3)) -> None:
    """Check that the network keeps height and width, whatever they are, and depends on each row's own input only.

    Raises:
        ContractError: a clause does not hold.
    """
    name, net = label(type(backbone)), backbone.build(*channels).eval()
    for h, w in ((16, 16), (13, 21), (5, 7)):
        x, t = _pixels(2, (channels[0], h, w)).float(), torch.tensor([0.2, 0.9])
        with torch.no_grad():
            out, alone = net(x, t), net(x[1:], t[1:])
        _require(out.shape == (2, channels[1], h, w), name, f"turned (2, {channels[0]}, {h}, {w}) into {tuple(out.shape)}")
        _close(name, "a row alone against the same row in a batch", alone, out[1:], 1e-4)


def check_restorer(restorer: Callable[..., Tensor], *, shape: tuple[int, ...] = (3, 12, 16)) -> None:
    """Check that restorer(x_t, t) keeps the shape, is finite over [0, 1] and does not change its input.

    Raises:
        ContractError: a clause does not hold.
    """
    x, t = _pixels(5, shape).float(), torch.linspace(0, 1, 5)
    before = x.clone()
    with torch.no_grad():
        out = restorer(x, t)
    _require(out.shape == x.shape, "restorer", f"turned {tuple(x.shape)} into {tuple(out.shape)}")
    _require(out.isfinite().all(), "restorer", "returned values that are not finite")
    _require(torch.equal(x, before), "restorer", "changed x_t in place")


# --- oracles ------------------------------------------------------------------------------------------


def perfect(x0: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that always returns the truth."""
    return lambda x_t, t: x0


def constant(answer: Batch) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that always returns `answer`, right or wrong."""
    return lambda x_t, t: answer.expand_as(x_t)


def random(seed: int = 0) -> Callable[[Tensor, Tensor], Tensor]:
    """A restorer that returns fresh noise at every call."""
    source = generator(seed, "random-restorer")
    return lambda x_t, t: normal(x_t, source)


# --- the clauses of a degradation's contract -------------------------------------------------------------


def _ran(check: Callable[[Degradation, Batch], bool], d: Degradation, x: Batch) -> bool:
    """The check's answer; what the part raises while it is checked is a broken contract too."""
    try:
        return check(d, x.clone())
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(f"{_name(d)} fails in the check '{check.__name__.strip('_')}': {type(error).__name__}: {error}") from error


def _identity(d: Degradation, x: Batch) -> bool:
    _close(_name(d), "D(x, 0, z), which must be x", d(x.clone(), torch.zeros(len(x), dtype=x.dtype), _draw(d, x)), x, 1e-9)
    return True


def _pure(d: Degradation, x: Batch) -> bool:
    t, z = _severities(x), _draw(d, x)
    before, drawn = x.clone(), {k: v.clone() for k, v in z.items()}
    first = d(x, t, z).clone()
    _require(torch.equal(x, before), _name(d), "changed x in place")
    _require(all(torch.equal(v, drawn[k]) for k, v in z.items()), _name(d), "changed its draw in place")
    _require(torch.equal(first, d(x, t, z)), _name(d), "two calls with the same (x, t, z) differ: move all randomness into draw()")
    return True


def _keeps_shape(d: Degradation, x: Batch) -> bool:
    for dtype in (torch.float32, torch.float64):
        y = x.to(dtype)
        out = d(y, _severities(y), _draw(d, y))
        seen = f"turned {tuple(y.shape)} {dtype} into {tuple(out.shape)} {out.dtype}"
        _require(out.shape == y.shape and out.dtype == dtype and out.device == y.device, _name(d), seen)
    return True


def _finite(d: Degradation, x: Batch) -> bool:
    z = _draw(d, x)
    for t in torch.linspace(0, 1, 21, dtype=x.dtype):
        _require(d(x, t.expand(len(x)), z).isfinite().all(), _name(d), f"is not finite at t = {float(t):.2f}")
    return True


def _rows_independent(d: Degradation, x: Batch) -> bool:
    t, z = _severities(x), _draw(d, x)
    whole = d(x, t, z)
    for i in range(len(x)):
        alone = d(x[i : i + 1], t[i : i + 1], {k: v[i : i + 1] for k, v in z.items()})
        _close(_name(d), f"row {i} alone against row {i} of a batch", alone, whole[i : i + 1], 1e-9)
    return True


def _draws(d: Degradation, x: Batch) -> bool:
    z = d.draw(x, generator(0, "check"))
    blank = d.draw(torch.full_like(x, torch.nan), generator(0, "check"))
    for key, value in z.items():
        _require(value.shape[:1] == x.shape[:1], _name(d), f"drew {key} of shape {tuple(value.shape)} for a batch of {len(x)}")
        _require(torch.equal(value, blank[key]), _name(d), f"drew a {key} that depends on the pixels, or not on the generator")
    streams = generators(0, "check", range(len(x)))
    each = d.draw(x, streams)
    last = d.draw(x[-1:], generators(0, "check", [len(x) - 1]))
    same = all(torch.equal(each[key][-1:], last[key]) for key in each)
    _require(same, _name(d), "ignores per-sample generators: use snowmelt.randomness.normal and uniform")
    return True


def _oracle_exact(d: Degradation, x: Batch) -> bool:
    model = Model(d, perfect(x))
    for sampler in (Naive(steps=5), TACoS(steps=5), TACoS(steps=5, order=2)):
        out = sampler.sample(model, model.corrupt(x, 1.0, generator(0, "check")))
        _close(_name(d), f"{label(type(sampler))} with a perfect restorer", out, x, 1e-9)
    return True


def _recovers(d: Degradation, x: Batch) -> bool:
    if not d.recovers:
        return False
    z, t = _draw(d, x), _severities(x).clamp(min=0.1)
    x_t = d(x, t, z)
    found = d.recover(x_t, x, t, {k: v for k, v in z.items() if k not in d.noise})
    for name in d.noise:
        _close(_name(d), f"the recovered {name}", found[name], z[name], 1e-8)
    _close(_name(d), "D(x0, t, recover(x_t, x0, t))", d(x, t, found), x_t, 1e-9)
    return True


def _affine(d: Degradation, x: Batch) -> bool:
    if not d.linear:
        return False
    t, z, y = _severities(x), _draw(d, x), x.flip(0)
    combined = d(0.3 * x + 0.7 * y, t, z)
    _close(_name(d), "D(.3 x + .7 y) against .3 D(x) + .7 D(y)", combined, 0.3 * d(x, t, z) + 0.7 * d(y, t, z), 1e-9)
    return True


def _adjoint(d: Degradation, x: Batch) -> bool:
    if not isinstance(d, LinearDegradation):
        return False
    t, z, y = _severities(x), _draw(d, x), x.flip(0)
    left, right = (d(x, t, z) * y).flatten(1).sum(1), (x * d.adjoint(y, t, z)).flatten(1).sum(1)
    _close(_name(d), "<D x, y> against <x, D^T y>", left, right, 1e-8)
    _close(_name(d), "D(0), which is 0 for a linear degradation", d(torch.zeros_like(x), t, z), torch.zeros_like(x), 1e-12)
    return True


def _diagonal(d: Degradation, x: Batch) -> bool:
    if d.basis is None:
        return False
    t, z = _severities(x), _draw(d, x)
    changed = d(x, t, z) - d(torch.zeros_like(x), t, z)
    gained = backward(d.gain(tuple(x.shape[1:]), t, z) * forward(x, d.basis), d.basis, x.shape[-1])
    _close(_name(d), f"D(x) against gain x coefficients in the {d.basis} basis", gained, changed, 1e-9)
    return True


def _round_trips(d: Degradation, x: Batch) -> bool:
    pickle.dumps(d)  # raises where a worker process could not be handed the part
    twin = copy.deepcopy(d)  # by the same protocol, without reading a pickle
    _require(twin == d and hash(twin) == hash(d), _name(d), "does not survive pickling")
    if type(d) in registry._names:
        _spec_round_trip(d)
    return True


def _compiles(d: Degradation, x: Batch) -> bool:
    t, z = _severities(x), _draw(d, x)
    compiled = torch.compile(lambda x, t, z: d(x, t, z), backend="eager")
    _close(_name(d), "the compiled degradation", compiled(x, t, z), d(x, t, z), 1e-9)
    return True


def _spec_round_trip(part: Part) -> None:
    text = registry.spec(part)
    _require(registry.build(text, part.part_kind) == part, label(type(part)), f"differs from what its spec {text!r} builds")
    _require(registry.build(registry.table(part), part.part_kind) == part, label(type(part)), "differs from what its table builds")


def _pixels(n: int, shape: tuple[int, ...]) -> Batch:
    like = torch.empty(n, *shape, dtype=torch.float64)
    return like.uniform_(-1, 1, generator=generator(0, "pixels"))


def _severities(x: Batch) -> Tensor:
    return torch.linspace(0.15, 1, len(x), dtype=x.dtype)


def _draw(d: Degradation, x: Batch) -> Draw:
    return d.draw(x, generator(0, "check"))


def _name(d: Degradation) -> str:
    return label(type(d))


def _require(holds: bool | Tensor, name: str, message: str) -> None:
    if not holds:
        raise ContractError(f"{name} {message}")


def _close(name: str, what: str, seen: Tensor, expected: Tensor, tolerance: float) -> None:
    error = float((seen - expected).abs().max())
    if not error <= tolerance:
        raise ContractError(f"{name}: {what} is off by {error:.3g} (allowed {tolerance:g})")
