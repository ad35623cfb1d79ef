"""Restorers R(x_t, t) -> x0_hat: backbones, parameterizations, and the module that joins them."""

from snowmelt.restorers.backbones import Backbone, LocalUNet, UNet, Zero
from snowmelt.restorers.conditions import Conditions
from snowmelt.restorers.gaps import GapUNet
from snowmelt.restorers.guidance import ByGradient, ClassifierFree
from snowmelt.restorers.linear import LinearRestorer
from snowmelt.restorers.parameterization import X0, Coefficients, Edm, Eps, Flow, Mu, Parameterization, Residual, V, Wiener
from snowmelt.restorers.restorer import Informed, Restorer, preferred
from snowmelt.restorers.rings import RingUNet
from snowmelt.restorers.severity import Estimate, Estimator
from snowmelt.restorers.statistics import Statistics
from snowmelt.restorers.tiles import Tiles
from snowmelt.restorers.waves import StftUNet, WaveUNet

__all__ = [
    "X0",
    "Backbone",
    "ByGradient",
    "ClassifierFree",
    "Coefficients",
    "Conditions",
    "Edm",
    "Eps",
    "Estimate",
    "Estimator",
    "Flow",
    "GapUNet",
    "Informed",
    "LinearRestorer",
    "LocalUNet",
    "Mu",
    "Parameterization",
    "Residual",
    "Restorer",
    "RingUNet",
    "Statistics",
    "StftUNet",
    "Tiles",
    "UNet",
    "V",
    "WaveUNet",
    "Wiener",
    "Zero",
    "preferred",
]
