"""One Ray for all tests of a cluster, and a network whose results tell every difference."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch

from snowmelt.model import Model
from snowmelt.registry import build
from snowmelt.restoration.cluster import _PATIENT, Cluster, required
from snowmelt.restorers import Restorer


@pytest.fixture(scope="session")
def end_of_ray() -> Iterator[None]:
    """After all tests, Ray ends, and the environment is as it was."""
    given = {**_PATIENT, "RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    before = {name: os.environ.get(name) for name in given}
    os.environ |= given
    yield
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.modules["ray"].shutdown()
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture
def two(end_of_ray: None) -> Cluster:
    """Two workers of a Ray that all tests share: the first that asks begins it."""
    ray = required()
    if not ray.is_initialized():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return Cluster(2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def net() -> Model:
    """A network with random weights, and a noise floor: what it makes of a picture depends on the picture's random numbers."""
    torch.manual_seed(0)
    degradation = build("gaussian-blur:sigma_px=2", "degradation")
    restorer = Restorer(degradation, build("unet:widths=(8,),patch=1,groups=4", "backbone"), (1, 8, 8), noise_floor=0.2).eval()
    return Model(degradation, restorer, noise_floor=0.2)
