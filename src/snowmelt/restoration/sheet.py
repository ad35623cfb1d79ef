"""The sheets of a set of generated samples: what they look like side by side, and of sound a page to listen to.

All of them are made of the files, so that any of those who shared the work can make them.
"""

from collections.abc import Sequence

import torch
from PIL import Image

from snowmelt import files, pictures
from snowmelt.pictures import page
from snowmelt.restoration.sampling import Sampled
from snowmelt.signals import Scan, Sound
from snowmelt.types import Batch

SHEET, LISTENING = "grid.png", "grid.html"
_MOST_SCANS, _COLUMNS = 8, 4


def write_sheets(made: Sampled, rows: Sequence[range], labels: Sequence[str] = ()) -> list[str]:
    """Write grid.png, and of sound grid.html, a player under each spectrogram; the names of what was written.

    Args:
        made: the set, all of whose files are there.
        rows: the numbers of the samples to show: one row alone, or one of each label, equally long.
        labels: the names of several rows.
    """
    found = [torch.stack([made.read(i) for i in row]) for row in rows]
    pictures.save(made.folder / SHEET, _sheet(made, found, labels))
    if not isinstance(made.signal, Sound):
        return [SHEET]
    files.write_text(made.folder / LISTENING, _listening(made, found, labels, made.signal))
    return [SHEET, LISTENING]


def _sheet(made: Sampled, found: Sequence[Batch], labels: Sequence[str]) -> Image.Image:
    """One set as it came, or a row for each label."""
    if isinstance(made.signal, Scan):
        each = max(1, _MOST_SCANS // len(found))
        shown = torch.cat([pictures.portraits(x[:each], made.signal) for x in found])
        names = [label for label in labels for _ in range(min(each, len(found[0])))] if len(found) > 1 else None
        return pictures.grid({"": shown}, scale=1, rows=names)
    if len(found) == 1:
        return pictures.show(found[0], samples=8, signal=made.signal)
    columns = list(torch.stack(list(found)).unbind(1))
    return pictures.strip(columns, [""] * len(columns), rows=labels, signal=made.signal)


def _listening(made: Sampled, found: Sequence[Batch], labels: Sequence[str], sound: Sound) -> str:
    """A page with a player for each: a row for each label, or as many rows as they fill."""
    several = len(found) > 1
    x = torch.cat(list(found))
    told = page.text(f"The first {len(x):,} of {made.number:,} recordings, as they came: none was chosen. Walk: {made.sampler}.")
    across, names = (len(found[0]), labels) if several else (_COLUMNS, ())
    heard = page.players(x, sound, columns=across, rows=names, caption=pictures.explained(sound))
    return page.page("Samples", [told, heard])
