"""Jobs that another process carries out, with the very loop that a run of one process goes through, and what it tells of them.

Both travel as JSON: a job is some paths, and what is told of it is what the journal says. No sample travels; a worker reads its files and writes
them, so that they are those of one process. It keeps no journal: who sent it has the only one, and so every line one writer.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snowmelt.restoration.picture import reason
from snowmelt.restoration.plan import Failure, Job, Kind, Plan
from snowmelt.stopping import Stopped

if TYPE_CHECKING:
    from snowmelt.restoration.loop import Loop
    from snowmelt.restoration.work import Work


@dataclass
class Outcome:
    """What became of some jobs.

    Attributes:
        finished: each that was restored, or left as it is, with what the journal says of it.
        failed: those that could not be restored.
        greyed: of the restored, in colour but restored in grey.
        megapixels: of the finished together, or what else they are measured in.
        remarks: of how many each of the loop's sentences is true.
        stop: why nothing more can be written, a full disk for instance.
    """

    finished: list[tuple[Job, dict[str, Any]]] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    greyed: int = 0
    megapixels: float = 0.0
    remarks: list[int] = field(default_factory=list)
    stop: OSError | None = None


@dataclass(frozen=True)
class Errand:
    """What a worker does with jobs that are sent to it as text.

    Attributes:
        work: what is done to every file.
        kind: of the files.
        batch: as in :func:`~snowmelt.restoration.restore_folder`.
    """

    work: "Work"
    kind: Kind
    batch: int | None

    def __call__(self, texts: Sequence[str]) -> Iterator[str]:
        """Carry out some jobs; what became of them, as text."""
        jobs = [job_of(text) for text in texts]
        try:
            told = carried_out(self.work, Plan(tuple(jobs), (), self.kind), self.batch)
        except Exception as error:  # whatever a plug-in raises is told, or it would pass for the death of this worker
            if len(texts) > 1:
                for text in texts:
                    yield from self([text])
                return
            told = Outcome(failed=[Failure(job.source, reason(error)) for job in jobs])
        told.remarks = told.remarks or [0] * len(_loop_of(self.work).sentences)
        yield outcome_text(told, jobs)


def carried_out(work: "Work", jobs: Plan, batch: int | None) -> Outcome:
    """Go through a plan, every job of which is to be done, and keep no journal."""
    from snowmelt.restoration.journal import Journal

    told = Outcome()
    loop = _loop_of(work)(work, jobs, Journal(None, (1, 1), {}), batch, overwrite=True)
    loop.finished = lambda job, entry: told.finished.append((job, entry))
    try:
        loop.run(bar=False, swept=True)
    except OSError as error:
        told.stop = error
    except Stopped:  # asked to go: who sent it sends what is left to another
        pass
    told.failed, told.greyed, told.remarks = loop.tally.failed, loop.tally.greyed, loop.tally.remarks
    told.megapixels = loop.tally.megapixels
    return told


def _loop_of(work: "Work") -> "type[Loop[Any]]":
    from snowmelt.restoration.folder import collection_of

    return collection_of(work.model.signal)


def line(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def job_text(job: Job) -> str:
    """A job as text, for a process that may be in another folder; bytes of a name that are no text survive."""
    places = [None if path is None else os.path.abspath(path) for path in (job.source, job.target, job.root, job.anchor)]
    return json.dumps([job.number, job.named, str(job.name), *places])


def job_of(text: str) -> Job:
    """The job of a text."""
    number, named, name, source, target, root, anchor = json.loads(text)
    return Job(number, Path(source), Path(name), Path(target), root and Path(root), named, anchor and Path(anchor))


def outcome_text(told: Outcome, jobs: Sequence[Job]) -> str:
    """What became of jobs as text, in which they are known by their numbers."""
    numbers = {job.source: job.number for job in jobs}
    finished = [[job.number, entry] for job, entry in told.finished]
    failed = [[numbers[one.source], one.reason, one.broken] for one in told.failed]
    stop = None if told.stop is None else [told.stop.errno, told.stop.strerror or str(told.stop)]
    return json.dumps([finished, failed, told.greyed, told.megapixels, told.remarks, stop])


def outcome_of(text: str, jobs: Mapping[int, Job]) -> Outcome:
    """The outcome of a text; `jobs` by their numbers, as they were before they travelled."""
    finished, failed, greyed, megapixels, remarks, stop = json.loads(text)
    failures = [Failure(jobs[number].source, reason, broken) for number, reason, broken in failed]
    why = None if stop is None else OSError(*stop)
    return Outcome([(jobs[number], entry) for number, entry in finished], failures, greyed, megapixels, remarks, why)
