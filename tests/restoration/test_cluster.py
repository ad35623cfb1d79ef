"""A cluster makes the files that one process makes, whatever happens to its workers; tables of pictures become tables."""

import contextlib
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.cli import main
from snowmelt.data.images import read
from snowmelt.model import Model
from snowmelt.registry import build, load_plugin
from snowmelt.restoration import restore_folder
from snowmelt.restoration.cluster import Cluster, in_pieces, required
from snowmelt.restoration.errands import Outcome, carried_out, job_of, job_text, outcome_of, outcome_text
from snowmelt.restoration.plan import Failure, Job, Kind, plan
from snowmelt.restoration.rows import Piece, TableErrand, Told, _read, piece_of, piece_text, restore_piece
from snowmelt.restoration.tables import holds_tables, planned, restore_tables
from snowmelt.restoration.work import Work
from snowmelt.restorers import Restorer
from snowmelt.stopping import Stopped

pytest.importorskip("ray", reason="pip install 'snowmelt[ray]'")
pa = pytest.importorskip("pyarrow", reason="pip install 'snowmelt[ray]'")
pq = pytest.importorskip("pyarrow.parquet")

# Of Ray's own future, and of what it leaves open when it ends.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("DeprecationWarning", "FutureWarning", "ResourceWarning")]
pytestmark.append(pytest.mark.xdist_group("ray"))  # one process begins one Ray for all of them


class Here(Cluster):
    """One worker that is this process: what is handed out and told, without Ray. `sizes` are the pieces that were asked for."""

    sizes: ClassVar[list[int | None]] = []

    @contextlib.contextmanager
    def met(self, device):
        self.sizes.clear()

        def handed_out(errand, tasks, size):
            self.sizes.append(size)
            for piece in in_pieces(tasks, size, 1):
                yield from errand(piece)

        yield handed_out


def test_the_verb_begins_a_ray_of_its_own_and_ends_it(tmp_path, draw, files_in, capsys):  # first here: later there is one that all share
    ray = required()
    assert not ray.is_initialized()
    for i in range(2):
        draw(tmp_path / "in" / f"{i}.png", seed=i, h=8 + i)
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "in" / "metadata.parquet")  # as data sets have it; the folder is one of pictures
    given = ["restore", str(tmp_path / "in"), "--anyway", "--threads", "1"]
    assert main([*given, "--out", str(tmp_path / "here")]) == 0
    capsys.readouterr()
    assert main([*given, "--out", str(tmp_path / "there"), "--engine", "ray", "--workers", "1"]) == 0
    said = capsys.readouterr()
    assert "restored 2 pictures of 2" in said.out
    assert ".parquet tables, which are left out" in said.err
    assert not ray.is_initialized()
    assert len(pictures(files_in(tmp_path / "there"))) == 2
    assert pictures(files_in(tmp_path / "there")) == pictures(files_in(tmp_path / "here"))


@pytest.fixture(scope="module")
def two():
    """Two workers of a Ray that all tests here share."""
    before = {name: os.environ.get(name) for name in ("RAY_USAGE_STATS_ENABLED", "RAY_BACKEND_LOG_LEVEL")}
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = required()
        ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield Cluster(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.shutdown()
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def net() -> Model:
    """A network with random weights, and a noise floor: what it makes of a picture depends on the picture's random numbers."""
    torch.manual_seed(0)
    degradation = build("gaussian-blur:sigma_px=2", "degradation")
    restorer = Restorer(degradation, build("unet:widths=(8,),patch=1,groups=4", "backbone"), (1, 8, 8), noise_floor=0.2).eval()
    return Model(degradation, restorer, noise_floor=0.2)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pictures(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if not name.endswith(".jsonl")}


def entries(path: Path, out: Path) -> list[dict]:
    """What a journal says of pictures, in the order of their names, wherever and how fast they were made."""
    kept = [{name: value for name, value in line.items() if name != "seconds"} for line in lines(path) if "output" in line]
    return sorted((line | {"output": os.path.relpath(line["output"], out)} for line in kept), key=lambda line: line["output"])


def interrupt(job: Job, entry: dict) -> None:
    raise KeyboardInterrupt


# --- folders -------------------------------------------------------------------------------------------


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


# --- tables --------------------------------------------------------------------------------------------


def table(place: Path, path: Path, *, columns: str, size: int) -> list[str]:
    """The pictures of a folder in a table, with two rows that hold none; their names."""
    found = sorted(place.rglob("*.png"))
    names = [one.relative_to(place).as_posix() for one in found]
    rows = list(zip([one.read_bytes() for one in found], names, strict=True))
    rows[4:4] = [(b"no picture", "../../bad.png"), (None, "none.png")]
    made = [{"image": {"bytes": data, "path": name}} if columns == "struct" else {"image": data, columns: name} for data, name in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([one | {"label": 0} for one in made]), path, row_group_size=size)
    return [name for _, name in rows]


def test_the_verb_makes_a_table_of_a_table(two, tmp_path, draw, capsys):
    for i in range(2):
        draw(tmp_path / "in" / f"{i}.png", seed=i)
    encoded = [(tmp_path / "in" / f"{i}.png").read_bytes() for i in range(2)]
    pq.write_table(pa.table({"image": encoded, "name": ["0.png", "1.png"]}), tmp_path / "x.parquet")
    given = ["--anyway", "--threads", "1"]
    assert main(["restore", str(tmp_path / "in"), "--out", str(tmp_path / "here"), *given]) == 0
    assert main(["restore", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "out"), "--engine", "ray", *given]) == 0
    assert capsys.readouterr().out.count("restored 2 pictures of 2") == 2
    rows = pq.read_table(tmp_path / "out" / "x-00000.parquet").to_pylist()
    assert [row["path"] for row in rows] == ["0.png", "1.png"]
    for row in rows:
        assert torch.equal(read("row", content=row["image"]).x, read(tmp_path / "here" / row["path"]).x)


def test_a_table_becomes_a_table_of_what_a_folder_becomes(tmp_path, draw, net):
    two = Here()
    for i in range(20):
        draw(tmp_path / "in" / ("a" if i % 2 else "") / f"{i}.png", seed=i, h=8 + i % 2)
    names = table(tmp_path / "in", tmp_path / "tables" / "deep" / "x.parquet", columns="struct", size=18)
    (tmp_path / "tables" / "bad.parquet").write_bytes(b"PAR1")
    given = {"model": net, "severity": 0.5, "seed": 3, "sampler": "tacos:steps=3"}
    restore_folder(tmp_path / "in", out=tmp_path / "here", **given)
    out = tmp_path / "out"
    tally = restore_tables([tmp_path / "tables"], out=out, cluster=two, **given)
    assert (tally.total, tally.done, tally.kept, len(tally.failed)) == (23, 20, 0, 3)
    made = ["errors.jsonl", "restored.jsonl", "x-00000.parquet", "x-00001.parquet"]
    assert sorted(path.name for path in out.rglob("*") if path.name != "deep") == made
    rows = [row for i in range(2) for row in pq.read_table(out / "deep" / f"x-{i:05d}.parquet").to_pylist()]
    assert [row["path"] for row in rows] == names
    assert {row["path"]: row["error"] for row in rows if row["error"]} == {
        "../../bad.png": "not a picture in one of JPEG, PNG, WEBP, BMP, TIFF, GIF",
        "none.png": "there is no picture in this row",
    }
    for row in rows:
        assert (row["image"] is None) == (row["severity"] is None) == (row["error"] is not None)
        if row["image"]:
            assert row["severity"] == 0.5
            assert torch.equal(read("row", content=row["image"]).x, read(tmp_path / "here" / row["path"]).x), row["path"]
    assert [line["input"].rpartition(": ")[2] for line in lines(out / "errors.jsonl")[1:]] == ["row 4", "row 5"]
    again = restore_tables([tmp_path / "tables"], out=out, cluster=two, **given)  # nothing is left to hand out
    assert (again.done, again.kept, len(again.failed)) == (0, 22, 1)


@pytest.mark.parametrize("columns", ["struct", "path", "name", "label2"])
def test_names_come_from_any_of_three_columns(many, tmp_path, net, columns):
    names = table(many, tmp_path / "x.parquet", columns=columns, size=100)
    (piece,), refused = planned([tmp_path / "x.parquet"], tmp_path / "out")
    assert refused == []
    told, work = Told(0), Work(net, "", "", 0.5, None)
    restore_piece(work, 1, piece, told)
    found = pq.read_table(piece.target).column("path").to_pylist()
    assert found == (names if columns != "label2" else [f"x/{i:06d}" for i in range(11)])
    assert (told.done, len(told.failed)) == (9, 2)


def test_what_a_strangers_table_may_not_do(tmp_path, net, monkeypatch):
    pq.write_table(pa.table({"picture": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="0 columns called image"):
        planned([tmp_path / "a.parquet"], tmp_path / "out")
    pq.write_table(pa.table({"image": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"holds int64, and has to hold encoded pictures"):
        planned([tmp_path / "a.parquet"], tmp_path / "out")
    pq.write_table(pa.table({"image": [bytes(3_000_000)]}), tmp_path / "a.parquet", compression="zstd")
    (piece,), _ = planned([tmp_path / "a.parquet"], tmp_path / "out")
    told, work = Told(0), Work(net, "", "", 0.5, None, max_pixels=100_000)
    restore_piece(work, 1, piece, told)
    assert told.failed == [(0, "a/000000: 3,000,000 bytes are more than any picture of max_pixels = 100000 has", False)]
    monkeypatch.setattr("snowmelt.restoration.rows._LARGEST_GROUP", 1000)
    with pytest.raises(ValueError, match=r"row group 0 promises [\d,]+ bytes, more than 1,000"):
        restore_piece(work, 1, piece, told)


def test_a_small_table_does_not_unpack_to_more_than_some_rows(tmp_path, monkeypatch):
    mega = 1 << 20
    monkeypatch.setattr("snowmelt.restoration.rows._FLUSHED", 2 * mega)
    whole = pa.table({"image": [bytes(mega)] * 40, "path": ["n" * 3000] * 20 + ["n" * mega] * 20})  # a dictionary keeps one of each
    pq.write_table(whole, tmp_path / "x.parquet", compression="zstd", store_schema=False)
    del whole
    assert (tmp_path / "x.parquet").stat().st_size < 20_000
    (piece,), _ = planned([tmp_path / "x.parquet"], tmp_path / "out")
    seen, before = 0, pa.total_allocated_bytes()
    for names, found in _read(piece):
        seen += len(found)
        assert len(names) == len(found) <= 3
        assert max(map(len, names)) <= 4096
        assert pa.total_allocated_bytes() - before < 14 * mega
        del found
    assert seen == 40


def test_a_worker_that_is_asked_to_go_leaves_the_piece_to_another(many, tmp_path, net, monkeypatch):
    table(many, tmp_path / "x.parquet", columns="path", size=100)
    (piece,), _ = planned([tmp_path / "x.parquet"], tmp_path / "out")
    monkeypatch.setattr("snowmelt.restoration.rows.carried_out", lambda work, jobs, batch: Outcome())
    assert list(TableErrand(Work(net, "", "", 0.5, None), 1)([piece_text(piece)])) == []
    assert list((tmp_path / "out").iterdir()) == []


def test_what_a_killed_worker_left_is_swept(many, tmp_path, net, monkeypatch):
    table(many, tmp_path / "x.parquet", columns="path", size=6)
    out, seen = tmp_path / "out", list[set[str]]()
    (out / ".x-00001.parquet.abc_12.part").mkdir(parents=True)  # pictures in work
    (out / ".x-00001.parquet.abc_12.part" / "0").write_bytes(b"x")
    (out / ".x-00000.parquet.abcdefgh.part").write_bytes(b"x")
    (out / ".of-another.parquet.abcdefgh.part").write_bytes(b"x")

    def looked(work, jobs, batch):
        seen.append({path.name for path in out.iterdir() if path.name.startswith(".x-0000")})
        (out / ".x-00001.parquet.1234.part").write_bytes(b"x")  # of a worker that dies meanwhile
        assert jobs.jobs[0].source.parent.parent == out  # or nobody would find what is left
        return carried_out(work, jobs, batch)

    monkeypatch.setattr("snowmelt.restoration.rows.carried_out", looked)
    tally = restore_tables([tmp_path / "x.parquet"], out=out, cluster=Here(), model=net, severity=0.5, sampler=None)
    assert tally.done == 9
    assert {".x-00001.parquet.abc_12.part", ".x-00000.parquet.abcdefgh.part"}.isdisjoint(seen[0])
    left = sorted(path.name for path in out.iterdir() if path.suffix != ".jsonl")
    assert left == [".of-another.parquet.abcdefgh.part", "x-00000.parquet", "x-00001.parquet"]


def test_no_two_tables_become_one_and_none_becomes_two(tmp_path):
    for name in ("x.parquet", "x.PARQUET"):
        pq.write_table(pa.table({"image": [b"x"]}), tmp_path / name)
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system knows no capitals")
    pieces, refused = planned([tmp_path], tmp_path / "out")
    assert len(pieces) == 1
    assert ["would become tables of one name" in one.reason for one in refused] == [True]
    (tmp_path / "sub").mkdir()
    pieces, refused = planned([tmp_path / "x.parquet", tmp_path / "." / "sub" / ".." / "x.parquet"], tmp_path / "out")
    assert (len(pieces), refused) == (1, [])


def test_tables_and_pictures_are_not_mixed(tmp_path, draw):
    draw(tmp_path / "in" / "a.png")
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    assert holds_tables([tmp_path / "a.parquet"], tmp_path / "out")
    assert not holds_tables([tmp_path / "in"], tmp_path / "out")
    with pytest.raises(ValueError, match="one after the other"):
        holds_tables([tmp_path / "in", tmp_path / "a.parquet"], tmp_path / "out")


def test_a_folder_of_pictures_is_one_whatever_table_lies_there(tmp_path, draw):
    place, said = tmp_path / "in", list[str]()
    draw(place / "out" / "a.png")
    (place / "deep").mkdir()
    pq.write_table(pa.table({"image": [b"x"]}), place / "deep" / "metadata.parquet")
    assert holds_tables([place], place / "out", say=said.append)  # that picture is a result
    assert said == []
    assert not holds_tables([place], tmp_path / "out", say=said.append)
    assert said == [f"{place} holds pictures, which are restored, and .parquet tables, which are left out: give these by name, in a run of their own"]
    assert not holds_tables([place], place / "deep")
    sounds = Kind("recording", "recordings", (".wav",), (".wav",))
    assert holds_tables([place], tmp_path / "out", sounds)
    (place / "a.wav").write_bytes(b"")
    assert not holds_tables([place], tmp_path / "out", sounds)


def test_no_table_is_overwritten_by_its_own_restoration(tmp_path):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").rename(tmp_path / "a-00000.parquet")
    (tmp_path / "a.parquet").symlink_to("a-00000.parquet")
    with pytest.raises(ValueError, match="would be overwritten"):
        planned([tmp_path / "a.parquet"], tmp_path)


# --- the command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--engine", "ray"], "give it one, with --out DIR"),
        (["--engine", "ray", "--out", "out", "--preview", "2"], "--preview is for --engine local"),
        (["--engine", "ray", "--out", "out", "--shard", "1/2"], "--shard is for --engine local"),
        (["--engine", "ray", "--out", "out", "--workers", "0"], "workers = 0 lies under 1"),
        (["--out", "out", "--workers", "2"], "--workers 2 is for --engine ray"),
        (["--out", "out", "--animation", "webp"], "add --save-trajectory"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused_in_words(given, why, many, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["restore", str(many), *given]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_single_files_and_tables_name_their_way_out(draw, tmp_path, capsys):
    one = draw(tmp_path / "a.png")
    assert main(["restore", str(one), "--engine", "ray", "--out", str(tmp_path / "out")]) == 2
    assert "a single file needs no cluster" in capsys.readouterr().err
    (tmp_path / "x.parquet").write_bytes(b"")
    assert main(["restore", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "out")]) == 2
    assert "add --engine ray" in capsys.readouterr().err


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'snowmelt\[ray\]'"):
        required()


def test_the_plan_is_that_of_one_process(many, tmp_path):
    jobs = plan([many], tmp_path / "out").jobs
    assert [job_of(job_text(job)).key for job in jobs] == [job.key for job in jobs]
    assert np.all(np.diff([job_of(job_text(job)).number for job in jobs]) == 1)
