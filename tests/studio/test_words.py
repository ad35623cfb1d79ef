"""Errors in plain words: what is somebody's input or machine, and what is a bug of ours."""

import logging

import pytest
import torch

gr = pytest.importorskip("gradio")

from snowmelt.studio.limits import Late  # noqa: E402
from snowmelt.studio.words import handled  # noqa: E402


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
