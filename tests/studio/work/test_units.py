"""Severities in words: the operator's own units, and levels of a file where noise only adds."""

import pytest

import snowmelt
from snowmelt.studio.work.units import in_words, units_of


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("gaussian-blur:sigma_px=2", " (blur of 2 px)"),
        ("noise", " (alpha 0, sigma 1)"),
        ("noise:schedule=ve(sigma_max=0.4)", " (sigma 51 of 255)"),
        ("gaussian-blur:sigma_px=2+noise:schedule=ve(sigma_max=0.4)", " (blur of 2 px, sigma 51 of 255)"),
        ("morph:schedule=ve(sigma_max=0.4)", " (alpha 1, sigma 0.4)"),
        ("grey", ""),
    ],
)
def test_the_strongest_in_words(spec: str, words: str) -> None:
    assert in_words(units_of(snowmelt.build(spec), 1.0)) == words


def test_noise_that_fades_the_picture_too_is_in_no_levels_even_where_it_begins() -> None:
    assert set(units_of(snowmelt.build("noise"), 0.0)) == {"alpha", "sigma"}
