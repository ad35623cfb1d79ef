"""Save now and sample now: asked by files, granted between steps, without a trace in the weights."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from snowmelt.processes import Process
from snowmelt.recipes.directory import claim, clear
from snowmelt.recipes.recipe import Recipe
from snowmelt.training import checkpoint, wishes
from snowmelt.training.loop import Trainer


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks after every step."""
    monkeypatch.setattr(wishes, "_LOOK_S", 0.0)


def asking(monkeypatch: pytest.MonkeyPatch, at: dict[int, str]) -> dict[int, dict[str, object]]:
    """Ask after some steps, and say what the newest checkpoint was before each step that follows."""
    advance, seen = Trainer._advance, {}

    def asked(self: Trainer, bar: object) -> None:
        newest = max(self.out.glob("checkpoint-*.json"))
        seen[self.step] = json.loads(newest.read_text())["said"]
        advance(self, bar)  # type: ignore[arg-type]
        if self.step in at:
            wishes.ask(self.out, at[self.step])

    monkeypatch.setattr(Trainer, "_advance", asked)
    return seen


def test_wishes_are_granted_and_the_weights_are_those_of_a_run_without_any(
    small: Callable[..., Trainer], digest: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    small(tmp_path / "quiet", spec="mask+noise", floor=0.02).run()
    seen = asking(monkeypatch, {3: "save", 6: "sample", 7: "save", 10: "save", 13: "sample", 20: "save"})
    small(tmp_path / "asked", spec="mask+noise", floor=0.02).run()
    assert digest(tmp_path / "asked") == digest(tmp_path / "quiet")
    assert [(said["step"], said["regular"]) for step, said in seen.items() if step in (3, 7, 10)] == [(3, False), (7, False), (10, True)]
    grids = {path.name: path.read_bytes() for path in (tmp_path / "asked" / "samples").iterdir()}
    assert sorted(grids) == ["000000000.png", "000000096.png", "000000160.png", "000000208.png", "000000320.png"]
    for path in (tmp_path / "quiet" / "samples").iterdir():
        assert path.read_bytes() == grids[path.name]
    assert not (tmp_path / "asked" / "wishes").exists()


def test_a_run_goes_on_from_where_somebody_had_it_saved(
    small: Callable[..., Trainer], digest: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    small(tmp_path / "whole").run()
    advance = Trainer._advance

    def killed(self: Trainer, bar: object) -> None:
        if self.step == 9:
            raise MemoryError
        advance(self, bar)  # type: ignore[arg-type]
        if self.step == 7:
            wishes.ask(self.out, "save")

    monkeypatch.setattr(Trainer, "_advance", killed)
    with pytest.raises(MemoryError):
        small(tmp_path / "parts").run()
    monkeypatch.undo()
    second = small(tmp_path / "parts")
    assert second.resume()
    assert second.step == 7
    second.run()
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")


def test_a_sample_grid_comes_without_validation_pictures_too(
    small: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    run = small(tmp_path)
    run.validation = run.train.__class__.__new__(run.train.__class__)
    monkeypatch.setattr(type(run.validation), "__len__", lambda self: 0 if self is run.validation else 100)
    asking(monkeypatch, {5: "sample"})
    run.run()
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["000000080.png"]


def test_a_wish_that_cannot_be_granted_is_told_and_ends_no_training(tmp_path: Path, eager: None) -> None:
    def full() -> None:
        raise OSError(28, "no space left on device")

    told: list[str] = []
    book = wishes.Wishes(tmp_path, {"save": full, "sample": lambda: None}, tell=told.append)
    wishes.ask(tmp_path, "save")
    book.look()
    assert len(told) == 1
    assert "'save now' could not be granted, and the training goes on" in told[0]
    assert wishes.asked(tmp_path) == ()


OUT_OF_MEMORY = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000000 bytes."


@pytest.mark.parametrize("error", [RuntimeError(OUT_OF_MEMORY), MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_samples_that_there_is_no_memory_for_end_no_training(tmp_path: Path, eager: None, error: Exception) -> None:
    def greedy() -> None:
        raise error

    told: list[str] = []
    wishes.ask(tmp_path, "sample")
    wishes.Wishes(tmp_path, {"sample": greedy}, tell=told.append).look()
    assert [line.partition(",")[0] for line in told] == ["'sample now' could not be granted"]
    assert wishes.asked(tmp_path) == ()


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("the size of tensor a must match the size of tensor b")])
def test_a_bug_is_not_hidden(tmp_path: Path, eager: None, error: Exception) -> None:
    def bug() -> None:
        raise error

    wishes.ask(tmp_path, "save")
    with pytest.raises(type(error)):
        wishes.Wishes(tmp_path, {"save": bug}).look()


@pytest.mark.parametrize("may_age", [True, False])
def test_what_cannot_be_taken_away_is_granted_once_and_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None, may_age: bool) -> None:
    if not may_age:
        monkeypatch.setattr(wishes, "_aged", lambda path: False)
    (tmp_path / "wishes" / "save").mkdir(parents=True)
    granted: list[str] = []
    told: list[str] = []
    book = wishes.Wishes(tmp_path, {"save": lambda: granted.append("save"), "sample": lambda: granted.append("sample")}, tell=told.append)
    for _ in range(5):
        book.look()
    wishes.ask(tmp_path, "sample")
    book.look()
    assert granted == ["save", "sample"]
    assert len(told) == 1
    assert f"{tmp_path / 'wishes' / 'save'} cannot be taken away" in told[0]
    (tmp_path / "wishes" / "save").rmdir()
    book.look()
    wishes.ask(tmp_path, "save")
    book.look()
    assert granted == ["save", "sample", "save"]
    assert wishes.asked(tmp_path) == ()


@pytest.mark.parametrize("may_age", [True, False])
def test_a_wish_that_is_made_while_the_same_one_is_granted_is_granted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None, may_age: bool
) -> None:
    if not may_age:
        monkeypatch.setattr(wishes, "_aged", lambda path: False)
    granted: list[tuple[str, ...]] = []

    def sample() -> None:
        granted.append(wishes.asked(tmp_path))
        if len(granted) == 1:
            wishes.ask(tmp_path, "sample")

    book = wishes.Wishes(tmp_path, {"sample": sample})
    wishes.ask(tmp_path, "sample")
    for _ in range(4):
        book.look()
    assert granted == [("sample",) if may_age else ()] * 2  # while it is granted one sees that it is not done yet, where that can be
    assert wishes.asked(tmp_path) == ()


def test_a_wish_that_is_a_link_leaves_alone_what_it_leads_to(tmp_path: Path, eager: None) -> None:
    other = tmp_path / "other"
    other.touch()
    before = other.stat().st_mtime_ns
    (tmp_path / "wishes").mkdir()
    (tmp_path / "wishes" / "save").symlink_to(other)
    wishes.Wishes(tmp_path, {"save": lambda: None}).look()
    assert (other.stat().st_mtime_ns, wishes.asked(tmp_path)) == (before, ())


def test_what_is_withdrawn_goes_beside_what_cannot(tmp_path: Path) -> None:
    (tmp_path / "wishes" / "save").mkdir(parents=True)
    wishes.ask(tmp_path, "sample")
    wishes.Wishes(tmp_path, {"save": lambda: None}).withdraw()
    assert wishes.asked(tmp_path) == ("save",)


def test_it_looks_at_most_twice_a_second_and_only_where_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, done = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    book = wishes.Wishes(tmp_path, {"sample": lambda: done.append(now[0])})
    wishes.ask(tmp_path, "sample")
    for _ in range(3):
        book.look()
        now[0] += 0.2
    assert done == []
    book.look()
    assert done == [pytest.approx(100.6)]
    wishes.ask(tmp_path, "sample")
    wishes.Wishes(tmp_path, {}).look()
    assert wishes.asked(tmp_path) == ("sample",)


def test_of_several_processes_only_the_first_looks(
    small: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eager: None
) -> None:
    monkeypatch.setattr("snowmelt.processes.here", lambda: Process(1, 2))
    second = small(tmp_path, shards=2)
    wishes.ask(tmp_path, "save")
    second._wishes.look()
    second._wishes.withdraw()
    assert wishes.asked(tmp_path) == ("save",)


def test_only_known_wishes_and_nothing_behind_a_link(tmp_path: Path, eager: None) -> None:
    with pytest.raises(ValueError, match="knows no wish '../x': ask for save or sample"):
        wishes.ask(tmp_path, "../x")
    other, run = tmp_path / "other", tmp_path / "run"
    other.mkdir()
    run.mkdir()
    (other / "save").touch()
    (run / "wishes").symlink_to(other)
    wishes.Wishes(run, {"save": lambda: None}).withdraw()
    assert (other / "save").exists()
    assert (run / "wishes").is_symlink()


def test_the_folder_of_wishes_belongs_to_the_run(tmp_path: Path) -> None:
    recipe = Recipe("pixelate:levels=2")
    wishes.ask(tmp_path, "save")
    claim(recipe, tmp_path, fresh=False)  # nobody's work lies there
    for name in ("recipe.toml", "train.log", "train.pid", "tracking.json", "notes.txt"):
        (tmp_path / name).write_text("=== now\n" if name == "train.log" else "")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert not checkpoint.there(tmp_path)
