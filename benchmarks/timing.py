"""Times measured in turn, so that their ratios can be believed.

A machine drifts: other programs come and go, a processor grows hot. What is timed A A A B B B compares two hours of the day; what is timed
A B A B ... meets the same machine. `interleaved` gives for each way the *time of the first way over its own* in the same round: how many
times as fast as the first it is. The median of the rounds' ratios is the figure, the lowest and the highest stand beside it.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple


class Ratio(NamedTuple):
    """A ratio found in several rounds."""

    median: float
    low: float
    high: float


def seconds(
    ways: Mapping[str, Callable[[], object]],
    *,
    runs: int,
    least_s: float = 0.05,
    warm: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds that one call of each way takes, once a round: `runs` values for each, the n-th of all of them from one round.

    Every way is called once before anything is timed, unless it is too long for that (`warm` false). In a round each way is repeated
    until `least_s` has passed.

    Args:
        ways: what to time, by name; called in this order within a round.
        runs: rounds, at least 1.
        least_s: the least time spent on a way in a round, in seconds.
        warm: whether to call each way once beforehand.
        clock: gives the time in seconds.

    Raises:
        ValueError: without a way or a round.
    """
    if not ways or runs < 1:
        raise ValueError(f"seconds: {len(ways)} ways in {runs} rounds; at least one of each is needed")
    for way in ways.values() if warm else ():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            start, repeats, passed = clock(), 0, 0.0
            while repeats == 0 or passed < least_s:
                way()
                repeats += 1
                passed = clock() - start
            found[name].append(passed / repeats)
    return found


def over(upper: Sequence[float], lower: Sequence[float]) -> Ratio:
    """`upper` over `lower`, round by round: median, lowest and highest."""
    found = [above / below for above, below in zip(upper, lower, strict=True)]
    return Ratio(statistics.median(found), min(found), max(found))


def interleaved(
    ways: Mapping[str, Callable[[], object]], *, runs: int, least_s: float = 0.05, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Ratio]:
    """How many times as fast as the first way each way is; the first is 1 by definition.

    Args:
        ways: what to compare, by name; the first is the one that the others are compared with.
        runs: rounds.
        least_s: the least time spent on a way in a round, in seconds.
        clock: gives the time in seconds.
    """
    found = seconds(ways, runs=runs, least_s=least_s, clock=clock)
    first = next(iter(found.values()))
    return {name: over(first, values) for name, values in found.items()}
