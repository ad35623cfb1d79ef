"""How degraded is it? From "a blur of 3 px" to a severity, for every degradation that knows its own units."""

from snowmelt.degradations import Degradation
from snowmelt.registry import nearest, spec

_CANDIDATES = (0.25, 0.5, 0.75, 1.0)
_HALVINGS = 60


def severity_of(degradation: Degradation, strength: str) -> float:
    """The severity at which a strength, written ``name=value``, is reached; by bisection, for strengths grow or fall with t.

    Raises:
        ValueError: the degradation has no such strength, or never reaches the value.
    """
    name, _, text = strength.partition("=")
    name, known = name.strip(), degradation.in_units(1.0)
    if not known:
        raise ValueError(f"{spec(degradation)} has no strength in units of its own: give --severity t in [0, 1]")
    if name not in known:
        raise ValueError(
            f"--strength {strength}: {spec(degradation)} knows {', '.join(known)}{nearest(name, known)}, write {next(iter(known))}=VALUE"
        )
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"--strength {strength}: {text!r} is not a number") from None
    start, end = degradation.in_units(0.0)[name], known[name]
    if not min(start, end) <= value <= max(start, end):
        raise ValueError(f"--strength {strength} lies outside [{min(start, end):g}, {max(start, end):g}], the reach of {spec(degradation)}")
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        before = (degradation.in_units(middle)[name] < value) == (start < end)
        low, high = (middle, high) if before else (low, middle)
    return high


def unknown_severity(degradation: Degradation, many: str) -> str:
    """What to say when nobody said how degraded the pictures, or `many` of whatever they are, come: the candidates."""
    candidates = []
    for t in _CANDIDATES:
        units = ", ".join(f"{name} = {value:.3g}" for name, value in degradation.in_units(t).items())
        candidates.append(f"{t:g} ({units})" if units else f"{t:g}")
    first = next(iter(degradation.in_units(1.0)), None)
    own = f" or --strength {first}=VALUE" if first else ""
    return (
        f"how degraded are the {many}? Give --severity t{own}; for {spec(degradation)}, t may be {'; '.join(candidates)}. "
        "If they are clean, add --degrade"
    )
