"""Public checks: does a part keep its contract, and what is it good for?

``check_degradation`` runs over every degradation of snowmelt and is meant for yours: it needs no data and no
training and takes a second; the first clause that does not hold raises :class:`ContractError` with what was seen and what was
expected. ``examine`` goes through the same clauses without stopping, measures besides on pictures what the operator loses, what it
leaves at t = 1 and how a walk forgives errors of the restorer, and returns all of it as :class:`Finding`, in words; that is what
``snowmelt check-degradation`` prints. The oracles, restorers that know, ignore or guess the truth, or know the law of the data and so the exact
posterior mean, let one try a sampler or a degradation without training.
"""

from snowmelt.testing.contract import check_degradation
from snowmelt.testing.distance import sliced_wasserstein
from snowmelt.testing.examination import examine
from snowmelt.testing.findings import ContractError, Finding
from snowmelt.testing.gaussians import Gaussians, digits_mixture
from snowmelt.testing.oracles import astray, constant, empirical, mixture, perfect, random, wiener
from snowmelt.testing.parts import check_backbone, check_restorer, check_sampler, check_schedule

__all__ = [
    "ContractError",
    "Finding",
    "Gaussians",
    "astray",
    "check_backbone",
    "check_degradation",
    "check_restorer",
    "check_sampler",
    "check_schedule",
    "constant",
    "digits_mixture",
    "empirical",
    "examine",
    "mixture",
    "perfect",
    "random",
    "sliced_wasserstein",
    "wiener",
]
