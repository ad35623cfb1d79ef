"""How far a restored sample is from the clean one, and how sure one can be of that number."""

from snowmelt.metrics.distortion import Distortion, rmse

__all__ = ["Distortion", "rmse"]
