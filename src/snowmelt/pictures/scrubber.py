"""A trajectory that the reader moves through by hand: all frames lie in the page, a slider shows one of them.

Nothing is fetched and nothing computed while the slider moves. :data:`SCRIPT` is all the JavaScript there is: one listener on the
document, so that it also moves scrubbers that enter the page later, and those inside shadow roots. Without JavaScript the frame
that was shown first stays, by default the last one: the result.

Small pictures are enlarged by whole factors into sharp squares and kept without loss. Those that were not enlarged, photographs, are
compressed as photographs are. Both as WebP: of boards of 16 small samples it took half the bytes of PNG and less time.
"""

import io
from collections.abc import Sequence
from html import escape
from importlib import resources

from PIL import Image
from torch import Tensor

from snowmelt.pictures.markup import Html
from snowmelt.pictures.png import data_url
from snowmelt.pictures.seen import ready
from snowmelt.pictures.tiles import board, require_frames, tiles
from snowmelt.signals import PICTURE, Signal

_FILES = resources.files("snowmelt.pictures")
# What moves every scrubber of a page. To be loaded once; loaded twice, it does nothing the second time.
SCRIPT = _FILES.joinpath("scrubber.js").read_text(encoding="utf-8")
# How scrubbers look. A page without it shows the same frames, less neatly.
STYLE = _FILES.joinpath("scrubber.css").read_text(encoding="utf-8")

MARGIN_PX = 2  # room for the hairline round a tile
ALONE_PX = 384  # a single picture is shown about this large
LARGEST_PX = 640  # and never larger
QUALITY = 90  # of photographs, 0 to 100
_WIDEST_PX = 16_383  # of a side, which is all that WebP holds


def scrubber(
    frames: Sequence[Tensor], labels: Sequence[str], *, caption: str = "", signal: Signal = PICTURE, start: int | None = None
) -> Html:
    """A trajectory with a slider under it; the arrow keys step, a button plays.

    Args:
        frames: (b, c, h, w) in [-1, 1] each, all of one shape; the samples are laid out nearly square. Of another signal, its samples.
        labels: one per frame, shown beneath while its frame is.
        caption: stands below.
        signal: what the samples are.
        start: number of the frame shown first, 0 to ``len(frames) - 1``; by default the last.

    Raises:
        ValueError: no frame, shapes or numbers of labels that differ, or a `start` that is no frame.
    """
    require_frames(frames)
    return of_images([_frame(frame, signal) for frame in frames], labels, caption=caption, lossless=_sharp(frames[0], signal), start=start)


def of_images(
    images: Sequence[Image.Image], labels: Sequence[str], *, caption: str = "", lossless: bool = True, start: int | None = None
) -> Html:
    """A scrubber of pictures that are laid out already: sheets of samples over a training, say.

    Args:
        images: the frames; one larger than the others makes room for itself. One with a side over 16383 px, which WebP cannot hold, is reduced.
        labels: one per frame.
        caption: stands below.
        lossless: whether every pixel counts.
        start: number of the frame shown first; by default the last.

    Raises:
        ValueError: no frame, numbers of labels that differ, or a `start` that is no frame.
    """
    if not images:
        raise ValueError("there is no frame to show")
    if len(labels) != len(images):
        raise ValueError(f"{len(images)} frames have {len(labels)} labels: give one each")
    last = len(images) - 1
    shown = last if start is None else start
    if not 0 <= shown <= last:
        raise ValueError(f"start = {start} is no frame: give 0 to {last}, or leave it out for the last")
    images = [_held(image) for image in images]
    pictures = "".join(_image(image, label, lossless, i == shown) for i, (image, label) in enumerate(zip(images, labels, strict=True)))
    now = escape(labels[shown])
    slider = f'<input type="range" min="0" max="{last}" step="1" value="{shown}" aria-label="Step" aria-valuetext="{now}">'
    play = '<button type="button" aria-label="Play">▶︎</button>'  # stands for the word, which would have to be translated
    controls = f'<div class="scrubber-controls">{play}{slider}<span aria-hidden="true">{now}</span></div>' if last else ""
    under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    width = max(image.width for image in images)
    return Html(f'<figure data-scrubber style="--scrubber-px:{width}px"><div class="scrubber-frames">{pictures}</div>{controls}{under}</figure>')


def _sharp(x: Tensor, signal: Signal) -> bool:
    """Whether the frames hold enlarged pixels or drawn lines, at which compression would show."""
    return ready(signal) or max(x.shape[-2:]) * 2 <= ALONE_PX


def _frame(x: Tensor, signal: Signal) -> Image.Image:
    """The samples of one frame: several as animations lay them out, one alone larger."""
    if len(x) > 1 or ready(signal):
        return board(tiles(x, signal=signal), MARGIN_PX)
    longer = max(x.shape[-2:])
    image = tiles(x, scale=max(1, round(ALONE_PX / longer)), signal=signal)[0]
    return board([image.reduce(-(-longer // LARGEST_PX)) if longer > LARGEST_PX else image], MARGIN_PX)


def _held(image: Image.Image) -> Image.Image:
    """The picture, reduced by a whole factor where WebP could not hold it."""
    return image if max(image.size) <= _WIDEST_PX else image.reduce(-(-max(image.size) // _WIDEST_PX))


def _image(image: Image.Image, label: str, lossless: bool, shown: bool) -> str:
    """One frame. Decoded at once, or the slider would show gaps between frames."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="WEBP", lossless=lossless, quality=50 if lossless else QUALITY, method=2)
    hidden = "" if shown else " hidden"
    address = data_url(buffer.getvalue())
    return f'<img src="{address}" alt="{escape(label)}" width="{image.width}" height="{image.height}" decoding="sync"{hidden}>'
