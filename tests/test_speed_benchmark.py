"""`make bench`: ratios are what they say, everything runs with and without the peers, and docs/speed.md says what the kept measurement says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import snowmelt
from snowmelt.pictures import between_markers
from snowmelt.samplers import TACoS
from snowmelt.types import State

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    """The modules of benchmarks/ import each other; afterwards none of them stays."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(FOLDER)):
            del sys.modules[name]


class Clock:
    """Seconds that pass when somebody works."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, []

    def work(self, name: str, cost: float):
        def way() -> None:
            self.order.append(name)
            self.now += cost

        return way


# --- timing ------------------------------------------------------------------------------------------------


def test_a_ratio_is_the_first_way_s_time_over_a_way_s_own() -> None:
    import timing

    clock = Clock()
    ways = {"slow": clock.work("slow", 3.0), "fast": clock.work("fast", 1.5), "slower": clock.work("slower", 6.0)}
    found = timing.interleaved(ways, runs=3, clock=lambda: clock.now)
    assert found == {"slow": (1, 1, 1), "fast": (2, 2, 2), "slower": (0.5, 0.5, 0.5)}


def test_ways_are_timed_in_turn_each_warmed_up_once() -> None:
    import timing

    clock = Clock()
    timing.interleaved({name: clock.work(name, 1.0) for name in "ab"}, runs=2, clock=lambda: clock.now)
    assert "".join(clock.order) == "ab" + "abab"


def test_a_short_way_is_repeated_and_its_mean_is_taken() -> None:
    import timing

    clock = Clock()
    found = timing.seconds({"short": clock.work("short", 0.02)}, runs=1, least_s=0.05, clock=lambda: clock.now)
    assert found["short"] == [pytest.approx(0.02)]
    assert len(clock.order) == 1 + 3


def test_a_drift_of_the_machine_leaves_the_ratio() -> None:
    import timing

    clock, pace = Clock(), [1.0]

    def way(cost: float):
        def go() -> None:
            clock.now += cost * pace[0]

        return go

    def drifting() -> None:
        pace[0] *= 1.0 if clock.now == 0 else 1.5
        clock.now += 4.0 * pace[0]

    found = timing.interleaved({"first": drifting, "second": way(2.0)}, runs=5, clock=lambda: clock.now)
    assert found["second"] == pytest.approx((2.0, 2.0, 2.0))


def test_a_ratio_has_its_median_and_its_range() -> None:
    import timing

    assert timing.over([2.0, 9.0, 4.0], [1.0, 3.0, 2.0]) == (2.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="at least one of each"):
        timing.seconds({}, runs=1)


# --- tables ------------------------------------------------------------------------------------------------

ROWS = [
    {"what": "a peer", "pictures/s": 35.123, "ratio": 3.5, "low": 3.1, "high": 3.9, "goal": 3.0},
    {"what": "another", "pictures/s": 1234.5, "ratio": 2.0, "low": 2.0, "high": 2.0, "goal": 3.0},
    {"what": "a third", "skipped": "not installed", "goal": 3.0},
    {"what": "start", "s": 0.4, "ratio": 5.0, "limit_s": 0.5},
]


def kept(rows) -> dict:
    where = {"device": "a machine", "threads": "1", "torch": "2", "commit": "abc"}
    return {"title": "A section", "about": "Words.", "at": "2026-01-01", "environment": where, "runs": 5, "rows": rows}


def test_a_table_says_ratio_range_and_whether_what_was_wanted_was_reached() -> None:
    import tables

    lines = tables.table(ROWS).splitlines()
    assert lines[0] == "| what | pictures/s | s | ratio | wanted |"
    assert lines[2] == "| a peer | 35.1 |  | 3.5 (3.1 to 3.9) | at least 3: reached |"
    assert lines[3] == "| another | 1,234 |  | 2 | at least 3: **missed** |"
    assert lines[4] == "| a third |  |  | not installed | at least 3: not measured |"
    assert lines[5] == "| start |  | 0.4 | 5 | at most 0.5 s: reached |"


def test_goals_stand_together_and_of_many_alike_the_worst() -> None:
    import tables

    many = [{"what": str(i), "px": 32, "ratio": 0.01 * i, "of a sampling step": 0.001 * i} for i in range(1, 8)]
    text = tables.goals({"training_step": kept(ROWS), "degrading": kept(many)})
    assert text.count("**missed**") == 2
    assert "| worst of 7: 7, 32 px (5 within) | at most 0.05 | 0.07 | **missed** |" in text
    assert "| worst of 7: 7, 32 px, of a sampling step (7 within) | at most 0.02 | 0.007 | reached |" in text
    assert tables.goals({}) == tables.UNMEASURED


def test_a_page_is_written_between_its_markers_only() -> None:
    import tables

    page = "before\n<!-- begin one -->\nold\n<!-- end one -->\nbetween\n<!-- begin goals -->\n<!-- end goals -->\nafter\n"
    new = tables.page(page, {})
    assert new == tables.page(new, {})
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert "old" not in new
    assert new.count(tables.UNMEASURED) == 2
    assert "35.1" in tables.page(page, {"one": kept(ROWS)})
    with pytest.raises(ValueError, match="0 pairs of markers for one"):
        between_markers("<!-- begin one -->", "one", "")


def test_two_runs_agree_within_fifteen_per_cent() -> None:
    import tables

    changed = [{**row, "ratio": row["ratio"] * 1.1, "pictures/s": 7.0} if "ratio" in row else row for row in ROWS]
    good, words = tables.agree({"one": kept(ROWS)}, {"one": kept(changed)})
    assert good, words
    assert "3 ratios; the largest disagreement is 10.0%" in words
    changed[1] = {**changed[1], "ratio": 1.7}
    good, words = tables.agree({"one": kept(ROWS)}, {"one": kept(changed)})
    assert not good
    assert "17.6% (one: another: 2 and 1.7); 1 beyond 15%" in words
    assert not tables.agree({"one": kept(ROWS)}, {"two": kept(ROWS)})[0]


def test_what_only_one_of_two_runs_has_is_named_and_no_agreement() -> None:
    import tables

    fewer, skipped = ROWS[1:], [{"what": "a peer", "skipped": "not installed", "goal": 3.0}, *ROWS[1:]]
    for other in (fewer, skipped):
        good, words = tables.agree({"one": kept(ROWS)}, {"one": kept(other)})
        assert not good
        assert words.endswith("1 in one file only: one: a peer")
    good, words = tables.agree({"one": kept(ROWS), "two": kept(ROWS)}, {"one": kept(ROWS)})
    assert (good, words.rpartition("; ")[2]) == (False, "1 in one file only: section two")
    assert tables.agree({"one": kept(skipped)}, {"one": kept(skipped)})[0]


def test_the_timed_steps_of_a_walk_cost_what_all_of_them_do() -> None:
    import whole_walks

    for case in whole_walks.CASES:
        steps = snowmelt.build(case.spec).steps
        timed = whole_walks.timed_steps(steps, case.every)
        assert sum(timed) / len(timed) == pytest.approx((steps + 1) / 2, abs=0.5)


def test_rows_of_one_name_are_told_apart_by_their_whole_numbers() -> None:
    import tables

    rows = [{"what": "blur", "px": 32, "ratio": 1.0}, {"what": "blur", "px": 64, "ratio": 9.0}]
    assert tables.agree({"one": kept(rows)}, {"one": kept(rows[::-1])})[0]


def test_the_page_says_what_is_kept() -> None:
    import run
    import tables

    page = run.PAGE.read_text(encoding="utf-8")
    assert page == tables.page(page, {**run.read(run.KEPT), **run.read(run.GPU)}), "python benchmarks/run.py --tables writes it anew"
    for name in (*run.SECTIONS, "goals", "gpu"):
        assert f"<!-- begin {name} -->" in page, name


# --- the paper's network and walk --------------------------------------------------------------------------


def test_the_paper_s_network_has_the_published_size() -> None:
    import nets
    import paper

    net = paper.ConvNeXtUNet()
    assert nets.parameters(net) == pytest.approx(56.6, abs=0.05)
    x = torch.zeros(1, 3, 32, 32)
    assert nets.flops(nets.call(net, x, torch.ones(1), bf16=False)) / 1e9 == pytest.approx(4.21, abs=0.01)


@pytest.mark.parametrize("spec", ["recursive-blur:steps=6", "recursive-blur:routine=special-6,steps=6"])
def test_the_paper_s_walk_is_ours(spec) -> None:
    import paper

    blur = snowmelt.build(spec)
    x = blur(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.ones(2))

    def net(x, step):
        return torch.tanh(x * 1.5) + 0.1 * step[:, None, None, None]

    model = snowmelt.Model(blur, lambda x, t: net(x, t * 6 - 1))
    ours = TACoS(steps=6, snap=True).sample(model, State(x, 1.0, {}))
    torch.testing.assert_close(paper.walk(net, blur, x), ours, atol=1e-5, rtol=0)


def test_networks_have_as_many_parameters_as_ours() -> None:
    import nets

    ours = nets.parameters(nets.lean())
    for name in (nets.DIFFUSERS, nets.PAPER):
        assert nets.parameters(nets.made(name)) == pytest.approx(ours, rel=0.1), name


def test_a_peer_that_is_not_installed_is_no_error(monkeypatch) -> None:
    import nets

    monkeypatch.setitem(sys.modules, "denoising_diffusion_pytorch", None)
    assert nets.made(nets.LUCIDRAINS) is None


def test_stand_ins_are_forgotten_and_used_by_nobody_else() -> None:
    import nets

    with nets.stand_ins():
        from torchvision import transforms

        if "stand_ins" in transforms.__file__:
            with pytest.raises(RuntimeError, match="not here"):
                transforms.Resize(3)
    assert not [name for name in sys.modules if "stand_ins" in (getattr(sys.modules[name], "__file__", None) or "")]


# --- everything runs ---------------------------------------------------------------------------------------


def test_all_sections_run_quickly(tmp_path, capsys) -> None:
    import run

    assert run.run(run.SECTIONS, runs=1, quick=True, out=tmp_path / "speed.json") == [], capsys.readouterr().err
    found = run.read(tmp_path / "speed.json")
    assert tuple(found) == run.SECTIONS
    for name, section in found.items():
        assert section["rows"], name
        assert {"title", "about", "at", "environment", "runs"} <= section.keys()
        for row in section["rows"]:
            assert next(iter(row)) == "what", name
            assert "skipped" in row or row["ratio"] > 0 or "ratio" not in row, (name, row)


def test_a_section_that_fails_leaves_the_others(tmp_path, monkeypatch) -> None:
    import closed_form
    import run

    monkeypatch.setattr(closed_form, "measure", lambda **_: 1 / 0)
    assert run.run(["closed_form", "scaling"], runs=1, quick=True, out=tmp_path / "a.json") == ["closed_form"]
    assert list(run.read(tmp_path / "a.json")) == ["scaling"]


def test_growth_is_the_last_point_over_the_first() -> None:
    import scaling

    curve = scaling.Curve("a step", "px", (32, 64, 128), lambda px: lambda: px)
    row = scaling._row("time", curve, [[1.0, 2.0], [4.0, 8.0], [16.0, 32.0]])
    assert (row["x 2"], row["x 4"], row["ratio"], row["slope"]) == (4, 16, 16, 2)
    for name, svg in scaling.draw([row]).items():
        assert ("circle" in svg) == ("time" in name)


def test_memory_that_is_taken_is_seen() -> None:
    import memory

    taken = memory.rise(lambda: torch.ones(20_000_000).sum())
    assert 60e6 < taken < 160e6


# --- the GPU's pieces, on the CPU --------------------------------------------------------------------------

WITHOUT = "import sys; sys.modules.update(cyclopts=None, diffusers=None, tomli_w=None, imagecodecs=None); sys.argv = sys.argv[1:]\n"
RUN = "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_every_piece_runs_without_what_the_gpu_s_machine_lacks(tmp_path) -> None:
    code = WITHOUT + (
        "from pathlib import Path; sys.path.insert(0, 'benchmarks'); import torch; torch.set_num_threads(1); import gpu\n"
        "for piece in gpu.PIECES: gpu.written(piece, Path(sys.argv[0]), smoke=True)"
    )
    environment = {**os.environ, "PYTHONPATH": "src"}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    import gpu

    assert {file.stem for file in tmp_path.iterdir()} == set(gpu.PIECES)
    assert gpu.gathered(tmp_path) is None  # nothing that was measured on a CPU is kept
    sampled = json.loads((tmp_path / "sample-32.json").read_text())["rows"]
    assert [row["largest difference"] < 1e-5 for row in sampled if "largest difference" in row] == [True]
    real = tmp_path / "train-32.json"
    real.write_text(real.read_text().replace('"cuda": false', '"cuda": true'))
    assert gpu.gathered(tmp_path)["rows"]


def test_a_piece_that_is_done_is_not_done_again(tmp_path, monkeypatch) -> None:
    import gpu

    calls = []
    monkeypatch.setitem(gpu.PIECES, "operators", lambda *, smoke: calls.append(smoke) or [{"what": "x", "ratio": 1.0}])
    for _ in range(2):
        gpu.written("operators", tmp_path, smoke=True)
    assert calls == [True]


def test_parts_of_a_training_stay_until_new_ones_are_whole(tmp_path) -> None:
    python, out = tmp_path / "python", tmp_path / "out"
    python.write_text('#!/bin/bash\nfolder="${6}"; mkdir -p "$folder"; echo more >> "$folder/log"\n')  # gpu_train.py RECIPE --data D --run FOLDER
    python.chmod(0o755)
    environment = {**os.environ, "OUT": str(out), "PYTHON": str(python)}
    command = ["bash", "benchmarks/gpu.sh", "train", "photo", str(tmp_path)]
    for _ in range(2):
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert list(before) == ["photo.tar.part-aa"]
    assert before["photo.tar.part-aa"].count(b"more") == 2
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "split").write_text("#!/bin/bash\nexit 1\n")
    (broken / "split").chmod(0o755)
    assert subprocess.run(command, cwd=ROOT, env={**environment, "PATH": f"{broken}:{os.environ['PATH']}"}).returncode != 0
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_training_on_the_gpu_s_machine_goes_on_where_time_ran_out(tmp_path) -> None:
    """The script packs the run directory in parts and takes it up again; absent data are skipped."""
    script = ["bash", "benchmarks/gpu.sh", "train"]
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*script, "photo", str(tmp_path / "none")], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, "skipped" in done.stdout) == (0, True), done.stderr
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        'degradation = "gaussian-blur"\n[data]\npath = "bundled:digits"\n[model]\nbackbone = "unet:widths=(8,),blocks=1"\n'
        "[training]\nimages = 64\nbatch = 16\nvalidate_every = 64\nvalidation_images = 8\n"
    )
    command = [sys.executable, "benchmarks/gpu_train.py", str(recipe), "--data", "bundled:digits", "--run", str(tmp_path / "run")]
    for seconds, said in (("0", "the same command goes on"), ("500", "finished")):
        done = subprocess.run([*command, "--seconds", seconds], cwd=ROOT, env={**environment, "PYTHONPATH": "src"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if seconds == "500":
            assert said in done.stdout
