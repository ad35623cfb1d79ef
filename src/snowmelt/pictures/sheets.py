"""Sheets: samples in rows, what was done to them in columns.

The eye compares along a row, so a row is one sample and a column one treatment of it: degraded, restored in
one call, restored step by step, clean. :func:`grid` takes such columns by name, :func:`strip` the frames of a
walk over severity, and :func:`show` whatever one has at hand.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from PIL import Image
from torch import Tensor

from snowmelt.pictures.seen import stacked
from snowmelt.pictures.tiles import FONT_PX, GAP_PX, LINE, TILE_PX, WHITE, board, fit, font, lay, plain, tiles, write
from snowmelt.signals import PICTURE, Signal
from snowmelt.types import State

T = TypeVar("T")
Showable: TypeAlias = Tensor | State | Mapping[str, Tensor] | Iterable[State]

MARGIN_PX = 16
# Beyond this many columns tiles shrink towards 96 px, so that a sheet stays as wide as a page.
WIDE = 8
NARROW_TILE_PX = 96
BLOCK_PX = 20  # between the blocks of wide tiles
# A column of tiny tiles is still as wide as a short label.
LABEL_PX = 84


def grid(
    columns: Mapping[str, Tensor], *, scale: int | None = None, rows: Sequence[str] | None = None, signal: Signal = PICTURE
) -> Image.Image:
    """Rows are samples, columns are labelled: ``grid({"Degraded": x_t, "Direct": x0_hat, "Clean": x0})``.

    Args:
        columns: label to samples, (b, c, h, w) in [-1, 1], all with the same b; c, h and w may differ.
        scale: screen pixels per pixel; by default a tile of about 128 px (see :func:`~snowmelt.pictures.tiles.tiles`).
        rows: a label for each sample, written on the left.
        signal: what the samples are. Scans, whose strips are wide, stand one below the other: a block is one sample, a row one treatment.

    Raises:
        ValueError: no column, no sample, or numbers of samples or labels that differ.
    """
    return strip(list(columns.values()), list(columns), scale=scale, rows=rows, signal=signal)


def strip(
    frames: Sequence[Tensor],
    labels: Sequence[str],
    *,
    scale: int | None = None,
    rows: Sequence[str] | None = None,
    signal: Signal = PICTURE,
) -> Image.Image:
    """One row per sample, one column per frame, a label over each; arguments as in :func:`grid`.

    Raises:
        ValueError: no frame, no sample, or numbers of samples or labels that differ.
    """
    b = _samples(frames, labels, rows)
    if stacked(signal):
        return _stack([tiles(frame, scale=scale, signal=signal) for frame in frames], labels, rows or [""] * b)
    size_px = NARROW_TILE_PX if len(frames) > WIDE else TILE_PX
    table = [tiles(frame, scale=scale, size_px=size_px, signal=signal) for frame in frames]
    widths = [max(column[0].width, LABEL_PX if label else 0) for column, label in zip(table, labels, strict=True)]
    heights = [max(column[row].height for column in table) for row in range(b)]

    fitted = [fit(label, width) for label, width in zip(labels, widths, strict=True)]
    header = round(max((len(lines) for lines, _ in fitted), default=0) * FONT_PX * LINE)
    names = [plain(name) for name in rows or []]
    left = MARGIN_PX + (round(max(font(FONT_PX).getlength(name) for name in names)) + 12 if names else 0)
    top = MARGIN_PX + (header + 4 if header else 0)
    width = left + sum(widths) + GAP_PX * (len(widths) - 1) + MARGIN_PX
    height = top + sum(heights) + GAP_PX * (b - 1) + MARGIN_PX

    sheet = Image.new("RGB", (width, height), WHITE)
    xs = list(itertools.accumulate((w + GAP_PX for w in widths[:-1]), initial=left))
    ys = list(itertools.accumulate((h + GAP_PX for h in heights[:-1]), initial=top))
    for x, column, (lines, size), column_width in zip(xs, table, fitted, widths, strict=True):
        write(sheet, lines, size, x + column_width / 2, top - 9)
        for y, tile, row_height in zip(ys, column, heights, strict=True):
            lay(sheet, tile, x + (column_width - tile.width) // 2, y + (row_height - tile.height) // 2)
    for name, y, row_height in zip(names, ys, heights, strict=bool(names)):
        write(sheet, [name], FONT_PX, left - 12, y + row_height / 2 + FONT_PX / 3, anchor="rs")
    return sheet


def show(what: Showable, *, samples: int = 8, frames: int = 9, scale: int | None = None, signal: Signal = PICTURE) -> Image.Image:
    """A picture of whatever one has at hand; a notebook displays it by itself.

    A tensor becomes a contact sheet, a mapping a labelled :func:`grid`, one state its x beside its last
    estimate, and a walk of states (a list, or ``sampler.trajectory(...)`` itself) a :func:`strip` labelled by severity.

    Args:
        what: a tensor (b, c, h, w) or (c, h, w), of another signal (b, *d) or (*d,), a mapping from labels to such batches, a State, or states.
        samples: at most this many rows; of a single tensor, as many squared.
        frames: at most this many states, evenly spaced with both ends.
        scale: screen pixels per pixel; by default a tile of about 128 px.
        signal: what the samples are.

    Raises:
        ValueError: nothing to show, or tensors that are no pictures.
    """
    if isinstance(what, Tensor):
        return _contact(what[None] if what.ndim == _axes(signal) else what, samples * samples, scale, signal)
    if isinstance(what, State):
        estimate = {} if what.x0 is None else {"Estimate": what.x0}
        return show({severity_label(what.t): what.x, **estimate}, samples=samples, scale=scale, signal=signal)
    if isinstance(what, Mapping):
        return grid({label: x[:samples] for label, x in what.items()}, scale=scale, signal=signal)
    walk = evenly(list(what), frames)
    return strip([state.x[:samples] for state in walk], [severity_label(state.t) for state in walk], scale=scale, signal=signal)


def evenly(items: Sequence[T], n: int) -> list[T]:
    """At most `n` of `items`, evenly spaced, the first and the last among them."""
    if len(items) <= n:
        return list(items)
    return [items[round(i * (len(items) - 1) / (n - 1))] for i in range(n)] if n > 1 else [items[-1]]


def severity_label(t: float | Tensor) -> str:
    """How a severity is written over a picture: "t = 0.25", or its range when the samples differ."""
    low, high = (float(t.min()), float(t.max())) if isinstance(t, Tensor) else (t, t)
    short, long = (f"{round(value, 2):g}" for value in (low, high))
    return f"t = {short}" if short == long else f"t = {short} to {long}"


def _axes(signal: Signal) -> int:
    """How many axes a single sample has."""
    return len(signal.axes.split(","))


def _stack(frames: Sequence[list[Image.Image]], labels: Sequence[str], rows: Sequence[str]) -> Image.Image:
    """A block for each sample, under its name; in it a row for each frame, with its label on the left."""
    names = [plain(label) for label in labels]
    left = MARGIN_PX + (round(max(font(FONT_PX).getlength(name) for name in names)) + 12 if any(names) else 0)
    header = round(FONT_PX * LINE) + 4 if any(rows) else 0
    widths, heights = [tile.width for frame in frames for tile in frame], [max(tile.height for tile in frame) for frame in frames]
    block = header + sum(heights) + GAP_PX * (len(frames) - 1)
    height = 2 * MARGIN_PX + block * len(rows) + BLOCK_PX * (len(rows) - 1)
    sheet = Image.new("RGB", (left + max(widths) + MARGIN_PX, height), WHITE)
    for i, row in enumerate(rows):
        y = MARGIN_PX + i * (block + BLOCK_PX) + header
        if row:
            write(sheet, [plain(row)], FONT_PX, left, y - 9, anchor="ls")
        for frame, name, high in zip(frames, names, heights, strict=True):
            lay(sheet, frame[i], left, y)
            if name:
                write(sheet, [name], FONT_PX, left - 12, y + high / 2 + FONT_PX / 3, anchor="rs")
            y += high + GAP_PX
    return sheet


def _contact(x: Tensor, most: int, scale: int | None, signal: Signal) -> Image.Image:
    """A tensor's samples, nearly as many rows as columns, without labels."""
    _samples([x], [""], None)
    return board(tiles(x[:most], scale=scale, signal=signal), MARGIN_PX)


def _samples(frames: Sequence[Tensor], labels: Sequence[str], rows: Sequence[str] | None) -> int:
    """The number of samples, the same in every frame."""
    counts = sorted({len(frame) for frame in frames})
    if not counts or counts == [0]:
        raise ValueError("there is no sample to show")
    if len(counts) > 1:
        raise ValueError(f"columns hold {counts} samples: a row is one sample, so all must hold the same number")
    if len(labels) != len(frames):
        raise ValueError(f"{len(frames)} frames have {len(labels)} labels: give one each")
    if rows is not None and len(rows) != counts[0]:
        raise ValueError(f"{counts[0]} samples have {len(rows)} row labels: give one each")
    return counts[0]
