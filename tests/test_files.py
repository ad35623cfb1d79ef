"""Files are whole or not there, and what is not what its name says is a BadFile."""

import json
import os
import stat
import struct
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt import disk, files
from snowmelt.disk import replacing, replacing_folder
from snowmelt.files import BadFile, read_json, read_tensors, sha256, write_bytes, write_json, write_tensors, write_text
from snowmelt.model import load


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 4, generator=generator),
        "steps": torch.arange(5),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "half": torch.randn(2, 2, generator=generator).bfloat16(),
        "columns": torch.randn(3, 4, generator=generator).mT,
        "empty": torch.empty(0, 3),
    }


def header(text: bytes, rest: bytes = b"\0" * 8) -> bytes:
    return struct.pack("<Q", len(text)) + text + rest


# --- writing ---------------------------------------------------------------------------------------------


def test_replacing_leaves_the_new_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.txt"]


@pytest.mark.parametrize("reason", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, reason):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise reason

    with pytest.raises(reason):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_reported_with_the_path_and_what_is_free(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match=r"cannot write .*a\.txt: No space left on device \([\d,]+ bytes free in ") as caught, replacing(path):
        raise OSError(28, "No space left on device")
    assert caught.value.errno == 28
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_is_a_file_is_reported_with_the_path(tmp_path):
    write_text(tmp_path / "a", "")
    with pytest.raises(OSError, match=r"cannot write .*b\.txt"):
        write_text(tmp_path / "a" / "b.txt", "")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_files_have_the_mode_any_new_file_has(tmp_path):
    write_text(tmp_path / "ours", "")
    (tmp_path / "theirs").write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "theirs")]
    assert modes[0] == modes[1]


# --- JSON ------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists
    )
)
def test_json_comes_back(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "round.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_cannot_hold_infinity_and_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": 2})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", float("inf"))
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1,\n  "a": 2\n}\n'


HOSTILE = [
    pytest.param(b"", id="empty"),
    pytest.param(b'{"a": ', id="half"),
    pytest.param(b"\x80\x81\xff", id="binary"),
    pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep"),
    pytest.param(b"9" * 5_000, id="digits"),
]


@pytest.mark.parametrize("data", HOSTILE)
def test_what_is_not_json_is_a_bad_file(tmp_path, data):
    write_bytes(tmp_path / "a.json", data)
    with pytest.raises(BadFile, match=r"a\.json is not a JSON file"):
        read_json(tmp_path / "a.json")


def test_a_huge_json_file_is_not_even_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 10)
    write_json(tmp_path / "a.json", "0123456789")
    with pytest.raises(BadFile, match="has 13 bytes; a JSON file of snowmelt has at most 10"):
        read_json(tmp_path / "a.json")


def test_no_file_is_no_bad_file(tmp_path):
    for read in (read_json, read_tensors):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "nothing")


# --- tensors ---------------------------------------------------------------------------------------------


def test_tensors_come_back(tmp_path):
    write_tensors(tmp_path / "a.safetensors", tensors())
    found = read_tensors(tmp_path / "a.safetensors")
    assert found.keys() == tensors().keys()
    for name, value in tensors().items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_tensors_that_need_gradients_are_stored(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"w": torch.ones(2, requires_grad=True)})
    assert not read_tensors(tmp_path / "a.safetensors")["w"].requires_grad


def test_a_truncated_file_is_a_bad_file_at_every_length(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, tensors())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFile, match=r"a\.safetensors"):
            read_tensors(path)


def test_a_flipped_bit_in_the_header_never_ends_in_anything_but_a_bad_file(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"weight": torch.randn(3, 4), "steps": torch.arange(5)})
    whole = path.read_bytes()
    survived = 0
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    for i in range(end):
        for bit in (0, 2, 5, 7):
            path.write_bytes(whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
            try:
                found = read_tensors(path)
            except BadFile:
                continue
            survived += 1  # another name, or a type of the same size
            assert len(found) == 2
    assert survived < 0.1 * 4 * end


def test_a_header_that_names_a_tensor_twice_is_a_bad_file(tmp_path):
    entry = b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    write_bytes(tmp_path / "once.safetensors", header(b"{" + entry + b"}"))
    write_bytes(tmp_path / "twice.safetensors", header(b"{" + entry + b"," + entry + b"}"))
    assert read_tensors(tmp_path / "once.safetensors")["a"].tolist() == [0, 0]
    with pytest.raises(BadFile, match=r"twice\.safetensors is damaged: its header names a tensor twice"):
        read_tensors(tmp_path / "twice.safetensors")


def test_a_huge_header_is_refused_before_it_is_read(tmp_path):
    write_bytes(tmp_path / "a.safetensors", struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(BadFile, match="is not a safetensors file, or is cut short"):
        read_tensors(tmp_path / "a.safetensors")
    with (tmp_path / "b.safetensors").open("wb") as file:  # large enough for what it claims, yet no header of ours
        file.write(struct.pack("<Q", files.MAX_HEADER_BYTES + 1) + b"{}")
        file.truncate(files.MAX_HEADER_BYTES + 100)
    with pytest.raises(BadFile, match="is not a safetensors file, or is cut short"):
        read_tensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize("text", [*HOSTILE, b"[]", b"null", b'{"a":3}', b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,8]}}'])
def test_hostile_headers_are_bad_files(tmp_path, text):
    write_bytes(tmp_path / "a.safetensors", header(text))
    with pytest.raises(BadFile, match=r"a\.safetensors"):
        read_tensors(tmp_path / "a.safetensors")


def test_a_pickle_is_a_bad_file_and_is_not_run(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(BadFile):
        read_tensors(tmp_path / "a.safetensors")


def test_sha256(tmp_path):
    write_bytes(tmp_path / "a", b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_is_utf8(tmp_path):
    write_text(tmp_path / "a.json", json.dumps("σ", ensure_ascii=False))
    assert read_json(tmp_path / "a.json") == "σ"


# --- tensors under the name of their content ----------------------------------------------------------------


def test_hashed_tensors_come_back_and_what_is_not_kept_goes(tmp_path):
    first, second = (files.write_hashed(tmp_path, "weights", {"a": torch.full((2,), float(value))}) for value in (1, 2))
    other = files.write_hashed(tmp_path, "other", {"b": torch.zeros(1)})
    assert files.read_hashed(tmp_path, first, "info.json")["a"].tolist() == [1, 1]
    files.sweep_hashed(tmp_path, {second["file"]}, "weights")
    assert set(os.listdir(tmp_path)) == {second["file"], other["file"]}
    with pytest.raises(BadFile, match=r"info\.json names weights-.*, which is missing"):
        files.read_hashed(tmp_path, first, "info.json")
    (tmp_path / first["file"]).write_bytes((tmp_path / second["file"]).read_bytes())
    with pytest.raises(BadFile, match=r"is damaged: its SHA-256 is not the one in info\.json"):
        files.read_hashed(tmp_path, first, "info.json")
    files.sweep_hashed(tmp_path, {other["file"]})
    assert os.listdir(tmp_path) == [other["file"]]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "run"

    def interrupted() -> None:
        with replacing_folder(path) as made:
            (made / "half").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path / "deep") == []
    for name in ("old", "new"):
        with replacing_folder(path) as made:
            (made / name).write_text("")
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path / "deep") == ["run"]


def test_the_hash_of_a_file_of_tensors_is_returned(tmp_path):
    assert write_tensors(tmp_path / "some", tensors()) == sha256(tmp_path / "some")
    assert write_tensors(tmp_path / "none", {}) == sha256(tmp_path / "none")


def test_no_temporary_file_of_another_name_is_ever_made(tmp_path, monkeypatch):
    """One that the library makes has a name of its own, which nobody sweeps up after a kill."""
    seen = []
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.extend(os.listdir(tmp_path)), flush(handle)))
    write_tensors(tmp_path / "a.safetensors", tensors())
    assert seen
    assert all(name.startswith((".a.safetensors.", "a.safetensors")) for name in seen)


def test_what_killed_processes_left_is_swept_up(tmp_path):
    for name in (".a.json.x1y.part", ".a.jsonl.x1y.part", "a.json.x1y.part", ".b.json.x1y.part"):
        (tmp_path / name).write_text("")
    disk.sweep_parts(tmp_path, "a.json", "c*")
    assert set(os.listdir(tmp_path)) == {".a.jsonl.x1y.part", "a.json.x1y.part", ".b.json.x1y.part"}


def test_a_name_as_long_as_a_name_may_be_can_be_written(tmp_path):
    name = "雪" * 84 + ".md"  # 254 bytes
    write_text(tmp_path / name, "x")
    assert os.listdir(tmp_path) == [name]


# --- seals -----------------------------------------------------------------------------------------------

TABLE = {"format": 3, "rate": 1e-05, "name": "σ", "inner": {"b": [1, 2.5, None, True], "a": {}}}


def test_a_sealed_table_comes_back_however_it_is_laid_out(tmp_path):
    path = tmp_path / "a.json"
    files.write_sealed(path, TABLE)
    assert files.read_sealed(path, 3) == TABLE
    text = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted(text.items(), reverse=True)), ensure_ascii=False), encoding="utf-8")
    assert files.read_sealed(path, 3) == TABLE
    files.write_sealed(path, text | {"rate": 2})  # read, changed and written: with a seal of its own
    assert files.read_sealed(path, 3) == TABLE | {"rate": 2}


CHANGES = [{"rate": 1.0000000000000002e-05}, {"name": "s"}, {"more": None}, {"inner": {}}, {"seal": None}, {"seal": "0" * 64}]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("required", [True, False])
def test_a_change_behind_the_back_of_the_seal_is_a_bad_file(tmp_path, change, required):
    path = tmp_path / "a.json"
    files.write_sealed(path, TABLE)
    write_json(path, read_json(path) | change)
    with pytest.raises(BadFile, match=r"a\.json is damaged, or was changed after it was written" + ("$" if required else "; remove the line")):
        files.read_sealed(path, 3, required=required)


def test_the_line_of_the_seal_can_be_taken_out_where_none_is_required(tmp_path):
    path = tmp_path / "a.json"
    files.write_sealed(path, TABLE)
    path.write_text("".join(line for line in path.read_text().replace("1e-05", "2e-05").splitlines(keepends=True) if '"seal"' not in line))
    assert files.read_sealed(path, 3, required=False) == TABLE | {"rate": 2e-05}
    with pytest.raises(BadFile, match=r"a\.json is damaged"):
        files.read_sealed(path, 3)
    with pytest.raises(BadFile, match="has format 3; this snowmelt"):
        files.read_sealed(path, 2, required=False)


@pytest.mark.parametrize("data", [*HOSTILE, b"[]", b"3", b"null", b'{"seal": []}', b'{"format": NaN, "seal": "x"}'])
def test_what_is_no_sealed_table_is_a_bad_file(tmp_path, data):
    write_bytes(tmp_path / "a.json", data)
    for required in (True, False):
        with pytest.raises(BadFile, match=r"a\.json"):
            files.read_sealed(tmp_path / "a.json", 3, required=required)


def test_links_of_a_store_are_followed_in_the_package_alone(tmp_path, monkeypatch):
    """Some installers lay a package out as links; of a stranger's directory the same is refused."""
    store, here = tmp_path / "store", tmp_path / "package" / "shipped" / "one"
    store.mkdir()
    here.mkdir(parents=True)
    for place, name in ((store, "3f2a"), (here, "own")):
        (place / name).write_bytes(b"x")
    (here / "linked").symlink_to(store / "3f2a")
    files.require_inside(here, here / "own")
    with pytest.raises(files.BadFile, match=r"leads out of .*cp -rL"):
        files.named_file(here, "linked", "model.json")
    monkeypatch.setattr(files, "_OURS", (tmp_path / "package").resolve())
    assert files.named_file(here, "linked", "model.json") == here / "linked"
    (tmp_path / "package-of-another").mkdir()
    (tmp_path / "package-of-another" / "linked").symlink_to(store / "3f2a")
    with pytest.raises(files.BadFile, match="leads out of"):
        files.named_file(tmp_path / "package-of-another", "linked", "model.json")


def test_the_models_that_come_with_the_package_load_where_it_is_laid_out_as_links(tmp_path, monkeypatch):
    shipped = Path(files.__file__).parent / "shipped" / "photo"
    here = tmp_path / "package" / "shipped" / "photo"
    here.mkdir(parents=True)
    for file in shipped.iterdir():
        (here / file.name).symlink_to(file)
    monkeypatch.setattr(files, "_OURS", (tmp_path / "package").resolve())
    assert load(here).degradation == load("photo").degradation
