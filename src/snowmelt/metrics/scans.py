r"""Measures of scans: how far restored range images, and the clouds they stand for, lie from the clean ones, in metres.

Of a scan x (3, rings, azimuths) of :class:`~snowmelt.signals.Scan` range and reflectance are decoded, after clamping to [-1, 1], beyond which
there are none. With V the cells in which the *truth* has a return, of all scans together, and r, r-hat ranges in metres,

.. math:: \text{MAE} = \frac1{|V|} \sum_{i \in V} |\hat r_i - r_i|, \qquad \text{RMSE} = \sqrt{\frac1{|V|} \sum_{i \in V} (\hat r_i - r_i)^2},

whatever the estimate says of returns: its range is taken as it stands, so that a cell of which it knows nothing (-1) counts as 0 m. Whether it is
right about returns is a measure of its own: *wrong returns* is the share of all cells in which one of x-hat_2 > 0 and x_2 > 0 holds without the
other. The *Chamfer distance* is that of the clouds (:mod:`~.metrics.clouds`) of all returns, each scan's own, the mean over scans; of an estimate
without any return it is as far as the sensor sees. The *MAE of reflectance* is over V, in [0, 1]. The *RMSE* without unit is over all values of
all three channels as they are.

A scan whose truth has no return has neither range errors, nor reflectance, nor a Chamfer distance, and is left out of these.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from snowmelt.metrics.clouds import chamfer, points_of
from snowmelt.metrics.measures import RMSE, Column, Measures, checked
from snowmelt.sensor import metres
from snowmelt.signals import Scan
from snowmelt.types import Batch


class Scans(Measures):
    """MAE and RMSE of range, Chamfer distance, wrong returns, MAE of reflectance and RMSE of scans (b, 3, rings, azimuths).

    Args:
        scan: the sensor.
    """

    columns: ClassVar[tuple[Column, ...]] = (
        Column("mae_m", "MAE of range", "m", "low", 3, weight="returns"),
        Column("rmse_m", "RMSE of range", "m", "low", 3, of="squares_m", weight="returns", root=True),
        Column("chamfer_m", "Chamfer", "m", "low", 3),
        Column("return_error", "wrong returns", "", "low", 4),
        Column("mae_reflectance", "MAE of reflectance", "", "low", 4, weight="returns"),
        RMSE,
    )
    main: ClassVar[str] = "mae_m"

    def __init__(self, scan: Scan | None = None) -> None:
        self.scan = scan or Scan()

    def each(self, x: Batch, clean: Batch) -> dict[str, Tensor]:
        """See :meth:`Measures.each`."""
        wanted = (3, self.scan.rings, self.scan.azimuths)
        if tuple(x.shape[1:]) != wanted:
            raise ValueError(f"x has shape {tuple(x.shape)}; scans of this sensor are (b, {', '.join(map(str, wanted))})")
        found = self.common(x, clean)
        x, clean = (one.cpu().clamp(-1, 1) for one in checked(x, clean))
        there, told = clean[:, 2] > 0, x[:, 2] > 0
        apart = metres(x[:, 0], self.scan.farthest_m) - metres(clean[:, 0], self.scan.farthest_m)
        light = (x[:, 1] - clean[:, 1]) / 2
        pairs = zip(points_of(self.scan, x), points_of(self.scan, clean), strict=True)
        clouds = [chamfer(p, q, nothing=self.scan.farthest_m) if len(q) else math.nan for p, q in pairs]
        return {
            "mae_m": _over(apart.abs(), there),
            "squares_m": _over(apart.square(), there),
            "chamfer_m": torch.tensor(clouds, dtype=torch.float64),
            "return_error": (told != there).double().flatten(1).mean(1),
            "mae_reflectance": _over(light.abs(), there),
            "returns": there.flatten(1).sum(1),
            **found,
        }


def _over(values: Tensor, cells: Tensor) -> Tensor:
    """The mean of values (b, h, w) over cells (b, h, w): (b,), NaN where there is none."""
    return torch.where(cells, values, 0.0).flatten(1).sum(1) / cells.flatten(1).sum(1).where(cells.flatten(1).any(1), math.nan)
