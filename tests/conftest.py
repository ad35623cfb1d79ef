"""What all tests share: one thread a process (pytest-xdist runs several), and property tests that repeat exactly."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import settings

from snowmelt import registry

torch.set_num_threads(1)
settings.register_profile("snowmelt", deadline=None, derandomize=True, database=None)
settings.load_profile("snowmelt")


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """The module in a file of the repository that is no part of the package: script("scripts/ship.py")."""

    def load(path: str) -> ModuleType:
        found = importlib.util.spec_from_file_location(f"{Path(path).stem}_script", Path(__file__).parents[1] / path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        found.loader.exec_module(module)
        return module

    return load


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    registry.kinds()  # everything that is installed is known before the snapshot
    parts, names, plugins = {k: dict(v) for k, v in registry._parts.items()}, dict(registry._names), dict(registry._plugins)
    yield
    for now, before in ((registry._parts, parts), (registry._names, names), (registry._plugins, plugins)):
        now.clear()
        now.update(before)
