r"""Measures: what a restored sample is scored by, chosen by what samples are.

A *measure* of a signal gives a few *parts*, one number a sample, NaN where there is none; a *column* of a table is pooled from them, over all
samples,

.. math:: \text{mean} = \frac{\sum_i w_i m_i}{\sum_i w_i}, \qquad \text{root} = \sqrt{\text{mean}},

with weights 1, or those of a part of its own: the number of values a picture has, the returns of a scan. So an RMSE is one root over all values
of all samples, as papers report it, and decibels are a mean of one number a sample.

A number is missing where the *truth* has none to offer (the SI-SDR of silence, the range error of a scan without returns): it is missing for
every method alike. Such samples are left out of that column, and counted. Only the SSIM of pictures, for which some may be too small, is then
given up altogether.

=======  ==============================  =====================================================================
signal   where                           columns, the main one first
=======  ==============================  =====================================================================
picture  :mod:`~.metrics.distortion`     psnr; rmse, ssim
sound    :mod:`~.metrics.sound`          si_sdr; lsd, segmental_snr, rmse
scan     :mod:`~.metrics.scans`          mae_m; rmse_m, chamfer_m, return_error, mae_reflectance, rmse
=======  ==============================  =====================================================================

The RMSE is the one measure that all have, in units of the samples: of pictures clamped and in [0, 1], of others as they are.
"""

import abc
import math
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from snowmelt.signals import Picture, Scan, Signal, Sound
from snowmelt.types import Batch

COMMON = "rmse"


class Column(NamedTuple):
    """One number of a table, and how it is pooled.

    Attributes:
        name: in rows and files: "si_sdr".
        title: in tables: "SI-SDR".
        unit: "dB", "m", or nothing.
        better: which values are.
        decimals: digits after the point that are worth writing.
        of: the part it is pooled from; by default that of its own name.
        weight: the part that weighs each sample; by default all weigh alike.
        root: whether it is the root of the mean.
        whole: whether a single sample without number leaves the column without one.
    """

    name: str
    title: str
    unit: str
    better: Literal["low", "high"]
    decimals: int
    of: str = ""
    weight: str = ""
    root: bool = False
    whole: bool = False

    @property
    def part(self) -> str:
        """The part that is pooled."""
        return self.of or self.name

    @property
    def header(self) -> str:
        """Title and unit: "SI-SDR, dB"."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


RMSE = Column(COMMON, "RMSE", "", "low", 3, of="mse", weight="values", root=True)


class Measures(abc.ABC):
    """What samples of one signal are scored by.

    Attributes:
        columns: in the order of tables.
        main: the one that verdicts and extremes go by.
        scale: units of the samples to those of the RMSE.
    """

    columns: ClassVar[tuple[Column, ...]]
    main: ClassVar[str]
    scale: ClassVar[float] = 1.0

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(one for one in self.columns if one.name == name)

    @property
    def first(self) -> Column:
        """The main column."""
        return self.column(self.main)

    @abc.abstractmethod
    def each(self, x: Batch, clean: Batch) -> dict[str, Tensor]:
        r"""All parts of restored samples and the clean ones they should be, (b, \\*d) both: (b,) each, float64 on the CPU, NaN where there is none.

        Raises:
            ValueError: the shapes differ or are not the signal's, or a value is NaN.
        """

    def common(self, x: Batch, clean: Batch) -> dict[str, Tensor]:
        """The parts of the RMSE alone, which cost little."""
        x, clean = checked(x, clean)
        squares = ((x - clean) * self.scale).square().flatten(1).mean(1).cpu()
        return {"mse": squares, "values": torch.full((len(x),), math.prod(x.shape[1:]), dtype=torch.int64)}


class Gathered:
    """Gathers the parts of samples, batch after batch.

    >>> from snowmelt.metrics.sound import Recordings
    >>> scores = Gathered(Recordings())
    >>> clean = torch.linspace(0, 60, 4000).sin().expand(1, 1, -1)
    >>> scores.update(clean + 0.1 * torch.linspace(0, 1000, 4000).cos(), clean)
    >>> len(scores), round(scores.compute()["si_sdr"])
    (1, 20)

    Args:
        measures: of what samples are.

    Attributes:
        parts: by name, (n,) each.
    """

    def __init__(self, measures: Measures) -> None:
        self.measures = measures
        self.parts: dict[str, Tensor] = {}

    def __len__(self) -> int:
        """The number of samples seen."""
        return len(next(iter(self.parts.values()), ()))

    def update(self, x: Batch, clean: Batch) -> None:
        """Add a batch of restored samples and the clean ones they should be; see :meth:`Measures.each`."""
        self.extend(self.measures.each(x, clean))

    def extend(self, parts: Mapping[str, Tensor]) -> None:
        """Add parts that were computed before."""
        self.parts = {name: torch.cat([self.parts[name], values]) if name in self.parts else values for name, values in parts.items()}

    def columns(self) -> list[Column]:
        """The columns whose parts are there and, but for those that must be whole, have a number at all."""
        known = [one for one in self.measures.columns if one.part in self.parts]
        return [one for one in known if one.whole or bool(self.parts[one.part].isfinite().any())]

    def of(self, column: Column) -> tuple[Tensor, Tensor]:
        """The numbers and the weights of a column, (n,) float64 both; 0 where a sample is left out of it."""
        numbers = self.parts[column.part].double()
        weights = self.parts[column.weight].double() if column.weight else torch.ones_like(numbers)
        if column.whole:
            return numbers, weights
        there = numbers.isfinite()
        return torch.where(there, numbers, 0.0), torch.where(there, weights, 0.0)

    def compute(self) -> dict[str, float | None]:
        """Every column over all samples so far; None for one that must be whole and is not.

        Raises:
            ValueError: no sample has been seen.
        """
        if not len(self):
            raise ValueError("nothing has been scored: call update(x, clean) first")
        found: dict[str, float | None] = {}
        for one in self.columns():
            numbers, weights = self.of(one)
            weights = weights / weights.sum()
            mean = float((weights * numbers).sum())
            found[one.name] = None if math.isnan(mean) else math.sqrt(mean) if one.root else mean
        return found

    def left_out(self) -> dict[str, int]:
        """How many samples have no number, by the title of the column; nothing where all have one."""
        there = [one for one in self.measures.columns if one.part in self.parts and not one.whole]
        counts = {one.title: int((~self.parts[one.part].isfinite()).sum()) for one in there}
        return {title: n for title, n in counts.items() if n}


def measures_for(signal: Signal) -> Measures:
    """What samples of this signal are scored by.

    Raises:
        TypeError: nobody knows.
    """
    # Each is imported where it is wanted: they build on this module.
    match signal:
        case Picture():
            from snowmelt.metrics.distortion import Pictures

            return Pictures()
        case Sound():
            from snowmelt.metrics.sound import Recordings

            return Recordings(signal.rate_hz)
        case Scan():
            from snowmelt.metrics.scans import Scans

            return Scans(signal)
    raise TypeError(f"{signal.many} have no measures: pictures, recordings and scans have")


def checked(x: Batch, clean: Batch) -> tuple[Tensor, Tensor]:
    """Both in float64, free of the graph, and fit for a score.

    Raises:
        ValueError: the shapes differ, a value is NaN, or the values are no floating-point numbers.
    """
    if x.shape != clean.shape:
        raise ValueError(f"shapes differ: {tuple(x.shape)} and {tuple(clean.shape)}; a score compares sample by sample")
    for name, one in (("x", x), ("clean", clean)):
        if not one.is_floating_point():
            raise ValueError(f"{name} has dtype {one.dtype}; scores take floating-point numbers")
        if bool(one.isnan().any()):
            raise ValueError(f"{name} holds NaN in {int(one.isnan().flatten(1).any(1).sum())} of {len(one)} samples: there is no score")
    return x.detach().double(), clean.detach().double()
