"""Degradations D(x, t, z): one family a file, all of them registered under a name.

A new one is a new file here, or seven lines in a file of the user's own; no other room changes.
"""

from snowmelt.degradations.base import Basis, Degradation, Inverse, LinearDegradation
from snowmelt.degradations.blend import Blend, GaussianNoise
from snowmelt.degradations.blur import GaussianBlur, RecursiveBlur
from snowmelt.degradations.colour import Grey
from snowmelt.degradations.compose import Compose
from snowmelt.degradations.holes import Holes
from snowmelt.degradations.jpeg import Jpeg
from snowmelt.degradations.mask import Mask
from snowmelt.degradations.mixture import Mixture
from snowmelt.degradations.motion import MotionBlur
from snowmelt.degradations.pixelate import Pixelate
from snowmelt.degradations.separable import SeparableTable
from snowmelt.degradations.shot import PoissonNoise

__all__ = [
    "Basis",
    "Blend",
    "Compose",
    "Degradation",
    "GaussianBlur",
    "GaussianNoise",
    "Grey",
    "Holes",
    "Inverse",
    "Jpeg",
    "LinearDegradation",
    "Mask",
    "Mixture",
    "MotionBlur",
    "Pixelate",
    "PoissonNoise",
    "RecursiveBlur",
    "SeparableTable",
]
