"""The jobs of a finished model: restore what is degraded, generate what is new."""

from snowmelt.restoration.folder import Stopped, Tally, restore_folder
from snowmelt.restoration.walks import Choice, begin, choose, generate, restore

__all__ = ["Choice", "Stopped", "Tally", "begin", "choose", "generate", "restore", "restore_folder"]
