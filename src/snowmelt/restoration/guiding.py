"""Guide: a trained model with its restorer pulled towards conditions, ready for everything a model is used for.

``guided(model, 2)`` generates like any model: :func:`~snowmelt.restoration.generate` takes it, with the conditions. What guidance
is, and what it is worth, says :mod:`snowmelt.restorers.guidance`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from snowmelt import registry
from snowmelt.model import Model
from snowmelt.restorers import Conditions, Informed, Restorer
from snowmelt.restorers.guidance import ALWAYS, ByGradient, ClassifierFree
from snowmelt.training.classifier import DegradedClassifier, LabelLikelihood


def guided(model: Model, scale: float, *, interval: tuple[float, float] = ALWAYS, classifier: DegradedClassifier | None = None) -> Model:
    """The model with guidance by what its draw holds of conditions.

    Args:
        model: trained with conditions, and now and then without them; with a classifier, any model of noise.
        scale: 1 is the conditional model as it is, or Bayes' rule by the classifier; more is nearer to what is typical.
        interval: the severities (low, high) between which it guides.
        classifier: of degraded pictures, whose gradient guides instead of the difference between with and without.

    Raises:
        ValueError: the model knows no conditions, or never learnt to do without; or the classifier was trained on another degradation,
            other channels or other classes.
        TypeError: the model's restorer is a plain function, which is handed no conditions; or a classifier and a model that is none of noise.
    """
    if not isinstance(model.restorer, Informed):
        raise TypeError("guidance needs a restorer that is handed the draw (snowmelt.restorers.Informed); this model's is a plain function")
    if classifier is None:
        _require_null(model.notes)
        return dataclasses.replace(model, restorer=ClassifierFree(model.restorer, scale, interval))
    if classifier.degradation != model.degradation:
        theirs, own = registry.spec(classifier.degradation), registry.spec(model.degradation)
        way_out = "train one with 'snowmelt train-classifier RUN'"
        raise ValueError(f"this classifier was trained on pictures degraded by {theirs}, the model on {own}: {way_out}")
    if isinstance(model.restorer, Restorer) and classifier.shape[0] != model.restorer.shape[0]:
        what = f"pictures of {classifier.shape[0]} channels, the model of {model.restorer.shape[0]}"
        raise ValueError(f"this classifier is of {what}: train one with 'snowmelt train-classifier RUN'")
    classes = model.notes.get("classes")
    if classes is not None and tuple(classes) != classifier.classes:
        few = [", ".join(map(str, names[:5])) for names in (classifier.classes, classes)]
        raise ValueError(f"this classifier tells other classes ({few[0]}, …) than the model was trained with ({few[1]}, …): train one for this run")
    restorer = ByGradient(
        model.restorer,
        model.degradation,
        LabelLikelihood(classifier, scale),
        interval=interval,
        through=False,
        noise_floor=model.noise_floor,
        reads=Conditions(classes=len(classifier.classes)),
    )
    return dataclasses.replace(model, restorer=restorer)


def _require_null(notes: Mapping[str, Any]) -> None:
    """Refuse a model whose recipe says that its conditions were never left out: its null class is noise.

    Raises:
        ValueError: it does.
    """
    training = notes.get("recipe", {}).get("training", {})
    if training.get("drop_condition", 1) == 0:
        raise ValueError(
            "guidance: this model was trained with training.drop_condition = 0, so it never learnt to do without its conditions: "
            "train it with drop_condition = 0.1, or leave --guidance out"
        )
