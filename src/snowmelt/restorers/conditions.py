r"""Conditions: what a restorer may be told of a sample besides its degradation: its class, a vector of numbers, another picture.

A condition is no part of D. It travels in the draw, as the noise floor does, and is read by the restorer alone:

==========  =========================  ==========================================
entry       shape                      unknown is
==========  =========================  ==========================================
``label``   (b,) whole numbers         -1, the *null class*
``vector``  (b, k) numbers             a row of NaN
``image``   (b, c, h, w)               a picture of NaN
==========  =========================  ==========================================

An entry that is missing is unknown for the whole batch. A restorer that was shown the unknown now and then in training is two in one, a conditional
and an unconditional one, which is what classifier-free guidance needs (:mod:`snowmelt.restorers.guidance`).

Label and vector become features c of a fixed length, which a backbone that embeds adds to its embedding of the severity, and any other
backbone gets as constant planes; a picture becomes further input channels, with one that says where it is known.

Source: Ho and Salimans 2022 (arXiv 2207.12598) for the null class; Saharia et al. 2021 (arXiv 2104.07636) for pictures as channels.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snowmelt.types import Batch, Draw

EMBEDDED, PLANES = 64, 8  # features for a backbone that embeds, and as constant planes for one that does not
_MOST = 100_000


@dataclass(frozen=True)
class Conditions:
    """What a restorer is told: false when that is nothing.

    Attributes:
        classes: the number of classes of "label"; 0 for no labels.
        vector: the length of "vector"; 0 for none.
        image: the channels of "image"; 0 for none.
    """

    classes: int = 0
    vector: int = 0
    image: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes that are none.

        Raises:
            ValueError: one is negative, no whole number, or larger than any use of it.
        """
        for name, value in self.sizes.items():
            if not isinstance(value, int) or not 0 <= value <= _MOST:
                raise ValueError(f"conditions.{'classes' if name == 'label' else name} = {value} is no whole number in [0, {_MOST}]")

    def __bool__(self) -> bool:
        return any(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """The entries of the draw that carry conditions, with the size of each."""
        return {"label": self.classes, "vector": self.vector, "image": self.image}

    @property
    def names(self) -> tuple[str, ...]:
        """The entries that are read."""
        return tuple(name for name, size in self.sizes.items() if size)

    def check(self, given: Mapping[str, Tensor]) -> None:
        """Refuse conditions this restorer was not made for.

        Raises:
            ValueError: an entry it does not read, a label that is no class, a vector or picture of another size.
        """
        strange = sorted(set(given) - set(self.names))
        if strange:
            known = ", ".join(self.names) or "nothing"
            raise ValueError(f"this model was trained without the condition {', '.join(strange)}: it is told {known}")
        for name, value in given.items():
            size = self.sizes[name]
            if name == "label" and (value.is_floating_point() or value.ndim != 1):
                raise ValueError(f"label has dtype {value.dtype} and shape {tuple(value.shape)}: give one whole number a sample, (b,)")
            if name == "label":
                wrong = value[(value < -1) | (value >= size)].flatten()
                if len(wrong):
                    raise ValueError(f"label {int(wrong[0])} lies outside [0, {size - 1}], the classes of this model (-1: unknown)")
            elif value.ndim < 2 or value.shape[1] != size:
                trained = f"(b, {size}, h, w)" if name == "image" else f"(b, {size})"
                raise ValueError(f"the condition {name} has shape {tuple(value.shape)}; this model was trained with {trained}")

    def unknown(self, like: Batch) -> Draw:
        """Every condition unknown, for a batch shaped as `like`."""
        b = like.shape[0]  # and not len, which would be a number in an exported graph
        made = {
            "label": torch.full((b,), -1, device=like.device),
            "vector": like.new_full((b, self.vector), math.nan),
            "image": like.new_full((b, self.image, *like.shape[2:]), math.nan),
        }
        return {name: made[name] for name in self.names}

    def dropped(self, z: Draw, drop: Tensor, like: Batch) -> Draw:
        """The draw z with the conditions of the samples where `drop` (b,) is true made unknown."""
        null = self.unknown(like)
        out = dict(z)
        for name in self.names:
            if name in z:
                value = z[name]
                out[name] = torch.where(drop.to(value.device).reshape(-1, *(1,) * (value.ndim - 1)), null[name].to(value), value)
        return out


class Embedding(nn.Module):
    """Features (b, features) of label and vector; learned ones stand for what is unknown."""

    def __init__(self, conditions: Conditions, features: int) -> None:
        super().__init__()
        self.conditions = conditions
        self.label = nn.Embedding(conditions.classes + 1, features) if conditions.classes else None
        self.vector = nn.Linear(conditions.vector, features) if conditions.vector else None
        self.no_vector = nn.Parameter(torch.zeros(features)) if conditions.vector else None

    def forward(self, known: Draw) -> Tensor:
        """The sum of what is known, of a batch whose entries are all there (:meth:`Conditions.unknown` fills in)."""
        parts: list[Tensor] = []
        if self.label is not None:
            number = known["label"].long()
            parts.append(self.label(torch.where(number < 0, self.conditions.classes, number)))
        if self.vector is not None and self.no_vector is not None:
            missing = known["vector"].isnan().any(1, keepdim=True)
            parts.append(torch.where(missing, self.no_vector, self.vector(known["vector"].nan_to_num().float())))
        return torch.stack(parts).sum(0)


def picture_channels(image: Tensor) -> Tensor:
    """A conditioning picture (b, c, h, w) as c + 1 channels: 0 where it is unknown, and a plane that says where it is known."""
    known = image.isfinite().all(1, keepdim=True)
    return torch.cat([torch.where(known, image, 0), known.to(image)], dim=1)
