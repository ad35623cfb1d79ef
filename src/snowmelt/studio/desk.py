"""The desk: what every tab of the page and every route of the interface for programs is given."""

from dataclasses import dataclass
from pathlib import Path

from snowmelt.studio.gate import Gate
from snowmelt.studio.limits import Limits
from snowmelt.studio.shelf import Shelf


@dataclass(frozen=True)
class Desk:
    """One studio.

    Attributes:
        limits: what one visitor may ask.
        gate: lets one wish in at a time.
        shelf: the models.
        folder: where trainings that begin here lie.
        device: where to compute.
        trains: whether visitors may start and steer trainings; ``snowmelt studio --no-train`` says no.
    """

    limits: Limits
    gate: Gate
    shelf: Shelf
    folder: Path
    device: str = "cpu"
    trains: bool = True
