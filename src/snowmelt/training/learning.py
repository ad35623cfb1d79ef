"""Is it learning? In words, from the lines of a run's metrics.jsonl.

Validations look at the same pictures with the same severities and draws, so that what differs between two of them is the weights' doing and no
chance; steps look at other pictures each, so that their losses are compared by medians over many. What is held against what:

==============================  =====================================================================================================
restored, degraded PSNR         whether the restorer does any good, and whether that grows
loss of steps, of validations   pictures learned by heart: the first falls, the second does not
loss in each severity band      which severities gain and which lose
moving average, raw weights     whether the average lags behind, as it does early, or the weights jump about
learning rate                   whether it is at its end; whether it is out of all proportion
steps skipped, rolled back      whether numbers went wrong
==============================  =====================================================================================================

A restorer whose linear part is a Wiener filter restores before it has learned anything: that restored beats degraded is then no sign of
learning, that it grows is.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_WORSE_DB, _STILL_DB, _NO_GOOD_DB = 0.1, 0.05, 0.1
_SAME = 1e-4  # relative: losses of validations between which nothing was learned
_HIGH_LR, _LOW_LR, _USUAL_LR = 1e-2, 1e-6, 1e-3
_AT_END = 0.02  # of the peak rate
_EARLY = 1 / 3  # of the run so far: a rate first read later than that may have fallen far from its peak
_BAND_WORSE, _BAND_STILL, _GAINED = 1.05, 0.95, 0.8  # last loss over the best, over the first; the same of all bands
_LAGS, _JUMPS = 1.1, 0.8  # loss of the average over that of the raw weights
_WAITS, _BAD, _SKIPS = 0.15, 0.01, 0.02  # shares
_SOME = 5  # losses of steps, below which their median says nothing
_MANY = 1e15  # images, seconds: more than any run has
_LARGE = 1e300  # whole numbers beyond it are none that a page counts with: JSON has no bound


class Seen(NamedTuple):
    """One validation: after how many images, PSNRs in dB, losses of the moving average and of the raw weights, loss by band."""

    images: int
    restored: float
    degraded: float
    loss: float
    raw: float | None
    bands: tuple[float | None, ...]


class Run(NamedTuple):
    """What a log says of a run: its validations, its lines of losses, its peak learning rate; 0 while the log does not tell that."""

    seen: list[Seen]
    steps: list[Mapping[str, Any]]
    peak: float

    @property
    def pace(self) -> float:
        """The last learning rate as a part of the peak; 1 where the log does not tell."""
        rates = _numbers(self.steps, "lr")
        return rates[-1] / self.peak if rates and self.peak > 0 else 1.0

    @property
    def ended(self) -> bool:
        """Whether the learning rate has come down to next to nothing."""
        return self.pace < _AT_END

    @property
    def growth(self) -> float:
        """In dB: how far the restored PSNR is above the best of the first half of the images."""
        last = self.seen[-1]
        before = [one for one in self.seen[:-1] if one.images <= last.images / 2] or self.seen[:1]
        return last.restored - max(one.restored for one in before)

    @property
    def by_heart(self) -> bool:
        """Whether the loss of the steps fell to less than half since the first validation, and that of the validations by far not so."""
        first, last = next((one for one in self.seen if one.images), self.seen[0]), self.seen[-1]  # before step 1 there are no losses of steps
        early = _numbers([line for line in self.steps if first.images / 2 <= line["images"] <= first.images], "loss")
        late = _numbers([line for line in self.steps if line["images"] > last.images * 2 / 3], "loss")
        if min(len(early), len(late)) < 2 or last.images < 2 * first.images or statistics.median(early) <= 0 or first.loss <= 0:
            return False
        return statistics.median(late) / statistics.median(early) < 0.5 * last.loss / first.loss


def counted(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What of a log can be counted with: it may be a stranger's, or another program's.

    Args:
        lines: of a metrics.jsonl.

    Returns:
        The lines whose images are a number of 0 or more, and their time too where they tell it; of each, the values that are numbers, and the
        losses by band where these are numbers and gaps.
    """
    kept = []
    for line in lines:
        if all(0 <= _number(line.get(name, due)) < _MANY for name, due in (("images", None), ("wall_s", 0))):
            kept.append({name: value for name, value in line.items() if (_is_gapped if name == "validation_bands" else _is_number)(value)})
    return kept


def words(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether a run learns, and what to do if it does not.

    Args:
        lines: of its metrics.jsonl, the oldest first; what they lack is not spoken of.

    Returns:
        The verdict first, with the likely cause and the way out where there is something to mend; then what it rests on, one by one. Empty
        while there is nothing to say.
    """
    lines = counted(lines)
    run = _read(lines)
    if not run.seen:
        return [*_unvalidated(run), *_numbers_gone_wrong(lines, run)]
    if not all(math.isfinite(x) for x in (run.seen[-1].restored, run.seen[-1].loss)):
        verdict = "Not learning: the network's estimates are no finite numbers any more: start anew with a smaller --training.lr or in fp32."
        return [verdict, *_numbers_gone_wrong(lines, run)]
    return [" ".join(_verdict(run)), *_bands(run), *_average(run), *_rate(run), *_waits(lines), *_numbers_gone_wrong(lines, run)]


def waited(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """The share of a whole run's time in which its network waited, from the lines of its metrics.jsonl; None where they do not say."""
    waiting = trained = last = 0.0
    for line in lines:
        if "waiting" in line:
            waiting += line["waiting"] * (line["wall_s"] - last)
            trained += line["wall_s"] - last
        if "loss" in line:
            last = line["wall_s"]
    return waiting / trained if trained > 0 else None


def _read(lines: Sequence[Mapping[str, Any]]) -> Run:
    seen = []
    for line in lines:
        if "validation_degraded_psnr_db" in line:  # beside it stands what is a number
            raw = line.get("validation_raw_loss")
            seen.append(
                Seen(
                    int(line.get("images", 0)),
                    _number(line.get("validation_restored_psnr_db")),
                    _number(line["validation_degraded_psnr_db"]),
                    _number(line.get("validation_loss")),
                    None if raw is None else _number(raw),
                    tuple(line.get("validation_bands") or ()),
                )
            )
    steps = [line for line in lines if math.isfinite(_number(line.get("lr"))) and math.isfinite(_number(line.get("images")))]
    return Run(seen, steps, _peak(steps))


def _peak(steps: Sequence[Mapping[str, Any]]) -> float:
    """The highest learning rate of a run; 0 while it still rises, and where the first line that has one is late.

    Lines are some steps apart: a short run has its first when the rate has long come down.
    """
    rates, at = _numbers(steps, "lr"), _numbers(steps, "images")
    rises = len(rates) > 1 and rates[-1] > rates[-2]
    return 0.0 if not rates or rises or at[0] > _EARLY * at[-1] else max(rates)


def _verdict(run: Run) -> list[str]:
    """Whether it learns; where it does not, the likely cause."""
    first, last, best = run.seen[0], run.seen[-1], max(run.seen, key=lambda one: one.restored)
    gain, lost = last.restored - last.degraded, best.restored - last.restored
    held = f"restored {last.restored:.2f} dB, degraded {last.degraded:.2f} dB of PSNR over all severities, after {last.images:,} images"
    if gain < _NO_GOOD_DB:
        yet, does = " yet" if len(run.seen) == 1 else "", "harm" if gain < 0 else "next to nothing"
        verdict = f"Not learning{yet}: {held}: the restorer does {does}."
    elif len(run.seen) == 1:
        return [f"It restores: {held}. Whether it learns, the next validation tells."]
    elif not _moved(run):
        verdict = (
            f"Not learning: {held}, the same at all {len(run.seen)} validations. "
            "What it restores, it restored from the start: the linear part of a restorer needs no learning."
        )
    elif lost > _WORSE_DB:
        verdict = f"It got worse: {held}, but {best.restored:.2f} dB after {best.images:,}."
    elif run.by_heart:
        verdict = f"Learning by heart: {held}, {_since(first, last)}, while the loss of its own training pictures fell to less than half."
    elif run.growth < _STILL_DB:
        verdict = f"It stands still: {held}, {run.growth:+.2f} dB against the best of the first half."
    else:
        ahead = f", {last.restored - run.seen[-2].restored:+.2f} dB since the last validation"
        high = [f"A learning rate of {run.peak:.2g} is far above the usual: try --training.lr {_USUAL_LR:g}."] if run.peak > _HIGH_LR else []
        return [f"Learning: {held}{ahead}.", *(high or _unsteady(run))]
    return [verdict, *_likely(run, worse=lost > _WORSE_DB, harms=gain < _NO_GOOD_DB)]


def _likely(run: Run, *, worse: bool, harms: bool) -> list[str]:
    """The likely cause, and what to try: the surest signs first."""
    total = max(_numbers(run.steps, "step"), default=0.0)
    if total and max(_numbers(run.steps, "bad"), default=0.0) / total > _BAD:
        return ["Likely because numbers went wrong in many steps (see below): try a smaller --training.lr, or --training.precision fp32."]
    if run.peak > _HIGH_LR:
        return [f"Likely the learning rate of {run.peak:.2g} is far too high: try --training.lr {_USUAL_LR:g}."]
    if 0 < run.peak < _LOW_LR:
        return [f"Likely the learning rate of {run.peak:.2g} is far too low: try --training.lr {_USUAL_LR:g}."]
    if run.by_heart or (worse and run.pace < 0.6 and not _rising(run)):
        because = "" if run.by_heart and not worse else "Likely it learns its training pictures by heart: "
        more = "take more of them, mirrored (--data.flip) and cut at random (--data.fit crop), or a smaller network, or fewer images."
        return [because + (more if because else more.capitalize())]
    lower = f"--training.lr {float(f'{run.peak / 3:.1g}'):g}"
    if run.peak and (worse or _rising(run)):
        return [f"Likely the learning rate of {run.peak:.2g} is too high: try {lower}."]
    last = run.seen[-1]
    if harms and last.raw is not None and last.loss > _LAGS * last.raw:
        return ["Likely the moving average still lags behind the weights, which is normal early: wait for the next validation."]
    if len(run.seen) == 1:
        return ["It is early: wait for the next validation."]
    if harms and run.growth >= _STILL_DB:
        return [f"It is on its way ({run.growth:+.2f} dB): give it more images."]
    if not run.peak:
        return ["The log says too little yet to tell why: wait for the next validation, or give it more images."]
    if not _moved(run):
        return ["Nothing has moved the weights: look at 'gradient_norm' and 'lr' in metrics.jsonl, and try a larger --training.lr."]
    if run.ended:
        return ["Likely it learned what this network can from these pictures in so many images: try a longer run, or a larger network."]
    return [
        f"Likely it learned what it can at this rate: try {lower}, or wait for the rate to fall; "
        "if that changes nothing, a larger network, more pictures or a milder degradation."
    ]


def _moved(run: Run) -> bool:
    """Whether the validations differ by more than rounding; not known of a single one."""
    losses = [one.loss for one in run.seen]
    return len(losses) < 2 or max(losses) - min(losses) > _SAME * max(losses)


def _rising(run: Run) -> bool:
    """Whether the loss of the steps rose, between the second third of the run and the last."""
    end = run.steps[-1]["images"] if run.steps else 0
    middle = _numbers([line for line in run.steps if end / 3 < line["images"] <= end * 2 / 3], "loss")
    late = _numbers([line for line in run.steps if line["images"] > end * 2 / 3], "loss")
    return min(len(middle), len(late)) >= _SOME and statistics.median(late) > 1.5 * statistics.median(middle)


def _unsteady(run: Run) -> list[str]:
    """Of a run that learns: where it goes up and down."""
    falls = [a.restored - b.restored for a, b in zip(run.seen, run.seen[1:], strict=False) if a.restored - b.restored > _STILL_DB]
    if not falls or len(run.seen) < 3:
        return []
    cause = f"; a smaller --training.lr than {run.peak:.2g} may bring it further" if run.peak and run.pace > 0.3 else ""
    return [f"Not steadily: between two validations it lost up to {max(falls):.2f} dB{cause}."]


def _bands(run: Run) -> list[str]:
    """Which severities lose, which do not gain."""
    first, last = run.seen[0], run.seen[-1]
    count = len(last.bands)
    if not count or last.loss <= 0:
        return []
    losses = [_number(value) for value in last.bands]
    told = ", ".join(f"{i / count:g}-{(i + 1) / count:g}: {value:.3g}" for i, value in enumerate(losses) if math.isfinite(value))
    out = [f"Loss by severity: {told}."] if told else []
    lost, still = [], []
    for i, now in enumerate(losses):
        history = [(_number(one.bands[i]), one.images) for one in run.seen if len(one.bands) == count and math.isfinite(_number(one.bands[i]))]
        if not math.isfinite(now) or len(history) < 2:
            continue
        least, images = min(history)
        if now > _BAND_WORSE * least and now - least > 0.01 * last.loss:
            lost.append(f"{i / count:g}-{(i + 1) / count:g} ({least:.3g} after {images:,} images)")
        elif last.loss < _GAINED * first.loss and now > _BAND_STILL * history[0][0] and now > 0.01 * last.loss:
            still.append(f"{i / count:g}-{(i + 1) / count:g}")
    if lost:
        out.append(f"Got worse again at severities {', '.join(lost)}.")
    if still:
        out.append(f"Hardly any gain at severities {', '.join(still)}; where little is left of a picture there may be little to gain.")
    return out


def _average(run: Run) -> list[str]:
    """The moving average, which is what is kept, against the weights as they are."""
    last = run.seen[-1]
    if last.raw is None:
        return []
    if not math.isfinite(last.raw) or last.raw <= 0:
        return ["The weights themselves give no finite loss any more; their moving average still does."] if last.raw != 0 else []
    held = f"(loss {last.loss:.3g}, theirs {last.raw:.3g})"
    if last.loss > _LAGS * last.raw:
        if run.ended:
            return [f"The moving average is behind the weights {held}: its half-life is long for this run, a smaller --training.ema follows sooner."]
        return [f"The moving average lags behind the weights {held}: normal while they learn fast."]
    if last.loss < _JUMPS * last.raw:
        return [f"The weights alone are behind their moving average {held}: they jump about, and settle as the learning rate falls."]
    return [f"The moving average and the weights agree {held}."]


def _rate(run: Run) -> list[str]:
    if not run.ended:
        return []
    grew = len(run.seen) > 1 and run.growth >= 2 * _STILL_DB
    more = f", and the second half of the run brought {run.growth:+.2f} dB: more --training.images may bring it further" if grew else ""
    return [f"The learning rate is at its end{more}."]


def _waits(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    share = waited([line for line in lines if "wall_s" in line])
    if share is None or share < _WAITS:
        return []
    return [f"The network waited for data and degradation {share:.0%} of the time: docs/training.md says where to look."]


def _numbers_gone_wrong(lines: Sequence[Mapping[str, Any]], run: Run) -> list[str]:
    """Steps that were skipped, and going back."""
    total = max(_numbers(lines, "step"), default=0.0)
    bad, back, skipped = (max(_numbers(lines, name), default=0.0) for name in ("bad", "rollbacks", "skipped"))
    out = []
    if bad:
        out.append(f"In {bad:,.0f} of {total:,.0f} steps the loss or its gradient was no finite number; they were skipped.")
    if back:
        times = "once" if back == 1 else f"{back:.0f} times"
        lower = "try a smaller --training.lr" + (f" than {run.peak:.2g}" if run.peak else "")
        out.append(f"It went back {times} to an earlier checkpoint and on with a lower learning rate: {lower}.")
    if total and skipped / total > _SKIPS and skipped > 20:
        out.append(f"fp16 skipped {skipped:,.0f} of {total:,.0f} steps, more than finding a scale takes: try --training.precision fp32 or bf16.")
    return out


def _unvalidated(run: Run) -> list[str]:
    """What the losses of the steps say, where nothing was validated."""
    losses = _numbers(run.steps, "loss")
    if not run.steps:
        return []
    if not losses:
        return ["Not learning: no loss was a finite number: try a smaller --training.lr, or --training.precision fp32."]
    third = len(losses) // 3
    if third < 2:
        return []
    early, late = statistics.median(losses[:third]), statistics.median(losses[-third:])
    fell = "fell" if late < 0.9 * early else "rose" if late > 1.1 * early else "stayed"
    return [f"The loss of training {fell} from {early:.3g} to {late:.3g}; without validation pictures nothing says whether it is learned by heart."]


def _since(first: Seen, last: Seen) -> str:
    return f"{last.restored - first.restored:+.2f} dB since {first.images:,}"


def _number(value: Any) -> float:
    """A value of a log as a number; NaN where it is none."""
    return float(value) if _is_number(value) else math.nan


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGE)


def _is_gapped(value: Any) -> bool:
    return isinstance(value, list) and all(one is None or _is_number(one) for one in value)


def _numbers(lines: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    """The finite values of that name, in order."""
    return [value for value in (_number(line.get(name)) for line in lines) if math.isfinite(value)]
