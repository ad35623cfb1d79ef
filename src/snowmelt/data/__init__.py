"""Data: from files, arrays and bundled sets to clean pictures x0 in [-1, 1].

``open_data(DataOptions(path="photos", size=64), "train")`` is the whole of it. The names below are loaded
when first used, so that the command line can read :class:`DataOptions` without importing torch.
"""

import importlib
from typing import TYPE_CHECKING

from snowmelt.data.options import DataOptions

if TYPE_CHECKING:
    from snowmelt.data.dataset import Dataset
    from snowmelt.data.images import Picture, UnreadableImage
    from snowmelt.data.sources import describe_data, open_data

__all__ = ["DataOptions", "Dataset", "Picture", "UnreadableImage", "describe_data", "open_data"]

_HOMES = {"Dataset": "dataset", "Picture": "images", "UnreadableImage": "images", "describe_data": "sources", "open_data": "sources"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
