"""Tables of pictures become tables of what folders become."""

import pytest
import torch
from tests.restoration.cluster.handing import MARKS, Here, lines, pa, pq, table

from snowmelt.cli import main
from snowmelt.data.images import read
from snowmelt.restoration import restore_folder
from snowmelt.restoration.errands import Outcome, carried_out
from snowmelt.restoration.rows import TableErrand, Told, piece_text, restore_piece
from snowmelt.restoration.tables import planned, restore_tables
from snowmelt.restoration.work import Work

pytestmark = MARKS


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


def test_names_and_pictures_may_be_of_the_large_kinds(tmp_path, draw, net):
    image = draw(tmp_path / "a.png").read_bytes()
    large = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": image, "path": "deep/a.png"}], large)}), tmp_path / "x.parquet")
    (piece,), _ = planned([tmp_path / "x.parquet"], tmp_path / "out")
    restore_piece(Work(net, "", "", 0.5, None), 1, piece, Told(0))
    assert pq.read_table(piece.target).column("path").to_pylist() == ["deep/a.png"]


def test_a_table_has_no_row_groups_without_rows(many, tmp_path, net, monkeypatch):
    table(many, tmp_path / "x.parquet", columns="path", size=100)
    (piece,), _ = planned([tmp_path / "x.parquet"], tmp_path / "out")
    monkeypatch.setattr("snowmelt.restoration.rows._FLUSHED", 0)
    restore_piece(Work(net, "", "", 0.5, None), 1, piece, Told(0))
    made = pq.ParquetFile(piece.target).metadata
    assert (made.num_rows, min(made.row_group(i).num_rows for i in range(made.num_row_groups))) == (11, 1)
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), tmp_path / "empty.parquet")
    (piece,), _ = planned([tmp_path / "empty.parquet"], tmp_path / "out")
    restore_piece(Work(net, "", "", 0.5, None), 1, piece, Told(0))
    assert pq.read_table(piece.target).column_names == ["path", "image", "severity", "error"]


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
