"""What a report says beside its numbers."""

from typing import Any

from snowmelt import registry
from snowmelt.data.dataset import Dataset
from snowmelt.data.options import PREVIOUS
from snowmelt.degradations import Morph
from snowmelt.evaluation.intervals import RESAMPLES
from snowmelt.evaluation.report import SIGNAL
from snowmelt.evaluation.scoring import LEFT_OUT
from snowmelt.evaluation.sets import ACCURACY, NOT_COMPUTED, Judge, names
from snowmelt.metrics.distribution import RESAMPLES as SET_RESAMPLES
from snowmelt.model import Model, noted
from snowmelt.restorers import Restorer
from snowmelt.signals import PICTURE, Scan, Sound


def facts_of(model: Model, test: Dataset, chosen: list[int], judge: Judge, rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """What a report says beside its numbers: what was degraded how, what was scored, how sure it is."""
    restorer, many = model.restorer, test.signal.many
    # Samples of pictures are scored after clamping: what lies outside can be neither shown nor stored.
    clamped = "clamped to [-1, 1]" if test.signal == PICTURE else "metres within the sensor's reach" if isinstance(test.signal, Scan) else "as it is"
    facts: dict[str, Any] = {
        "degradation": registry.spec(model.degradation),
        f"test {many}": f"{len(chosen):,} of {len(test):,}, drawn with seed {seed}",
        "scored": f"x at t = 0, {clamped}, all values of all these {many}; the last estimate of a walk in its own column",
        "intervals": f"95 %, bootstrap over {many}, {RESAMPLES:,} resamples ({SET_RESAMPLES} of sets), seed {seed}",
        "told of the draw": (", ".join((*restorer.held, *restorer.context)) or "nothing") if isinstance(restorer, Restorer) else "unknown",
        "trained for": f"{'pictures rounded to 8 bits' if model.input == '8bit' else 'floating point'}, noise floor {model.noise_floor:g}",
    }
    if test.signal != PICTURE:
        facts = {SIGNAL: registry.spec(test.signal), **facts}
        facts |= {"gains": "of the main measure, on the same samples: both methods are drawn anew together"}
        if left_out := next((r[LEFT_OUT] for r in rows if LEFT_OUT in r), None):
            without = ", ".join(f"{name} of {n:,}" for name, n in left_out.items())
            facts["left out"] = f"{without}: the truth is {'silent' if isinstance(test.signal, Sound) else 'without returns'} there"
    if isinstance(model.degradation, Morph) and noted(model.notes, "recipe", "data", "endpoint") == PREVIOUS:
        facts["degraded"] = f"the last frame repeated: what stands where nothing is done is the {test.signal.one} before each"
    if isinstance(restorer, Restorer) and restorer.degradation != model.degradation:
        facts["restorer trained for"] = registry.spec(restorer.degradation)
    if test.signal != PICTURE:
        facts["distances of sets"] = f"{NOT_COMPUTED}: features are of pictures"
    elif judge.network is None:
        facts["distances of sets"] = f"{NOT_COMPUTED}: no features were given (--features mnist-v1, a directory or a file model.onnx)"
    else:
        facts["distances of sets"] = f"{' and '.join(names(judge.network))} against the same {len(chosen):,} pictures, clean (paired)"
        facts |= {"caveat": caveat} if (caveat := judge.caveat()) else {}
    if judge.strange:
        facts[ACCURACY] = f"{NOT_COMPUTED}: {judge.strange}"
    if any(r["kind"] == "handed" for r in rows):
        drawn = ", ".join(model.degradation.hidden)
        facts["handed the draw"] = f"{drawn}: nobody could know it of a stranger's {test.signal.one}; these rows are no result"
    return facts
