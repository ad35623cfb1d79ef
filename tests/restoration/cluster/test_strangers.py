"""What a cluster refuses, and what a stranger's table may not do."""

import contextlib
import errno
import os
import sys
from pathlib import Path

import pytest
from tests.restoration.cluster.handing import MARKS, Here, pa, pq, table

from snowmelt.cli import main
from snowmelt.restoration.cluster import required
from snowmelt.restoration.plan import Kind
from snowmelt.restoration.rows import Told, _read, restore_piece
from snowmelt.restoration.tables import holds_tables, planned, restore_tables
from snowmelt.restoration.work import Work

pytestmark = MARKS


def test_what_a_strangers_table_may_not_do(tmp_path, net, monkeypatch):
    pq.write_table(pa.table({"picture": [b"x"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet: it has 0 columns called image \(picture\)"):
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


def test_a_row_group_is_read_page_by_page(tmp_path, monkeypatch):
    mega = 1 << 20
    monkeypatch.setattr("snowmelt.restoration.rows._FLUSHED", 2 * mega)
    images = [os.urandom(mega) for _ in range(40)]
    pq.write_table(pa.table({"image": images}), tmp_path / "x.parquet", compression="zstd", use_dictionary=False, write_batch_size=1)
    del images
    (piece,), _ = planned([tmp_path / "x.parquet"], tmp_path / "out")
    seen, before = 0, pa.total_allocated_bytes()
    for _, found in _read(piece):
        seen += len(found)
        assert pa.total_allocated_bytes() - before < 14 * mega  # of 40
        del found
    assert seen == 40


def test_columns_that_nobody_reads_may_be_of_any_size(tmp_path, draw, net, monkeypatch):
    image = draw(tmp_path / "a.png").read_bytes()
    pq.write_table(pa.table({"image": [{"bytes": image, "path": "a.png"}], "more": [os.urandom(5000)]}), tmp_path / "x.parquet")
    (piece,), _ = planned([tmp_path / "x.parquet"], tmp_path / "out")
    monkeypatch.setattr("snowmelt.restoration.rows._LARGEST_GROUP", 2000)
    told = Told(0)
    restore_piece(Work(net, "", "", 0.5, None), 1, piece, told)
    assert told.done == 1


def test_a_damaged_table_is_told_as_one(tmp_path, net):
    names = [os.urandom(50).hex() for _ in range(300)]
    pq.write_table(pa.table({"image": [b"x"] * 300, "name": names}), tmp_path / "x.parquet", compression="zstd", use_dictionary=False)
    (piece,), _ = planned([tmp_path / "x.parquet"], tmp_path / "out")
    data = bytearray(piece.source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    piece.source.write_bytes(data)
    tally = restore_tables([piece.source], out=tmp_path / "out", cluster=Here(), model=net, severity=0.5, sampler=None)
    assert (tally.done, len(tally.failed), {one.broken for one in tally.failed}) == (0, 300, {True})
    assert len({one.reason for one in tally.failed}) == 1
    assert "OSError" not in tally.failed[0].reason
    assert not piece.target.exists()


def test_a_disk_that_does_not_read_a_table_is_no_disk_that_takes_no_other(many, tmp_path, net, monkeypatch):
    for name in ("x", "y"):
        table(many, tmp_path / f"{name}.parquet", columns="path", size=100)
    whole, calls = pq.ParquetFile.iter_batches, list[int]()

    def failing(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return whole(self, *arguments, **keywords)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing)
    given = [tmp_path / "x.parquet", tmp_path / "y.parquet"]
    tally = restore_tables(given, out=tmp_path / "out", cluster=Here(), model=net, severity=0.5, sampler=None)
    assert tally.done == 9
    assert {(one.reason, one.broken) for one in tally.failed[:11]} == {("Input/output error", False)}


@pytest.mark.parametrize("size", [10, 2])
def test_a_table_that_is_changed_meanwhile_is_left_out(many, tmp_path, net, size):
    source = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": [b"x"] * 5}), source)

    class Changing(Here):
        @contextlib.contextmanager
        def met(self, device):
            pq.write_table(pa.table({"image": [b"x"] * size}), source)
            with super().met(device) as workers:
                yield workers

    tally = restore_tables([source], out=tmp_path / "out", cluster=Changing(), model=net, severity=0.5, sampler=None)
    assert (tally.done, len(tally.failed)) == (0, 5)
    assert {one.reason for one in tally.failed} == {f"its row group 0 had 5 rows when the run began, and has {size}: start the same command again"}
    assert not (tmp_path / "out" / "x-00000.parquet").exists()


def test_a_folder_that_cannot_be_opened_is_said(tmp_path, monkeypatch):
    (tmp_path / "in" / "shut").mkdir(parents=True)
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "in" / "x.parquet")
    look = os.scandir

    def shut(place="."):
        if str(place).endswith("shut"):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return look(place)

    monkeypatch.setattr(os, "scandir", shut)
    pieces, refused = planned([tmp_path / "in"], tmp_path / "out")
    assert len(pieces) == 1
    assert [(one.source, one.reason) for one in refused] == [(tmp_path / "in" / "shut", "Permission denied")]


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


def test_no_table_is_overwritten_by_a_restoration(tmp_path):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "a-00000.parquet")
    (tmp_path / "a.parquet").symlink_to("a-00000.parquet")
    with pytest.raises(ValueError, match="would be overwritten by its own restoration"):
        planned([tmp_path / "a.parquet"], tmp_path)
    (tmp_path / "a.parquet").unlink()
    pq.write_table(pa.table({"image": [b"y"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a-00000.parquet would be overwritten by the restoration of .*a.parquet: choose another --out"):
        planned([tmp_path / "a.parquet", tmp_path / "a-00000.parquet"], tmp_path)


def test_results_are_no_input_of_the_next_run(tmp_path, monkeypatch):
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "x.parquet")
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path, tmp_path / "link", Path(".")):
        with pytest.raises(ValueError, match="would be restored by the next run: choose another --out"):
            planned([tmp_path], out)
    assert len(planned([tmp_path / "x.parquet"], tmp_path)[0]) == 1
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "x-00000.parquet")  # as a run would
    assert len(planned([tmp_path / "x.parquet"], tmp_path)[0]) == 1


@pytest.mark.parametrize("holds", [{"caption": ["a"]}, {"image": [1]}])
def test_a_table_without_pictures_in_a_folder_is_left_out_and_said(holds, many, net, tmp_path):
    place, said = tmp_path / "tables", list[str]()
    place.mkdir()
    pq.write_table(pa.table(holds), place / "captions.parquet")
    table(many, place / "x.parquet", columns="path", size=100)
    given = {"model": net, "severity": 0.5, "sampler": None}
    tally = restore_tables([place], out=tmp_path / "out", cluster=Here(), say=said.append, **given)
    assert (tally.done, tally.failed[0].source) == (9, place / "captions.parquet")
    assert said[0].startswith(f"left out {place / 'captions.parquet'}: ")
    assert "image" in said[0]
    for more in ([], [place]):
        with pytest.raises(ValueError, match=r"captions.parquet: .*image"):
            planned([place / "captions.parquet", *more], tmp_path / "out")


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
