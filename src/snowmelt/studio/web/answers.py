"""What programs send to the studio and what they get back: fields, pictures as bytes, and errors in words with the status that fits them."""

import base64
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, Response
from torch import Tensor

from snowmelt.data.door import Unreadable
from snowmelt.data.images import Picture
from snowmelt.files import BadFile
from snowmelt.pictures import png_bytes, strip
from snowmelt.restoration.picture import save
from snowmelt.restorers.tiles import out_of_memory
from snowmelt.studio.limits import Busy, Late, Left, TooLarge, Unknown
from snowmelt.studio.shelf import Entry
from snowmelt.studio.words import plain
from snowmelt.studio.work.bundle import zipped

NOTE = "Snowmelt-Note"  # the header in which a picture says how it was made
_AGAIN_S = 5
_MOST_NOTE = 2000
_PLAIN = Picture(torch.zeros(1, 1, 1), None, 8)


class Described(BaseModel):
    """A model of the studio."""

    name: str = Field(description="by which it is asked for", examples=["photo"])
    degradation: str = Field(description="the registered name of what it undoes", examples=["mixture"])
    signal: str = Field(description="what it takes: picture, sound, scan; only pictures are restored here", examples=["picture"])
    restores: bool = Field(description="whether /v1/restore can use it")
    generates: bool = Field(description="whether /v1/sample can use it")
    labels: list[str] = Field(description="the names of its classes; empty if it knows none")
    channels: int = Field(description="of its samples: 1 is grey, 3 is colour")

    @classmethod
    def of(cls, entry: Entry) -> "Described":
        """What an entry of the shelf is called outside; where it lies is nobody's business."""
        return cls(labels=list(entry.labels), **{name: getattr(entry, name) for name in cls.model_fields if name != "labels"})


class Health(BaseModel):
    """How the studio is doing."""

    status: Literal["ok"] = "ok"
    version: str
    waiting: int = Field(description="wishes that wait; the one that is worked on is not counted")
    queue: int = Field(description="how many may wait; the next one gets a 503")


class Made(BaseModel):
    """What came of a wish, with format=json."""

    pictures: list[str] = Field(description="PNG files, in base64")
    note: dict[str, Any] = Field(description="how they were made")


class Wrong(BaseModel):
    """Why a wish was not granted, in words."""

    error: str = Field(examples=["this picture has 12000 x 12000 px, and 16 megapixels are the most: make it smaller"])


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Wrong, "description": "What was asked for cannot be done; the words say what can."},
    404: {"model": Wrong, "description": "There is no model of this name."},
    413: {"model": Wrong, "description": "Too many bytes, or too many pixels."},
    415: {"model": Wrong, "description": "The file is no picture that can be read."},
    422: {"model": Wrong, "description": "A field is missing, of the wrong type, or outside its range."},
    503: {"model": Wrong, "description": "Too many wait already (Retry-After says when to come again), or the time for one wish was over."},
}


def failed(error: Exception) -> Response:
    """The answer to a wish that ended in an error; 500 for a bug alone."""
    again = {"Retry-After": str(_AGAIN_S)} if isinstance(error, Busy) else None
    return JSONResponse({"error": plain(error)}, status_of(error), again)


def status_of(error: Exception) -> int:
    """The status of an answer."""
    if isinstance(error, TooLarge) or out_of_memory(error):
        return 413
    if isinstance(error, Left):
        return 499  # nobody reads it
    if isinstance(error, Busy | Late | BadFile):
        return 503
    if isinstance(error, Unreadable):
        return 415
    if isinstance(error, Unknown):
        return 404
    return 400 if isinstance(error, ValueError) else 503 if isinstance(error, OSError) else 500


def png(x: Tensor, note: dict[str, Any], like: Picture = _PLAIN) -> bytes:
    """A picture (c, h, w) as a PNG file with its note inside: at the depth, with the opacity and with the words of the file it came from."""
    with tempfile.TemporaryDirectory(prefix="snowmelt-") as folder:
        path = Path(folder) / "picture.png"
        save(path, x, like, note)
        return path.read_bytes()


def answer(files: Sequence[bytes], note: dict[str, Any], kind: str) -> Response:
    """One PNG, or several in a zip; with kind = "json", all of them as text."""
    if kind == "json":
        texts = [base64.b64encode(file).decode("ascii") for file in files]
        return JSONResponse(Made(pictures=texts, note=note).model_dump())
    headers = {NOTE: json.dumps(note, ensure_ascii=True)[:_MOST_NOTE], "Cache-Control": "no-store"}
    if len(files) == 1:
        return Response(files[0], media_type="image/png", headers=headers)
    return Response(zipped((f"{number:04d}.png", file) for number, file in enumerate(files)), media_type="application/zip", headers=headers)


def sheet(x: Tensor) -> bytes:
    """All samples (n, c, h, w) on one board, as square as they fill it, row by row."""
    columns = math.ceil(math.sqrt(len(x)))
    missing = -len(x) % columns
    whole = torch.cat([x, x.new_ones(missing, *x.shape[1:])]) if missing else x
    return png_bytes(strip([whole[first::columns] for first in range(columns)], [""] * columns))
