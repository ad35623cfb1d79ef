"""Randomness is a function of (run seed, stream, sample number), for ever."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.randomness import generator, generators, normal, permutation, seed, uniform

LIKE = torch.zeros(3, 2, 4, 5)


def test_the_scheme_is_frozen():
    """Saved runs resume with these numbers: if this test fails, the change must not be made."""
    assert seed(0, "severity") == 8245689285783216526
    assert seed(0, "severity", 1) == 3684437849551563818
    assert seed(-7, "crop", 12345) == 3419270331705014410
    u = uniform(torch.zeros(2, 2), generators(0, "severity", [0, 1]))
    assert u.flatten().tolist() == pytest.approx([0.15461165, 0.24893868, 0.17007679, 0.94750667], abs=1e-7)
    z = normal(torch.zeros(1, 3), generators(0, "noise", [9]))
    assert z.flatten().tolist() == pytest.approx([-0.16598731, 0.00595728, 1.36683190], abs=1e-6)
    assert permutation(3, "order", 1, 8).tolist() == [6, 5, 7, 0, 1, 2, 4, 3]


@settings(max_examples=30)
@given(st.integers(), st.text(max_size=20), st.integers(0, 2**60))
def test_a_seed_is_one_generators_take_and_depends_on_nothing_else(run, stream, index):
    value = seed(run, stream, index)
    assert 0 <= value < 2**63
    assert value == seed(run, stream, index)
    torch.Generator().manual_seed(value)


def test_seeds_of_neighbours_differ():
    seen = {seed(run, stream, i) for run in (0, 1, -1, 10) for stream in ("a", "b", "ab", "") for i in range(50)}
    assert len(seen) == 4 * 4 * 50
    assert seed(1, "1") != seed(11, "")


@pytest.mark.parametrize("law", [normal, uniform])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [None, (2,), (17,), (3, 6), ()])
def test_a_row_does_not_depend_on_its_batch(law, dtype, shape):
    like = LIKE.to(dtype)
    whole = law(like, generators(5, "z", [40, 41, 42]), shape)
    assert whole.shape == (3, *(like.shape[1:] if shape is None else shape))
    assert whole.dtype == dtype
    for row, index in zip(whole, (40, 41, 42), strict=True):
        assert torch.equal(law(like[:1], [generator(5, "z", index)], shape)[0], row)
        assert torch.equal(law(like[:1], generator(5, "z", index), shape)[0], row)
    assert torch.equal(law(like, generators(5, "z", [42, 40, 41]), shape)[1], whole[0])
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("law", [normal, uniform])
def test_neither_the_ambient_generator_nor_the_values_are_read(law):
    first = law(LIKE, generators(5, "z", range(3)))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(law(torch.full_like(LIKE, torch.nan), generators(5, "z", range(3))), first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("law", [normal, uniform])
def test_without_a_generator_torchs_own_is_used(law):
    torch.manual_seed(1)
    first = law(LIKE)
    torch.manual_seed(1)
    assert torch.equal(law(LIKE), first)
    assert not torch.equal(law(LIKE), first)


@pytest.mark.parametrize("n", [0, 2, 4])
def test_one_generator_a_sample_or_one_for_all(n):
    with pytest.raises(ValueError, match=rf"^{n} generators were given for a batch of 3: give one per sample, or a single one$"):
        normal(LIKE, generators(0, "z", range(n)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_the_rounded_float32_draw(dtype):
    assert torch.equal(normal(LIKE.to(dtype), generator(0, "z")), normal(LIKE, generator(0, "z")).to(dtype))


def test_laws():
    like = torch.zeros(2000, 10)
    streams = generators(0, "z", range(2000))
    z, u = normal(like, streams), uniform(like, generators(1, "u", range(2000)))
    assert abs(float(z.mean())) < 0.03
    assert float(z.std()) == pytest.approx(1, abs=0.03)
    assert 0 <= float(u.min()) <= float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=0.01)
    between = np.corrcoef(z[:-1].flatten(), z[1:].flatten())[0, 1]  # sample i and sample i + 1
    assert abs(between) < 0.03


def test_permutations():
    orders = [permutation(0, "order", epoch, 100) for epoch in range(3)]
    for order in orders:
        assert order.sort().values.tolist() == list(range(100))
    assert torch.equal(orders[1], permutation(0, "order", 1, 100))
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], permutation(1, "order", 0, 100))
