r"""Generated pictures: how close they come to real ones as a set, whether they were learned by heart, whether they differ.

* FD and KID of the generated set against as many test pictures and as many training pictures, beside the floor: training pictures against
  test pictures. Beside them *precision* (the part of the generated pictures that lies among real ones), *recall* (the part of the real ones that
  lies among generated ones), *density* and *coverage* (the same two, less moved by a single stray picture), with 5 neighbours, against as many
  test pictures; the floor is again training pictures in the generated ones' place.
* *Memorisation*: for every generated picture the distance to its nearest training picture over that to its nearest test picture,

  .. math:: \rho = \operatorname{median}_i \; \frac{\min_j d(g_i, \text{train}_j)}{\min_j d(g_i, \text{test}_j)} .

  All training pictures are searched, or a copy of one left out would not be found: up to 20,000, and to 200 MB of rows, which large pictures fill
  sooner where there are no features; the facts say how many of how many. So is the half of the test pictures that is
  left when the other half stands in the place of the generated ones: what those score, through the very same two sets, is the floor. It
  lies below 1 where there are more training than test pictures. A model that knows nothing by heart scores the floor, one that copies near 0.
  A median sees nothing of a few copies among many pictures, so the share of ratios below those of all but 1 % of real pictures stands beside it.
* *Diversity*: the mean distance of two generated pictures over that of two test pictures: 1 where they differ as real ones do, 0 where all are one
  picture. It sees how wide the set is, not which kinds are in it; coverage and recall do; and the entropy of the labels a classifier gives them.

Distances are between features where there are some, else between pixels; the report says which. *Sound* is measured in mel bands of its spectra
(:mod:`~.metrics.mel`), for two recordings of one word may have all values apart. *Scans* have the distances of their bird's-eye views
(:mod:`~.metrics.birds_eye`) in place of FD and KID, each beside the floor, training against test scans; all else is between values.

Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991) for the view; Stein et al. 2023 (arXiv 2306.04675) for why memorisation must be measured;
Naeem et al. 2020 (arXiv 2002.09797) for density and coverage.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.dataset import Dataset
from snowmelt.evaluation import intervals
from snowmelt.evaluation.kept import Kept
from snowmelt.evaluation.sets import ACCURACY, NOT_COMPUTED, distances, features_of, names
from snowmelt.metrics import birds_eye
from snowmelt.metrics.distribution import caveat, coverage, nearest
from snowmelt.metrics.features import Features
from snowmelt.metrics.mel import LogMel
from snowmelt.randomness import permutation
from snowmelt.signals import PICTURE, Scan, Signal, Sound
from snowmelt.types import Batch

_SEARCHED = 20_000
_SEARCHED_BYTES = 200_000_000  # of float32 rows
_NEIGHBOURS = 5
_SHOWN = 8
_PAIRS = 1000
_RARE = 0.01  # of real unseen pictures, as many lie suspiciously near to a training picture
_ALARM = 0.03
NEAR = "suspiciously near"
JSD, MMD = "JSD of bird's-eye views", "MMD of bird's-eye views"
_CAP = 100.0  # a generated picture that is a test picture has no finite ratio


def generated(
    made: Batch,
    train: Dataset,
    test: Dataset,
    *,
    features: Features | None = None,
    seed: int = 0,
    batch: int = 250,
    kept: Kept | None = None,
) -> dict[str, Any]:
    r"""Measure generated pictures, recordings or scans against real ones.

    Args:
        made: generated samples (n, \*d), n >= 2; but for sound clamped to [-1, 1].
        train: what the model was trained on.
        test: samples it never saw, at least 4.
        features: what distances of pictures are measured in; None takes pixels, and leaves the distances of sets out.
        seed: of the choice of real pictures and of the bootstrap.
        batch: pictures at a time.
        kept: what is done already of the features of real pictures, and who shares them.

    Returns:
        "measures": name to (value of the generated set, value of real pictures in its place); "intervals": 95 %, by the same names;
        "floor interval": that of real pictures' memorisation ratio; "searched": how many training and test pictures that ratio looks through;
        "nearest": the generated pictures that lie closest to a training picture, as {"generated", "train", "distance"};
        "facts"; "verdict".

    Raises:
        ValueError: too few pictures, or of another shape than the data's.
    """
    if len(made) < 2 or len(test) < 4 or tuple(made.shape[1:]) != test.shape:
        sizes = f"{len(made)} generated {test.signal.many} of shape {tuple(made.shape[1:])} against {len(test)} of {test.shape}"
        raise ValueError(f"{sizes}: give at least 2, and 4 of that shape to compare with")
    features = features_for(test.signal, features)
    made = within(made.detach().cpu(), test.signal)
    rows, kept = {"made": _described(features, made, batch)}, kept or Kept()
    ids = {name: permutation(seed, f"generated-{name}", 0, len(data)).tolist() for name, data in (("train", train), ("test", test))}
    most = max(4, min(_SEARCHED, _SEARCHED_BYTES // (4 * rows["made"].shape[1])))
    searched = ids["train"][:most]
    real = {"train": _of(features, train, searched, batch, kept), "test": _of(features, test, ids["test"][:most], batch, kept)}

    def measured() -> dict[str, Any]:
        return _measured(features, made, test, rows | {name: found() for name, found in real.items()}, searched, ids["test"], len(train), seed, batch)

    return kept.told("generated", [kept.later("measures of generated pictures", measured)])[0]


def _measured(
    features: Features | None,
    made: Batch,
    test: Dataset,
    rows: dict[str, Tensor],
    searched: list[int],
    ids: list[int],
    of_train: int,
    seed: int,
    batch: int,
) -> dict[str, Any]:
    """All measures, from the rows of generated and real pictures."""
    out: dict[str, Any] = {"measures": {}, "intervals": {}}
    n = min(len(made), len(rows["train"]), len(rows["test"]))
    _sets(out, features, rows, n, seed, test)
    near = nearest(rows["made"], rows["train"])
    _memory(out, rows, near[1], seed)
    out["searched"] |= {"of train": of_train, "of test": len(test)}
    _diversity(out, features, made, test, ids, rows, seed, batch)
    closest = near[1].argsort()[:_SHOWN].tolist()
    out["nearest"] = [{"generated": i, "train": searched[int(near[0][i])], "distance": float(near[1][i])} for i in closest]
    out["facts"] = _facts(features, rows, out, n, seed, test.signal)
    out["verdict"] = verdict(out, test.signal)
    return out


def against(
    made: Batch | None,
    test: Dataset,
    features: Features | None,
    *,
    train: Dataset | None = None,
    n: int = 0,
    labels: Tensor | None = None,
    seed: int = 0,
    batch: int = 250,
) -> dict[str, Any]:
    r"""One row of a comparison: a set of generated samples against as many test samples, always the same ones.

    Args:
        made: generated samples (n, \*d); None takes `n` training samples in their place, the floor.
        test: samples the model never saw.
        features: what pictures are measured in; None gives an empty row.
        train: where the floor comes from.
        n: how many of them.
        labels: (n,) what was asked for, as numbers in the classes of the features.
        seed: of the choice of real pictures and of the bootstrap.
        batch: pictures at a time.

    Returns:
        Distances of sets, coverage and recall by name, the part of the pictures with the label that was asked for, and "intervals".
    """
    features, signal = features_for(test.signal, features), test.signal
    if features is None and not isinstance(signal, Scan):
        return {"FD": NOT_COMPUTED, "intervals": {}}
    count = n if made is None else len(made)
    real = _of(features, test, permutation(seed, "generated-test", 0, len(test))[:count].tolist(), batch)()
    if made is None:
        assert train is not None  # noqa: S101 - without generated pictures there are training pictures
        rows = _of(features, train, permutation(seed, "generated-train", 0, len(train))[:count].tolist(), batch)()
    else:
        rows = _described(features, within(made, signal), batch)
    if features is None:
        assert isinstance(signal, Scan)  # noqa: S101 - see above
        return from_above(rows, real, signal, test.shape, seed)
    found, sure = distances(features, rows, real, paired=False, seed=seed)
    out: dict[str, Any] = dict(found)
    if min(len(rows), len(real)) > _NEIGHBOURS:
        near = coverage(rows, real, _NEIGHBOURS)
        out |= {name: near[name] for name in ("precision", "recall")}
    told = None if labels is None or made is None else features.labels(within(made, signal))
    if told is not None and labels is not None:
        right = (told == labels).double()
        out[ACCURACY] = float(right.mean())
        return {**out, "intervals": {**sure, ACCURACY: intervals.of_mean(right, seed)}}
    return {**out, "intervals": sure}


def features_for(signal: Signal, features: Features | None) -> Features | None:
    """What distances between samples are measured in: of pictures what was given, of sound bands of its spectra; None takes the values themselves.

    Raises:
        ValueError: features of pictures for what are none.
    """
    if signal == PICTURE:
        return features
    if features is not None and not isinstance(features, LogMel):
        raise ValueError(f"features = {features.name} are of pictures, and these are {signal.many}: leave them out")
    return LogMel(signal.rate_hz) if isinstance(signal, Sound) else None


def within(x: Batch, signal: Signal) -> Batch:
    """Samples as they can be shown or stored: clamped to [-1, 1], but for sound, whose peaks may lie beyond."""
    return x if isinstance(signal, Sound) else x.clamp(-1, 1)


def from_above(made: Tensor, real: Tensor, scan: Scan, shape: tuple[int, ...], seed: int) -> dict[str, Any]:
    """Both distances of two sets of scans, given as rows of values, by name, and under "intervals" how sure they are."""
    a, b = (birds_eye.histograms(x.reshape(-1, *shape), scan) for x in (made, real))
    jsd, squared = birds_eye.intervals(a, b, run=seed)
    return {JSD: birds_eye.jensen_shannon(a, b), MMD: birds_eye.mmd(a, b), "intervals": {JSD: jsd, MMD: squared}}


def verdict(found: dict[str, Any], signal: Signal = PICTURE) -> list[str]:
    """What the numbers say of generated samples."""
    ratio, floor = found["measures"]["memorisation ratio"]
    _, high = found["intervals"]["memorisation ratio"]
    one, many = signal.one, signal.many
    said = f"Generated {many} lie {ratio:.2f} times as far from a training {one} as from an unseen one; real unseen {many} {floor:.2f} times"
    share, low = found["measures"][NEAR][0], (found["intervals"][NEAR] or (0.0, 0.0))[0]
    out = [f"{said} (medians)."]
    learned = high < found["floor interval"][0] or low > _ALARM
    conclusion = "some may be learned by heart, look at the pairs" if learned else f"no sign that {many} were learned by heart"
    out.append(f"{share:.0%} of them lie nearer to a training {one} than 99 % of real ones do: {conclusion}.")
    spread, _ = found["measures"]["diversity"]
    if spread < 0.9:
        out.append(f"They differ less from each other than real ones: {spread:.2f} of the distance.")
    distance = next((name for name in found["measures"] if name.endswith("against test")), None)
    if distance is not None and not isinstance(found["measures"][distance][0], str):
        value, real = found["measures"][distance]
        out.append(f"{distance}: {value:.3g}, where real {many} score {real:.3g}.")
    return out


def _described(features: Features | None, x: Batch, batch: int) -> Tensor:
    """Rows (n, k) to measure distances between: features, or pixels."""
    return x.flatten(1).float() if features is None else torch.cat([features(part) for part in torch.split(x, batch)])


def _of(features: Features | None, data: Dataset, ids: Sequence[int], batch: int, kept: Kept | None = None) -> Callable[[], Tensor]:
    """Rows of real pictures, to be had once all pieces are there; pixels are read, not kept."""
    if features is not None:
        return features_of(features, data, ids, batch=batch, kept=kept, name=f"generated's {data.split}")
    return lambda: torch.cat([_described(None, data.batch(ids[i : i + batch])["x0"], batch) for i in range(0, len(ids), batch)])


def _sets(out: dict[str, Any], features: Features | None, rows: dict[str, Tensor], n: int, seed: int, like: Dataset) -> None:
    """Distances of n generated samples to n of each, and the floor of n against n: JSD and MMD of scans, else FD and KID."""
    if isinstance(like.signal, Scan):
        floor = from_above(rows["train"][:n], rows["test"][:n], like.signal, like.shape, seed)
        for name in ("test", "train"):
            found = from_above(rows["made"][:n], rows[name][:n], like.signal, like.shape, seed)
            for measure in (JSD, MMD):
                out["measures"][f"{measure} against {name}"] = (found[measure], floor[measure])
                out["intervals"][f"{measure} against {name}"] = found["intervals"][measure]
        return
    if features is None:
        out["measures"]["FD, KID"] = (NOT_COMPUTED, NOT_COMPUTED)
        return
    made, train, test = (rows[name][:n] for name in ("made", "train", "test"))
    floor, _ = distances(features, train, test, paired=False, seed=seed)
    for name, real in (("test", test), ("train", train)):
        found, sure = distances(features, made, real, paired=False, seed=seed)
        for measure in names(features):
            out["measures"][f"{measure} against {name}"] = (found[measure], floor[measure])
            out["intervals"][f"{measure} against {name}"] = sure[measure]
    if n > _NEIGHBOURS:
        found, floor = (coverage(some, test, _NEIGHBOURS) for some in (made, train))
        out["measures"] |= {name: (found[name], floor[name]) for name in found}


def _memory(out: dict[str, Any], rows: dict[str, Tensor], made_to_train: Tensor, seed: int) -> None:
    """The ratio and its floor: half of the test pictures stand in the generated ones' place, the other half is what nobody saw."""
    probes, unseen = rows["test"][: len(rows["test"]) // 2], rows["test"][len(rows["test"]) // 2 :]
    pairs = ((made_to_train, nearest(rows["made"], unseen)[1]), (nearest(probes, rows["train"])[1], nearest(probes, unseen)[1]))
    ratios = [(seen / new.clamp(min=1e-12)).clamp(max=_CAP) for seen, new in pairs]
    out["measures"]["memorisation ratio"] = (float(ratios[0].median()), float(ratios[1].median()))
    out["intervals"]["memorisation ratio"] = intervals.of_median(ratios[0], seed)
    out["floor interval"] = intervals.of_median(ratios[1], seed)
    low = torch.quantile(ratios[1], _RARE)
    copies = [(ratio < low).double() for ratio in ratios]
    out["measures"][NEAR] = (float(copies[0].mean()), float(copies[1].mean()))
    out["intervals"][NEAR] = intervals.of_mean(copies[0], seed)
    out["searched"] = {"train": len(rows["train"]), "test": len(unseen)}


def _diversity(
    out: dict[str, Any], features: Features | None, made: Batch, test: Dataset, ids: list[int], rows: dict[str, Tensor], seed: int, batch: int
) -> None:
    own, real = _spread(rows["made"], seed), _spread(rows["test"], seed)
    out["measures"]["diversity"] = (own / max(real, 1e-12), 1.0)
    labels = None if features is None else features.labels(made)
    if features is None or labels is None:
        return
    like = ids[: len(made)]
    truth = torch.cat([_sure(features.labels(test.batch(like[i : i + batch])["x0"])) for i in range(0, len(like), batch)])
    out["measures"]["labels seen"] = (_kinds(labels), _kinds(truth))
    out["measures"]["entropy of labels, bits"] = (_entropy(labels), _entropy(truth))


def _sure(labels: Tensor | None) -> Tensor:
    assert labels is not None  # noqa: S101 - a network that labels one picture labels all
    return labels


def _spread(rows: Tensor, seed: int) -> float:
    """The mean distance of two different rows, over at most 1,000 of them."""
    some = rows[permutation(seed, "generated-spread", 0, len(rows))[:_PAIRS]].double()
    return float(torch.cdist(some, some).sum() / (len(some) * (len(some) - 1)))


def _kinds(labels: Tensor) -> int:
    return int((labels.bincount() > 0).sum())


def _entropy(labels: Tensor) -> float:
    share = labels.bincount().double() / len(labels)
    return float(-(share[share > 0] * share[share > 0].log2()).sum()) + 0.0 if len(labels) else math.nan


def _searched(counts: dict[str, int], row_bytes: int, many: str) -> str:
    """How many samples were looked through, and why no more."""
    said = f"{counts['train']:,} of {counts['of train']:,} training {many} and {counts['test']:,} of {counts['of test']:,} test {many}"
    if counts["train"] == counts["of train"]:
        return said
    bound = f"{_SEARCHED:,}" if counts["train"] == _SEARCHED else f"{_SEARCHED_BYTES // 1_000_000} MB of rows of {row_bytes:,} bytes"
    return f"{said} (at most {bound}): a copy of one left out is not found"


def _facts(
    features: Features | None, rows: dict[str, Tensor], out: dict[str, Any], n: int, seed: int, signal: Signal
) -> dict[str, Any]:
    many, clamped = signal.many, "" if isinstance(signal, Sound) else ", clamped to [-1, 1]"
    values = "pixels: no features were given" if signal == PICTURE else "values: range, reflectance and return of every cell"
    sets = "JSD and MMD" if isinstance(signal, Scan) else "FD and KID"
    facts: dict[str, Any] = {
        "generated": f"{len(rows['made']):,} {many}{clamped}; seed {seed}",
        "distances between": values if features is None else f"features {features.name}",
        f"real {many}": f"training against test {many} for {sets}; else test {many} in the place of the generated ones",
        "memorisation": "searched for the nearest: " + _searched(out["searched"], 4 * rows["made"].shape[1], many),
    }
    if isinstance(signal, Scan):
        facts["sets of"] = f"{n:,} scans each, points between 3 and 70 m in cells of 1.6 m, as LiDARGen and R2DM have them"
    if features is not None:
        facts["sets of"] = f"{n:,} {many} each"
        facts |= {"caveat": said} if (said := caveat(n, n, rows["made"].shape[1])) else {}
    return facts
