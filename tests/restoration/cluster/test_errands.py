"""Errands: what travels to a worker and back, and what goes wrong there, is told."""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.restoration.cluster.handing import MARKS, Here, entries, table

from snowmelt.restoration import restore_folder
from snowmelt.restoration.cluster import Cluster
from snowmelt.restoration.errands import Outcome, carried_out, job_of, job_text, outcome_of, outcome_text
from snowmelt.restoration.plan import Failure, Job, plan
from snowmelt.restoration.rows import Piece, piece_of, piece_text
from snowmelt.restoration.tables import restore_tables

pytestmark = MARKS


def test_what_a_plugin_raises_is_told_and_is_no_death_of_a_worker(many, net, tmp_path, monkeypatch):
    def odd(work, jobs, batch):
        if any(job.source.name == "4.png" for job in jobs.jobs):
            raise KeyError("odd")
        return carried_out(work, jobs, batch)

    monkeypatch.setattr("snowmelt.restoration.errands.carried_out", odd)
    given = {"model": net, "severity": 0.5, "sampler": None}
    tally = restore_folder(many, out=tmp_path / "out", cluster=Here(), batch=9, **given)
    assert tally.done == 8
    assert [(one.source.name, one.reason) for one in tally.failed] == [("4.png", "KeyError: 'odd'")]
    table(many, tmp_path / "x.parquet", columns="path", size=6)
    monkeypatch.setattr("snowmelt.restoration.rows.carried_out", lambda work, jobs, batch: {}["odd"])
    tally = restore_tables([tmp_path / "x.parquet"], out=tmp_path / "tables", cluster=Here(), **given)
    assert (len(tally.failed), {one.reason for one in tally.failed}) == (11, {"KeyError: 'odd'"})


def test_jobs_and_what_is_told_of_them_survive_the_journey(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = os.fsdecode(b"caf\xe9\n.png")
    job = Job(3, Path(odd), Path("a", odd), Path("out", odd), Path("out"), named=True)
    there = job_of(job_text(job))
    assert (there.number, there.name, there.named, there.anchor, there.key) == (3, job.name, True, None, job.key)
    assert [there.source, there.target, there.root] == [tmp_path / odd, tmp_path / "out" / odd, tmp_path / "out"]
    other = Job(4, tmp_path / "b", Path("b"), Path("out", "b.png"), Path("out"))
    told = Outcome([(there, {"severity": 0.5})], [Failure(other.source, "why", True)], 1, 0.25, [2], OSError(28, "No space left on device"))
    back = outcome_of(outcome_text(told, [there, other]), {3: job, 4: other})
    assert back.finished == [(job, {"severity": 0.5})]
    assert (back.failed, back.greyed, back.megapixels, back.remarks) == (told.failed, 1, 0.25, [2])
    assert back.stop is not None
    assert (back.stop.errno, back.stop.strerror) == (28, "No space left on device")
    piece = Piece(1, Path("x.parquet"), Path("x.parquet"), 0, 0, 4, Path("out", "x-00000.parquet"), "path")
    assert piece_of(piece_text(piece)).target == tmp_path / "out" / "x-00000.parquet"


def test_a_full_disk_of_a_worker_ends_the_run(many, tmp_path, model, monkeypatch):
    def elsewhere(jobs):
        yield Outcome([(jobs[0], {"severity": 1.0})], stop=OSError(28, "No space left on device"))

    monkeypatch.setattr(Cluster, "take", lambda self, loop: setattr(loop, "elsewhere", elsewhere))
    with pytest.raises(OSError, match="No space left"):
        restore_folder(many, model=model, out=tmp_path / "out", severity=1, cluster=Cluster())
    assert len(entries(tmp_path / "out" / "restored.jsonl", tmp_path)) == 1


def test_the_plan_is_that_of_one_process(many, tmp_path):
    jobs = plan([many], tmp_path / "out").jobs
    assert [job_of(job_text(job)).key for job in jobs] == [job.key for job in jobs]
    assert np.all(np.diff([job_of(job_text(job)).number for job in jobs]) == 1)
