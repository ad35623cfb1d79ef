"""Pictures by the thousand: the same files whatever was interrupted, killed, shared out or short of memory."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import snowmelt
from snowmelt.data.images import read, to_uint8
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.registry import build
from snowmelt.restoration import sample_folder, sampling
from snowmelt.restoration.identity import Opened
from snowmelt.restorers import Restorer
from snowmelt.stopping import Stopped

WALK = "ancestral:steps=2"
MAKE = """
import itertools, torch, sys, time
from snowmelt.model import Model
from snowmelt.priors import Normal
from snowmelt.registry import build
from snowmelt.restoration import sample_folder
from snowmelt.restoration.identity import Opened
from snowmelt.restorers import Restorer

def opened(seed=0, wait=0.0, last=0):
    torch.manual_seed(seed)
    D = build("noise")
    restorer = Restorer(D, build("unet:widths=(8,16),patch=2,groups=4,blocks=1", "backbone"), (1, 8, 8))
    for weight in restorer.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    calls = itertools.count(1)
    restorer.net.register_forward_pre_hook(lambda *_: time.sleep(250 if next(calls) == last else wait))  # whoever kills it there may be slow
    return Opened(Model(D, restorer.eval().requires_grad_(False), Normal(shape=(1, 8, 8))), "tiny", f"weights {seed}")
"""
SCRIPT = f"""{MAKE}
import torch
torch.set_num_threads(1)
model = opened(wait=0.01, last=int(sys.argv[2]))
print("ready", flush=True)
sample_folder(model, sys.argv[1], n=60, sampler="{WALK}", batch=4)
"""


def opened(seed: int = 0) -> Opened:
    space: dict = {}
    exec(MAKE, space)  # noqa: S102 - the very same model as in the other process
    return space["opened"](seed)


def digests(place: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in place.glob("sample_*.png")}


def make(out: Path, n: int = 22, **options: object) -> sampling.Sampled:
    return sample_folder(opened(), out, **{"n": n, "sampler": WALK, "batch": 4, **options})  # type: ignore[arg-type]


def test_killed_at_any_moment_the_same_call_ends_in_the_same_files(tmp_path: Path) -> None:
    out, chance, kills = tmp_path / "out", random.Random(0), 0
    for last in (12, 4, 8):  # of the thirty calls that it takes
        with subprocess.Popen([sys.executable, "-c", SCRIPT, out, str(last)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 + chance.random() * 0.25)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        for path in out.glob("sample_*.png"):
            read(path)  # whole
    assert kills == 3
    done = sample_folder(opened(), out, n=60, sampler=WALK, batch=4)
    assert done.done + done.kept == 60
    make(tmp_path / "whole", n=60)
    assert digests(out) == digests(tmp_path / "whole")
    assert {p.name for p in out.iterdir()} == {*digests(tmp_path / "whole"), "sample.json"}


def test_after_control_c_the_block_is_written_and_the_same_call_goes_on(tmp_path: Path) -> None:
    model, calls = opened(), [0]

    def ask(*_: object) -> None:
        calls[0] += 1
        if calls[0] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    assert isinstance(model.model.restorer, Restorer)
    handle = model.model.restorer.net.register_forward_pre_hook(ask)
    with pytest.raises(Stopped, match=r"interrupted: \d+ of 22 pictures are done; the same command goes on"):
        sample_folder(model, tmp_path / "out", n=22, sampler=WALK, batch=4)
    handle.remove()
    there = len(digests(tmp_path / "out"))
    assert there % 4 == 0
    assert 0 < there < 22
    done = make(tmp_path / "out")
    assert (done.kept, done.done) == (there, 22 - there)
    make(tmp_path / "whole")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_shards_in_any_order_make_the_whole_and_a_gap_in_a_block_is_filled_exactly(tmp_path: Path) -> None:
    make(tmp_path / "whole")
    for share in (3, 1, 2):
        made = make(tmp_path / "parts", shard=(share, 3), batch=None if share != 3 else 4)
        assert made.batch == 4, "the first share settles it for all"
        assert (made.missing() == 0) == (share == 2)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    for i in (0, 5, 21):
        made.path(i).unlink()
    (tmp_path / "parts" / ".sample_0005.png.abc.part").write_bytes(b"half")
    assert make(tmp_path / "parts").done == 3
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert not list((tmp_path / "parts").glob(".*"))


def test_a_larger_number_goes_on_and_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path / "out", n=8)
    first = digests(tmp_path / "out")
    assert make(tmp_path / "out", n=10).kept == 8
    assert first.items() <= digests(tmp_path / "out").items()
    others = ({"seed": 1}, {"sampler": "ancestral:steps=3"}, {"number": 9}, {"batch": 8})
    for other in others:
        ((name, value),) = other.items()
        with pytest.raises(ValueError, match=rf"were made with another {name} .*another --out, or add --overwrite"):
            make(tmp_path / "out", **{"n": 10, "n" if name == "number" else name: value})
    with pytest.raises(ValueError, match="another weights_sha256"):
        sample_folder(opened(1), tmp_path / "out", n=10, sampler=WALK)
    assert first.items() <= digests(tmp_path / "out").items()
    again = make(tmp_path / "out", n=5, seed=1, overwrite=True)
    assert (again.done, len(digests(tmp_path / "out"))) == (5, 5), "nothing of the earlier run is left"


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "sample_0000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"exists, and no sample\.json says how it was made: choose another --out, or add --overwrite"):
        make(tmp_path / "strange")
    with pytest.raises(ValueError, match="--overwrite would delete what other shares have made"):
        make(tmp_path / "a", shard=(1, 2), overwrite=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "sample.json").write_text('{"seed": 0}')
    with pytest.raises(ValueError, match=r"another prior \(not said"):
        make(tmp_path / "b")


def test_a_set_that_grows_has_the_files_of_one_made_at_once(tmp_path: Path) -> None:
    model, sizes = opened(), []
    assert isinstance(model.model.restorer, Restorer)
    model.model.restorer.net.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    sample_folder(model, tmp_path / "grown", n=18, sampler=WALK, batch=16)
    assert set(sizes) == {16}, "the last block whole, though two of it are written: its digits depend on how many share a call"
    assert len(digests(tmp_path / "grown")) == 18
    assert make(tmp_path / "grown", n=32, batch=None).kept == 18
    make(tmp_path / "once", n=32, batch=16)
    assert digests(tmp_path / "grown") == digests(tmp_path / "once")


def test_a_batch_is_measured_only_where_nobody_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[int] = []
    fits = sampling.fits
    monkeypatch.setattr(sampling, "fits", lambda *given, **asks: (times.append(1), fits(*given, **asks))[1])
    make(tmp_path / "said", n=2)
    make(tmp_path / "said", n=3, batch=None)
    assert times == []
    make(tmp_path / "found", n=2, batch=None)
    make(tmp_path / "found", n=2, batch=None)
    assert times == [1]


def test_what_else_settles_last_digits_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path, n=2)
    model = opened()
    model.model.restorer.compiled = True  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"were made with another compiled \(False, now True\)"):
        sample_folder(model, tmp_path, n=2, sampler=WALK, batch=4)
    held = json.loads((tmp_path / "sample.json").read_text())
    (tmp_path / "sample.json").write_text(json.dumps({**held, "device": "cuda"}))
    with pytest.raises(ValueError, match=r"were made with another device \('cuda', now 'cpu'\)"):
        make(tmp_path, n=2)


def test_what_was_being_written_counts_after_a_second_control_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = opened(), [0]

    def ask(*_: object) -> None:
        calls[0] += 1
        if calls[0] == 3:  # in the second block, while the first is written
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)

    write = sampling.write
    monkeypatch.setattr(sampling, "write", lambda *given: (time.sleep(0.02), write(*given))[1])
    assert isinstance(model.model.restorer, Restorer)
    model.model.restorer.net.register_forward_pre_hook(ask)
    with pytest.raises(Stopped, match="interrupted: 4 of 22 pictures are done"):
        sample_folder(model, tmp_path, n=22, sampler=WALK, batch=4)
    assert len(digests(tmp_path)) == 4


def test_names_have_the_digits_that_the_number_needs() -> None:
    names = [sampling.named(7, n) for n in (1, 10_000, 10_001, 50_000)]
    assert names == ["sample_0007.png", "sample_0007.png", "sample_00007.png", "sample_00007.png"]


def test_the_packed_array_holds_the_pictures(tmp_path: Path) -> None:
    made = make(tmp_path, n=6)
    with np.load(sampling.pack(made)) as held:
        assert list(held) == ["arr_0"]
        x = held["arr_0"]
    assert (x.shape, x.dtype) == ((6, 8, 8, 1), np.uint8)
    assert all(np.array_equal(x[i], to_uint8(read(made.path(i)).x)) for i in range(6))


def test_without_memory_for_a_block_it_is_made_by_halves_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, sizes = opened(), []

    def small(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        sizes.append(len(given[0]))
        if len(given[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert isinstance(model.model.restorer, Restorer)
    model.model.restorer.net.register_forward_pre_hook(small)
    sample_folder(model, tmp_path / "out", n=12, sampler=WALK, batch=4)
    assert [record.getMessage() for record in caplog.records] == ["out of memory for 4 samples at a time: going on with 2"]
    assert sizes.count(4) == 1
    make(tmp_path / "whole", n=12)
    for a, b in ((read(tmp_path / where / sampling.named(i, 12)).x for where in ("out", "whole")) for i in range(12)):
        assert float((a - b).abs().max()) <= 1.01 / 127.5


def test_generated_and_the_files_are_the_same_pictures(tmp_path: Path) -> None:
    made = make(tmp_path, n=8, seed=3)
    x = torch.cat(list(snowmelt.restoration.generated(opened().model, 8, seed=3, sampler=WALK, batch=4)))
    assert all(torch.equal(torch.from_numpy(to_uint8(x[i])), torch.from_numpy(to_uint8(read(made.path(i)).x))) for i in range(8))
    assert json.loads((tmp_path / "sample.json").read_text())["batch"] == 4
    plain = Model(build("noise"), lambda x, t: x, Normal(shape=(1, 8, 8)))
    assert sample_folder(Opened(plain, "", ""), tmp_path / "plain", n=50, sampler=None).batch == 64
    assert sample_folder(Opened(plain, "", ""), tmp_path / "few", n=17, sampler=None).batch == 32, "not many more than are asked for"
