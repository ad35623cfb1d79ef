"""How far a restored sample is from the clean one, a set of samples from another, and how sure one can be of that number."""

from snowmelt.metrics.birds_eye import jensen_shannon, mmd
from snowmelt.metrics.clouds import chamfer, points_of
from snowmelt.metrics.distortion import Distortion, rmse
from snowmelt.metrics.distribution import coverage, frechet, frechet_interval, kid, kid_interval, nearest
from snowmelt.metrics.features import Features, load_features
from snowmelt.metrics.measures import Column, Gathered, Measures, measures_for

__all__ = [
    "Column",
    "Distortion",
    "Features",
    "Gathered",
    "Measures",
    "chamfer",
    "coverage",
    "frechet",
    "frechet_interval",
    "jensen_shannon",
    "kid",
    "kid_interval",
    "load_features",
    "measures_for",
    "mmd",
    "nearest",
    "points_of",
    "rmse",
]
