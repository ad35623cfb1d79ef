"""Degradations D(x, t, z): one family a file, all of them registered under a name.

A new one is a new file here, or seven lines in a file of the user's own; no other room changes.
"""

from snowmelt.degradations.bands import SpectralMask
from snowmelt.degradations.base import Basis, Degradation, Inverse, LinearDegradation
from snowmelt.degradations.blend import Blend, GaussianNoise
from snowmelt.degradations.blur import GaussianBlur, RecursiveBlur
from snowmelt.degradations.choice import Choice
from snowmelt.degradations.colour import Decolour, Grey
from snowmelt.degradations.compose import Compose
from snowmelt.degradations.conversion import BitDepth, Clipping, DownSample
from snowmelt.degradations.fade import FadeMask
from snowmelt.degradations.holes import Holes
from snowmelt.degradations.jpeg import Jpeg
from snowmelt.degradations.mask import Mask
from snowmelt.degradations.mixture import Mixture
from snowmelt.degradations.morph import Morph
from snowmelt.degradations.motion import MotionBlur
from snowmelt.degradations.pixelate import Pixelate
from snowmelt.degradations.resample import Resample
from snowmelt.degradations.reverberation import Reverberation
from snowmelt.degradations.scan import AzimuthDrop, BeamDrop, RayDrop
from snowmelt.degradations.separable import SeparableTable
from snowmelt.degradations.several import Several
from snowmelt.degradations.shot import PoissonNoise
from snowmelt.degradations.snow import Snow
from snowmelt.degradations.sound import Background, LowPass, PacketLoss
from snowmelt.degradations.weather import Fog, Rain, RangeNoise

__all__ = [
    "AzimuthDrop",
    "Background",
    "Basis",
    "BeamDrop",
    "BitDepth",
    "Blend",
    "Choice",
    "Clipping",
    "Compose",
    "Decolour",
    "Degradation",
    "DownSample",
    "FadeMask",
    "Fog",
    "GaussianBlur",
    "GaussianNoise",
    "Grey",
    "Holes",
    "Inverse",
    "Jpeg",
    "LinearDegradation",
    "LowPass",
    "Mask",
    "Mixture",
    "Morph",
    "MotionBlur",
    "PacketLoss",
    "Pixelate",
    "PoissonNoise",
    "Rain",
    "RangeNoise",
    "RayDrop",
    "RecursiveBlur",
    "Resample",
    "Reverberation",
    "SeparableTable",
    "Several",
    "Snow",
    "SpectralMask",
]
