"""Degradations made of parts: what compositions, mixtures and choices have in common.

The draw of the whole holds the draws of its parts under "0.endpoint", "1.centre", ...; what the parts say of entries of their own
draws, the whole says of these.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from snowmelt.degradations.base import Degradation
from snowmelt.registry import SpecError, label
from snowmelt.types import Draw


@dataclass(frozen=True)
class Several(Degradation):
    """A degradation of `parts`, at least one."""

    parts: tuple[Degradation, ...]

    def __post_init__(self) -> None:
        """Refuse a whole without parts."""
        super().__post_init__()
        if not self.parts:
            raise SpecError(f"{label(type(self))}.parts is empty: give at least one degradation")
        if len(found := {part.takes for part in self.parts} - {None}) > 1:
            raise SpecError(f"{label(type(self))}.parts degrade {' and '.join(sorted(map(str, found)))}: no sample is both")

    @property
    def names(self) -> tuple[str, ...]:
        """The parts' registered names, numbered where one occurs twice: ("mask-1", "noise", "mask-2")."""
        names = [label(type(part)) for part in self.parts]
        return tuple(name if names.count(name) == 1 else f"{name}-{names[: i + 1].count(name)}" for i, name in enumerate(names))

    @property
    def takes(self) -> str | None:
        """What those parts take that are particular."""
        return next((part.takes for part in self.parts if part.takes is not None), None)

    @property
    def hidden(self) -> tuple[str, ...]:
        """What the parts hide, wherever they stand."""
        return self._named([part.hidden for part in self.parts])

    @property
    def given(self) -> tuple[str, ...]:
        """What the parts are given."""
        return self._named([part.given for part in self.parts])

    @property
    def needs(self) -> tuple[str, ...]:
        """What the parts need."""
        return self._named([part.needs for part in self.parts])

    @property
    def linear(self) -> bool:
        """Whether every part is."""
        return all(part.linear for part in self.parts)

    def in_units(self, t: float) -> dict[str, float]:
        """The parts' units, keyed as their draws are: "0.sigma_px"."""
        return {f"{i}.{name}": value for i, part in enumerate(self.parts) for name, value in part.in_units(t).items()}

    @staticmethod
    def _named(entries: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """Entries of the parts' draws, by their names in the draw of the whole."""
        return tuple(f"{i}.{name}" for i, names in enumerate(entries) for name in names)


def share_of(z: Draw, i: int) -> Draw:
    """The share of part i in the draw of the whole: "2.endpoint" as "endpoint"."""
    return {name.partition(".")[2]: value for name, value in z.items() if name.partition(".")[0] == str(i)}


def keyed(z: Draw, i: int) -> dict[str, Tensor]:
    """The draw of part i as a share of the whole: the inverse of :func:`share_of`."""
    return {f"{i}.{name}": value for name, value in z.items()}
