"""Sums in a fixed order, and who a process is."""

import pytest
import torch

from snowmelt import processes
from snowmelt.processes import Process, Tree, here


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5, 7, 8, 16])
def test_a_tree_adds_pairs_then_pairs_of_pairs(parts: int) -> None:
    torch.manual_seed(parts)
    vectors = list(torch.randn(parts, 1000) * 10 ** torch.linspace(-3, 3, parts)[:, None])
    tree = Tree()
    for vector in vectors:
        tree.add(vector)
    level = vectors
    while len(level) > 1:  # the definition, level by level; what has no partner goes up alone
        level = [level[i] + level[i + 1] if i + 1 < len(level) else level[i] for i in range(0, len(level), 2)]
    torch.testing.assert_close(tree.total(), torch.stack(vectors).double().sum(0).float(), rtol=1e-4, atol=1e-3)
    if parts & (parts - 1) == 0:
        assert torch.equal(tree.total(), level[0])


def test_the_parts_of_several_processes_add_up_to_the_bits_of_one() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(8, 1000) * 10 ** torch.linspace(-3, 3, 8)[:, None]
    sums = []
    for size in (1, 2, 4, 8):
        outer = Tree()
        for share in vectors.view(size, 8 // size, -1):
            inner = Tree()
            for vector in share:
                inner.add(vector)
            outer.add(inner.total())
        sums.append(outer.total())
    assert all(torch.equal(sums[0], other) for other in sums)
    assert not torch.equal(sums[0], vectors.sum(0))  # the order shows in the last digits: the comparison above can fail


def test_a_process_alone_needs_nobody() -> None:
    assert here() == processes.ALONE
    assert here().share == (1, 1)
    flat = torch.ones(3)
    assert processes.summed(flat) is flat
    processes.barrier()
    with processes.joined() as process:
        assert process.alone
        assert process.first


def test_a_process_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "2"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert here() == Process(2, 4, 0)
    assert here().share == (3, 4)


@pytest.mark.parametrize(("name", "value"), [("RANK", "4"), ("RANK", "-1"), ("WORLD_SIZE", "0"), ("RANK", "one")])
def test_an_environment_that_contradicts_itself_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="which is no process of a group: start with torchrun, or unset them"):
        here()
