"""Sections 1 and 2: a training step and a network call, ours beside the peers', in turn; and how near ours comes to the machine's peak."""

from collections.abc import Callable, Mapping, Sequence

import nets
from timing import Ratio, over, seconds
from torch import nn

BATCH, PX = 32, 32
OURS = f"{nets.LEAN}, bf16"
Row = dict[str, object]


def rows(kind: Callable[[nn.Module, bool], Callable[[], object]], *, runs: int, quick: bool, batch: int, goals: Mapping[str, float]) -> list[Row]:
    """One row for each network and precision, and one for the share of the peak.

    Args:
        kind: gives what is timed of a network, in bf16 if the second argument says so.
        runs: rounds.
        quick: small networks, and not diffusers, which takes seconds to import.
        batch: pictures in a batch, for the pictures a second.
        goals: the ratio that is wanted against a way, by its name.
    """
    names = [name for name in nets.MAKERS if not (quick and name == nets.DIFFUSERS)]
    ways, made, absent = {}, {}, []
    for name in names:
        for precision in ("fp32", "bf16"):
            net = nets.made(name, small=quick)
            if net is None:
                absent.append(f"{name}, {precision}")
                continue
            way = f"{name}, {precision}"
            ways[way], made[way] = kind(net, precision == "bf16"), net
    work = {way: nets.flops(go) for way, go in ways.items()}
    peaks = nets.peaks(batch=1 if quick else 32)
    times = seconds({**ways, **{name: go for name, (go, _) in peaks.items()}}, runs=runs, least_s=0.0 if quick else 0.1)
    peak = [max(peaks[name][1] / times[name][i] for name in peaks) for i in range(len(times[OURS]))]
    out = [_row(way, times, work[way], batch, nets.parameters(made[way]), goals) for way in ways]
    share = over([work[OURS] / s for s in times[OURS]], peak)
    what = f"share of the machine's peak in bf16, {OURS}"
    out.append({"what": what, "GFLOP/s": work[OURS] / min(times[OURS]) / 1e9, **spread(share), **goal(goals, "peak")})
    return out + [{"what": name, "skipped": "not installed", **goal(goals, name)} for name in absent]


def _row(way: str, times: Mapping[str, list[float]], work: int, batch: int, parameters: float, goals: Mapping[str, float]) -> Row:
    found = {"what": way, "M parameters": parameters, "GFLOP per picture": work / batch / 1e9, "pictures/s": batch / middle(times[way])}
    return {**found, "GFLOP/s": work / min(times[way]) / 1e9, **spread(over(times[way], times[OURS])), **goal(goals, way)}


def middle(values: Sequence[float]) -> float:
    """The median, the upper one of two."""
    return sorted(values)[len(values) // 2]


def spread(ratio: Ratio) -> Row:
    """The figure of a row."""
    return {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}


def goal(goals: Mapping[str, float], name: str) -> Row:
    """What is wanted of it, if anything is."""
    return {"goal": goals[name]} if name in goals else {}
