"""A severity in the operator's own units, in words."""

from collections.abc import Mapping

from snowmelt.degradations import Compose, Degradation

_MEANS = {"sigma_px": "blur of", "length_px": "smeared over"}  # where the name of a field says too little
_UNITS = {"px": "px", "db": "dB", "m": "m", "255": "of 255"}
_LEVELS = 127.5  # of an 8-bit file in 1 of [-1, 1]


def units_of(D: Degradation, t: float) -> Mapping[str, float]:
    """Severity t in the operator's own units; of noise that only adds, sigma in levels of an 8-bit file, as an estimate counts it."""
    if isinstance(D, Compose):
        return {f"{i}.{name}": value for i, part in enumerate(D.parts) for name, value in units_of(part, t).items()}
    found = D.in_units(t)
    return {"sigma_255": _LEVELS * found["sigma"]} if D.noise and "sigma" in found and D.in_units(1.0).get("alpha") == 1 else found


def in_words(units: Mapping[str, float], whole: Mapping[str, float] | None = None) -> str:
    """A severity in the operator's own units, to stand behind t: " (blur of 3.2 px)".

    Args:
        units: of this t.
        whole: of t = 1, to be told besides: " (blur of 1.28 px; at t = 1 it is 8 px)".
    """
    found = [" ".join(_valued(name, value)) for name, value in units.items()]
    if not found:
        return ""
    if not whole or whole == units:
        return f" ({', '.join(found)})"
    ends = [_valued(name, value) for name, value in whole.items()]
    most = f"it is {ends[0][1]}" if len(ends) == 1 else ", ".join(" ".join(end) for end in ends)
    return f" ({', '.join(found)}; at t = 1 {most})"


def _valued(name: str, value: float) -> tuple[str, str]:
    """A number of :meth:`Degradation.in_units` as what it means and how much: "blur of", "1.28 px"."""
    own = name.rpartition(".")[2]  # the number of a part, which stands before it in a composition, would read as a decimal
    word, _, unit = own.rpartition("_")
    if unit not in _UNITS:
        word, unit = own.replace("_", " "), ""
    return _MEANS.get(own, word), f"{value:.3g} {_UNITS.get(unit, '')}".strip()
