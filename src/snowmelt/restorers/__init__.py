"""Restorers R(x_t, t) -> x0_hat: backbones, parameterizations, and the module that joins them."""

from snowmelt.restorers.backbones import Backbone, LocalUNet, UNet, Zero
from snowmelt.restorers.linear import LinearRestorer
from snowmelt.restorers.parameterization import X0, Coefficients, Eps, Parameterization, Residual, V, Wiener
from snowmelt.restorers.restorer import Restorer, preferred
from snowmelt.restorers.severity import Estimate, Estimator
from snowmelt.restorers.statistics import Statistics
from snowmelt.restorers.tiles import Tiles

__all__ = [
    "X0",
    "Backbone",
    "Coefficients",
    "Eps",
    "Estimate",
    "Estimator",
    "LinearRestorer",
    "LocalUNet",
    "Parameterization",
    "Residual",
    "Restorer",
    "Statistics",
    "Tiles",
    "UNet",
    "V",
    "Wiener",
    "Zero",
    "preferred",
]
