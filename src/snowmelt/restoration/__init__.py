"""The jobs of a finished model: restore what is degraded, generate what is new."""

from snowmelt.restoration.blending import blend, blending
from snowmelt.restoration.comparing import Comparison, compare
from snowmelt.restoration.consistency import Consistency, consistency_for, keep
from snowmelt.restoration.editing import edit, editing
from snowmelt.restoration.folder import restore_folder
from snowmelt.restoration.generation import beginning, generate, generated, interpolate
from snowmelt.restoration.guiding import guided
from snowmelt.restoration.measurement import Measurement
from snowmelt.restoration.sampling import Sampled, sample_folder
from snowmelt.restoration.solving import METHODS, informed_by, solve
from snowmelt.restoration.spread import Spread, rank_correlation, sparsification, spread
from snowmelt.restoration.tally import Tally
from snowmelt.restoration.translated import translate_folder
from snowmelt.restoration.translation import fitted, translate, translation
from snowmelt.restoration.walks import Walk, begin, choose, restore

__all__ = [
    "METHODS",
    "Comparison",
    "Consistency",
    "Measurement",
    "Sampled",
    "Spread",
    "Tally",
    "Walk",
    "begin",
    "beginning",
    "blend",
    "blending",
    "choose",
    "compare",
    "consistency_for",
    "edit",
    "editing",
    "fitted",
    "generate",
    "generated",
    "guided",
    "informed_by",
    "interpolate",
    "keep",
    "rank_correlation",
    "restore",
    "restore_folder",
    "sample_folder",
    "solve",
    "sparsification",
    "spread",
    "translate",
    "translate_folder",
    "translation",
]
