"""The work of Look and Restore: functions of tensors. Nothing here knows of a page, of a request or of a file.

A picture is restored by the same :class:`~snowmelt.restoration.work.Work` as one of a folder, so that the command that a page shows makes the
same file. What is different here is that somebody waits: `check` is called before every call of the network, tile by tile where the
picture is large, and raises where nobody waits any longer; and every state is kept, small, to be looked at.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from snowmelt import registry
from snowmelt.data.checks import Check
from snowmelt.data.images import Picture, resize, shrunk, stored, to_channels
from snowmelt.degradations import Compose, Degradation, Mixture
from snowmelt.degradations.several import share_of
from snowmelt.metrics import Distortion
from snowmelt.model import Model
from snowmelt.pictures.sheets import evenly
from snowmelt.randomness import generator, generators
from snowmelt.restoration.folder import meant
from snowmelt.restoration.loading import severity_for
from snowmelt.restoration.picture import Loaded, compute, finished, psnr
from snowmelt.restoration.plan import Job
from snowmelt.restoration.told import device_of
from snowmelt.restoration.walks import within
from snowmelt.restoration.work import Work, with_precision
from snowmelt.restorers import Estimate, Restorer
from snowmelt.samplers import Sampler
from snowmelt.studio.limits import Refused, require_short
from snowmelt.studio.work.units import in_words, units_of
from snowmelt.types import Draw, Severity, State
from snowmelt.types import severity as severities_of

Mode: TypeAlias = Literal["fast", "faithful", "best"]
Tell: TypeAlias = Callable[[int, int], None]
_SMALL = 2**20  # numbers in a picture that one thread degrades
MOST_FRAMES = 41  # of one walk; a longer one shows so many of its states, evenly spread
_LEFT = {
    "clean": "To the model this picture looks clean, so it was left as it is: do no harm. Tick “restore it anyway” to have it restored all the same.",
    "unsure": "This picture is unlike those the model knows, or too hard for it to judge, so it was left as it is. "
    "Tick “restore it anyway” to have it restored all the same.",
}
BLIND = "This model is blind: it restores in one call."


def nobody(done: int, of: int) -> None:
    """Nobody is told how far the work is."""


class Walked(NamedTuple):
    """A walk that has come to its end.

    Attributes:
        frames: what there is to see of it in order, (n, c, h, w) each, on the CPU and made small enough to be shown.
        labels: one a frame, for people.
        x: the result (n, c, h, w), on the CPU, at its own size.
        how: how it was made, in words.
        seconds: what it took.
        start: what the walk began with, (n, c, h, w), on the CPU, at its own size; None if it is no picture.
        said: what else is worth knowing, a sentence each.
        note: how it was made, as the file of the result shall say it.
        damage: what was done to the clean picture first, a sentence; empty if nothing was.
        result: what came of it in the words of the glossary: Direct of one call, Sampled of a walk; empty if it was left as it was.
    """

    frames: list[Tensor]
    labels: list[str]
    x: Tensor
    how: str
    seconds: float
    start: Tensor | None = None
    said: tuple[str, ...] = ()
    note: Mapping[str, Any] = MappingProxyType({})
    damage: str = ""
    result: str = ""


def meant_by(text: str) -> Degradation:
    """The degradation that a visitor describes.

    Raises:
        Refused: in more letters than are read.
        SpecError: it is none.
    """
    require_short(text)
    D = registry.build(text, "degradation")
    assert isinstance(D, Degradation)
    return D


def degraded(
    D: Degradation, x: Tensor, severities: Sequence[float], *, seed: int = 0, endpoint: Tensor | None = None, check: Check
) -> list[Tensor]:
    """A picture at several severities, with one draw: what ``snowmelt degrade`` draws.

    Args:
        D: what is done to it.
        x: the clean picture (1, c, h, w).
        severities: in [0, 1].
        seed: of what is random.
        endpoint: the picture that a morph ends in, (1, c, h, w) of any size and channels.
        check: called before every severity, and every part of a composition; what it raises ends the work.

    Returns:
        One picture of the shape of `x` for each severity.

    Raises:
        Refused: an endpoint is needed, or this is nothing for pictures, or not for this one; or its spec is too long.
        ValueError: a severity outside [0, 1].
    """
    require_short(registry.spec(D))
    if D.takes not in (None, "picture"):
        raise Refused(f"{registry.spec(D)} degrades another signal than pictures: snowmelt degrade FILE --degradation {registry.label(type(D))}")
    for t in severities:
        within(t)
    item = {} if endpoint is None else {"endpoint": resize(to_channels(endpoint, x.shape[1]), (x.shape[2], x.shape[3])).expand_as(x)}
    given = D.given_by(item)
    if lacking := sorted(set(D.needs) - given.keys()):
        raise Refused(f"{registry.spec(D)} turns a picture into another one, its {', '.join(lacking)}: choose a second picture")
    frames = []
    try:
        with _alone() if x.numel() <= _SMALL else contextlib.nullcontext():
            z = {**D.draw(x, generators(seed, "degrade", range(len(x)))), **given}
            for t in severities:
                frames.append(_made(D, x, severities_of(t, x), z, check))
    except (RuntimeError, IndexError, TypeError) as error:
        colours = "grey" if x.shape[1] == 1 else "colour"
        raise Refused(f"{registry.spec(D)} cannot degrade a {colours} picture of {x.shape[3]} x {x.shape[2]} px: {error}") from error
    return frames


def _made(D: Degradation, x: Tensor, t: Severity, z: Draw, check: Check) -> Tensor:
    """D(x, t, z), asking before every part of a composition: one part is one call, which nothing can stop."""
    if not isinstance(D, Compose):
        check()
        return D(x, t, z)
    for i, part in enumerate(D.parts):
        x = _made(part, x, t, share_of(z, i), check)
    return x


def restored(
    model: Model,
    x: Tensor,
    *,
    severity: float | None,
    mode: Mode | Sampler,
    seed: int = 0,
    check: Check,
    degrade: bool = False,
    anyway: bool = False,
    turn: int = 1,
    key: str = "",
    walk_px: int = 512,
    tell: Tell = nobody,
) -> Walked:
    """One picture restored, of any size, in grey or in colour, with every state of its walk.

    Args:
        model: where it computes; for "fast" the tuned copy.
        x: the picture (1, c, h, w), degraded already unless `degrade`.
        severity: how degraded it is, in [0, 1]; None lets the model tell. With `degrade`, how much to degrade it: 1 unless told.
        mode: "fast" are the few calls of a tuned copy, "faithful" is one call, "best" the default walk; or any walk.
        seed: of what is random.
        check: called before every call of the network; what it raises ends the work.
        degrade: the picture is clean: degrade it first.
        anyway: restore also what looks clean, and what the model is unsure of.
        turn: the orientation in which the file held the picture, EXIF's 1 to 8: blocks of JPEG begin there.
        key: what random numbers are keyed by: for those of ``snowmelt restore FILE``, the file's name.
        walk_px: the longer side of the frames.
        tell: told how many moves of how many are done.

    Returns:
        The walk; without colour where the picture had none.

    Raises:
        ValueError: a severity that is outside [0, 1] or cannot be told, a mode that the model does not have.
        MemoryError: even the smallest tiles are too large.
    """
    began = time.perf_counter()
    work = with_precision(work_of(model, x, severity, mode, seed, degrade=degrade, anyway=anyway))
    one = made_ready(work, x[0], turn, key)
    said = [] if one.estimate is None or degrade else [_sees(model, one.estimate)]
    verdict = work.verdict(one.estimate)
    if verdict != "damaged":
        frame = _small(x[0], walk_px)
        return Walked([frame], ["as it came"], x, "left as it is", time.perf_counter() - began, x, (*said, _LEFT[verdict]))
    said += [BLIND] if work.blind else []
    said += ["The model knows only grey, so colour was taken away first."] if one.greyed else []
    walked = _walked(work, one, _Gathering(work, one, walk_px, tell), check)
    return walked._replace(said=(*said, *walked.said), seconds=time.perf_counter() - began)


def _walked(work: Work, one: Loaded, gathering: "_Gathering", check: Check) -> Walked:
    """The walk of a picture that is to be restored; what it took is not known here."""
    said = []
    with watched(work.model, check) as watching:
        work = dataclasses.replace(work, model=watching, seen=gathering)
        states = compute(work, [one])
        start, end = (finished(one, state.x[0])[None] for state in (states[0], states[-1]))
        if work.degrade and work.model.estimator is not None:
            said.append(_sees(work.model, work.model.estimator.estimate(states[0].x)))
        if work.degrade and gathering.moves > 1:
            said += _honest(dataclasses.replace(work, sampler=None), one, end)
    note = {**work.settings(), "severity": one.severity}
    damage = _damage(work, one) if work.degrade else ""
    result = "Direct" if work.sampler is None else "Sampled"
    return Walked(*gathering.shown(start, end), end, f"{work.how()}, seed {work.seed}", 0.0, start, tuple(said), note, damage, result)


def _damage(work: Work, one: Loaded) -> str:
    """What was done to a picture that came clean: of a mixture, which parts were drawn and how strong each is."""
    D, severity = work.model.degradation, one.severity
    if not isinstance(D, Mixture):
        return f"Degraded here by `{registry.spec(D)}`, severity t = {severity:.2f}{in_words(units_of(D, severity))}, seed {work.seed}."
    z = work.model.draw(one.x[None], [generator(work.seed, f"restore/{one.job.key}")])  # once more: a walk is not told what nobody could know
    levels = D.unknowns(torch.full((1,), severity), z)
    parts = [(name, part, float(levels[name])) for name, part in zip(D.names, D.parts, strict=True)]
    found = [f"{name}, severity t = {t:.2f}{in_words(units_of(part, t))}" for name, part, t in parts if t > 0]
    return f"Degraded here by what seed {work.seed} drew: {' + '.join(found) or 'nothing, this time'}."


def measured(x: Tensor, clean: Tensor) -> tuple[float, float | None]:
    """PSNR in dB and SSIM of pictures (1, c, h, w) in [-1, 1]; no SSIM of pictures under 3 px."""
    scores = Distortion()
    scores.update(x.clamp(-1, 1), clean)
    found = scores.compute()
    return psnr(x, clean), found["ssim"]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Torch in one thread. Beside a training that holds all cores, small work waits for its own threads far longer than it takes in one."""
    before = torch.get_num_threads()  # of this thread; every turn of the gate sets it
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def watched(model: Model, check: Check) -> Iterator[Model]:
    """The model, whose network asks `check` before every call, tile by tile; one at a time, as its weights are shared."""
    restorer = model.restorer
    if not isinstance(restorer, Restorer):

        def asking(*told: Any, **keywords: Any) -> Tensor:
            check()
            return restorer(*told, **keywords)

        yield model if isinstance(restorer, nn.Module) else dataclasses.replace(model, restorer=asking)
        return
    handle = restorer.net.register_forward_pre_hook(lambda module, told: check())
    try:
        yield model
    finally:
        handle.remove()


def walk_of(model: Model, mode: Mode | Sampler) -> Sampler | Literal["default"] | None:
    """The walk that is meant by a mode; None is one call.

    Raises:
        ValueError: the model does not have it.
    """
    if isinstance(model.degradation, Mixture) or mode == "faithful":
        walk: Sampler | Literal["default"] | None = None
    else:
        walk = mode if isinstance(mode, Sampler) else "default"
    if isinstance(walk, Sampler):
        walk.require_short(model)
    if model.gap and mode in ("faithful", "best"):
        raise ValueError(f"this model is tuned for few calls ({model.estimates}), which is fast: choose that, or the run it was tuned from")
    if mode == "fast" and not model.gap and not isinstance(model.degradation, Mixture):
        raise ValueError("this model has no copy that is tuned for few calls: make one with 'snowmelt tune RUN', or choose faithful")
    return walk


def work_of(model: Model, x: Tensor, severity: float | None, mode: Mode | Sampler, seed: int, *, degrade: bool, anyway: bool) -> Work:
    """What is done, as :func:`snowmelt.restoration.restore_folder` would do it."""
    if x.ndim != 4 or len(x) != 1:
        raise ValueError(f"x has shape {tuple(x.shape)}: give one picture (1, c, h, w)")
    if degrade and model.degradation.needs:
        raise Refused(f"{registry.spec(model.degradation)} turns pictures into others: Translate walks with such a model")
    if severity is None and (degrade or isinstance(model.degradation, Mixture)):
        severity = 1.0  # of a mixture, 1 is whatever the damage was
    if severity is not None:
        within(severity)
    walk = meant(model, walk_of(model, mode), knows_draw=degrade)
    return Work(model, "", "", severity, walk, str(device_of(model, x)), seed, degrade, anyway=anyway)


def made_ready(work: Work, x: Tensor, turn: int, key: str) -> Loaded:
    """A picture x (c, h, w), as one of a file would be made ready: with the model's channels, as it was stored."""
    picture, greyed, grey = Picture(x, None, 8, turn=turn), False, bool((x == x[:1]).all())
    if work.channels in (1, 3):
        greyed = x.shape[0] > work.channels and bool((x != x[:1]).any())
        x = to_channels(x, work.channels)
    x = stored(x, turn)
    severity, estimate = severity_for(work, x)
    job = Job(0, Path(key), Path(key), Path(key), None)
    return Loaded(job, picture, x, severity, None, greyed, grey, estimate, turn)


class _Gathering:
    """The states of a walk, small, as they come."""

    def __init__(self, work: Work, one: Loaded, px: int, tell: Tell) -> None:
        self._one, self._px, self._tell = one, px, tell
        D = work.model.degradation
        self._units: Callable[[float], Mapping[str, float]] = lambda t: {} if work.blind else units_of(D, t)  # parts of a mixture have their own
        grid = [1.0, 0.0] if work.sampler is None else work.sampler.walk(D, one.severity)
        self.moves = len(grid) - 1
        self._kept = frozenset(evenly(range(self.moves + 1), MOST_FRAMES))
        self._seen, self._states = 0, list[tuple[Tensor, float]]()

    def __call__(self, state: State) -> None:
        """One more state; the first of a walk forgets the walk before, for which there was too little memory."""
        if state.x0 is None:
            self._seen, self._states = 0, []
        if self._seen in self._kept:
            self._states.append((_small(finished(self._one, state.x[0].cpu()), self._px), float(state.t)))
        self._seen += 1
        self._tell(self._seen - 1, self.moves)

    def shown(self, start: Tensor, end: Tensor) -> tuple[list[Tensor], list[str]]:
        """Frames and their labels, the last one what came of it in the end."""
        between = self._states[1:-1]
        frames = [_small(start[0], self._px), *(x for x, _ in between), _small(end[0], self._px)]
        where = [f"t = {t:.2f}{in_words(self._units(t))}" for _, t in between]
        t = self._one.severity
        return frames, [f"t = {t:.2f}{in_words(self._units(t))}: degraded", *where, "t = 0: restored"]


def _sees(model: Model, estimate: Estimate) -> str:
    return f"What the model sees: {estimate.describe(model.degradation)[0]}."


def _small(x: Tensor, px: int) -> Tensor:
    """A picture (c, h, w) as a frame (1, c, h, w), its longer side at most `px`."""
    return shrunk(x[None].float(), px)


def clean_of(one: Loaded) -> Tensor:
    """The clean picture of one that is degraded here, (1, c, h, w), as a result would show it."""
    return finished(one, one.x)[None]


def _honest(once: Work, one: Loaded, end: Tensor) -> list[str]:
    """Whether the walk was worth its calls: a sentence where one call comes closer to the clean picture."""
    alone = psnr(finished(one, compute(once, [one])[-1].x[0])[None], clean_of(one))
    walked = psnr(end, clean_of(one))
    if walked >= alone:
        return []
    return [
        f"One call alone comes closer to the clean picture here: {alone:.2f} dB next to {walked:.2f} dB. "
        "A single call is the mean of all that the picture may have been; a walk settles for one of them, sharper but no surer."
    ]
