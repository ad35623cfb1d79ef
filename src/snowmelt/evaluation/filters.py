"""Restorers without a network, which a network has to beat: the full and the diagonal Wiener filter, as methods."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import torch

from snowmelt.data.dataset import Dataset
from snowmelt.evaluation.methods import Method, direct
from snowmelt.evaluation.starts import start
from snowmelt.metrics import rmse
from snowmelt.model import Model
from snowmelt.restorers import LinearRestorer, Restorer, Wiener, Zero
from snowmelt.restorers.linear import LARGEST
from snowmelt.samplers import entries
from snowmelt.signals import PICTURE
from snowmelt.types import Batch, State, severity

_SIGMAS = (2.3e-3, 2.3e-4, 2.3e-5)
_FIT_IMAGES = 20_000


def count(model: Model, shape: tuple[int, ...]) -> int:
    """How many of the two filters there are for a model and samples of `shape`."""
    return is_small_and_linear(model, shape) + _has_diagonal(model)


def full_wiener(model: Model, train: Dataset) -> Method | None:
    """The best linear restorer as a method; None for degradations that are not linear, and for large pictures.

    Where there is no noise floor it allows for the rounding of 8 bits, in floating point too.
    """
    if not is_small_and_linear(model, train.shape):
        return None
    filtered = LinearRestorer(model.degradation, clean_batches(train), max(model.noise_floor, _SIGMAS[0]))

    def method(model: Model, state: State, ids: Sequence[int]) -> tuple[Batch, Batch | None]:
        return filtered(state.x, severity(state.t, state.x), state.z), None

    return method


def is_small_and_linear(model: Model, shape: tuple[int, ...]) -> bool:
    """Whether there is a full Wiener filter: D is affine once what it tells of its draw is known, and a picture has at most 3,072 values."""
    degradation = model.degradation
    if model.signal != PICTURE or not degradation.linear or math.prod(shape) > LARGEST:
        return False
    return entries(degradation).keys() <= {*degradation.tells, *degradation.noise}


def statistics(model: Model, train: Dataset) -> Restorer | None:
    """A restorer without a network, fitted to the training set; None where the operator is diagonal in no basis."""
    if not _has_diagonal(model):
        return None
    return _diagonal(model, train.shape, _SIGMAS[0]).fit(clean_batches(train))


def diagonal_wiener(
    model: Model, fitted: Restorer | None, validation: Dataset, *, seed: int, device: torch.device | str
) -> tuple[Model, Method] | None:
    """The Wiener filter in the operator's own basis, as a model and what to do with it; None where the operator is diagonal in none.

    Its noise level is the one of three that does best on validation pictures, rounding, a tenth and a hundredth of it, as far as
    they lie above the noise floor.
    """
    if fitted is None:
        return None
    best: tuple[float, Model] | None = None
    ids = range(min(len(validation), 256))
    for sigma in dict.fromkeys(max(sigma, model.noise_floor) for sigma in _SIGMAS):
        restorer = _diagonal(model, fitted.shape, sigma)
        restorer.load_state_dict(fitted.state_dict())
        filtered = dataclasses.replace(model, restorer=restorer.to(device))
        if not len(ids):
            return filtered, direct
        x0, state = start(filtered, validation, ids, seed=seed, device=device)
        error = rmse(direct(filtered, state, ids)[0], x0)
        if best is None or error < best[0]:
            best = (error, filtered)
    return (best[1], direct) if best else None


def _has_diagonal(model: Model) -> bool:
    """Whether there is a diagonal Wiener filter: bases are those of pictures, and for other signals there are methods of their own."""
    return model.signal == PICTURE and model.degradation.basis is not None


def _diagonal(model: Model, shape: tuple[int, ...], sigma: float) -> Restorer:
    return Restorer(model.degradation, Zero(), shape, parameterization=Wiener(sigma), noise_floor=model.noise_floor)


def clean_batches(data: Dataset) -> Iterator[Batch]:
    """Clean pictures of the training set, as many as statistics are taken from."""
    last = min(len(data), _FIT_IMAGES)
    return (data.batch(range(i, min(i + 256, last)))["x0"] for i in range(0, last, 256))
