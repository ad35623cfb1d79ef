"""What the verbs over many pictures do where torchrun has started several processes: who makes what, and what is said of all of it together.

Every process makes its share, as with ``--shard i/n``; the first one does what is done once, before the others begin or after all of them have
finished. So files and journal are those of one process.
"""

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from snowmelt import processes

if TYPE_CHECKING:
    from snowmelt.restoration import Tally

T = TypeVar("T")


def share_of(shard: str | None) -> tuple[int, int]:
    """(i, n): what --shard says, else the share of this process among those that torchrun has started.

    Raises:
        ValueError: it is not 1 <= i <= n, or work that is shared already is to be shared again.
    """
    from snowmelt.restoration.plan import shard_of

    process = processes.here()
    if shard is None:
        return process.share
    found = shard_of(shard)
    if not process.alone:
        raise ValueError(f"--shard {shard} would share out what {process.size} processes of torchrun share already: leave one of the two out")
    return found


def in_turn(first: Callable[[], T], others: Callable[[], T]) -> T:
    """What the first process does before any other goes on; the others do theirs when it is done."""
    if processes.here().first:
        made = first()
        processes.barrier()
        return made
    processes.barrier()
    return others()


def summed(*counts: int) -> list[int]:
    """Whole numbers, added over all processes."""
    return [int(sum(column)) for column in zip(*processes.gathered(counts), strict=True)]


@dataclass(frozen=True)
class Counts:
    """How many pictures of all shares became what: see :class:`~snowmelt.restoration.Tally`."""

    total: int
    done: int
    kept: int
    elsewise: int
    greyed: int
    failed: int
    broken: int
    clean: int
    unsure: int
    remarks: tuple[int, ...] = ()

    @classmethod
    def of(cls, tally: "Tally") -> "Counts":
        """Those of a tally, and of the tallies of all other processes, which ask for them too."""
        alone = cls.alone(tally)
        counts = astuple(replace(alone, remarks=()))[:-1]
        everywhere = summed(*counts, *alone.remarks)
        return replace(cls(*everywhere[: len(counts)]), remarks=tuple(everywhere[len(counts) :]))  # type: ignore[arg-type]  # all but the last

    @classmethod
    def alone(cls, tally: "Tally") -> "Counts":
        """Those of one tally."""
        lists = (len(tally.failed), sum(failure.broken for failure in tally.failed), len(tally.clean), len(tally.unsure))
        return cls(tally.total, tally.done, tally.kept, tally.elsewise, tally.greyed, *lists, tuple(tally.remarks))


def joined(tally: "Tally", inputs: Sequence[Path], out: Path | None, name: str) -> None:
    """Once all processes have finished, make one of their journals, and let the tally of the first say how fast all of them were."""
    process, pace = processes.here(), tally.pace
    if process.alone:
        return
    rows = processes.gathered((0, 0, 0, 0) if pace is None else (pace.pictures, pace.megapixels, pace.seconds, pace.network_s or 0))
    if not process.first:
        return
    from snowmelt.restoration.journal import join
    from snowmelt.restoration.plan import names_a_file, plan
    from snowmelt.restoration.throughput import Pace

    pictures, megapixels, seconds, network_s = zip(*rows, strict=True)
    if sum(pictures):
        share = max(seconds) * sum(network_s) / sum(seconds) if sum(network_s) else None
        tally.pace = Pace(int(sum(pictures)), sum(megapixels), max(seconds), share, *tally.measured)
    if out is not None and not names_a_file(inputs, out, tally.kind):
        whole = plan(inputs, out, tally.kind)
        join(out, process.size, [*(one.source for one in whole.refused), *(job.source for job in whole.jobs)], name)
        tally.errors = out / "errors.jsonl"
