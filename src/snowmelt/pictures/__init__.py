"""Pictures of degradations, trajectories and results: sheets, animations, curves and one-file reports.

Five kinds of evidence, six modules. :mod:`~snowmelt.pictures.sheets` lays samples out in labelled rows and
columns; :mod:`~snowmelt.pictures.animation` plays a trajectory, and :mod:`~snowmelt.pictures.scrubber` has the reader move through it by hand;
:mod:`~snowmelt.pictures.curves` draws numbers and :mod:`~snowmelt.pictures.planes` two measures against each other,
:mod:`~snowmelt.pictures.panels` several charts side by side; :mod:`~snowmelt.pictures.page` binds them, with tables, into one HTML
file that asks the network for nothing.

Everything is Pillow and plain text. Samples enter as floats (b, c, h, w) in [-1, 1] and leave through
:func:`snowmelt.data.images.to_uint8`, so that a picture shows what a saved file would hold. Samples of other signals become pictures
first (:mod:`~snowmelt.pictures.seen`): spectrograms of sound, strips of range and bird's-eye views of scans.
"""

from snowmelt.pictures.animation import animate, gif, gif_bytes
from snowmelt.pictures.curves import curve_svg
from snowmelt.pictures.panels import Level, Panel, panels_svg
from snowmelt.pictures.planes import Mark, plane_svg
from snowmelt.pictures.png import data_url, png_bytes, save
from snowmelt.pictures.scan import birds_eye, portraits
from snowmelt.pictures.scrubber import scrubber
from snowmelt.pictures.seen import explained, seen
from snowmelt.pictures.sheets import grid, show, strip
from snowmelt.pictures.tables import between_markers, markdown_table

__all__ = [
    "Level",
    "Mark",
    "Panel",
    "animate",
    "between_markers",
    "birds_eye",
    "curve_svg",
    "data_url",
    "explained",
    "gif",
    "gif_bytes",
    "grid",
    "markdown_table",
    "panels_svg",
    "plane_svg",
    "png_bytes",
    "portraits",
    "save",
    "scrubber",
    "seen",
    "show",
    "strip",
]
