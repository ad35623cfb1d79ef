"""Degradations D(x, t, z): one family a file, all of them registered under a name.

A new one is a new file here, or seven lines in a file of the user's own; no other room changes.
"""

from snowmelt.degradations.base import Basis, Degradation, LinearDegradation
from snowmelt.degradations.blend import Blend, GaussianNoise
from snowmelt.degradations.blur import GaussianBlur, RecursiveBlur
from snowmelt.degradations.colour import Grey
from snowmelt.degradations.compose import Compose
from snowmelt.degradations.mask import Mask
from snowmelt.degradations.pixelate import Pixelate
from snowmelt.degradations.separable import SeparableTable

__all__ = [
    "Basis",
    "Blend",
    "Compose",
    "Degradation",
    "GaussianBlur",
    "GaussianNoise",
    "Grey",
    "LinearDegradation",
    "Mask",
    "Pixelate",
    "RecursiveBlur",
    "SeparableTable",
]
