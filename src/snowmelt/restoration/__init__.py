"""The jobs of a finished model: restore what is degraded, generate what is new."""

from snowmelt.restoration.consistency import Consistency, consistency_for, keep
from snowmelt.restoration.folder import Tally, restore_folder
from snowmelt.restoration.generation import beginning, generate, generated, interpolate
from snowmelt.restoration.spread import Spread, rank_correlation, sparsification, spread
from snowmelt.restoration.translated import translate_folder
from snowmelt.restoration.translation import translate, translation
from snowmelt.restoration.walks import Walk, begin, choose, restore

__all__ = [
    "Consistency",
    "Spread",
    "Tally",
    "Walk",
    "begin",
    "beginning",
    "choose",
    "consistency_for",
    "generate",
    "generated",
    "interpolate",
    "keep",
    "rank_correlation",
    "restore",
    "restore_folder",
    "sparsification",
    "spread",
    "translate",
    "translate_folder",
    "translation",
]
