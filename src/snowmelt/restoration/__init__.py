"""The jobs of a finished model: restore what is degraded, generate what is new."""

from snowmelt.restoration.consistency import Consistency, consistency_for, keep
from snowmelt.restoration.folder import Tally, restore_folder
from snowmelt.restoration.spread import Spread, rank_correlation, sparsification, spread
from snowmelt.restoration.walks import Choice, begin, choose, generate, restore

__all__ = [
    "Choice",
    "Consistency",
    "Spread",
    "Tally",
    "begin",
    "choose",
    "consistency_for",
    "generate",
    "keep",
    "rank_correlation",
    "restore",
    "restore_folder",
    "sparsification",
    "spread",
]
