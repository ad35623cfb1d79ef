r"""Evaluation: Degraded, linear Wiener, Direct and Sampled side by side, on pictures the training never saw.

Every method starts from the same degraded pictures at t = 1 and is scored by the same measures, on pictures drawn once by a
seed. The rows that keep a result honest are always there:

* *Degraded*: what doing nothing scores;
* *Linear Wiener*: what the best linear restorer scores, which knows the operator, the draw and the data's mean and covariance; for degradations that
  are linear and pictures of up to 3,072 values;
* *Diagonal Wiener*: the Wiener filter that knows only the variances in the basis in which the operator is diagonal: the one inside the network's
  own preconditioning, for operators that have such a basis;
* *Direct*: one call of the restorer;
* each sampler at each number of calls, scored at its end, x at t = 0, and by its last estimate;
* *Clean*: what the measures say of the truth itself; a measurement error below its own fits noise;
* *Floor*: what training pictures score against the test pictures as a set.

*Sound* and *scans* have measures of their own (:mod:`~snowmelt.metrics.measures`), the methods of :mod:`~.classical` in place of the Wiener filters,
and a verdict that goes by their main measure (:mod:`~.rivals`); they are never rounded.

Pictures are degraded twice: in floating point, where a strong blur still hides more in its digits than an eye or a file
could hold, and rounded to 8 bits, as a saved picture is. The *measurement error* is the RMSE between the restored picture, degraded
again, and what was given: a pretty lie is caught by it.

Source: REFERENCE tables of Bansal et al. 2022 (arXiv 2208.09392) for the columns; Blau and Michaeli 2018
(arXiv 1711.06077) for why one call wins in RMSE and a walk in perception.
"""

from snowmelt.evaluation.evaluating import evaluate, work
from snowmelt.evaluation.generated import generated
from snowmelt.evaluation.methods import distinct
from snowmelt.evaluation.report import BEST, INPUTS, TITLES, Report, inputs_for
from snowmelt.evaluation.starts import start
from snowmelt.evaluation.verdicts import verdict

__all__ = ["BEST", "INPUTS", "TITLES", "Report", "distinct", "evaluate", "generated", "inputs_for", "start", "verdict", "work"]
