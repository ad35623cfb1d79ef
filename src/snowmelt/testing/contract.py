"""The clauses of a degradation's contract, each a function of the part and a random batch.

A clause returns what it saw, or None where it does not apply, and raises ContractError where it does not hold. Their order is that in
which one would look for a mistake: what everything else rests on comes first.
"""

import copy
import pickle

import torch
from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation, LinearDegradation
from snowmelt.degradations.spectral import backward, forward
from snowmelt.model import Model
from snowmelt.randomness import generator, generators
from snowmelt.registry import label
from snowmelt.samplers import Naive, TACoS
from snowmelt.testing.ambient import disturbed
from snowmelt.testing.findings import Clause, ContractError, close, require, spec_round_trip
from snowmelt.testing.oracles import perfect
from snowmelt.testing.samples import samples
from snowmelt.types import Batch, Draw

_LEFT_OUT = {"exact": 0.05, "damped": 0.02, "iterative": 0.15}  # what a pseudo-inverse may leave unexplained, in units of x


def check_degradation(degradation: Degradation, *, shape: tuple[int, ...] | None = None, compiles: bool = False) -> list[str]:
    """Check everything a degradation promises, in float64, and return the names of the checks that ran.

    Args:
        degradation: the part.
        shape: (c, h, w) of a sample it accepts; by default that of small samples of the signal it takes, such as (2, n) for sound.
        compiles: also compare with torch.compile (slower).

    Raises:
        ContractError: the first clause that does not hold.
    """
    x = samples(degradation, 4, shape)
    clauses = [*CLAUSES, *([COMPILES] if compiles else [])]
    return [clause.name for clause in clauses if judged(clause, degradation, x) is not None]


def judged(clause: Clause, d: Degradation, x: Batch) -> str | None:
    """What the clause saw, None where it does not apply; what the part raises while it is checked is a broken contract too."""
    try:
        return clause.run(d, x.clone())
    except ContractError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise ContractError(f"{_name(d)} fails in the check '{clause.name}': {type(error).__name__}: {said}") from error


# --- the clauses -------------------------------------------------------------------------------------------


def _keeps_shape(d: Degradation, x: Batch) -> str:
    for dtype in (torch.float32, torch.float64):
        y = x.to(dtype)
        out = d(y, _severities(y), _draw(d, y))
        seen = f"turned {tuple(y.shape)} {dtype} into {tuple(out.shape)} {out.dtype}"
        require(out.shape == y.shape and out.dtype == dtype and out.device == y.device, _name(d), seen)
    return f"{tuple(x.shape)} stays {tuple(x.shape)}, in single and in double precision"


def _pure(d: Degradation, x: Batch) -> str:
    z = _draw(d, x)
    before, drawn = x.clone(), _copied(z)
    d(x, _severities(x), z)
    require(torch.equal(x, before), _name(d), "changed x in place")
    require(all(torch.equal(v, drawn[k]) for k, v in z.items()), _name(d), "changed its draw in place")
    return "x and z are as they were"


def _hidden_randomness(d: Degradation, x: Batch) -> str:
    z, t = _draw(d, x), _severities(x)  # whatever is made at the first call is made here
    d(x.clone(), t, _copied(z))
    drawn, seen = [], []
    for seed in (1, 2):
        with disturbed(seed) as touched:
            drawn.append(_draw(d, x))
            require(not (found := touched()), _name(d), f"draws from {' and '.join(found)} in draw(), and not from the generator it is given")
            seen.append(d(x.clone(), t, _copied(z)))
            require(not (found := touched()), _name(d), f"draws from {' and '.join(found)} in degrade(): move all randomness into draw()")
    require(_same(*seen), _name(d), "two calls with the same (x, t, z) differ: move all randomness into draw()")
    for key in drawn[0]:
        require(_same(drawn[0][key], drawn[1][key]), _name(d), f"drew two different values of {key} from the same generator")
    return "two calls and two draws agree; no global generator was touched"


def _identity(d: Degradation, x: Batch) -> str:
    error = close(_name(d), "D(x, 0, z), which must be x", d(x.clone(), torch.zeros(len(x), dtype=x.dtype), _draw(d, x)), x, 1e-9)
    return f"D(x, 0, z) is x to {error:.0e}" if error else "D(x, 0, z) is x, bit for bit"


def _finite(d: Degradation, x: Batch) -> str:
    z = _draw(d, x)
    for t in torch.linspace(0, 1, 21, dtype=x.dtype):
        require(d(x, t.expand(len(x)), z).isfinite().all(), _name(d), f"is not finite at t = {float(t):.2f}")
    return "all values are finite at 21 severities"


def _rows_independent(d: Degradation, x: Batch) -> str:
    t, z = _severities(x), _draw(d, x)
    whole = d(x, t, z)
    for i in range(len(x)):
        alone = d(x[i : i + 1], t[i : i + 1], {k: v[i : i + 1] for k, v in z.items()})
        close(_name(d), f"row {i} alone against row {i} of a batch", alone, whole[i : i + 1], 1e-9)
    return f"each of {len(x)} samples comes out the same alone and in a batch, each at its own severity"


def _one_severity(d: Degradation, x: Batch) -> str:
    z = _draw(d, x)
    for t in (0.35, 1.0):
        each = torch.full((len(x),), t, dtype=x.dtype)
        close(_name(d), f"t = {t:g} kept once for all samples against t = {t:g} of each", d(x, each[:1].expand(len(x)), z), d(x, each, z), 1e-9)
    return "a severity kept once for all samples does what it does as one of each"


def _changes(d: Degradation, x: Batch) -> str:
    t, z = _severities(x), _draw(d, x)
    for s in (0.5 * t, torch.zeros_like(t)):
        close(_name(d), "change(x, t, s, z) against D(x, s, z) - D(x, t, z)", d.change(x, t, s, z), d(x, s, z) - d(x, t, z), 1e-9)
    return "change() is the difference of two calls"


def _draws(d: Degradation, x: Batch) -> str | None:
    z = _draw(d, x)
    blank = d.draw(torch.full_like(x, torch.nan), generator(0, "check"))
    for key, value in z.items():
        require(value.shape[:1] == x.shape[:1], _name(d), f"drew {key} of shape {tuple(value.shape)} for a batch of {len(x)}")
        require(_same(value, blank[key]), _name(d), f"drew a {key} that depends on the pixels")
    each = d.draw(x, generators(0, "check", range(len(x))))
    last = d.draw(x[-1:], generators(0, "check", [len(x) - 1]))
    same = all(torch.equal(each[key][-1:], last[key]) for key in each)
    require(same, _name(d), "ignores per-sample generators: use snowmelt.randomness.normal and uniform")
    return f"it draws {', '.join(z)}" if z else "it draws nothing"


def _oracle_exact(d: Degradation, x: Batch) -> str:
    model, worst = Model(d, perfect(x)), 0.0
    for sampler in (Naive(steps=5), TACoS(steps=5), TACoS(steps=5, order=2)):
        out = sampler.sample(model, model.corrupt(x, 1.0, generator(0, "check")))
        worst = max(worst, close(_name(d), f"{label(type(sampler))} with a perfect restorer", out, x, 1e-9))
    return f"Algorithms 1 and 2 lead back to the clean sample, {f'to {worst:.0e}' if worst else 'bit for bit'}"


def _recovers(d: Degradation, x: Batch) -> str | None:
    if not d.recovers:
        return None
    z, t = _draw(d, x), _severities(x).clamp(min=0.1)
    x_t = d(x, t, z)
    found = d.recover(x_t, x, t, {k: v for k, v in z.items() if k not in d.recovered})
    for name in d.recovered:
        close(_name(d), f"the recovered {name}", found[name], z[name], 1e-8)
    close(_name(d), "D(x0, t, recover(x_t, x0, t))", d(x, t, found), x_t, 1e-9)
    return f"{', '.join(d.recovered)} can be solved for, as it says"


def _affine(d: Degradation, x: Batch) -> str | None:
    if not d.linear:
        return None
    mixes(d, x)
    return "mixtures of samples go to the same mixtures of results, as it says"


def mixes(d: Degradation, x: Batch) -> None:
    """Raise ContractError unless D is affine in x, whatever it claims."""
    t, z, y = _severities(x), _draw(d, x), x.flip(0)
    combined = d(0.3 * x + 0.7 * y, t, z)
    close(_name(d), "D(.3 x + .7 y) against .3 D(x) + .7 D(y)", combined, 0.3 * d(x, t, z) + 0.7 * d(y, t, z), 1e-9)


def _adjoint(d: Degradation, x: Batch) -> str | None:
    if not isinstance(d, LinearDegradation):
        return None
    t, z, y = _severities(x), _draw(d, x), x.flip(0)
    left, right = (d(x, t, z) * y).flatten(1).sum(1), (x * d.adjoint(y, t, z)).flatten(1).sum(1)
    close(_name(d), "<D x, y> against <x, D^T y>", left, right, 1e-8)
    close(_name(d), "D(0), which is 0 for a linear degradation", d(torch.zeros_like(x), t, z), torch.zeros_like(x), 1e-12)
    return "<D x, y> = <x, D^T y>, and D(0) = 0"


def _diagonal(d: Degradation, x: Batch) -> str | None:
    if d.basis is None:
        return None
    t, z = _severities(x), _draw(d, x)
    changed = d(x, t, z) - d(torch.zeros_like(x), t, z)
    gained = backward(d.gain(tuple(x.shape[1:]), t, z) * forward(x, d.basis), d.basis, x.shape[-1])
    close(_name(d), f"D(x) against gain x coefficients in the {d.basis} basis", gained, changed, 1e-9)
    return f"D multiplies by gain() in the {d.basis} basis, as it says"


def _inverse(d: Degradation, x: Batch) -> str | None:
    if d.inverse is None:
        return None
    t, z = _severities(x), _draw(d, x)
    offset = d(torch.zeros_like(x), t, z)  # 0 but for an affine operator, of which pinv() undoes the linear part
    y = d(x, t, z) - offset
    left = d(d.pinv(y, t, z), t, z) - offset - y
    share = float(left.abs().max() / x.abs().max() if d.inverse == "exact" else (left.square().mean() / x.square().mean()).sqrt())
    name, allowed = _name(d), _LEFT_OUT[d.inverse]
    require(share <= allowed, name, f"says that its inverse is {d.inverse}, but D(pinv(D x)) misses D x by {share:.3g} of x (allowed {allowed:g})")
    return f"D(pinv(D x)) misses D x by {share:.1g} of x; it says that its inverse is {d.inverse}"


def _round_trips(d: Degradation, x: Batch) -> str:
    pickle.dumps(d)  # raises where a worker process could not be handed the part
    twin = copy.deepcopy(d)  # by the same protocol, without reading a pickle
    require(twin == d and hash(twin) == hash(d), _name(d), "does not survive pickling")
    if type(d) not in registry._names:
        return "a copy is equal; it is not registered, so it has no spec"
    spec_round_trip(d)
    return f"{registry.spec(d)} builds it again, and a copy is equal"


def _compiles(d: Degradation, x: Batch) -> str:
    t, z = _severities(x), _draw(d, x)
    compiled = torch.compile(lambda x, t, z: d(x, t, z), backend="eager")
    close(_name(d), "the compiled degradation", compiled(x, t, z), d(x, t, z), 1e-9)
    return "torch.compile makes the same of it"


_RESTS = ("keeps_shape", "hidden_randomness")
CLAUSES = (
    Clause(
        _keeps_shape,
        "A batch of any size must come out in its own shape, number type and device.",
        "Look for a mean without keepdim=True, a size that is written down, or numbers made in another dtype: use x.new_tensor(...).",
    ),
    Clause(
        _pure,
        "Neither the sample nor the draw may be changed in place.",
        "Replace operations that end in _ (mul_, clamp_) and assignments to x[...] by ones that return a new tensor.",
        needs=("keeps_shape",),
    ),
    Clause(
        _hidden_randomness,
        "All randomness must come from draw(like, generator): the same (x, t, z) gives the same result, whatever else happens in the program.",
        "Make the random numbers in draw() with snowmelt.randomness.normal or uniform, return them as z, and read z in degrade().",
        needs=("keeps_shape", "pure"),
    ),
    Clause(
        _identity,
        "At severity 0 nothing may change: D(x, 0, z) = x.",
        "Write the degradation so that its strength is multiplied by t, or grows from 0 with it.",
        needs=_RESTS,
    ),
    Clause(
        _finite,
        "No severity may give infinities or NaN.",
        "Look for a division by something that reaches 0, or a logarithm of it.",
        needs=_RESTS,
    ),
    Clause(
        _rows_independent,
        "Sample i of a batch may depend on sample i, its severity and its draw only.",
        "Average over dimensions 1 and up, never over dimension 0, and use all of t: it has one severity for each sample.",
        needs=_RESTS,
    ),
    Clause(
        _one_severity,
        "A severity that all samples share may be kept once, as severity() makes it: the result must be what it is with one for each.",
        "What reads severities through once() must leave the same numbers as all of them would.",
        needs=_RESTS,
    ),
    Clause(
        _changes,
        "change(x, t, s, z) must be D(x, s, z) - D(x, t, z), to rounding.",
        "Correct the short cut, or leave change() out: then it is two calls.",
        needs=_RESTS,
    ),
    Clause(
        _draws,
        "A draw may read the shape of the batch, never its pixels; it has one row for each sample, and samples may have their own generators.",
        "Make the numbers with snowmelt.randomness.normal(like, generator, shape) or uniform; what depends on the picture belongs in degrade().",
        needs=_RESTS,
    ),
    Clause(
        _oracle_exact,
        "With a restorer that knows the truth, a walk from t = 1 to 0 must end at the truth.",
        "A severity on the way does something else than its neighbours: look at strips of it with 'snowmelt degrade'.",
        needs=(*_RESTS, "identity", "finite"),
    ),
    Clause(
        _recovers,
        "What recover() solves for must be what was drawn.",
        "Solve x_t = D(x0, t, z) for the entries named in `recovered`, and return all others as they were.",
        "it does not claim that part of its draw can be solved for",
        _RESTS,
    ),
    Clause(
        _affine,
        "It says that it is linear: mixtures of samples must go to the same mixtures of results.",
        "Take the claim (`linear`, or LinearDegradation) away, or what is not linear: clipping, rounding, products of x with itself.",
        "it does not claim to be linear",
        _RESTS,
    ),
    Clause(
        _adjoint,
        "It says that it is linear without an offset: <D x, y> = <x, D^T y>, and D(0) = 0.",
        "Derive from Degradation if something is added to the sample; keep x out of detach() and of numpy.",
        "it is no LinearDegradation",
        _RESTS,
    ),
    Clause(
        _diagonal,
        "It says in which basis it is diagonal: it must multiply by gain() there.",
        "Correct gain(), or take `basis` away; nothing else needs it.",
        "it does not claim to be diagonal in a basis",
        _RESTS,
    ),
    Clause(
        _inverse,
        "It says how well pinv() undoes it: what D makes of pinv(D x) must be D x again.",
        "Correct pinv(), or let `inverse` be None; then data consistency is refused, and all else works.",
        "it claims no pseudo-inverse",
        _RESTS,
    ),
    Clause(
        _round_trips,
        "It must be a plain value: equal to its copy, and built again by its own spec.",
        "Decorate it with @dataclass(frozen=True), define it in a module and not in a function, and leave its fields as they were given.",
    ),
)
COMPILES = Clause(_compiles, "torch.compile must make the same of it.", "Keep Python's own numbers and branches on values out of degrade().")


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal, where no number is equal to no number."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _copied(z: Draw) -> Draw:
    return {name: value.clone() for name, value in z.items()}


def _severities(x: Batch) -> Tensor:
    return torch.linspace(0.15, 1, len(x), dtype=x.dtype)


def _draw(d: Degradation, x: Batch) -> Draw:
    return d.draw(x, generator(0, "check"))


def _name(d: Degradation) -> str:
    return label(type(d))
