"""How far a restored sample is from the clean one, a set of samples from another, and how sure one can be of that number."""

from snowmelt.metrics.distortion import Distortion, rmse
from snowmelt.metrics.distribution import coverage, frechet, frechet_interval, kid, kid_interval, nearest
from snowmelt.metrics.features import Features, load_features

__all__ = ["Distortion", "Features", "coverage", "frechet", "frechet_interval", "kid", "kid_interval", "load_features", "nearest", "rmse"]
