"""The walk that is taken when nothing is said. Measured: snowmelt's own comparisons, and table 5 of Bansal et al. 2022 (arXiv 2208.09392)."""

from snowmelt.degradations import Degradation
from snowmelt.model import Model
from snowmelt.samplers.ancestral import Ancestral
from snowmelt.samplers.base import Sampler
from snowmelt.samplers.classical import Naive, TACoS


def default_sampler(degradation: Degradation, calls: int = 12) -> Sampler:
    """What restore and generate use when nothing is said: order 2 at 12 calls.

    TACoS where the draw is all there is; where there is noise that can be solved for, TACoS with the noise solved
    anew at every step, which is Ancestral with eta = 0 ("estimated noise", table 5 of the paper: 23.11 against 59.91).
    A recursive operator of T knots takes T order-1 steps of TACoS, its own grid. Where the draw hides more than that noise, no walk
    could know it: one call, which is a single step of Naive.
    """
    if set(degradation.hidden) - set(degradation.recovered):
        return Naive(steps=1)
    if degradation.recovers:
        return Ancestral(steps=calls, order=2, eta=0.0, snap=degradation.knots is not None)
    if degradation.knots is not None:
        return TACoS(steps=degradation.knots, snap=True)
    return TACoS(steps=calls, order=2)


def default_walk(model: Model) -> Sampler:
    """The walk of a model when nothing is said: :func:`default_sampler` of its degradation, or of a tuned restorer the few calls it is tuned for.

    These are of order 1: on the toy of benchmarks/few_calls.py, a gap g is about best at 32 (1 - g) calls of TACoS.
    """
    degradation, most = model.degradation, model.most_calls
    if most is None:
        return default_sampler(degradation)
    snap = degradation.knots is not None
    if set(degradation.hidden) - set(degradation.recovered):
        return Naive(steps=1)
    return Ancestral(steps=most, eta=0.0, snap=snap) if degradation.recovers else TACoS(steps=most, snap=snap)
