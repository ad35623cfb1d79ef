"""The scans of a data set, turned and mirrored in training.

A range image is a whole turn, so that the sensor may have been put on its car in any direction: to turn a scan about the vertical axis by any
number of azimuth steps is to roll its columns, and to mirror the world left to right is to reverse them. Both lose nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snowmelt.data.options import DataOptions
from snowmelt.data.readings import DoorPool, Readings
from snowmelt.data.splits import Split
from snowmelt.signals import Scan

if TYPE_CHECKING:
    from snowmelt.data.pools import FilePool


class Scans(Readings):
    """Range images (3, rings, azimuths) of one sensor; see :class:`snowmelt.data.readings.Readings`."""

    def __init__(self, files: "FilePool", chosen: Sequence[int], split: Split, options: DataOptions, scan: Scan) -> None:
        super().__init__(cast(DoorPool, files), chosen, split, (3, scan.rings, scan.azimuths), moved=options.flip or options.turn)
        self._flip, self._turn = options.flip, options.turn

    def _moved(self, x0: Tensor, draws: NDArray[np.float64]) -> Tensor:
        """See :meth:`Dataset._moved`: mirrored where drawn, then turned by any number of columns."""
        if self._flip:
            x0 = torch.where(torch.from_numpy(draws[:, 2] < 0.5)[:, None, None, None], x0.flip(-1), x0)
        if self._turn:
            w = x0.shape[-1]
            by = torch.from_numpy((draws[:, 3] * w).astype(np.int64))
            columns = (torch.arange(w) - by[:, None]) % w
            x0 = x0.gather(-1, columns[:, None, None, :].expand_as(x0))
        return x0.contiguous()
