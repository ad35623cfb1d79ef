"""A check never seen to fail proves nothing: for every clause a part that breaks it, and only it."""

import random as python_random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snowmelt import registry
from snowmelt.degradations import Compose, Degradation, GaussianBlur, GaussianNoise, LinearDegradation, Mask, Pixelate, RecursiveBlur
from snowmelt.model import Model
from snowmelt.randomness import generator, normal
from snowmelt.registry import build, names
from snowmelt.restorers import Backbone, Restorer, UNet
from snowmelt.samplers import TACoS
from snowmelt.schedules import Betas, Linear, Schedule
from snowmelt.testing import (
    ContractError,
    check_backbone,
    check_degradation,
    check_restorer,
    check_sampler,
    check_schedule,
    constant,
    perfect,
    random,
)
from snowmelt.types import EMPTY, Draw, Generators

CLAUSES = ["identity", "pure", "keeps_shape", "finite", "rows_independent", "one_severity", "changes", "draws", "oracle_exact", "round_trips"]

EVERY = [
    *(name for name in names("degradation") if not any(field.required for field in registry.schema(name))),
    "gaussian-blur:sigma_px=0",
    "gaussian-blur:sigma_px=1000",
    "gaussian-blur:padding=circular,sigma_px=1.5",
    "recursive-blur:padding=reflect,routine=incremental,kernel_std=0.5",
    "recursive-blur:routine=exponential,kernel_std=0.01,kernel_size=27,steps=30",
    "recursive-blur:routine=special-6,steps=50",
    "recursive-blur:discrete=true,steps=1",
    "noise:schedule=linear",
    "noise:schedule=betas",
    "noise:schedule=betas(steps=200,kind=cosine)",
    "mask:centre=middle,width=2,strength=1000",
    "mask:strength=0",
    "pixelate:levels=1",
    "pixelate:levels=12",
    "jpeg:quality=1",
    "poisson-noise:peak=0.5",
    "motion-blur:length_px=40",
    "holes:strokes=1,width_px=30",
    "noise:schedule=ve",
    "mixture:parts=(gaussian-blur,noise(schedule=ve),jpeg,holes),chances=(0.5,0.9,0.5,0.5)",
    "grey+poisson-noise+holes",
    "gaussian-blur:sigma_px=2+noise",
    "noise+gaussian-blur",
    "noise+noise",
    "grey+mask+pixelate+noise:schedule=linear",
    "mask+mask:width=0.5",
]

# --- what we ship keeps the contract ----------------------------------------------------------------------


@pytest.mark.parametrize("text", EVERY)
def test_every_degradation_keeps_its_contract(text):
    d = build(text)
    checks = check_degradation(d)
    assert set(CLAUSES) <= set(checks)
    assert ("recovers" in checks) == d.recovers
    assert ("affine" in checks) == d.linear
    assert ("adjoint" in checks) == isinstance(d, LinearDegradation)
    assert ("diagonal" in checks) == (d.basis is not None)
    assert "compiles" not in checks


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 7), (2, 5, 2), (4, 97, 3)])
@pytest.mark.parametrize(
    "text", ["gaussian-blur", "recursive-blur:steps=3", "mask", "pixelate", "noise", "gaussian-blur:padding=circular+noise"]
)
def test_at_any_size(text, shape):
    check_degradation(build(text), shape=shape)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # our tables never change
@pytest.mark.parametrize("text", ["gaussian-blur:sigma_px=2+noise", "mask"])
def test_degradations_compile(text):
    assert check_degradation(build(text), compiles=True)[-1] == "compiles"


simple = st.one_of(
    st.builds(GaussianBlur, st.floats(0, 100), st.sampled_from(["reflect", "circular"])),
    st.builds(Mask, st.floats(0.001, 2), st.floats(0, 1000), st.sampled_from(["random", "middle"])),
    st.builds(Pixelate, st.integers(1, 12)),
    st.builds(GaussianNoise, st.sampled_from([Linear(), Betas(1), Betas(13, 0.1, 0.4), Betas(7, kind="cosine")])),
    st.builds(
        RecursiveBlur,
        st.sampled_from(["constant", "incremental"]),
        st.integers(0, 9).map(lambda n: 2 * n + 1),
        st.floats(0.1, 10),
        st.integers(1, 6),
        st.sampled_from(["circular", "reflect"]),
        st.booleans(),
    ),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(simple, min_size=2, max_size=3).map(tuple).map(Compose) | simple)
def test_any_fields_and_any_composition_keep_the_contract(d):
    check_degradation(d, shape=(2, 5, 6))


# --- degradations that do not ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toy(Degradation):
    """Fades to black, correctly; each broken part below spoils one thing."""

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t) * x


@dataclass(frozen=True)
class NotIdentityAtZero(Toy):
    def degrade(self, x, t, z):
        return (0.999 - t) * x


@dataclass(frozen=True)
class NotANumberAtZero(Toy):
    def degrade(self, x, t, z):
        return x * (t / t)


_hidden = torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class HiddenRandomness(Toy):
    def degrade(self, x, t, z):
        return x + t * torch.randn(x.shape, generator=_hidden)


@dataclass(frozen=True)
class NumpysRandomness(Toy):
    def degrade(self, x, t, z):
        return x + t * torch.from_numpy(np.random.standard_normal(tuple(x.shape))).to(x.dtype)


@dataclass(frozen=True)
class SeedsBeforeItDraws(Toy):
    """The same at every call, and ruins the numbers of the whole program."""

    def degrade(self, x, t, z):
        python_random.seed(0)
        return x * (1 - t * python_random.random())


@dataclass(frozen=True)
class Drawing(Toy):
    """x + t e, correctly."""

    def draw(self, like: Tensor, generator: Generators = None) -> Draw:
        return {"e": normal(like, generator)}

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return x + t * z["e"]


@dataclass(frozen=True)
class ChangesItsDraw(Drawing):
    def degrade(self, x, t, z):
        return x + t * z["e"].clamp_(-0.5, 0.5)


@dataclass(frozen=True)
class AnotherShape(Toy):
    def degrade(self, x, t, z):
        return torch.cat([x, x], -1) if bool((t > 0).any()) and x.dtype == torch.float32 else (1 - t) * x


@dataclass(frozen=True)
class AnotherDtype(Toy):
    def degrade(self, x, t, z):
        return ((1 - t) * x).double()


@dataclass(frozen=True)
class NotFinite(Toy):
    def degrade(self, x, t, z):
        return x / torch.where((t - 0.5).abs() < 0.01, 0.0, 1.0)


@dataclass(frozen=True)
class LeaksAcrossTheBatch(Toy):
    def degrade(self, x, t, z):
        return (1 - t) * x + t * x.mean(0)


@dataclass(frozen=True)
class OneSeverityForAll(Toy):
    def degrade(self, x, t, z):
        return (1 - t[:1]) * x


@dataclass(frozen=True)
class ReadsTheStride(Toy):
    def degrade(self, x, t, z):
        return (1 - (t if t.stride(0) else t / 2)) * x


@dataclass(frozen=True)
class ChangesTheWrongWay(Toy):
    def change(self, x, t, s, z=EMPTY):
        return self(x, t, z) - self(x, s, z)


@dataclass(frozen=True)
class DrawIsNotBatchFirst(Drawing):
    def draw(self, like, generator=None):
        return {**super().draw(like, generator), "level": torch.zeros(1)}

    def degrade(self, x, t, z):
        return super().degrade(x, t, z)


@dataclass(frozen=True)
class DrawReadsPixels(Drawing):
    def draw(self, like, generator=None):
        return {"e": like.flip(0) - like}


@dataclass(frozen=True)
class DrawIgnoresTheGenerator(Drawing):
    def draw(self, like, generator=None):
        return {"e": torch.randn(like.shape, dtype=like.dtype, generator=_hidden)}


@dataclass(frozen=True)
class DrawsFromTorchItself(Drawing):
    def draw(self, like, generator=None):
        return {"e": torch.randn(like.shape, dtype=like.dtype)}


@dataclass(frozen=True)
class DrawUsesTheFirstGeneratorForAll(Drawing):
    def draw(self, like, generator=None):
        return {"e": normal(like, generator[0] if isinstance(generator, list) else generator)}


@dataclass(frozen=True)
class BreaksOnTheWayDown(Toy):
    """Fails at one severity only, which a walk of five steps meets."""

    def degrade(self, x, t, z):
        return x / torch.where(t == 1 - 4 / 5, 0.0, 1.0)


@dataclass(frozen=True)
class NoisyToy(Drawing):
    """x + t e with e to be solved for, correctly."""

    @property
    def noise(self) -> tuple[str, ...]:
        return ("e",)

    def recover(self, x_t, x0, t, z):
        return {**z, "e": (x_t - x0) / t[:, None, None, None]}


@dataclass(frozen=True)
class RecoversSomethingElse(NoisyToy):
    def recover(self, x_t, x0, t, z):
        return {**z, "e": x_t - x0}


@dataclass(frozen=True)
class ForgetsTheRestOfTheDraw(NoisyToy):
    def draw(self, like, generator=None):
        return {**super().draw(like, generator), "f": normal(like, generator)}

    def degrade(self, x, t, z):
        return x + t * z["e"] + t * z.get("f", 0)

    def recover(self, x_t, x0, t, z):
        return {"e": (x_t - x0) / t[:, None, None, None] - z["f"]}


@dataclass(frozen=True)
class ClaimsToBeLinear(Toy):
    @property
    def linear(self) -> bool:
        return True

    def degrade(self, x, t, z):
        return (1 - t) * x + t * x**3


@dataclass(frozen=True)
class OffsetInALinearPart(LinearDegradation):
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t) * x + t


@dataclass(frozen=True)
class GradientIsCut(LinearDegradation):
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t) * x + t * x.detach().flip(-1)


@dataclass(frozen=True)
class ClaimsAnInverse(LinearDegradation):
    @property
    def inverse(self) -> str:
        return "exact"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t / 2) * x

    def pinv(self, y: Tensor, t: Tensor, z: Draw = EMPTY) -> Tensor:
        return y


@dataclass(frozen=True)
class WrongGain(Toy):
    @property
    def basis(self) -> str:
        return "pixel"

    def gain(self, shape: tuple[int, ...], t: Tensor, z: Draw) -> Tensor:
        return (1 - t**2)[:, None, None, None]


@dataclass(frozen=True)
class WrongBasis(WrongGain):
    @property
    def basis(self) -> str:
        return "dct"

    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t * torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)) * x

    def gain(self, shape: tuple[int, ...], t: Tensor, z: Draw) -> Tensor:
        return 1 - t[:, None, None, None] * torch.linspace(0, 1, shape[-1], dtype=t.dtype)


@dataclass(frozen=True, eq=False)
class HashIsItsAddress(Degradation):
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t) * x


@dataclass(frozen=True)
class SpecLosesAField(Toy):
    strength: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", self.strength + 1)


@dataclass(frozen=True)
class ReadsTheCompiler(Toy):
    def degrade(self, x, t, z):
        return (1 - t) * x if not torch.compiler.is_compiling() else x


CAUGHT = {
    NotIdentityAtZero: "D(x, 0, z), which must be x is off by",
    NotANumberAtZero: "D(x, 0, z), which must be x is off by nan",
    HiddenRandomness: "two calls with the same (x, t, z) differ: move all randomness into draw()",
    ChangesItsDraw: "changed its draw in place",
    AnotherShape: "turned (4, 3, 12, 16) torch.float32 into (4, 3, 12, 32) torch.float32",
    AnotherDtype: "turned (4, 3, 12, 16) torch.float32 into (4, 3, 12, 16) torch.float64",
    NotFinite: "is not finite at t = 0.50",
    LeaksAcrossTheBatch: "row 0 alone against row 0 of a batch is off by",
    OneSeverityForAll: "row 1 alone against row 1 of a batch is off by",
    ReadsTheStride: "t = 0.35 kept once for all samples against t = 0.35 of each is off by",
    ChangesTheWrongWay: "change(x, t, s, z) against D(x, s, z) - D(x, t, z) is off by",
    DrawIsNotBatchFirst: "drew level of shape (1,) for a batch of 4",
    DrawReadsPixels: "drew a e that depends on the pixels",
    DrawIgnoresTheGenerator: "drew two different values of e from the same generator",
    NumpysRandomness: "draws from numpy's global generator (np.random) in degrade(): move all randomness into draw()",
    SeedsBeforeItDraws: "draws from Python's random module in degrade()",
    DrawsFromTorchItself: "draws from torch's global generator in draw(), and not from the generator it is given",
    DrawUsesTheFirstGeneratorForAll: "ignores per-sample generators: use snowmelt.randomness.normal and uniform",
    BreaksOnTheWayDown: "tacos with a perfect restorer is off by",
    RecoversSomethingElse: "the recovered e is off by",
    ForgetsTheRestOfTheDraw: "D(x0, t, recover(x_t, x0, t)) is off by",
    ClaimsToBeLinear: "D(.3 x + .7 y) against .3 D(x) + .7 D(y) is off by",
    OffsetInALinearPart: "<D x, y> against <x, D^T y> is off by",
    GradientIsCut: "<D x, y> against <x, D^T y> is off by",
    ClaimsAnInverse: "says that its inverse is exact, but D(pinv(D x)) misses D x by",
    WrongGain: "D(x) against gain x coefficients in the pixel basis is off by",
    WrongBasis: "D(x) against gain x coefficients in the dct basis is off by",
    HashIsItsAddress: "does not survive pickling",
}


@pytest.mark.parametrize(("broken", "clause"), CAUGHT.items(), ids=lambda v: v.__name__ if isinstance(v, type) else "")
def test_each_clause_catches_a_part_that_breaks_it(broken, clause):
    with pytest.raises(ContractError) as caught:
        check_degradation(broken())
    assert str(caught.value).startswith(broken.__name__)
    assert clause in str(caught.value)


@pytest.mark.parametrize("correct", [Toy, Drawing, NoisyToy])
def test_the_toys_are_right_before_they_are_spoilt(correct):
    assert set(CLAUSES) <= set(check_degradation(correct()))


def test_a_spec_that_loses_a_field_is_caught():
    registry.register("loses-a-field")(SpecLosesAField)
    try:
        with pytest.raises(ContractError, match="loses-a-field differs from what its spec 'loses-a-field:strength=2' builds"):
            check_degradation(SpecLosesAField())
    finally:
        del registry._parts["degradation"]["loses-a-field"], registry._names[SpecLosesAField]


def test_a_part_that_compiles_to_something_else_is_caught():
    check_degradation(ReadsTheCompiler())
    with pytest.raises(ContractError, match="the compiled degradation is off by"):
        check_degradation(ReadsTheCompiler(), compiles=True)


# What newcomers write: the part itself raises, and the check should say which clause it was about.


@dataclass(frozen=True)
class DrawsWithTorch(Drawing):
    def draw(self, like, generator=None):
        return {"e": torch.randn(like.shape, dtype=like.dtype, generator=generator)}


@dataclass
class NotFrozen(Degradation):
    def degrade(self, x, t, z):
        return (1 - t) * x


@dataclass(frozen=True)
class DrawIsANumber(Drawing):
    def draw(self, like, generator=None):
        return {**super().draw(like, generator), "level": like.new_tensor(3.0)}


@dataclass(frozen=True)
class RecoverIsMissing(Drawing):
    @property
    def noise(self) -> tuple[str, ...]:
        return ("e",)


@dataclass(frozen=True)
class GainIsMissing(Toy):
    @property
    def basis(self) -> str:
        return "pixel"


@dataclass(frozen=True)
class GradientIsGone(LinearDegradation):
    def degrade(self, x: Tensor, t: Tensor, z: Draw) -> Tensor:
        return (1 - t) * x.detach()


@pytest.mark.parametrize("broken", [DrawsWithTorch, NotFrozen, DrawIsANumber, RecoverIsMissing, GainIsMissing, GradientIsGone])
def test_a_part_that_raises_is_a_contract_error_too(broken):
    with pytest.raises(ContractError):
        check_degradation(broken())


@dataclass(frozen=True)
class ChangesItsInput(Toy):
    def degrade(self, x, t, z):
        return x.mul_(1 - t).clone()


@dataclass(frozen=True)
class ClipsItsInput(Toy):
    def degrade(self, x, t, z):
        return (1 - t) * x.clamp_(-0.5, 0.5)


@dataclass(frozen=True)
class ScalesItsDraw(Drawing):
    def degrade(self, x, t, z):
        out = x + t * z["e"]
        z["e"].mul_(2)
        return out


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        pytest.param(ChangesItsInput, "changed x in place"),
        pytest.param(ScalesItsDraw, "changed its draw in place"),
        pytest.param(ClipsItsInput, "in place"),
    ],
)
def test_changes_in_place_are_named(broken, clause):
    with pytest.raises(ContractError, match=clause):
        check_degradation(broken())


# --- schedules ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToySchedule(Schedule):
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t**2, t


@dataclass(frozen=True)
class AlphaNotOneAtZero(ToySchedule):
    def __call__(self, t):
        return 0.9 - t / 2, t


@dataclass(frozen=True)
class SigmaNotZeroAtZero(ToySchedule):
    def __call__(self, t):
        return 1 - t, t + 0.01


@dataclass(frozen=True)
class InfiniteSchedule(ToySchedule):
    def __call__(self, t):
        return 1 - t, t / (1 - t)


@dataclass(frozen=True)
class AlphaRises(ToySchedule):
    def __call__(self, t):
        return 1 - t + 1.5 * t**2, t


@dataclass(frozen=True)
class SigmaFalls(ToySchedule):
    def __call__(self, t):
        return 1 - t, torch.sin(4 * t).abs()


@pytest.fixture
def toys():
    """The toys with specs, for as long as a test runs."""
    all_toys = [
        ToySchedule,
        AlphaNotOneAtZero,
        SigmaNotZeroAtZero,
        InfiniteSchedule,
        AlphaRises,
        SigmaFalls,
        ToySampler,
        StopsEarly,
        CallsTwice,
    ]
    for toy in all_toys:
        registry.register(f"toy-{all_toys.index(toy)}")(toy)
    yield
    for toy in all_toys:
        del registry._parts[toy.part_kind][registry._names.pop(toy)]


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (AlphaNotOneAtZero, r"\(alpha, sigma\) at t = 0 is off by"),
        (SigmaNotZeroAtZero, r"\(alpha, sigma\) at t = 0 is off by"),
        (InfiniteSchedule, "alpha and sigma are not finite over"),
        (AlphaRises, "alpha must fall and sigma must rise with t"),
        (SigmaFalls, "alpha must fall and sigma must rise with t"),
    ],
)
def test_each_clause_catches_a_schedule_that_breaks_it(toys, broken, clause):
    check_schedule(ToySchedule())
    with pytest.raises(ContractError, match=clause):
        check_schedule(broken())


# --- samplers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToySampler(TACoS):
    pass


@dataclass(frozen=True)
class StopsEarly(TACoS):
    def grid(self) -> list[float]:
        return super().grid()[:-1]


@dataclass(frozen=True)
class CallsTwice(TACoS):
    @property
    def corrector(self) -> bool:
        return True

    def _moves(self) -> int:
        return self.steps


@pytest.mark.parametrize(
    ("broken", "clause"),
    [(StopsEarly, "the result on grey with a perfect restorer is off by"), (CallsTwice, "made 9 calls of the restorer with steps = 5")],
)
def test_each_clause_catches_a_sampler_that_breaks_it(toys, broken, clause):
    check_sampler(ToySampler(steps=5), build("grey"))
    with pytest.raises(ContractError, match=clause):
        check_sampler(broken(steps=5), build("grey"))


# --- backbones ---------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.function(x, t)


@dataclass(frozen=True)
class ToyBackbone(Backbone):
    how: str = "right"

    def build(self, in_channels: int, out_channels: int) -> nn.Module:
        """A net without weights that is right, or wrong in one way."""
        return Net(
            {
                "right": lambda x, t: x[:, :out_channels] * t[:, None, None, None],
                "channels": lambda x, t: x,
                "size": lambda x, t: x[:, :out_channels, : x.shape[2] // 4 * 4, : x.shape[3] // 4 * 4],
                "batch": lambda x, t: x[:, :out_channels] - x.mean((0, 2, 3))[:out_channels, None, None],
                "severity": lambda x, t: x[:, :out_channels] * t.mean(),
                "finite": lambda x, t: x[:, :out_channels] / 0,
            }[self.how]
        )


@pytest.mark.parametrize(
    ("how", "clause"),
    [
        ("channels", r"turned \(2, 4, 16, 16\) into \(2, 4, 16, 16\)"),
        ("size", r"turned \(2, 4, 13, 21\) into \(2, 3, 12, 20\)"),
        ("batch", "a row alone against the same row in a batch is off by"),
        ("severity", "a row alone against the same row in a batch is off by"),
        ("finite", "a row alone against the same row in a batch is off by nan"),
    ],
)
def test_each_clause_catches_a_backbone_that_breaks_it(how, clause):
    check_backbone(ToyBackbone())
    with pytest.raises(ContractError, match=clause):
        check_backbone(ToyBackbone(how))


# --- restorers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (lambda x, t: x[..., 1:], r"restorer turned \(5, 3, 12, 16\) into \(5, 3, 12, 15\)"),
        (lambda x, t: x / t[:, None, None, None], "restorer returned values that are not finite"),
        (lambda x, t: x.add_(1).clone(), "restorer changed x_t in place"),
    ],
)
def test_each_clause_catches_a_restorer_that_breaks_it(broken, clause):
    with pytest.raises(ContractError, match=clause):
        check_restorer(broken)


def test_restorers_keep_their_contract():
    check_restorer(lambda x, t: x)
    check_restorer(Restorer(build("gaussian-blur"), UNet(widths=(8,), blocks=1), (3, 12, 16)))


# --- oracles -----------------------------------------------------------------------------------------------


def test_oracles():
    x, t = torch.rand(4, 1, 2, 2, generator=generator(0, "x")), torch.rand(4)
    assert perfect(x)(0 * x, t) is x
    assert torch.equal(constant(x[:1])(x, t), x[:1].expand(4, 1, 2, 2))
    first, other = random(1), random(1)
    answers = [first(x, t), first(x, t)]
    assert not torch.equal(*answers), "fresh noise at every call"
    assert torch.equal(answers[0], other(x, t)), "yet the same for the same seed"
    assert Model(build("grey"), random()).estimate(x, t).shape == x.shape
