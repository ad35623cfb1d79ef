"""What generated pictures should show: the flags for classes, vectors, a picture to go by, and how strongly they guide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.model import Model
    from snowmelt.restorers import Conditions
    from snowmelt.training.classifier import DegradedClassifier

_GROUP = Group.create_ordered("Conditions")
_NUMBER, _EACH = 16, 8
_ALWAYS = (0.0, 1.0)


class Granted(NamedTuple):
    """What a wish means for one model.

    Attributes:
        model: with its guidance.
        conditions: one row a picture.
        number: of pictures.
        labels: the names of the classes asked for, in order; picture i shows number i len(labels) // number of them.
        said: the settings, for sample.json.
    """

    model: "Model"
    conditions: "Mapping[str, Tensor]"
    number: int
    labels: tuple[str, ...]
    said: Mapping[str, Any]

    def shown(self, most: int) -> list[range]:
        """The numbers of the first pictures of each label, equally many, at most `most`."""
        k = len(self.labels)
        starts = [-(-j * self.number // k) for j in range(k)]
        return [range(start, start + min(self.number // k, most)) for start in starts]


@dataclass(frozen=True)
class Wish:
    """Conditions of the pictures to be generated.

    Attributes:
        label: the class to show, by name or number: 3, or several with commas, 0,1,2, or all. The pictures are shared out evenly, in this order.
        vector: the numbers to go by, with commas, of a model trained with --model.conditions vector.
        condition_image: the picture to go by, of a model trained with --model.conditions image; resized to the model's pictures.
        guidance: how strongly: 0 ignores the conditions, 1 is the model as it was trained [the default], 2 and more exaggerates them.
        guidance_interval: severities between which it guides, 0.1,0.8 for instance; beyond them the model is as it was trained.
        classifier: guide by this classifier, which 'snowmelt train-classifier' wrote; also for models trained without labels.
    """

    label: Annotated[str | None, Parameter(name="--label", group=_GROUP, show_default=False)] = None
    vector: Annotated[str | None, Parameter(name="--vector", group=_GROUP, show_default=False, allow_leading_hyphen=True)] = None
    condition_image: Annotated[Path | None, Parameter(name="--condition-image", group=_GROUP, show_default=False)] = None
    guidance: Annotated[float | None, Parameter(name="--guidance", group=_GROUP, show_default=False, allow_leading_hyphen=True)] = None
    guidance_interval: Annotated[str | None, Parameter(name="--guidance-interval", group=_GROUP, show_default=False)] = None
    classifier: Annotated[Path | None, Parameter(name="--classifier", group=_GROUP, show_default=False)] = None

    def check(self) -> None:
        """Refuse what goes together with no model.

        Raises:
            ValueError: it does not.
        """
        if self.classifier is not None and self.label is None:
            raise ValueError("--classifier guides towards a class: add --label")
        if self.guidance is not None and self.label is None and self.vector is None and self.condition_image is None:
            raise ValueError(f"--guidance {self.guidance:g} has nothing to guide towards: add --label, or --vector or --condition-image")
        if self.guidance_interval is not None:
            if self.guidance is None and self.classifier is None:
                raise ValueError("--guidance-interval says where --guidance acts: add --guidance")
            low, high = _floats(self.guidance_interval, "--guidance-interval", 2)
            if not 0 <= low <= high <= 1:
                raise ValueError(f"--guidance-interval {self.guidance_interval} must rise within [0, 1], such as 0.1,0.8")
        if self.vector is not None:
            _floats(self.vector, "--vector")

    def granted(self, model: "Model", number: int | None, *, given: bool = False) -> Granted:
        """This wish for a model that knows how to fulfil it; `number` pictures, by default 16, or 8 for each of several labels.

        Args:
            model: what is to fulfil it.
            number: of pictures.
            given: whether these are pictures of the user's, whose number is no choice.

        Raises:
            ValueError: it does not know how, with the way out.
        """
        from snowmelt.restoration import guided
        from snowmelt.restorers.guidance import conditions_of
        from snowmelt.training.classifier import load_classifier

        classifier = None if self.classifier is None else load_classifier(self.classifier)
        known = conditions_of(model.restorer)
        assert known is not None  # noqa: S101 - a model from a file has a snowmelt.Restorer
        names = self._names(model, known, classifier)
        chosen = [] if self.label is None else _chosen(self.label, names)
        number = number or (_EACH * len(chosen) if len(chosen) > 1 else _NUMBER)
        if number < len(chosen):
            if given:
                raise ValueError(f"--label names {len(chosen)} classes, more than the pictures given ({number}): name fewer, or give more pictures")
            raise ValueError(f"--number {number} lies under the {len(chosen)} labels that share it: give a multiple of {len(chosen)}")
        conditions = self._conditions(model, known, chosen, number)
        scale = 1.0 if self.guidance is None else self.guidance
        if classifier is not None or scale != 1:
            low, high = _ALWAYS if self.guidance_interval is None else _floats(self.guidance_interval, "--guidance-interval", 2)
            model = guided(model, scale, interval=(low, high), classifier=classifier)
        labels = tuple(names[i] for i in chosen)
        return Granted(model, conditions, number, labels, self._said(labels, scale))

    def _names(self, model: "Model", known: "Conditions", classifier: "DegradedClassifier | None") -> tuple[str, ...]:
        """The names of the classes: those of the model's notes, those of the classifier, or numbers."""
        classes = known.classes or (len(classifier.classes) if classifier else 0)
        if self.label is not None and not classes:
            raise ValueError(
                "--label: this model was trained without labels: train one with --model.conditions label, "
                "or guide it by a classifier: 'snowmelt train-classifier RUN --out DIR', then --classifier DIR"
            )
        names = tuple(map(str, model.notes.get("classes") or (classifier.classes if classifier else ())))
        return names if len(names) == classes else tuple(map(str, range(classes)))

    def _conditions(self, model: "Model", known: "Conditions", chosen: Sequence[int], number: int) -> "Mapping[str, Tensor]":
        """One row a picture."""
        import torch

        for flag, value, size in (("vector", self.vector, known.vector), ("condition-image", self.condition_image, known.image)):
            if value is not None and not size:
                told = ", ".join(known.names) or "no conditions"
                raise ValueError(f"--{flag}: this model was trained with {told}; train one with --model.conditions {flag.rpartition('-')[2]}")
        out: dict[str, Tensor] = {}
        if chosen:
            out["label"] = torch.tensor([chosen[i * len(chosen) // number] for i in range(number)])
        if self.vector is not None:
            out["vector"] = torch.tensor(_floats(self.vector, "--vector", known.vector)).expand(number, -1)
        if self.condition_image is not None:
            out["image"] = _picture(self.condition_image, model, known.image).expand(number, -1, -1, -1)
        return out

    def _said(self, labels: Sequence[str], scale: float) -> dict[str, Any]:
        """What was asked for, in words and numbers; nothing where nothing was."""
        said = {
            "labels": list(labels) or None,
            "vector": None if self.vector is None else _floats(self.vector, "--vector"),
            "condition_image": None if self.condition_image is None else str(self.condition_image),
        }
        asked = {name: value for name, value in said.items() if value is not None}
        if not asked:
            return {}
        interval = None if self.guidance_interval is None else _floats(self.guidance_interval, "--guidance-interval")
        return {**asked, "guidance": scale, "guidance_interval": interval, "classifier": None if self.classifier is None else str(self.classifier)}


NONE = Wish()
OnWish = Annotated[Wish, Parameter(name="*")]


def _chosen(text: str, names: Sequence[str]) -> list[int]:
    """The numbers of the classes that a text names."""
    from snowmelt.registry import nearest

    if text == "all" and "all" not in names:
        return list(range(len(names)))
    out = []
    for word in (part.strip() for part in text.split(",")):
        if word in names:
            out.append(names.index(word))
        elif word.isdecimal() and int(word) < len(names):
            out.append(int(word))
        else:
            few = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            numbers = f"numbers from 0 to {len(names) - 1}, or all"
            raise ValueError(f"--label {word!r} is none of the {len(names)} classes{nearest(word, names)}: {few} ({numbers})")
    if len(set(out)) < len(out):
        raise ValueError(f"--label {text} names a class twice")
    return out


def _floats(text: str, flag: str, count: int | None = None) -> list[float]:
    """Finite numbers with commas between."""
    import math

    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(map(math.isfinite, found)) or (count is not None and len(found) != count):
        raise ValueError(f"{flag} {text}: give {'finite' if count is None else count} numbers with commas between, such as 0.1,0.8")
    return found


def _picture(path: Path, model: "Model", channels: int) -> "Tensor":
    """The picture to go by, in the form (1, c, h, w) the model was trained with."""
    from snowmelt.data import images
    from snowmelt.restorers import Restorer

    assert isinstance(model.restorer, Restorer)  # noqa: S101 - a model from a file has one
    x = images.to_channels(images.read(path).x, channels)
    return images.resize(x, (model.restorer.shape[1], model.restorer.shape[2]))[None]
