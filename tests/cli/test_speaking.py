"""What reaches a terminal: a stranger's file name must not rule it, and what draws with control characters still can."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from snowmelt.cli.errors import say
from snowmelt.cli.speaking import shown, speak

CLEAR, TITLE, CSI = "\x1b[2J\x1b[1;1H", "\x1b]0;mine\x07", "\x9b31m"


def test_control_characters_are_numbers_and_all_else_stays() -> None:
    assert shown(CLEAR) == "\\x1b[2J\\x1b[1;1H"
    assert shown(TITLE + CSI + "\r\b\x7f\0") == "\\x1b]0;mine\\x07\\x9b31m\\x0d\\x08\\x7f\\x00"
    assert shown("a\tb\nż 雪 ❄ \udcff\xa0") == "a\tb\nż 雪 ❄ \udcff\xa0"


def test_whatever_is_said_is_shown_and_rich_still_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    speak()
    speak()  # twice is once
    print(f"wrote {CLEAR}.png")
    sys.stdout.writelines([CSI, "\n"])
    say(f"left out {TITLE}.png", error=True)
    assert out.getvalue() == "wrote \\x1b[2J\\x1b[1;1H.png\n\\x9b31m\n"
    assert err.getvalue() == "snowmelt: error: left out \\x1b]0;mine\\x07.png\n"
    Console(force_terminal=True, color_system="standard").print("[bold red]so[/]")
    assert "\x1b[1;31mso\x1b[0m" in out.getvalue()


@pytest.mark.parametrize("many", [False, True])
def test_names_of_files_do_not_rule_the_terminal(cli, run, folder: Path, tmp_path: Path, draw_picture, many: bool) -> None:
    (folder / f"{CLEAR}bad{CSI}.png").write_bytes(b"no picture")
    draw_picture(folder / f"{CLEAR}good.png")
    given = folder if many else folder / f"{CLEAR}good.png"
    done = cli("restore", given, "--model", run, "--degrade", "--steps", "1", "--out", tmp_path / f"out{CLEAR}")
    assert done.code == 0, done.err
    assert ("left out" in done.err) == many
    assert "out\\x1b[2J" in done.out
    assert not {"\x1b", "\x9b"} & set(done.out + done.err)
    said = cli("describe", folder / f"{CLEAR}good.png")
    assert (said.code, "\\x1b[2J" in said.out, "\x1b" in said.out) == (0, True, False)
