"""One-file HTML reports: no request to anywhere, readable on a phone, at night and on paper.

A page is a title and a list of sections, each made by a function of this module. Whatever text they are
given is escaped; pictures lie inside as ``data:`` addresses; and a content security policy forbids the
browser to fetch or run anything, should one of us forget. Only a page that holds a scrubber
(:mod:`~snowmelt.pictures.scrubber`) runs its one script, which the policy knows by its digest. The letters are the reader's own::

    page.page("Deblurring", [
        page.text("Trained on 50,000 pictures."),
        page.table([{"sampler": "Direct", "rmse": 0.142}, {"sampler": "TACoS", "rmse": 0.131}]),
        page.figure(grid({"Degraded": x_t, "Clean": x0}), "Eight test pictures."),
    ])
"""

import base64
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from html import escape
from importlib import resources

from PIL import Image
from torch import Tensor

from snowmelt.pictures.markup import Html
from snowmelt.pictures.png import data_url
from snowmelt.pictures.scrubber import SCRIPT, STYLE
from snowmelt.pictures.sound import LONGEST_S, wav_bytes
from snowmelt.pictures.tables import ABSENT, PENDING, Best, Row, best_rows, cell, columns, header, numeric
from snowmelt.pictures.tiles import tiles
from snowmelt.signals import Sound

# A tile of a sheet should stay recognisable on a phone: a picture shrinks to this share of its width, then scrolls.
SMALLEST_SHARE = 0.55
# A script is allowed by its digest or not at all.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def page(title: str, sections: Sequence[str], *, subtitle: str = "") -> str:
    """The whole report as one HTML document.

    Args:
        title: stands in the browser's tab and on top.
        sections: what the functions below return, in order; a plain string is a paragraph.
        subtitle: one line under the title: what was measured, when, with which version.
    """
    style = resources.files("snowmelt.pictures").joinpath("page.css").read_text(encoding="utf-8")
    under = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    body = "\n".join(section if isinstance(section, Html) else text(section) for section in sections)
    moving = any(isinstance(section, Html) and "<figure data-scrubber" in section for section in sections)
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"{_POLICY}; script-src 'sha256-{digest}'" if moving else _POLICY
    script = f"<script>{SCRIPT}</script>\n" if moving else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}{STYLE if moving else ""}</style>
</head>
<body>
<main>
<header><h1>{escape(title)}</h1>{under}</header>
{body}
</main>
{script}</body>
</html>
"""


def heading(text: str, level: int = 2) -> Html:
    """A heading of level 2 (a section) to 4, with an anchor made of its words.

    Raises:
        ValueError: the level lies outside 2 to 4: level 1 is the page's title.
    """
    if not 2 <= level <= 4:
        raise ValueError(f"level = {level} lies outside 2 to 4: level 1 is the page's title")
    anchor = re.sub(r"\W+", "-", text.lower()).strip("-")
    return Html(f'<h{level} id="{escape(anchor)}">{escape(text)}</h{level}>')


def text(text: str) -> Html:
    """Paragraphs, divided by empty lines."""
    return Html("".join(f"<p>{escape(part.strip())}</p>" for part in re.split(r"\n\s*\n", text.strip())))


def note(text: str) -> Html:
    """A paragraph that must not be overlooked: a caveat, a failed gate."""
    return Html(f'<p class="note">{escape(text.strip())}</p>')


def facts(values: Mapping[str, object]) -> Html:
    """Names and values in two columns: seeds, versions, sizes."""
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(cell(values, name))}</dd>" for name in values)
    return Html(f"<dl>{pairs}</dl>")


def table(rows: Sequence[Row], *, best: Best | None = None, caption: str = "", apart: Collection[int] = (), mark: bool = True) -> Html:
    """Rows of results; the best of each known measure is bold, what is still to be computed is grey.

    Args:
        rows: mappings from column to value; columns stand in the order in which they first appear.
        best: "low" or "high" for further columns, beside rmse, psnr, ssim, fid and kid.
        caption: stands above.
        apart: the numbers of rows that are never best, printed fainter: a floor, a ceiling.
        mark: whether headers have arrows and the best are bold.
    """
    names = columns(rows)
    align = {name: ' class="number"' if numeric(rows, name) else "" for name in names}
    winners = {name: best_rows(rows, name, best, apart) if mark else set() for name in names}
    head = "".join(f'<th scope="col"{align[name]}>{_unbroken(header(name, best, arrow=mark))}</th>' for name in names)
    body = "".join(
        ('<tr class="apart">' if i in apart else "<tr>")
        + "".join(f"<td{align[name]}>{_cell(cell(row, name), i in winners[name])}</td>" for name in names)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Html(f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def figure(image: Image.Image | bytes, caption: str = "", *, alt: str = "") -> Html:
    """A picture inside the page.

    Args:
        image: a Pillow image, or the bytes of a PNG, GIF, JPEG or WebP file.
        caption: stands below.
        alt: what the picture shows, for those who cannot see it; by default the caption.

    Raises:
        ValueError: the bytes are no such picture.
    """
    least = f' style="min-width:{round(image.width * SMALLEST_SHARE)}px"' if isinstance(image, Image.Image) else ""
    size = f' width="{image.width}" height="{image.height}"' if isinstance(image, Image.Image) else ""
    picture = f'<img src="{data_url(image)}" alt="{escape(alt or caption)}"{size}{least}>'
    return Html(f'<figure><div class="scroll paper">{picture}</div>{_caption(caption)}</figure>')


def audio(x: Tensor, rate_hz: int, label: str = "") -> Html:
    """A player of a recording inside the page: 16 bits, at most 30 s, never so loud that it hurts (:func:`~snowmelt.pictures.sound.audible`).

    Args:
        x: (c, n), one channel or two.
        rate_hz: samples per second.
        label: what is heard, for those who cannot see the page.

    Raises:
        ValueError: `x` is no recording.
    """
    encoded = base64.b64encode(wav_bytes(x[..., : round(LONGEST_S * rate_hz)], rate_hz)).decode()
    named = f' aria-label="{escape(label)}"' if label else ""
    return Html(f'<audio controls preload="metadata"{named} src="data:audio/wav;base64,{encoded}"></audio>')


def listening(heard: Mapping[str, Tensor], sound: Sound, *, rows: Sequence[str] = (), caption: str = "") -> Html:
    """A listening grid: rows are recordings, columns what was done to them, and under each spectrogram stands its player.

    Args:
        heard: label to recordings (b, c, n), all with the same b.
        sound: what they are.
        rows: a name for each recording.
        caption: stands below.

    Raises:
        ValueError: nothing to hear, or numbers of recordings or names that differ.
    """
    counts = {len(x) for x in heard.values()} | ({len(rows)} if rows else set())
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"columns and names are of {sorted(counts)} recordings: a row is one recording, so all must hold the same number")
    looks = [tiles(x, signal=sound) for x in heard.values()]
    lines = [[_player(x[i], look[i], sound) for x, look in zip(heard.values(), looks, strict=True)] for i in range(counts.pop())]
    return _players(lines, list(heard), rows, caption)


def players(x: Tensor, sound: Sound, *, columns: int = 4, rows: Sequence[str] = (), caption: str = "") -> Html:
    """Recordings side by side, each a spectrogram over its player, line after line.

    Args:
        x: (b, c, n).
        sound: what they are.
        columns: how many stand in a line.
        rows: a name for each line.
        caption: stands below.

    Raises:
        ValueError: no recording, or not one name for each line.
    """
    cells = [_player(one, look, sound) for one, look in zip(x, tiles(x, signal=sound), strict=True)]
    lines = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    if not lines or (rows and len(rows) != len(lines)):
        raise ValueError(f"{len(x)} recordings in lines of {columns} have {len(rows)} names: give one for each of {len(lines)} lines")
    return _players(lines, [], rows, caption)


def _player(x: Tensor, look: Image.Image, sound: Sound) -> str:
    """A spectrogram over the player of its recording."""
    look = look.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)  # one map of colours: nothing is lost to see
    return f'<img src="{data_url(look)}" alt="" width="{look.width}" height="{look.height}">{audio(x, sound.rate_hz)}'


def _players(lines: Sequence[Sequence[str]], columns: Sequence[str], rows: Sequence[str], caption: str) -> Html:
    """A table of players."""
    corner = "<th></th>" if rows else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + (f'<th scope="row">{escape(rows[i])}</th>' if rows else "") + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>"
        for i, line in enumerate(lines)
    )
    first = f"<thead><tr>{corner}{head}</tr></thead>" if columns else ""
    return Html(f'<figure><div class="scroll"><table class="listening">{first}<tbody>{body}</tbody></table></div>{_caption(caption)}</figure>')


def svg(markup: str, caption: str = "") -> Html:
    """A chart made by :func:`~snowmelt.pictures.curves.curve_svg`.

    Raises:
        ValueError: the markup is not one ``<svg>`` element.
    """
    if not (markup.startswith("<svg") and markup.endswith("</svg>")):
        raise ValueError(f"markup that begins with {markup[:20]!r} is not one <svg> element")
    return Html(f'<figure><div class="scroll">{markup}</div>{_caption(caption)}</figure>')


def details(summary: str, preformatted: str) -> Html:
    """Something long under a line that opens it: a recipe, a log, a table of numbers."""
    return Html(f"<details><summary>{escape(summary)}</summary><pre>{escape(preformatted)}</pre></details>")


def folded(summary: str, sections: Sequence[str]) -> Html:
    """Sections under a line that opens them."""
    body = "".join(section if isinstance(section, Html) else text(section) for section in sections)
    return Html(f'<details class="wide"><summary>{escape(summary)}</summary>{body}</details>')


def _caption(caption: str) -> str:
    return f"<figcaption>{escape(caption)}</figcaption>" if caption else ""


def _unbroken(title: str) -> str:
    """The title of a column, whose arrow never stands on a line of its own."""
    return escape(title).replace(" ↓", "&nbsp;↓").replace(" ↑", "&nbsp;↑")


def _cell(text: str, best: bool) -> str:
    if text in (PENDING, ABSENT):
        return f'<span class="gap">{text}</span>'
    return f"<strong>{escape(text)}</strong>" if best else escape(text)
