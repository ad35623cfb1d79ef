"""The gradient of a step: who computes what, and that the sum does not depend on it."""

import pytest

from snowmelt.processes import Process
from snowmelt.training.exactness import shards_for
from snowmelt.training.gradient import Plan


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_sample_is_computed_once_whoever_takes_part(size: int, accumulate: int) -> None:
    plans = [Plan(16, accumulate, 4, 5, Process(rank, size)) for rank in range(size)]
    for step in range(5):
        seen = sorted(n for plan in plans for shard in plan.mine for numbers in plan.parts(step, shard) for n in numbers)
        assert seen == list(range(step * 16 * accumulate, (step + 1) * 16 * accumulate))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_share_has_the_same_samples_whoever_computes_it(size: int) -> None:
    whole = Plan(16, 2, 4, 5)
    for rank in range(size):
        plan = Plan(16, 2, 4, 5, Process(rank, size))
        for shard in plan.mine:
            assert plan.parts(3, shard) == whole.parts(3, shard)


def test_shares_that_are_not_equal_are_refused() -> None:
    with pytest.raises(ValueError, match="3 processes do not divide training.batch = 16"):
        Plan(16, 1, 3, 5, Process(0, 3))
    with pytest.raises(ValueError, match="2 processes cannot share the 1 shards of a batch evenly"):
        Plan(16, 1, 1, 5, Process(0, 2))


@pytest.mark.parametrize(("size", "batch", "shards"), [(1, 64, 1), (2, 64, 4), (4, 64, 4), (8, 64, 8), (3, 63, 3), (2, 6, 2)])
def test_shards_that_nobody_names(size: int, batch: int, shards: int) -> None:
    assert shards_for(batch, Process(0, size)) == shards
