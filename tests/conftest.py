"""What all tests share: one thread a process (pytest-xdist runs several), and property tests that repeat exactly."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from snowmelt import registry

torch.set_num_threads(1)
settings.register_profile("snowmelt", deadline=None, derandomize=True, database=None)
settings.load_profile("snowmelt")


@pytest.fixture(autouse=True)
def registry_as_it_was() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    registry.kinds()  # everything that is installed is known before the snapshot
    parts, names, plugins = {k: dict(v) for k, v in registry._parts.items()}, dict(registry._names), dict(registry._plugins)
    yield
    for now, before in ((registry._parts, parts), (registry._names, names), (registry._plugins, plugins)):
        now.clear()
        now.update(before)
