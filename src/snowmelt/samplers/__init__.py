r"""Samplers: how to walk from t = 1 to t = 0 with a restorer, one family for hot and cold.

Every sampler repeats one move: let the restorer estimate the clean sample, :math:`\hat x_0 = R(x_t, t)`,
then go to a smaller severity s. They differ in what they keep of x_t:

===========  ====================================================================  =====================
Naive        :math:`x_s = D(\hat x_0, s, z)`                                       Algorithm 1
TACoS        :math:`x_s = x_t - D(\hat x_0, t, z) + D(\hat x_0, s, z)`             Algorithm 2
Ancestral    solve z from :math:`(x_t, \hat x_0)`, renew a part of it, then        DDPM (eta = 1),
             :math:`x_s = D(\hat x_0, s, z')`                                      DDIM (eta = 0)
Heun         the move of TACoS, or of DDIM where z can be solved, with the mean    EDM
             of the slopes at both ends
Momentum     keep :math:`\sigma_s^2 / \sigma_t^2` of what is not explained, draw    Soft Diffusion, Dirac
             the rest
Langevin     stay at one severity: keep 1 - c/2 of what is not explained, draw     NCSN
             :math:`\sqrt c\, \sigma_t`; several times, then on to the next
===========  ====================================================================  =====================

All of them are one rule, :math:`x_s = \mu_s(\hat x_0) + K (x_t - \mu_t(\hat x_0)) + \tau \varepsilon`, with :math:`\mu_t` the degradation without its
noise, a gain K and new noise of size tau. ``snowmelt explain SAMPLER`` prints both for any of them, with the paper they are from
(:class:`~snowmelt.samplers.rule.Rule`); docs: Theory lists them side by side.

TACoS forgives: for a linear D its output is :math:`x_0 + \sum_i (D_{t_{i-1}} - D_{t_i}) e_i`, where
:math:`e_i` is the restorer's error at t_i, so each call's error passes only in the band which that step
restores; Naive returns :math:`x_0 + e_1`, the last call's error whole. ``order = 2`` extrapolates the estimate from the
previous one,

.. math:: \hat x_0 \leftarrow \hat x_0 + \tfrac r2 (\hat x_0 - \hat x_0^{prev}),
          \qquad r = \min\left(1, \frac{t - s}{t_{prev} - t}\right),

at no extra call; where a walk follows an ordinary differential equation that makes it second order.

A walk's severities are uniform between 1 and 0 unless ``times`` names them: ``tacos:times=(1,0.6,0.2)`` is a walk of three calls.
``snowmelt suggest-schedule`` proposes such a list (:mod:`snowmelt.restorers.information`).

A sampler is a frozen value and holds no network: a recipe can name it.

Source: Bansal et al. 2022 (arXiv 2208.09392), Algorithms 1 and 2; Ho et al. 2020 (arXiv 2006.11239); Song et al. 2020
(arXiv 2010.02502); Karras et al. 2022 (arXiv 2206.00364), Algorithm 1; Daras et al. 2022 (arXiv 2209.05442); Song and Ermon 2019
(arXiv 1907.05600), Algorithm 1; Lu et al. 2022 (arXiv 2211.01095) for multistep order 2.
"""

from snowmelt.samplers.ancestral import Ancestral, Momentum
from snowmelt.samplers.base import SPREAD, Post, Sampler, brought, entries, on_knots
from snowmelt.samplers.classical import Heun, Naive, TACoS
from snowmelt.samplers.default import default_sampler, default_walk
from snowmelt.samplers.langevin import Langevin
from snowmelt.samplers.rule import Numbers, Rule, measured

__all__ = [
    "SPREAD",
    "Ancestral",
    "Heun",
    "Langevin",
    "Momentum",
    "Naive",
    "Numbers",
    "Post",
    "Rule",
    "Sampler",
    "TACoS",
    "brought",
    "default_sampler",
    "default_walk",
    "entries",
    "measured",
    "on_knots",
]
