"""Degradations D(x, t, z): one family a file, all of them registered under a name.

A new one is a new file here, or seven lines in a file of the user's own; no other room changes.
"""

from snowmelt.degradations.base import Basis, Degradation, Inverse, LinearDegradation
from snowmelt.degradations.blend import Blend, GaussianNoise
from snowmelt.degradations.blur import GaussianBlur, RecursiveBlur
from snowmelt.degradations.choice import Choice
from snowmelt.degradations.colour import Decolour, Grey
from snowmelt.degradations.compose import Compose
from snowmelt.degradations.fade import FadeMask
from snowmelt.degradations.holes import Holes
from snowmelt.degradations.jpeg import Jpeg
from snowmelt.degradations.mask import Mask
from snowmelt.degradations.mixture import Mixture
from snowmelt.degradations.morph import Morph
from snowmelt.degradations.motion import MotionBlur
from snowmelt.degradations.pixelate import Pixelate
from snowmelt.degradations.resample import Resample
from snowmelt.degradations.separable import SeparableTable
from snowmelt.degradations.several import Several
from snowmelt.degradations.shot import PoissonNoise
from snowmelt.degradations.snow import Snow

__all__ = [
    "Basis",
    "Blend",
    "Choice",
    "Compose",
    "Decolour",
    "Degradation",
    "FadeMask",
    "GaussianBlur",
    "GaussianNoise",
    "Grey",
    "Holes",
    "Inverse",
    "Jpeg",
    "LinearDegradation",
    "Mask",
    "Mixture",
    "Morph",
    "MotionBlur",
    "Pixelate",
    "PoissonNoise",
    "RecursiveBlur",
    "Resample",
    "SeparableTable",
    "Several",
    "Snow",
]
