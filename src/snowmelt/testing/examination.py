"""Everything that can be said of a degradation without training: the clauses of its contract, then what it does to pictures."""

import torch

from snowmelt.degradations import Degradation, LinearDegradation
from snowmelt.testing import measures
from snowmelt.testing.contract import CLAUSES, judged, mixes
from snowmelt.testing.findings import WAITS, Clause, ContractError, Finding
from snowmelt.testing.pictures import accepted, natural
from snowmelt.testing.samples import samples, shape_for, signal_of
from snowmelt.types import Batch

PICTURES = 800


def examine(degradation: Degradation, pictures: Batch | None = None) -> list[Finding]:
    """Every check of :func:`check_degradation` and what was measured on pictures, one finding each; nothing is raised.

    A check that could only repeat another one's failure waits: it has neither passed nor failed.

    Args:
        degradation: D.
        pictures: (b, c, h, w) in [-1, 1], at least 64; by default 800 patches of photographs, 16 px, in colour if D takes colour; recordings
            (b, c, n) or scans (b, 3, rings, azimuths) of a known law where it takes these.
    """
    channels = accepted(degradation) if pictures is None else pictures.shape[1]
    if channels is None:
        return [_refuses(degradation)]
    x = samples(degradation, 4, shape_for(degradation, channels))
    found: dict[str, Finding] = {}
    for clause in CLAUSES:
        found[clause.name] = _waits(clause, found) or _finding(clause, degradation, x)
    out = list(found.values())
    unsettled = [f.name for f in out if f.passed is False and f.name not in _CLAIMS]
    if unsettled:
        return [*out, *(Finding(name, None, checked, f"{WAITS} {unsettled[0]}") for name, checked in _MEASURED)]
    x0 = natural(degradation, channels, PICTURES) if pictures is None else pictures.double()
    loss, told = measures.loses(degradation, x0)
    return [*out, loss, measures.left(degradation, x0, told), measures.forgives(degradation, x0)]


_CLAIMS = ("recovers", "affine", "adjoint", "diagonal", "inverse", "round_trips")
_MEASURED = (
    ("monotone", "The more severe, the less a picture may tell."),
    ("end", "What is left at t = 1 decides whether new samples can be made."),
    ("forgives", "A restorer errs; a walk should not make its errors larger."),
)


def _finding(clause: Clause, d: Degradation, x: Batch) -> Finding:
    try:
        seen = judged(clause, d, x)
    except ContractError as error:
        return Finding(clause.name, False, clause.checked, str(error), clause.advice)
    if seen is not None:
        return Finding(clause.name, True, clause.checked, seen)
    said, advice = (_unclaimed(d, x) if clause.name == "affine" else None) or (clause.absent, "")
    return Finding(clause.name, None, clause.checked, said, advice)


def _waits(clause: Clause, found: dict[str, Finding]) -> Finding | None:
    """The finding of a clause that would only repeat what another one has found."""
    for need in clause.needs:
        if found[need].passed is False or found[need].waits:
            return Finding(clause.name, None, clause.checked, f"{WAITS} {need}")
    return None


def _unclaimed(d: Degradation, x: Batch) -> tuple[str, str] | None:
    """What to say of an operator that is linear and does not claim to be."""
    try:
        mixes(d, x)
    except Exception:  # noqa: BLE001 - it is not linear, then
        return None
    z = d.draw(x, torch.Generator())
    at_zero = d(torch.zeros_like(x), x.new_full((len(x),), 0.7), z)
    if float(at_zero.abs().max()) > 1e-12:
        advice = "Let `linear` return True: exact linear restorers can then be computed for it."
        return "it does not claim to be linear, but it is, up to an offset", advice
    advice = f"Derive it from {LinearDegradation.__name__}: data consistency and exact linear restorers come for free."
    return "it does not claim to be linear, but it is", advice


def _refuses(d: Degradation) -> Finding:
    """The finding for an operator that takes none of its signal's samples at all, with what it says of small ones."""
    what = signal_of(d)
    x = samples(d, 4)
    try:
        z = d.draw(x, torch.Generator())
        seen = f"it turned {tuple(x.shape)} into {tuple(d(x, x.new_full((len(x),), 0.5), z).shape)}"
    except Exception as error:  # noqa: BLE001 - what it raises is what was seen
        seen = f"{type(error).__name__}: {' '.join(str(error).split())}"
    shapes = {"sound": "(b, 1, n), or (b, 2, n)", "scan": "(b, 3, h, w)"}.get(d.takes or "", "(b, 3, h, w), or (b, 1, h, w)")
    advice = f"Make it work on tensors of shape {shapes}, of any size; t arrives as (b{', 1' * (x.ndim - 1)})."
    kinds = {"sound": ", mono or stereo,", "scan": ""}.get(d.takes or "", ", in colour or grey,")
    return Finding("accepts", False, f"It must take {what.many}{kinds} and return them in their own shape.", seen, advice)
