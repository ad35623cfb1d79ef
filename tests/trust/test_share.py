"""One command in several processes: the files and the numbers of one process, whatever their number."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Start = Callable[..., object]
TIMES = ("seconds",)  # what a journal says of the clock


@pytest.fixture
def counts(rounds: Callable[[int, int], int]) -> tuple[int, ...]:
    """How many processes do the same; four of them in the long run only."""
    return (1, 2, 4)[: rounds(2, 3)]


def listed(counts: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, counts[:-1]))} and {counts[-1]} processes"


@pytest.fixture
def together(command: Start, free_port: Callable[[], int]) -> Callable[..., tuple[list[int], str, str]]:
    """together(n, "sample", ...): exit codes of n processes that know of each other as torchrun's do, what the first printed, and all of stderr."""

    def start(n: int, *arguments: object) -> tuple[list[int], str, str]:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(n)}
        ranks = [{"RANK": str(i), "LOCAL_RANK": str(i), **place} for i in range(n)] if n > 1 else [{}]
        children = [command(*arguments, env=rank) for rank in ranks]
        codes = [child.wait() for child in children]
        return codes, children[0].stdout(), "".join(child.stderr() for child in children)

    return start


def tree(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def journal(place: Path) -> list[dict[str, object]]:
    """The journal without the clock and without the folder."""
    lines = [json.loads(line) for line in (place / "restored.jsonl").read_text().replace(str(place), "OUT").splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines if "run" not in line]


def test_sampling(run: Path, tmp_path: Path, together, counts, figure) -> None:
    found: dict[int, dict[str, bytes]] = {}
    for n in counts:
        out = tmp_path / f"out{n}"
        codes, said, err = together(n, "sample", run, "--number", "22", "--batch", "4", "--steps", "3", "--npz", "--out", out)
        assert codes == [0] * n, err
        assert f"wrote 22 pictures, grid.png, samples.npz to {out} (" in said
        found[n] = tree(out)
    assert len(found[1]) == 22 + len(("sample.json", "grid.png", "samples.npz"))
    assert all(found[n] == found[1] for n in counts)
    codes, said, err = together(2, "sample", run, "--number", "22", "--batch", "4", "--steps", "3", "--out", out, "--overwrite")
    assert (codes, "wrote 22 pictures" in said) == ([0, 0], True), err
    assert {name: data for name, data in found[1].items() if name != "samples.npz"} == tree(out)
    figure("share-sample", f"{listed(counts)}: the same {len(found[1])} files, byte for byte")


def test_restoring(run: Path, tmp_path: Path, together, counts, figure) -> None:
    pictures = tmp_path / "in"
    for i in range(14):
        path = pictures / ("deep" if i % 3 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    (pictures / "a.png").write_bytes(b"no picture")
    (pictures / "deep" / "z.png").write_bytes(b"nor this")
    found, told, said = {}, {}, ""
    for n in counts:
        out = tmp_path / f"out{n}"
        codes, said, err = together(n, "restore", pictures, "--model", run, "--severity", ".5", "--strict", "--out", out)
        assert codes == [1] * n, err  # two could not be read, and --strict says that it matters
        assert err.count("left out") == 2
        assert f"restored 14 pictures of 16 into {out} (" in said
        assert f"; 2 failed, listed in {out / 'errors.jsonl'}" in said
        told[n] = (journal(out), (out / "errors.jsonl").read_text())
        found[n] = {name: data for name, data in tree(out).items() if not name.endswith(".jsonl")}
        assert {path.name for path in out.glob("*.jsonl")} == {"restored.jsonl", "errors.jsonl"}
    assert len(found[1]) == 14
    assert all((found[n], told[n]) == (found[1], told[1]) for n in counts)
    codes, said, err = together(1, "restore", pictures, "--model", run, "--severity", ".5", "--out", out)
    assert codes == [0], err
    assert "restored 0 pictures of 16" in said
    assert "14 already there" in said
    sheets: dict[int, dict[str, bytes]] = {}
    for n in (1, 2):
        codes, said, err = together(n, "restore", pictures, "--model", run, "--severity", ".5", "--preview", "3", "--out", tmp_path / f"sheet{n}")
        assert (codes, "14 pictures ≈ " in said) == ([0] * n, True), err
        sheets[n] = tree(tmp_path / f"sheet{n}")
    assert sheets[1] == sheets[2]
    assert set(sheets[1]) == {"preview.png"}
    figure("share-restore", f"{listed(counts)}: the same {len(found[1])} pictures, journal and list of errors, byte for byte but for the clock")


def test_evaluating(run: Path, tmp_path: Path, together, counts, figure) -> None:
    found: dict[int, dict[str, bytes]] = {}
    words = ("evaluate", run, "--images", "24", "--input", "float", "--generate", "70", "--features", "mnist-v1")
    for n in counts:
        out = tmp_path / f"out{n}"
        codes, said, err = together(n, *words, "--out", out)
        assert codes == [0] * n, err
        assert said.splitlines()[-1] == f"wrote {out / 'report.html'}"
        found[n] = tree(out)
    numbers = len(re.findall(rb"\d\.\d+", found[1]["evaluation.json"]))
    assert all(found[n]["evaluation.json"] == found[1]["evaluation.json"] for n in counts)
    assert all(found[n] == found[1] for n in counts)
    figure("share-evaluate", f"{listed(counts)}: the same report, {numbers} fractions in {len(found[1])} files, byte for byte")


def test_what_only_one_process_does_is_refused_by_name(run: Path, tmp_path: Path, together) -> None:
    asked = {
        ("evaluate", run, "--curve"): "--curve measures in one process",
        ("evaluate", run, "--bits-per-dim"): "--bits-per-dim measures in one process",
        ("sample", run, "--shard", "1/2", "--out", tmp_path / "out"): "--shard 1/2 would share out what 2 processes of torchrun share already",
    }
    for words, why in asked.items():
        codes, _, err = together(2, *words)
        assert codes == [2, 2]
        assert why in err


@pytest.mark.skipif(os.environ.get("SNOWMELT_SOAK", "0") in ("", "0"), reason="torchrun itself takes half a minute: SNOWMELT_SOAK=1")
def test_by_torchrun_itself(run: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    for n in (1, 2, 4):
        for words in (("sample", run, "--number", "9", "--batch", "2", "--steps", "2"), ("evaluate", run, "--images", "30")):
            asked = [str(word) for word in (*torchrun, n, "-m", "snowmelt", *words, "--out", tmp_path / words[0] / str(n))]
            done = subprocess.run(asked, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert tree(tmp_path / words[0] / str(n)) == tree(tmp_path / words[0] / "1")
