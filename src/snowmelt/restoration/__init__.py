"""The jobs of a finished model: restore what is degraded, generate what is new."""

from snowmelt.restoration.walks import Choice, begin, choose, generate, restore

__all__ = ["Choice", "begin", "choose", "generate", "restore"]
