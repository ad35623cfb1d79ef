"""Errors in plain words: what is somebody's input or machine, and what is a bug of ours."""

import logging

import pytest
import torch

gr = pytest.importorskip("gradio")

from snowmelt import registry  # noqa: E402
from snowmelt.studio.limits import Late  # noqa: E402
from snowmelt.studio.words import handled, plain  # noqa: E402


def said(work, caplog: pytest.LogCaptureFixture) -> tuple[str, bool]:
    """What a visitor is told of work that fails, and whether the terminal gets a traceback."""
    caplog.clear()
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as told:
        handled(work)()
    return told.value.message, any(record.exc_info for record in caplog.records)


def test_memory_that_runs_out_is_no_bug(caplog: pytest.LogCaptureFixture):
    """On a CPU, torch says it by a plain RuntimeError."""
    assert said(lambda: torch.empty(2**50), caplog) == ("not enough memory for a picture of this size", False)


def test_of_a_bug_the_terminal_gets_the_traceback_and_the_visitor_no_detail(caplog: pytest.LogCaptureFixture):
    def bug() -> None:
        raise RuntimeError("secret")

    def late() -> None:
        raise Late("too long")

    words, traced = said(bug, caplog)
    assert traced
    assert "secret" not in words
    assert said(late, caplog) == ("too long", False)


def test_an_error_stays_until_it_is_closed():
    with pytest.raises(gr.Error) as told:
        handled(lambda: int("x"))()
    assert told.value.duration is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("gausian-blur", "unknown degradation 'gausian-blur' (did you mean 'gaussian-blur'?)"),
        ("jpg+grey", "unknown degradation 'jpg' (did you mean 'jpeg'?)"),
        ("qqqqqqq", "unknown degradation 'qqqqqqq': choose one of the list"),
    ],
)
def test_of_an_unknown_name_the_page_says_the_nearest_one_and_no_list(spec: str, words: str, caplog: pytest.LogCaptureFixture):
    assert said(lambda: registry.build(spec), caplog) == (words, False)
    with pytest.raises(ValueError, match="known: ") as told:
        registry.build(spec)
    assert "known: " in plain(told.value)  # a program has no list beside it


def test_what_only_sounds_like_an_unknown_name_is_said_whole(caplog: pytest.LogCaptureFixture):
    text = "no such thing; known: a, b. If it comes from a plug-in file, load that first"

    def refused() -> None:
        raise registry.SpecError(text)

    assert said(refused, caplog) == (text, False)


def test_of_an_unknown_field_the_page_says_all_there_are(caplog: pytest.LogCaptureFixture):
    words, _ = said(lambda: registry.build("gaussian-blur:sigm=3"), caplog)
    assert "did you mean 'sigma_px'" in words
    assert "growth" in words
