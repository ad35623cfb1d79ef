"""Findings: what a check looked at, what it saw and what to do about it; and the error of a clause that does not hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from snowmelt import registry
from snowmelt.degradations import Degradation
from snowmelt.registry import Part, label
from snowmelt.types import Batch


class ContractError(AssertionError):
    """A part does not keep its contract; the message says which clause and what was seen."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: of the check, such as identity.
        passed: None where the check does not apply, waits for another one that failed, or found what is neither right nor wrong but good to know.
        checked: what was looked at, and what should be so.
        seen: what was seen.
        advice: what to do, where something is to be done.
        measured: the figures in `seen`, by name.
    """

    name: str
    passed: bool | None
    checked: str
    seen: str
    advice: str = ""
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether it was not judged, because a check that it rests on has failed."""
        return self.passed is None and self.seen.startswith(WAITS)


WAITS = "not judged: it waits for"


@dataclass(frozen=True)
class Clause:
    """One check of a degradation: what it is about, and the function that does it.

    Attributes:
        run: raises ContractError where the clause does not hold; else what was seen, or None where the clause does not apply.
        checked: what should be so, a sentence.
        advice: what to do where it is not so.
        absent: what to say where it does not apply.
        needs: clauses without which a failure of this one would mean nothing.
    """

    run: Callable[[Degradation, Batch], str | None]
    checked: str
    advice: str
    absent: str = ""
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.run.__name__.strip("_")


def require(holds: bool | Tensor, name: str, message: str) -> None:
    """Raise ContractError unless it holds."""
    if not holds:
        raise ContractError(f"{name} {message}")


def close(name: str, what: str, seen: Tensor, expected: Tensor, tolerance: float) -> float:
    """The greatest difference; ContractError if that is beyond the tolerance, or no number."""
    error = float((seen - expected).abs().max())
    if not error <= tolerance:
        raise ContractError(f"{name}: {what} is off by {error:.3g} (allowed {tolerance:g})")
    return error


def spec_round_trip(part: Part) -> None:
    """Check that a part's spec and its table build the part again."""
    text = registry.spec(part)
    require(registry.build(text, part.part_kind) == part, label(type(part)), f"differs from what its spec {text!r} builds")
    require(registry.build(registry.table(part), part.part_kind) == part, label(type(part)), "differs from what its table builds")
