"""Restorers R(x_t, t) -> x0_hat: backbones, parameterizations, and the module that joins them."""

from snowmelt.restorers.backbones import Backbone, LocalUNet, UNet, Zero
from snowmelt.restorers.linear import LinearRestorer
from snowmelt.restorers.parameterization import X0, Coefficients, Eps, Parameterization, Residual, V, Wiener
from snowmelt.restorers.restorer import Restorer, preferred
from snowmelt.restorers.statistics import Statistics

__all__ = [
    "X0",
    "Backbone",
    "Coefficients",
    "Eps",
    "LinearRestorer",
    "LocalUNet",
    "Parameterization",
    "Residual",
    "Restorer",
    "Statistics",
    "UNet",
    "V",
    "Wiener",
    "Zero",
    "preferred",
]
