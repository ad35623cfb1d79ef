"""Asking, between two files, whether anybody still wants what is being read: a folder may hold a million of them."""

from collections.abc import Callable
from typing import TypeAlias

Check: TypeAlias = Callable[[], None]  # is called for every file, and raises to end the work


def unchecked() -> None:
    """The check of work that nobody ends."""
