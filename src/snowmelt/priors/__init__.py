"""Priors: where a walk begins when there is nothing to restore, the law of x at t = 1.

A prior is a frozen part; what it learns from data is fitted once, by :meth:`~snowmelt.priors.base.Prior.fit`, which returns the
fitted prior. Its numbers travel as named tensors in the model's safetensors file, so that new samples need no data.
"""

from snowmelt.priors.base import Learned, Prior, as_state
from snowmelt.priors.constant import Constant
from snowmelt.priors.memory import FromData
from snowmelt.priors.mixture import GaussianMixture
from snowmelt.priors.noise import Normal

__all__ = ["Constant", "FromData", "GaussianMixture", "Learned", "Normal", "Prior", "as_state"]
