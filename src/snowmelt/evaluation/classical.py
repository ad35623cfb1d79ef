"""What sound and scans were restored with before networks: what a network has to beat.

A weak rival makes any result look good. So every method here has its free parameters chosen on validation samples, degraded as the test
samples are, by a measure that the report shows; and it is told what a restorer may be told: the degradation with its parameters (the level of
the noise, the cutoff) and what of the draw is known (which packets, which rays). Those titled *blind* read the noise from the recording
itself. The functions are in :mod:`~.classical_sound`, :mod:`~.classical_gaps` and :mod:`~.classical_scans`, with their sources.

Pictures have the Wiener filters of :mod:`~.filters`.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.data.options import PREVIOUS
from snowmelt.degradations import (
    AzimuthDrop,
    Background,
    BeamDrop,
    BitDepth,
    Clipping,
    Degradation,
    DownSample,
    Fog,
    LowPass,
    Morph,
    PacketLoss,
    Rain,
    RangeNoise,
    RayDrop,
    Reverberation,
    Several,
)
from snowmelt.evaluation import classical_gaps, classical_scans, classical_sound
from snowmelt.evaluation.methods import Entry, Method
from snowmelt.evaluation.starts import drawn, start
from snowmelt.metrics import Measures, measures_for
from snowmelt.metrics.scans import Scans
from snowmelt.metrics.sound import Recordings, si_sdr
from snowmelt.model import Model, noted
from snowmelt.registry import label
from snowmelt.sensor import metres
from snowmelt.signals import Scan
from snowmelt.types import Batch, Draw, State, severity

Choice: TypeAlias = Mapping[str, Any]
_VALIDATION: Mapping[str, int] = MappingProxyType({"sound": 12, "scan": 4})  # samples that parameters are chosen on
_TRAIN = 200  # recordings that spectra are fitted to
_NONE: tuple[Choice, ...] = ({},)


class Candidate(NamedTuple):
    """A method before its parameters are chosen.

    Attributes:
        title: of its row.
        restore: gives the restored batch, of a degraded one and what is known of the draw.
        choices: the parameters it is tried with.
        by: the column that decides; by default the signal's main one.
    """

    title: str
    restore: Callable[..., Batch]
    choices: tuple[Choice, ...] = _NONE
    by: str = ""


def methods_for(
    model: Model, train: Dataset, validation: Dataset, *, seed: int = 0, device: torch.device | str = "cpu"
) -> list[Entry]:
    """The classical restorers of what the model undoes, tuned: none for pictures, and for degradations that have none.

    Args:
        model: degrades; says what samples are.
        train: clean samples, for methods that are fitted.
        validation: clean samples that parameters are chosen on; the first of each list where there are none.
        seed: of the draws that degrade them.
        device: where to compute.
    """
    part = _part(model.degradation)
    make = _RIVALS.get((model.signal.name, label(type(part)))) if part is not None else None
    if part is None or make is None:
        return []
    candidates = make(model, part, train)
    most = min(len(validation), _VALIDATION[model.signal.name])
    ids = [i * len(validation) // most for i in range(most)] if model.signal.name == "scan" else range(most)  # neighbours in a drive are alike
    seen = start(model, validation, ids, seed=seed, device=device) if len(ids) else None
    return [Entry(one.title, "filter", 0, _method(one, _chosen(one, model, seen))) for one in candidates]


def count(model: Model) -> int:
    """How many entries :func:`methods_for` gives, without fitting anything."""
    part = _part(model.degradation)
    make = None if part is None else _RIVALS.get((model.signal.name, label(type(part))))
    return 0 if make is None else len(make(model, part, None))


def lost(degradation: Degradation, x: Batch, z: Draw) -> Tensor:
    """Which values of x (b, *d) the degradation leaves nothing of at t = 1: bool, in the shape of x.

    They are those that do not depend on what was there: two constant samples are degraded by the same draw and compared.
    """
    t = severity(1.0, x)
    return degradation(torch.full_like(x, 0.5), t, z) == degradation(torch.full_like(x, -0.5), t, z)


def _part(degradation: Degradation) -> Degradation | None:
    """The degradation, or what a composition of one is made of; None of several, which nobody undoes at once."""
    if isinstance(degradation, Several):
        return degradation.parts[0] if len(degradation.parts) == 1 else None
    return degradation


def _method(candidate: Candidate, choice: Choice) -> Method:
    def method(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
        return candidate.restore(state.x, state.z, **choice), None

    return method


def _chosen(candidate: Candidate, model: Model, seen: tuple[Batch, State] | None) -> Choice:
    """The parameters that do best on the validation samples, of equals the first."""
    if seen is None or len(candidate.choices) == 1:
        return candidate.choices[0]
    measures = measures_for(model.signal)
    column = measures.column(candidate.by) if candidate.by else measures.first
    sign = 1 if column.better == "high" else -1
    x0, state = seen
    return max(candidate.choices, key=lambda choice: sign * _score(column.name, measures, candidate.restore(state.x, state.z, **choice), x0))


def _score(name: str, measures: Measures, x: Batch, clean: Batch) -> float:
    """One column alone, of restored samples and the clean ones: the others would take most of the time, above all the distances of clouds."""
    match measures, name:
        case Recordings(), "si_sdr":
            return float(si_sdr(x.flatten(0, 1).cpu(), clean.flatten(0, 1).cpu()).nanmean())
        case Recordings(), "lsd":
            return float(measures.lsd(x.double().flatten(0, 1).cpu(), clean.double().flatten(0, 1).cpu()).nanmean())
        case Scans(), "mae_m":
            apart = metres(x[:, 0].clamp(-1, 1), measures.scan.farthest_m) - metres(clean[:, 0], measures.scan.farthest_m)
            return float(apart.double().abs()[clean[:, 2] > 0].mean())
    raise ValueError(f"no parameter is chosen by {name}: give si_sdr, lsd or mae_m")


def _grid(**values: Iterable[Any]) -> tuple[Choice, ...]:
    """All combinations of parameters, by name."""
    return tuple(dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values()))


def _background(model: Model, part: Background, train: Dataset | None) -> list[Candidate]:
    """Noise: told, its level follows from that of the recording, for the powers of both add up; blind, it is read from quiet frames."""
    snr = 10 ** (part.snr_db / 10)
    white = part.kind == "white"

    def told(x: Batch, window: int) -> Tensor:
        return classical_sound.white((x.square().mean(-1).flatten() / (1 + snr)).sqrt(), window)

    def blind(x: Batch, window: int, quantile: float) -> Tensor:
        return classical_sound.noise_in(classical_sound.spectrum(x, window), quantile)

    quantiles, steps = (0.1, 0.25), {"window": (256, 512), "memory": (0.9, 0.94, 0.97)}
    subtract, decide = classical_sound.subtracted, classical_sound.decided
    found = [
        Candidate(
            "Spectral subtraction, blind",
            lambda x, z, window, quantile, over: subtract(x, blind(x, window, quantile), window=window, over=over, floor=0.002),
            _grid(window=(256, 512), quantile=quantiles, over=(3.0, 4.0)),
        ),
        Candidate(
            "Wiener, decision-directed, blind",
            lambda x, z, window, quantile, memory: decide(x, blind(x, window, quantile), window=window, memory=memory, again=1),
            _grid(quantile=quantiles, **steps),
        ),
    ]
    if not white:
        return found
    return [
        *found,
        Candidate(
            "Spectral subtraction, told the noise level",
            lambda x, z, window, over: subtract(x, told(x, window), window=window, over=over, floor=0.002),
            _grid(window=(256, 512), over=(3.0, 4.0)),
        ),
        Candidate(
            "Log-spectral amplitude, told the noise level",
            lambda x, z, window, memory: decide(x, told(x, window), window=window, memory=memory, gain="log"),
            _grid(**steps),
        ),
        Candidate(
            "Wiener, decision-directed, told the noise level",
            lambda x, z, window, memory: decide(x, told(x, window), window=window, memory=memory, again=1),
            _grid(**steps),
        ),
    ]


def _narrow(model: Model, part: LowPass | DownSample, train: Dataset | None) -> list[Candidate]:
    """A missing high band, judged by the log-spectral distance: by SI-SDR, nothing that guesses phases beats leaving it out."""
    cutoff = part.cutoff if isinstance(part, LowPass) else 1 / part.factor
    factor = max(2, round(1 / cutoff))

    @functools.cache
    def fitted(window: int) -> classical_sound.Bandwidth:
        if train is None:
            raise ValueError("a bandwidth is extended as training recordings have it: give them")
        clean, z = drawn(model, train, range(min(len(train), _TRAIN)), seed=0)
        return classical_sound.Bandwidth(clean, model.degrade(clean, severity(1.0, clean), z), cutoff, window=window)

    return [
        Candidate("Sinc interpolation", lambda x, z: classical_sound.sinc(x, factor)),
        Candidate("Cubic spline", lambda x, z: classical_sound.spline(x, factor)),
        Candidate("Spectral folding", lambda x, z, window: fitted(window)(x, 1.0), _grid(window=(256, 512)), "lsd"),
        Candidate(
            "Linear envelope",
            lambda x, z, window, folded: fitted(window)(x, folded),
            _grid(window=(256, 512), folded=(0.0, 0.25, 0.5)),
            "lsd",
        ),
    ]


def _gaps(model: Model, part: PacketLoss, train: Dataset | None) -> list[Candidate]:
    """Lost packets, which the draw tells."""

    def gone(x: Batch, z: Draw) -> Tensor:
        return lost(model.degradation, x, z)

    def least_squares(x: Batch, z: Draw, order: int, context: int) -> Batch:
        gaps = gone(x, z)
        guess = classical_gaps.predicted(x, gaps, order=128, context=320, rounds=2)
        return classical_gaps.least_squares(x, gaps, order=order, context=context, rounds=1, guess=guess)

    return [
        Candidate("Linear interpolation", lambda x, z: classical_gaps.linear(x, gone(x, z))),
        Candidate(
            "Linear prediction",
            lambda x, z, order, context: classical_gaps.predicted(x, gone(x, z), order=order, context=context, rounds=2),
            _grid(order=(32, 64, 128), context=(320,)),
        ),
        Candidate("Least-squares autoregression", least_squares, _grid(order=(64, 96), context=(160, 240))),
    ]


def _clipped(model: Model, part: Clipping, train: Dataset | None) -> list[Candidate]:
    """Clipped peaks: missing samples of which a bound is known."""
    level = part.level
    title, choices = "Least-squares autoregression", _grid(order=(16, 32), piece=(512, 1024))
    return [Candidate(title, lambda x, z, order, piece: classical_gaps.declipped(x, x.new_full((len(x),), level), order=order, piece=piece), choices)]


def _rounded(model: Model, part: BitDepth, train: Dataset | None) -> list[Candidate]:
    """Rounding: white noise of step / sqrt(12), or of as much as validation recordings say, where levels are uneven or few."""
    step = 2.0 ** (1 - part.bits)

    def smooth(x: Batch, z: Draw, window: int, memory: float, times: float) -> Batch:
        sigma = x.new_full((len(x) * x.shape[1],), times * step / 12**0.5)
        return classical_sound.decided(x, classical_sound.white(sigma, window), window=window, memory=memory)

    return [Candidate("Wiener, decision-directed", smooth, _grid(window=(256, 512), memory=(0.9, 0.96), times=(0.1, 0.3, 0.5, 0.7, 1.0)))]


def _echoes(model: Model, part: Reverberation, train: Dataset | None) -> list[Candidate]:
    """Late echoes, of which the time they take to fade is told and the room is not."""
    decay = part.decay

    def dry(x: Batch, z: Draw, window: int, share: float) -> Batch:
        return classical_sound.decided(x, classical_sound.late(classical_sound.spectrum(x, window), decay, window, share), window=window, ahead=False)

    return [Candidate("Late echoes subtracted", dry, _grid(window=(128, 256, 512), share=(0.02, 0.1, 0.3, 1.0)))]


def _scan(model: Model) -> Scan:
    if not isinstance(model.signal, Scan):
        raise TypeError(f"a model of {model.signal.many} has no sensor")
    return model.signal


def _lines(model: Model, part: BeamDrop | AzimuthDrop, train: Dataset | None) -> list[Candidate]:
    """Missing rings or columns, which the draw tells."""
    scan = _scan(model)
    along: Literal["rows", "columns"] = "columns" if label(type(part)) == "azimuth-drop" else "rows"

    def fill(x: Batch, z: Draw, **how: Any) -> Batch:
        gone = lost(model.degradation, x, z)[0].all(0).all(1 if along == "rows" else 0)  # the same in every sample: nothing of it is random
        return classical_scans.interpolated(x, gone, scan, along=along, **how)

    spaces = ("range", "log", "inverse")
    beyond = ("copy", "line") if along == "rows" else ("copy",)  # a turn has no end
    return [
        Candidate("Nearest", fill, _grid(order=(0,))),
        Candidate("Linear", fill, _grid(order=(1,), space=spaces, beyond=beyond)),
        Candidate("Bicubic", fill, _grid(order=(3,), space=spaces, beyond=beyond)),
        Candidate("Linear, not across edges", fill, _grid(order=(1,), space=("log", "inverse"), edge=(0.5, 0.7, 1.0), beyond=beyond)),
    ]


def _rays(model: Model, part: RayDrop, train: Dataset | None) -> list[Candidate]:
    """Missing rays, which the draw tells."""
    scan = _scan(model)

    def by(fill: Callable[..., Batch]) -> Callable[..., Batch]:
        return lambda x, z, **how: fill(x, lost(model.degradation, x, z).all(1), scan, **how)

    return [
        Candidate("Nearest", by(classical_scans.nearest), _grid(tall=(1.0, 2.0))),
        Candidate("Linear, Delaunay triangles", by(classical_scans.triangles), _grid(tall=(0.7, 1.0), space=("range", "log"))),
        Candidate("Normalised convolution", by(classical_scans.convolved), _grid(sigma=((0.5, 0.7), (0.7, 1.0)), space=("range", "log"))),
        Candidate("Median of neighbours", by(classical_scans.medians), _grid(window=((3, 3), (1, 3), (3, 5)))),
    ]


def _ranging(model: Model, part: RangeNoise, train: Dataset | None) -> list[Candidate]:
    """Noise of ranges, whose level is told."""
    scan, sigma = _scan(model), part.sigma_m
    bilateral = _grid(sigma=((1.0, 2.0), (1.0, 3.0)), near_m=(1.5 * sigma, 2 * sigma, 3 * sigma), rounds=(1, 2))
    return [
        Candidate("Median", lambda x, z, window: classical_scans.median(x, scan, window=window), _grid(window=((1, 3), (1, 5), (3, 3)))),
        Candidate("Bilateral", lambda x, z, **how: classical_scans.bilateral(x, scan, **how), bilateral),
    ]


def _weather(model: Model, part: Fog | Rain, train: Dataset | None) -> list[Candidate]:
    """Fog and rain: returns from drops removed by a median; or whatever shows no return filled, for nobody knows what was lost."""
    scan = _scan(model)

    def fill(x: Batch, z: Draw, tall: float) -> Batch:
        filled = classical_scans.nearest(x, x[:, 2] <= 0, scan, tall=tall)
        return torch.cat([filled[:, :2], x[:, 2:]], 1)

    return [
        Candidate("Median", lambda x, z, window: classical_scans.median(x, scan, window=window), _grid(window=((1, 3), (3, 3), (3, 5)))),
        Candidate("Nearest where nothing came back", fill, _grid(tall=(1.0, 2.0, 4.0))),
    ]


def _following(model: Model, part: Morph, train: Dataset | None) -> list[Candidate]:
    """The next scan of a drive: the last one again is the row Degraded; here without its holes, as a network's answer is."""
    if noted(model.notes, "recipe", "data", "endpoint") != PREVIOUS:
        return []
    return [Candidate("The last frame again, its holes filled", lambda x, z: classical_scans.patched(x))]


_RIVALS: Mapping[tuple[str, str], Callable[[Model, Any, Dataset | None], list[Candidate]]] = MappingProxyType(
    {
        ("sound", "background"): _background,
        ("sound", "low-pass"): _narrow,
        ("sound", "down-sample"): _narrow,
        ("sound", "packet-loss"): _gaps,
        ("sound", "clipping"): _clipped,
        ("sound", "bit-depth"): _rounded,
        ("sound", "reverberation"): _echoes,
        ("scan", "beam-drop"): _lines,
        ("scan", "azimuth-drop"): _lines,
        ("scan", "ray-drop"): _rays,
        ("scan", "range-noise"): _ranging,
        ("scan", "fog"): _weather,
        ("scan", "rain"): _weather,
        ("scan", "morph"): _following,
    }
)
