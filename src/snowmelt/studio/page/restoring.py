"""What the Restore tab asks for, as one value, and what it shows; between the page and :mod:`~snowmelt.studio.work.looking`."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from snowmelt import registry
from snowmelt.data.checks import Check
from snowmelt.data.images import Picture, shrunk, to_channels, to_uint8
from snowmelt.degradations import Mixture
from snowmelt.model import Model
from snowmelt.pictures import data_url, scrubber
from snowmelt.pictures.markup import Html
from snowmelt.restoration.identity import Opened
from snowmelt.restoration.loading import enlarged
from snowmelt.restoration.picture import save
from snowmelt.studio.desk import Desk
from snowmelt.studio.limits import Refused
from snowmelt.studio.page import examples
from snowmelt.studio.page.asking import escaped
from snowmelt.studio.shelf import Entry
from snowmelt.studio.trainings.orders import short
from snowmelt.studio.uploads import opened
from snowmelt.studio.work.again import command, place
from snowmelt.studio.work.looking import Mode, Tell, Walked, measured, nobody, restored
from snowmelt.studio.work.ways import Beside, side_by_side

SHOWN_PX = 1280  # the longer side of what the wiper compares; the result keeps its own
_SMALL_PX = 384
_LONGEST_NAME = 80
_KNOWN = {"cid22_photos_256": "photographs"}  # a folder that nobody here has: the one of the model that comes with snowmelt
_QUALITY = 92  # of the ways side by side, 0 to 100


@dataclass(frozen=True)
class Wish:
    """One wish of the Restore tab.

    Attributes:
        model: its name on the shelf.
        upload: the file that was brought; None for a bundled picture.
        example: the bundled picture.
        clean: the picture is clean, and degraded first; a bundled one always is.
        mode: fast, faithful or best.
        severity: how degraded, in [0, 1]; None lets the model tell.
        seed: of what is random.
        anyway: restore also what looks clean.
    """

    model: str
    upload: str | None = None
    example: str = examples.NAMES[0]
    clean: bool = True
    mode: Mode = "faithful"
    severity: float | None = None
    seed: int = 0
    anyway: bool = False

    @property
    def file(self) -> str:
        """What the picture is called: by this its random numbers are keyed, here and on the command line."""
        return Path(self.upload).name if self.upload else examples.file_of(self.example)

    @property
    def bundled(self) -> str | None:
        """The bundled picture that is taken; None where one was brought, or is lacking."""
        return self.example if self.clean and not self.upload else None

    def picture(self, desk: Desk) -> Picture:
        """The picture.

        Raises:
            Refused: there is none, or too much of it.
            UnreadableImage: it is none.
        """
        if self.bundled is not None:
            return Picture(examples.example(self.bundled), None, 8)
        return opened(self.upload, desk.limits)

    def opened(self, desk: Desk) -> Opened:
        """The model, of "fast" its tuned copy.

        Raises:
            Unknown: there is none of this name.
            ValueError: it has no tuned copy; the message holds the command that makes one.
        """
        return desk.shelf.opened(self.model, fast=self.mode == "fast")


@dataclass(frozen=True)
class Done:
    """What came of a wish.

    Attributes:
        wish: what was asked for.
        walked: the walk.
        picture: what was brought.
        opened: the model that did it.
        scores: PSNR and SSIM of the degraded picture and of the restored one, where the clean one is known.
    """

    wish: Wish
    walked: Walked
    picture: Picture
    opened: Opened
    scores: tuple[tuple[float, float | None], tuple[float, float | None]] | None

    def wiper(self) -> tuple[Any, Any]:
        """Before and after, as pixels (h, w, 3) that a page can show."""
        start = self.walked.start if self.walked.start is not None else self.walked.x
        return shown(start[0]), shown(self.walked.x[0])

    @property
    def result(self) -> str:
        """What came of it, in the words of the glossary."""
        return self.walked.result or "As it came"

    def steps(self) -> Html:
        """The walk under a slider, at whose end the result stands."""
        n = len(self.walked.frames)
        numbered = [label if n == 1 else f"{i} of {n}: {label}" for i, label in enumerate(self.walked.labels, 1)]
        return scrubber(self.walked.frames, numbered, caption=f"1 = degraded … {n} = restored ({self.result.lower()})" if n > 1 else "")

    def summary(self) -> str:
        """What there is to say, as Markdown: first what was done to the picture, and what the model has learned to undo."""
        lines = [f"{self.walked.damage} {trained_on(self.opened)}".strip()]
        if self.scores is not None:
            (before, ssim_before), (after, ssim_after) = self.scores
            table = f"| | Degraded | {self.result} |\n|:--|--:|--:|\n| PSNR, dB | {before:.2f} | **{after:.2f}** |"
            if ssim_before is not None and ssim_after is not None:
                table += f"\n| SSIM | {ssim_before:.3f} | **{ssim_after:.3f}** |"
            lines += [table, "Next to the clean picture, of which the model knows nothing: more is closer, and an SSIM of 1 is equal."]
        lines += self.walked.said
        h, w = self.walked.x.shape[2:]
        lines.append(f"{w} × {h} px in {self.walked.seconds:.1f} s by **{self.opened.name}**: {self.walked.how}.")
        return "\n\n".join(lines)

    def write(self, folder: Path) -> Path:
        """The result as a PNG at its own size and depth, with its opacity, and how it was made noted in it."""
        path = folder / f"{Path(self.wish.file).stem}-restored.png"
        note = {**self.walked.note, "model": self.opened.name, "weights_sha256": self.opened.weights} if self.walked.note else None
        save(path, self.walked.x[0], self.picture, note)
        return path


def work(desk: Desk, wish: Wish, check: Check, tell: Tell = nobody) -> Done:
    """Grant a wish: arguments and errors as of :func:`~snowmelt.studio.work.looking.restored`."""
    picture, found = wish.picture(desk), wish.opened(desk)
    walked = restored(
        found.model,
        picture.x[None],
        severity=wish.severity,
        mode=wish.mode,
        seed=wish.seed,
        check=check,
        degrade=wish.clean,
        anyway=wish.anyway,
        turn=picture.turn,
        key=wish.file,
        walk_px=desk.limits.walk_px,
        tell=tell,
    )
    scores = None
    if wish.clean and walked.start is not None:
        clean = to_channels(picture.x[None], walked.x.shape[1])
        scores = measured(walked.start, clean), measured(walked.x, clean)
    return Done(wish, walked, picture, found, scores)


def beside(desk: Desk, wish: Wish, steps: int, check: Check) -> list[Beside]:
    """The ways next to each other.

    Raises:
        Refused: more steps than one wish may have; and as :func:`~snowmelt.studio.work.ways.side_by_side`.
    """
    if not 1 <= steps <= desk.limits.steps:
        raise Refused(f"{steps} calls lie outside [1, {desk.limits.steps}], what one wish may have")
    picture, found = wish.picture(desk), desk.shelf.opened(wish.model)
    x = picture.x[None]
    return side_by_side(
        found.model, x, wish.severity, steps, check, seed=wish.seed, degrade=wish.clean, turn=picture.turn, key=wish.file
    )


def sheet(found: Sequence[Beside], px: int) -> Html:
    """The ways next to each other, each as large as there is room for; its measures below it."""
    return Html(f'<div style="display:flex;flex-wrap:wrap;gap:1rem">{"".join(_way(one, px) for one in found)}</div>')


def _way(one: Beside, px: int) -> str:
    stream = io.BytesIO()
    Image.fromarray(shown(one.x[0], px)).save(stream, format="WEBP", quality=_QUALITY)
    calls = f", {one.calls} calls" if one.calls > 1 else ""
    scores = "" if one.psnr is None else f"{one.psnr:.2f} dB" + ("" if one.ssim is None else f", SSIM {one.ssim:.3f}")
    name = escape(f"{one.name}{calls}")
    image = f'<img src="{data_url(stream.getvalue())}" alt="{name}" style="width:100%">'
    return f'<figure style="flex:1 1 200px;max-width:320px;margin:0">{image}<figcaption><b>{name}</b><br>{scores}</figcaption></figure>'


def commands(desk: Desk, wish: Wish) -> tuple[str, str]:
    """The command line, and the Python, that make the same file; of a bundled picture, they write that first."""
    entry = desk.shelf.entry(wish.model)
    blind = entry.degradation == "mixture"
    level = wish.severity if not blind else None
    switches = {"degrade": wish.clean, wish.mode: not blind, "anyway": wish.anyway}
    line = command("restore", wish.file, model=place(entry), severity=level, **switches, seed=wish.seed or None)
    model = f"{place(entry)}/fast" if wish.mode == "fast" and not blind else place(entry)
    given = {"model": model, "severity": level, "sampler": "default" if wish.mode != "faithful" and not blind else None}
    given |= {"degrade": wish.clean or None, "anyway": wish.anyway or None, "seed": wish.seed or None}
    lines = [f"    {name}={value!r}," for name, value in given.items() if value is not None or name == "sampler"]
    own = wish.bundled
    python = [*([examples.IMPORTS] if own else []), "from snowmelt.restoration import restore_folder", "", *([examples.python(own)] if own else [])]
    python += ["restore_folder(", f"    {json.dumps(wish.file)},", *lines, ")"]
    return "\n".join([*([examples.shell(own)] if own else []), line]), "\n".join(python)


def about(desk: Desk, name: str) -> str:
    """A model in words."""
    found = desk.shelf.opened(name).model
    if is_blind(found):
        names = ", ".join(part.replace("-", " ") for part in getattr(found.degradation, "names", ()))
        return f"Undoes {names}, or several of them at once, without being told which (it is *blind*), in a single call."
    text = f"Undoes `{registry.spec(found.degradation)}`"
    text += f", and is tuned for walks of at most {found.most_calls} calls" if found.gap else ""
    return f"{text}. {'It can tell how degraded a picture is.' if tells(found) else 'It has to be told how degraded a picture is.'}"


def trained_on(found: Opened) -> str:
    """What a model has learned from, in a sentence."""
    D, recipe = found.model.degradation, found.model.notes.get("recipe")
    data = recipe.get("data") if isinstance(recipe, dict) else None
    path = data.get("path") if isinstance(data, dict) else None
    named = short(path) if isinstance(path, str) else ""
    where = f" on {_KNOWN[named]}" if named in _KNOWN else f" on the pictures of {escaped(named[:_LONGEST_NAME])}" if named else ""
    what = f"{', '.join(D.names)}, each by itself or several at once" if isinstance(D, Mixture) else f"`{registry.spec(D)}`"
    return f"**{escaped(found.name)}** was trained{where} to undo {what}."


def is_blind(model: Model) -> bool:
    """Whether a model restores in one call whatever the damage was."""
    return isinstance(model.degradation, Mixture)


def tells(model: Model) -> bool:
    """Whether a model can tell the one severity that its walk begins at."""
    return model.estimator is not None and len(model.estimator.unknowns) == 1 and not is_blind(model)


def by_chance(model: Model) -> bool:
    """Whether a walk from a picture that came damaged may draw noise of its own, by the seed."""
    return not is_blind(model) and bool(model.degradation.noise)


def elsewhere(entries: Sequence[Entry]) -> str:
    """The models that are here but not for pictures, and who serves them."""
    verbs = {"sound": "snowmelt restore FILE.wav", "scan": "snowmelt restore FILE.bin"}
    others = [entry for entry in entries if entry.signal != "picture"]
    lines = [(entry.name, entry.signal, f"{verbs.get(entry.signal, 'snowmelt restore FILE')} --model {place(entry)}") for entry in others]
    listed = "; ".join(f"{name} ({signal}): `{line}`" for name, signal, line in lines)
    return f"Not for pictures, so not on this page: {listed}." if listed else ""


def shown(x: Tensor, px: int = SHOWN_PX) -> Any:
    """A picture (c, h, w) as pixels (h, w, 3): a large one smaller, a small one in squares."""
    longer = max(x.shape[1:])
    x = enlarged(x, math.ceil(_SMALL_PX / longer)) if longer * 2 <= _SMALL_PX else shrunk(x, px)
    return to_uint8(to_channels(x, 3))
