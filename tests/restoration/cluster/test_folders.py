"""A cluster makes the files that one process makes, whatever happens to its workers."""

import contextlib
import subprocess
import sys

import pytest
from PIL import Image
from tests.restoration.cluster.handing import MARKS, Here, entries, interrupt, lines, pa, pictures, pq, table

from snowmelt.model import Model
from snowmelt.registry import build, load_plugin
from snowmelt.restoration import restore_folder
from snowmelt.restoration.cluster import LOST, Cluster, in_pieces
from snowmelt.restoration.tables import restore_tables
from snowmelt.stopping import Stopped

pytestmark = MARKS


VERB = """
import sys, warnings
warnings.simplefilter("ignore")
import ray
from snowmelt.cli import main
assert not ray.is_initialized()
code = main(sys.argv[1:])
assert not ray.is_initialized(), "Ray is there still"
sys.exit(code)
"""


def verb(*given) -> subprocess.CompletedProcess[str]:
    """What the verb says in a process of its own, where no other test has begun a Ray."""
    done = subprocess.run([sys.executable, "-c", VERB, *map(str, given)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_the_verb_begins_a_ray_of_its_own_and_ends_it(end_of_ray, tmp_path, draw, files_in):
    for i in range(2):
        draw(tmp_path / "in" / f"{i}.png", seed=i, h=8 + i)
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "in" / "metadata.parquet")  # as data sets have it; the folder is one of pictures
    given = ["restore", tmp_path / "in", "--anyway", "--threads", "1"]
    verb(*given, "--out", tmp_path / "here")
    said = verb(*given, "--out", tmp_path / "there", "--engine", "ray", "--workers", "1")
    assert "restored 2 pictures of 2" in said.stdout
    assert ".parquet tables, which are left out" in " ".join(said.stderr.split())
    assert len(pictures(files_in(tmp_path / "there"))) == 2
    assert pictures(files_in(tmp_path / "there")) == pictures(files_in(tmp_path / "here"))


def test_a_cluster_makes_the_files_of_one_process_and_goes_on(two, draw, net, tmp_path, files_in, monkeypatch):
    for i in range(3):
        draw(tmp_path / "in" / ("", "a", "a/b")[i] / f"{i}.png", seed=i, h=8 + i % 2)
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    here, there = tmp_path / "here", tmp_path / "there"
    given = {"model": net, "severity": 0.5, "seed": 3, "sampler": "tacos:steps=3", "degrade": True, "save_trajectory": True}
    monkeypatch.chdir(tmp_path)  # a worker may be in another folder
    alone = restore_folder("in", out=here, **given)
    with pytest.raises(Stopped, match="interrupted: 1 of 4 pictures are done; the same command goes on"):
        restore_folder("in", out="there", cluster=Here(), finished=interrupt, **given)
    assert len(entries(there / "restored.jsonl", there)) == 1
    said: list[str] = []
    tally = restore_folder("in", out="there", cluster=two, say=said.append, **given)
    assert pictures(files_in(there)) == pictures(files_in(here))
    assert tally.done + tally.kept == alone.done == 3
    assert tally.kept == 1
    assert [(one.source, one.reason, one.broken) for one in tally.failed] == [(one.source, one.reason, one.broken) for one in alone.failed]
    assert said == ["left out in/bad.png: not a picture in one of JPEG, PNG, WEBP, BMP, TIFF, GIF"]
    assert lines(there / "errors.jsonl") == lines(here / "errors.jsonl")
    known = entries(here / "restored.jsonl", here)
    assert [line for line in entries(there / "restored.jsonl", there) if line not in known] == []


@pytest.mark.slow
def test_ctrl_c_ends_what_a_cluster_does(two, many, net, tmp_path, files_in):
    given = {"model": net, "severity": 0.5, "sampler": None}
    with pytest.raises(Stopped, match=r"interrupted: \d of 9 pictures are done; the same command goes on"):
        restore_folder(many, out=tmp_path / "there", cluster=two, finished=interrupt, **given)
    assert len(entries(tmp_path / "there" / "restored.jsonl", tmp_path)) == 1
    restore_folder(many, out=tmp_path / "there", cluster=two, **given)
    restore_folder(many, out=tmp_path / "here", **given)
    assert pictures(files_in(tmp_path / "there")) == pictures(files_in(tmp_path / "here"))


def test_nothing_left_to_hand_out_needs_no_cluster(many, net, tmp_path, monkeypatch):
    given = {"model": net, "severity": 0.5, "sampler": None}
    restore_folder(many, out=tmp_path / "out", **given)
    monkeypatch.setattr(Cluster, "met", None)
    again = restore_folder(many, out=tmp_path / "out", cluster=Cluster(), **given)
    assert (again.done, again.kept, again.elsewise, again.failed) == (0, 9, 0, [])


def test_workers_get_as_many_at_once_as_share_a_call(many, net, tmp_path):
    for batch in (1, 3, 64, 200, None):
        tally = restore_folder(many, out=tmp_path / str(batch), model=net, severity=0.5, sampler=None, cluster=Here(), batch=batch)
        assert (tally.done, Here.sizes[0]) == (9, batch)
    tasks = [str(i) for i in range(150)]
    assert [len(piece) for piece in in_pieces(tasks[:10], None, 4)] == [3, 3, 3, 1]
    assert [len(piece) for piece in in_pieces(tasks, None, 1)] == [64, 64, 22]
    assert sum(in_pieces(tasks, 7, 2), []) == tasks


class Staggering(Here):
    """What comes after a task that is deadly, in the same handing out, is lost with it, as it is where Ray learns late of a death."""

    deadly = ('"0.png"', '"0.parquet"')

    @contextlib.contextmanager
    def met(self, device):
        with super().met(device) as workers:

            def handed_out(errand, tasks, size):
                self.sizes.append(size)
                for task in tasks:
                    if any(name in task for name in self.deadly):
                        return
                    yield from errand([task])

            self.sizes.clear()
            yield handed_out if workers else None


def test_one_that_kills_its_worker_takes_no_other_with_it(many, net, tmp_path):
    given = {"model": net, "severity": 0.5, "sampler": None}
    tally = restore_folder(many, out=tmp_path / "out", cluster=Staggering(), **given)
    assert [(one.source.name, one.reason) for one in tally.failed] == [("0.png", LOST)]
    assert tally.done == 8
    for name in ("0", "1", "2"):
        table(many, tmp_path / "tables" / f"{name}.parquet", columns="path", size=100)
    tally = restore_tables([tmp_path / "tables"], out=tmp_path / "rows", cluster=Staggering(), **given)
    assert tally.done == 2 * 9
    assert {one.reason for one in tally.failed if "0.parquet" in str(one.source)} == {LOST}
    assert {one.reason for one in tally.failed if "0.parquet" not in str(one.source)}.isdisjoint({LOST})


def test_where_many_are_lost_not_each_gets_a_worker_of_its_own(net, draw, tmp_path):
    for i in range(12):
        draw(tmp_path / "in" / f"{i}.png", seed=i)

    class Deadly(Staggering):
        deadly = (".png",)

    tally = restore_folder(tmp_path / "in", out=tmp_path / "out", cluster=Deadly(), model=net, severity=0.5, sampler=None)
    assert (tally.done, len(tally.failed), Staggering.sizes) == (0, 12, [1, 1, 1])


PLUGIN = """
import os
from dataclasses import dataclass
from snowmelt.degradations import GaussianBlur
from snowmelt.registry import register

@register("plugged-blur")
@dataclass(frozen=True)
class PluggedBlur(GaussianBlur):
    '''A part that workers know only if they load the plug-in.'''

def last(x, t):
    if float(x.amax((1, 2, 3)).min()) <= -0.9:  # one of them is black
        os._exit(9)
    return -x
"""


@pytest.mark.slow
def test_what_kills_every_worker_is_left_out_and_the_others_are_restored(two, tmp_path, draw, files_in):
    for i in range(3):
        draw(tmp_path / "in" / f"{i}.png", seed=i)
    Image.new("L", (8, 8), 0).save(tmp_path / "in" / "black.png")
    (tmp_path / "deadly.py").write_text(PLUGIN)
    plugin = load_plugin(tmp_path / "deadly.py")
    given = {"model": Model(build("plugged-blur", "degradation"), plugin.last), "severity": 0.5, "sampler": None}
    tally = restore_folder(tmp_path / "in", out=tmp_path / "out", cluster=two, batch=2, **given)
    assert [(one.source.name, one.broken) for one in tally.failed] == [("black.png", False)]
    assert "died" in tally.failed[0].reason
    (tmp_path / "in" / "black.png").unlink()
    restore_folder(tmp_path / "in", out=tmp_path / "here", **given)
    assert pictures(files_in(tmp_path / "out")) == pictures(files_in(tmp_path / "here"))
    assert [line["input"] for line in lines(tmp_path / "out" / "errors.jsonl")] == [str(tmp_path / "in" / "black.png")]
